"""Base class of reasoning tasks: sets of objects, or graphs, with exact answers.

Each sample is a pure function of (data_seed, split, index), so that a training set of 500 samples
is the beginning of one of 60,000. Samples are drawn in blocks of 1,000, and drawn again until each
index has one of its class (such as: a path of five edges). A hash of its objects, in any order,
decides to which split a set may belong, so that no two splits share one. The hash of a graph
depends on the numbers of its nodes: the same graph, numbered otherwise, may be in another split.
"""

import abc
import functools
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core.hashing import mix64
from tasks.core.settings import ConfigError, setting
from tasks.core.task import (
    SPLITS,
    BatchRequest,
    Row,
    SetTargets,
    SetToTarget,
    Split,
    Task,
)

# Integers of samples as arrays (num, objects) or (num, objects, numbers).
Sample = tuple[NDArray[np.int64], ...]
Target = Literal["label", "number"]
# Of the names of settings, and a split for which they hold.
PREFIXES: tuple[tuple[str, Split], ...] = (("", "train"), ("test_", "test"))
LARGEST = 10.0  # what inputs to a network are scaled to: the largest in training
_BLOCK = 1000  # samples
_NUM_SHARES = 4  # of all samples, by their hash
_MAX_IDLE = 200  # draws in a row without a sample that was required
_MAX_SHOWN = 60  # characters of an input that an error message repeats


class Draws(NamedTuple):
    """Samples drawn at random, with their right answers (num,) and classes (num,), -1 for none."""

    sample: Sample
    answers: NDArray[np.int64]
    classes: NDArray[np.int64]


