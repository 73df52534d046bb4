"""Strips of scanned digits: images of unequal width, and the texts that they show."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import attrs
import numpy as np
from sklearn.datasets import load_digits

from tasks.core.task import SPLITS, BatchRequest, Task

HEIGHT, MOST = 8, 3  # pixels of a strip; digits
_GAP = 2  # pixels between digits


class Strips(NamedTuple):
    """Images (batch, 1, 8, W) padded with 0 to the widest, and digits (batch, 3), padded with 0.

    A digit d has the code d + 1; 0 is the blank of CTC, and the end of a text.
    """

    image: Any
    digits: Any
    width: Any  # pixels (batch,)
    length: Any  # digits (batch,)


@attrs.frozen
class StripSizes:
    """The sizes of the task."""

    num_codes: int = 11
    most: int = MOST


@functools.cache
def scans() -> tuple[np.ndarray, np.ndarray]:
    """Return the scans (N, 8, 8) in [0, 1], and their digits."""
    found = load_digits()
    return (found.images / 16).astype(np.float32), found.target


@attrs.frozen(kw_only=True)
class DigitStrips(Task):
    """One to three digits beside each other; a scan is in strips of one split alone.

    >>> batch = DigitStrips().samples("test", 2)
    >>> batch.image.shape[1:3], batch.digits.shape
    ((1, 8), (2, 3))
    """

    monitor = ("exact", "max")
    spec = StripSizes()

    def num_samples_in(self, split: str) -> int:
        """Return how many strips one pass has."""
        return 2048 if split == "train" else 256

    def iter_batches(self, request: BatchRequest) -> Iterator[Strips]:
        """Yield the batches of a pass."""
        images, labels = scans()
        eighth = np.arange(len(images)) % 8
        own = {"test": eighth == 0, "validation": eighth == 4, "train": eighth % 4 > 0}
        pool = np.flatnonzero(own[request.split])
        key = [SPLITS.index(request.split), request.seed, request.epoch]
        rng = np.random.default_rng(key)
        num = self.num_samples_in(request.split)
        chosen, lengths = rng.choice(pool, (num, MOST)), rng.integers(1, MOST + 1, num)
        for span in request.slices(num):
            yield strips(images, labels, chosen[span], lengths[span])

    def encode(self, x: Sequence[Any]) -> Strips:
        """Encode strips of a person: arrays (8, W) of any width."""
        widths = np.array([np.shape(strip)[1] for strip in x])
        image = np.zeros((len(x), 1, HEIGHT, widths.max()), np.float32)
        for row, strip in enumerate(x):
            image[row, 0, :, : widths[row]] = strip
        return Strips(image, np.zeros((len(x), MOST), np.int64), widths, np.zeros(len(x), int))

    def targets(self, batch: Strips) -> list[np.ndarray]:
        """Return the codes of each strip, as many as it has digits."""
        return [codes[:n] for codes, n in zip(batch.digits, batch.length, strict=True)]

    def decode(self, answers: Any) -> list[str]:
        """Return texts of codes of any length."""
        return ["".join(str(int(code) - 1) for code in codes if code) for codes in answers]

    def score(self, answers: Any, targets: Strips) -> dict[str, float]:
        """Return the share of the strips that were read without a mistake."""
        pairs = zip(self.decode(answers), self.decode(self.targets(targets)), strict=True)
        return {"exact": float(np.mean([a == b for a, b in pairs]))}


def strips(
    images: np.ndarray, labels: np.ndarray, chosen: np.ndarray, lengths: np.ndarray
) -> Strips:
    """Return scans put beside each other, with as many columns as each needs."""
    widths = lengths * (8 + _GAP)
    image = np.zeros((len(chosen), 1, HEIGHT, MOST * (8 + _GAP)), np.float32)
    digits = np.zeros((len(chosen), MOST), np.int64)
    for row, (scan, length) in enumerate(zip(chosen, lengths, strict=True)):
        for place in range(length):
            left = place * (8 + _GAP)
            image[row, 0, :, left : left + 8] = images[scan[place]]
            digits[row, place] = labels[scan[place]] + 1
    return Strips(image[..., : widths.max()], digits, widths, lengths)
