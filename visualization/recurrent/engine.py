"""One recurrent layer in one direction, by torch's fused kernels, with units edited or clamped.

B samples, T time steps, I inputs, U units; the batch comes first.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar

import attrs
import torch
from torch import Tensor, nn

from visualization.recurrent.edits import Edit, apply_edit, edit_steps, split_clamps

_SATURATING_BIAS = (
    1e4  # a bias at which a sigmoid is exactly 0 or 1, in single and double precision
)

_ROWS = (
    256  # samples at a time on a CPU, whose states stay in its caches: a third faster than 2,000
)
_MOST_RUNS = 8  # that are remembered


@attrs.frozen(eq=False)
class DirectionOutput:
    """Output of one layer in one direction: h (B, T, U), and c and gates likewise if traced."""

    h: Tensor
    c: Tensor | None
    gates: Mapping[str, Tensor]
    h_last: Tensor
    c_last: Tensor | None

    def flipped(self) -> "DirectionOutput":
        """Return the same with time the other way; the last states stay those of the last step."""
        c = None if self.c is None else self.c.flip(1)
        gates = {name: values.flip(1) for name, values in self.gates.items()}
        return DirectionOutput(self.h.flip(1), c, gates, self.h_last, self.c_last)


def run_with_edits(
    cell: "Cell", x: Tensor, h0: Tensor, c0: Tensor | None, edits: Sequence[Edit], start_time: int,
    with_trace: bool,
) -> DirectionOutput:  # fmt: skip
    """Run one layer from edit to edit; edits of every step are clamps and need no stop."""
    clamps, rest = split_clamps(edits)
    for edit in clamps:
        h0, c0 = apply_edit(edit, h0, c0)
    stops = sorted(edit_steps(rest, start_time, x.shape[1]))
    if start_time == 0:
        for edit in rest:
            if edit.time is None:
                h0, c0 = apply_edit(edit, h0, c0)
    segments: list[DirectionOutput] = []
    start = 0
    for stop in [*stops, x.shape[1] - 1]:
        if start > stop:
            continue  # the last step has an edit of its own
        segment = cell.run_segment(x[:, start : stop + 1], h0, c0, clamps, with_trace)
        for edit in rest:
            if edit.time is None or edit.time == start_time + stop:
                segment = _apply_edit_to_segment(segment, edit, cell, x[:, stop], h0)
        segments.append(segment)
        h0, c0, start = segment.h_last, segment.c_last, stop + 1
    if len(segments) == 1:
        return segments[0]
    cells = [segment.c for segment in segments if segment.c is not None]
    return DirectionOutput(
        torch.cat([segment.h for segment in segments], 1),
        torch.cat(cells, 1) if cells else None,
        {name: torch.cat([p.gates[name] for p in segments], 1) for name in segments[0].gates},
        h0,
        c0,
    )


def _apply_edit_to_segment(
    segment: DirectionOutput, edit: Edit, cell: "Cell", x_last: Tensor, h0: Tensor
) -> DirectionOutput:
    """Apply an edit to the last step of a piece that began with the hidden state `h0`."""
    h, c = apply_edit(edit, segment.h_last, segment.c_last)
    if edit.h is None and edit.scale is None and c is not None:  # h follows from the new c
        before = segment.h[:, -2] if segment.h.shape[1] > 1 else h0
        output_gate = cell.gates(x_last[:, None], before, segment.h[:, -1:])["o"][:, 0]
        units = slice(None) if edit.units is None else list(edit.units)
        h = h.clone()
        h[:, units] = (output_gate * torch.tanh(c))[:, units]
    states = torch.cat([segment.h[:, :-1], h[:, None]], 1)
    cells = None
    if segment.c is not None and c is not None:
        cells = torch.cat([segment.c[:, :-1], c[:, None]], 1)
    return DirectionOutput(states, cells, segment.gates, h, c)


@attrs.frozen(eq=False)
class _Run:
    """A run of a layer: what goes in, and what comes out."""

    inputs: tuple[Tensor, ...]
    weight: Tensor
    output: tuple[Tensor, Tensor | None]

    def has(self, inputs: tuple[Tensor, ...], weight: Tensor) -> bool:
        """Tell whether the same layer gets the same."""
        return (
            weight.data_ptr() == self.weight.data_ptr()
            and len(inputs) == len(self.inputs)
            and all(a.shape == b.shape and torch.equal(a, b)
                    for a, b in zip(inputs, self.inputs, strict=True))
        )  # fmt: skip


_RUNS: ContextVar[list[_Run] | None] = ContextVar("_RUNS", default=None)


@contextlib.contextmanager
def remembered_runs() -> Iterator[None]:
    """Remember the first runs in a block; the same layer on the same input is not run again.

    For edits of states at one time, up to which all is as in the run before. Weights must not
    change in the block.
    """
    token = _RUNS.set([])
    try:
        yield
    finally:
        _RUNS.reset(token)


@attrs.frozen(kw_only=True, eq=False)
class Cell:
    """The weights of one layer in one direction, rows in torch's order of gates."""

    mode: str
    w_ih: Tensor  # (gates · U, I)
    w_hh: Tensor  # (gates · U, U)
    b_ih: Tensor  # (gates · U,)
    b_hh: Tensor  # (gates · U,)
    w_hr: Tensor | None  # (projection, U)

    @staticmethod
    def of(rnn: nn.RNNBase, layer: int, direction: int) -> "Cell":
        """Return the weights of one layer and direction of `rnn`."""
        suffix = f"_l{layer}" + ("_reverse" if direction else "")

        def weight(name: str) -> Tensor:
            """Return what is computed with to the same bits as a copy (`matmul` asks for grads)."""
            values: Tensor = getattr(rnn, name + suffix)
            return values if torch.is_grad_enabled() else values.detach()

        w_ih, w_hh = weight("weight_ih"), weight("weight_hh")
        b_ih = b_hh = w_ih.new_zeros(len(w_ih))
        if rnn.bias:
            b_ih, b_hh = weight("bias_ih"), weight("bias_hh")
        w_hr = weight("weight_hr") if rnn.proj_size else None
        return Cell(mode=rnn.mode, w_ih=w_ih, w_hh=w_hh, b_ih=b_ih, b_hh=b_hh, w_hr=w_hr)

    def fused_forward(
        self, x: Tensor, h0: Tensor, c0: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return h after each step (B, T, U) and the last c (B, U), from torch's own kernel."""
        runs = _RUNS.get()
        if runs is None:
            return self._in_pieces(x, h0, c0)
        inputs = (x, h0) if c0 is None else (x, h0, c0)
        for run in runs:
            if run.has(inputs, self.w_hh):
                return run.output
        output = self._in_pieces(x, h0, c0)
        if len(runs) < _MOST_RUNS:
            runs.append(_Run(inputs, self.w_hh, output))
        return output

    def _in_pieces(self, x: Tensor, h0: Tensor, c0: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Run so many samples at a time as are fastest."""
        if len(x) <= _ROWS or x.device.type != "cpu" or torch.is_grad_enabled():
            return self._run_kernel(x, h0, c0)
        cells = [None] * len(x) if c0 is None else torch.split(c0, _ROWS)
        pieces = zip(torch.split(x, _ROWS), torch.split(h0, _ROWS), cells, strict=False)
        outputs, last = zip(*(self._run_kernel(*piece) for piece in pieces), strict=True)
        return torch.cat(outputs), None if c0 is None else torch.cat(last)

    def _run_kernel(self, x: Tensor, h0: Tensor, c0: Tensor | None) -> tuple[Tensor, Tensor | None]:
        params = [self.w_ih, self.w_hh, self.b_ih, self.b_hh]
        if self.w_hr is not None:
            params.append(self.w_hr)
        h = h0[None].contiguous()
        rest = (params, True, 1, 0.0, False, False, True)  # one layer, evaluation, batch first
        if c0 is not None:
            output, _, c = torch.lstm(x, (h, c0[None].contiguous()), *rest)
            return output, c[0]
        kernels = {"GRU": torch.gru, "RNN_TANH": torch.rnn_tanh, "RNN_RELU": torch.rnn_relu}
        return kernels[self.mode](x, h, *rest)[0], None

    def run_segment(
        self, x: Tensor, h0: Tensor, c0: Tensor | None, clamps: Sequence[Edit], with_trace: bool
    ) -> DirectionOutput:
        """Run over x (B, T, I) with clamped units; trace gates and cells if `with_trace`."""
        clamped = self.clamped(clamps)
        h, c_last = clamped.fused_forward(x, h0, c0)
        for edit in clamps:
            h = edit.on_h(h)
        gates = self.gates(x, h0, h) if with_trace else {}
        c = scan(gates["i"], gates["f"], gates["g"], c0) if with_trace and c0 is not None else None
        for edit in clamps:
            c = None if c is None else edit.on_c(c)
            c_last = None if c_last is None else edit.on_c(c_last)
        return DirectionOutput(h, c, gates, h[:, -1], c_last)

    def clamped(self, clamps: Sequence[Edit]) -> "Cell":
        """Return weights with which units stay at given values.

        Of a clamped h nobody reads the column of W_hh any more; what it would have brought goes
        into the bias. A clamped c never lets anything in (i = 0) and forgets nothing (f = 1), so
        that it stays what it was at the start, and h = o · tanh(c).
        """
        if not clamps:
            return self
        size = self.w_hh.shape[1]
        w_ih, w_hh, b_hh = self.w_ih.clone(), self.w_hh.clone(), self.b_hh.clone()
        for edit in clamps:
            numbers = list(range(size) if edit.units is None else edit.units)
            units = torch.tensor(numbers, dtype=torch.long)
            if edit.h is not None:
                value = torch.as_tensor(edit.h, dtype=w_hh.dtype, device=w_hh.device)
                columns = w_hh[:, units]
                b_hh += (columns * value).sum(1) if value.any() else 0.0
                w_hh[:, units] = 0.0
            if edit.c is not None:
                for gate, bias in ((0, -_SATURATING_BIAS), (1, _SATURATING_BIAS)):
                    w_ih[gate * size + units] = 0.0
                    w_hh[gate * size + units] = 0.0
                    b_hh[gate * size + units] = bias
        return attrs.evolve(self, w_ih=w_ih, w_hh=w_hh, b_hh=b_hh)

    def gates(self, x: Tensor, h0: Tensor, h: Tensor, r: Tensor | None = None) -> dict[str, Tensor]:
        """Return each gate (B, T, U), given inputs (B, T, I) and the states h (B, T, U) there.

        `r` is what the candidate of a GRU is computed with, in place of its own reset gate.
        """
        if self.mode.startswith("RNN"):
            return {}
        before = torch.cat([h0[:, None], h[:, :-1]], dim=1)
        size = self.w_hh.shape[0] // (4 if self.mode == "LSTM" else 3)
        if self.mode == "LSTM":
            flat = torch.addmm(self.b_ih + self.b_hh, before.flatten(0, 1), self.w_hh.t())
            flat.addmm_(x.flatten(0, 1), self.w_ih.t())
            total = flat.view(*before.shape[:2], 4 * size)
            g = total[..., 2 * size : 3 * size].clone(memory_format=torch.contiguous_format)
            g.tanh_()  # in a third of the strided time; .contiguous() may be no copy, if B = T = 1
            i, f, _, o = total.sigmoid_().chunk(4, dim=-1)
            return {"i": i, "f": f, "g": g, "o": o}
        carried = nn.functional.linear(before, self.w_hh, self.b_hh)
        read = nn.functional.linear(x, self.w_ih, self.b_ih)
        reset, z = (carried[..., : 2 * size] + read[..., : 2 * size]).sigmoid_().chunk(2, dim=-1)
        n = (read[..., 2 * size :] + (reset if r is None else r) * carried[..., 2 * size :]).tanh_()
        return {"r": reset, "z": z, "n": n}


RunDirection = Callable[["Cell", Tensor, Tensor, Tensor | None, int, int], DirectionOutput]


def by_layer(
    rnn: nn.RNNBase, x: Tensor, h0: Tensor, c0: Tensor | None, run: RunDirection
) -> tuple[Tensor, list[DirectionOutput]]:
    """Return the last layer's output (B, T, directions × U), and each layer and direction.

    Args:
        rnn: the layer.
        x: input (B, T, I).
        h0: initial states (L, B, U).
        c0: likewise, of an LSTM.
        run: runs one layer in one direction: weights, input in the order in which it is read,
            initial states, the numbers of layer and direction.
    """
    directions = 2 if rnn.bidirectional else 1
    parts: list[DirectionOutput] = []
    for layer in range(rnn.num_layers):
        first = len(parts)
        for direction in range(directions):
            row = first + direction
            c = None if c0 is None else c0[row]
            read = x.flip(1) if direction else x
            part = run(Cell.of(rnn, layer, direction), read, h0[row], c, layer, direction)
            parts.append(part.flipped() if direction else part)
        outputs = [part.h for part in parts[first:]]
        x = torch.cat(outputs, dim=-1) if directions > 1 else outputs[0]
    return x, parts


@torch.no_grad()  # autograd would hold the views written in place for ever
def scan(i: Tensor, f: Tensor, g: Tensor, c0: Tensor) -> Tensor:
    """Return c after each step (B, T, U), without gradients: c_t = f_t · c_{t-1} + i_t · g_t."""
    cells = i * g
    before = c0
    for time in range(cells.shape[1]):
        cells[:, time].addcmul_(f[:, time], before)
        before = cells[:, time]
    return cells
