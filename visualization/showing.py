"""Records as what a notebook displays."""

import base64
from collections.abc import Mapping
from typing import Any

import attrs


@attrs.frozen(repr=False)
class Shown:
    """Records by name, whose pictures Jupyter displays where a cell ends with them."""

    records: Mapping[str, Any]
    dpi: int

    def _repr_html_(self) -> str:
        parts = []
        for name, picture in self.pictures().items():
            held = base64.b64encode(picture).decode()
            parts.append(f"<p>{name}</p>" * bool(name))
            parts.append(f'<img alt="{name}" src="data:image/png;base64,{held}">')
        return "".join(parts)

    def pictures(self) -> dict[str, bytes]:
        """Return each record's picture as the content of a PNG file."""
        from visualization import render

        return {name: render.png(render.draw(r), self.dpi) for name, r in self.records.items()}

    def __repr__(self) -> str:
        """Return what can be said in plain text."""
        from visualization import render

        told = {name: render.text(record) for name, record in self.records.items()}
        words = [text or f"<{type(self.records[name]).__name__}>" for name, text in told.items()]
        return "\n\n".join(words)


def show(record: Any, dpi: int = 80) -> Shown:
    """Return any record of `visualization` as something that a notebook displays as a picture.

    >>> from visualization.table import Table
    >>> show(Table("two words", ["a", "b"], [["1", "2"]]))
    two words
    a  b
    1  2

    Args:
        record: what a function of `visualization` or a view of a report returned, also records by
            name.
        dpi: pixels of an inch.

    Raises:
        ValueError: what is no record, such as a tensor.
    """
    held = record if isinstance(record, Mapping) else {"": record}
    for each in held.values():
        if not attrs.has(type(each)):
            accepted = "a record, or a mapping of names to records; arrays are for matplotlib"
            problem = f"a {type(each).__name__} is not accepted"
            raise ValueError(f"record: {problem}; accepted: {accepted}")
    return Shown(held, dpi)
