"""Records as interactive parts of a page: HTML with its own style and script, no network."""

import functools
from typing import Any


@functools.singledispatch
def fragment(record: Any) -> str:
    """Return the interactive form of a record as HTML, "" where there is only a figure."""
    return ""
