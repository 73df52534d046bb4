"""The activation of one unit as a function of images, cropped to its field for speed."""

import abc
import math
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.core.arrays import to_numpy
from visualization.core.errors import argument_error
from visualization.core.inputs import (
    activation,
    check_unit,
    optional_layer_name,
    select_target,
)
from visualization.core.records import brief_repr
from visualization.core.tracing import NamedLayer
from visualization.feature_maps.fields.geometry import field_boxes
from visualization.feature_maps.fields.receptive import ReceptiveField, receptive_field

UnitIndex = tuple[int, ...]  # channel, row, column of a feature map; or the place in a vector
_MAX_CROP_SHARE = 0.7  # share of an image below which a part of it saves work
_NUM_NOISE_IMAGES = 3  # noisy images on which a part is compared with the whole


@attrs.frozen(eq=False)
class Unit:
    """Unit of a model: a function from images to activations.

    Attributes:
        model: the module, in the mode in which it runs.
        layer: dotted name; None: the model's output.
        index: (channel, row, column), or (place,) of a vector.
    """

    model: nn.Module
    layer: str | None
    index: UnitIndex

    def __call__(self, images: Tensor) -> Tensor:
        """Return the activations (B,) for images (B, C, H, W)."""
        return select_target(activation(self.model, images, self.layer), self.index)

    def record_fields(self, image: Tensor, activation: float) -> dict[str, Any]:
        """Return the fields of a `UnitRecord` for an image (1, C, H, W)."""
        image_array = to_numpy(image[0])
        return {
            "layer": self.layer, "unit": self.index, "image": image_array, "activation": activation,
        }  # fmt: skip

    def field(self, image: Tensor) -> ReceptiveField:
        """Return what the unit sees of an image (B, C, H, W)."""
        return receptive_field(self.model, self.layer, self.index, tuple(image.shape[1:]))


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class UnitRecord(abc.ABC):
    """Unit on an image: what is common to the records of one.

    Attributes:
        layer: dotted name; None: the model's output.
        unit: (channel, row, column), or (place,) of a vector.
        image: (C, H, W).
        activation: of the unit on the image as it is.
    """

    layer: str | None
    unit: UnitIndex
    image: NDArray[np.floating]
    activation: float


@attrs.frozen(eq=False)
class CroppedUnit:
    """Unit on crops of images, in which it sees all that it sees.

    Attributes:
        unit: the unit, with its index in the map of that part.
        rows: of the part, in the image.
        columns: likewise.
    """

    unit: Unit
    rows: slice
    columns: slice

    def crop(self, images: Tensor) -> Tensor:
        """Return that part of images (…, H, W)."""
        return images[..., self.rows, self.columns]


def find_unit(
    model: nn.Module, layer: NamedLayer | None, unit: Sequence[int], image: Tensor
) -> tuple[Unit, float]:
    """Unit of a layer, and its activation on an image (1, C, H, W).

    Raises:
        ValueError: no such layer or unit.
    """
    index = tuple(int(number) for number in unit)
    output = activation(model, image, layer)
    shape = tuple(output.shape[1:])
    if len(index) != len(shape):
        form = "(channel, row, column)" if len(shape) == 3 else f"{len(shape)} numbers"
        raise argument_error("unit", f"{index} is not a unit of an output of shape {shape}", form)
    check_unit(index, shape, "unit")
    return Unit(model, optional_layer_name(model, layer), index), float(
        select_target(output.detach(), index)
    )


def crop_to_field(
    unit: Unit,
    image: Tensor,
    field: ReceptiveField,
    margin: tuple[int, int] = (1, 1),
    step: tuple[int, int] = (1, 1),
) -> CroppedUnit:
    """Crop images to a unit's receptive field; where that is not sure to be the same, do not.

    Of a unit early in a network that leaves out most of each image, and of the work.

    Args:
        unit: the unit.
        image: (1, C, H, W).
        field: what it sees of it.
        margin: rows and columns of pixels, from 1, that the part reaches beyond the field, where
            the image does; exclusive on the left and at the top: 1 adds nothing.
        step: the part begins at a multiple of it.
    """
    sides = (image.shape[2], image.shape[3])
    whole = CroppedUnit(unit, slice(0, sides[0]), slice(0, sides[1]))
    strides = field_boxes(unit.model, unit.layer, tuple(image.shape[1:])).stride
    if not (field.mask.any() and all(strides)):
        return whole
    parts, index = [], [unit.index[0]]
    for position, ends, side, stride, beyond, multiple in zip(
        unit.index[1:], field.bounding_box, sides, strides, margin, step, strict=True
    ):
        each = math.lcm(stride, multiple)
        first = max(ends[0] - beyond + 1, 0) // each * each
        parts.append(slice(first, min(ends[1] + beyond, side)))
        index.append(position - first // stride)
    cropped = CroppedUnit(attrs.evolve(unit, index=tuple(index)), parts[0], parts[1])
    return cropped if _is_alike(cropped, whole, image, field) else whole


def _is_alike(
    cropped: CroppedUnit, whole: CroppedUnit, image: Tensor, field: ReceptiveField
) -> bool:
    """Whether a unit sees and does the same on the crop, and whether the crop saves work."""
    part = cropped.crop(image)
    if part.numel() > _MAX_CROP_SHARE * image.numel():
        return False
    noise = torch.randn(
        _NUM_NOISE_IMAGES, *image.shape[1:], generator=torch.Generator().manual_seed(0)
    )
    noisy = image + noise.to(image) * (float(image.std()) or 1.0)
    try:
        field_of_crop = cropped.unit.field(part)
        near, far = cropped.unit(cropped.crop(noisy)), whole.unit(noisy)
    except (RuntimeError, ValueError):  # a model that takes images of one size
        return False
    corner = (cropped.rows.start, cropped.columns.start)
    sides = [
        tuple(end + by for end in ends)
        for ends, by in zip(field_of_crop.bounding_box, corner, strict=True)
    ]
    same = sides == [tuple(ends) for ends in field.bounding_box]
    same = same and np.array_equal(field_of_crop.mask, field.mask[:, cropped.rows, cropped.columns])
    return same and bool(torch.allclose(near, far, rtol=1e-3, atol=1e-5 * float(far.abs().max())))
