"""Which numbers of an image can influence units of a layer: the exact set, for any graph.

First the set is carried back through the graph of one pass, operation by operation. Then all that
it leaves out is tried at once: NaN, and large numbers of both signs, must not reach the units. What
is still open, as behind an operation that is not known, is decided by NaN in groups of numbers,
each in an image of its own; groups that reach the units are divided down to single numbers.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from visualization.conv.common import activation
from visualization.conv.fields.axes import SAME
from visualization.conv.fields.graph import Graph, carry_back, random_images, shapes_given
from visualization.conv.fields.operations import Axes, Shape, axes_of, is_move, kept, kind_of

_LARGE = 1e6  # beside normally distributed numbers; in half precision it becomes inf
_BUDGET = 2**22  # numbers of the images that are tried at once
_GRADIENTS = 4  # random images whose gradients tell what certainly has influence
_IMAGES = 3  # random images on which large numbers are tried
_BEGIN, _PARTS = 16, 4  # groups at first, and those into which each is divided


class _Trial(NamedTuple):
    """The units of a layer that are watched, by their places in its flattened output."""

    model: nn.Module
    layer: str | None
    shape: Shape  # of one image
    units: Tensor  # (U,)


def influence(model: nn.Module, layer: str | None, graph: Graph, wanted: Tensor) -> Tensor:
    """Return which numbers of an image can influence any of some units (C, H, W).

    Args:
        model: in evaluation mode, its parameters without gradients: see `inspecting`.
        layer: dotted name; None: the model's output.
        graph: of a pass to the layer.
        wanted: which units of its output, (1, K) or (1, C, H, W).
    """
    unknown: list[str] = []
    carried = carry_back(graph, wanted, functools.partial(_back, unknown), torch.logical_or)
    within = torch.zeros(graph.image.shape, dtype=torch.bool) if carried is None else carried.cpu()
    units = wanted.flatten().nonzero()[:, 0]
    trial = _Trial(model, layer, tuple(graph.image.shape[1:]), units)
    with _exact_kernels():
        mask = (within & _gradients(trial) if unknown else within.clone()).flatten()
        is_open = within.flatten() & ~mask
        outside = (~within).flatten().nonzero()[:, 0]
        if len(outside) and _reached(trial, [outside])[0]:
            is_open[outside] = True
        mask[_decided(trial, is_open.nonzero()[:, 0])] = True
    return mask.view(trial.shape)


def _back(unknown: list[str], node: Any, arrived: list[Tensor | None]) -> Iterator[Tensor | None]:
    """Yield the set of numbers of each input that an operation reads for those of its outputs."""
    kind = kind_of(node)
    if is_move(kind):
        yield from _moved(node, arrived)
        return
    output = arrived[0] if all(mask is None for mask in arrived[1:]) else None
    for slot, given in enumerate(shapes_given(node)):
        if given is None:
            yield None
            continue
        shape = kept(node, tuple(node._input_metadata[0].shape), given)
        axes = axes_of(node, slot, shape, given)
        if axes is None or output is None:  # as well where one of several outputs is read
            unknown.append(kind)
            yield torch.ones(given, dtype=torch.bool)
        else:
            yield _read(output.reshape(shape), axes, given)


def _moved(node: Any, arrived: list[Tensor | None]) -> list[Tensor | None]:
    """Return the sets by the operation's own backward pass, which adds up ones."""
    ones = [
        torch.zeros(about.shape, dtype=about.dtype, device=about.device)
        if mask is None
        else mask.to(about.device, about.dtype)
        for mask, about in zip(arrived, node._input_metadata, strict=True)
    ]
    with torch.no_grad():
        found = node(*ones)
    parts = found if isinstance(found, tuple) else (found,)
    return [None if part is None else (part != 0).cpu() for part in parts]


def _read(mask: Tensor, axes: Axes, given: Shape) -> Tensor:
    """Return what a set of outputs reads, axis by axis."""
    more = mask.ndim - len(given)  # axes that the input is repeated along
    held = mask.any(tuple(range(more))) if more else mask
    for at, axis in enumerate(axes):
        if axis is None:
            held = held.any(at, keepdim=True)
        elif axis != SAME:
            table = torch.from_numpy(axis.table(held.shape[at], given[at])).float()
            held = torch.tensordot(held.float(), table, dims=([at], [0])).movedim(-1, at) > 0
    return held.expand(given)