@attrs.frozen(kw_only=True)
class SetTask(Task):
    """Base class of tasks whose input is a set of objects or a graph, drawn at random."""

    num_train: int = setting(50_000, "training samples: the first ones of any larger number", ge=1)
    num_validation: int = setting(4_000, "validation samples", ge=1)
    num_test: int = setting(4_000, "test samples", ge=1)
    data_seed: int = setting(0, "random seed of the samples", ge=0)

    @property
    @abc.abstractmethod
    def spec(self) -> SetToTarget:
        """Features of an object, labels, and objects of the largest set."""

    @property
    def scale(self) -> float:
        """What a number as a target is divided by, so that it is about 1."""
        return 1.0

    @property
    def num_drawn(self) -> int:
        """Samples that are drawn at once; more where few are of a class that is required."""
        return 1_000

    @abc.abstractmethod
    def draw_samples(self, rng: np.random.Generator, num: int, split: Split) -> Draws:
        """Draw samples, and class them by `class_names`."""

    @abc.abstractmethod
    def answers(self, sample: Sample) -> NDArray[np.int64]:
        """Return the right answers (num,) of samples: codes of labels, or numbers."""

    @abc.abstractmethod
    def arrays(self, sample: Sample) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]:
        """Return objects (num, n, features), mask (num, n) and edges (num, n, n) or None."""

    @abc.abstractmethod
    def read(self, text: str) -> Sample:
        """Return one sample from its text.

        Raises:
            ValueError: what is wrong, and what is accepted.
        """

    @abc.abstractmethod
    def questions(self, batch: SetTargets) -> list[tuple[str, str]]:
        """Return each sample as the text that `read` reads, and abbreviated."""

    def class_names(self, split: Split) -> Sequence[str]:
        """Return the names of the classes; a split has equally many samples of each."""
        return ("a sample",)

    @property
    def monitor(self) -> tuple[str, Literal["max", "min"]]:
        """Accuracy of labels; of numbers the share that is exact after rounding."""
        return ("exact" if self.spec.labels is None else "accuracy"), "max"

    def setting_in(self, name: str, split: Split) -> Any:
        """Return a setting as it is in a split: that of `test_…` in the test split, if not None."""
        own = getattr(self, f"test_{name}") if split == "test" else None
        return getattr(self, name) if own is None else own

    def largest(self, name: str) -> int:
        """Return the largest value that a setting has in any split."""
        return int(max(self.setting_in(name, split) for split in SPLITS))

    def num_samples_in(self, split: Split) -> int:
        """Return the number of samples in a split."""
        return {"train": self.num_train, "validation": self.num_validation}.get(
            split, self.num_test
        )

    def iter_batches(self, request: BatchRequest) -> Iterator[SetTargets]:
        """Yield the batches of one epoch: all samples of the split, in another order each time."""
        total = self.num_samples_in(request.split)
        sample, right = _samples(self, request.split)
        seeds = (request.seed, request.epoch, SPLITS.index(request.split))
        order = np.random.default_rng(seeds).permutation(total)
        for part in request.slices(total):
            chosen = tuple(array[order[part]] for array in sample)
            yield self.batch_of(chosen, right[order[part]])

    def batch_of(self, sample: Sample, right: NDArray[np.int64] | None = None) -> SetTargets:
        """Return samples as a batch, with these right answers (num,); None: they are computed."""
        objects, mask, edges = self.arrays(sample)
        right = (self.answers(sample) if right is None else right)[:, None]
        target = right if self.spec.labels else np.asarray(right / self.scale, np.float32)
        return SetTargets(objects, target, mask, edges)

    def encode(self, x: Sequence[str]) -> SetTargets:
        """Encode texts as a batch, padded, with their right answers."""
        batches = []
        for text in x:
            if not isinstance(text, str):
                raise ConfigError(f"input {text!r}", "", "is not a text", "text")
            try:
                batches.append(self._read_batch(text))
            except ValueError as error:
                shown = text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."
                raise ConfigError(f"input {shown!r}", "", *error.args) from None
        return _stacked(batches)

    def _read_batch(self, text: str) -> SetTargets:
        """Return the batch of one text; a ValueError if its right answer has no label."""
        sample, labels = self.read(text), self.spec.labels
        right = self.answers(sample)
        if labels and right[0] >= len(labels):
            accepted = f"a text whose answer is a label: at most {labels[-1]}"
            raise ValueError(f"the right answer is {right[0]}", accepted)
        return self.batch_of(sample, right)

    def decode(self, answers: NDArray[Any]) -> list[str]:
        """Return answers (batch, 1) as names of labels, or as rounded numbers."""
        labels = self.spec.labels
        if labels is None:
            return [str(number) for number in self._rounded(answers)[:, 0].tolist()]
        return [labels[int(code)] for code in answers[:, 0]]

    def score(self, answers: NDArray[Any], targets: SetTargets) -> dict[str, float]:
        """Return `accuracy` of labels; of numbers `exact` and `mape`.

        exact: the share that is right after rounding. mape: the mean absolute percentage error, in
        percent of the right number, or of 1 where that is 0.
        """
        if self.spec.labels is not None:
            return {"accuracy": float((answers == targets.target).mean())}
        right = np.asarray(targets.target, np.float64) * self.scale
        error = np.abs(np.asarray(answers, np.float64) * self.scale - right)
        return {
            "exact": float((self._rounded(answers) == self._rounded(targets.target)).mean()),
            "mape": float(100 * (error / np.maximum(np.abs(right), 1)).mean()),
        }

    def rows(self, answers: NDArray[Any], targets: SetTargets) -> list[Row]:
        """Return question, answer, right answer and abbreviated question of each sample."""
        texts = self.questions(targets)
        said, right = self.decode(answers), self.decode(targets.target)
        columns = zip(texts, said, right, strict=True)
        return [Row(text, a, b, a == b, short) for (text, short), a, b in columns]

    def _rounded(self, numbers: NDArray[Any]) -> NDArray[np.int64]:
        return np.rint(np.asarray(numbers, np.float64) * self.scale).astype(np.int64)


def whole_numbers(array: NDArray[Any], scale: float = 1.0) -> NDArray[np.int64]:
    """Return the whole numbers that inputs to a network were before they were divided."""
    return np.rint(np.asarray(array, np.float64) * scale).astype(np.int64)


def integer(text: str, what: str, low: int, high: int) -> int:
    """Return an integer of a text that a person wrote.

    Raises:
        ValueError: (problem, accepted) it is none, or not within `low` to `high`.
    """
    try:
        number = int(text)
    except ValueError:
        raise ValueError(f"{what} {text!r} is not an integer", f"{low} to {high}") from None
    if not low <= number <= high:
        raise ValueError(f"{what} {number} is out of range", f"{low} to {high}")
    return number


