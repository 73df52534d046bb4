"""How the time grows with length, units and data: the exponent over three decades.

The exponent is the slope of a line through ln(seconds) against ln(size), by least squares over all
rounds, with its interval of 95 %. Small sizes cost the same whatever they are, so that the slope
over the last decade is told beside the one over all: it is the one that says what comes next.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

import agents
import tasks
from benchmarks.measure import Figures, in_turn, median, table, tell
from benchmarks.recurrent import CODES, UNITS, layer
from benchmarks.steps import seconds_of_windows
from visualization.recurrent import trace_cells

ROUNDS = 3
Seconds = Callable[[int], Callable[[], object]]  # of a size what is timed


class Case(NamedTuple):
    """What is timed, at sizes over three decades, and the exponent that is accepted at the end."""

    sizes: Sequence[int]
    prepare: Seconds
    accepted: float


class Fit(NamedTuple):
    """A slope, and half the width of its interval of 95 %."""

    exponent: float
    margin: float


def fit(sizes: Sequence[float], seconds: Sequence[float]) -> Fit:
    """Return the exponent of a power law through some times, by least squares of the logarithms."""
    from scipy import stats

    line = stats.linregress(np.log(sizes), np.log(seconds))
    quantile = float(stats.t.ppf(0.975, len(sizes) - 2))
    return Fit(float(line.slope), quantile * float(line.stderr))


def _decades(least: int, steps: int = 2) -> tuple[int, ...]:
    """Return sizes over three decades from `least` on, so many in each."""
    return tuple(round(least * 10 ** (number / steps)) for number in range(3 * steps + 1))


def _trace(length: int) -> Callable[[], object]:
    rnn, _, inputs = layer((1, length))
    return lambda: trace_cells(rnn, inputs)


def _step_of(agent: Any) -> Callable[[], object]:
    windows = seconds_of_windows(agent, 1, 1)
    return lambda: next(windows)


def agent_of_length(length: int) -> Any:
    """Return an agent of the adding problem at the stage where series have the whole length."""
    task = tasks.make("adding_problem", length=length)
    agent: Any = agents.make("adding_lstm", task=task, device="cpu", batch_size=8, hidden_size=16)
    agent.state.cursor.stage = task.num_stages - 1
    return agent


def _step_of_length(length: int) -> Callable[[], object]:
    return _step_of(agent_of_length(length))


def _step_of_units(units: int) -> Callable[[], object]:
    return _step_of(
        agents.make(
            "seq2seq_adder", task="add3x2", device="cpu", hidden_size=units, batch_size=32,
            optimizer="adam", threads=1,
        )
    )  # fmt: skip


def _trace_of_units(units: int) -> Callable[[], object]:
    rnn = nn.LSTM(CODES, units, batch_first=True)
    inputs = torch.rand(4, 12, CODES)
    return lambda: trace_cells(rnn, inputs)


def _drawn(num: int) -> Callable[[], object]:
    task = tasks.make("add3x3")
    return lambda: task.samples("train", num)


def _predicted(num: int) -> Callable[[], object]:
    agent: Any = agents.make("seq2seq_adder", task="add3x3", device="cpu", hidden_size=16)
    batch = agent.task.samples("train", num)
    return lambda: agent.predict_arrays(batch)


CASES = {
    "length: a step of adding_lstm, 16 units": Case(_decades(10), _step_of_length, 1.05),
    f"length: trace_cells, {UNITS} units": Case(_decades(10), _trace, 1.05),
    "units: a step of seq2seq_adder, batch 32": Case(_decades(2), _step_of_units, 2.1),
    "units: trace_cells, 4 texts of 12": Case(_decades(2), _trace_of_units, 2.1),
    "data: sums of add3x3 drawn": Case(_decades(1000), _drawn, 1.05),
    "data: answers of seq2seq_adder, 16 units": Case(_decades(100), _predicted, 1.05),
}


def measure(rounds: int = ROUNDS, most: int = 0) -> Figures:
    """Return the seconds at each size and the exponents.

    `most`: the largest size is so many times the smallest, at least 10, for a quick trial; 0: all.
    """
    figures: Figures = {}
    for name, case in CASES.items():
        sizes = [size for size in case.sizes if not most or size <= most * case.sizes[0]]
        figures[name] = {"accepted": case.accepted, **_measure_case(case.prepare, sizes, rounds)}
        tell(f"{name}: {_told(figures[name]['last_decade'])} over the last decade")
    return figures


def _measure_case(prepare: Seconds, sizes: Sequence[int], rounds: int) -> Figures:
    times = {size: in_turn({"": prepare(size)}, rounds)[""] for size in sizes}
    points = [(size, taken) for size, each in times.items() for taken in each]
    last = [(size, taken) for size, taken in points if size >= 0.099 * max(sizes)]
    return {
        "seconds": {str(size): median(each) for size, each in times.items()},
        "all": fit(*zip(*points, strict=True))._asdict(),
        "last_decade": fit(*zip(*last, strict=True))._asdict(),
    }


def _told(exponent: Figures) -> str:
    margin = exponent["margin"]
    return f"{exponent['exponent']:.2f}" + (f" ± {margin:.2f}" if math.isfinite(margin) else "")


def report(figures: Figures) -> str:
    """Return the figures as a table."""
    rows = []
    for name, f in figures.items():
        (first, least), *_, (last, most) = f["seconds"].items()
        rows.append([
            name, f"{int(first):,} … {int(last):,}", f"{1e3 * least:.2f} … {1e3 * most:,.0f} ms",
            _told(f["all"]), _told(f["last_decade"]), f"≤ {f['accepted']}",
        ])  # fmt: skip
    head = ["time against", "sizes", "time", "exponent", "of the last decade", "accepted"]
    return table(head, rows)
