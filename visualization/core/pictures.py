"""Images and feature maps: how one is drawn."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from visualization.core.style import COLORS, DIVERGING, INK, MUTED

SHADES = "gray"  # 0 is black, as the scans are stored
_LONGEST = 4  # times as long as wide: a longer image is squeezed, so that it is not a hairline
EXCITED = "magma"  # activations, from none to the most


def draw_image(
    axes: Axes, image: NDArray[np.floating], title: str = "", limits: tuple[float, float] = (0, 1)
) -> AxesImage:
    """Draw an image (C, H, W) with values within `limits`: grey, or in colours if C is 3."""
    pixels = shades(image, limits)
    _bare(axes, title)
    return axes.imshow(
        pixels, cmap=SHADES, vmin=0, vmax=1, interpolation="nearest", aspect=aspect_of(pixels)
    )


def shades(image: NDArray[np.floating], limits: tuple[float, float]) -> NDArray[np.floating]:
    """Return greys (H, W) of an image (C, H, W), from 0 to 1, or colours (H, W, 3) if C is 3."""
    low, high = limits
    scaled = np.clip((np.moveaxis(image, 0, -1) - low) / ((high - low) or 1.0), 0, 1)
    return np.asarray(scaled if scaled.shape[-1] == 3 else scaled.mean(axis=-1))


def draw_signed(
    axes: Axes, values: NDArray[np.floating], title: str = "", size: float | None = None
) -> AxesImage:
    """Draw a map (H, W) of numbers of both signs: red above 0, blue below, white at 0.

    `size` is the number at which the colours are full; None: the map's own largest.
    """
    full = size if size is not None else float(np.abs(values).max())
    _bare(axes, title)
    return axes.imshow(
        values, cmap=DIVERGING, vmin=-(full or 1.0), vmax=full or 1.0, interpolation="nearest",
        aspect=aspect_of(values),
    )  # fmt: skip


def draw_activation(
    axes: Axes, values: NDArray[np.floating], title: str = "", size: float | None = None
) -> AxesImage:
    """Draw a map (H, W) of numbers from 0: black is 0, and bright the most."""
    full = size if size is not None else float(values.max())
    _bare(axes, title)
    return axes.imshow(
        values, cmap=EXCITED, vmin=0, vmax=full or 1.0, interpolation="nearest",
        aspect=aspect_of(values),
    )  # fmt: skip


def aspect_of(image: NDArray[np.floating]) -> float:
    """Return the height of a pixel by its width, 1 unless an image (H, W, …) is a mere line.

    >>> aspect_of(np.zeros((8, 9))), aspect_of(np.zeros((1024, 1)))
    (1.0, 0.00390625)
    """
    height, width = image.shape[:2]
    return float(min(1.0, _LONGEST * width / height) * max(1.0, width / height / _LONGEST))


def hide_axes(axes: Sequence[Axes]) -> None:
    """Leave places of a grid empty."""
    for each in axes:
        each.set_axis_off()


def _bare(axes: Axes, title: str) -> None:
    """Leave an image without numbers at its sides, framed thinly."""
    axes.set_title(title, fontsize=8, color=INK)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(MUTED)
        spine.set_linewidth(0.5)


FRAME = COLORS[1]


PANEL = 2.1  # inches of a picture's side, with its title


Picture = NDArray[np.floating]


def display_range(*images: Picture) -> tuple[float, float]:
    """Return the values that are black and white: 0 and 1, if the images keep to that."""
    low = min(float(image.min()) for image in images)
    high = max(float(image.max()) for image in images)
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def draw_frame(axes: Axes, rows: Sequence[int], columns: Sequence[int], color: str = FRAME) -> None:
    """Draw a frame around pixels, first and last included; it may reach beyond the border."""
    corner = (columns[0] - 0.5, rows[0] - 0.5)
    width, height = columns[1] - columns[0] + 1, rows[1] - rows[0] + 1
    axes.add_patch(
        Rectangle(corner, width, height, fill=False, edgecolor=color, linewidth=1.6, clip_on=False)
    )


def bounding_box(mask: NDArray[np.bool_]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the first and last row and column in which a mask (H, W) holds."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return (int(rows[0]), int(rows[-1])), (int(columns[0]), int(columns[-1]))


def draw_framed_image(axes: Axes, image: Picture, field: NDArray[np.bool_], title: str) -> None:
    """Draw an image with a frame around a field (H, W), where it is not all of it."""
    draw_image(axes, image, title, display_range(image))
    if field.any() and not field.all():
        draw_frame(axes, *bounding_box(field))


def color_bar(figure: Figure | SubFigure, image: AxesImage, axes: Axes, name: str = "") -> None:
    """Draw what the colours of a map mean."""
    bar = figure.colorbar(image, ax=axes, pad=0.02, fraction=0.05)
    bar.ax.tick_params(labelsize=7)
    bar.set_label(name, fontsize=7, color=MUTED)


def figure_title(figure: Figure, words: str) -> None:
    """Give a figure a title at its left."""
    figure.suptitle(words, fontsize=10, color=INK, x=0.01, ha="left")
