"""Trials: whether units change when numbers of an image become NaN, or large."""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from visualization.core.inputs import activation
from visualization.feature_maps.fields.graph import Graph, random_images
from visualization.feature_maps.fields.operations import Shape

_LARGE = 1e6  # beside normally distributed numbers; in half precision it becomes inf
_BUDGET = 2**22  # numbers of the images that are tried at once
_IMAGES = 3  # random images on which large numbers are tried


class ProbedUnits(NamedTuple):
    """The units of a layer that are watched, by their places in its flattened output."""

    model: nn.Module
    layer: str | None
    shape: Shape  # of one image
    units: Tensor  # (U,)
    takes_nan: bool  # no place is chosen by a value: that of NaN is none

    @staticmethod
    def of(model: nn.Module, layer: str | None, graph: Graph, unit_mask: Tensor) -> "ProbedUnits":
        """Return a trial of units of a layer, given as a mask of its output (1, …)."""
        units = unit_mask.flatten().nonzero()[:, 0]
        return ProbedUnits(model, layer, tuple(graph.image.shape[1:]), units, not graph.has_places)

    @property
    def num_at_once(self) -> int:
        """Images that run at once."""
        return max(1, _BUDGET // torch.Size(self.shape).numel())


class Replacement(NamedTuple):
    """What numbers of a random image are replaced by, wherever in it they are (C · H · W,)."""

    seed: int
    values: Tensor


@contextlib.contextmanager
def exact_kernels() -> Iterator[None]:
    """Run convolutions as sums of products: fast kernels spread NaN to their neighbours."""
    onednn: Any = torch.backends.mkldnn  # its own `flags` warns of TF32, which is not touched here
    before = onednn.enabled
    with torch.backends.nnpack.flags(enabled=False), torch.backends.cudnn.flags(enabled=False):
        onednn.enabled = False
        try:
            yield
        finally:
            onednn.enabled = before


def replacements(trial: ProbedUnits) -> Iterator[Replacement]:
    """Yield NaN, and large numbers of either sign on several images.

    Of NaN `torch.where(x > 0, x, 0)` makes 0, and a unit that is 0 anyway stays where it is: hence
    the numbers, on several images.
    """
    num = torch.Size(trial.shape).numel()
    if trial.takes_nan:
        yield Replacement(0, torch.full((num,), torch.nan))
    for seed in range(_IMAGES):
        bits = torch.randint(0, 2, (num,), generator=torch.Generator().manual_seed(seed))
        signs = bits * 2 - 1
        yield Replacement(seed, _LARGE * signs)
        yield Replacement(seed, -_LARGE * signs)


@torch.no_grad()
def units_changed(trial: ProbedUnits, replacement: Replacement, groups: list[Tensor]) -> Tensor:
    """Return which units change if one group of numbers after the other is replaced (G, U).

    Args:
        trial: of the units.
        replacement: of all numbers.
        groups: numbers by their places in a flattened image.
    """
    plain = random_images(trial.model, (1, *trial.shape), replacement.seed)
    images = plain.flatten(1).repeat(1 + len(groups), 1)
    for image, group in zip(images[1:], groups, strict=True):
        image[group] = replacement.values[group].to(plain)
    output = activation(trial.model, images.view(-1, *trial.shape), trial.layer).flatten(1)
    output = output.expand(len(images), -1) if len(output) == 1 else output  # a table, of no image
    values, usual = output[:, trial.units.to(output.device)], output[0].abs().mean()
    rounding = 1e3 * torch.finfo(output.dtype).eps * (values[0].abs() + usual)
    is_same = (values[1:] - values[0]).abs() <= rounding  # of NaN False
    return (~is_same).cpu()
