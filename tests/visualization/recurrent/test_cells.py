"""States, gates and changes of recurrent layers against loops over torch's own cells."""

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.prune import l1_unstructured

from visualization.recurrent import Edit, forward_with_edits, intervene_on, trace_cells

KINDS = {
    "lstm": (nn.LSTM, nn.LSTMCell),
    "gru": (nn.GRU, nn.GRUCell),
    "rnn_tanh": (nn.RNN, nn.RNNCell),
    "rnn_relu": (functools.partial(nn.RNN, nonlinearity="relu"), nn.RNNCell),
}
BATCH, TIME, INPUTS, UNITS = 3, 5, 4, 6
FEATURES = [
    {},
    {"batch_first": False},
    {"bias": False},
    {"num_layers": 2},
    {"bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "batch_first": False, "bias": False},
]
Change = Callable[[int, int, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def layer(kind: str, dtype: torch.dtype = torch.float64, **settings: Any) -> nn.RNNBase:
    torch.manual_seed(1)
    settings = {"batch_first": True} | settings
    rnn = KINDS[kind][0](INPUTS, UNITS, **settings).to(dtype)
    with torch.no_grad():
        for parameter in rnn.parameters():
            parameter.mul_(1.5)  # far from linear
    return rnn


def inputs(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(*(shape or (BATCH, TIME, INPUTS)), generator=generator, dtype=dtype)


@attrs.define
class Loop:
    """What a loop over cells found: (L, B, T, U) each."""

    h: Tensor
    c: Tensor
    gates: dict[str, Tensor]


def unchanged(row: int, time: int, h: Tensor, c: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
    return h, c


def gates_by_hand(kind: str, x: Tensor, h: Tensor, weights: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return the gates at one step from the formulas in torch's documentation."""
    w_ih, w_hh, b_ih, b_hh = weights
    read, carried = x @ w_ih.T + b_ih, h @ w_hh.T + b_hh
    if kind == "lstm":
        i, f, g, o = (read + carried).chunk(4, dim=1)
        return {"i": i.sigmoid(), "f": f.sigmoid(), "g": g.tanh(), "o": o.sigmoid()}
    if kind == "gru":
        (ri, zi, ni), (rh, zh, nh) = read.chunk(3, dim=1), carried.chunk(3, dim=1)
        r = (ri + rh).sigmoid()
        return {"r": r, "z": (zi + zh).sigmoid(), "n": (ni + r * nh).tanh()}
    return {}


@torch.no_grad()
def loop(rnn: nn.RNNBase, x: Tensor, state: Any = None, change: Change = unchanged) -> Loop:
    """Step through x (B, T, I) with torch's cells; `change` sees each state, the first too."""
    kind = rnn.mode.lower()
    directions = 2 if rnn.bidirectional else 1
    found: list[tuple[Tensor, Tensor, dict[str, Tensor]]] = []
    for row in range(rnn.num_layers * directions):
        number, direction = divmod(row, directions)
        names = [f"{w}_l{number}" + "_reverse" * direction for w in ("weight_ih", "weight_hh")]
        names += [name.replace("weight", "bias") for name in names] if rnn.bias else []
        weights = [getattr(rnn, name) for name in names]
        extra = {"nonlinearity": kind[4:]} if kind.startswith("rnn") else {}
        cell = KINDS[kind][1](x.shape[-1], UNITS, bias=rnn.bias, dtype=x.dtype, **extra)
        for own, given in zip(cell.parameters(), weights, strict=True):
            own.copy_(given)
        weights += [x.new_zeros(len(weights[0]))] * (4 - len(weights))
        zeros = x.new_zeros(len(x), UNITS)
        given = [zeros, zeros]
        if state is not None:
            given = [s[row] for s in (state if kind == "lstm" else (state, state))]
        h, c = change(row, -1, given[0].clone(), given[1].clone(), zeros)
        times = range(x.shape[1])
        steps = {}
        for time in reversed(times) if direction else times:
            gates = gates_by_hand(kind, x[:, time], h, weights)
            if kind == "lstm":
                h, c = cell(x[:, time], (h, c))
            else:
                h = cell(x[:, time], h)
            h, c = change(row, time, h.clone(), c.clone(), gates.get("o", zeros))
            steps[time] = (h, c, gates)
        ordered = [steps[time] for time in times]
        gates = {
            name: torch.stack([step[2][name] for step in ordered], 1) for name in ordered[0][2]
        }
        found.append((*(torch.stack([step[k] for step in ordered], 1) for k in (0, 1)), gates))
        if row % directions == directions - 1:
            x = torch.cat([found[-directions + k][0] for k in range(directions)], dim=-1)
    hs, cs, all_gates = zip(*found, strict=True)
    return Loop(
        torch.stack(hs), torch.stack(cs),
        {name: torch.stack([g[name] for g in all_gates]) for name in all_gates[0]},
    )  # fmt: skip


def initial(rnn: nn.RNNBase, batch: int = BATCH, dtype: torch.dtype = torch.float64) -> Any:
    rows = rnn.num_layers * (2 if rnn.bidirectional else 1)
    h, c = inputs(2, rows, batch, rnn.hidden_size, dtype=dtype).tanh()
    return (h, c) if rnn.mode == "LSTM" else h


def ordered(rnn: nn.RNNBase, x: Tensor) -> Tensor:
    return x if rnn.batch_first else x.transpose(0, 1)


def assert_close(found: Any, wanted: Any, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=tolerance)


def assert_agrees(
    rnn: nn.RNNBase, edits: Sequence[Edit], change: Change, state: Any = None
) -> None:
    """Demand that edits do what a change does in a loop, with and without a trace."""
    x = inputs()
    wanted = loop(rnn, x, state, change)
    for keep in (False, True):
        done = forward_with_edits(rnn, ordered(rnn, x), state, edits, trace=keep)
        top = list(wanted.h[-2:] if rnn.bidirectional else wanted.h[-1:])
        assert_close(ordered(rnn, done.output), torch.cat(top, dim=-1))
    last = wanted.h[:, :, -1].clone()
    if rnn.bidirectional:
        last[1::2] = wanted.h[1::2, :, 0]
    assert_close(done.state[0] if rnn.mode == "LSTM" else done.state, last)
    assert_close(done.trace.h, wanted.h)
    assert set(done.trace.gates) == set(wanted.gates)
    for name, values in wanted.gates.items():
        assert_close(done.trace.gate(name), values)
    if rnn.mode == "LSTM":
        assert_close(done.trace.c, wanted.c)
    else:
        assert done.trace.c is None


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("features", FEATURES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_trace_equals_a_loop_over_cells(kind: str, features: dict, given: bool) -> None:
    """h, c and gates are those of torch's cells and formulas, to 1e-6 of the largest state."""
    for dtype, share in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
        rnn, x = layer(kind, dtype, **features), inputs(dtype=dtype)
        state = initial(rnn, dtype=dtype) if given else None
        trace, wanted = trace_cells(rnn, ordered(rnn, x), state), loop(rnn, x, state)
        tolerance = share * max(1.0, float(wanted.h.abs().max()), float(wanted.c.abs().max()))
        assert_close(trace.h, wanted.h, tolerance)
        assert trace.kind == kind
        assert set(trace.gates) == set(wanted.gates)
        for name, values in wanted.gates.items():
            assert_close(trace.gates[name], values, tolerance)
        if kind == "lstm":
            assert_close(trace.c, wanted.c, tolerance)
        done = forward_with_edits(rnn, ordered(rnn, x), state)
        output, last = rnn(ordered(rnn, x), state)
        assert_close((done.output, done.state), (output, last), tolerance)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_one_sample_without_a_batch(kind: str, batch_first: bool) -> None:
    """One sample (T, I) is traced as a batch of one, and run returns the layer's own shapes."""
    rnn = layer(kind, num_layers=2, bidirectional=True, batch_first=batch_first)
    x = inputs(TIME, INPUTS)
    state = initial(rnn, 1)
    single = tuple(s[:, 0] for s in state) if kind == "lstm" else state[:, 0]
    for given in (None, single):
        done = forward_with_edits(rnn, x, given, trace=True)
        assert_close((done.output, done.state), rnn(x, given))
        assert_close(done.trace.h, loop(rnn, x[None], None if given is None else state).h)


@pytest.mark.parametrize("kind", KINDS)
def test_one_sample_and_one_step(kind: str) -> None:
    """A single step of a single sample is traced exactly, its gates and cell state too."""
    rnn, x = layer(kind), inputs(1, 1, INPUTS)
    trace, wanted = trace_cells(rnn, x), loop(rnn, x)
    assert_close(trace.h, wanted.h)
    for name, values in wanted.gates.items():
        assert_close(trace.gates[name], values)
    if kind == "lstm":
        assert_close(trace.c, wanted.c)


def test_a_state_may_be_a_list() -> None:
    """A list of h and c, which nn.LSTM takes, is the state that a pair of them is."""
    rnn, x = layer("lstm"), inputs()
    state = initial(rnn)
    wanted = rnn(x, state)[0]
    assert_close(trace_cells(rnn, x, list(state)).h[0], wanted)
    with intervene_on(rnn, trace=True) as steering:
        assert_close(rnn(x, list(state))[0], wanted)
    assert_close(steering.trace().h[0], wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_batch(kind: str) -> None:
    """No samples, which torch's layers take, give states of no samples and the layer's shapes."""
    rnn, x = layer(kind, bidirectional=True), inputs()[:0]
    done = forward_with_edits(rnn, x, trace=True)
    assert done.output.shape == rnn(x)[0].shape
    assert done.trace.h.shape == (2, 0, TIME, UNITS)
    assert all(gate.shape == (2, 0, TIME, UNITS) for gate in done.trace.gates.values())


WEIGHTS_MADE_BY = {
    "weight norm": nn.utils.weight_norm,
    "spectral norm": nn.utils.spectral_norm,
    "pruning": functools.partial(l1_unstructured, amount=0.5),
    "parametrized weight norm": nn.utils.parametrizations.weight_norm,
    "parametrized spectral norm": nn.utils.parametrizations.spectral_norm,
}


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("way", WEIGHTS_MADE_BY)
def test_weights_that_a_hook_makes_are_those_of_the_next_call(way: str) -> None:
    """After a change of what weights are made from, states are those of the next call."""
    rnn, x = layer("lstm", batch_first=False), inputs()
    WEIGHTS_MADE_BY[way](rnn, "weight_hh_l0")
    with torch.no_grad():
        for parameter in rnn.parameters():
            parameter.mul_(3)
    rnn.train()
    own, flat = dict(vars(rnn)), list(rnn._flat_weights)
    kept = {name: values.clone() for name, values in rnn.state_dict().items()}
    found = trace_cells(rnn, x).h[0].transpose(0, 1)
    assert vars(rnn) == own
    assert all(vars(rnn)[name] is value for name, value in own.items())
    assert all(a is b for a, b in zip(rnn._flat_weights, flat, strict=True))
    assert all(torch.equal(values, kept[name]) for name, values in rnn.state_dict().items())
    assert rnn.training
    assert_close(found, rnn.eval()(x)[0].detach())


@pytest.mark.parametrize("features", [{}, {"num_layers": 2, "bidirectional": True}], ids=str)
def test_projection(features: dict) -> None:
    """Of a projected LSTM, h is the output and c agrees with the layer run prefix by prefix."""
    rnn, x = layer("lstm", proj_size=2, **features), inputs()
    trace, (output, _) = trace_cells(rnn, x), rnn(x)
    directions = 2 if rnn.bidirectional else 1
    assert_close(torch.cat(list(trace.h[-directions:]), dim=-1), output)
    for time in range(TIME):
        _, (h, c) = rnn(x[:, : time + 1])
        assert_close((trace.h[0, :, time], trace.c[0, :, time]), (h[0], c[0]))
        if rnn.bidirectional:
            c = rnn(x[:, time:])[1][1]
            assert_close(trace.c[1, :, time], c[1])
    assert_close((forward_with_edits(rnn, x).output, forward_with_edits(rnn, x).state), rnn(x))


class Writer(nn.Module):
    """Calls its recurrent layer step by step with its own state, feeding back what it wrote."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.core, self.out = layer(kind), nn.Linear(UNITS, INPUTS, dtype=torch.float64)

    def forward(self, x: Tensor, state: Any) -> Tensor:
        """Return the last that it wrote."""
        for _ in range(TIME):
            output, state = self.core(x, hx=state)
            x = self.out(output)
        return x


@pytest.mark.parametrize("kind", KINDS)
def test_calls_that_go_on_are_one_trace(kind: str) -> None:
    """Step-by-step calls join to the trace of one call, also inside a model that feeds back."""
    rnn, x = layer(kind), inputs()
    whole, state = trace_cells(rnn, x), None
    with intervene_on(rnn, trace=True) as steering:
        rnn(x[:, :2])  # other calls, before a new beginning
        for time in range(TIME):
            _, state = rnn(x[:, time : time + 1], state)
    assert_close(steering.trace().quantities(), whole.quantities())
    writer, first = Writer(kind), inputs(BATCH, 1, INPUTS)
    state = initial(writer.core)
    with torch.no_grad(), intervene_on(writer.core, trace=True) as steering:
        done = writer(first, state)
        written = writer.out(steering.trace().h[0])
    assert_close(writer(first, state), done)
    wanted = loop(writer.core, torch.cat([first, written[:, :-1]], dim=1), state)
    assert_close(steering.trace().h, wanted.h)
    assert_close(steering.means(0, 0)["h"], wanted.h[0].mean((0, 1)))


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn_tanh"])
def test_causality(kind: str) -> None:
    """A NaN in input t leaves all before finite and taints all from t on; mirrored backwards."""
    rnn, x, at = layer(kind, bidirectional=True), inputs(), 2
    x[:, at] = torch.nan
    for values in trace_cells(rnn, x).quantities(0).values():
        assert values[:, :at].isfinite().all()
        assert values[:, at:].isnan().all()
    for values in trace_cells(rnn, x).quantities(1).values():
        assert values[:, at + 1 :].isfinite().all()
        assert values[:, : at + 1].isnan().all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_forms_of_zero_ablation_are_one(kind: str) -> None:
    """Holding c or h at 0, zeroing the columns of W_hh and the read-out, and a loop agree."""
    rnn, x, unit = layer(kind), inputs(), 3
    readout = nn.Linear(UNITS, 2, dtype=torch.float64)

    def zeroed(row: int, time: int, h: Tensor, c: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
        h[:, unit] = c[:, unit] = 0.0
        return h, c

    cut, cut_readout = copy.deepcopy(rnn), copy.deepcopy(readout)
    with torch.no_grad():
        cut.weight_hh_l0[:, unit] = 0.0
        cut_readout.weight[:, unit] = 0.0
    answers = [readout(loop(rnn, x, change=zeroed).h[0]), cut_readout(cut(x)[0])]
    edits = [Edit(units=[unit], h=0.0), Edit(units=[unit], scale=0.0)]
    edits += [Edit(units=[unit], c=0.0), Edit(units=[unit], c=0.0, h=0.0)] * (kind == "lstm")
    answers += [readout(forward_with_edits(rnn, x, None, [edit]).output) for edit in edits]
    for answer in answers[1:]:
        assert_close(answer, answers[0])
    assert (answers[0] - readout(rnn(x)[0])).abs().max() > 1e-3
