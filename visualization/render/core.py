"""How a record becomes a figure or text: two functions that each kind of record registers with.

Figures are matplotlib's, made without pyplot, so that nothing is shared or left open.
"""

import functools
import importlib
import io
from collections.abc import Callable
from typing import Any

from matplotlib.figure import Figure

INK, MUTED, GOOD, BAD = "#222222", "#8a8a8a", "#1b7f4b", "#c0392b"
COLORS = ("#2a6fb0", "#d9822b", "#1b7f4b", "#8e5ea2", "#c0392b", "#5b5b5b")


def late(function: Any, record: Any) -> Callable[[Any], Any] | None:
    """Return what a kind of record registered in a package that learning does without, or None."""
    if type(record).__module__.startswith("visualization.conv."):
        default = function.dispatch(object)
        importlib.import_module("visualization.render.conv")
        found: Callable[[Any], Any] = function.dispatch(type(record))
        return None if found is default else found
    return None


@functools.singledispatch
def draw(record: Any) -> Figure:
    """Return a figure of a record."""
    found = late(draw, record)
    if found is None:
        raise TypeError(f"no figure is known for a {type(record).__name__}")
    figure: Figure = found(record)
    return figure


@functools.singledispatch
def text(record: Any) -> str:
    """Return a record as lines of plain text, "" where only a figure says it."""
    found = late(text, record)
    return "" if found is None else str(found(record))


def png(figure: Figure, dpi: int = 110) -> bytes:
    """Return a figure as the content of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()
