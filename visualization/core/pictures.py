"""Images and feature maps: how one of them is drawn, and grids of many."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from visualization.core.registry import INK, MUTED
from visualization.recurrent.figures.states import DIVERGING

SHADES = "gray"  # 0 is black, as the scans are stored
_LONGEST = 4  # times as long as wide: a longer image is squeezed, so that it is no hairline
EXCITED = "magma"  # activations, from none to the most


def picture(
    axes: Axes, image: NDArray[np.floating], title: str = "", limits: tuple[float, float] = (0, 1)
) -> AxesImage:
    """Draw an image (C, H, W) with values within `limits`: grey, or in colours if C is 3."""
    shown = shades(image, limits)
    _bare(axes, title)
    return axes.imshow(
        shown, cmap=SHADES, vmin=0, vmax=1, interpolation="nearest", aspect=aspect_of(shown)
    )


def shades(image: NDArray[np.floating], limits: tuple[float, float]) -> NDArray[np.floating]:
    """Return greys (H, W) of an image (C, H, W), from 0 to 1, or colours (H, W, 3) if C is 3."""
    low, high = limits
    scaled = np.clip((np.moveaxis(image, 0, -1) - low) / ((high - low) or 1.0), 0, 1)
    return np.asarray(scaled if scaled.shape[-1] == 3 else scaled.mean(axis=-1))


def signed(
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


def excited(
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


def blank(axes: Sequence[Axes]) -> None:
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
