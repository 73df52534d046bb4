"""Receptive field of a unit: a box, and the exact set of numbers."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from visualization.core.errors import argument_error
from visualization.core.inputs import (
    Images,
    activation,
    as_tensor,
    check_unit,
    inspection_mode,
    one_image,
    optional_layer_name,
)
from visualization.core.records import brief_repr
from visualization.core.tracing import NamedLayer
from visualization.feature_maps.fields.crops import at_least_float32
from visualization.feature_maps.fields.geometry import (
    Arithmetic,
    FieldBox,
    arithmetic,
    field_boxes_of_graph,
)
from visualization.feature_maps.fields.graph import (
    Graph,
    map_size,
    trace_graph,
    trace_graph_of_shapes,
)
from visualization.feature_maps.fields.influence import dependency_mask
from visualization.feature_maps.fields.operations import Shape

_MAX_CROP_SHARE = 0.7  # share of an image below which a part of it saves work


@attrs.frozen(eq=False, field_transformer=brief_repr)
class ReceptiveField:
    """Receptive field: the part of an image (C, H, W) that one unit sees.

    Attributes:
        layer: dotted name; None: the model's output.
        unit: (channel, row, column), or (channel,) of an output without places.
        bounding_box: box around all that the unit reads by the arithmetic of the layers; it reaches
            outside the image where padding is read. Where an operation is not known: around the
            mask.
        mask: the numbers of the image that can influence the unit (C, H, W).
    """

    layer: str | None
    unit: tuple[int, ...]
    bounding_box: FieldBox
    mask: NDArray[np.bool_]

    @property
    def indices(self) -> NDArray[np.int64]:
        """Channel, row and column of each number that can influence the unit (N, 3)."""
        return np.argwhere(self.mask)

    @property
    def num_numbers(self) -> int:
        """How many numbers of the image can influence the unit: N."""
        return int(self.mask.sum())

    @property
    def pixels(self) -> NDArray[np.bool_]:
        """The pixels (H, W) of which any channel can influence the unit."""
        return np.asarray(self.mask.any(axis=0))

    @property
    def box(self) -> tuple[slice, slice]:
        """Rows and columns of the smallest box around the mask: `image[:, *field.box]`."""
        return _extent(self.pixels)

    def over(self, image: Images) -> "FieldOverImage":
        """Return the field with an image (C, H, W) to draw it on.

        Raises:
            ValueError: the image is of another shape.
        """
        pixels = np.asarray(as_tensor(image, "image").float().cpu())
        if pixels.shape != self.mask.shape:
            problem = f"shape {pixels.shape} is not accepted"
            raise argument_error("image", problem, f"{self.mask.shape}, as the field's")
        return FieldOverImage(self, pixels)


@attrs.frozen(eq=False, field_transformer=brief_repr)
class FieldOverImage:
    """A receptive field, and an image (C, H, W) behind it."""

    field: ReceptiveField
    image: NDArray[np.floating]


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class ReceptiveFields:
    """Receptive fields of the activated units of a channel, on one image (C, H, W).

    Attributes:
        layer: dotted name; None: the model's output.
        channel: number.
        threshold: units with more than this are activated.
        rows: row of each of N activated units, the most activated first (N,).
        columns: column of each (N,).
        values: activation of each (N,).
        boxes: first and last row, and first and last column, that each sees (N, 4).
        mask: the numbers of the image that can influence any of them (C, H, W).
        image: the image itself (C, H, W).
    """

    layer: str | None
    channel: int
    threshold: float
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    values: NDArray[np.floating]
    boxes: NDArray[np.int64]
    mask: NDArray[np.bool_]
    image: NDArray[np.floating]

    @property
    def indices(self) -> NDArray[np.int64]:
        """Channel, row and column of each number that can influence any of the units."""
        return np.argwhere(self.mask)


def receptive_field(
    model: nn.Module, layer: NamedLayer | None, unit: Sequence[int], input_shape: Sequence[int]
) -> ReceptiveField:
    """Receptive field of one unit: the box and the exact set of numbers.

    The set is that of the graph, not of the values of its weights: a weight of exactly 0 counts as
    any other, as it does for NaN; so do both neighbours of a bilinear interpolation. It holds
    whatever an image has at its pixels, of ReLUs and maxima for instance. Where a value says which
    place is read (`gather` by the place of a maximum, `grid_sample`, deformable convolutions), all
    places that it could be count, and what the value depends on.

    Sure and fast for networks of the usual operations, and of large images as well: one pass with
    its graph over the part of the image that the layers' arithmetic shows the unit to see. Where an
    operation is not known, the numbers behind it are tried in groups, which for large images takes
    long; so does what goes past the graph, as a comparison or what is detached. What is tried is
    sure as far as three random images tell.

    Args:
        model: any module; it runs in evaluation mode.
        layer: dotted name, `relu@1` for the second call; None: the model's output.
        unit: (channel, row, column) of a feature map, (channel,) of a vector.
        input_shape: of one image, (channels, height, width).

    Raises:
        ValueError: no such layer or unit; a shape of another kind.
    """
    layer = optional_layer_name(model, layer)
    with inspection_mode(model):
        graph = trace_graph_of_shapes(model, layer, input_shape)
        shape = tuple(graph.output.shape[1:])
        position = tuple(int(index) for index in unit)
        check_unit(position, shape, "unit")
        if len(position) != len(shape):
            raise argument_error("unit", f"{position} is a whole channel", "(channel, row, column)")
        by_arithmetic = arithmetic(graph)
        mask = _dependencies_in_crop(
            model, layer, position, by_arithmetic, tuple(graph.image.shape[1:])
        )
        if mask is None:
            graph = trace_graph(model, layer, input_shape) if graph.image.is_meta else graph
            mask = _dependencies(model, layer, graph, np.array([position]))
    pixels = np.asarray(mask.any(axis=0))
    row, column = position[1:] if len(shape) == 3 else (0, 0)
    box = by_arithmetic.boxes.box_at(row, column)
    box = _enclosing(box, pixels) if by_arithmetic.is_known else _box_of(pixels)
    return ReceptiveField(layer, position, box, mask)


def receptive_fields(
    model: nn.Module, layer: NamedLayer | None, channel: int, image: Images, threshold: float = 0.0
) -> ReceptiveFields:
    """Receptive fields of the activated units of a channel on one image, each and all together.

    Args:
        model: any module; it runs in evaluation mode.
        layer: dotted name, `relu@1` for the second call; None: the model's output.
        channel: number.
        image: (C, H, W) or (1, C, H, W).
        threshold: units with more than this are activated: of a ReLU those that are not 0. Of a
            layer with negative numbers `-math.inf` takes all.

    Raises:
        ValueError: no such layer or channel; an image of another kind.
    """
    layer = optional_layer_name(model, layer)
    with inspection_mode(model):
        batch = one_image(image, model)
        graph = trace_graph(model, layer, batch.shape[1:])
        size = map_size(graph, layer)
        check_unit((channel,), tuple(graph.output.shape[1:]), "channel")
        with torch.no_grad():
            values = (
                at_least_float32(activation(model, batch, layer)[0, channel])
                .cpu()
                .numpy()
                .reshape(size)
            )
        positions = np.argwhere(values > threshold)
        order = np.argsort(-values[tuple(positions.T)], kind="stable")
        rows, columns = positions[order].T
        units = np.insert(positions[order], 0, channel, axis=1)[:, : graph.output.ndim - 1]
        mask = _dependencies(model, layer, graph, units)
        boxes = field_boxes_of_graph(model, layer, graph).at_positions(rows, columns)
        pixels = at_least_float32(batch[0]).cpu().numpy()
    return ReceptiveFields(
        layer=layer, channel=channel, threshold=threshold, rows=rows, columns=columns,
        values=values[rows, columns], boxes=boxes, mask=mask, image=pixels,
    )  # fmt: skip


def _dependencies(
    model: nn.Module, layer: str | None, graph: Graph, units: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which numbers of the image (C, H, W) can influence any of some units (N, 3)."""
    unit_mask = torch.zeros(graph.output.shape, dtype=torch.bool)
    unit_mask[0][tuple(torch.from_numpy(units).T)] = True
    return dependency_mask(model, layer, graph, unit_mask).numpy()


