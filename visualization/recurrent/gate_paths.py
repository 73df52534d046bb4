"""Path patching through the gates of a recurrent layer.

N samples, K scores of each, G gates, T time steps, I inputs, U units. The graph of a layer: at each
step input and last state enter the gates, the gates act on the cell, and the cell goes on.
"""

import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, get_args

import attrs
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from visualization.core.arrays import check_shape, to_numpy
from visualization.core.errors import argument_error, unknown_name_error, value_error
from visualization.core.inputs import inspection_mode
from visualization.core.records import brief_repr
from visualization.core.targets import batch_slices
from visualization.recurrent.cells import CellTrace, intervene_on
from visualization.recurrent.edits import Edit, check_edits
from visualization.recurrent.engine import Cell, scan
from visualization.recurrent.step_scores import StepScores, as_texts

Sender = Literal["both", "input", "state"]
Gates = Mapping[str, Tensor]  # each (N, T, U), in the order in which the direction reads
Source = tuple[Tensor, Tensor]  # inputs (N, T, I), and states after each step (N, T, U)
GATES = {"LSTM": ("i", "f", "g", "o"), "GRU": ("r", "z", "n")}


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class GatePaths:
    """Path patching through the gates: the effect of G gates at T steps on K scores of N samples.

    Effects are changes of the score, in its units; steps are those of the inputs.

    Attributes:
        gates: names of the gates (G,): i, f, g, o of an LSTM, r, z, n of a GRU.
        effect: of one gate at one step alone (N, K, G, T).
        gate_effect: of one gate at all steps together (N, K, G).
        joint_effect: of all gates at all steps (N, K): `total_effect`, if input and state send.
        total_effect: score of the corrupted run minus that of the clean one (N, K).
        scores: of the clean run (N, K).
        sender: `input`, `state` or both.
        units: the units whose state sends; None: all.
        symbols: the characters of the clean questions (N, T).
        changed: those that the corrupted run reads in their place (N, T); "": the same.
        answers: what each score is of (N, K).
        quantity: name of the scores.
    """

    gates: tuple[str, ...]
    effect: NDArray[np.float64]
    gate_effect: NDArray[np.float64]
    joint_effect: NDArray[np.float64]
    total_effect: NDArray[np.float64]
    scores: NDArray[np.float64]
    sender: Sender
    units: tuple[int, ...] | None
    symbols: NDArray[np.str_]
    changed: NDArray[np.str_]
    answers: NDArray[np.str_]
    quantity: str

    def shares(self) -> NDArray[np.float64]:
        """Return the share of the total effect that goes each way alone (G, T)."""
        return self._pooled(self.effect)

    def gate_shares(self) -> NDArray[np.float64]:
        """Return the share of the total effect of each gate at all steps together (G,)."""
        return self._pooled(self.gate_effect)

    def joint_share(self) -> float:
        """Return the share of the total effect of all gates at all steps together."""
        return float(self._pooled(self.joint_effect))

    def _pooled(self, effect: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of effects in the direction of the total one, over the sum of these.

        So a score weighs as much as it changes. NaN if they change by less than a millionth, which
        may be rounding.
        """
        size = np.abs(self.total_effect).sum()
        pooled = np.tensordot(np.sign(self.total_effect), effect, axes=2)
        changes = size > 1e-6 * np.abs(self.scores).sum()
        return np.asarray(pooled / size if changes else np.full_like(pooled, np.nan))


def gate_paths(
    scores: StepScores,
    corrupted: Tensor,
    symbols: ArrayLike,
    changed: ArrayLike,
    answers: ArrayLike,
    *,
    quantity: str = "score",
    sender: Sender = "both",
    units: Sequence[int] | None = None,
    layer: int = 0,
    direction: int = 0,
) -> GatePaths:
    """Path patching through the gates: which gate, and when, lets a change of the question in.

    Path patching (Wang et al. 2022, 2211.00593, section 3.1; Goldowsky-Dill et al. 2023,
    2304.05969) of the paths sender → gate → cell → answer. There are two runs: a clean one, and a
    corrupted one that reads other inputs. The gate at one step is computed from what the sender is
    in the corrupted run; every other gate has its clean value, at later steps too, so that what it
    brings goes on through the cell alone (the state, of a GRU): the path by which a later gate
    answers to it is one of that gate's own. What follows after the layer is computed anew. With
    input and state as senders, the paths through all gates at all steps are the corrupted run.

    Effects of single paths need not sum to the joint one.

    Args:
        scores: what is read off, and the layer. The corrupted run has the same targets.
        corrupted: what the layer reads in the corrupted run (N, T, I).
        symbols: the characters of the clean questions (N, T).
        changed: those of the corrupted ones where they differ, else "" (N, T).
        answers: what each score is of, in words (N, K).
        quantity: name of the scores.
        sender: what enters a gate from the corrupted run: the `input` at that step, the hidden
            `state` after the step before, or `both`.
        units: numbers of the units whose state sends; None: all.
        layer: number of the layer whose gates these are.
        direction: 0 forwards, 1 backwards.

    Raises:
        ValueError: no gates, or a projection; texts or inputs that do not fit; an unknown sender.
    """
    _check(scores, sender, units, layer, direction)
    with inspection_mode(scores.model), torch.no_grad():
        inputs = scores.read()[0]
        check_shape("corrupted", corrupted.shape, inputs.shape, "what the layer reads")
        runs = [_traced(scores, read) for read in (inputs, corrupted.to(inputs))]
        patching = _patching(scores, runs, sender, units, layer, direction)
        before, after = runs[0].scores, runs[1].scores
        gates = GATES[scores.rnn.mode]
        effect = np.stack([patching.effects_by_step({gate}) for gate in gates], axis=2)
        gate_effect = np.stack([patching.effect({gate}) for gate in gates], axis=2)
        joint_effect = patching.effect(set(gates))
    steps = tuple(inputs.shape[:2])
    return GatePaths(
        gates=gates, effect=effect, gate_effect=gate_effect, joint_effect=joint_effect,
        total_effect=to_numpy((after - before).double()), scores=to_numpy(before.double()),
        sender=sender, units=None if units is None else tuple(units), quantity=quantity,
        symbols=as_texts("symbols", symbols, steps), changed=as_texts("changed", changed, steps),
        answers=as_texts("answers", answers, tuple(before.shape)),
    )  # fmt: skip


def _check(
    scores: StepScores, sender: Sender, units: Sequence[int] | None, layer: int, direction: int
) -> None:
    check_edits([Edit(units=units, h=0.0, layer=layer, direction=direction)], scores.rnn)
    if sender not in get_args(Sender):
        raise unknown_name_error("sender", sender, get_args(Sender))
    if units is not None and sender == "input":
        raise value_error("units", list(units), "None where the input alone sends")
    if scores.rnn.mode not in GATES:
        problem = f"a layer of kind {scores.rnn.mode} has no gates"
        raise argument_error("rnn", problem, "an nn.LSTM or nn.GRU")


@attrs.frozen(eq=False)
class _Run:
    """A run of the model: what the layer reads (N, T, I), its states and gates, scores (N, K)."""

    inputs: Tensor
    trace: CellTrace
    scores: Tensor


def _traced(scores: StepScores, inputs: Tensor) -> _Run:
    """Run all samples with given inputs of the layer."""
    with intervene_on(scores.rnn, trace=True) as handle:
        values = scores(scores.rows, inputs)
    return _Run(inputs, handle.trace(), values)


def _patching(
    scores: StepScores, runs: Sequence[_Run], sender: Sender, units: Sequence[int] | None,
    layer: int, direction: int,
) -> "_Patching":  # fmt: skip
    """Return what patches gates of one layer and direction, of a clean and a corrupted run."""
    _, h0, c0 = scores.read()
    row = layer * runs[0].trace.num_directions + direction
    start = None if c0 is None else c0[row]
    own = _Layer(Cell.of(scores.rnn, layer, direction), h0[row], start, layer, direction)
    reads = [(_layer_inputs(run.inputs, run.trace, layer), run.trace.h[row]) for run in runs]
    return _Patching(scores, runs[0].inputs, own, *own.sources(reads, sender, units))


def _layer_inputs(inputs: Tensor, trace: CellTrace, layer: int) -> Tensor:
    """Return what a layer reads (N, T, I): the inputs, or the states of the layer below."""
    if layer == 0:
        return inputs
    rows = range((layer - 1) * trace.num_directions, layer * trace.num_directions)
    return torch.cat([trace.h[row] for row in rows], dim=-1)


@attrs.frozen(eq=False)
class _Layer:
    """One layer in one direction, with its initial states (N, U)."""

    cell: Cell
    h0: Tensor
    c0: Tensor | None
    layer: int
    direction: int

    def ordered(self, values: Tensor) -> Tensor:
        """Return values (N, T, …) in the order in which the direction reads, or back."""
        return values.flip(1) if self.direction else values

    def sources(
        self, reads: Sequence[Source], sender: Sender, units: Sequence[int] | None
    ) -> tuple[Source, Source]:
        """Return what enters the gates in the clean run, and with the sender of the corrupted one.

        `reads` are inputs and states (N, T, …) in both runs.
        """
        (x, h), (other_x, other_h) = (tuple(map(self.ordered, read)) for read in reads)
        mixed = h.clone()
        index = slice(None) if units is None else list(units)
        if sender != "input":
            mixed[..., index] = other_h[..., index]
        return (x, h), (x if sender == "state" else other_x, mixed)

    def gates(self, clean: Source, sent: Source, patched: Collection[str]) -> dict[str, Tensor]:
        """Return all gates (N, T, U): those that are patched from what is sent.

        The candidate of a GRU reads the reset gate: what that one is, comes first.
        """
        plain, changed = (self.cell.gates(x, self.h0, h) for x, h in (clean, sent))
        gates = {name: (changed if name in patched else plain)[name] for name in plain}
        if "n" in gates:
            x, h = sent if "n" in patched else clean
            gates["n"] = self.cell.gates(x, self.h0, h, gates["r"])["n"]
        return gates

    def edits(self, gates: Gates, rows: Tensor, first: int) -> list[Edit]:
        """Return edits that give samples `rows` (R,) the states that gates (R, T, U) lead to.

        They begin with the step that is read as the `first`, before which nothing is changed.
        """
        c = None
        if self.c0 is None:
            h = scan(1 - gates["z"], gates["z"], gates["n"], self.h0[rows])
        else:
            c = scan(gates["i"], gates["f"], gates["g"], self.c0[rows])
            h = gates["o"] * torch.tanh(c)
        edit = functools.partial(Edit, layer=self.layer, direction=self.direction)
        last = h.shape[1] - 1
        return [
            edit(
                time=last - t if self.direction else t, h=h[:, t], c=None if c is None else c[:, t]
            )
            for t in range(first, last + 1)
        ]


class _Patching:
    """Effects of some gates that are patched at some steps, in the order of the direction."""

    def __init__(
        self, scores: StepScores, inputs: Tensor, layer: _Layer, clean: Source, sent: Source
    ) -> None:
        self._scores, self._inputs, self._layer = scores, inputs, layer
        self._clean, self._sent = clean, sent
        self._plain = layer.gates(clean, sent, ())
        self._reference = scores(scores.rows, inputs)

    def effect(self, patched: Collection[str]) -> NDArray[np.float64]:
        """Return the effect (N, K) of some gates at all steps."""
        gates = self._layer.gates(self._clean, self._sent, patched)
        at = self._inputs.new_ones(self._inputs.shape[:2])
        return to_numpy((self._run(gates, self._scores.rows, at) - self._reference).double())

    def effects_by_step(self, patched: Collection[str]) -> NDArray[np.float64]:
        """Return the effect (N, K, T) of some gates at each step of the inputs.

        It is 0 where the gates are the same.
        """
        gates = self._layer.gates(self._clean, self._sent, patched)
        differs = [(values != self._plain[name]).any(-1) for name, values in gates.items()]
        rows, steps = torch.nonzero(torch.stack(differs).any(0), as_tuple=True)
        num, num_steps = self._inputs.shape[:2]
        effects = self._reference.new_zeros(num, num_steps, self._reference.shape[1])
        if len(rows):
            at = torch.nn.functional.one_hot(steps, num_steps).to(self._inputs)
            effects[rows, steps] = self._run(gates, rows, at) - self._reference[rows]
        return to_numpy(self._layer.ordered(effects).transpose(1, 2).double())

    def _run(self, gates: Gates, rows: Tensor, at: Tensor) -> Tensor:
        """Return scores (R, K) of samples `rows` with these gates where `at` (R, T) is 1."""
        parts = []
        for span in batch_slices(len(rows), self._scores.batch_size):
            own, mask = rows[span], at[span, :, None].bool()
            mixed = {
                name: torch.where(mask, values[own], self._plain[name][own])
                for name, values in gates.items()
            }
            first = int(mask[..., 0].any(0).int().argmax())
            with intervene_on(self._scores.rnn, self._layer.edits(mixed, own, first)):
                parts.append(self._scores(own, self._inputs[own]))
        return torch.cat(parts)
