"""Table and plots of a search."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from agents.core.sweeps.results import Interval, Result, Trial
from visualization.records import Bars, Curves, Scatter, Table


def table(trials: Sequence[Trial]) -> Table:
    """Return a table with a row for each trial; ± is half of a 95 % interval over seeds."""
    monitor = trials[0].results[0].monitor
    columns = [*trials[0].values, "runs", f"best {monitor}", f"test {monitor}", "ended"]
    return Table("trials of the sweep", columns, [_row(trial) for trial in trials])


def _row(trial: Trial) -> list[str]:
    numbers = (trial.score, trial.test_score)
    return [
        *map(str, trial.values.values()),
        str(len(trial.results)),
        *(_words(number) for number in numbers),
        trial.status,
    ]


def _words(number: Interval) -> str:
    return "none" if np.isnan(number.mean) else str(number)


def best_so_far(trials: Sequence[Trial]) -> Curves:
    """Return each trial's best validation score, and the best until then, over the trials."""
    scores = np.array([trial.score.mean for trial in trials])
    first: Result = trials[0].results[0]
    best = np.fmax if first.direction == "max" else np.fmin
    numbers = list(range(1, len(scores) + 1))
    series = {"trial": scores.tolist(), "best so far": best.accumulate(scores).tolist()}
    title = f"validation {first.monitor}"
    return Curves({title: {k: (numbers, v) for k, v in series.items()}}, x_name="trial")


def slices(trials: Sequence[Trial]) -> dict[str, Scatter]:
    """Return, for each setting that has numbers, a dot for each trial: its value and its score."""
    monitor = f"best validation {trials[0].results[0].monitor}"
    return {
        f"slice_{name}": Scatter(
            f"{monitor} of each trial",
            np.array([trial.values[name] for trial in trials], np.float64),
            np.array([trial.score.mean for trial in trials]),
            [name, monitor],
        )
        for name in trials[0].values
        if all(_is_number(trial.values[name]) for trial in trials)
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def importance(trials: Sequence[Trial], seed: int) -> Bars | None:
    """Return the importance of each setting by functional ANOVA; None: too few scores differ."""
    from agents.core.sweeps.study import importances

    done = [trial for trial in trials if np.isfinite(trial.score.mean) and trial.status == "done"]
    found = importances(
        [trial.values for trial in done],
        [trial.score.mean for trial in done],
        trials[0].results[0].direction,
        seed,
    )
    title = "share of the variance of the validation score (fANOVA)"
    return Bars({title: found}, digits=2) if found else None
