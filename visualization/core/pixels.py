"""Arrays as small PNG images within a page, one pixel for each number."""

import base64
import io

import numpy as np
from matplotlib import colormaps
from matplotlib.image import imsave
from numpy.typing import NDArray

from visualization.core.pictures import EXCITED, SHADES
from visualization.core.style import DIVERGING

_OUTSIDE = (0.87, 0.9, 0.94)  # what lies beyond the border of an image


def data_uri(colors: NDArray[np.floating]) -> str:
    """Return colours (H, W, 3) in [0, 1] as a `data:` address of a PNG."""
    buffer = io.BytesIO()
    imsave(buffer, np.ascontiguousarray(colors), format="png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def image_colors(
    image: NDArray[np.floating],
    limits: tuple[float, float] = (0.0, 1.0),
    inside: NDArray[np.bool_] | None = None,
) -> NDArray[np.floating]:
    """Return an image (C, H, W) as colours (H, W, 3): grey, or its own if C is 3.

    `inside` (H, W) says what belongs to it; the rest has a colour that no grey image has.
    """
    low, high = limits
    scaled = np.clip((np.moveaxis(image, 0, -1) - low) / ((high - low) or 1.0), 0, 1)
    if scaled.shape[-1] != 3:
        scaled = colormaps[SHADES](scaled.mean(axis=-1))[..., :3]
    return scaled if inside is None else np.where(inside[..., None], scaled, _OUTSIDE)


def map_colors(
    values: NDArray[np.floating], size: float | None = None, *, signs: bool | None = None
) -> NDArray[np.floating]:
    """Return numbers (H, W) as colours (H, W, 3), full at `size` (None: the largest of them).

    Of both signs (`signs`; None: if any is negative): red above 0, blue below; else from black.
    """
    full = (size if size is not None else float(np.abs(values).max())) or 1.0
    if signs if signs is not None else values.min() < 0:
        return np.asarray(colormaps[DIVERGING](values / full / 2 + 0.5)[..., :3])
    return np.asarray(colormaps[EXCITED](np.clip(values / full, 0, 1))[..., :3])
