"""Images as tasks take them: from files, from arrays, and moved by whole pixels."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.settings import ConfigError

if TYPE_CHECKING:
    from PIL import Image

_MIDDLE = 127.5  # between black, 0, and white, 255
_DEEP = 65535  # white, of sixteen bits
_GAP = 2  # times the wanted size to which a JPEG is shrunk at most while it is decoded
_ORIENTATION, _LYING = 0x0112, 5  # the tag of a photo's orientation; from 5 on it lies on its side


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
    from PIL import Image  # only where an image is read

    with _open_image(path, place, accepted) as image:
        grey = _to_8_bits(image, "L")
        small = grey.resize((width, height), Image.Resampling.BOX)
    ink = np.asarray(small, np.float32) / np.float32(255)
    return 1 - ink if _has_light_paper(np.asarray(grey)) else ink


def read_pixels(
    path: Path, shape: tuple[int, int, int], place: str, accepted: str
) -> NDArray[np.uint8]:
    """Return an image file as bytes (channels, height, width) from 0, black, to 255, white.

    There is 1 channel of grey, or 3 of red, green and blue. The image is brought to its size by a
    bilinear filter as wide as the pixels that it makes, whatever its proportions are. A photo is
    turned upright, what is transparent is white, and of a film the first picture is taken.

    Raises:
        ConfigError: names `place`, and says why the file cannot be read.
    """
    from PIL import Image

    num_channels, height, width = shape
    with _open_image(path, place, accepted) as image:
        longest = _GAP * max(height, width)
        image.draft(None, (longest, longest))  # a JPEG can be decoded at a half, a quarter, …
        found = _to_8_bits(image, "L" if num_channels == 1 else "RGB")
        if found.size != (width, height):
            found = found.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(found).reshape(height, width, num_channels)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def read_size(path: Path, place: str, accepted: str) -> tuple[int, int]:
    """Return height and width of an image file, in pixels, from its first bytes alone.

    Raises:
        ConfigError: names `place`, and says why the file cannot be read.
    """
    with _open_image(path, place, accepted) as image:
        lies = image.getexif().get(_ORIENTATION, 1) >= _LYING
        return image.size if lies else image.size[::-1]


@contextlib.contextmanager
def _open_image(path: Path, place: str, accepted: str) -> Iterator["Image.Image"]:
    """Open an image for a block; whatever cannot be read there is a ConfigError."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            yield image
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ConfigError(place, "", f"cannot be read: {error}", accepted) from None


def _to_8_bits(image: "Image.Image", mode: str) -> "Image.Image":
    """Return an image upright, on white, and in 8 bits: mode `L` or `RGB`."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode[0] in "IF":  # of which Pillow would make white all that is above 255
        image = Image.fromarray(_from_16_bits(np.asarray(image)))
    if image.has_transparency_data:
        drawn = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn)
    return image.convert(mode)


def _from_16_bits(deep: NDArray[Any]) -> NDArray[np.uint8]:
    """Return grey values of sixteen bits in eight."""
    low, high = deep.min(), deep.max()
    if deep.dtype.kind == "f" or low < 0 or high > _DEEP:
        raise ValueError(f"its pixels go from {low} to {high}, and are not of 8 or 16 bits")
    return np.rint(deep / (_DEEP / 255)).astype(np.uint8)


def _has_light_paper(grey: NDArray[np.uint8]) -> bool:
    """Tell whether the border of an image (H, W) is light, by the median of its pixels."""
    sides = (grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1])
    return bool(np.median(np.concatenate(sides)) > _MIDDLE)


def check_image(x: Any, shape: tuple[int, int, int], ends: tuple[str, str]) -> NDArray[np.float32]:
    """Return what someone holds as an image of a shape (channels, height, width), if it is one.

    `ends` are what 0 and 1 stand for. A single channel need not be an axis.

    Raises:
        ConfigError: says what is wrong with its shape, its type or its values.
    """
    shapes = (shape[1:], shape) if shape[0] == 1 else (shape,)
    shown = " or ".join(map(str, shapes))
    accepted = f"numbers from 0, {ends[0]}, to 1, {ends[1]}, of the shape {shown}"
    try:
        array = np.asarray(x)
    except ValueError:
        raise ConfigError("input", "", "its rows differ in length", accepted) from None
    except (TypeError, RuntimeError) as error:  # such as a tensor that has a gradient
        problem = f"{type(x).__name__} is not an array: {error}"
        raise ConfigError("input", "", problem, accepted) from None
    if array.dtype.kind not in "biuf":
        problem = f"{type(x).__name__} of {array.dtype} is not an image"
        raise ConfigError("input", "", problem, accepted)
    if array.shape not in shapes:
        raise ConfigError("input", "", f"has the shape {array.shape}", accepted)
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= 1):  # which NaN is not, either
        raise ConfigError("input", "", f"has values from {low} to {high}", accepted)
    return array.reshape(shape).astype(np.float32)


def shift_images(images: NDArray[Any], moves: NDArray[np.int64]) -> NDArray[Any]:
    """Return images (B, C, H, W) moved down and right by whole pixels (B, 2); zeros come in.

    >>> shift_images(np.array([[[[1, 2], [3, 4]]]]), np.array([[1, -1]])).tolist()
    [[[[0, 0], [2, 0]]]]
    """
    height, width = images.shape[2:]
    moved = np.zeros_like(images)
    # A copy for each image: one index for all of them takes ten times as long for large ones.
    for new, old, (down, right) in zip(moved, images, moves.tolist(), strict=True):
        (to_rows, rows), (to_columns, columns) = _overlap(down, height), _overlap(right, width)
        new[:, to_rows, to_columns] = old[:, rows, columns]
    return moved


def _overlap(by: int, size: int) -> tuple[slice, slice]:
    """Return where what stays in sight of a line of pixels goes, and where it comes from."""
    there = slice(max(0, by), max(0, size + min(0, by)))
    return there, slice(there.start - by, max(0, there.stop - by))
