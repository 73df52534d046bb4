"""Adding problem: what is the sum of the two marked numbers of a long series?

Hochreiter and Schmidhuber 1997 posed it; this is the form of Le et al. 2015 (1504.00941, section
4.1). A series has T steps of two channels: a number, uniform in [0, 1), and a mark that is 1 at
exactly two steps and 0 elsewhere. The constant answer 1, the mean, has a squared error of 1/6; a
lower one requires that both numbers are remembered, over up to T steps.

A curriculum trains on series of growing length, up to the full length; without it all are of the
full length. Splits never overlap: each has a random generator of its own, seeded with its name, or,
of a fixed set, its own samples.

>>> from tasks.adding_problem import AddingProblem
>>> task = AddingProblem(length=4)
>>> batch = task.encode(["0.25 0.5* 0.125 0.75*"])  # a star marks a number
>>> batch.series.tolist()
[[[0.25, 0.0], [0.5, 1.0], [0.125, 0.0], [0.75, 1.0]]]
>>> task.decode(batch.number)
['1.2500']
>>> [row.question for row in task.rows(batch.number, batch)]
['0.2500 0.5000* 0.1250 0.7500*']
"""

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core.hashing import splitmix64
from tasks.core.settings import ConfigError, setting
from tasks.core.task import (
    EPOCH_SAMPLES,
    BatchRequest,
    ProbeTargets,
    Row,
    SeriesNumbers,
    SeriesToNumber,
    Split,
    Task,
    doubling_lengths,
)

TOLERANCE = (
    0.04  # an answer with a smaller error is right (Hochreiter and Schmidhuber 1997, section 5.4)
)
_SHORTEST = 2  # steps: there are two marks
_FIRST_STAGE = 10  # steps
_DISPLAY_LENGTH = 30  # steps
_ACCEPTED_TEXT = "numbers from 0 to 1 with a star behind two of them, such as 0.25 0.5* 0.125 0.75*"
_ACCEPTED_ARRAY = (
    f"numbers from 0 to 1 and marks 0 or 1, of shape (steps, 2), {_SHORTEST} steps or more"
)

Uniforms = NDArray[np.float32]


