"""Crops, pastes, and receptive fields transplanted from one image into another.

C channels, H rows, W columns. Rows and columns are counted in pixels from the upper left corner;
pairs (first, last) include both ends, as the box of a receptive field does.
"""

from collections.abc import Sequence

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.core.arrays import to_numpy
from visualization.core.earlier_names import renamed_arguments
from visualization.core.errors import argument_error, value_error
from visualization.core.inputs import (
    Images,
    activation,
    as_tensor,
    inspection_mode,
    one_image,
    optional_layer_name,
)
from visualization.core.records import brief_repr
from visualization.core.tracing import NamedLayer
from visualization.feature_maps.fields.geometry import FieldBox, field_boxes
from visualization.feature_maps.fields.receptive import receptive_field
from visualization.perturbation.perturbations import shifted
from visualization.perturbation.units import find_unit

Span = tuple[int, int]  # first and last, both included
Region = tuple[Span, Span] | NDArray[np.bool_] | Tensor | str | None


@attrs.frozen(eq=False, field_transformer=brief_repr)
class Crop:
    """Crop: a part of an image.

    Attributes:
        pixels: (C, h, w).
        mask: which of them are meant (C, h, w).
        origin: row and column at which the first pixel lay in its image.
        num_lost: pixels (row, column) of the region that are beyond the border.
    """

    pixels: NDArray[np.floating]
    mask: NDArray[np.bool_]
    origin: tuple[int, int]
    num_lost: int


@attrs.frozen(eq=False, field_transformer=brief_repr)
class Composite:
    """Composite: an image with a crop of another in it.

    Attributes:
        image: (C, H, W).
        mask: pixels that come from the crop (C, H, W).
        num_lost: pixels (row, column) of the crop that are beyond the border.
    """

    image: NDArray[np.floating]
    mask: NDArray[np.bool_]
    num_lost: int


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class FieldTransplant:
    """Field transplant: a unit's activations when its field is copied into another image.

    Attributes:
        layer: dotted name; None: the model's output.
        unit: (channel, row, column), the source's.
        target_unit: the unit of target and composite whose activation is taken: the one that lies
            over the composite as the unit lies over the source, or the nearest that there is.
        offset: rows down and columns right by which the region was moved, in pixels.
        stride: rows and columns in pixels from a unit's field to the next; 0: they do not keep
            step, or there is no next.
        source: (C, H, W).
        target: (C, H, W).
        composite: (C, H, W).
        copied: pixels of the source that were copied (C, H, W).
        pasted: pixels of the composite that come from the source (C, H, W).
        num_lost: pixels (row, column) that were to be copied and lie beyond a border.
        boxes: the receptive fields' boxes, of the unit and of its place; they may reach beyond
            the borders.
        source_activation: activation of the unit on the source.
        target_activation: of its place on the target.
        composite_activation: of its place on the composite.
        maps: of the unit's channel on source, target and composite, each (h, w).
        exact: whether its place sees in the composite just what the unit sees in the source: the
            whole field was copied, the move is a multiple of the stride, and borders lie alike. In
            a layer that does the same at all places the activation is then equal to the bit.
    """

    layer: str | None
    unit: tuple[int, int, int]
    target_unit: tuple[int, int, int]
    offset: tuple[int, int]
    stride: tuple[int, int]
    source: NDArray[np.floating]
    target: NDArray[np.floating]
    composite: NDArray[np.floating]
    copied: NDArray[np.bool_]
    pasted: NDArray[np.bool_]
    num_lost: int
    boxes: tuple[FieldBox, FieldBox]
    source_activation: float
    target_activation: float
    composite_activation: float
    maps: tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]]
    exact: bool

    @property
    def is_equal(self) -> bool:
        """Whether the activations on source and composite are equal to the bit."""
        return self.composite_activation == self.source_activation


def crop(image: Images, rows: Span, columns: Span) -> Crop:
    """Crop a rectangle out of an image; what is beyond the border is left out and counted.

    >>> piece = crop(np.arange(16.0).reshape(1, 4, 4), (-1, 1), (2, 3))
    >>> piece.pixels.tolist(), piece.origin, piece.num_lost
    ([[[2.0, 3.0], [6.0, 7.0]]], (0, 2), 2)

    Args:
        image: (C, H, W) or (1, C, H, W).
        rows: first and last row, both included.
        columns: first and last column.

    Raises:
        ValueError: another shape, a last before the first, or nothing of it lies on the image.
    """
    pixels_of_image = _as_image(image, "image")
    (top, bottom), (left, right), num_lost = _clip((rows, columns), pixels_of_image.shape[1:])
    pixels = pixels_of_image[:, top : bottom + 1, left : right + 1].clone()
    mask = torch.ones_like(pixels, dtype=torch.bool)
    return Crop(to_numpy(pixels), to_numpy(mask), (top, left), num_lost)


