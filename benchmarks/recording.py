"""What recording for the doctor costs: `vitals` on beside off, the same bits learned on both sides.

The timed part has one evaluation in as many steps as an agent takes between two by default, so that
both what is recorded with the steps and what is recorded with evaluations has its full share.
"""

import time
from collections.abc import Callable

import agents
import tasks
from agents.core.agent import Agent
from benchmarks.measure import Figures, median, table, tell

ROUNDS = 9
STEPS = 500  # between two evaluations
ACCEPTED = 2.0  # percent of the time of the steps

CASES: dict[str, Callable[[bool], Agent]] = {
    "adder on add3x3": lambda vitals: agents.make(
        "seq2seq_adder", task="add3x3", device="cpu", threads=1, vitals=vitals
    ),
    "parity, 1,000 bits": lambda vitals: agents.make(
        "parity_lstm", task=tasks.make("parity"), device="cpu", threads=1, vitals=vitals
    ),
}


def seconds(agent: Agent, steps: int) -> tuple[float, float]:
    """Return the seconds of the second `steps` steps with the evaluation at their end, and without.

    The first `steps` warm up. What `learn()` needs to begin and end is in the first figure.
    """
    agent.learn(steps)
    before, begun = agent.state.seconds, time.perf_counter()
    agent.learn(2 * steps)
    return time.perf_counter() - begun, agent.state.seconds - before


def measure(rounds: int = ROUNDS, steps: int = 0) -> Figures:
    """Time both sides in turn; `steps` in place of 500 is for a quick trial."""
    return {name: _compare(make, rounds, steps or STEPS) for name, make in CASES.items()}


def _compare(make: Callable[[bool], Agent], rounds: int, steps: int) -> Figures:
    times: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for number in range(rounds):
        for vitals in (True, False) if number % 2 else (False, True):
            times[vitals].append(seconds(make(vitals), steps))
    whole, of_steps = (
        [on[kind] / off[kind] for on, off in zip(times[True], times[False], strict=True)]
        for kind in (0, 1)
    )
    tell(f"{rounds} rounds: {100 * (median(whole) - 1):.1f} % with evaluations")
    return {
        "us_per_step": 1e6 * median(pair[1] for pair in times[False]) / steps,
        "steps_percent": 100 * (median(of_steps) - 1),
        "whole_percent": 100 * (median(whole) - 1),
        "accepted_percent": ACCEPTED,
        "ratios": of_steps,
        "ratios_whole": whole,
    }


def report(figures: Figures) -> str:
    """Return the figures as a table."""
    head = ["recording for the doctor", "µs/step", "of the steps", "with evaluations", "accepted"]
    return table(
        head,
        [
            [
                name,
                f"{f['us_per_step']:.0f}",
                f"{f['steps_percent']:+.1f} %",
                f"{f['whole_percent']:+.1f} %",
                f"≤ {f['accepted_percent']:.0f} %",
            ]
            for name, f in figures.items()
        ],
    )
