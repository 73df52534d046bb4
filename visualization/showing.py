"""Records as what a notebook displays."""

from typing import Any

import attrs


@attrs.frozen(repr=False)
class Shown:
    """A record's picture, which Jupyter displays where a cell ends with it, and its words."""

    record: Any
    dpi: int = 80

    def _repr_png_(self) -> bytes:
        from visualization import render

        return render.png(render.draw(self.record), self.dpi)

    def __repr__(self) -> str:
        """Return what can be said in plain text."""
        from visualization import render

        return render.text(self.record) or f"<{type(self.record).__name__}>"


def show(record: Any, dpi: int = 80) -> Shown:
    """Return any record of `visualization` as something that a notebook displays as a picture.

    >>> from visualization.table import Table
    >>> show(Table("two words", ["a", "b"], [["1", "2"]]))
    two words
    a  b
    1  2

    Args:
        record: what a function of `visualization` or a view of a report returned.
        dpi: pixels of an inch.
    """
    return Shown(record, dpi)
