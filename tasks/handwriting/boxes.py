"""Boxes on pages: batches, sizes, and the base class of tasks of object detection."""

import abc
import collections
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast, final

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core.paths import expand_user, is_file
from tasks.core.settings import ConfigError
from tasks.core.task import Array, BatchRequest, Row, Split, Task
from tasks.handwriting.letterbox import letterbox, read_page
from tasks.handwriting.precision import average_precision

SURE = 0.5  # score from which on a box is told to a person, and is judged in answer tables
_HIT = 0.5  # overlap from which on it is right
_NUM_SIZES = 500  # training pages whose boxes say how large boxes are
_SHOWN = 100  # characters of an input that an error message repeats


class PageBoxes(NamedTuple):
    """Pages, and the right boxes of each.

    image (batch, channels, height, width), float32 in [0, 1]: 1 is ink and 0 is paper.
    """

    image: Array
    boxes: list[Array]  # of each page (n, 4), float32: left, top, right, bottom in pixels
    kinds: list[Array]  # of each page (n,), int64: positions in the kinds of the task
    names: list[str] | None = None  # of the pages


class Boxes(NamedTuple):
    """The boxes that were found on a page, the surest first."""

    boxes: Array  # (n, 4): left, top, right, bottom in pixels
    kinds: Array  # (n,)
    scores: Array  # (n,), from 0 to 1


@attrs.frozen
class ImageToBoxes:
    """Sizes of an object detection task."""

    height: int  # pixels
    width: int  # pixels
    kinds: tuple[str, ...]  # a kind is a position in this tuple
    num_channels: int = 1


@attrs.frozen(kw_only=True)
class BoxTask(Task):
    """Object detection on pages of one size: subclasses supply the pages."""

    @property
    @abc.abstractmethod
    def spec(self) -> ImageToBoxes:
        """Size of a page, and kinds of boxes."""

    @abc.abstractmethod
    def page_numbers(self, request: BatchRequest) -> Iterator[Sequence[int]]:
        """Yield the numbers of the pages of each batch of a pass."""

    @abc.abstractmethod
    def page(self, split: Split, seed: int, number: int) -> PageBoxes:
        """Return one page as a batch: a pure function of the arguments."""

    @abc.abstractmethod
    def named_page(self, name: str) -> PageBoxes | None:
        """Return a page by the name that it has in answer tables; None: there is none."""

    @final
    @property
    def monitor(self) -> tuple[str, Literal["max", "min"]]:
        """Mean average precision."""
        return "mAP", "max"

    @final
    def iter_batches(self, request: BatchRequest) -> Iterator[PageBoxes]:
        """Yield the batches of a pass."""
        for numbers in self.page_numbers(request):
            yield joined([self.page(request.split, request.seed, n) for n in numbers])

    def box_sizes(self) -> NDArray[np.float32]:
        """Return widths and heights (n, 2) of boxes of training pages, in pixels."""
        batch = cast("PageBoxes", self.samples("train", _NUM_SIZES))
        boxes = np.concatenate(batch.boxes)
        return np.asarray(boxes[:, 2:] - boxes[:, :2], np.float32)

    @final
    def encode(self, x: Sequence[Any]) -> PageBoxes:
        """Return pages by name, image files by path, and arrays as a batch without boxes.

        An array is (height, width) or (1, height, width) with values from 0, paper, to 1, ink. A
        page of another size is made as large as there is room and padded with paper. Files may have
        dark ink on light paper or the reverse: paper is the median of the border.

        Raises:
            ConfigError: names the text or the shape, and what is accepted.
        """
        return joined([self._encoded(one) for one in x])

    @final
    def targets(self, batch: PageBoxes) -> list[Boxes]:
        """Return the right boxes of each page, with the score 1."""
        pairs = zip(batch.boxes, batch.kinds, strict=True)
        return [Boxes(boxes, kinds, np.ones(len(kinds), np.float32)) for boxes, kinds in pairs]

    @final
    def decode(self, answers: Sequence[Boxes]) -> list[str]:
        """Return the sure boxes of each page (scores of 0.5 or more), one in a line.

        Kind, left, top, right and bottom in pixels, and the score. In the order of lines of text:
        from the top, and from the left where boxes are beside each other.
        """
        return ["\n".join(self._lines(sure(found))) or "nothing" for found in answers]

    @final
    def score(self, answers: Sequence[Boxes], targets: PageBoxes) -> dict[str, float]:
        """Return `AP50` and `mAP` as COCO defines them, with at most 1,000 boxes of a page.

        AP50: average precision, the mean over kinds, where a box is right that overlaps by a half
        (IoU) of its union with a right one; mAP: the mean over overlaps .5, .55, …, .95.
        """
        return average_precision(answers, self.targets(targets), len(self.spec.kinds))

    @final
    def rows(self, answers: Sequence[Boxes], targets: PageBoxes) -> list[Row]:
        """Return name, sure boxes and right boxes of each page, as counts of each kind.

        An answer is right if its sure boxes are, one to one, those that are right.
        """
        right = self.targets(targets)
        names = targets.names or [f"page {number}" for number in range(len(right))]
        told = zip(names, map(sure, answers), right, strict=True)
        return [
            Row(name, self._counts(found), self._counts(boxes), same_boxes(found, boxes))
            for name, found, boxes in told
        ]

    def _lines(self, found: Boxes) -> Iterator[str]:
        kinds = self.spec.kinds
        for at in reading_order(found.boxes):
            box = " ".join(f"{side:.0f}" for side in np.asarray(found.boxes)[at])
            yield f"{kinds[int(found.kinds[at])]} {box} {float(found.scores[at]):.2f}"

    def _counts(self, found: Boxes) -> str:
        counts = collections.Counter(np.asarray(found.kinds).tolist())
        told = [f"{self.spec.kinds[kind]} ×{num}" for kind, num in sorted(counts.items())]
        return ", ".join(told) or "nothing"

    def _encoded(self, x: Any) -> PageBoxes:
        spec = self.spec
        accepted = f"the name of a page, the path of an image, or an array of {spec.height} by "
        accepted += f"{spec.width} numbers from 0, paper, to 1, ink"
        x = str(x) if isinstance(x, Path) else x
        if not isinstance(x, str):
            page, name = checked_page(x, accepted), "a page"
        else:
            known = self.named_page(x.strip())
            if known is not None:
                return known
            path, name = expand_user(x.strip()), x.strip()
            place = f"input {x[:_SHOWN]!r}{'…' if len(x) > _SHOWN else ''}"
            if not is_file(path):
                problem = "is neither the name of a page nor a file"
                raise ConfigError(place, "", problem, accepted)
            page = read_page(path, place, accepted)
        image = letterbox(page, spec.height, spec.width).image
        nothing = np.zeros((0, 4), np.float32)
        return PageBoxes(image[None, None], [nothing], [np.zeros(0, np.int64)], [name])


