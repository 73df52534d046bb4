"""Sample complexity of networks on reasoning tasks: `python docs/sample_complexity.py`.

After Xu et al. 2020 (1905.13211), section 4: the accuracy of each network on each task against the
number of training samples, with the accuracy on the training samples beside it. The command reads
the run folders that are there, keeps their scores in docs/sample_complexity.json, and writes the
table and the picture of docs/sample_complexity.md from that file. `--run` first runs what is
missing, and continues what was stopped; `--run subset_sum "Deep Sets"` only that network on that
task. `--samples 500,20000` and `--seeds 0` choose among the columns and seeds, and `--workers 2`
does two runs at once.
"""

import argparse
import json
import math
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import agents  # noqa: E402 - found by the line above
from agents.core.runs.run_folder import RunFolder  # noqa: E402
from agents.core.sweeps.results import Interval, interval  # noqa: E402
from benchmarks.marked import replaced  # noqa: E402
from docs.notes import digest, plan, read_json, read_run  # noqa: E402
from visualization import render  # noqa: E402
from visualization.sweeps import SampleComplexity, SamplePoint  # noqa: E402

PAGE, RECORD = ROOT / "docs" / "sample_complexity.md", ROOT / "docs" / "sample_complexity.json"
PICTURE = ROOT / "docs" / "pictures" / "sample_complexity.png"
BEGIN, END = "<!-- python docs/sample_complexity.py -->", "<!-- end of the table -->"
SAMPLES, SEEDS = (500, 4_000, 20_000, 60_000), (0, 1, 2)
NUM_TRAIN_SCORED = 2_000  # training samples, drawn at random, whose answers are scored
Run = dict[str, Any]  # JSON types
Record = Mapping[str, Mapping[str, Sequence[Run]]]  # runs by task and network

NETWORKS = {
    "MLP": "--agent mlp",
    "MLP, sorted": "--agent mlp --set sort_objects=true",
    "Deep Sets": "--agent deep_sets --set num_layers=2",
    "GNN, 1 round": "--agent gnn --set num_layers=2 --set num_rounds=1",
    "GNN, 3 rounds": "--agent gnn --set num_layers=3 --set num_rounds=3",
    **{
        f"residual GNN, {num} round{'s' * (num > 1)}": (
            f"--agent gnn --set num_layers=3 --set residual=true --set num_rounds={num}"
        )
        for num in (1, 2, 3, 5)
    },
    "Transformer": "--agent set_transformer",
    "exhaustive search": "--agent exhaustive_search --set num_layers=2",
}
_COMMON = ("MLP", "MLP, sorted", "Deep Sets", "GNN, 1 round", "Transformer")
TASKS = {  # networks of each
    "max_difference": _COMMON,
    "furthest_pair": _COMMON,
    "monster_trainer": (
        "MLP",
        "MLP, sorted",
        "Deep Sets",
        "Transformer",
        "GNN, 3 rounds",
        "residual GNN, 1 round",
        "residual GNN, 2 rounds",
        "residual GNN, 3 rounds",
        "residual GNN, 5 rounds",
    ),
    "subset_sum": (*_COMMON, "exhaustive search"),
}


class Recipe(NamedTuple):
    """How all networks of a task are trained, and where the task's sizes are not the paper's."""

    steps: int
    settings: str


RECIPES = {
    "max_difference": Recipe(4_000, "hidden_size=32 optimizer=muon learning_rate=0.01"),
    "furthest_pair": Recipe(5_000, "task.num_objects=10 hidden_size=64 optimizer=muon"),
    "monster_trainer": Recipe(
        4_000,
        "task.max_level=5 task.map_size=3 task.min_edges=2 task.max_edges=4 hidden_size=64 "
        "optimizer=muon",
    ),
    "subset_sum": Recipe(
        3_000,
        "task.num_numbers=5 task.max_number=100 hidden_size=32 optimizer=muon learning_rate=0.01",
    ),
}


class Cell(NamedTuple):
    """A network on a task: a sweep over numbers of training samples and seeds."""

    task: str
    network: str

    def command(self, samples: Sequence[int] = SAMPLES, seeds: Sequence[int] = SEEDS) -> str:
        """Return the arguments of main.py."""
        folder = self.network.lower().replace(", ", "-").replace(" ", "-")
        steps, settings = RECIPES[self.task]
        own = " ".join(f"--set {each}" for each in (f"steps={steps}", *settings.split()))
        return (
            f"{NETWORKS[self.network]} --task {self.task} --mode sweep "
            f"--grid task.num_train={','.join(map(str, samples))} "
            f"--seeds {','.join(map(str, seeds))} {own} --set threads=1 "
            f"--run-dir runs/sample_complexity/{self.task}/{folder}"
        )


def cells() -> Iterator[Cell]:
    """Yield each network of each task."""
    for task, networks in TASKS.items():
        for network in networks:
            yield Cell(task, network)


def runs_of(cell: Cell, recorded: Sequence[Run]) -> list[Run]:
    """Return the finished runs of a cell: those whose folders are there, else as recorded.

    A recorded run counts only while its settings, defaults included, are those of the command. Its
    accuracy on training samples is computed again if the folder has another run, trained since.
    """
    runs = []
    for values, spec in plan(cell.command()).runs:
        own = {"num_train": values["task.num_train"], "seed": values["seed"],
               "settings": digest(spec)}  # fmt: skip
        if found := read_run(spec):
            own |= {name: found[name] for name in ("day", "steps", "seconds")}
            own["test"] = found["scores"]["accuracy"]
        earlier = next((r for r in recorded if own.items() <= r.items()), None)
        if found and earlier is None:
            earlier = own | {"train": train_accuracy(spec.run_dir)}
        if earlier:
            runs.append(earlier)
    return runs


