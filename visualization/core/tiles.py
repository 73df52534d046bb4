"""Many small pictures with words at them, in one Axes for the whole page.

An Axes for each would take most of the time of a figure: to be made, laid out and drawn.
"""

from typing import Any

import attrs
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from visualization.core.legible import Words
from visualization.core.pictures import aspect_of
from visualization.core.style import INK, MUTED
from visualization.core.words import wrap

_NEAR = 0.03  # inches between a picture and the words over or under it
_LINE = 0.15  # inches of a line of a heading
_LETTERS = 12  # of a heading that have room in an inch


def page(figure: Figure) -> Axes:
    """Return Axes of the size of a figure, in inches from its upper left corner."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    return axes


def heading_height(words: str, width: float) -> float:
    """Return the inches that a heading takes on a page of a width, with a margin."""
    return 0.1 + _LINE * len(wrap(words, _LETTERS * width, 2))


def heading(axes: Axes, words: str, **style: Any) -> Words:
    """Write a heading in the middle of a page's upper edge."""
    width = float(axes.get_xlim()[1])
    style = {"fontsize": 9, "color": MUTED, "ha": "center", "va": "top", **style}
    text = Words(width / 2, 0.06, words, room=width - 0.15, **style)
    axes.add_artist(text)
    return text


@attrs.frozen(eq=False)
class Tile:
    """A place for a picture on a page.

    Attributes:
        axes: the page.
        left: its left end, in inches from that of the page.
        top: its upper end.
        side: of the square that a picture fits into.
        room: inches that a line of words over or under it may take.
    """

    axes: Axes
    left: float
    top: float
    side: float
    room: float

    def picture(self, colors: NDArray[np.floating]) -> AxesImage:
        """Draw colours (H, W, 3), in a thin frame; no line of pixels becomes a hairline."""
        high = colors.shape[0] * aspect_of(colors) / colors.shape[1]
        wide, high = self.side * min(1.0, 1 / high), self.side * min(1.0, high)
        left, top = self.left + (self.side - wide) / 2, self.top + (self.side - high) / 2
        extent = (left, left + wide, top + high, top)
        image = AxesImage(self.axes, extent=extent, interpolation="nearest")
        image.set_data(colors)
        self.axes.add_image(image)
        frame = Rectangle((left, top), wide, high, fill=False, edgecolor=MUTED, linewidth=0.5)
        self.axes.add_artist(frame)
        return image

    def over(self, words: str, **style: Any) -> None:
        """Write over the place."""
        self.write(words, 0.5, -_NEAR / self.side, va="bottom", **style)

    def under(self, words: str, **style: Any) -> None:
        """Write under the place."""
        self.write(words, 0.5, 1 + _NEAR / self.side, va="top", **style)

    def write(self, words: str, across: float, down: float, **style: Any) -> None:
        """Write at a point, given in shares of the place from its upper left corner."""
        style = {"fontsize": 8, "color": INK, "ha": "center", "va": "center", **style}
        x, y = self.left + across * self.side, self.top + down * self.side
        self.axes.add_artist(Words(x, y, words, **{"room": self.room, **style}))


def tiles(
    axes: Axes, rows: int, columns: int, *,
    corner: tuple[float, float], pitch: tuple[float, float], side: float,
) -> list[list[Tile]]:  # fmt: skip
    """Return places in rows and columns of a page.

    Args:
        axes: the page.
        rows: how many.
        columns: how many.
        corner: left and upper end of the first place, in inches.
        pitch: inches from one place to the next, across and down.
        side: of each.
    """
    return [
        [
            Tile(axes, corner[0] + column * pitch[0], corner[1] + row * pitch[1], side,
                 pitch[0] - _NEAR)
            for column in range(columns)
        ]
        for row in range(rows)
    ]  # fmt: skip
