"""Evidence of a run: its history, its settings, and the results of short trials."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import attrs
import numpy as np
from numpy.typing import NDArray

from visualization.core.records import brief_repr

FEWEST_RECORDS = 8  # of the training loss: below, nothing can be said of a course
_FEWEST_EVALUATIONS = 2
_FEWEST_STEPS = 50  # of a trial: a shorter one says nothing of a course
_MARGIN = 0.03  # share of the chance loss, or of a score: what is nearer to a guess is no better
_STUCK_PROGRESS = 0.02  # of the chance loss: less progress over a quarter of the run is none
_HALF = 0.5  # share of the chance loss that is gone half-way
LEARNED = 0.9  # share of the chance loss that is gone: nothing to complain of
MORE = 0.15  # of the chance loss: a trial that learns as much more is better
WRITES_NOTHING = 0.9  # share of empty answers from which on only blanks are written
LONGEST_PLATEAU = 2000  # steps of blanks only: more are suspicious
BASELINE = "as it is"  # the trial with no setting changed
Array = NDArray[np.float64]
# Stuck: it has not learned, and makes no progress either.
Condition = Literal["stuck", "learned", "learning", "unknown"]


@attrs.frozen
class Trial:
    """Trial: a short training of a fresh model.

    Attributes:
        losses: of each step, in training; shorter than planned where it diverged.
        final: loss after the last step, without dropout; infinite where it diverged.
        chance: loss of the best constant answer to the same samples.
        stage: of a task learned in stages of growing difficulty, that of the last step.
        num_stages: that it goes through; 1 where it is learned at one.
    """

    losses: tuple[float, ...]
    final: float
    chance: float
    stage: int = 0
    num_stages: int = 1

    @property
    def learned(self) -> float:
        """The share of the chance loss that is gone: 1 all, 0 none; never below 0.

        Of several stages the share that is behind it, and of the one reached that of its loss.
        """
        return (self.stage + learned(self.final, self.chance)) / max(1, self.num_stages)

    @property
    def is_falling(self) -> bool:
        """Whether the loss of the last quarter is clearly below that of the second.

        A loss more than twice the chance loss does not count as falling.
        """
        return self.final < 2 * self.chance and falls(np.array(self.losses), self.chance)

    @property
    def condition(self) -> Condition:
        """What the trial says of learning; nothing if it is very short."""
        if not math.isfinite(self.final):
            return "stuck"
        if self.learned >= LEARNED:
            return "learned"
        if len(self.losses) < _FEWEST_STEPS:
            return "unknown"
        return "learning" if self.stage or self.is_falling else "stuck"


@attrs.frozen(kw_only=True, field_transformer=brief_repr)
class RateTest:
    """Learning-rate range test: the rate rises at every step (Smith 2015, 1506.01186).

    Attributes:
        losses: after each step; of the same samples where trials of an agent made the test.
        smoothed: losses averaged over neighbouring steps.
        suggestion: the rate at which the smoothed loss falls most steeply; None: it never falls.
        best: the lowest rate at which the smoothed loss is about as low as at any.
        diverged_at: the rate at which the loss was four times its first level, or no number; None:
            never.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float | None
    best: float
    diverged_at: float | None


@attrs.frozen
class Leak:
    """Data leakage: validation questions that are also in the training data that was looked at."""

    shared: int
    questions: int
    trained: int  # different training questions that were looked at
    is_all: bool = False  # these are all the questions there are: none is left to withhold


