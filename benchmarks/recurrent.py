"""How fast one looks into an LSTM: traces beside a loop over cells, ablation, repeated calls."""

import resource
import statistics
from collections.abc import Callable

import torch
from torch import Tensor, nn

import agents
from benchmarks.measure import Figures, in_turn, median, seconds, table
from visualization.recurrent import rank_units, trace_cells

ROUNDS = 7
SHAPES = {"1,000 sums": (1000, 12), "8 texts of 1,000 characters": (8, 1000)}  # samples, steps
CODES, UNITS = 12, 128  # of add3x3
ABLATED = 2000  # samples
CALLS = 100


def layer(shape: tuple[int, int]) -> tuple[nn.LSTM, nn.LSTMCell, Tensor]:
    """Return an LSTM, a cell of the same weights, and one-hot texts (batch, time, code)."""
    torch.manual_seed(0)
    rnn = nn.LSTM(CODES, UNITS, batch_first=True)
    cell = nn.LSTMCell(CODES, UNITS)
    cell.load_state_dict({name.removesuffix("_l0"): w for name, w in rnn.state_dict().items()})
    codes = torch.randint(0, CODES, shape)
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


@torch.no_grad()
def loop_with_gates(cell: nn.LSTMCell, inputs: Tensor) -> list[Tensor]:
    """Return i, f, g, o, h and c (batch, time, unit) from a loop that works out the gates."""
    h = c = torch.zeros(len(inputs), cell.hidden_size)
    states = []
    for step in range(inputs.shape[1]):
        total = nn.functional.linear(inputs[:, step], cell.weight_ih, cell.bias_ih)
        total = total + nn.functional.linear(h, cell.weight_hh, cell.bias_hh)
        i, f, g, o = total.chunk(4, dim=-1)
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        c = f * c + i * g
        h = o * c.tanh()
        states.append((i, f, g, o, h, c))
    return [torch.stack(values, 1) for values in zip(*states, strict=True)]


def traces(rounds: int, shape: tuple[int, int]) -> dict[str, float]:
    """Return the median seconds of each way to the states of some texts, interleaved."""
    rnn, cell, inputs = layer(shape)
    h = trace_cells(rnn, inputs).h[0]
    for states in (loop(cell, inputs)[0], loop_with_gates(cell, inputs)[4]):
        assert torch.allclose(h, states, atol=1e-6)
    ways: dict[str, Callable[[], object]] = {
        "trace_cells": lambda: trace_cells(rnn, inputs),
        "cells, one sample at a time": lambda: [loop(cell, x[None]) for x in inputs],
        "cells, all samples at once": lambda: loop(cell, inputs),
        "a loop that sees the gates": lambda: loop_with_gates(cell, inputs),
        "nn.LSTM alone": torch.no_grad()(lambda: rnn(inputs)),
    }
    return {name: median(times) for name, times in in_turn(ways, rounds).items()}


def ablation() -> dict[str, float]:
    """Return the seconds of ranking all units of encoder and decoder over 2,000 sums."""
    agent = agents.make("seq2seq_adder", task="add3x3", device="cpu")
    study = agent.observe(agent.task.samples("test", ABLATED))
    return {
        part.name: seconds(lambda part=part: rank_units(part.layer, part.score))  # type: ignore[misc]
        for part in study.recurrent
    }


def repeated() -> dict[str, float]:
    """Return the medians of the first and last ten of 100 calls, and the growth of memory in MB."""
    rnn, _, inputs = layer(SHAPES["1,000 sums"])
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
    found = {name: traces(rounds, shape) for name, shape in SHAPES.items()}
    return {"traces": found, "ablation": ablation(), "repeated": repeated()}


def report(figures: Figures) -> str:
    """Return the figures as a table."""
    rows = []
    for shape, times in figures["traces"].items():
        for name, value in times.items():
            ratio = f"{value / times['trace_cells']:.2f}"
            asked = "≥ 10" if "one sample" in name and "sums" in shape else ""
            rows.append([f"{shape}: {name}", f"{1000 * value:,.1f} ms", ratio, asked])
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
    return table(["states of", "time", "× trace_cells", "accepted"], rows)
