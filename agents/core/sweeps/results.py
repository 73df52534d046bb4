"""Results of the runs of a sweep, as their folders have them, and intervals over seeds."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from scipy.special import stdtrit

from agents.core.runs.history import History
from agents.core.runs.run_folder import RunFolder


@attrs.frozen(kw_only=True)
class Result:
    """Result of one run: its folder, what it learned, and how it ended."""

    values: Mapping[str, Any]  # of the swept settings, with the seed where it is swept
    folder: Path
    monitor: str  # name of the score
    direction: str  # max or min
    status: str  # done, diverged, pruned, interrupted, running; "" before it began
    time: str  # of the status, ISO 8601; "" before it began
    history: History
    test_scores: Mapping[str, float]  # of the best state, as test.json has them

    @property
    def test_score(self) -> float | None:
        """The score on the test split; None: it was not tested."""
        return self.test_scores.get(self.monitor)

    @property
    def name(self) -> str:
        """The swept settings as text."""
        return describe(self.values)

    @property
    def best(self) -> tuple[int, float, float] | None:
        """Step, score and loss of the best evaluation; None: there was none."""
        sign = 1 if self.direction == "max" else -1
        rows = [
            (int(record["step"]), record[f"eval/{self.monitor}"], record["eval/loss"])
            for record in self.history
            if f"eval/{self.monitor}" in record
        ]
        return max(rows, key=lambda row: (sign * row[1], -row[2]), default=None)

    @property
    def score(self) -> float:
        """The best score on the validation split; NaN: there was no evaluation."""
        return self.best[1] if self.best else math.nan

    @property
    def best_loss(self) -> float:
        """The lowest loss on the validation split."""
        return min(self.history.series("eval/loss")[1], default=math.nan)

    @property
    def seconds(self) -> float:
        """Training time until the best evaluation."""
        steps, seconds = self.history.series("time/seconds")
        until = self.best[0] if self.best else 0
        return max((s for step, s in zip(steps, seconds, strict=True) if step <= until), default=0)


@attrs.frozen(kw_only=True)
class Interval:
    """Mean of a score over seeds, and its 95 % interval by Student's t; NaN ends for one seed."""

    mean: float
    low: float
    high: float
    num: int

    @property
    def half(self) -> float:
        """Half the width of the interval; NaN for one seed."""
        return (self.high - self.low) / 2

    def __str__(self) -> str:
        """Return mean and half the width of the interval."""
        width = "" if self.num < 2 else f" ± {self.half:.2g}"
        return f"{self.mean:.4g}{width}"


def interval(scores: Sequence[float]) -> Interval:
    """Return mean and 95 % interval of the mean: x̄ ± t(0.975, n − 1) · s / √n.

    Scores that are NaN, of runs without an evaluation, make the mean NaN.

    >>> str(interval([1.0, 2.0, 3.0]))
    '2 ± 2.5'
    """
    numbers = np.asarray(scores, np.float64)
    mean, num = float(numbers.mean()), len(numbers)
    if num < 2:
        return Interval(mean=mean, low=math.nan, high=math.nan, num=num)
    half = stdtrit(num - 1, 0.975) * numbers.std(ddof=1) / math.sqrt(num)
    return Interval(mean=mean, low=mean - half, high=mean + half, num=num)


@attrs.frozen(kw_only=True)
class Trial:
    """Trial of a sweep: the runs with the same settings, one for each seed."""

    values: Mapping[str, Any]  # without the seed
    results: Sequence[Result]

    @property
    def status(self) -> str:
        """How its runs ended: done if all are, else the first other end."""
        return next((r.status for r in self.results if r.status != "done"), "done")

    @property
    def score(self) -> Interval:
        """The best validation score, over the seeds that have one: a pruned trial has the first."""
        return interval([r.score for r in self.results if r.best] or [math.nan])

    @property
    def test_score(self) -> Interval:
        """The test score of its best states, over the seeds that have one."""
        scores = [r.test_score for r in self.results if r.test_score is not None]
        return interval(scores or [math.nan])


def group_by_seed(results: Sequence[Result]) -> list[Trial]:
    """Return trials in the order of their first run."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(repr(without_seed(result.values)), []).append(result)
    return [Trial(values=without_seed(g[0].values), results=g) for g in groups.values()]


def best_trial(trials: Sequence[Trial]) -> Trial | None:
    """Return the done trial with the best mean score; None: none is done."""
    done = [t for t in trials if t.status == "done" and math.isfinite(t.score.mean)]
    sign = {"max": 1, "min": -1}
    return max(done, key=lambda t: sign[t.results[0].direction] * t.score.mean, default=None)


def are_comparable(results: Sequence[Result]) -> bool:
    """Tell whether scores of runs can be compared: they are the same score, on the same task."""
    return len({(result.monitor, result.values.get("task")) for result in results}) == 1


def without_seed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings without the seed."""
    return {name: value for name, value in values.items() if name != "seed"}


def describe(values: Mapping[str, Any]) -> str:
    """Return settings as text."""
    return ", ".join(f"{name}={value}" for name, value in values.items()) or "all as specified"


def read_result(values: Mapping[str, Any], folder: Path, monitor: tuple[str, str]) -> Result:
    """Read the result of a run from its folder, also of one that has not begun or is running."""
    run, (name, direction) = RunFolder(folder), monitor
    status = run.read_json("status.json")
    return Result(
        values=values, folder=folder, monitor=name, direction=direction,
        status=str(status.get("state", "")), time=str(status.get("time", "")),
        history=_read_history(folder / "metrics.jsonl"), test_scores=run.read_json("test.json"),
    )  # fmt: skip


def _read_history(path: Path) -> History:
    """Return the records of a file; of a run that is running, the last may be incomplete."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except OSError:
        return History()
    return History(json.loads(line) for line in lines if line.endswith("\n"))
