"""Rows of words and numbers under headings."""

from collections.abc import Sequence

import attrs


@attrs.frozen
class Table:
    """A heading for each column, and as many words in each row."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
