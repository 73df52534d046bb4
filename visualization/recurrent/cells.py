"""States and gates of recurrent layers at every step, and forward passes with edited units.

A run goes through the fused kernels of torch, one layer and direction at a time; the gates are
computed again from the states with two matrix products for all steps at once. In what follows L is
layers × directions (layer 0 forwards, layer 0 backwards, layer 1 forwards, …), B samples, T time
steps, I inputs, U units.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from visualization.core.earlier_names import renamed_arguments
from visualization.core.errors import argument_error
from visualization.core.preserve import evaluation_mode, replaced_forward
from visualization.core.records import brief_repr
from visualization.recurrent.edits import Edit, check_edits
from visualization.recurrent.engine import Cell, DirectionOutput, by_layer, run_with_edits
from visualization.recurrent.inputs import State, prepared
from visualization.recurrent.packed import run_packed


@attrs.frozen(eq=False, field_transformer=brief_repr)
class CellTrace:
    """Cell trace: states and gates of a recurrent layer over B samples and T time steps.

    Attributes:
        kind: `lstm`, `gru`, `rnn_tanh` or `rnn_relu`.
        h: hidden states after each step (L, B, T, U); of a projected LSTM, the projected ones.
        c: cell states after each step (L, B, T, U); None where there are none.
        gates: by name, each (L, B, T, U). LSTM: i, f, o in [0, 1] and the candidate g in [-1, 1]
            (Hochreiter & Schmidhuber 1997, with Gers et al.'s forget gate); GRU: r, z in [0, 1] and
            n in [-1, 1] (Cho et al. 2014, 1406.1078). Backward directions are aligned to the
            inputs: time t is the state after reading input t from the end.
        num_directions: 1 or 2.
    """

    kind: str
    h: Tensor
    c: Tensor | None
    gates: Mapping[str, Tensor]
    num_directions: int = 1

    @property
    def i(self) -> Tensor:
        """Input gate of an LSTM."""
        return self.gate("i")

    @property
    def f(self) -> Tensor:
        """Forget gate of an LSTM."""
        return self.gate("f")

    @property
    def g(self) -> Tensor:
        """Candidate of an LSTM's cell."""
        return self.gate("g")

    @property
    def o(self) -> Tensor:
        """Output gate of an LSTM."""
        return self.gate("o")

    def gate(self, name: str) -> Tensor:
        """Return one gate (L, B, T, U); ValueError if this kind of layer has none of that name."""
        if name not in self.gates:
            problem = f"a layer of kind {self.kind} has no {name!r}"
            raise argument_error("gate", problem, ", ".join(self.gates) or "an LSTM or GRU")
        return self.gates[name]

    def quantities(self, layer_index: int = 0) -> dict[str, Tensor]:
        """Return every quantity of one layer and direction, each (B, T, U), c first."""
        cells = {} if self.c is None else {"c": self.c}
        return {
            name: values[layer_index]
            for name, values in {**cells, "h": self.h, **self.gates}.items()
        }

    def all_quantities(self) -> dict[str, Tensor]:
        """Return every quantity, each (L, B, T, U)."""
        return {"h": self.h, **({} if self.c is None else {"c": self.c}), **self.gates}

    def first(self, num: int) -> "CellTrace":
        """Return the trace of the first `num` samples."""
        gates = {name: values[:, :num] for name, values in self.gates.items()}
        c = None if self.c is None else self.c[:, :num]
        return CellTrace(self.kind, self.h[:, :num], c, gates, self.num_directions)

    def state(self, layer_index: int = 0) -> Tensor:
        """Return all that one layer carries on (B, T, U or 2 U): h, and then c if there is one."""
        parts = (
            [self.h[layer_index]] if self.c is None else [self.h[layer_index], self.c[layer_index]]
        )
        return torch.cat(parts, dim=-1)

    def layer_name(self, layer_index: int) -> str:
        """Return a name of one layer and direction, such as `layer 1 backwards`."""
        layer, direction = divmod(layer_index, self.num_directions)
        return f"layer {layer}" + (" backwards" if direction else "")

    def bounded(self, layer_index: int) -> Tensor:
        """Return the states of one layer and direction in [-1, 1]: tanh(c), else h (B, T, U)."""
        return self.h[layer_index] if self.c is None else torch.tanh(self.c[layer_index])

    @staticmethod
    def joined(traces: "Sequence[CellTrace]") -> "CellTrace":
        """Return traces of calls that went on from each other as one, along time."""
        first = traces[0]
        cells = [trace.c for trace in traces if trace.c is not None]
        gates = {name: torch.cat([t.gates[name] for t in traces], dim=2) for name in first.gates}
        return CellTrace(
            first.kind,
            torch.cat([trace.h for trace in traces], dim=2),
            torch.cat(cells, dim=2) if cells else None,
            gates,
            first.num_directions,
        )


@torch.no_grad()
def trace_cells(rnn: nn.RNNBase, inputs: Tensor, state: State = None) -> CellTrace:
    """Cell trace: states and gates of an nn.LSTM, nn.GRU or nn.RNN at every step.

    Dropout between layers is not applied, and nothing of `rnn` is changed. The layer is called as a
    model calls it, so that hooks run, such as those by which `weight_norm` makes the weights.

    Args:
        rnn: any number of layers, one or both directions, with or without biases or projection.
        inputs: (B, T, I) if `rnn.batch_first`, else (T, B, I); or one sample (T, I), in the dtype
            of the weights.
        state: what `rnn` takes: (L, B, U), or a pair of them for an LSTM; None: zeros.

    Raises:
        ValueError: names what does not fit, and what is accepted.
    """
    trace = forward_with_edits(rnn, inputs, state, trace=True).trace
    assert trace is not None
    return trace


@attrs.frozen(eq=False)
class RnnOutput:
    """Output of a recurrent layer: `output` and `state` as `rnn` returns; `trace` if asked for."""

    output: Any
    state: Any
    trace: CellTrace | None
    valid: Tensor | None = None  # of a packed sequence the steps that there are (B, T)


@renamed_arguments(keep="trace", clock="start_time")
def forward_with_edits(
    rnn: nn.RNNBase,
    inputs: Tensor,
    state: State = None,
    edits: Sequence[Edit] = (),
    start_time: int = 0,
    trace: bool = False,
) -> RnnOutput:
    """Forward pass of a recurrent layer with some of its units changed.

    Args:
        rnn: see `trace_cells`.
        inputs: see `trace_cells`.
        state: see `trace_cells`.
        edits: what is changed, in the order in which it is applied.
        start_time: the time of the first step, by which edits name a step.
        trace: also trace states and gates.
    """
    check_edits(edits, rnn)
    prepared(rnn, inputs, state)
    outputs: list[RnnOutput] = []

    def forward(input: Tensor, hx: State = None) -> tuple[Tensor, Any]:  # noqa: A002 - torch's name
        outputs.append(_forward(rnn, input, hx, edits, start_time, trace))
        return outputs[-1].output, outputs[-1].state

    with evaluation_mode(rnn), _attributes_restored(rnn):
        rnn.forward = forward
        rnn(inputs, state)
    return outputs[-1]


@contextlib.contextmanager
def _attributes_restored(rnn: nn.RNNBase) -> Iterator[None]:
    """Restore `forward`, and the weights that hooks before it made, after a block."""
    before = dict(vars(rnn))
    try:
        yield
    finally:
        for name in vars(rnn).keys() - before.keys():
            delattr(rnn, name)
        for name, value in before.items():
            if vars(rnn)[name] is not value:
                setattr(rnn, name, value)


def _forward(
    rnn: nn.RNNBase,
    inputs: Tensor | PackedSequence,
    state: State,
    edits: Sequence[Edit],
    start_time: int,
    with_trace: bool,
) -> RnnOutput:
    """Run in the weights' own precision, layer by layer."""
    if isinstance(inputs, PackedSequence):
        return _run_packed(rnn, inputs, state, edits, start_time, with_trace)
    x, h0, c0 = prepared(rnn, inputs, state)

    def run(
        cell: Cell, read: Tensor, h: Tensor, c: Tensor | None, layer: int, direction: int
    ) -> DirectionOutput:
        own_edits = [e for e in edits if (e.layer, e.direction) == (layer, direction)]
        if direction:
            own_edits = [e.mirrored(2 * start_time + x.shape[1] - 1) for e in own_edits]
        return run_with_edits(cell, read, h, c, own_edits, start_time, with_trace)

    with torch.autocast(x.device.type, enabled=False):
        output, parts = by_layer(rnn, x, h0, c0, run)
    return as_rnn_returns(rnn, inputs, output, parts, with_trace)


def _run_packed(
    rnn: nn.RNNBase, inputs: PackedSequence, state: State, edits: Sequence[Edit], start_time: int,
    with_trace: bool,
) -> RnnOutput:  # fmt: skip
    """Run on a packed sequence: each direction begins where a sample does."""
    across = not rnn.batch_first

    def run(x: Tensor, own: Any, mine: Sequence[Edit]) -> tuple[Tensor, Any, dict[str, Tensor]]:
        x = x.transpose(0, 1) if across else x
        group = _forward(rnn, x, own, mine, start_time, with_trace)
        parts = {} if group.trace is None else group.trace.all_quantities()
        return group.output.transpose(0, 1) if across else group.output, group.state, parts

    whole = run_packed(run, inputs, state, edits)
    trace = None
    if with_trace:
        h, c = whole.trace.pop("h"), whole.trace.pop("c", None)
        num_directions = 2 if rnn.bidirectional else 1
        trace = CellTrace(rnn.mode.lower(), h, c, whole.trace, num_directions)
    return RnnOutput(whole.output, whole.state, trace, whole.valid)


def as_rnn_returns(
    rnn: nn.RNNBase, inputs: Tensor, output: Tensor, parts: list[DirectionOutput], with_trace: bool
) -> RnnOutput:
    """Return output and state as `rnn` would, from the outputs of its layers and directions."""
    state: Any = torch.stack([part.h_last for part in parts])
    if rnn.mode == "LSTM":
        state = (state, torch.stack([part.c_last for part in parts if part.c_last is not None]))
    trace = None
    if with_trace:
        cells = [part.c for part in parts if part.c is not None]
        gates = {name: _stack([part.gates[name] for part in parts]) for name in parts[0].gates}
        trace = CellTrace(
            rnn.mode.lower(), _stack([part.h for part in parts]), _stack(cells) if cells else None,
            gates, 2 if rnn.bidirectional else 1,
        )  # fmt: skip
    if inputs.ndim == 2:
        squeezed = tuple(s[:, 0] for s in state) if isinstance(state, tuple) else state[:, 0]
        return RnnOutput(output[0], squeezed, trace)
    return RnnOutput(output if rnn.batch_first else output.transpose(0, 1), state, trace)


def _stack(rows: list[Tensor]) -> Tensor:
    return rows[0][None] if len(rows) == 1 else torch.stack(rows)


class InterventionHandle:
    """The calls of a recurrent layer within a `with intervene_on(…)` block, one after the other.

    Attributes:
        edits: what is changed, in the order in which it is applied.
        num_calls: how often the layer was called.
    """

    def __init__(self, rnn: nn.RNNBase, edits: Sequence[Edit], with_trace: bool) -> None:
        self._rnn, self.edits, self._with_trace = rnn, edits, with_trace
        self._time = 0
        self.num_calls = 0
        self._traces: list[CellTrace] = []
        self._valid: list[Tensor | None] = []  # of each call the steps that there are
        self._first = 0  # of the calls that go on from each other

    def forward(
        self,
        input: Tensor | PackedSequence,  # noqa: A002 - torch's name, by which a model may call
        hx: State = None,
    ) -> tuple[Tensor, Any]:
        """Run as the layer's own forward would, with the edits."""
        if hx is None:
            self._time, self._first = 0, len(self._traces)
        output = _forward(self._rnn, input, hx, self.edits, self._time, self._with_trace)
        self.num_calls += 1
        self._valid.append(output.valid)
        if isinstance(input, PackedSequence):
            self._time += len(input.batch_sizes)
        else:
            self._time += input.shape[1 if self._rnn.batch_first and input.ndim == 3 else 0]
        if output.trace is not None:
            self._traces.append(output.trace)
        return output.output, output.state

    @property
    def is_the_same_for_all_samples(self) -> bool:
        """Whether it keeps nothing of the samples, and has no value of a single one."""
        return not self._with_trace and all(edit.is_shared for edit in self.edits)

    def trace(self) -> CellTrace:
        """Return states and gates of all calls since the last one without a state."""
        if not self._traces:
            problem = "the layer was not called, or trace is False"
            raise argument_error("intervene_on", problem, "trace=True, and a call in the block")
        calls = self._traces[self._first :]
        sizes = [call.h.shape[1] for call in calls]
        if len(set(sizes)) > 1:
            problem = (
                f"calls with a state took {sizes} samples, so they are not one stretch of time"
            )
            raise argument_error("intervene_on", problem, "one batch in a block")
        return CellTrace.joined(calls)

    def means(self, layer: int, direction: int) -> dict[str, Tensor]:
        """Return the mean h, and c if there is one, of each unit (U,) over all calls."""
        mean_states = {}
        for name in ("h", "c"):
            values_by_call = [getattr(trace, name) for trace in self._traces]
            if values_by_call and values_by_call[0] is not None:
                layer_index = layer * self._traces[0].num_directions + direction
                mean_states[name] = torch.cat(
                    [
                        values[layer_index].flatten(0, 1)
                        if valid is None
                        else values[layer_index][valid]
                        for values, valid in zip(values_by_call, self._valid, strict=True)
                    ]
                ).mean(0)
        return mean_states


@renamed_arguments(keep="trace")
@contextlib.contextmanager
def intervene_on(
    rnn: nn.RNNBase, edits: Edit | Sequence[Edit] = (), trace: bool = False
) -> Iterator[InterventionHandle]:
    """Intervention: change units of a layer inside any model in a block, and trace it if `trace`.

    Every call of `rnn` in the block continues the time of the same samples; a call without
    a state begins at the first step, one with a state continues, so that a decoder that is called
    step by step is traced as a whole (take a block for each batch of it). Within a block for the
    same layer the outer edits hold too, and come first. Afterwards the layer is as before, also
    after an exception.
    """
    edits = [edits] if isinstance(edits, Edit) else list(edits)
    check_edits(edits, rnn)
    outer = _handle_of(rnn)
    if outer is not None:
        edits = [*outer.edits, *edits]
    handle = InterventionHandle(rnn, edits, trace)
    with replaced_forward(rnn, handle.forward):
        yield handle


def allows_other_batches(rnn: nn.RNNBase) -> bool:
    """Tell whether some samples may run once more now, without the others.

    Not where a block of `intervene_on` traces the layer, or changes states by values of each
    sample.
    """
    handle = _handle_of(rnn)
    return handle is None or handle.is_the_same_for_all_samples


def _handle_of(rnn: nn.RNNBase) -> InterventionHandle | None:
    """Return the handle of the innermost block of a layer, which has the edits of all."""
    handle = getattr(vars(rnn).get("forward"), "__self__", None)
    return handle if isinstance(handle, InterventionHandle) else None