def _dependencies_in_crop(
    model: nn.Module, layer: str | None, unit: tuple[int, ...], whole: Arithmetic, shape: Shape
) -> NDArray[np.bool_] | None:
    """Return which numbers of an image can influence a unit, from a pass over a part of the image.

    None where a part does not tell: by the arithmetic of the layers the unit must be the same in
    it, and nothing may go past the graph.
    """
    part = _crop_around(unit, whole) if whole.is_known and len(unit) == 3 else None
    if part is None or math.prod(part.size) > _MAX_CROP_SHARE * math.prod(shape[1:]):
        return None
    try:
        graph = trace_graph(model, layer, (shape[0], *part.size))
    except Exception:  # the model takes images of one size, or larger ones
        return None
    if not graph.is_complete or not part.shows(arithmetic(graph), whole.boxes.box_at(*unit[1:])):
        return None
    mask = np.zeros(shape, bool)
    mask[:, part.rows, part.columns] = _dependencies(model, layer, graph, np.array([part.unit]))
    return mask


class _ImageCrop(NamedTuple):
    """Rows and columns of an image, and a unit as it lies in the layer's map of only these."""

    rows: slice
    columns: slice
    unit: tuple[int, int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    def shows(self, by_arithmetic: Arithmetic, box: FieldBox) -> bool:
        """Tell whether the unit sees here what it sees in the whole image, by the arithmetic."""
        num_rows = len(by_arithmetic.boxes.row_first)
        num_columns = len(by_arithmetic.boxes.column_first)
        _, row, column = self.unit
        if not (by_arithmetic.is_known and 0 <= row < num_rows and 0 <= column < num_columns):
            return False
        corner = (self.rows.start, self.columns.start)
        here = zip(by_arithmetic.boxes.box_at(row, column), corner, strict=True)
        return FieldBox(*((first + by, last + by) for (first, last), by in here)) == box


def _crop_around(unit: tuple[int, ...], whole: Arithmetic) -> _ImageCrop | None:
    """Return the part of an image around a box; None: it is not known where one may begin."""
    sides, positions = [], []
    box = whole.boxes.box_at(*unit[1:])
    for position, (first, last), grid, limit in zip(
        unit[1:], box, whole.grids, whole.boxes.image_size, strict=True
    ):
        if not grid.period:
            return None
        begin, end = max(first, 0) // grid.period * grid.period, min(last + 1, limit)
        if begin >= end:
            return None
        sides.append(slice(begin, end))
        positions.append(position - int(begin / grid.pixels))
    return _ImageCrop(sides[0], sides[1], (unit[0], positions[0], positions[1]))


def _extent(pixels: NDArray[np.bool_]) -> tuple[slice, slice]:
    ends = []
    for axis in (1, 0):
        indices = np.flatnonzero(pixels.any(axis=axis))
        ends.append(slice(int(indices[0]), int(indices[-1]) + 1) if len(indices) else slice(0, 0))
    return ends[0], ends[1]


def _box_of(pixels: NDArray[np.bool_]) -> FieldBox:
    """Return the smallest box around pixels."""
    rows, columns = _extent(pixels)
    return FieldBox((rows.start, rows.stop - 1), (columns.start, columns.stop - 1))


def _enclosing(box: FieldBox, pixels: NDArray[np.bool_]) -> FieldBox:
    """Return a box that also contains all pixels, such as those that the graph does not lead to."""
    if not pixels.any():
        return box
    sides = zip(box, _box_of(pixels), strict=True)
    return FieldBox(*((min(a, first), max(b, last)) for (a, b), (first, last) in sides))
