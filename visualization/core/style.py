"""Style of figures: colours, names of axes, what is printed of a character."""

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from numpy.typing import NDArray

INK, MUTED, GOOD, BAD = "#222222", "#8a8a8a", "#1b7f4b", "#c0392b"


COLORS = (
    "#2a6fb0", "#d9822b", "#1b7f4b", "#8e5ea2", "#c0392b", "#5b5b5b", "#0f98a3", "#c2549d",
    "#8a6d1a", "#7fb24a", "#1d2f6f",
)  # fmt: skip


DIVERGING, SEQUENTIAL = "RdBu_r", "Blues"


def despine(axes: Axes, title: str = "") -> None:
    """Set the title and leave two of the four lines."""
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def axis_labels(axes: Axes, x: str, y: str) -> None:
    """Name both axes."""
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)


def printable(character: str) -> str:
    """Return a character as it is printed: padding as a return sign."""
    return "⏎" if character == "\n" else character


def palette(num: int) -> NDArray[np.float64]:
    """Return colours (num, 3), as unlike as so many can be."""
    if num <= 10:
        return np.array(colormaps["tab10"].colors)[:num]  # type: ignore[attr-defined]
    return np.asarray(colormaps["turbo"](np.linspace(0.03, 0.97, num)))[:, :3]