@attrs.frozen(kw_only=True)
class AddingProblem(Task):
    """Adding problem: the sum of the two marked numbers of a series."""

    length: int = setting(150, "number of steps of a series", ge=_SHORTEST, le=100_000)
    num_samples: int = setting(
        0, "different series for training and validation; 0: new ones at every step", ge=0
    )
    validation: float = setting(0.1, "share of a fixed set withheld for validation", gt=0.0, le=0.5)
    data_seed: int = setting(0, "random seed of the series", ge=0)

    def __attrs_post_init__(self) -> None:
        """Check that a fixed set is large enough for a validation split."""
        fewest = math.ceil(1 / self.validation)
        if 0 < self.num_samples < fewest:
            problem = f"{self.num_samples} series are too few to withhold {self.validation} of"
            raise ConfigError("task", "num_samples", problem, f"0, or an integer ≥ {fewest}")

    @property
    def name(self) -> str:
        """The registered name."""
        return "adding_problem"

    @property
    def spec(self) -> SeriesToNumber:
        """Two channels: number and mark."""
        return SeriesToNumber(num_channels=2)

    @property
    def monitor(self) -> tuple[str, Literal["max", "min"]]:
        """Mean squared error."""
        return "mse", "min"

    @property
    def lengths(self) -> tuple[int, ...]:
        """Longest series of each curriculum stage: from 10, doubled, to `length`."""
        return doubling_lengths(_FIRST_STAGE, self.length)

    @property
    def num_stages(self) -> int:
        """One for each length."""
        return len(self.lengths)

    def for_display(self) -> "AddingProblem":
        """Return the task with series of at most 30 steps, which can be displayed."""
        return attrs.evolve(self, length=min(self.length, _DISPLAY_LENGTH))

    def num_samples_in(self, split: Split) -> int:
        """Return the number of samples per pass; 50,000 if every sample is new."""
        withheld = round(self.num_samples * self.validation)
        fixed = {"train": self.num_samples - withheld, "validation": withheld}
        return fixed.get(split, 0) or EPOCH_SAMPLES

    def iter_batches(self, request: BatchRequest) -> Iterator[SeriesNumbers]:
        """Yield the batches of one epoch; see `Task.batches`.

        All series of a batch have the same length. In the last stage and in the other splits it is
        `length`; in an earlier stage it is random, greater than in the stage before, and at most
        the stage's own. The shorter series of a fixed set are the beginnings of its series, with
        marks of their own.
        """
        split, stage = request.split, request.stage
        at = self.num_stages - 1 if stage is None or split != "train" else stage
        shortest = self.lengths[at - 1] + 1 if at else _SHORTEST
        is_last = at == self.num_stages - 1
        total = self.num_samples_in(split)
        seeds = (self.data_seed, request.seed, request.epoch)
        for part in request.slices(total):
            rng = np.random.default_rng([*seeds, part.start, at, *map(ord, split)])
            random_length = int(rng.integers(shortest, self.lengths[at] + 1))
            length = self.length if is_last else random_length
            if self._is_fixed(split):
                order = _order(total, (*seeds, *map(ord, split)))
                yield self._fixed(split, order[part], length)
            else:
                num = part.stop - part.start
                yield _series(rng.random((num, length + 2), np.float32))

    def samples(self, split: Split, num: int, seed: int = 0) -> SeriesNumbers:
        """Return at most `num` series of `length` steps, fewer if a fixed set has fewer.

        Another seed gives other series, except for a fixed set.
        """
        if self._is_fixed(split):
            indices = np.arange(min(num, self.num_samples_in(split)))
            return self._fixed(split, indices, self.length)
        rng = np.random.default_rng([self.data_seed, seed, *map(ord, split)])
        return _series(rng.random((num, self.length + 2), np.float32))

    def encode(self, x: Sequence[Any]) -> SeriesNumbers:
        """Encode series as a batch with their right sums.

        Each is a text such as `"0.25 0.5* 0.125 0.75*"`, or an array (steps, 2) of numbers and
        marks. Shorter ones are padded in front with unmarked zeros, which do not change the sum.
        """
        parsed = [_parse(one) if isinstance(one, str) else _check_array(one) for one in x]
        longest = max(map(len, parsed))
        series = np.stack([np.pad(one, ((longest - len(one), 0), (0, 0))) for one in parsed])
        return _with_sums(series)

    def decode(self, answers: NDArray[Any]) -> list[str]:
        """Return answers (batch, 1) as text with four decimals."""
        return [f"{number:.4f}" for number in answers[:, 0].tolist()]

    def score(self, answers: NDArray[Any], targets: SeriesNumbers) -> dict[str, float]:
        """Return `mse`, the mean squared error, and `within_0.04`, the share nearer than that."""
        error = answers.astype(np.float64) - targets.number
        return {
            "mse": float((error**2).mean()),
            f"within_{TOLERANCE}": float((np.abs(error) < TOLERANCE).mean()),
        }

    def rows(self, answers: NDArray[Any], targets: SeriesNumbers) -> list[Row]:
        """Return series, with numbers rounded to four decimals, answer and right sum.

        The short question consists of the two marked numbers.
        """
        questions = _write(targets.series)
        columns = zip(
            questions, self.decode(answers), self.decode(targets.number),
            (np.abs(answers - targets.number) < TOLERANCE)[:, 0].tolist(),
            map(_marked_sum, questions),
            strict=True,
        )  # fmt: skip
        return [Row(*column) for column in columns]

    def probe_targets(self, batch: SeriesNumbers) -> ProbeTargets:
        """Return probe targets: value, mark, number and sum of the marked ones so far, position."""
        value, mark = batch.series[..., 0].astype(np.float64), batch.series[..., 1]
        marked = mark.astype(np.int64)
        encoder = {
            "value": value,
            "marked": marked,
            "marked so far": marked.cumsum(axis=1),
            "sum so far": (value * marked).cumsum(axis=1),
            "position": np.broadcast_to(np.arange(value.shape[1], dtype=np.float64), value.shape),
        }
        return ProbeTargets(encoder, {}, position_keys=("position", ""))

    def _is_fixed(self, split: Split) -> bool:
        return self.num_samples > 0 and split != "test"

    def _fixed(self, split: Split, indices: NDArray[np.int64], length: int) -> SeriesNumbers:
        """Return the beginnings of some series of a fixed set, which is never stored as a whole.

        Only the numbers of the batch are computed: each is a hash of its index.
        """
        first = 0 if split == "train" else self.num_samples_in("train")
        places = np.r_[
            np.arange(length), self.length, self.length + 1
        ]  # the last two place the marks
        draws = (indices + first)[:, None] * (self.length + 2) + places
        key = int(np.random.SeedSequence(self.data_seed).generate_state(1, np.uint64)[0])
        return _series(np.asarray((splitmix64(key, draws) >> np.uint64(40)) * 2.0**-24, np.float32))