@renamed_arguments(piece="crop", at="position")
def paste_onto(crop: Crop, target: Images, position: tuple[int, int] | None = None) -> Composite:
    """Paste a crop onto an image; what would be beyond the border is left out and counted.

    Args:
        crop: from `crop`, of as many channels as the target.
        target: (C, H, W) or (1, C, H, W).
        position: row and column of the target at which the crop's first pixel comes to be; None:
            where it lay in its own image.

    Raises:
        ValueError: another number of channels.
    """
    pixels_of_target = _as_image(target, "target")
    pixels, mask = torch.as_tensor(crop.pixels), torch.as_tensor(crop.mask)
    image, pasted, num_lost = _compose(pixels, mask, pixels_of_target, position or crop.origin)
    return Composite(to_numpy(image), to_numpy(pasted), num_lost)


@renamed_arguments(at="position")
def transplant_field(
    model: nn.Module,
    layer: NamedLayer | None,
    unit: Sequence[int],
    source: Images,
    target: Images,
    position: tuple[int, int] | None = None,
    region: Region = None,
    *,
    offset: tuple[int, int] | None = None,
) -> FieldTransplant:
    """Transplant a receptive field, or another region, into another image, and compare activations.

    The unit there is moved as the region is, by whole strides of its layer. Moved by a multiple of
    the stride, and no field cut by a border, it sees the same: see `FieldTransplant.exact`.

    Args:
        model: any module; it is left as it was.
        layer: dotted name of a layer that outputs maps, `relu@1` its second call; None: the
            model's output.
        unit: (channel, row, column).
        source: (C, H, W) or (1, C, H, W).
        target: likewise; it may have other sides, if the model takes them.
        position: row and column of the target at which the region's first row and column come to
            lie (for a field that reaches beyond the border, those of its box, below 0); None:
            where they lie in the source.
        region: what is copied: None, the exact receptive field; `bounding_box`, the rectangle
            around it; (rows, columns), each the first and the last; or booleans (H, W), (C, H, W).
        offset: in place of `position`: rows down and columns right by which the region is moved.

    Raises:
        ValueError: no such layer or unit, a region that does not fit, or images that do not.
    """
    layer = optional_layer_name(model, layer)
    with inspection_mode(model), torch.no_grad():
        source, target = one_image(source, model, "source"), one_image(target, model, "target")
        own = _check_map_unit(find_unit(model, layer, unit, source)[0].index)
        field = receptive_field(model, layer, own, _shape(source))
        field_mask = torch.as_tensor(field.mask, device=source.device)
        copied, first, num_lost = _region(region, field_mask, field.bounding_box, source)
        shift = _offset(position, offset, first)
        image, pasted, num_off = _compose(source[0], copied, target[0], shift)
        batches = (source, target, image[None])  # one by one: other batch sizes may round otherwise
        maps = [activation(model, batch, layer)[0, own[0]] for batch in batches]
        stride = field_boxes(model, layer, _shape(source)).stride
        target_unit = _moved_unit(own, shift, stride, maps[1].shape)
        target_field = receptive_field(model, layer, target_unit, _shape(target))
        alike = _moved_box(field.bounding_box, shift) == _spans(target_field.bounding_box)
        other = torch.as_tensor(target_field.mask, device=source.device)
        exact = alike and _sees_the_same(field_mask, copied, other, shift)
    units = (own, target_unit, target_unit)
    values = [float(each[index[1:]]) for each, index in zip(maps, units, strict=True)]
    return FieldTransplant(
        layer=layer, unit=own, target_unit=target_unit, offset=shift, stride=stride,
        source=to_numpy(source[0]), target=to_numpy(target[0]), composite=to_numpy(image),
        copied=to_numpy(copied), pasted=to_numpy(pasted), num_lost=num_lost + num_off,
        boxes=(field.bounding_box, target_field.bounding_box), source_activation=values[0],
        target_activation=values[1], composite_activation=values[2],
        maps=(to_numpy(maps[0]), to_numpy(maps[1]), to_numpy(maps[2])), exact=exact,
    )  # fmt: skip


def _sees_the_same(mask: Tensor, copied: Tensor, target_mask: Tensor, by: tuple[int, int]) -> bool:
    """Tell whether a field (C, H, W), all of it copied and moved, is what is seen (C, H', W')."""
    whole = bool((copied | ~mask).all())
    landed = shifted(mask, *by, size=target_mask.shape[1:])
    return whole and bool(landed.sum() == mask.sum()) and bool((landed == target_mask).all())


def _compose(
    pixels: Tensor, mask: Tensor, target: Tensor, by: tuple[int, int]
) -> tuple[Tensor, Tensor, int]:
    """Return a target with masked pixels in it, moved; which those are; and how many are lost."""
    if len(pixels) != len(target):
        problem = f"{len(target)} channels do not go with the {len(pixels)} of what is pasted"
        raise argument_error("target", problem, len(pixels))
    size = target.shape[1:]
    pasted = shifted(mask, *by, size=size)
    image = torch.where(pasted, shifted(pixels.to(target), *by, size=size), target)
    return image, pasted, int(mask.any(dim=0).sum() - pasted.any(dim=0).sum())


