"""Edits against changed loops over cells, their errors, and that layers stay as they were."""

import functools
import gc
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.visualization.recurrent.test_cells import (
    BATCH,
    KINDS,
    TIME,
    UNITS,
    Change,
    assert_agrees,
    assert_close,
    initial,
    inputs,
    layer,
)
from visualization.recurrent import Edit, forward_with_edits, intervene_on, rank_units, trace_cells


def setter(edits: Sequence[Edit], directions: int = 1) -> Change:
    """Return a change that does, in plain words, what each edit says, in their order."""

    def change(row: int, time: int, h: Tensor, c: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
        for edit in edits:
            if edit.layer * directions + edit.direction != row:
                continue
            if edit.time not in (None, time):
                continue
            units = list(range(UNITS) if edit.units is None else edit.units)
            if edit.scale is not None:
                h[:, units] *= edit.scale
                c[:, units] *= edit.scale
            if edit.c is not None:
                c[:, units] = torch.as_tensor(edit.c, dtype=c.dtype)
                if edit.h is None and time >= 0:
                    h[:, units] = (gate * c.tanh())[:, units]
            if edit.h is not None:
                h[:, units] = torch.as_tensor(edit.h, dtype=h.dtype)
        return h, c

    return change


SAMPLES = torch.linspace(-0.8, 0.9, BATCH * 2).reshape(BATCH, 2)
CASES = {
    "mean": [Edit(units=[1, 4], h=torch.tensor([0.3, -0.2]))],
    "all": [Edit(h=0.1)],
    "scale": [Edit(units=[1, 2], scale=-0.5)],
    "scale once": [Edit(units=[0], scale=2.0, time=2)],
    "first step": [Edit(units=[5], h=0.7, time=0)],
    "last step": [Edit(units=[5], h=0.7, time=TIME - 1)],
    "never": [Edit(units=[5], h=0.7, time=TIME)],
    "per sample": [Edit(units=[3, 1], h=SAMPLES)],
    "per sample once": [Edit(units=[3, 1], h=SAMPLES, time=1)],
    "several": [Edit(units=[0], h=0.5), Edit(units=[1], scale=0.3), Edit(h=-0.1, time=3)],
    "one after the other": [Edit(units=[0], h=0.5, time=1), Edit(units=[0], scale=3.0, time=1)],
    "two held": [Edit(units=[0, 1], h=0.5), Edit(units=[1], h=-0.5)],
    "held but for a step": [Edit(units=[2], h=0.0), Edit(units=[2], h=1.0, time=2)],
    "scaled, then held": [Edit(scale=0.5), Edit(units=[2], h=0.8)],
    "numpy": [Edit(units=np.array([0, 2]), h=np.array([0.25, 0.5]))],
    "nobody": [Edit(units=[], h=0.5)],
}
CELL_CASES = {
    "cell": [Edit(units=[2], c=1.5)],
    "cell mean": [Edit(units=[1, 4], h=torch.tensor([0.3, -0.2]), c=torch.tensor([0.9, -2.0]))],
    "cell once": [Edit(units=[2, 0], c=-1.5, time=2)],
    "cell at the first step": [Edit(units=[2, 0], c=-1.5, time=0)],
    "cell per sample": [Edit(units=[2, 0], c=SAMPLES)],
    "cell and hidden per sample": [Edit(units=[2, 0], c=SAMPLES, h=-SAMPLES, time=1)],
    "cell after a held h": [Edit(units=[0], h=0.9), Edit(units=[1], c=1.0, time=2)],
    "cell held but for a step": [Edit(units=[2], c=0.0), Edit(units=[2], c=1.0, time=2)],
    "cell, then h": [Edit(units=[2], c=0.7), Edit(units=[2], h=0.1)],
}


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("case", [*CASES, *CELL_CASES])
@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn_tanh"])
def test_edits_equal_a_loop(kind: str, case: str, given: bool) -> None:
    """Units held, set at one step, scaled, per sample: states and gates equal a changed loop."""
    edits = (CASES | CELL_CASES)[case]
    rnn = layer(kind)
    if kind != "lstm" and case in CELL_CASES:
        with pytest.raises(ValueError, match=r"Edit: c: .* has no cell; accepted: h, scale"):
            forward_with_edits(rnn, inputs(), None, edits)
    else:
        assert_agrees(rnn, edits, setter(edits), initial(rnn) if given else None)


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn_relu"])
def test_edits_of_other_layers_and_directions(kind: str) -> None:
    """An edit of layer 1, or of the backward direction, acts there and on what follows."""
    rnn = layer(kind, num_layers=2, bidirectional=True, batch_first=False)
    for where in ({"layer": 1}, {"direction": 1}, {"layer": 1, "direction": 1}):
        for what in ({"h": 0.4}, {"h": 0.4, "time": 1}, {"scale": -1.0}, {"h": SAMPLES}):
            edits = [Edit(units=[1, 3], **where, **what), Edit(units=[0], h=-0.3)]
            assert_agrees(rnn, edits, setter(edits, directions=2))
    if kind == "lstm":
        edits = [Edit(units=[1], layer=1, direction=1, c=0.8), Edit(units=[1], c=0.8, direction=1)]
        edits.append(Edit(units=[2], direction=1, c=-1.0, time=3))
        assert_agrees(rnn, edits, setter(edits, directions=2), initial(rnn))


@pytest.mark.parametrize("kind", KINDS)
def test_holding_is_an_edit_at_every_step(kind: str) -> None:
    """Units held by changed weights do what edits after each single step do."""
    rnn, x, state = layer(kind), inputs(), initial(layer(kind))
    values = {"h": torch.tensor([0.3, -0.6])} | ({"c": 0.8} if kind == "lstm" else {})
    first = [values["h"], values.get("c")]
    for held, given in zip(state if kind == "lstm" else [state], first, strict=False):
        held[0][:, [1, 4]] = torch.as_tensor(given, dtype=torch.float64)
    fused = forward_with_edits(rnn, x, state, [Edit(units=[1, 4], **values)], trace=True)
    steps = [Edit(units=[1, 4], time=time, **values) for time in range(TIME)]
    single = forward_with_edits(rnn, x, state, steps, trace=True)
    assert_close(fused.trace.quantities(), single.trace.quantities())
    assert_close(fused.state, single.state)


@pytest.mark.parametrize("kind", KINDS)
def test_edits_name_steps_across_calls(kind: str) -> None:
    """In calls that go on from each other an edit's time counts from the first of them."""
    rnn, x, state = layer(kind), inputs(), initial(layer(kind))
    edits = [Edit(units=[2], h=0.5, time=3), Edit(units=[0], scale=0.5), Edit(units=[1], h=0.1)]
    wanted = forward_with_edits(rnn, x, state, edits).output
    for sizes in ((1,) * TIME, (2, 3), (3, 1, 1)):
        with intervene_on(rnn, edits):
            carried, outputs = state, []
            for piece in x.split(sizes, dim=1):
                output, carried = rnn(piece, carried)
                outputs.append(output)
        assert_close(torch.cat(outputs, dim=1), wanted)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "accepted: h or c or both, or else scale"),
        ({"h": 1.0, "scale": 2.0}, "accepted: h or c or both, or else scale"),
        ({"h": 1.0, "time": -1}, "time -1 is not accepted; accepted: 0 or more"),
        ({"h": 1.0, "units": [1, 1]}, r"units \(1, 1\) are not accepted; accepted: each once"),
        ({"h": 1.0, "units": 3}, r"units 3 are not accepted; accepted: .* such as \[3\]"),
        ({"h": 1.0, "units": [2.5]}, r"units \[2.5\] are not accepted; accepted: numbers of units"),
        ({"h": 1.0, "units": [6]}, "units 6 is not accepted; accepted: 0 to 5"),
        ({"h": 1.0, "units": [-1]}, "units -1 is not accepted; accepted: 0 to 5"),
        ({"h": 1.0, "layer": 1}, "layer 1 is not accepted; accepted: 0 to 0"),
        ({"h": 1.0, "direction": 1}, "direction 1 is not accepted; accepted: 0 to 0"),
        (
            {"h": [1.0, 2.0], "units": [0, 1, 2]},
            r"shape \(2,\) is not accepted; accepted: a number",
        ),
        ({"c": torch.zeros(9, 1), "units": [0]}, r"shape \(9, 1\) .* \(1,\) or \(3, 1\)"),
    ],
    ids=str,
)
def test_errors_of_edits(settings: dict[str, Any], message: str) -> None:
    """A bad edit is a ValueError that names the field, the value and what is accepted."""
    with pytest.raises(ValueError, match=message):  # noqa: PT012 - either may refuse
        edit = Edit(**settings)
        with intervene_on(layer("lstm"), [edit]):
            forward_with_edits(layer("lstm"), inputs(), None, [edit])


