"""Tables of answered questions."""

from collections.abc import Sequence

import attrs


@attrs.frozen
class AnswerTable:
    """Questions with the answer given and the right one."""

    title: str
    rows: Sequence[tuple[str, str, str, bool]]  # question, answer, target, right
