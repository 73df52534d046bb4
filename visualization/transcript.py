"""What a terminal showed, and the reason that stands where a view has nothing to show."""

from collections.abc import Callable
from typing import Any

import attrs

from visualization.core.errors import NothingToShow
from visualization.core.records import brief_repr


@attrs.frozen(field_transformer=brief_repr)
class Transcript:
    """Lines of a terminal."""

    text: str


def record_or_reason(view: Callable[[], Any], by_name: bool) -> Any:
    """Return a view's record, or, of one that nobody asked for by name, why there is none."""
    try:
        return view()
    except NothingToShow as error:
        if by_name:
            raise
        return Transcript(f"There is nothing to see here:\n{error}")