class Residual(nn.LSTM):
    """Adds what it reads to what it writes."""

    def forward(self, x: Tensor, state: Any = None) -> Any:
        """Return outputs and the last state."""
        output, state = super().forward(x, state)
        return output + x[..., :1], state


def test_a_subclass_with_a_forward_of_its_own_is_refused() -> None:
    """What a forward of its own computes is not passed over without a word, in any look."""
    own = Residual(4, UNITS, batch_first=True, dtype=torch.float64)
    message = "rnn: Residual has a forward of its own, .*; accepted: an nn.LSTM, nn.GRU or nn.RNN"
    with pytest.raises(ValueError, match=message):
        trace_cells(own, inputs())
    with pytest.raises(ValueError, match=message), intervene_on(own):
        own(inputs())
    with pytest.raises(ValueError, match=message):
        rank_units(own, lambda: {"s": own(inputs())[0][:, -1, 0]})
    plain = type("Plain", (nn.LSTM,), {})(4, UNITS, batch_first=True, dtype=torch.float64)
    assert_close(trace_cells(plain, inputs()).h[0], plain(inputs())[0].detach())


def test_errors_of_traces() -> None:
    """A bad module, input or state is a ValueError that says what is accepted."""
    rnn, x = layer("lstm"), inputs()
    zeros = torch.zeros(1, BATCH, UNITS, dtype=torch.float64)
    bad: list[tuple[Any, Any, Any, str]] = [
        (nn.Linear(2, 2), x, None, "rnn: Linear is not accepted; accepted: an nn.LSTM"),
        (rnn, x[..., :2], None, r"inputs: \(3, 5, 2\) .* \(batch, time, 4\)"),
        (
            layer("gru", batch_first=False),
            x[..., :2],
            None,
            r"accepted: a tensor \(time, batch, 4\)",
        ),
        (rnn, x[:, :0], None, r"inputs: \(3, 0, 4\)"),
        (rnn, x[None], None, r"inputs: \(1, 3, 5, 4\)"),
        (rnn, "abc", None, "inputs: str is not accepted"),
        (rnn, x, zeros, r"state: shapes \[\(1, 3, 6\)\]; accepted: \[\(1, 3, 6\), \(1, 3, 6\)\]"),
        (rnn, x, (zeros[:, :2], zeros), r"state: shapes \[\(1, 2, 6\)"),
        (layer("gru"), x, (zeros, zeros), "state: shapes"),
        (rnn, x, "ab", r"state: shapes \['str'\]; accepted: "),
        (rnn, x[0], (zeros[0, 0], zeros[0, 0]), r"shapes \[\(6,\), .* accepted: \[\(1, 6\), "),
        (rnn, x.float(), None, "inputs: torch.float32 is not accepted; accepted: torch.float64, "),
        (layer("gru", torch.float32), x, None, "inputs: torch.float64 is not .*: torch.float32, "),
        (rnn, x.long(), None, "inputs: torch.int64 is not accepted; accepted: torch.float64, "),
        (rnn, x, (zeros, zeros.float()), "state: torch.float32 .*; accepted: torch.float64, "),
    ]
    for module, given, state, message in bad:
        with pytest.raises(ValueError, match=message):
            trace_cells(module, given, state)
    with pytest.raises(ValueError, match=r"inputs: torch\.float32 is not"), intervene_on(rnn):
        rnn(x.float())
    with pytest.raises(ValueError, match="gate: a layer of kind lstm has no 'z'; accepted: i"):
        trace_cells(rnn, x).gate("z")
    with pytest.raises(ValueError, match="gate: a layer of kind rnn_relu has no 'i'; acc"):
        _ = trace_cells(layer("rnn_relu"), x).i
    with intervene_on(rnn) as steering, pytest.raises(ValueError, match="trace is False"):
        steering.trace()
    with pytest.raises(ValueError, match="a projected LSTM is not accepted; accepted: proj_size 0"):
        forward_with_edits(layer("lstm", proj_size=2), x, None, [Edit(h=0.0)])


