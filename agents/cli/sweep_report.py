"""Tables and figures of a sweep, and the settings of its best trial."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agents.cli import running
from agents.cli.run_spec import RunSpec, warn
from agents.core.runs.checkpoint import atomic_write
from agents.core.sweeps.results import (
    Result,
    Trial,
    are_comparable,
    best_trial,
    describe,
    group_by_seed,
)
from agents.core.training.step_record import DivergedError
from tasks.core.settings import ConfigError
from visualization import render
from visualization.records import Bars, Curves, Table
from visualization.report import Report
from visualization.sweeps.trials import ParallelCoordinates, Slices, TrialScores


def report(base: RunSpec, folder: Path, results: Sequence[Result], is_grid: bool) -> int:
    """Print the table, write all into the sweep's folder; return the exit code."""
    trials = group_by_seed(results)
    views = views_of(results, is_grid)
    runs, by_trial = views["table"], views.get("trials")
    print(render.text(by_trial or runs))
    tables = {"sweep": runs} | ({"sweep-seeds": by_trial} if by_trial else {})
    for name, table in tables.items():
        rows = [table.columns, *table.rows]
        atomic_write(folder / f"{name}.csv", running.csv_bytes(rows))
        atomic_write(folder / f"{name}.md", markdown(table).encode())
    best = best_trial(trials) if are_comparable(results) else None
    if best is not None:
        atomic_write(folder / "best.yaml", best_settings(best).encode())
        print(f"best: {describe(best.values)}; settings for --config in {folder / 'best.yaml'}")
    names = ", ".join(dict.fromkeys(name for trial in trials for name in trial.values))
    title = f"{base.agent.name} on {base.task.name} over {names or 'seeds'}"
    running.save_report(Report(title, views), folder, "sweep", 0)
    is_tested = any(result.test_score is not None for result in results)
    return 0 if is_tested else DivergedError.exit_code


def best_settings(best: Trial) -> str:
    """Return the settings of the best trial's first run, as a file for --config."""
    first = best.results[0]
    text = (first.folder / "config.yaml").read_text(encoding="utf-8")
    return f"# the best trial: {first.monitor} {best.score} on the validation split\n{text}"


