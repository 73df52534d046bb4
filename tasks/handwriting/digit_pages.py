"""Pages of handwritten digits: find the digits, and say which they are.

The digits are scans of scikit-learn's `load_digits` (8×8 pixels), of which each split has its own.
"""

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import attrs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tasks.core.settings import ConfigError, setting
from tasks.core.task import SPLITS, BatchRequest, Split
from tasks.handwriting.boxes import BoxTask, ImageToBoxes, PageBoxes

_NUM: dict[Split, int] = {"train": 2048, "validation": 256, "test": 512}  # pages of a pass
_NAME = re.compile(f"({'|'.join(SPLITS)})/([0-9]{{1,9}})(?:/([0-9]{{1,9}}))?")
_MARGIN = 1  # pixels of paper between two digits
_TRIES = 40  # places that are tried for a digit
_WIDER = 0.2  # largest change of a digit's width against its height
_FAINTEST = 0.6  # ink of the faintest digit
_NOISE = 0.1  # grain of the roughest paper
_FAINT = 0.2  # ink of a scan that is cut away around a digit


Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels


class Scan(NamedTuple):
    """A digit without the paper, and the faintest ink, around it."""

    image: Image.Image
    aspect: float  # width by height
    kind: int


@attrs.frozen(kw_only=True)
class DigitPages(BoxTask):
    """Digits strewn over a page, of different sizes and darkness, on paper with some grain.

    A page is a pure function of split, seed and number, and has a name of the three, such as
    `test/0/17`. A box is what a digit's ink takes: the paper around a scan is cut away before it is
    enlarged. It is put somewhere on the page where no other digit is; a digit for which no place is
    found is left out.

    >>> page = DigitPages().encode(["test/0/0"])
    >>> page.image.shape, page.boxes[0].shape, page.kinds[0].tolist()
    ((1, 1, 128, 128), (13, 4), [1, 2, 2, 7, 5, 7, 2, 1, 9, 8, 0, 2, 9])
    """

    size: int = setting(128, "height and width of a page in pixels", ge=32, le=2048)
    min_digits: int = setting(4, "fewest digits of a page", ge=0, le=1000)
    max_digits: int = setting(14, "most digits of a page", ge=1, le=1000)
    min_height: int = setting(12, "height of the smallest digit in pixels", ge=4)
    max_height: int = setting(24, "height of the largest digit in pixels", ge=4)

    def __attrs_post_init__(self) -> None:
        """Refuse settings that contradict one another."""
        place = f"task {self.name}"
        if self.min_digits > self.max_digits:
            problem = f"{self.min_digits} is more than max_digits, {self.max_digits}"
            raise ConfigError(place, "min_digits", problem, f"0 to {self.max_digits}")
        if not self.min_height <= self.max_height <= self.size // 2:
            problem = f"{self.max_height} is not between min_height and half a page"
            accepted = f"{self.min_height} to {self.size // 2}"
            raise ConfigError(place, "max_height", problem, accepted)

    @property
    def name(self) -> str:
        """The registered name."""
        return "digit_pages"

    @property
    def spec(self) -> ImageToBoxes:
        """Size of a page, and the ten digits."""
        return ImageToBoxes(self.size, self.size, tuple("0123456789"))

    def num_samples_in(self, split: Split) -> int:
        """Return 2,048, 256 and 512: training pages are new ones in each epoch."""
        return _NUM[split]

    def page_numbers(self, request: BatchRequest) -> Iterator[range]:
        """Yield the numbers of the pages of each batch of a pass."""
        num = _NUM[request.split]
        first = request.epoch * num
        for part in request.slices(num):
            yield range(first + part.start, first + part.stop)

    def named_page(self, name: str) -> PageBoxes | None:
        """Return a page by a name such as `test/0/17`, or `test/17`, where the seed is 0."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        seed, number = (match[2], match[3]) if match[3] else ("0", match[2])
        return self.page(cast("Split", match[1]), int(seed), int(number))

    def page(self, split: Split, seed: int, number: int) -> PageBoxes:
        """Return one page as a batch."""
        rng = np.random.default_rng([SPLITS.index(split), seed, number])
        image, boxes, kinds = self._drawn(scans(split), rng)
        return PageBoxes(image[None, None], [boxes], [kinds], [f"{split}/{seed}/{number}"])

    def _drawn(
        self, known: tuple[Scan, ...], rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
        num = int(rng.integers(self.min_digits, self.max_digits + 1))
        chosen = [known[at] for at in rng.integers(len(known), size=num).tolist()]
        heights = rng.integers(self.min_height, self.max_height + 1, num).tolist()
        wider = rng.uniform(1 - _WIDER, 1 + _WIDER, num).tolist()
        ink = rng.uniform(_FAINTEST / 255, 1 / 255, num).tolist()
        places = rng.random((num, _TRIES, 2)).tolist()
        drawn = Image.new("L", (self.size, self.size))
        found: dict[Box, tuple[int, float]] = {}
        for scan, height, wide, dark, tried in zip(
            chosen, heights, wider, ink, places, strict=True
        ):
            width = min(max(3, round(height * scan.aspect * wide)), self.size)
            box = _free_box(found, width, height, tried, self.size)
            if box is not None:
                drawn.paste(scan.image.resize((width, height), Image.Resampling.BILINEAR), box[:2])
                found[box] = scan.kind, dark
        image = np.asarray(drawn, np.float32)
        for (left, top, right, bottom), (_, dark) in found.items():
            image[top:bottom, left:right] *= dark
        grain = rng.random((self.size, self.size), np.float32)
        grain *= rng.random() * _NOISE
        kinds = np.array([kind for kind, _ in found.values()], np.int64)
        np.maximum(image, grain, out=image)
        return image, np.array([*found], np.float32).reshape(-1, 4), kinds


def _free_box(
    boxes: Iterable[Box], width: int, height: int, places: Sequence[Sequence[float]], side: int
) -> Box | None:
    """Return the first of the tried boxes of a size that touches no other; None: there is none.

    Args:
        boxes: those that are taken.
        width: of the box.
        height: of the box.
        places: where it is tried, as shares of the room across and down.
        side: of the page.
    """
    for across, down in places:
        left, top = int(across * (side - width + 1)), int(down * (side - height + 1))
        right, bottom = left + width, top + height
        for low, high, end, base in boxes:
            if (
                left < end + _MARGIN
                and low < right + _MARGIN
                and top < base + _MARGIN
                and high < bottom + _MARGIN
            ):
                break
        else:
            return left, top, right, bottom
    return None


@functools.lru_cache(maxsize=3)
def scans(split: Split) -> tuple[Scan, ...]:
    """Return the scans of a split, which are in no other."""
    from tasks.digits import MnistLike

    digits = MnistLike(source="digits")
    batch = digits.load(np.array(digits.ranges[split]))
    found = []
    for image, kind in zip(batch.image[:, 0], batch.label[:, 0].tolist(), strict=True):
        rows, columns = (np.flatnonzero((image > _FAINT).any(axis=axis)) for axis in (1, 0))
        ink: Any = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        pixels = np.rint(ink * 255).astype(np.uint8)
        found.append(Scan(Image.fromarray(pixels), ink.shape[1] / ink.shape[0], kind))
    return tuple(found)