@pytest.mark.parametrize("fails", [False, True])
def test_a_layer_is_as_before(fails: bool) -> None:
    """Weights, modes, hooks, gradients, random state and a forward of its own survive."""
    model = nn.ModuleList([layer("lstm", num_layers=2, dropout=0.5), layer("gru")])
    first, second = model
    x = inputs()
    first(x)[0].sum().backward()
    first.weight_ih_l0.requires_grad_(False)
    second.eval()
    own = functools.partial(type(second).forward, second)
    second.forward = own
    calls = []
    handle = second.register_forward_hook(lambda *given: calls.append(given[0]))
    bits = [p.detach().clone() for p in model.parameters()]
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    asks, held = [p.requires_grad for p in model.parameters()], dict(vars(first))
    state = torch.get_rng_state()

    def look() -> None:
        with (
            intervene_on(first, [Edit(h=0.3)], trace=True),
            intervene_on(second, [Edit(scale=0.0)]),
        ):
            trace_cells(first, x)
            assert (first(x)[0] == 0.3).sum() == 0  # layer 0 is held, layer 1 is the output
            assert not second(x)[0].any()
            if fails:
                raise KeyError("stop")

    if fails:
        with pytest.raises(KeyError, match="stop"):
            look()
    else:
        look()
    handle.remove()
    assert len(calls) == 1
    assert dict(vars(first)) == held
    assert "forward" not in vars(first)
    assert second.forward is own
    assert [m.training for m in model.modules()] == [True, True, False]
    assert [p.requires_grad for p in model.parameters()] == asks
    for parameter, value, gradient in zip(model.parameters(), bits, gradients, strict=True):
        assert torch.equal(parameter, value)
        assert (parameter.grad is None) == (gradient is None)
        assert gradient is None or torch.equal(parameter.grad, gradient)
    assert torch.equal(torch.get_rng_state(), state)


