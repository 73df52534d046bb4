"""Parameter sweeps: one run for each value of a setting, or each combination of several."""

import argparse
import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from agents.cli.run_spec import RunSpec, config_of, parse_run_spec
from tasks.core.settings import SourcedValue, fields
from visualization.records import Curves, Table

if TYPE_CHECKING:
    from agents.core.agent import Agent


@attrs.frozen
class Outcome:
    """Result of one run of a sweep."""

    values: Mapping[str, Any]  # of the swept settings
    agent: "Agent"  # after its run
    scores: Mapping[str, float]  # of its best state on the test split; empty if it diverged
    status: str  # done or diverged

    @property
    def name(self) -> str:
        """The swept settings as text."""
        return ", ".join(f"{name}={value}" for name, value in self.values.items())

    @property
    def best_loss(self) -> float:
        """The lowest loss on the validation split."""
        return min(self.agent.history.series("eval/loss")[1], default=float("nan"))

    @property
    def seconds(self) -> float:
        """Training time until the best evaluation."""
        steps, seconds = self.agent.history.series("time/seconds")
        best = self.agent.state.best.step
        return max((s for step, s in zip(steps, seconds, strict=True) if step <= best), default=0.0)


def run_specs(
    base: RunSpec, grid: Mapping[str, Sequence[Any]], modes: Collection[str]
) -> Iterator[tuple[dict[str, Any], RunSpec]]:
    """Yield values and specification of each run, in a folder of its own within the sweep's."""
    for combination in itertools.product(*grid.values()):
        values = dict(zip(grid, combination, strict=True))
        settings = {name: SourcedValue(value, f"--grid {name}") for name, value in values.items()}
        first = first_names(base)
        word = ",".join(f"{first.get(name, name)}={value}" for name, value in values.items())
        folder = sweep_dir(base, grid) / re.sub(r"[^\w.,=+-]", "_", word)
        changes = {"run_dir": folder, "config": config_of(base.options)}
        options = argparse.Namespace(**{**vars(base.options), **changes})
        yield values, parse_run_spec(options, modes, settings)


def sweep_dir(base: RunSpec, grid: Mapping[str, object]) -> Path:
    """Return the folder of a sweep: `--run-dir`, or one beside the runs of the same settings."""
    if base.options.run_dir is not None:
        return Path(base.options.run_dir)
    first = first_names(base)
    names = "-".join(first.get(name, name) for name in grid)
    return base.run_dir.with_name(f"sweep-{names}-{base.run_dir.name}")


def first_names(base: RunSpec) -> dict[str, str]:
    """Return the first name of each renamed setting: it does not change in names of folders."""
    classes = {"": type(base.config), "task.": type(base.task)}
    return {
        prefix + name: prefix + field.metadata["renamed_from"][0]
        for prefix, cls in classes.items()
        for name, field in fields(cls).items()
        if field.metadata["renamed_from"]
    }


def losses(outcomes: Sequence[Outcome]) -> Curves:
    """Return training and validation loss over the steps, a panel for each run."""
    return Curves(
        {
            outcome.name: {
                "training": outcome.agent.history.series("train/loss"),
                "validation": outcome.agent.history.series("eval/loss"),
            }
            for outcome in outcomes
        },
        frozenset(outcome.name for outcome in outcomes),
    )


def best_losses(outcomes: Sequence[Outcome], grid: Mapping[str, Sequence[Any]]) -> Curves:
    """Return the best validation loss, and the time it took, against the first swept setting."""
    first, *others = grid
    lines: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        label = ", ".join(f"{name}={outcome.values[name]}" for name in others) or "best"
        lines.setdefault(label, []).append(outcome)
    numbers = [isinstance(value, (int, float)) for value in grid[first]]
    places = grid[first] if all(numbers) else range(len(grid[first]))
    at = dict(zip(map(str, grid[first]), places, strict=True))

    def points(group: list[Outcome], quantity: str) -> tuple[list[float], list[float]]:
        xs = [at[str(outcome.values[first])] for outcome in group]
        return xs, [getattr(outcome, quantity) for outcome in group]

    titles = {"best validation loss": "best_loss", "seconds of learning until then": "seconds"}
    return Curves(
        {
            title: {label: points(group, quantity) for label, group in lines.items()}
            for title, quantity in titles.items()
        },
        frozenset({"best validation loss"}),
        first if all(numbers) else f"{first} ({', '.join(map(str, grid[first]))})",
    )


def table(outcomes: Sequence[Outcome]) -> Table:
    """Return a table with a row for each run."""
    monitor = outcomes[0].agent.task.monitor[0]
    columns = [
        *outcomes[0].values, "best validation loss", f"best {monitor}", "at step", "after seconds",
        f"test {monitor}", "ended",
    ]  # fmt: skip
    return Table("runs of the sweep", columns, [_row(outcome, monitor) for outcome in outcomes])


def _row(outcome: Outcome, monitor: str) -> list[str]:
    best = outcome.agent.state.best
    return [
        *map(str, outcome.values.values()),
        f"{outcome.best_loss:.4g}",
        "none" if best.score is None else f"{best.score:.4g}",
        str(best.step),
        f"{outcome.seconds:.1f}",
        f"{outcome.scores[monitor]:.4g}" if outcome.scores else "none",
        outcome.status,
    ]
