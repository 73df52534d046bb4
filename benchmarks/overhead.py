"""What `learn()` costs over a bare loop: same model, fused Adam, clipping, fp32, one process.

The bare loop cuts tensors into slices; `learn()` has its progress bar, records, event files and
checkpoints on. Neither side evaluates within the timed steps.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import agents
import tasks
from agents.core.agent import Agent
from agents.core.config import AgentConfig
from agents.core.training import devices
from benchmarks.data import NUM_SUMS, TASK, write
from benchmarks.measure import Figures, median, table, tell
from benchmarks.peers.bare import adder_model, answer_loss, bare_loop, training_tensors
from benchmarks.peers.common import load
from benchmarks.peers.tiny_loops import class_loss
from benchmarks.steps import NEVER, seconds_of_learning
from benchmarks.tiny import TinyAgent, TinyTask, register, tiny_data, tiny_model

ROUNDS = 9
THREADS = (1, 2)
RECIPE: dict[str, Any] = {
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "precision": "fp32",
    "clip_norm": 1.0,
    "eval_every": NEVER,
}


@dataclass(frozen=True)
class Case:
    """One model in both loops.

    Attributes:
        batch_size: samples in a step.
        steps: timed steps, a multiple of `save_every` so that checkpoints have their full share.
        bare: takes a number of steps and returns the times before each and after the last.
        agent: makes a fresh agent.
        limit: overhead in percent that is accepted.
    """

    batch_size: int
    steps: int
    bare: Callable[[int], list[float]]
    agent: Callable[[], Agent]
    limit: float


def cases() -> dict[str, Case]:
    """Return the adder at batch 128 and the tiny perceptron at batch 64."""
    return {
        "adder, batch 128": Case(128, 500, _bare_adder(128), _adder(128), limit=5.0),
        "tiny MLP, batch 64": Case(64, 4000, _bare_tiny(64), _tiny(64), limit=10.0),
    }


def _bare_adder(batch_size: int) -> Callable[[int], list[float]]:
    write()
    data = training_tensors(load(limit=0))

    def run(steps: int) -> list[float]:
        model = adder_model("states")
        loss_fn = functools.partial(answer_loss, model)
        return bare_loop(model, loss_fn, data, batch_size, steps, clip_norm=1.0)

    return run


def _adder(batch_size: int) -> Callable[[], Agent]:
    task = tasks.make(TASK, num_samples=NUM_SUMS)
    return lambda: agents.make(
        "seq2seq_adder", task=task, device="cpu", batch_size=batch_size, **RECIPE
    )


def _bare_tiny(batch_size: int) -> Callable[[int], list[float]]:
    data = tiny_data()

    def run(steps: int) -> list[float]:
        model = tiny_model()
        return bare_loop(
            model, functools.partial(class_loss, model), data, batch_size, steps, clip_norm=1.0
        )

    return run


def _tiny(batch_size: int) -> Callable[[], Agent]:
    register()
    config = AgentConfig(batch_size=batch_size, **RECIPE)
    return lambda: TinyAgent(TinyTask(), config, "cpu")


def measure(rounds: int = ROUNDS, steps: int = 0) -> Figures:
    """Time both loops in turn; `steps` in place of each case's own is for a quick trial."""
    figures: Figures = {}
    for name, case in cases().items():
        for count in THREADS:
            with devices.threads(count):
                figures[f"{name}, threads {count}"] = _compare(case, rounds, steps or case.steps)
    return figures


def _compare(case: Case, rounds: int, steps: int) -> Figures:
    warm = max(1, steps // 10)
    sides = {
        "bare": lambda: _seconds_of_bare_loop(case, warm, steps),
        "learn": lambda: seconds_of_learning(case.agent(), warm, steps),
    }
    times: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(-1, rounds):  # the first round warms both sides up and does not count
        for side in list(sides) if number % 2 else list(sides)[::-1]:
            seconds = sides[side]()
            if number >= 0:
                times[side].append(1e6 * seconds / steps)
    ratios = [a / b for a, b in zip(times["learn"], times["bare"], strict=True)]
    tell(f"{rounds} rounds: overhead {100 * (median(ratios) - 1):.1f} %")
    return {
        "bare_us_per_step": median(times["bare"]),
        "learn_us_per_step": median(times["learn"]),
        "overhead_percent": 100 * (median(ratios) - 1),
        "accepted_percent": case.limit,
        "ratios": ratios,
    }


def _seconds_of_bare_loop(case: Case, warm: int, steps: int) -> float:
    stamps = case.bare(warm + steps)
    return stamps[warm + steps] - stamps[warm]


def report(figures: Figures) -> str:
    """Return the figures as a table."""
    head = ["learn() over a bare loop", "bare µs/step", "learn µs/step", "overhead", "accepted"]
    return table(
        head,
        [
            [
                name,
                f"{f['bare_us_per_step']:.0f}",
                f"{f['learn_us_per_step']:.0f}",
                f"{f['overhead_percent']:.1f} %",
                f"≤ {f['accepted_percent']:.0f} %",
            ]
            for name, f in figures.items()
        ],
    )