def test_repeated_calls_leave_nothing_behind() -> None:
    """After 100 looks there are as many tensors, modules and hooks as after 10."""
    rnn, x = layer("lstm", num_layers=2), inputs()

    def counts(num: int) -> tuple[int, int, int]:
        for _ in range(num):
            trace_cells(rnn, x)
            with intervene_on(rnn, [Edit(units=[0], h=0.0), Edit(scale=0.5, time=1)], trace=True):
                rnn(x)
        gc.collect()
        alive = gc.get_objects()
        tensors = sum(issubclass(type(thing), Tensor) for thing in alive)
        modules = sum(issubclass(type(thing), nn.Module) for thing in alive)
        return tensors, modules, len(rnn._forward_hooks) + len(rnn._forward_pre_hooks)

    counts(1)  # what the first call loads
    assert counts(10) == counts(100)


def test_a_block_within_a_block_edits_the_edited_layer() -> None:
    """Edits of an outer block hold in an inner one for the same layer, and come before its own."""
    rnn, x = layer("lstm"), inputs()
    outer, inner = Edit(units=[0], h=0.3), Edit(units=[0, 1], scale=0.5)
    with intervene_on(rnn, [outer]):
        with intervene_on(rnn, [inner], trace=True) as steering:
            both = rnn(x)[0]
        one = rnn(x)[0]
    assert_close(both, forward_with_edits(rnn, x, edits=[outer, inner]).output)
    assert_close(steering.trace().h[0], both)
    assert_close(one, forward_with_edits(rnn, x, edits=[outer]).output)


def test_mixed_precision_is_traced_in_the_weights_own() -> None:
    """Under autocast, and of bf16 inputs, states are those of the weights' own precision."""
    rnn, x = layer("lstm"), inputs().bfloat16()
    plain = trace_cells(rnn, x.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = trace_cells(rnn, x)
    assert mixed.h.dtype == rnn.weight_ih_l0.dtype
    assert_close((plain.h, plain.c), (mixed.h, mixed.c))
