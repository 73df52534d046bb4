"""Image input: reading files, checking arrays, and translation by whole pixels."""

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
_WHITE_16 = 65535  # white, in 16 bits
_DRAFT_RATIO = 2  # times the target size: to that, a JPEG may be shrunk while it is decoded
_FORMATS = (
    "PNG", "JPEG", "BMP", "DIB", "GIF", "WEBP", "PPM", "TIFF", "AVIF", "JPEG2000", "ICO", "TGA",
)  # without those that start a program, as EPS does, whatever a file's name  # fmt: skip
_ORIENTATION, _ROTATED = 0x0112, 5  # EXIF tag of the orientation; from 5: rotated by 90°


def read_grey(
    path: Path, height: int, width: int, place: str, accepted: str
) -> NDArray[np.float32]:
    """Read an image file as grey values (height, width) from 0, paper, to 1, the most ink.

    The paper is the median of the pixels of the border. If it is light, the image is inverted, so
    that ink may be darker or lighter than its paper. The image is resized by averaging over areas.
    A file with several pages is refused, so that none is lost.

    Raises:
        ConfigError: names `place`, and says why the file cannot be read.
    """
    from PIL import Image  # only where an image is read

    with _open_image(path, place, accepted) as image:
        _check_one_page(image)
        grey = _to_8_bits(image, "L")
        small = grey.resize((width, height), Image.Resampling.BOX)
    ink = np.asarray(small, np.float32) / np.float32(255)
    return 1 - ink if has_light_paper(np.asarray(grey)) else ink


def read_pixels(
    path: Path, shape: tuple[int, int, int], place: str, accepted: str
) -> NDArray[np.uint8]:
    """Read an image file as bytes (channels, height, width) from 0, black, to 255, white.

    There is 1 channel of grey, or 3 of red, green and blue. The image is resized by an antialiased
    bilinear filter, without regard to its aspect ratio. A photo is rotated upright, transparent
    pixels are white, and of an animation the first image is read.

    Raises:
        ConfigError: names `place`, and says why the file cannot be read.
    """
    from PIL import Image

    num_channels, height, width = shape
    with _open_image(path, place, accepted) as image:
        longest = _DRAFT_RATIO * max(height, width)
        image.draft(None, (longest, longest))  # a JPEG can be decoded at a half, a quarter, …
        resized = _to_8_bits(image, "L" if num_channels == 1 else "RGB")
        if resized.size != (width, height):
            resized = resized.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(resized).reshape(height, width, num_channels)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def read_grey_pixels(path: Path, place: str, accepted: str) -> NDArray[np.uint8]:
    """Read an image file as grey bytes (height, width) from 0, black, to 255, white.

    A photo is rotated upright, and transparent pixels are white. 16 bits, colours and CMYK are
    converted. A file with several pages is refused, so that none is lost.

    Raises:
        ConfigError: names `place`, and says why the file cannot be read.
    """
    with _open_image(path, place, accepted) as image:
        _check_one_page(image)
        return np.asarray(_to_8_bits(image, "L"))


def num_pages(image: "Image.Image") -> int:
    """Return the number of pages, or of images of an animation, in a file."""
    return int(getattr(image, "n_frames", 1))


def _check_one_page(image: "Image.Image") -> None:
    if num_pages(image) > 1:
        raise ValueError(f"it has {num_pages(image)} pages; a file for each is needed")


def read_size(
    path: Path, place: str, accepted: str, *, is_one_page: bool = False
) -> tuple[int, int]:
    """Read height and width of an image file, in pixels, from its header alone.

    Raises:
        ConfigError: names `place`, and says why the file cannot be read, or that it has several
            pages, if `is_one_page`.
    """
    with _open_image(path, place, accepted) as image:
        if is_one_page:
            _check_one_page(image)
        is_rotated = image.getexif().get(_ORIENTATION, 1) >= _ROTATED
        return image.size if is_rotated else image.size[::-1]


@contextlib.contextmanager
def _open_image(path: Path, place: str, accepted: str) -> Iterator["Image.Image"]:
    """Open an image file in a `with` block; errors of reading are ConfigErrors."""
    from PIL import Image

    Image.init()  # of those formats, older versions lack some
    formats = [name for name in _FORMATS if name in Image.OPEN]
    try:
        with Image.open(path, formats=formats) as image:
            yield image
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ConfigError(place, "", f"cannot be read: {error}", accepted) from None


def _to_8_bits(image: "Image.Image", mode: str) -> "Image.Image":
    """Convert an image to upright, on white, and 8 bits: mode `L` or `RGB`."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode[0] in "IF":  # Pillow would clip these at 255
        image = Image.fromarray(_from_16_bits(np.asarray(image)))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert(mode)


def _from_16_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Convert grey values of 16 bits to 8 bits."""
    low, high = pixels.min(), pixels.max()
    if pixels.dtype.kind == "f" or low < 0 or high > _WHITE_16:
        raise ValueError(f"its pixels go from {low} to {high}, and are not of 8 or 16 bits")
    return np.rint(pixels / (_WHITE_16 / 255)).astype(np.uint8)


def has_light_paper(grey: NDArray[np.uint8]) -> bool:
    """Return whether the median pixel of the border of an image (H, W) is light."""
    sides = (grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1])
    return bool(np.median(np.concatenate(sides)) > _MIDDLE)


def check_image(x: Any, shape: tuple[int, int, int], ends: tuple[str, str]) -> NDArray[np.float32]:
    """Check that a value is an image of a shape (channels, height, width), and return it.

    `ends` are the meanings of 0 and 1, for errors. The axis of a single channel may be missing.

    Raises:
        ConfigError: the shape, the type or a value is not accepted.
    """
    shapes = (shape[1:], shape) if shape[0] == 1 else (shape,)
    shown = " or ".join(map(str, shapes))
    accepted = f"numbers from 0, {ends[0]}, to 1, {ends[1]}, of the shape {shown}"
    array = _checked_array(x, accepted)
    if array.shape not in shapes:
        raise ConfigError("input", "", f"has the shape {array.shape}", accepted)
    return _checked_range(array, accepted).reshape(shape)


def check_pixels(x: Any, accepted: str) -> NDArray[np.float32]:
    """Check that a value is a grey image (height, width) or (1, height, width); return the first.

    Raises:
        ConfigError: the shape, the type or a value is not accepted.
    """
    array = _checked_array(x, accepted)
    if array.ndim == 3 and len(array) == 1:
        array = array[0]
    if array.ndim != 2 or not array.size:
        raise ConfigError("input", "", f"has the shape {array.shape}", accepted)
    return _checked_range(array, accepted)


def _checked_array(x: Any, accepted: str) -> NDArray[Any]:
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
    return array


def _checked_range(array: NDArray[Any], accepted: str) -> NDArray[np.float32]:
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= 1):  # also true of NaN
        raise ConfigError("input", "", f"has values from {low} to {high}", accepted)
    return array.astype(np.float32)


def shift_images(images: NDArray[Any], moves: NDArray[np.signedinteger[Any]]) -> NDArray[Any]:
    """Translate images (B, C, H, W) down and right by whole pixels (B, 2); zeros are shifted in.

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
    """Return target and source slices of the pixels of a line that stay inside."""
    target = slice(max(0, by), max(0, size + min(0, by)))
    return target, slice(target.start - by, max(0, target.stop - by))
