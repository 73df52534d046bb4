"""Notebook display of records."""

import base64
from collections.abc import Mapping
from typing import Any

import attrs

from visualization.core.errors import value_error


@attrs.frozen(repr=False)
class NotebookView:
    """Notebook view of records: Jupyter displays their figures where a cell ends with them."""

    records: Mapping[str, Any]
    dpi: int

    def _repr_html_(self) -> str:
        parts = []
        for name, picture in self.pictures().items():
            encoded = base64.b64encode(picture).decode()
            parts.append(f"<p>{name}</p>" * bool(name))
            parts.append(f'<img alt="{name}" src="data:image/png;base64,{encoded}">')
        return "".join(parts)

    def pictures(self) -> dict[str, bytes]:
        """Return each record's picture as the content of a PNG file."""
        from visualization import render

        return {name: render.png(render.draw(r), self.dpi) for name, r in self.records.items()}

    def __repr__(self) -> str:
        """Return what can be said in plain text."""
        from visualization import render

        texts = {name: render.text(record) for name, record in self.records.items()}
        words = [text or f"<{type(self.records[name]).__name__}>" for name, text in texts.items()]
        return "\n\n".join(words)


def show(record: Any, dpi: int = 80) -> NotebookView:
    """Notebook display of any record of `visualization`, or of a whole report, as pictures.

    >>> from visualization.records import Table
    >>> show(Table("two words", ["a", "b"], [["1", "2"]]))
    two words
    a  b
    1  2

    Args:
        record: what a function of `visualization` or a view of a report returned, also records by
            name, or a `Report`.
        dpi: pixels of an inch.

    Raises:
        ValueError: not a record, such as a tensor, or the settings of a function.
    """
    from visualization import render
    from visualization.report import Report

    report = record if isinstance(record, Report) else Report("", _by_name(record))
    records = dict(report.flat())
    for each in records.values():
        if not render.draw.knows(each):
            accepted = "a record, a report, or a mapping of names to records; arrays are for "
            raise value_error("record", f"a {type(each).__name__}", f"{accepted}matplotlib")
    return NotebookView(records, dpi)


def _by_name(record: Any) -> Mapping[str, Any]:
    return record if isinstance(record, Mapping) else {"": record}
