"""The adder in Terrarium and in its peers, one process at a time, in turn."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from benchmarks.data import write
from benchmarks.environments import ENVIRONMENTS, prepare
from benchmarks.measure import ChildError, Figures, last_line, median, own, run_child, table, tell

ROUNDS = 5
SEEDS = 5
PLAIN = (
    "precision=fp32",
    "optimizer=adam",
    "learning_rate=1e-3",
    "schedule=constant",
    "clip_norm=null",
)  # the agent with the optimiser of Keras' example
ACCEPTED_RATIO = 10.0  # times faster to 99 % than the best Keras backend


@dataclass(frozen=True)
class Peer:
    """One program.

    Attributes:
        name: as it stands in the tables.
        module: in `benchmarks.peers`.
        arguments: of the module.
        environment: of ENVIRONMENTS; empty: the running interpreter.
        batches: batch sizes at which its throughput is of interest.
    """

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    environment: str = ""
    batches: tuple[int, ...] = (128, 32)


def _with(settings: Iterable[str]) -> tuple[str, ...]:
    return tuple(chain.from_iterable(("--set", setting) for setting in settings))


BARE = Peer("bare PyTorch loop, Keras' model", "torch_adder", ("--decoder", "repeat"))
KERAS = (
    Peer("Keras on JAX", "keras_adder", environment="keras-jax"),
    Peer("Keras on TensorFlow", "keras_adder", environment="keras-tensorflow"),
)
THROUGHPUT = (
    BARE,
    Peer("Terrarium, Keras' model", "terrarium_adder", _with((*PLAIN, "decoder=repeat"))),
    *KERAS,
    Peer("Lightning, Keras' model", "lightning_adder", ("--decoder", "repeat"), "lightning"),
    Peer("bare PyTorch loop, states", "torch_adder", ("--decoder", "states"), batches=(128,)),
    Peer("Terrarium, states", "terrarium_adder", _with((*PLAIN, "decoder=states")), batches=(128,)),
    Peer("Terrarium, default", "terrarium_adder", batches=(128,)),
)
ACCURACY = (Peer("Terrarium", "terrarium_adder"), *KERAS)


class Field:
    """Those of some peers that can be run; `missing` says who cannot, and why."""

    def __init__(self, peers: Sequence[Peer]) -> None:
        self.peers = list(peers)
        self.missing: list[str] = []
        self._pythons: dict[str, Path] = {}
        for name in dict.fromkeys(peer.environment for peer in peers if peer.environment):
            prepared = prepare(name)
            if prepared.python is None:
                gone = [peer for peer in peers if peer.environment == name]
                self._drop(gone, f"could not install {name}: {prepared.reason}")
            else:
                self._pythons[name] = prepared.python

    def run(self, peer: Peer, arguments: Sequence[str]) -> Figures | None:
        """Run a peer and return what it reports; None, and never again, if it fails."""
        command = ["-m", f"benchmarks.peers.{peer.module}", *peer.arguments, *arguments]
        try:
            found: Figures = json.loads(last_line(self._output(peer.environment, command)))
        except (ChildError, ValueError) as error:
            self._drop([peer], f"could not run {peer.name}: {error}")
            return None
        return found

    def those_left(self, runs: Mapping[str, list[Figures]]) -> dict[str, list[Figures]]:
        """Return the runs of the peers that never failed, so that all have equally many."""
        left = {peer.name for peer in self.peers}
        return {name: mine for name, mine in runs.items() if name in left}

    def _output(self, environment: str, command: Sequence[str]) -> str:
        if not environment:
            return run_child(own(*command))
        python = str(self._pythons[environment])
        return run_child([python, *command], ENVIRONMENTS[environment].variables)

    def _drop(self, gone: Sequence[Peer], sentence: str) -> None:
        tell(sentence)
        self.missing.append(sentence)
        self.peers = [peer for peer in self.peers if peer not in gone]


def throughput(rounds: int = ROUNDS, limit: int = 0) -> Figures:
    """Return samples per second of every peer at every batch size, and ratios to the bare loop."""
    write()
    field = Field(THROUGHPUT)
    batches = sorted({size for peer in THROUGHPUT for size in peer.batches}, reverse=True)
    runs: dict[int, dict[str, list[Figures]]] = {size: {} for size in batches}
    for number in range(rounds):
        for size in batches:
            for peer in [peer for peer in field.peers if size in peer.batches]:
                found = field.run(peer, ["--batch", str(size), "--limit", str(limit)])
                if found is not None:
                    runs[size].setdefault(peer.name, []).append(found)
                    tell(
                        f"round {number + 1}, batch {size}, {peer.name}: "
                        f"{found['samples_per_s']:,.0f} samples/s"
                    )
    summaries = {str(size): _summary(field.those_left(runs[size])) for size in batches}
    return {"missing": field.missing, "limit": limit, "batches": summaries}


def _summary(runs: dict[str, list[Figures]]) -> Figures:
    speeds = {name: [run["samples_per_s"] for run in mine] for name, mine in runs.items()}
    reference = speeds.get(BARE.name)
    return {
        name: {
            "samples_per_s": median(mine),
            "ratio": reference and median(a / b for a, b in zip(mine, reference, strict=True)),
            "runs": mine,
            "versions": runs[name][0]["versions"],
        }
        for name, mine in speeds.items()
    }


def report_throughput(figures: Figures) -> str:
    """Return one table for each batch size, and the peers that are missing."""
    texts = [
        table(
            [f"batch {size}, fp32 unless default", "samples/s", "× bare loop"],
            [
                [name, f"{f['samples_per_s']:,.0f}", f"{f['ratio']:.2f}" if f["ratio"] else "–"]
                for name, f in found.items()
            ],
        )
        for size, found in figures["batches"].items()
    ]
    return "\n\n".join([*texts, *figures["missing"]])


def accuracy(
    seeds: int = SEEDS, limit: int = 0, epochs: int = 0, settings: Iterable[str] = ()
) -> Figures:
    """Return the seconds to 99 % exact of Terrarium and of Keras on each backend.

    Args:
        seeds: runs of each.
        limit: samples to use; 0: all.
        epochs: the most that Keras takes; 0: its script's own cap.
        settings: `NAME=VALUE` of Terrarium's agent, over the recipe.
    """
    write()
    field = Field(ACCURACY)
    runs: dict[str, list[Figures]] = {}
    for seed in range(seeds):
        for peer in list(field.peers):
            arguments = ["--mode", "accuracy", "--seed", str(seed), "--limit", str(limit)]
            if peer not in KERAS:
                arguments += _with(settings)
            elif epochs:
                arguments += ["--epochs", str(epochs)]
            found = field.run(peer, arguments)
            if found is not None:
                runs.setdefault(peer.name, []).append(found)
                tell(
                    f"seed {seed}, {peer.name}: {_seconds(found['seconds'])}, "
                    f"best {found['best']:.4f}"
                )
    runs = field.those_left(runs)
    middle = {name: _middle(mine) for name, mine in runs.items()}
    return {
        "missing": field.missing,
        "limit": limit,
        "median_seconds": middle,
        "runs": runs,
        "ratio": _ratio(middle),
    }


def _middle(runs: Iterable[Figures]) -> float | None:
    """Return the median of the seconds; a run that did not get there took for ever."""
    found = median(math.inf if run["seconds"] is None else run["seconds"] for run in runs)
    return found if math.isfinite(found) else None


def _ratio(middle: dict[str, float | None]) -> float | None:
    """Return how many times as long the best Keras backend takes as Terrarium."""
    best = [s for peer in KERAS if (s := middle.get(peer.name)) is not None]
    mine = middle.get(ACCURACY[0].name)
    return min(best) / mine if best and mine else None


def report_accuracy(figures: Figures) -> str:
    """Return a table of the times, the ratio, and the peers that are missing."""
    rows = []
    for name, middle in figures["median_seconds"].items():
        each = " ".join(_seconds(run["seconds"]) for run in figures["runs"][name])
        rows.append([name, _seconds(middle), each])
    ratio = figures["ratio"]
    ending = "no ratio: Terrarium or every Keras did not get there"
    if ratio is not None:
        ending = f"{ratio:.1f} times faster than the best Keras (accepted: ≥ {ACCEPTED_RATIO:.0f})"
    return "\n\n".join(
        [
            table(["training to 99 % exact, add3x2", "median", "each seed"], rows),
            ending,
            *figures["missing"],
        ]
    )


def _seconds(value: float | None) -> str:
    return "not reached" if value is None else f"{value:.1f} s"
