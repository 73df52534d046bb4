"""A unit that is asked, again and again, for its activation on images, whole or near its field."""

import math
from collections.abc import Sequence

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from visualization.core.inputs import activation, demand_unit, named, score
from visualization.core.tracing import NamedLayer
from visualization.feature_maps.fields.geometry import hulls
from visualization.feature_maps.fields.receptive import ReceptiveField, receptive_field

Place = tuple[int, ...]  # channel, row, column of a feature map; or the place in a vector
_WORTH_IT = 0.7  # share of an image below which a part of it saves work
_TRIED = 3  # noisy images on which a part is compared with the whole


@attrs.frozen(eq=False)
class Watched:
    """A unit of a model, which can be asked for its activation on images.

    Attributes:
        model: the module, in the state in which it is asked.
        layer: dotted name; None: the model's output.
        unit: (channel, row, column), or (place,) of a vector.
    """

    model: nn.Module
    layer: str | None
    unit: Place

    def __call__(self, images: Tensor) -> Tensor:
        """Return the activations (B,) for images (B, C, H, W)."""
        return score(activation(self.model, images, self.layer), self.unit)

    def field(self, image: Tensor) -> ReceptiveField:
        """Return what the unit sees of an image (B, C, H, W)."""
        return receptive_field(self.model, self.layer, self.unit, tuple(image.shape[1:]))


@attrs.frozen(eq=False)
class CloseUp:
    """A unit that is asked with only a part of each image, in which it sees all that it sees.

    Attributes:
        asked: the unit as it lies in the layer's map for that part.
        rows: of the part, in the image.
        columns: likewise.
    """

    asked: Watched
    rows: slice
    columns: slice

    def of(self, images: Tensor) -> Tensor:
        """Return that part of images (…, H, W)."""
        return images[..., self.rows, self.columns]


def watched(
    model: nn.Module, layer: NamedLayer | None, unit: Sequence[int], image: Tensor
) -> tuple[Watched, float]:
    """Return a unit to be asked, and its activation on an image (1, C, H, W).

    Raises:
        ValueError: no such layer or unit.
    """
    place = tuple(int(at) for at in unit)
    output = activation(model, image, layer)
    shape = tuple(output.shape[1:])
    if len(place) != len(shape):
        form = "(channel, row, column)" if len(shape) == 3 else f"{len(shape)} numbers"
        problem = f"{place} is no unit of an output of shape {shape}"
        raise ValueError(f"unit: {problem}; accepted: {form}")
    demand_unit(place, shape, "unit")
    return Watched(model, named(model, layer), place), float(score(output.detach(), place))


def close_up(
    asked: Watched,
    image: Tensor,
    field: ReceptiveField,
    margin: tuple[int, int] = (1, 1),
    step: tuple[int, int] = (1, 1),
) -> CloseUp:
    """Return a unit near its field; where that is not sure to be the same, with the whole image.

    Of a unit early in a network that leaves out most of each image, and of the work.

    Args:
        asked: the unit.
        image: (1, C, H, W).
        field: what it sees of it.
        margin: rows and columns of pixels, from 1, that the part reaches beyond the field, where
            the image does; exclusive on the left and at the top: 1 adds nothing.
        step: the part begins at a multiple of it.
    """
    sides = (image.shape[2], image.shape[3])
    whole = CloseUp(asked, slice(0, sides[0]), slice(0, sides[1]))
    strides = hulls(asked.model, asked.layer, tuple(image.shape[1:])).stride
    if not (field.mask.any() and all(strides)):
        return whole
    parts, place = [], [asked.unit[0]]
    for at, ends, side, stride, beyond, multiple in zip(
        asked.unit[1:], field.hull, sides, strides, margin, step, strict=True
    ):
        each = math.lcm(stride, multiple)
        first = max(ends[0] - beyond + 1, 0) // each * each
        parts.append(slice(first, min(ends[1] + beyond, side)))
        place.append(at - first // stride)
    found = CloseUp(attrs.evolve(asked, unit=tuple(place)), parts[0], parts[1])
    return found if _is_alike(found, whole, image, field) else whole


def _is_alike(close: CloseUp, whole: CloseUp, image: Tensor, field: ReceptiveField) -> bool:
    """Tell whether a unit sees the same and does the same near its field, where that saves work."""
    part = close.of(image)
    if part.numel() > _WORTH_IT * image.numel():
        return False
    drawn = torch.randn(_TRIED, *image.shape[1:], generator=torch.Generator().manual_seed(0))
    tried = image + drawn.to(image) * (float(image.std()) or 1.0)
    try:
        seen = close.asked.field(part)
        near, far = close.asked(close.of(tried)), whole.asked(tried)
    except (RuntimeError, ValueError):  # a model that takes images of one size
        return False
    corner = (close.rows.start, close.columns.start)
    placed = [tuple(at + by for at in ends) for ends, by in zip(seen.hull, corner, strict=True)]
    same = placed == [tuple(ends) for ends in field.hull]
    same = same and np.array_equal(seen.mask, field.mask[:, close.rows, close.columns])
    return same and bool(torch.allclose(near, far, rtol=1e-3, atol=1e-5 * float(far.abs().max())))
