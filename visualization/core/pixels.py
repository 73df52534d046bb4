"""Arrays as small PNG images within a page, one pixel for each number."""

import base64
import functools
import struct
import zlib

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Colormap
from numpy.typing import NDArray

from visualization.core.pictures import EXCITED, SHADES
from visualization.core.style import DIVERGING

_OUTSIDE = (0.87, 0.9, 0.94)  # what lies beyond the border of an image


def data_uri(colors: NDArray[np.floating]) -> str:
    """Return colours (H, W, 3) in [0, 1] as a `data:` address of a PNG."""
    content = png_bytes(colors)
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def png_bytes(colors: NDArray[np.floating]) -> bytes:
    """Return colours (H, W, 3) in [0, 1] as the content of a PNG file."""
    return _png((255 * colors).astype(np.uint8))


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """Return pixels (H, W, 3) as a PNG; a library takes ten times as long for so few of them."""
    height, width = pixels.shape[:2]
    rows = np.pad(pixels.reshape(height, -1), ((0, 0), (1, 0)))  # 0: a row as it is
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits each, in three colours
    parts = (b"IHDR", head), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk)) + kind + chunk + struct.pack(">I", zlib.crc32(kind + chunk))
        for kind, chunk in parts
    )


@functools.cache
def _colormap(name: str) -> Colormap:
    """Return a colour map; matplotlib makes another whenever one is asked for."""
    return colormaps[name]


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
        scaled = _colormap(SHADES)(scaled.mean(axis=-1))[..., :3]
    return scaled if inside is None else np.where(inside[..., None], scaled, _OUTSIDE)


def map_colors(
    values: NDArray[np.floating], size: float | None = None, *, signs: bool | None = None
) -> NDArray[np.floating]:
    """Return numbers (H, W) as colours (H, W, 3), full at `size` (None: the largest of them).

    Of both signs (`signs`; None: if any is negative): red above 0, blue below; else from black.
    """
    full = (size if size is not None else float(np.abs(values).max())) or 1.0
    if signs if signs is not None else values.min() < 0:
        return np.asarray(_colormap(DIVERGING)(values / full / 2 + 0.5)[..., :3])
    return np.asarray(_colormap(EXCITED)(np.clip(values / full, 0, 1))[..., :3])