@attrs.frozen(kw_only=True)
class RunEvidence:
    """Evidence of a run. A trial that is None, or not in its mapping, was not made.

    Attributes:
        title: the agent, the task and the step.
        records: the history: flat maps of tags such as `train/loss` to numbers, with `step`.
        settings: of the agent, `learning_rate`, `clip_norm`, `steps` and `eval_samples` at least,
            and of its task as `task.<name>`; `eval_samples` is the number of validation samples
            that there really are, `asked_samples` what was asked for, `num_stages` the task's.
        monitor: the score that counts, and whether more or less of it is better.
        diverged: whether the run ended because a loss or gradient was no longer a finite number.
        one_batch: the same batch at every step.
        synthetic: a task of the same shapes that any working model learns.
        rates: the learning-rate range test.
        lengths: steps of a sequence → trial on the task with sequences of that length.
        sizes: setting, such as `hidden_size=32` or the suggested `learning_rate=0.003` → trial
            with it; `as it is` → with none changed.
        leak: validation questions that are training questions too.
        shortened: what was made shorter than usual, and why; "": nothing.
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
    shortened: str = ""

    def series(self, tag: str) -> tuple[Array, Array]:
        """Return the steps at which a tag was recorded as a finite number, and these numbers."""
        steps, values = self._columns.get(tag, ([], []))
        return np.array(steps, np.float64), np.array(values, np.float64)

    def tags(self, prefix: str) -> list[str]:
        """Return the tags that begin so and have a series, in the order of their appearance."""
        columns = self._columns.items()
        return [tag for tag, (steps, _) in columns if steps and tag.startswith(prefix)]

    @functools.cached_property
    def _columns(self) -> dict[str, tuple[list[float], list[float]]]:
        """Steps and values of each tag, of one pass over all records."""
        columns: dict[str, tuple[list[float], list[float]]] = {}
        for record in self.records:
            step = record.get("step", math.nan)
            for tag, value in record.items():
                steps, values = columns.setdefault(tag, ([], []))
                if math.isfinite(step) and math.isfinite(value):
                    steps.append(step)
                    values.append(value)
        return columns

    def last(self, tag: str) -> float | None:
        """Return the last finite value of a tag; None: never recorded."""
        _, values = self.series(tag)
        return float(values[-1]) if len(values) else None

    def why_missing(self, what: str) -> str:
        """Return the words for what was not recorded, with the reason for it."""
        if self.diverged:
            return f"{what}: the run ended before in numbers that are not finite"
        if not self.settings.get("record_diagnostics", True):
            return f"{what}: the run had record_diagnostics=false"
        steps = self.steps_to_take
        enough = f"; {steps:,} steps are enough" if steps else ""
        return f"{what}: the run is too short{enough}"

    @property
    def steps_to_take(self) -> int:
        """The steps after which enough is recorded; 0: it has taken as many, or it is unknown."""
        records = FEWEST_RECORDS * (self.settings.get("log_every") or 0)
        evaluations = _FEWEST_EVALUATIONS * (self.settings.get("eval_every") or 0)
        needed = max(records, evaluations)
        return needed if needed > self.num_steps else 0

    @property
    def rate(self) -> float:
        """The learning rate of the run."""
        return float(self.settings["learning_rate"])

    @property
    def is_known(self) -> bool:
        """Whether enough was recorded to judge the course."""
        return len(self.series("train/loss")[1]) >= FEWEST_RECORDS and self.chance is not None

    @property
    def chance(self) -> float | None:
        """The loss of the best constant answer."""
        return self.last("chance/loss")

    @property
    def fitted(self) -> float:
        """The share of the chance loss that is gone on training samples, without dropout."""
        fit, chance = self.last("fit/loss"), self.chance
        return 0.0 if fit is None or chance is None else learned(fit, chance)

    @property
    def stages(self) -> tuple[int, int]:
        """Of training in stages the one that it is in, from 0, and their number; else 0 of 1."""
        if self.settings.get("curriculum_loss_threshold") is None:
            return 0, 1
        return int(self.last("train/stage") or 0), max(1, self.settings.get("num_stages", 1))

    @property
    def at_stage(self) -> str:
        """The words for the stage that the run is in; "" for a task that is learned at once."""
        stage, num = self.stages
        return f", at stage {stage + 1} of {num}" if num > 1 else ""

    @property
    def learned(self) -> float:
        """The share that is learned, as of a trial: what is fitted, and the stages behind it."""
        stage, num = self.stages
        return (stage + self.fitted) / num

    @property
    def advanced_stage(self) -> bool:
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
        return self.advanced_stage or falls(losses, self.chance or 0.0)

    @property
    def num_steps(self) -> int:
        """The steps of the run, as far as they were recorded."""
        return int(max(self._columns.get("step", ([], []))[1], default=0))

    @property
    def is_behind(self) -> bool:
        """Whether less than half is learned, in a run that was recorded."""
        return self.is_known and self.learned < _HALF

    @property
    def is_slow(self) -> bool:
        """Whether less than half is learned, and no harder stage has begun lately."""
        return self.is_behind and not self.advanced_stage

    @property
    def writes_texts(self) -> bool:
        """Whether it answers with texts that may be empty, as readers trained by CTC do."""
        return bool(self.tags("eval/empty"))

    @property
    def is_on_blank_plateau(self) -> bool:
        """Whether only blanks are written, not for longer than that stage of learning takes."""
        is_early = self.num_steps < LONGEST_PLATEAU and not self.diverged
        return is_early and (self.last("eval/empty") or 0.0) >= WRITES_NOTHING

    @property
    def own(self) -> Trial | None:
        """The trial with no setting changed."""
        return self.sizes.get(BASELINE)

    @property
    def condition(self) -> Condition:
        """What is known of the learning.

        Where the run has too few records, the trial with no setting changed is used instead: it
        has the same settings, and the loss of each step.
        """
        if self.diverged:
            return "stuck"
        if self.learned >= LEARNED:
            return "learned"
        if self.is_known:
            is_learning = self.is_improving or self.is_on_blank_plateau
            return "learning" if is_learning else "stuck"
        if self.own is None:
            return "unknown"
        # Where the trial has learned all, the run has not yet, but it can.
        return "learning" if self.own.condition == "learned" else self.own.condition

    @property
    def is_stuck(self) -> bool:
        """Whether it has not learned (< 90 % of the chance loss gone) and no longer falls."""
        return self.condition == "stuck"

    @property
    def is_at_chance(self) -> bool | None:
        """Whether validation is answered no better than by the best constant answer; None: unknown.

        Loss or score is enough to be better.
        """
        name, direction = self.monitor
        loss, guess = self.last("eval/loss"), self.chance
        score, chance_score = self.last(f"eval/{name}"), self.last(f"chance/{name}")
        if loss is None or guess is None or score is None or chance_score is None:
            return None
        if loss < (1 - _MARGIN) * guess:
            return False
        if direction == "min":
            return score >= (1 - _MARGIN) * chance_score
        error = sampling_error(chance_score, int(self.settings["eval_samples"]))
        return score - chance_score <= max(_MARGIN, 3 * error)


def learned(loss: float, chance: float) -> float:
    """Return the share of the chance loss that is gone, from 0 to 1; 0 for a loss that is none."""
    if not math.isfinite(loss) or chance <= 0:
        return 0.0
    return max(0.0, 1 - loss / chance)


def learns_more(run: RunEvidence, other: Trial) -> bool:
    """Tell whether a trial learned clearly more than the one without its change."""
    return run.own is not None and other.learned - run.own.learned > MORE


def is_better(run: RunEvidence, other: Trial) -> bool:
    """Tell whether a trial learned clearly more than the one without its change, and that counts.

    A run that makes progress is surpassed only if the trial got clearly further than it in no more
    steps, and the run has not come half of the way, or is at chance where the trial has learned.
    """
    is_late = run.is_slow or (bool(run.is_at_chance) and other.learned >= LEARNED)
    return learns_more(run, other) and (run.is_stuck or (is_late and gets_further(run, other)))


def gets_further(run: RunEvidence, other: Trial) -> bool:
    """Tell whether a trial learned clearly more than the run, in no more steps."""
    return other.learned - run.learned > MORE and len(other.losses) <= run.num_steps


def falls(losses: Array, chance: float) -> bool:
    """Tell whether the last quarter lies below the second, by more than scatter explains."""
    if len(losses) < FEWEST_RECORDS:
        return False
    before, late = quarter(losses, 1), quarter(losses, 3)
    # While the loss falls steeply its fall is not scatter: only what lies beside a line is.
    steps = np.arange(len(before))
    calm = before - np.polyval(np.polyfit(steps, before, 1), steps) if len(before) > 3 else late
    error = 3 * math.hypot(standard_error(calm), standard_error(late))
    return float(np.median(before) - np.median(late)) > max(_STUCK_PROGRESS * chance, error)


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
    p = (min(1.0, max(0.0, share)) * num + 1) / (num + 2)
    return math.sqrt(p * (1 - p) / max(1, num))
