"""Dependency masks: the exact set of numbers of an image that can change units of a layer.

First the set is carried back through the graph of one pass, operation by operation. Where
something goes past the graph, all that the set leaves out is tried at once: NaN, and large numbers
of both signs, must not reach the units. What is still open, as behind an operation that is not
known, is decided by NaN in groups of numbers, each in an image of its own; groups that reach the
units are divided down to single numbers.
"""

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from visualization.core.inputs import activation
from visualization.feature_maps.fields.axes import SAME
from visualization.feature_maps.fields.graph import (
    Graph,
    Storages,
    input_shapes,
    propagate_backward,
    random_images,
)
from visualization.feature_maps.fields.operations import (
    Axes,
    Shape,
    axes_of,
    is_copy,
    is_move,
    keepdim_shape,
    kind_of,
)
from visualization.feature_maps.fields.pointers import chosen_axes, is_write, sampled, spread
from visualization.feature_maps.fields.trials import (
    ProbedUnits,
    exact_kernels,
    replacements,
    units_changed,
)

_GRADIENTS = 4  # random images whose gradients tell what certainly has influence
_FIRST_GROUPS, _PARTS = 16, 4  # groups at first, and those into which each is divided


def dependency_mask(model: nn.Module, layer: str | None, graph: Graph, unit_mask: Tensor) -> Tensor:
    """Dependency mask: which numbers of an image can change any of some units (C, H, W).

    Args:
        model: in evaluation mode, its parameters without gradients: see `inspection_mode`.
        layer: dotted name; None: the model's output.
        graph: of a pass to the layer.
        unit_mask: which units of its output, (1, K) or (1, C, H, W).
    """
    within, is_known = dependency_by_graph(graph, unit_mask)
    if graph.is_complete and is_known:
        return within
    trial = ProbedUnits.of(model, layer, graph, unit_mask)
    with exact_kernels():
        mask = (within.clone() if is_known else within & _gradients(trial)).flatten()
        is_open = within.flatten() & ~mask
        outside = (~within).flatten().nonzero()[:, 0]
        if not graph.is_complete and len(outside) and _groups_reached(trial, [outside])[0]:
            is_open[outside] = True
        mask[_dependent_numbers(trial, is_open.nonzero()[:, 0])] = True
    return mask.view(trial.shape)


def dependency_by_graph(graph: Graph, unit_mask: Tensor) -> tuple[Tensor, bool]:
    """Return what can influence some units by the graph (C, H, W), and whether it knows all of it.

    What goes past the graph is not there; see `Graph.is_complete`.
    """
    unknown: list[str] = []
    back = functools.partial(_input_sets, unknown, graph.outside)
    mask = propagate_backward(graph, unit_mask, back, torch.logical_or)
    within = torch.zeros(graph.image.shape, dtype=torch.bool) if mask is None else mask.cpu()
    return within[0], not unknown


def _input_sets(
    unknown: list[str], outside: Storages, node: Any, arrived: list[Tensor | None]
) -> Iterator[Tensor | None]:
    """Yield the set of numbers of each input that an operation reads for those of its outputs."""
    if is_move(kind_of(node)) or is_copy(node):
        yield from _copied_sets(outside, node, arrived)
        return
    output = arrived[0] if all(mask is None for mask in arrived[1:]) else None
    for slot, shape in enumerate(input_shapes(node)):
        mask = None if shape is None else torch.ones(shape, dtype=torch.bool)
        if shape is not None:
            read = None if output is None else _set_through(outside, node, slot, output, shape)
            unknown += [kind_of(node)] if read is None else []
            mask = mask if read is None else read
        yield mask


def _set_through(
    outside: Storages, node: Any, slot: int, output: Tensor, input_shape: Shape
) -> Tensor | None:
    """Return what is read of one input for a set of the outputs; None: that is not known."""
    shape = keepdim_shape(node, tuple(node._input_metadata[0].shape), input_shape)
    axes = axes_of(node, slot, shape, input_shape)
    if axes is None:
        return sampled(node, slot, output, input_shape, outside)
    return _set_read(output.reshape(shape), axes, input_shape)