def check_size(num: int, low: int, high: int, what: str) -> None:
    """Raise a ValueError (problem, accepted) if a set has too few or too many objects."""
    if not low <= num <= high:
        problem = "the set is empty" if num == 0 else f"{num} {what}"
        raise ValueError(problem, f"{low} to {high} {what}")


def fingerprint(sample: Sample) -> NDArray[np.uint64]:
    """Return a hash of each sample (num,), which is the same in whatever order its objects are.

    Zeros do not count, so that a padded sample has the same.
    """
    total = np.zeros(len(sample[0]), np.uint64)
    for array in sample:
        objects = array[..., None] if array.ndim == 2 else array
        state = np.zeros(objects.shape[:2], np.uint64)
        for place, column in enumerate(np.moveaxis(objects, -1, 0)):
            word = column.astype(np.uint64) ^ np.uint64((place + 1) << 32)
            state = np.where(column == 0, state, mix64(state ^ word))
        total = mix64(total ^ state.sum(axis=1, dtype=np.uint64))
    return total


@functools.lru_cache(maxsize=6)
def _samples(task: SetTask, split: Split) -> tuple[Sample, NDArray[np.int64]]:
    """Return all samples of a split, and their right answers."""
    num = task.num_samples_in(split)
    blocks = [_block(task, split, number) for number in range(-(-num // _BLOCK))]
    *sample, right = (np.concatenate(arrays)[:num] for arrays in zip(*blocks, strict=True))
    return tuple(sample), right


def _block(task: SetTask, split: Split, number: int) -> tuple[NDArray[np.int64], ...]:
    """Return the arrays of a block of samples, and last their right answers.

    Sample i is of class i modulo the number of classes.
    """
    rng = np.random.default_rng([task.data_seed, SPLITS.index(split), number])
    block: tuple[NDArray[np.int64], ...] = ()
    names = task.class_names(split)
    missing = np.arange(_BLOCK) % len(names)
    is_open, num_idle, num = np.ones(_BLOCK, bool), np.zeros(len(names), int), task.num_drawn
    while is_open.any():
        draws = task.draw_samples(rng, num, split)
        drawn = (*draws.sample, draws.answers)
        block = block or tuple(np.empty((_BLOCK, *a.shape[1:]), a.dtype) for a in drawn)
        for code in range(len(names)):
            free = np.flatnonzero(is_open & (missing == code))
            found = np.flatnonzero(draws.classes == code)[: _NUM_SHARES * len(free)]
            is_own = _may_be_in(split, tuple(array[found] for array in draws.sample))
            own = found[is_own][: len(free)]
            places = free[: len(own)]
            for array, values in zip(block, drawn, strict=True):
                array[places] = values[own]
            is_open[places] = False
            num_idle[code] = num_idle[code] + 1 if len(free) > 0 and len(own) == 0 else 0
        if num_idle.max() == _MAX_IDLE:
            left = names[int(num_idle.argmax())]
            problem = f"{left} was not among {_MAX_IDLE * num:,} random samples for {split}"
            raise ConfigError(task.name, "", problem, "settings with which it is more frequent")
    return block


def _may_be_in(split: Split, sample: Sample) -> NDArray[np.bool_]:
    """Tell which samples (num,) may be in a split: half of all in training, else a quarter."""
    share = fingerprint(sample) % np.uint64(_NUM_SHARES)
    return np.asarray({"validation": share == 2, "test": share == 3}.get(split, share < 2))


def _stacked(batches: Sequence[SetTargets]) -> SetTargets:
    """Return batches as one, with as many places as the largest."""
    size = max(batch.mask.shape[1] for batch in batches)

    def padded(array: NDArray[Any], *axes: int) -> NDArray[Any]:
        more = size - array.shape[1]
        return np.pad(array, [(0, more if axis in axes else 0) for axis in range(array.ndim)])

    has_edges = batches[0].edges is not None
    return SetTargets(
        np.concatenate([padded(batch.objects, 1) for batch in batches]),
        np.concatenate([batch.target for batch in batches]),
        np.concatenate([padded(batch.mask, 1) for batch in batches]),
        np.concatenate([padded(batch.edges, 1, 2) for batch in batches]) if has_edges else None,
    )