def markdown(table: Table) -> str:
    """Return a table in Markdown."""
    rows = [table.columns, ["---:"] * len(table.columns), *table.rows]
    lines = ("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows)
    return "\n".join(lines) + "\n"


def views_of(results: Sequence[Result], is_grid: bool) -> dict[str, Any]:
    """Return the records of a sweep by name.

    Figures of trials are those of one task, where two or more trials have a score.
    """
    trials = group_by_seed(results)
    views: dict[str, Any] = {"table": runs_table(results)}
    if any(len(trial.results) > 1 for trial in trials):
        views["trials"] = trials_table(trials)
    if are_comparable(results):
        views |= _figures(trials)
    if is_grid:
        views["best_losses"] = best_losses(results)
    views["losses"] = losses(results)
    return views


def _figures(trials: Sequence[Trial]) -> dict[str, Any]:
    scored = [trial for trial in trials if math.isfinite(trial.score.mean)]
    if len(scored) < 2 or not trials[0].values:
        return {}
    first = trials[0].results[0]
    common: dict[str, Any] = {
        "score_name": f"best {first.monitor} on validation",
        "is_higher_better": first.direction == "max",
        "scores": [trial.score.mean for trial in scored],
        "low": [trial.score.low for trial in scored],
        "high": [trial.score.high for trial in scored],
        "statuses": [trial.status for trial in scored],
    }
    names = dict.fromkeys(name for trial in scored for name in trial.values)
    values = {name: [_value(trial, name) for trial in scored] for name in names}
    views: dict[str, Any] = {
        "parallel": ParallelCoordinates.of(values, **common),
        "best": TrialScores.of(**common),
        "slices": Slices.of(values, **common),
    }
    shares = _importances(scored, first.direction)
    if shares:
        views["importance"] = Bars({f"share of the variance of {first.monitor}": shares}, digits=2)
    return views


def _value(trial: Trial, name: str) -> Any:
    """Return a trial's value of a setting, a null as the text in the tables; None: it has none."""
    value = trial.values.get(name)
    return str(value) if value is None and name in trial.values else value


def _importances(trials: Sequence[Trial], direction: str) -> Mapping[str, float]:
    """Return the importance of settings; without optuna a grid has none, which a note says."""
    try:
        from agents.core.sweeps.study import importances
    except ConfigError as error:
        warn(f"terrarium: no importance of settings: {error.problem}; {error.accepted}")
        return {}
    done = [trial for trial in trials if trial.status == "done"]
    return importances([t.values for t in done], [t.score.mean for t in done], direction)


def losses(results: Sequence[Result]) -> Curves:
    """Return training and validation loss over the steps, a panel for each run."""
    return Curves(
        {
            result.name: {
                "training": result.history.series("train/loss"),
                "validation": result.history.series("eval/loss"),
            }
            for result in results
        },
        frozenset(result.name for result in results),
    )


def best_losses(results: Sequence[Result]) -> Curves:
    """Return the best validation loss, and the time it took, against the first swept setting."""
    first = next(iter(results[0].values))
    options = list({repr(r.values.get(first)): r.values.get(first) for r in results}.values())
    lines: dict[str, list[Result]] = {}
    for result in results:
        others = {name: value for name, value in result.values.items() if name != first}
        lines.setdefault(describe(others) if others else "best", []).append(result)
    is_numeric = all(isinstance(value, (int, float)) for value in options)
    places: Sequence[Any] = options if is_numeric else range(len(options))
    at: dict[str, float] = dict(zip(map(repr, options), places, strict=True))

    def points(
        group: list[Result], quantity: Callable[[Result], float]
    ) -> tuple[list[float], list[float]]:
        xs = [at[repr(result.values.get(first))] for result in group]
        return xs, [quantity(result) for result in group]

    titles: dict[str, Callable[[Result], float]] = {
        "best validation loss": lambda result: result.best_loss,
        "seconds of learning until then": lambda result: result.seconds,
    }
    return Curves(
        {
            title: {label: points(group, quantity) for label, group in lines.items()}
            for title, quantity in titles.items()
        },
        frozenset({"best validation loss"}),
        first if is_numeric else f"{first} ({', '.join(map(str, options))})",
    )


def runs_table(results: Sequence[Result]) -> Table:
    """Return a table with a row for each run."""
    names = list(dict.fromkeys(name for result in results for name in result.values))
    monitor = _score_name(results)
    columns = [
        *names, "best validation loss", f"best {monitor}", "at step", "after seconds",
        f"test {monitor}", "ended",
    ]  # fmt: skip
    return Table("runs of the sweep", columns, [_row(result, names) for result in results])


def _row(result: Result, names: Sequence[str]) -> list[str]:
    step, score, _ = result.best or (0, None, None)
    return [
        *(str(result.values[name]) if name in result.values else "" for name in names),
        "none" if math.isnan(result.best_loss) else f"{result.best_loss:.4g}",
        "none" if score is None else f"{score:.4g}",
        str(step),
        f"{result.seconds:.1f}",
        "none" if result.test_score is None else f"{result.test_score:.4g}",
        result.status or "not begun",
    ]


def trials_table(trials: Sequence[Trial]) -> Table:
    """Return a table with a row for each trial: mean and 95 % interval over its seeds."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.values))
    monitor = _score_name([result for trial in trials for result in trial.results])
    columns = [*names, "seeds", f"best {monitor}", "95 %", f"test {monitor}", "95 %", "ended"]
    return Table("trials of the sweep, means over seeds", columns, [
        [
            *(str(trial.values[name]) if name in trial.values else "" for name in names),
            str(sum(result.best is not None for result in trial.results)),
            *_cells(trial.score.mean, trial.score.low, trial.score.high),
            *_cells(trial.test_score.mean, trial.test_score.low, trial.test_score.high),
            trial.status or "not begun",
        ]
        for trial in trials
    ])  # fmt: skip


def _cells(mean: float, low: float, high: float) -> tuple[str, str]:
    if math.isnan(mean):
        return "none", ""
    return f"{mean:.4g}", "" if math.isnan(low) else f"{low:.4g} to {high:.4g}"


def _score_name(results: Sequence[Result]) -> str:
    names = dict.fromkeys(result.monitor for result in results)
    return next(iter(names)) if len(names) == 1 else f"score ({' or '.join(names)})"
