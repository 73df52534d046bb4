"""How fast one looks into an LSTM: traces beside a loop over cells, ablation, repeated calls."""

import resource
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

import agents
from benchmarks.measure import Figures, median, table
from visualization.recurrent import rank_units, trace_cells

ROUNDS = 7
SAMPLES, STEPS, CODES, UNITS = 1000, 12, 12, 128  # of add3x3
ABLATED = 2000  # samples
CALLS = 100


def layer() -> tuple[nn.LSTM, nn.LSTMCell, Tensor]:
    """Return an LSTM, a cell of the same weights, and one-hot questions (batch, time, code)."""
    torch.manual_seed(0)
    rnn = nn.LSTM(CODES, UNITS, batch_first=True)
    cell = nn.LSTMCell(CODES, UNITS)
    cell.load_state_dict({name.removesuffix("_l0"): w for name, w in rnn.state_dict().items()})
    codes = torch.randint(0, CODES, (SAMPLES, STEPS))
    return rnn, cell, nn.functional.one_hot(codes, CODES).float()


@torch.no_grad()
def loop(cell: nn.LSTMCell, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return h and c (batch, time, unit) from a loop over time steps; of gates it sees nothing."""
    h = c = torch.zeros(len(inputs), cell.hidden_size)
    states = []
    for step in range(inputs.shape[1]):
        h, c = cell(inputs[:, step], (h, c))
        states.append((h, c))
    return torch.stack([s[0] for s in states], 1), torch.stack([s[1] for s in states], 1)


def seconds(call: Callable[[], object]) -> float:
    """Return how long one call takes."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def traces(rounds: int) -> dict[str, float]:
    """Return the median seconds of each way to the states of 1,000 samples, interleaved."""
    rnn, cell, inputs = layer()
    h = trace_cells(rnn, inputs).h[0]
    assert torch.allclose(h, loop(cell, inputs)[0], atol=1e-6)
    ways: dict[str, Callable[[], object]] = {
        "trace_cells": lambda: trace_cells(rnn, inputs),
        "cells, one sample at a time": lambda: [loop(cell, x[None]) for x in inputs],
        "cells, all samples at once": lambda: loop(cell, inputs),
        "nn.LSTM alone": torch.no_grad()(lambda: rnn(inputs)),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, call in ways.items():
            found[name].append(seconds(call))
    return {name: median(times) for name, times in found.items()}


def ablation() -> dict[str, float]:
    """Return the seconds of ranking all units of encoder and decoder over 2,000 sums."""
    agent = agents.make("seq2seq_adder", task="add3x3", device="cpu")
    study = agent.study(agent.task.samples("test", ABLATED))
    return {
        part.name: seconds(lambda part=part: rank_units(part.layer, part.score))  # type: ignore[misc]
        for part in study.parts
    }


def repeated() -> dict[str, float]:
    """Return the medians of the first and last ten of 100 calls, and the growth of memory in MB."""
    rnn, _, inputs = layer()
    times, memory = [], []
    for _ in range(CALLS):
        times.append(seconds(lambda: trace_cells(rnn, inputs)))
        memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return {
        "first ten": statistics.median(times[:10]),
        "last ten": statistics.median(times[-10:]),
        "growth in MB": memory[-1] - memory[9],
    }


def measure(rounds: int = ROUNDS) -> Figures:
    """Return all figures, with the threads that torch takes by itself."""
    return {"traces": traces(rounds), "ablation": ablation(), "repeated": repeated()}


def report(figures: Figures) -> str:
    """Return the figures as a table."""
    times = figures["traces"]
    ours = times["trace_cells"]
    rows = [
        [
            name,
            f"{1000 * value:,.1f} ms",
            f"{value / ours:.2f}",
            "≥ 10" if "one sample" in name else "",
        ]
        for name, value in times.items()
    ]
    rows += [
        [f"rank_units, {UNITS} units of the {part}", f"{value:.1f} s", "", "≤ 60 s"]
        for part, value in figures["ablation"].items()
    ]
    again = figures["repeated"]
    rows.append([
        f"the last ten of {CALLS} calls beside the first",
        f"{1000 * again['last ten']:.1f} ms", f"{again['last ten'] / again['first ten']:.2f}",
        f"memory grew by {again['growth in MB']:.0f} MB",
    ])  # fmt: skip
    return table([f"states of {SAMPLES:,} sums", "time", "× trace_cells", "accepted"], rows)
