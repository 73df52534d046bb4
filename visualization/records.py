"""Generic records: answers, bars, curves, points, tables, lines of text."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from visualization.core.errors import NothingToShow
from visualization.core.records import brief_repr


class AnsweredQuestion(Protocol):
    """One answered question as a person reads it; tasks have such rows."""

    @property
    def question(self) -> str:
        """The question, which a task can read again."""

    @property
    def answer(self) -> str:
        """The answer given."""

    @property
    def target(self) -> str:
        """The right one."""

    @property
    def correct(self) -> bool:
        """Whether the answer is."""

    @property
    def short_question(self) -> str:
        """The question in few words, where it is long; else nothing."""


@attrs.frozen(field_transformer=brief_repr)
class AnswerTable:
    """Questions with the answer given and the right one."""

    title: str
    rows: Sequence[AnsweredQuestion]


@attrs.frozen(field_transformer=brief_repr)
class Bars:
    """Panels of bars: panel title with its unit → name → value, all ≥ 0."""

    panels: Mapping[str, Mapping[str, float]]
    marked: Collection[str] = ()  # names in another colour
    digits: int = 0  # after the decimal point


@attrs.frozen(field_transformer=brief_repr)
class Curves:
    """Series over steps, in panels: panel title → label → (steps, values)."""

    panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]]
    logarithmic: frozenset[str] = frozenset()  # titles of the panels whose y axis is logarithmic
    x_name: str = "step"


@attrs.frozen(eq=False, field_transformer=brief_repr)
class Scatter:
    """A dot for each sample, with x and y (N,) and what they are, with their units."""

    title: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    names: Sequence[str]  # of x and y


@attrs.frozen(field_transformer=brief_repr)
class Table:
    """A heading for each column, and as many words in each row."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@attrs.frozen(field_transformer=brief_repr)
class Transcript:
    """Lines of a terminal."""

    text: str


def record_or_reason(view: Callable[[], Any], by_name: bool) -> Any:
    """Return a view's record, or, unless it was named, the reason why there is none."""
    try:
        return view()
    except NothingToShow as error:
        if by_name:
            raise
        return Transcript(f"There is nothing to see here:\n{error}")
