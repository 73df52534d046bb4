"""How a record becomes a figure or text: two functions that each kind of record registers with.

Figures are matplotlib's, made without pyplot, so that nothing is shared or left open.
"""

import functools
import io
from typing import Any

from matplotlib.figure import Figure

INK, MUTED, GOOD, BAD = "#222222", "#8a8a8a", "#1b7f4b", "#c0392b"
COLORS = ("#2a6fb0", "#d9822b", "#1b7f4b", "#8e5ea2", "#c0392b", "#5b5b5b")


@functools.singledispatch
def draw(record: Any) -> Figure:
    """Return a figure of a record."""
    raise TypeError(f"no figure is known for a {type(record).__name__}")


@functools.singledispatch
def text(record: Any) -> str:
    """Return a record as lines of plain text, "" where only a figure says it."""
    return ""


def png(figure: Figure, dpi: int = 110) -> bytes:
    """Return a figure as the content of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()
