"""Tables of answered questions."""

from collections.abc import Sequence
from typing import Protocol

import attrs

from visualization.core.records import brief_repr


class Answered(Protocol):
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
    def right(self) -> bool:
        """Whether the answer is."""

    @property
    def brief(self) -> str:
        """The question in few words, where it is long; else nothing."""


@attrs.frozen(field_transformer=brief_repr)
class AnswerTable:
    """Questions with the answer given and the right one."""

    title: str
    rows: Sequence[Answered]
