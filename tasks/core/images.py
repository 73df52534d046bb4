"""Grey images as tasks take them: from files, from arrays, and moved by whole pixels."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.settings import ConfigError

_MIDDLE = 127.5  # between black, 0, and white, 255


def read_grey(
    path: Path, height: int, width: int, place: str, accepted: str
) -> NDArray[np.float32]:
    """Return an image file as grey values (height, width) from 0, paper, to 1, the most ink.

    The paper is what most of the border shows, the median of its pixels: where that is light, the
    image is turned over, so that ink may be darker or lighter than its paper. The image is brought
    to its size by averaging over areas.

    Raises:
        ConfigError: names `place`, and says why the file cannot be read.
    """
    try:
        from PIL import Image
    except ImportError:
        problem = "images cannot be read without Pillow, which comes with torchvision"
        raise ConfigError(place, "", problem, "`pip install pillow`, or an array") from None
    try:
        with Image.open(path) as image:
            grey = image.convert("L")
        small = grey.resize((width, height), Image.Resampling.BOX)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ConfigError(place, "", f"cannot be read: {error}", accepted) from None
    ink = np.asarray(small, np.float32) / np.float32(255)
    return 1 - ink if _has_light_paper(np.asarray(grey)) else ink


def _has_light_paper(grey: NDArray[np.uint8]) -> bool:
    """Tell whether the border of an image (H, W) is light, by the median of its pixels."""
    sides = (grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1])
    return bool(np.median(np.concatenate(sides)) > _MIDDLE)


def demand_grey(x: Any, height: int, width: int) -> NDArray[np.float32]:
    """Return what someone holds as an image (height, width), if it is one.

    Raises:
        ConfigError: says what is wrong with its shape, its type or its values.
    """
    size = (height, width)
    accepted = f"numbers from 0, paper, to 1, ink, of the shape {size} or {(1, *size)}"
    try:
        array = np.asarray(x)
    except ValueError:
        raise ConfigError("input", "", "its rows differ in length", accepted) from None
    except (TypeError, RuntimeError) as error:  # such as a tensor that has a gradient
        problem = f"{type(x).__name__} is no array: {error}"
        raise ConfigError("input", "", problem, accepted) from None
    if array.dtype.kind not in "biuf":
        problem = f"{type(x).__name__} of {array.dtype} is no image"
        raise ConfigError("input", "", problem, accepted)
    if array.shape not in (size, (1, *size)):
        raise ConfigError("input", "", f"has the shape {array.shape}", accepted)
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= 1):  # which NaN is not, either
        raise ConfigError("input", "", f"has values from {low} to {high}", accepted)
    return array.reshape(size).astype(np.float32)


def shifted(images: NDArray[Any], moves: NDArray[np.int64]) -> NDArray[Any]:
    """Return images (B, C, H, W) moved down and right by whole pixels (B, 2); zeros come in.

    >>> shifted(np.array([[[[1, 2], [3, 4]]]]), np.array([[1, -1]])).tolist()
    [[[[0, 0], [2, 0]]]]
    """
    most = int(np.abs(moves).max(initial=0))
    height, width = images.shape[2:]
    wide = np.pad(images, ((0, 0), (0, 0), (most, most), (most, most)))
    rows = most - moves[:, :1] + np.arange(height)  # (B, H)
    columns = most - moves[:, 1:] + np.arange(width)  # (B, W)
    samples = np.arange(len(images))[:, None, None]
    moved = wide[samples, :, rows[:, :, None], columns[:, None]]  # (B, H, W, C)
    return np.moveaxis(moved, -1, 1)
