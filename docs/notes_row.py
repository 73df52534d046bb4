"""A row of docs/notes.md: a claim of a note, and the command that answers it."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs


@attrs.frozen(kw_only=True)
class Row:
    """A row of the table.

    A row with `scores` is a figure: its command is a sweep, each of whose runs has an ordinary
    folder. A row without is a wish or a link: its `page` says what answers it.

    Attributes:
        note: number of the note, as in its file's name.
        claim: what was claimed or wished, in our words, with the figure.
        command: options of main.py.
        scores: names of the scores that answer it, as in `notes.WORDS`; none: nothing is measured.
        only: values of swept settings that the row is about; a setting that is not named: all.
        page: where it is on these pages, as Markdown.
        why: what explains the difference.
        is_long: the command takes more than a quarter of an hour.
    """

    note: str
    claim: str
    command: str
    scores: Sequence[str] = ()
    only: Mapping[str, Sequence[Any]] = attrs.field(factory=dict)
    page: str = ""
    why: str = ""
    is_long: bool = False