def chosen(words: Sequence[str]) -> list[Cell]:
    """Return the cells that have all of the words, each a task or a network; all without words."""
    return [cell for cell in cells() if all(word in cell for word in words)]


def missing(
    cell: Cell, recorded: Sequence[Run], samples: Sequence[int], seeds: Sequence[int]
) -> Iterator[str]:
    """Yield the commands of the runs that a cell lacks; numbers that lack like seeds share one."""
    found = {(run["num_train"], run["seed"]) for run in runs_of(cell, recorded)}
    lacking = {num: tuple(seed for seed in seeds if (num, seed) not in found) for num in samples}
    for each in dict.fromkeys(lacking.values()):
        if each:
            yield cell.command([num for num in samples if lacking[num] == each], each)


def train_accuracy(folder: Path) -> float:
    """Return the accuracy of a run's last state on training samples, drawn at random.

    The best state by validation is often an early one, of a network that does not fit them yet.
    """
    agent = agents.load(RunFolder(folder).checkpoints()[0])
    return round(agent.evaluate(split="train", num=NUM_TRAIN_SCORED)["accuracy"], 6)


def read_record(path: Path = RECORD) -> Record:
    """Return the runs by task and network; none if there is no file yet."""
    return read_json(path)


def update(record: Record) -> Record:
    """Return the record with what the run folders have."""
    runs: dict[str, dict[str, list[Run]]] = {}
    for cell in cells():
        earlier = record.get(cell.task, {}).get(cell.network, ())
        if found := runs_of(cell, earlier):
            runs.setdefault(cell.task, {})[cell.network] = found
    return runs


def accuracies(runs: Sequence[Run]) -> dict[int, tuple[Interval, Interval]]:
    """Return test and training accuracy in percent over seeds by number of training samples."""
    found = {}
    for num in sorted({run["num_train"] for run in runs}):
        own = [run for run in runs if run["num_train"] == num]
        found[num] = (
            interval([100 * run["test"] for run in own]),
            interval([100 * run["train"] for run in own]),
        )
    return found


def points_of(runs: Sequence[Run]) -> list[SamplePoint]:
    """Return the points of a curve: accuracies over seeds."""
    return [
        SamplePoint(num_samples=num, test=test.mean, low=test.low, high=test.high, train=train.mean)
        for num, (test, train) in accuracies(runs).items()
    ]


def curves(record: Record) -> SampleComplexity:
    """Return the curves of a record; with accuracies in percent."""
    panels = {
        task: {network: points_of(runs) for network, runs in networks.items()}
        for task, networks in record.items()
    }
    return SampleComplexity.of("accuracy, %", panels)


def table(record: Record) -> str:
    """Return the table: test accuracy ± half its 95 % interval (that on training samples)."""
    lines = [
        f"| task, steps | network | {' | '.join(f'{num:,}' for num in SAMPLES)} |",
        f"|---|---|{'---|' * len(SAMPLES)}",
    ]
    for cell in cells():
        scores = accuracies(record.get(cell.task, {}).get(cell.network, ()))
        found = {num: _written(test, train) for num, (test, train) in scores.items()}
        row = " | ".join(found.get(num, "not run") for num in SAMPLES)
        lines.append(f"| `{cell.task}`, {RECIPES[cell.task].steps:,} | {cell.network} | {row} |")
    return "\n".join(lines)


def _written(test: Interval, train: Interval) -> str:
    width = "" if math.isnan(test.half) else f" ± {test.half:.1f}"
    return f"{test.mean:.1f}{width} ({train.mean:.0f})"


def with_table(page: str, record: Record) -> str:
    """Return the page with its table made of a record."""
    return replaced(page, BEGIN, END, f"\n\n{table(record)}\n\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked for, then write record, page and picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    help_text = "run what is missing: of a task, of a network, of both, or all"
    parser.add_argument("--run", nargs="*", metavar="WORDS", help=help_text)
    parser.add_argument("--samples", default=",".join(map(str, SAMPLES)), metavar="N,N,…")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), metavar="N,N,…")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="runs at once")
    options = parser.parse_args(arguments)
    if not chosen(options.run or ()):
        accepted = "; ".join(f"{task} ({' | '.join(own)})" for task, own in TASKS.items())
        problem = f"no task and network are called {' and '.join(map(repr, options.run))}"
        parser.error(f"argument --run: {problem}; accepted: a task, one of its networks, or both, "
                     f"of {accepted}")  # fmt: skip
    os.chdir(ROOT)  # where runs/ is
    samples, seeds = (list(map(int, x.split(","))) for x in (options.samples, options.seeds))
    record = read_record()
    for cell in () if options.run is None else chosen(options.run):
        recorded = record.get(cell.task, {}).get(cell.network, ())
        for runs in missing(cell, recorded, samples, seeds):
            command = f"{runs} --workers {options.workers}"
            print(f"python main.py {command}", flush=True)
            subprocess.run([sys.executable, "main.py", *shlex.split(command)], check=True)
    record = update(record)
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), record), encoding="utf-8")
    PICTURE.write_bytes(render.png(render.draw(curves(record)), 90))


if __name__ == "__main__":
    main()