def joined(pages: Sequence[PageBoxes]) -> PageBoxes:
    """Return one batch of several."""
    return PageBoxes(
        np.concatenate([page.image for page in pages]),
        [boxes for page in pages for boxes in page.boxes],
        [kinds for page in pages for kinds in page.kinds],
        [name for page in pages for name in page.names or ["a page"] * len(page.image)],
    )


def checked_page(x: Any, accepted: str) -> NDArray[np.float32]:
    """Return an array that a person holds as a page (height, width)."""
    try:
        page = np.asarray(x, np.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        problem = f"{type(x).__name__} is not an array of numbers: {error}"
        raise ConfigError("input", "", problem, accepted) from None
    if page.ndim == 3 and len(page) == 1:
        page = page[0]
    if page.ndim != 2 or not page.size:
        raise ConfigError("input", "", f"has the shape {np.shape(x)}", accepted)
    if not (page.min() >= 0 and page.max() <= 1):  # also true of NaN
        problem = f"has values from {page.min()} to {page.max()}"
        raise ConfigError("input", "", problem, accepted)
    return page


def sure(found: Boxes, score: float = SURE) -> Boxes:
    """Return the boxes that have a score or a higher one."""
    keep = np.asarray(found.scores) >= score
    return Boxes(*(np.asarray(field)[keep] for field in found))


def box_iou(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Return the intersection over union (n, m) of boxes (n, 4) and (m, 4).

    >>> box_iou(np.array([[0, 0, 2, 2]]), np.array([[1, 1, 3, 3], [5, 5, 6, 6]])).round(3)
    array([[0.143, 0.   ]])
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    corner = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    inside = (corner[1] - corner[0]).clip(0).prod(axis=-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=-1) for boxes in (a, b)]
    union = areas[0][:, None] + areas[1] - inside
    return np.asarray(inside / np.where(union > 0, union, 1.0))


def same_boxes(found: Boxes, right: Boxes) -> bool:
    """Return whether found boxes are the right ones, one to one: by kind, and an IoU of .5."""
    if len(found.kinds) != len(right.kinds):
        return False
    if not len(right.kinds):
        return True
    from scipy.optimize import linear_sum_assignment  # takes a while to import

    alike = np.asarray(found.kinds)[:, None] == np.asarray(right.kinds)
    hits = alike & (box_iou(found.boxes, right.boxes) >= _HIT)
    rows, columns = linear_sum_assignment(hits, maximize=True)
    return bool(hits[rows, columns].all())


def reading_order(boxes: NDArray[Any]) -> NDArray[np.int64]:
    """Return the order of boxes (n, 4) as one reads: line by line, each from its left.

    A box goes on the line of the box before it if its middle is above that line's bottom.

    >>> reading_order(np.array([[9, 1, 12, 5], [0, 0, 4, 4], [2, 9, 4, 12]])).tolist()
    [1, 0, 2]
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    middles = (boxes[:, 1] + boxes[:, 3]) / 2
    line, bottom = np.zeros(len(boxes), np.int64), -np.inf
    number = -1
    for at in np.argsort(middles, kind="stable"):
        if middles[at] >= bottom:
            number, bottom = number + 1, boxes[at, 3]
        line[at] = number
    return np.lexsort((boxes[:, 0], line))
