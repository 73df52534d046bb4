"""One agent, learned once for each value of a setting, or for each combination of several."""

import argparse
import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from agents.cli.run_spec import OUTSIDE, Order, config_of, read_order
from agents.core.config import read_value
from tasks.core.settings import ConfigError, SourcedValue
from visualization.records import Curves, Table

if TYPE_CHECKING:
    from agents.core.agent import Agent


@attrs.frozen
class Outcome:
    """What became of one run of a sweep."""

    values: Mapping[str, Any]  # of the settings that are swept over
    agent: "Agent"  # as its run left it
    scores: Mapping[str, float]  # of its best state on the test split; empty if it diverged
    word: str  # done, or how it ended

    @property
    def name(self) -> str:
        """The run's settings in words."""
        return ", ".join(f"{name}={value}" for name, value in self.values.items())

    @property
    def best_loss(self) -> float:
        """The lowest loss on the validation split."""
        return min(self.agent.history.series("eval/loss")[1], default=float("nan"))

    @property
    def seconds(self) -> float:
        """Time spent learning until the best evaluation."""
        steps, seconds = self.agent.history.series("time/seconds")
        best = self.agent.state.best.step
        return max((s for step, s in zip(steps, seconds, strict=True) if step <= best), default=0.0)


def read_over(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Read each `name=value,value,…` of --over; a bad one is a ConfigError."""
    found: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, values = (part.strip() for part in text.partition("="))
        words = [word.strip() for word in values.split(",")]
        read = [read_value(word) for word in words]
        accepted = "name=value,value,… such as task.length=150,200,250, each value once"
        if not equals or not name or "" in words:
            raise ConfigError("--over", "", f"{text!r} names no values to go through", accepted)
        if name in found or name in OUTSIDE or len(set(map(repr, read))) < len(read):
            problem = f"{text!r} cannot be gone through: a setting once, with different values"
            raise ConfigError("--over", "", problem, accepted)
        found[name] = read
    if not found:
        raise ConfigError("--over", "", "nothing is named to sweep over", "name=value,value,…")
    return found


def orders(
    base: Order, over: Mapping[str, Sequence[Any]], modes: Collection[str]
) -> Iterator[tuple[dict[str, Any], Order]]:
    """Yield the values and the order of each run, in a folder of its own within the sweep's."""
    for combination in itertools.product(*over.values()):
        values = dict(zip(over, combination, strict=True))
        given = {name: SourcedValue(value, f"--over {name}") for name, value in values.items()}
        word = ",".join(f"{name}={value}" for name, value in values.items())
        folder = sweep_dir(base, over) / re.sub(r"[^\w.,=+-]", "_", word)
        named = {"run_dir": folder, "config": config_of(base.options)}
        options = argparse.Namespace(**{**vars(base.options), **named})
        yield values, read_order(options, modes, given)


def sweep_dir(base: Order, over: Mapping[str, object]) -> Path:
    """Return the folder of a sweep: the given one, or one beside the runs of its settings."""
    if base.options.run_dir is not None:
        return Path(base.options.run_dir)
    return base.run_dir.with_name(f"sweep-{'-'.join(over)}-{base.run_dir.name}")


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


def best_losses(outcomes: Sequence[Outcome], over: Mapping[str, Sequence[Any]]) -> Curves:
    """Return the best validation loss, and the time it took, against the first swept setting."""
    first, *others = over
    lines: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        label = ", ".join(f"{name}={outcome.values[name]}" for name in others) or "best"
        lines.setdefault(label, []).append(outcome)
    numbers = [isinstance(value, (int, float)) for value in over[first]]
    places = over[first] if all(numbers) else range(len(over[first]))
    at = dict(zip(map(str, over[first]), places, strict=True))

    def panel(quantity: str) -> dict[str, tuple[list[float], list[float]]]:
        return {
            label: ([at[str(o.values[first])] for o in held], [getattr(o, quantity) for o in held])
            for label, held in lines.items()
        }

    titles = {"best validation loss": "best_loss", "seconds of learning until then": "seconds"}
    return Curves(
        {title: panel(quantity) for title, quantity in titles.items()},
        frozenset({"best validation loss"}),
        first if all(numbers) else f"{first} ({', '.join(map(str, over[first]))})",
    )


def table(outcomes: Sequence[Outcome]) -> Table:
    """Return a row for each run."""
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
        outcome.word,
    ]
