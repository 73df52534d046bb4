"""Activation patching, and answers to one question with states changed."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from visualization.core.arrays import derangement
from visualization.core.earlier_names import renamed_arguments
from visualization.core.errors import argument_error, value_error
from visualization.core.records import brief_repr
from visualization.recurrent.cells import CellTrace, intervene_on
from visualization.recurrent.edits import Edit, check_edits
from visualization.recurrent.engine import remembered_runs


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class Intervention:
    """Intervention: one question answered twice, once with states changed. A characters, V codes.

    Attributes:
        question: as it was typed, or in fewer words.
        changes: what was changed, in words.
        before: the untouched answer, as a person reads it.
        after: the answer with the change.
        probabilities: of each code at each written place, before and after (2, A, V).
        characters: the V characters, or labels.
    """

    question: str
    changes: tuple[str, ...]
    before: str
    after: str
    probabilities: NDArray[np.float64]
    characters: Sequence[str]


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class ActivationPatching:
    """Activation patching of units between samples. U units, P positions.

    Attributes:
        changed: share of the samples in which the character, or number, at each place changes
            (U, P).
        adopted: share in which it becomes the donor's, where donor and taker differ (U, P).
        full_state: `donated` when the state of all layers and directions is taken over (P,): 1 if
            all goes through it.
        positions: a name of each place (P,).
        position_name: what the places are, such as `column`.
        time: the step after which the state is taken over, in the order in which each direction
            reads.
        num_samples: how many samples took part.
    """

    changed: NDArray[np.float64]
    adopted: NDArray[np.float64]
    full_state: NDArray[np.float64]
    positions: tuple[str, ...]
    position_name: str
    time: int
    num_samples: int


@renamed_arguments(places="positions", what_places="position_name")
def patch_units(
    rnn: nn.RNNBase,
    respond: Callable[[], Tensor],
    time: int,
    *,
    positions: ArrayLike | None = None,
    position_name: str = "position in the answer",
    layer: int = 0,
    direction: int = 0,
    seed: int = 0,
    tolerance: float = 0.0,
) -> ActivationPatching:
    """Activation patching: give each unit the state it has in another sample, and answer again.

    One unit at a time, between random pairs of samples (Vig et al. 2020, 2004.12265: causal
    mediation analysis).

    Args:
        rnn: the layer, anywhere in the model; it is left as it was.
        respond: runs the model on N ≥ 2 samples in one call of `rnn`, or in calls that continue
            from each other, and returns the answers in codes, or as numbers (N, A).
        time: the step after which states are exchanged, from 0, in the order in which each
            direction reads: a backward one has read the last `time` + 1 inputs by then.
        positions: the place that each character of the right answer belongs to (N, A), from 0 on,
            such as the decimal column; negative: none. None: its position.
        position_name: a name for that.
        layer: number of the layer.
        direction: 0 forwards, 1 backwards.
        seed: of the pairs.
        tolerance: the most by which two numbers differ that count as the same; 0 for codes.

    Raises:
        ValueError: `time` is beyond the last step; no such layer or direction; fewer than 2
            samples.
    """
    check_edits([Edit(h=0.0, layer=layer, direction=direction)], rnn)
    with torch.inference_mode():
        with intervene_on(rnn, trace=True) as handle:
            before = respond()
        trace = handle.trace()
        _check_patching(before, time, trace.h.shape[2])
        donor = torch.as_tensor(derangement(len(before), seed), device=before.device)
        position_of = _places(positions, tuple(before.shape))
        layer_index = layer * trace.num_directions + direction
        patch = functools.partial(state_from, trace, donor, time)
        single = [[patch(layer_index, [unit])] for unit in range(rnn.hidden_size)]
        shares = []
        with remembered_runs():
            for edits in [*single, [patch(index) for index in range(len(trace.h))]]:
                with intervene_on(rnn, edits):
                    after = respond()
                shares.append(
                    _patching_shares(before, before[donor], after, position_of, tolerance)
                )
    changed, adopted = np.stack(shares).transpose(1, 0, 2)
    names = tuple(str(position + (positions is None)) for position in range(position_of.max() + 1))
    return ActivationPatching(
        changed=changed[:-1], adopted=adopted[:-1], full_state=adopted[-1], positions=names,
        position_name=position_name, time=time, num_samples=len(before),
    )  # fmt: skip


def _check_patching(answers: Tensor, time: int, num_steps: int) -> None:
    """Raise a ValueError unless answers are (sample, place), and the time is one of the steps."""
    if answers.ndim != 2:
        shape = tuple(answers.shape)
        raise value_error("respond", f"shape {shape}", "(sample, place)")
    if len(answers) < 2:
        raise argument_error("respond", f"{len(answers)} samples", "2 or more")
    if not 0 <= time < num_steps:
        raise value_error("time", time, f"0 to {num_steps - 1}")


@renamed_arguments(row="layer_index")
def state_from(
    trace: CellTrace,
    samples: Tensor | slice,
    time: int,
    layer_index: int,
    units: Sequence[int] | None = None,
) -> Edit:
    """Edit that patches in the state that units have in a trace's samples.

    The state is that after step `time`, from 0, in the order in which the direction reads: of a
    backward one that after reading the last `time` + 1 inputs.
    """
    layer, direction = divmod(layer_index, trace.num_directions)
    step = trace.h.shape[2] - 1 - time if direction else time
    unit_index = slice(None) if units is None else list(units)
    c = None if trace.c is None else trace.c[layer_index, samples, step][:, unit_index]
    h = trace.h[layer_index, samples, step][:, unit_index]
    return Edit(units=units, time=step, h=h, c=c, layer=layer, direction=direction)


def _places(positions: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[Any]:
    numbers = np.arange(shape[1])[None] if positions is None else np.asarray(positions)
    if numbers.shape[-1] != shape[1] or numbers.ndim != 2:
        raise value_error("positions", f"shape {numbers.shape}", shape)
    return np.broadcast_to(numbers, shape)


def _patching_shares(
    before: Tensor, donors: Tensor, after: Tensor, position_of: NDArray[Any], tolerance: float
) -> NDArray[np.float64]:
    """Return by place the share that changed, and the share of differing ones that went over."""
    old, donor, new = (answers.double().cpu().numpy() for answers in (before, donors, after))
    moved, differ = (np.abs(answers - old) > tolerance for answers in (new, donor))
    takes = (np.abs(new - donor) <= tolerance) & differ
    masks = [position_of == position for position in range(position_of.max() + 1)]
    shares = [
        (moved[mask].sum() / max(mask.sum(), 1), takes[mask].sum() / max(differ[mask].sum(), 1))
        for mask in masks
    ]
    return np.array(shares).reshape(-1, 2).T