@contextlib.contextmanager
def _exact_kernels() -> Iterator[None]:
    """Run convolutions as sums of products: fast kernels spread NaN to their neighbours."""
    onednn: Any = torch.backends.mkldnn  # its own `flags` warns of TF32, which is not touched here
    before = onednn.enabled
    with torch.backends.nnpack.flags(enabled=False), torch.backends.cudnn.flags(enabled=False):
        onednn.enabled = False
        try:
            yield
        finally:
            onednn.enabled = before


def _gradients(trial: _Trial) -> Tensor:
    """Return which numbers have a gradient on some of a few random images (1, C, H, W)."""
    found = torch.zeros(1, *trial.shape, dtype=torch.bool)
    for seed in range(_GRADIENTS):
        image = random_images(trial.model, (1, *trial.shape), seed).requires_grad_()
        output = activation(trial.model, image.clone(), trial.layer).flatten()[trial.units]
        if output.requires_grad:
            weights = random_images(trial.model, tuple(output.shape), seed + 1)
            (gradient,) = torch.autograd.grad(output @ weights, image, allow_unused=True)
            found |= False if gradient is None else (gradient.isfinite() & (gradient != 0)).cpu()
    return found


def _decided(trial: _Trial, numbers: Tensor) -> Tensor:
    """Return those of some numbers of an image, by their places in it, that have influence."""
    groups = list(numbers.tensor_split(_BEGIN))
    found = [numbers[:0]]
    while groups:
        groups = [group for group in groups if len(group)]
        reaching = [g for g, hit in zip(groups, _reached(trial, groups), strict=True) if hit]
        found += [group for group in reaching if len(group) == 1]
        divided = (group.tensor_split(_PARTS) for group in reaching if len(group) > 1)
        groups = [part for parts in divided for part in parts]
    return torch.cat(found)


def _reached(trial: _Trial, groups: list[Tensor]) -> list[bool]:
    """Return of each group of numbers whether some unit sees a change in them."""
    size = max(1, _BUDGET // int(torch.Size(trial.shape).numel()))
    return [
        hit
        for first in range(0, len(groups), size)
        for hit in _tried(trial, groups[first : first + size])
    ]


def _tried(trial: _Trial, groups: list[Tensor]) -> list[bool]:
    """Return of each group whether NaN reaches a unit, or large numbers of either sign do.

    Of NaN `torch.where(x > 0, x, 0)` makes 0, and a unit that is 0 anyway stays where it is: hence
    the numbers, on several images.
    """
    hits = torch.zeros(len(groups), dtype=torch.bool)
    nan = torch.full(trial.shape, torch.nan).flatten()
    for seed, values in [(0, nan), *((n, x) for n in range(_IMAGES) for x in _large(trial, n))]:
        rest = (~hits).nonzero()[:, 0].tolist()
        if rest:
            hits[rest] = _changed(trial, seed, [groups[at] for at in rest], values)
    return hits.tolist()


def _large(trial: _Trial, seed: int) -> tuple[Tensor, Tensor]:
    """Return numbers of random signs, and those of the opposite signs."""
    drawn = torch.randint(0, 2, trial.shape, generator=torch.Generator().manual_seed(seed))
    signs = drawn.flatten() * 2 - 1
    return _LARGE * signs, -_LARGE * signs


@torch.no_grad()
def _changed(trial: _Trial, seed: int, groups: list[Tensor], values: Tensor) -> Tensor:
    """Return of each group whether a unit changes if its numbers are replaced (G,)."""
    plain = random_images(trial.model, (1, *trial.shape), seed)
    images = plain.flatten(1).repeat(1 + len(groups), 1)
    for image, group in zip(images[1:], groups, strict=True):
        image[group] = values[group].to(plain)
    output = activation(trial.model, images.view(-1, *trial.shape), trial.layer).flatten(1)
    seen, usual = output[:, trial.units.to(output.device)], output[0].abs().mean()
    rounding = 1e3 * torch.finfo(output.dtype).eps * (seen[0].abs() + usual)
    is_same = (seen[1:] - seen[0]).abs() <= rounding  # of NaN False
    return (~is_same).any(dim=1).cpu()
