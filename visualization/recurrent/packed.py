"""Packed sequences: a recurrent layer run on groups of samples of one length, padded and joined.

Each direction begins at a sample's own end or beginning, as torch's kernels for packed sequences
have it; steps beyond a sample's end are 0 in traces.
"""

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from visualization.recurrent.edits import Edit

# Runs a layer on inputs (n, t, I) of samples with some numbers: output (n, t, U), state, trace.
RunGroup = Callable[[Tensor, Any, Sequence[Edit]], tuple[Tensor, Any, dict[str, Tensor]]]


@attrs.frozen(eq=False)
class PackedOutput:
    """What a layer returns for a packed sequence, and its trace padded with 0 (L, B, T, U)."""

    output: PackedSequence
    state: Any
    trace: dict[str, Tensor]
    valid: Tensor  # (B, T) the steps that there are


def run_packed(
    run: RunGroup, inputs: PackedSequence, state: Any, edits: Sequence[Edit]
) -> PackedOutput:
    """Run a recurrent layer on a packed sequence, group after group of one length.

    Args:
        run: runs the layer on one group.
        inputs: a packed sequence of B samples, T steps at most.
        state: (L, B, U) in the order of the samples, or a pair; None: zeros.
        edits: what is changed; a value for each sample, (B, units), is given to its own.
    """
    padded, lengths = pad_packed_sequence(inputs, batch_first=True)
    num, num_steps = padded.shape[:2]
    results, members = [], []
    for length in sorted(set(lengths.tolist())):
        index = torch.nonzero(lengths == length)[:, 0].to(padded.device)
        own = _of_samples(state, index)
        mine = [_of_group(edit, index, num) for edit in edits if (edit.time or 0) < length]
        results.append(run(padded[index, :length], own, mine))
        members.append(index)
    output = _join_groups([result[0] for result in results], members, num, num_steps, 0)
    order = inputs.sorted_indices
    by_length = output if order is None else output[order]
    sizes = lengths if order is None else lengths[order.cpu()]
    data = pack_padded_sequence(by_length, sizes, batch_first=True).data
    packed = PackedSequence(data, inputs.batch_sizes, order, inputs.unsorted_indices)
    traces = {
        name: _join_groups([result[2][name] for result in results], members, num, num_steps, 1)
        for name in results[0][2]
    }
    valid = torch.arange(num_steps) < lengths[:, None]
    return PackedOutput(packed, _whole_state([r[1] for r in results], members, num), traces, valid)


def _of_samples(state: Any, index: Tensor) -> Any:
    if isinstance(state, (tuple, list)):
        return tuple(values[:, index] for values in state)
    return None if state is None else state[:, index]


def _of_group(edit: Edit, index: Tensor, num: int) -> Edit:
    """Return an edit whose values for each sample are those of a group."""

    def own(value: Any) -> Any:
        is_each = isinstance(value, Tensor) and value.ndim == 2 and len(value) == num
        return value[index] if is_each else value

    return attrs.evolve(edit, h=own(edit.h), c=own(edit.c))


def _join_groups(
    parts: Sequence[Tensor], members: Sequence[Tensor], num: int, num_steps: int, axis: int
) -> Tensor:
    """Return (…, B, T, U) of groups (…, n, t, U), whose samples lie along `axis`; 0 beyond ends."""
    shape = list(parts[0].shape)
    shape[axis : axis + 2] = [num, num_steps]
    whole = parts[0].new_zeros(shape)
    for part, index in zip(parts, members, strict=True):
        steps = part.shape[axis + 1]
        whole.narrow(axis + 1, 0, steps).index_copy_(axis, index, part)
    return whole


def _whole_state(states: Sequence[Any], members: Sequence[Tensor], num: int) -> Any:
    """Return the last states (L, B, U), or a pair, of all samples from those of the groups."""
    if isinstance(states[0], tuple):
        columns = zip(*states, strict=True)
        return tuple(_whole_state(column, members, num) for column in columns)
    first = states[0]
    whole = first.new_zeros(first.shape[0], num, *first.shape[2:])
    for part, index in zip(states, members, strict=True):
        whole.index_copy_(1, index, part)
    return whole
