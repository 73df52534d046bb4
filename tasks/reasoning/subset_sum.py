"""Subset sum: is there a subset of these numbers, not empty, whose sum is 0? NP-hard.

The answer is yes for half of the samples (Xu et al. 2020, 1905.13211, section 4.4). Sets with a
trivial solution are kept rare, as in the paper's code: with one number that is 0 a tenth of those
drawn is kept; with two numbers, or all, that sum to 0 a twentieth.

>>> from tasks.reasoning.subset_sum import SubsetSum
>>> task = SubsetSum()
>>> batch = task.encode(["5 -3 100 -102 1 90", "1 2 3 4 5 6"])
>>> task.decode(batch.target)
['yes', 'no']
>>> [round(number, 2) for number in batch.objects[0, :2, 0].tolist()]  # 200 would be 10
[0.25, -0.15]
"""

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core.settings import setting
from tasks.core.task import SetTargets, SetToTarget, Split
from tasks.reasoning.base import LARGEST, Draws, Sample, SetTask, check_size, integer, whole_numbers

_KEPT_ZERO, _KEPT_PAIR = 0.1, 0.05  # shares of samples with a trivial solution


@attrs.frozen(kw_only=True)
class SubsetSum(SetTask):
    """Subset sum: does some subset of 6 numbers from -200 to 200 sum to 0? Half yes.

    The input to a network is each number, scaled so that the largest in training is 10.
    """

    num_train: int = setting(40_000, "training samples: the first ones of any larger number", ge=1)
    num_numbers: int = setting(6, "numbers of a set", ge=2, le=16)
    max_number: int = setting(200, "largest absolute value of a number", ge=1, le=100_000)
    test_num_numbers: int | None = setting(
        None, "numbers of a set of the test split; null: as in training", ge=2, le=16
    )
    test_max_number: int | None = setting(
        None, "largest absolute value in the test split; null: as in training", ge=1, le=100_000
    )

    @property
    def spec(self) -> SetToTarget:
        """One feature, and the labels no and yes."""
        size = self.largest("num_numbers")
        return SetToTarget(1, ("no", "yes"), scales=(self.max_number,), size=size)

    def draw_samples(self, rng: np.random.Generator, num: int, split: Split) -> Draws:
        """Draw sets of numbers (num, n), classed by their labels; most trivial ones by none."""
        size, most = (self.setting_in(name, split) for name in ("num_numbers", "max_number"))
        numbers = rng.integers(-most, most + 1, (num, size), np.int64)
        sums = subset_sums(numbers)
        sizes = _members(numbers.shape[1]).sum(axis=1)
        has_zero = (numbers == 0).any(axis=1)
        is_short = (sizes == 2) | (sizes == numbers.shape[1])
        has_pair = (sums[:, is_short] == 0).any(axis=1)
        kept = np.where(has_zero, _KEPT_ZERO, np.where(has_pair, _KEPT_PAIR, 1.0))
        is_kept = rng.random(len(numbers)) < kept
        yes = (sums == 0).any(axis=1).astype(np.int64)
        return Draws((numbers,), yes, np.where(is_kept, yes, -1))

    def class_names(self, split: Split) -> Sequence[str]:
        """Return the classes in the order of the labels."""
        return "a set without a solution", "a set with a solution"

    def answers(self, sample: Sample) -> NDArray[np.int64]:
        """Return 1 for yes and 0 for no (num,)."""
        return np.asarray((subset_sums(sample[0]) == 0).any(axis=1), np.int64)

    def arrays(self, sample: Sample) -> tuple[NDArray[Any], NDArray[Any], None]:
        """Return numbers (num, n, 1) and the mask."""
        (numbers,) = sample
        objects = (numbers * (LARGEST / self.max_number)).astype(np.float32)[..., None]
        return objects, np.ones(numbers.shape, bool), None

    def read(self, text: str) -> Sample:
        """Return the set of a text such as `5 -3 100 -102 1 90`."""
        parts = text.split()
        check_size(len(parts), 1, self.spec.size, "numbers")
        most = self.largest("max_number")
        return (np.array([[integer(part, "number", -most, most) for part in parts]], np.int64),)

    def questions(self, batch: SetTargets) -> list[tuple[str, str]]:
        """Return each set as text."""
        numbers = whole_numbers(batch.objects[..., 0], self.max_number / LARGEST)
        pairs = zip(numbers, np.asarray(batch.mask), strict=True)
        texts = (" ".join(map(str, row[mask].tolist())) for row, mask in pairs)
        return [(text, text) for text in texts]


def _members(num: int) -> NDArray[np.int64]:
    """Return which numbers are in each subset (2ⁿ - 1, n), the empty one excluded."""
    return np.arange(1, 2**num)[:, None] >> np.arange(num) & 1


def subset_sums(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the sum of every subset but the empty one (num, 2ⁿ - 1) of numbers (num, n)."""
    return np.asarray(numbers @ _members(numbers.shape[1]).T)
