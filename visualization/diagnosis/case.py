"""What the doctor knows of a run: what it recorded, its settings, and what short trials gave."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import attrs
import numpy as np
from numpy.typing import NDArray

FEWEST_RECORDS = 8  # of the training loss: below, nothing can be said of a course
_STUCK = 0.02  # of the chance loss: less progress over a quarter of the run is none
_HALF = 0.5  # share of the chance loss that is gone half-way
_LEARNED = 0.9  # share of the chance loss that is gone: nothing to complain of
_MORE = 0.15  # of the chance loss: a trial that learns as much more is better
AS_IS = "as it is"  # the trial with no setting changed
Array = NDArray[np.float64]


@attrs.frozen
class Trial:
    """A short training of a fresh model.

    Attributes:
        losses: of each step, in training; shorter than planned where it diverged.
        final: loss after the last step, without dropout; infinite where it diverged.
        chance: loss of the best constant answer to the same samples.
    """

    losses: tuple[float, ...]
    final: float
    chance: float

    @property
    def learned(self) -> float:
        """The share of the chance loss that is gone: 1 all, 0 none; never below 0."""
        return learned(self.final, self.chance)

    @property
    def is_falling(self) -> bool:
        """Whether the loss of the last quarter is clearly below that of the second."""
        return falls(np.array(self.losses), self.chance)


@attrs.frozen
class RateTest:
    """A short training in which the learning rate rises at every step (Smith 2015, 1506.01186).

    Attributes:
        smoothed: losses averaged over neighbouring steps.
        suggestion: the rate at which the smoothed loss falls most steeply; None: it never falls.
        best: the rate at which the smoothed loss is lowest.
        diverged_at: the rate at which the loss was four times its best, or no number; None: never.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float | None
    best: float
    diverged_at: float | None


@attrs.frozen
class Leak:
    """How many of the validation questions also stand in the training data that was looked at."""

    shared: int
    questions: int
    trained: int  # training questions that were looked at


@attrs.frozen(kw_only=True)
class Case:
    """All that verdicts are drawn from. A trial that is None, or not in its mapping, was not made.

    Attributes:
        title: the agent, the task and the step.
        records: the history: flat maps of tags such as `train/loss` to numbers, with `step`.
        settings: of the agent, and of its task as `task.<name>`; `eval_samples` is the number of
            validation samples that there really are, `num_stages` the task's.
        monitor: the score that counts, and whether more or less of it is better.
        diverged: whether the run ended because a loss or gradient was no longer a finite number.
        one_batch: the same batch at every step.
        synthetic: a task of the same shapes that any working model learns.
        rates: the learning-rate range test.
        lengths: steps of a sequence → trial on the task with sequences of that length.
        sizes: setting, such as `hidden_size=32` or the suggested `learning_rate=0.003` → trial
            with it; `as it is` → with none changed.
        leak: validation questions that are training questions too.
    """

    title: str
    records: Sequence[Mapping[str, float]]
    settings: Mapping[str, Any]
    monitor: tuple[str, Literal["max", "min"]]
    diverged: bool = False
    one_batch: Trial | None = None
    synthetic: Trial | None = None
    rates: RateTest | None = None
    lengths: Mapping[int, Trial] = attrs.Factory(dict)
    sizes: Mapping[str, Trial] = attrs.Factory(dict)
    leak: Leak | None = None

    def series(self, tag: str) -> tuple[Array, Array]:
        """Return the steps at which a tag was recorded, and its values."""
        rows = [record for record in self.records if tag in record]
        steps = np.array([record["step"] for record in rows], np.float64)
        return steps, np.array([record[tag] for record in rows], np.float64)

    def tags(self, prefix: str) -> list[str]:
        """Return the recorded tags that begin so, in the order of their first appearance."""
        found = dict.fromkeys(tag for record in self.records for tag in record)
        return [tag for tag in found if tag.startswith(prefix)]

    def last(self, tag: str) -> float | None:
        """Return the last value of a tag; None: never recorded."""
        _, values = self.series(tag)
        return float(values[-1]) if len(values) else None

    @property
    def is_known(self) -> bool:
        """Whether enough was recorded to speak of a course."""
        return len(self.series("train/loss")[1]) >= FEWEST_RECORDS and self.chance is not None

    @property
    def chance(self) -> float | None:
        """The loss of the best constant answer."""
        return self.last("chance/loss")

    @property
    def learned(self) -> float:
        """The share of the chance loss that is gone on training samples, without dropout."""
        fit, chance = self.last("fit/loss"), self.chance
        return 0.0 if fit is None or chance is None else learned(fit, chance)

    @property
    def climbed(self) -> bool:
        """Whether a harder stage of the task began in the second half of the run."""
        return bool((self.series("train/stage")[0] > self.halfway).any())

    @property
    def halfway(self) -> float:
        """The step in the middle of what was recorded."""
        steps, _ = self.series("train/loss")
        return float(steps[-1]) / 2 if len(steps) else 0.0

    @property
    def is_improving(self) -> bool:
        """Whether the training loss of the last quarter is clearly below that of the second."""
        _, losses = self.series("train/loss")
        return self.climbed or falls(losses, self.chance or 0.0)

    @property
    def num_steps(self) -> int:
        """The steps of the run, as far as they were recorded."""
        return int(self.records[-1]["step"]) if self.records else 0

    @property
    def is_behind(self) -> bool:
        """Whether less than half of the chance loss is gone, in a run that was recorded."""
        return self.is_known and self.learned < _HALF

    @property
    def ails(self) -> bool:
        """Whether the run has not learned, and makes no progress either."""
        if self.diverged:
            return True
        return self.is_known and self.learned < _LEARNED and not self.is_improving


def learned(loss: float, chance: float) -> float:
    """Return the share of the chance loss that is gone, from 0 to 1; 0 for a loss that is none."""
    if not math.isfinite(loss) or chance <= 0:
        return 0.0
    return max(0.0, 1 - loss / chance)


def is_better(case: Case, other: Trial) -> bool:
    """Tell whether a trial learned clearly more than the one without its change.

    A run that makes progress is surpassed only if it has not come half of the way, and the trial
    got further than it in no more steps.
    """
    own = case.sizes[AS_IS]
    further = other.learned - case.learned > _MORE and len(other.losses) <= case.num_steps
    is_surpassed = case.is_behind and further
    return (case.ails or is_surpassed) and other.learned - own.learned > _MORE


def falls(losses: Array, chance: float) -> bool:
    """Tell whether the last quarter lies below the second, by more than scatter explains."""
    if len(losses) < FEWEST_RECORDS:
        return False
    before, late = quarter(losses, 1), quarter(losses, 3)
    error = 3 * math.hypot(standard_error(before), standard_error(late))
    return float(np.median(before) - np.median(late)) > max(_STUCK * chance, error)


def quarter(values: Array, number: int) -> Array:
    """Return one quarter of a series, counted from 0; at least one value."""
    first = number * len(values) // 4
    return values[first : max(first + 1, (number + 1) * len(values) // 4)]


def standard_error(values: Array) -> float:
    """Return the standard error of a mean."""
    return float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def sampling_error(share: float, num: int) -> float:
    """Return the standard error of a share of right answers to `num` samples.

    One right and one wrong answer are added, so that it is never zero.
    """
    p = (share * num + 1) / (num + 2)
    return math.sqrt(p * (1 - p) / num)