def _region(
    region: Region, field: Tensor, box: FieldBox, image: Tensor
) -> tuple[Tensor, tuple[int, int], int]:
    """Return what is copied (C, H, W), its first row and column, and what lies beyond the border.

    Raises:
        ValueError: it is not a region of the image.
    """
    shape = tuple(image.shape[1:])
    if isinstance(region, (Tensor, np.ndarray)):
        mask = as_tensor(region, "region").to(image.device)
        if (
            mask.dtype != torch.bool
            or tuple(mask.shape) not in (shape, shape[1:])
            or not mask.any()
        ):
            accepted = f"boolean {shape[1:]} or {shape}, not all False"
            raise value_error("region", f"{mask.dtype} of shape {tuple(mask.shape)}", accepted)
        rows, columns = mask.reshape(-1, *shape[1:]).any(dim=0).nonzero().amin(dim=0).tolist()
        return mask.expand(shape), (rows, columns), 0
    if isinstance(region, str) and region not in ("bounding_box", "hull"):  # its earlier name
        accepted = "bounding_box, (rows, columns), a boolean array, or None"
        raise value_error("region", repr(region), accepted)
    spans = _spans(box) if region is None or isinstance(region, str) else region
    (top, bottom), (left, right), num_lost = _clip(spans, shape[1:])
    first = (int(spans[0][0]), int(spans[1][0]))
    if region is None:
        return field, first, num_lost
    copied = torch.zeros_like(field)
    copied[:, top : bottom + 1, left : right + 1] = True
    return copied, first, num_lost


def _clip(region: tuple[Span, Span], sides: Sequence[int]) -> tuple[Span, Span, int]:
    """Return the rows and columns of a region that lie on an image, and how many pixels do not.

    Raises:
        ValueError: a last before the first, or all of them lie beyond the border.
    """
    spans, num_pixels, num_inside = [], 1, 1
    for name, (first, last), side in zip(("rows", "columns"), region, sides, strict=True):
        if last < first or last < 0 or first >= side:
            accepted = f"first and last, both included, that meet 0 to {side - 1}"
            raise value_error(name, f"{first}, {last}", accepted)
        spans.append((max(int(first), 0), min(int(last), side - 1)))
        num_pixels *= int(last - first + 1)
        num_inside *= spans[-1][1] - spans[-1][0] + 1
    return spans[0], spans[1], num_pixels - num_inside


def _offset(
    position: tuple[int, int] | None, offset: tuple[int, int] | None, first: tuple[int, int]
) -> tuple[int, int]:
    """Return the rows and columns by which a region is moved that begins at `first`."""
    if position is not None and offset is not None:
        raise argument_error(
            "offset", f"{offset} was given beside position {position}", "one of them"
        )
    if offset is not None:
        return int(offset[0]), int(offset[1])
    return (
        (0, 0) if position is None else (int(position[0]) - first[0], int(position[1]) - first[1])
    )


def _moved_unit(
    unit: tuple[int, int, int], by: tuple[int, int], stride: tuple[int, int], sides: Sequence[int]
) -> tuple[int, int, int]:
    """Return the unit that lies, most nearly, as far from another as pixels were moved."""
    steps = [round(far / each) if each else 0 for far, each in zip(by, stride, strict=True)]
    row, column = (
        min(max(index + step, 0), side - 1)
        for index, step, side in zip(unit[1:], steps, sides, strict=True)
    )
    return unit[0], row, column


def _spans(box: FieldBox) -> tuple[Span, Span]:
    return (box.rows[0], box.rows[1]), (box.columns[0], box.columns[1])


def _moved_box(box: FieldBox, by: tuple[int, int]) -> tuple[Span, Span]:
    rows, columns = _spans(box)
    return (rows[0] + by[0], rows[1] + by[0]), (columns[0] + by[1], columns[1] + by[1])


def _shape(image: Tensor) -> tuple[int, int, int]:
    return image.shape[1], image.shape[2], image.shape[3]


def _check_map_unit(unit: tuple[int, ...]) -> tuple[int, int, int]:
    if len(unit) != 3:
        accepted = "(channel, row, column) of a feature map"
        raise argument_error("unit", f"{unit} lies at no place of a map", accepted)
    return unit[0], unit[1], unit[2]


def _as_image(image: Images, name: str) -> Tensor:
    """Return a single image (C, H, W).

    Raises:
        ValueError: another shape.
    """
    tensor = as_tensor(image, name)
    tensor = tensor[0] if tensor.ndim == 4 and len(tensor) == 1 else tensor
    if tensor.ndim != 3:
        raise value_error(name, f"shape {tuple(tensor.shape)}", "(C, H, W) or (1, C, H, W)")
    return tensor
