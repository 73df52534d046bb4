"""Pages of any size, brought to one size: enlarged or reduced as a whole, and padded with paper."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.core.images import read_grey_pixels
from tasks.handwriting.photographs import with_dark_ink


class Letterboxed(NamedTuple):
    """A page within an image of another size; pixels of the page times `scale`, plus the corner."""

    image: NDArray[np.float32]  # (height, width)
    scale: float
    left: int
    top: int

    def from_page(self, boxes: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return boxes (n, 4) of the page as boxes of the image."""
        corner = [self.left, self.top, self.left, self.top]
        return np.asarray(np.reshape(boxes, (-1, 4)) * self.scale + corner, np.float32)

    def to_page(self, boxes: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return boxes (n, 4) of the image as boxes of the page."""
        corner = [self.left, self.top, self.left, self.top]
        return np.asarray((np.reshape(boxes, (-1, 4)) - corner) / self.scale, np.float32)


def placed(page: tuple[int, int], height: int, width: int) -> tuple[float, int, int, int, int]:
    """Return how a page (height, width) is brought into an image: scale, corner and size within it.

    >>> placed((100, 50), 40, 40)  # scale, left, top, and the height and width that it takes there
    (0.4, 10, 0, 40, 20)
    """
    scale = min(height / page[0], width / page[1])
    tall, wide = (max(1, round(side * scale)) for side in page)
    return scale, (width - wide) // 2, (height - tall) // 2, tall, wide


def letterbox(page: NDArray[np.float32], height: int, width: int) -> Letterboxed:
    """Return a page (h, w) in the middle of an image (height, width), its aspect ratio kept.

    It is reduced by averaging over areas, enlarged bilinearly; around it is paper, 0.
    """
    scale, left, top, tall, wide = placed((page.shape[0], page.shape[1]), height, width)
    image = np.zeros((height, width), np.float32)
    image[top : top + tall, left : left + wide] = _resized(page, tall, wide, scale)
    return Letterboxed(image, scale, left, top)


def _resized(page: NDArray[np.float32], tall: int, wide: int, scale: float) -> NDArray[np.float32]:
    from PIL import Image  # only where an image is resized

    if page.shape == (tall, wide):
        return page
    how = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(page).resize((wide, tall), how), np.float32)


def read_page(
    path: Path, place: str, accepted: str, largest: tuple[int, int] | None = None
) -> NDArray[np.float32]:
    """Read an image file as a page (height, width) of values from 0, paper, to 1, the most ink.

    Ink may be darker or lighter than its paper, and what is around the paper may be dark.

    Args:
        path: of the file.
        place: what an error names.
        accepted: what an error says is right.
        largest: height and width into which a larger page is reduced, its aspect ratio kept.

    Raises:
        ConfigError: the file cannot be read.
    """
    from PIL import Image  # only where an image is read

    grey = with_dark_ink(read_grey_pixels(path, place, accepted))
    if largest is not None:
        _, _, _, height, width = placed(grey.shape, *largest)
        grey = np.asarray(Image.fromarray(grey).resize((width, height), Image.Resampling.BOX))
    return 1 - grey.astype(np.float32) / np.float32(255)
