"""Digit strings: lines of handwritten digits, made from the scans that come with scikit-learn.

A line is 1 to 7 of the 1,797 scans of 8×8 pixels (Alpaydin and Kaynak 1998, Optical Recognition of
Handwritten Digits, UCI), enlarged and put beside each other at random distances. 1,200 scans are
for training, 200 for validation and 397 for the test, so that a scan of the test is in no training
line. Training lines are also of random size and slant, with noise, as the settings say. A line is a
pure function of split, seed, epoch and index.

>>> task = DigitStrings()
>>> task.spec
ImageToText(characters='0123456789', height=32)
>>> batch = task.samples("test", 3)
>>> batch.image.shape[:3], batch.width.tolist()  # (batch, 1, height, …), padded to the widest
((3, 1, 32), [102, 139, 119])
>>> batch.text.tolist()  # digit d has the code d + 1; 0 is padding
[[1, 7, 2, 1, 6, 0], [5, 10, 7, 5, 1, 5], [10, 3, 4, 7, 2, 8]]
>>> task.decode(task.targets(batch))
['06105', '496404', '923617']
"""

import functools
from typing import TYPE_CHECKING, NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core.settings import setting
from tasks.core.task import Split
from tasks.handwriting.lines import Line, LineTask, Pass

if TYPE_CHECKING:
    from PIL import Image

_SIZES: dict[Split, int] = {"train": 2048, "validation": 1024, "test": 1024}  # lines in a pass
_SCANS: dict[Split, slice] = {
    "train": slice(0, 1200), "validation": slice(1200, 1400), "test": slice(1400, 1797),
}  # of the scans in a fixed random order  # fmt: skip
_ENLARGED = 4  # times: scans are enlarged once, smoothly
_TALLEST = 0.75  # of the height of the line: a digit without jitter
_GAPS = (0.02, 0.2)  # least and greatest distance of digits, in heights of the line
_MARGIN = 0.1  # before the first digit and after the last, in heights of the line


class _Digits(NamedTuple):
    """Enlarged scans without empty columns, and their labels."""

    images: "list[Image.Image]"
    labels: NDArray[np.int64]


@attrs.frozen(kw_only=True)
class DigitStrings(LineTask):
    """Digit strings: lines of scanned handwritten digits."""

    most_digits: int = setting(7, "largest number of digits in a line", ge=1, le=40)
    size_jitter: float = setting(
        0.15, "largest change of a training digit's size, as a share of it", ge=0.0, le=0.3
    )
    slant_jitter: float = setting(
        0.2, "largest slant of a training line: columns for each row", ge=0.0, le=1.0
    )
    shift_jitter: float = setting(
        0.06, "largest vertical shift of a training digit, in heights of the line", ge=0.0, le=0.25
    )
    noise: float = setting(
        0.04, "standard deviation of noise in the pixels of training lines", ge=0.0, le=0.5
    )

    @property
    def own_characters(self) -> str:
        """The ten digits."""
        return "0123456789"

    def num_samples_in(self, split: Split) -> int:
        """Return the number of lines in a pass."""
        return _SIZES[split]

    def widths(self, pass_: Pass) -> NDArray[np.int64]:
        """Return the approximate width of each line of a pass, in pixels."""
        return _num_digits(pass_, _SIZES[pass_.split], self.most_digits) * self.height // 2

    def load(self, pass_: Pass, index: NDArray[np.int64]) -> list[Line]:
        """Draw lines of a pass."""
        lengths = _num_digits(pass_, _SIZES[pass_.split], self.most_digits)
        return [self._draw(pass_, number, int(lengths[number])) for number in index.tolist()]

    def _draw(self, pass_: Pass, number: int, length: int) -> Line:
        digits, span = _digits(), _SCANS[pass_.split]
        rng = np.random.default_rng([*pass_.key, number])
        chosen = rng.integers(span.start, span.stop, length)
        gaps = np.rint(rng.uniform(*_GAPS, length) * self.height).astype(int)
        margin = round(_MARGIN * self.height)
        is_training = pass_.split == "train"
        jitter = rng.uniform(-1, 1, (length, 2)) if is_training else np.zeros((length, 2))
        slant = self.slant_jitter * (rng.uniform(-1, 1) if is_training else 0.0)
        sizes = _TALLEST * self.height * (1 + self.size_jitter * jitter[:, 0])
        images = [digits.images[scan] for scan in chosen]
        own = [_drawn(one, size, slant) for one, size in zip(images, sizes, strict=True)]
        width = 2 * margin + sum(one.shape[1] for one in own) + int(gaps[1:].sum())
        line = np.zeros((self.height, width), np.float32)
        left, boxes = margin, []
        for one, gap, shift in zip(own, gaps, jitter[:, 1] * self.shift_jitter, strict=True):
            left += int(gap) if left > margin else 0
            rows = min(len(one), self.height)
            room = self.height - rows
            top = min(max(round(room / 2 + shift * self.height), 0), room)
            line[top : top + rows, left : left + one.shape[1]] = one[:rows]
            boxes.append((left, top, left + one.shape[1], top + rows))
            left += one.shape[1]
        if is_training and self.noise:
            line += self.noise * rng.standard_normal(line.shape, np.float32)
        text = "".join(map(str, digits.labels[chosen]))
        return Line(np.clip(line, 0, 1), text, boxes=np.array(boxes, np.float64))


def _drawn(scan: "Image.Image", height: float, slant: float) -> NDArray[np.float32]:
    """Return an enlarged scan with another height, slanted, as ink (height, width)."""
    from PIL import Image

    scale = scan.height / height  # pixels of the scan for one of the line
    rows = max(1, round(height))
    width = max(1, round(scan.width / scale + abs(slant) * rows))
    shear = slant * scale  # the middle row stays in the middle
    first = scan.width / 2 - scale * width / 2 - shear * rows / 2
    matrix = (scale, shear, first, 0.0, scale, 0.0)
    moved = scan.transform((width, rows), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return np.asarray(moved, np.float32) / np.float32(255)


def _num_digits(pass_: Pass, num: int, most: int) -> NDArray[np.int64]:
    """Return the number of digits of each line of a pass."""
    return (pass_.draws(np.arange(num)) % np.uint64(most)).astype(np.int64) + 1


@functools.cache
def _digits() -> _Digits:
    """Return all scans, in a fixed random order, enlarged."""
    from PIL import Image
    from sklearn.datasets import load_digits  # takes a second, and is not used elsewhere

    scans = load_digits()
    order = np.random.default_rng(0).permutation(len(scans.images))
    images = []
    for scan in np.rint(scans.images[order] * (255 / 16)).astype(np.uint8):
        columns = np.flatnonzero(scan.any(axis=0))
        inked = Image.fromarray(np.ascontiguousarray(scan[:, columns[0] : columns[-1] + 1]))
        size = (inked.width * _ENLARGED, inked.height * _ENLARGED)
        images.append(inked.resize(size, Image.Resampling.BICUBIC))
    return _Digits(images, scans.target[order].astype(np.int64))
