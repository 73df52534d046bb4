"""Rows of words and numbers under headings."""

from collections.abc import Sequence

import attrs

from visualization.core.records import brief_repr


@attrs.frozen(field_transformer=brief_repr)
class Table:
    """A heading for each column, and as many words in each row."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
