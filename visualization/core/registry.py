"""How a record becomes a figure or text: two functions that each kind of record registers with.

Figures are matplotlib's, made without pyplot, so that nothing is shared or left open.
"""

import functools
import importlib
import io
from collections.abc import Callable
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from visualization.core.legible import legible

INK, MUTED, GOOD, BAD = "#222222", "#8a8a8a", "#1b7f4b", "#c0392b"
COLORS = ("#2a6fb0", "#d9822b", "#1b7f4b", "#8e5ea2", "#c0392b", "#5b5b5b")


def late(function: Any, record: Any) -> Callable[[Any], Any] | None:
    """Return what a kind of record registered in a package that learning does without, or None."""
    if type(record).__module__.startswith("visualization."):
        default = function.dispatch(object)
        importlib.import_module("visualization.render")
        found: Callable[[Any], Any] = function.dispatch(type(record))
        return None if found is default else found
    return None


class Drawing:
    """The functions that draw, by kind of record; what they return is made legible."""

    def __init__(self) -> None:
        self._figure = functools.singledispatch(_unknown)
        self.register = self._figure.register
        self.registry = self._figure.registry
        self.dispatch = self._figure.dispatch

    def __call__(self, record: Any) -> Figure:
        """Return a figure of a record.

        Raises:
            TypeError: no figure is known for its kind.
        """
        function = late(self, record) or self.dispatch(type(record))
        return legible(function(record))

    def knows(self, record: Any) -> bool:
        """Tell whether a figure of such a record can be drawn."""
        return bool(late(self, record)) or self.dispatch(type(record)) is not _unknown


def _unknown(record: Any) -> Figure:
    raise TypeError(f"no figure is known for a {type(record).__name__}")


draw = Drawing()


@functools.singledispatch
def text(record: Any) -> str:
    """Return a record as lines of plain text, "" where only a figure says it."""
    found = late(text, record)
    return "" if found is None else str(found(record))


def png(figure: Figure, dpi: int = 110) -> bytes:
    """Return a figure as the content of a PNG file.

    It is laid out and drawn once, where `savefig` does either twice.
    """
    buffer, usual = io.BytesIO(), figure.dpi
    figure.dpi = dpi
    try:
        FigureCanvasAgg(figure).print_png(buffer)  # type: ignore[no-untyped-call]
    finally:
        figure.dpi = usual
    return buffer.getvalue()