def _copied_sets(outside: Storages, node: Any, arrived: list[Tensor | None]) -> list[Tensor | None]:
    """Return the sets of numbers of each input of an operation that only moves them."""
    axes = chosen_axes(node, outside)
    if not axes:
        return _backward_sets(node, arrived)
    (mask,) = arrived
    if mask is not None and is_write(node):  # what was there before may stay everywhere
        _, *written = _backward_sets(node, [spread(mask, axes)])
        return [mask if node.next_functions[0][0] else None, *written]
    read, *rest = _backward_sets(node, arrived)
    return [None if read is None else spread(read, axes), *rest]


def _backward_sets(node: Any, arrived: list[Tensor | None]) -> list[Tensor | None]:
    """Return the sets by the operation's own backward pass, which adds up ones."""
    ones = [
        torch.zeros(about.shape, dtype=about.dtype, device=about.device)
        if mask is None
        else mask.to(about.device, about.dtype)
        for mask, about in zip(arrived, node._input_metadata, strict=True)
    ]
    with torch.no_grad():
        gradients = node(*ones)
    parts = gradients if isinstance(gradients, tuple) else (gradients,)
    return [None if part is None else (part != 0).cpu() for part in parts]


def _set_read(mask: Tensor, axes: Axes, input_shape: Shape) -> Tensor:
    """Return what a set of outputs reads, axis by axis."""
    more = mask.ndim - len(input_shape)  # axes that the input is repeated along
    read = mask.any(tuple(range(more))) if more else mask
    for axis_number, axis in enumerate(axes):
        if axis is None:
            read = read.any(axis_number, keepdim=True)
        elif axis != SAME:
            table = torch.from_numpy(
                axis.table(read.shape[axis_number], input_shape[axis_number])
            ).float()
            read = (
                torch.tensordot(read.float(), table, dims=([axis_number], [0])).movedim(
                    -1, axis_number
                )
                > 0
            )
    return read.expand(input_shape)


def _gradients(trial: ProbedUnits) -> Tensor:
    """Return which numbers have a gradient on some of a few random images (C, H, W)."""
    has_gradient = torch.zeros(trial.shape, dtype=torch.bool)
    for seed in range(_GRADIENTS):
        image = random_images(trial.model, (1, *trial.shape), seed).requires_grad_()
        with torch.autograd.graph.allow_mutation_on_saved_tensors():
            output = activation(trial.model, image.clone(), trial.layer).flatten()[trial.units]
            if output.requires_grad:
                weights = random_images(trial.model, tuple(output.shape), seed + 1)
                (gradient,) = torch.autograd.grad(output @ weights, image, allow_unused=True)
                if gradient is not None:
                    has_gradient |= (gradient.isfinite() & (gradient != 0))[0].cpu()
    return has_gradient


def _dependent_numbers(trial: ProbedUnits, numbers: Tensor) -> Tensor:
    """Return those of some numbers of an image, by their places in it, that have influence."""
    groups = list(numbers.tensor_split(_FIRST_GROUPS))
    dependent = [numbers[:0]]
    while groups:
        groups = [group for group in groups if len(group)]
        reaching = [g for g, hit in zip(groups, _groups_reached(trial, groups), strict=True) if hit]
        dependent += [group for group in reaching if len(group) == 1]
        divided = (group.tensor_split(_PARTS) for group in reaching if len(group) > 1)
        groups = [part for parts in divided for part in parts]
    return torch.cat(dependent)


def _groups_reached(trial: ProbedUnits, groups: list[Tensor]) -> list[bool]:
    """Whether some unit changes with each group of numbers."""
    hits = torch.zeros(len(groups), dtype=torch.bool)
    for replacement in replacements(trial):
        rest = (~hits).nonzero()[:, 0]
        for some in torch.split(rest, trial.num_at_once):
            hits[some] = units_changed(
                trial, replacement, [groups[group] for group in some.tolist()]
            ).any(1)
    return hits.tolist()
