"""Image of one line: ink is 1, paper is 0, uneven light is removed, the height is given."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.images import check_pixels, has_light_paper, read_grey_pixels
from tasks.core.settings import ConfigError

MAX_ASPECT = 200  # width / height of an image that may be a line
_WINDOW = 1.5  # heights of the image: in that neighbourhood there is paper
_MOST_PAPER = 85  # percentile of grey values that is paper
_MOST_INK = 98  # percentile of darkness that is all ink
_GRAIN = 0.05  # darkness that is the grain of the paper
_LEAST_CONTRAST = 0.12  # of ink to paper: with less, what is on the paper is noise


def read_line(path: Path, height: int, place: str, accepted: str) -> NDArray[np.uint8]:
    """Read an image file of one line as bytes (height, width) from 0, paper, to 255, ink.

    Raises:
        ConfigError: names `place`, and says why the file cannot be read.
    """
    grey = read_grey_pixels(path, place, accepted)
    check_aspect(grey.shape, place, accepted)
    if not has_light_paper(grey):
        grey = 255 - grey
    darkness = remove_light(grey, _WINDOW * len(grey))
    return resized(np.rint(full_contrast(darkness) * 255).astype(np.uint8), height)


def read_line_file(path: str, height: int, accepted: str) -> list[NDArray[np.uint8]]:
    """Read an image file of one line, as a group of lines is read."""
    return [read_line(Path(path), height, path, accepted)]


def line_of_array(x: Any, height: int, accepted: str) -> NDArray[np.float32]:
    """Return an array of one line as (height, width) with 1 as ink; of that form, as it is.

    Raises:
        ConfigError: the shape, the type or a value is not accepted.
    """
    pixels = check_pixels(x, accepted)
    check_aspect(pixels.shape, "input", accepted)
    if has_light_paper(np.rint(pixels * 255).astype(np.uint8)):
        pixels = 1 - pixels
    return pixels if len(pixels) == height else np.clip(resized(pixels, height), 0, 1)


def check_aspect(shape: tuple[int, ...], place: str, accepted: str) -> None:
    """Check that an image (height, width) is not too wide for a line."""
    height, width = shape
    if width > MAX_ASPECT * height:
        problem = f"is {width} pixels wide and {height} high"
        raise ConfigError(place, "", problem, f"{accepted}; at most {MAX_ASPECT} times as wide")


def remove_light(grey: NDArray[np.uint8], window: float) -> NDArray[np.float32]:
    """Return the darkness of each pixel relative to the paper around it: 0 paper, 1 black.

    The paper is a high percentile of the grey values in a window, a square of that many pixels.
    """
    from PIL import Image
    from scipy.ndimage import percentile_filter

    height, width = grey.shape
    step = max(1, round(window / 12))
    small_size = (-(-width // step), -(-height // step))
    small = np.asarray(Image.fromarray(grey).resize(small_size, Image.Resampling.BOX))
    size = max(3, round(window / step))
    paper = percentile_filter(small, _MOST_PAPER, size=size, mode="nearest").astype(np.float32)
    whole = Image.fromarray(paper).resize((width, height), Image.Resampling.BILINEAR)
    light = np.maximum(np.asarray(whole), 1.0)
    darkness: NDArray[np.float32] = np.clip(1 - _GRAIN - grey / light, 0, 1).astype(np.float32)
    return darkness


def full_contrast(
    darkness: NDArray[np.float32], inside: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """Return darkness scaled so that the darkest pixels, of those that are inside, are 1."""
    values = darkness if inside is None else darkness[inside]
    if not values.size:
        return np.zeros_like(darkness)
    most = max(float(np.percentile(values, _MOST_INK)), _LEAST_CONTRAST)
    scaled: NDArray[np.float32] = np.minimum(darkness / np.float32(most), np.float32(1))
    return scaled


def resized(pixels: NDArray[Any], height: int) -> NDArray[Any]:
    """Return an image (rows, columns) with a height, its aspect ratio kept."""
    from PIL import Image

    width = max(1, round(pixels.shape[1] * height / len(pixels)))
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