@functools.lru_cache(maxsize=2)
def _order(num: int, key: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the random order of the samples of a fixed set in an epoch."""
    return np.random.default_rng(key).permutation(num)


def _series(uniforms: Uniforms) -> SeriesNumbers:
    """Return series of T steps from T + 2 numbers in [0, 1): the last two place the marks."""
    num, length = len(uniforms), uniforms.shape[1] - 2
    series = np.zeros((num, length, 2), np.float32)
    series[..., 0] = uniforms[:, :length]
    steps = uniforms[:, length:].astype(np.float64) * (length, length - 1)
    first, beyond = steps.astype(np.int64).T
    second = (first + 1 + beyond) % length  # any step but the first
    series[np.arange(num), first, 1] = series[np.arange(num), second, 1] = 1.0
    return _with_sums(series)


def _with_sums(series: NDArray[np.float32]) -> SeriesNumbers:
    number = (series[..., 0] * series[..., 1]).sum(axis=1, keepdims=True, dtype=np.float64)
    return SeriesNumbers(series, number.astype(np.float32))


@functools.cache
def _number_texts() -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    """Return every number of four decimals from 0 to 1 as text, without and with a star."""
    words = np.array([f"{number / 10_000:.4f}" for number in range(10_001)])
    return words, np.char.add(words, "*")


def _write(series: NDArray[np.float32]) -> list[str]:
    words, starred = _number_texts()
    number = np.rint(series[..., 0].astype(np.float64) * 10_000).astype(np.int64)
    texts = np.where(series[..., 1] > 0, starred[number], words[number])
    return [" ".join(row) for row in texts.tolist()]


def _marked_sum(question: str) -> str:
    """Return the two marked numbers of a series as a sum."""
    return " + ".join(word.rstrip("*") for word in question.split() if word.endswith("*"))


def _parse(text: str) -> NDArray[np.float32]:
    """Parse a series: return numbers and marks (steps, 2)."""
    place = f"input {text if len(text) <= 60 else text[:57] + '...'!r}"
    tokens = text.split()
    numbers = []
    for token in tokens:
        try:
            numbers.append(float(token.removesuffix("*")))
        except ValueError:
            raise ConfigError(place, "", f"{token!r} is not a number", _ACCEPTED_TEXT) from None
        if not 0 <= numbers[-1] <= 1:
            raise ConfigError(place, "", f"{token!r} is out of range", _ACCEPTED_TEXT)
    if len(tokens) < _SHORTEST:
        raise ConfigError(place, "", f"{len(tokens)} numbers", _ACCEPTED_TEXT)
    stars = [token.endswith("*") for token in tokens]
    if sum(stars) != 2:
        raise ConfigError(place, "", f"{sum(stars)} numbers have a star", _ACCEPTED_TEXT)
    return np.array([numbers, stars], np.float32).T


def _check_array(value: Any) -> NDArray[np.float32]:
    """Check that an array (steps, 2) has valid numbers and marks; return it as float32."""
    place = "input array"
    try:
        series = np.asarray(value, np.float64)
    except (TypeError, ValueError, RuntimeError):  # the last of a tensor with a gradient
        problem = f"a value of type {type(value).__name__} contains something that is not a number"
        raise ConfigError(place, "", problem, _ACCEPTED_ARRAY) from None
    if series.ndim != 2 or series.shape[1] != 2 or len(series) < _SHORTEST:
        raise ConfigError(place, "", f"shape {series.shape} is not accepted", _ACCEPTED_ARRAY)
    invalid = series[:, 0][~((series[:, 0] >= 0) & (series[:, 0] <= 1))]
    if len(invalid):
        raise ConfigError(place, "", f"the number {invalid[0]:g} is out of range", _ACCEPTED_ARRAY)
    invalid = series[:, 1][~np.isin(series[:, 1], (0, 1))]
    if len(invalid):
        raise ConfigError(place, "", f"the mark {invalid[0]:g} is out of range", _ACCEPTED_ARRAY)
    if series[:, 1].sum() != 2:
        problem = f"{series[:, 1].sum():g} numbers are marked"
        raise ConfigError(place, "", problem, f"two marks; {_ACCEPTED_ARRAY}")
    return series.astype(np.float32)
