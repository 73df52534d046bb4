"""Operations whose indices depend on the image, such as gather and grid_sample."""

from typing import Any

import torch
from torch import Tensor

from visualization.feature_maps.fields.graph import Storages, input_shapes
from visualization.feature_maps.fields.operations import Shape, as_signed, kind_of

_READS = frozenset({"Embedding", "Gather", "Index", "IndexSelect", "Take"})
_WRITES = frozenset({"IndexAdd", "IndexCopy", "IndexPut", "Scatter", "ScatterAdd"})
_DEFORMED = "GeneratedBackwardFor_torchvision_deform_conv2d_default"


def chosen_axes(node: Any, outside: Storages) -> list[int]:
    """Return the axes along which the image itself says which places are read, or written to.

    Args:
        node: of autograd's graph.
        outside: what follows from the image without a graph, as whole numbers do.
    """
    kind = kind_of(node)
    if kind not in _READS | _WRITES:
        return []
    if kind in ("Index", "IndexPut"):
        return _indexed(node._saved_indices, outside)
    if (node._saved_indices if kind == "Embedding" else node._saved_index) not in outside:
        return []
    if kind == "Take":
        return list(range(len(input_shapes(node)[0] or ())))
    return [0 if kind == "Embedding" else as_signed(node._saved_dim)]


def _indexed(indices: tuple[Tensor | None, ...], outside: Storages) -> list[int]:
    axes: list[int] = []
    first = 0
    for index in indices:
        covered = index.ndim if index is not None and index.dtype is torch.bool else 1
        if index is not None and index in outside:
            axes += range(first, first + covered)
        first += covered
    return axes


def is_write(node: Any) -> bool:
    """Tell whether it is the places written to that are chosen."""
    return kind_of(node) in _WRITES


def spread(mask: Tensor, axes: list[int]) -> Tensor:
    """Return a set of numbers with all others along some axes."""
    return mask.any(axes, keepdim=True).expand(mask.shape) if axes else mask


def sampled(
    node: Any, slot: int, mask: Tensor, input_shape: Shape, outside: Storages
) -> Tensor | None:
    """Return what is read of an input where another says between which pixels; None: not known.

    Args:
        node: of autograd's graph.
        slot: which of the operation's inputs.
        mask: the set of its outputs (B, C, …).
        input_shape: the input's shape.
        outside: what follows from the image without a graph.
    """
    kind, edges = kind_of(node), node.next_functions
    everywhere = mask.flatten(2).any(2)[(..., *[None] * (mask.ndim - 2))]
    if kind.startswith("GridSampler") and (edges[1][0] or node._saved_grid in outside):
        return (mask.any(1)[..., None] if slot else everywhere).expand(input_shape)
    if kind == _DEFORMED and edges[2][0] and slot in (0, 2, 3):  # offsets: each of its own place
        return (mask if slot else everywhere).any(1, keepdim=True).expand(input_shape)
    return None
