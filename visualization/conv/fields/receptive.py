"""What a unit of a network sees: its receptive field, as a box and as the exact set of numbers."""

from collections.abc import Sequence

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from visualization.conv.common import (
    Images,
    activation,
    as_tensor,
    demand_unit,
    inspecting,
    named,
    one_image,
)
from visualization.conv.fields.cutting import widened
from visualization.conv.fields.geometry import Hull, hulls_of
from visualization.conv.fields.graph import Graph, map_size, run
from visualization.conv.fields.influence import influence
from visualization.tracing import NamedLayer


@attrs.frozen(eq=False)
class ReceptiveField:
    """The part of an image (C, H, W) that one unit sees.

    Attributes:
        layer: dotted name; None: the model's output.
        unit: (channel, row, column), or (channel,) of an output without places.
        hull: box around all that the unit reads by the arithmetic of the layers; it reaches outside
            the image where padding is read.
        mask: the numbers of the image that can influence the unit (C, H, W).
    """

    layer: str | None
    unit: tuple[int, ...]
    hull: Hull
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
        return _around(self.pixels)

    def over(self, image: Images) -> "FieldOverImage":
        """Return the field with an image (C, H, W) that it is looked at on.

        Raises:
            ValueError: the image is of another shape.
        """
        held = np.asarray(as_tensor(image, "image").float().cpu())
        if held.shape != self.mask.shape:
            problem = f"shape {held.shape} is not accepted"
            raise ValueError(f"image: {problem}; accepted: {self.mask.shape}, as the field's")
        return FieldOverImage(self, held)


@attrs.frozen(eq=False)
class FieldOverImage:
    """A receptive field, and an image (C, H, W) behind it."""

    field: ReceptiveField
    image: NDArray[np.floating]


@attrs.frozen(eq=False)
class ReceptiveFields:
    """The parts of one image (C, H, W) that the activated units of a channel see.

    Attributes:
        layer: dotted name; None: the model's output.
        channel: number.
        threshold: units with more than this are activated.
        rows: row of each of N activated units, the most activated first (N,).
        columns: column of each (N,).
        values: activation of each (N,).
        hulls: first and last row, and first and last column, that each sees (N, 4).
        mask: the numbers of the image that can influence any of them (C, H, W).
        image: the image itself (C, H, W).
    """

    layer: str | None
    channel: int
    threshold: float
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    values: NDArray[np.floating]
    hulls: NDArray[np.int64]
    mask: NDArray[np.bool_]
    image: NDArray[np.floating]

    @property
    def indices(self) -> NDArray[np.int64]:
        """Channel, row and column of each number that can influence any of the units."""
        return np.argwhere(self.mask)


def receptive_field(
    model: nn.Module, layer: NamedLayer | None, unit: Sequence[int], input_shape: Sequence[int]
) -> ReceptiveField:
    """Return what one unit sees: the hull and the exact set of numbers.

    The set is that of the graph, not of the values of its weights: a weight of exactly 0 counts as
    any other, as it does for NaN; so do both neighbours of a bilinear interpolation. It holds
    whatever an image has at its pixels, of ReLUs and maxima for instance.

    Sure and fast for networks of the usual operations: one pass with its graph, and one of four
    images with slow and exact kernels. Where an operation is not known, the numbers behind it are
    tried in groups, which for large images takes long; so does what goes past the graph.

    Args:
        model: any module; it is looked at in evaluation mode.
        layer: dotted name, `relu@1` for the second call; None: the model's output.
        unit: (channel, row, column) of a feature map, (channel,) of a vector.
        input_shape: of one image, (channels, height, width).

    Raises:
        ValueError: no such layer or unit; a shape of another kind.
    """
    layer = named(model, layer)
    with inspecting(model):
        graph = run(model, layer, input_shape)
        shape = tuple(graph.output.shape[1:])
        place = tuple(int(at) for at in unit)
        demand_unit(place, shape, "unit")
        if len(place) != len(shape):
            accepted = "(channel, row, column)"
            raise ValueError(f"unit: {place} is a whole channel; accepted: {accepted}")
        mask = _seen(model, layer, graph, np.array([place]))
        row, column = place[1:] if len(shape) == 3 else (0, 0)
        hull = _widened(hulls_of(graph).at(row, column), np.asarray(mask.any(axis=0)))
    return ReceptiveField(layer, place, hull, mask)


def receptive_fields(
    model: nn.Module, layer: NamedLayer | None, channel: int, image: Images, threshold: float = 0.0
) -> ReceptiveFields:
    """Return what the activated units of a channel see of one image, each alone and all together.

    Args:
        model: any module; it is looked at in evaluation mode.
        layer: dotted name, `relu@1` for the second call; None: the model's output.
        channel: number.
        image: (C, H, W) or (1, C, H, W).
        threshold: units with more than this are activated: of a ReLU those that are not 0. Of a
            layer with negative numbers `-math.inf` takes all.

    Raises:
        ValueError: no such layer or channel; an image of another kind.
    """
    layer = named(model, layer)
    with inspecting(model):
        held = one_image(image, model)
        graph = run(model, layer, held.shape[1:])
        size = map_size(graph, layer)
        demand_unit((channel,), tuple(graph.output.shape[1:]), "channel")
        with torch.no_grad():
            values = widened(activation(model, held, layer)[0, channel]).cpu().numpy().reshape(size)
        found = np.argwhere(values > threshold)
        order = np.argsort(-values[tuple(found.T)], kind="stable")
        rows, columns = found[order].T
        places = np.insert(found[order], 0, channel, axis=1)[:, : graph.output.ndim - 1]
        mask = _seen(model, layer, graph, places)
        hulls = hulls_of(graph).boxes(rows, columns)
        pixels = widened(held[0]).cpu().numpy()
    return ReceptiveFields(
        layer, channel, threshold, rows, columns, values[rows, columns], hulls, mask, pixels
    )


def _seen(
    model: nn.Module, layer: str | None, graph: Graph, places: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which numbers of the image (C, H, W) can influence any of some units (N, 3)."""
    wanted = torch.zeros(graph.output.shape, dtype=torch.bool)
    wanted[0][tuple(torch.from_numpy(places).T)] = True
    return influence(model, layer, graph, wanted).numpy()


def _around(pixels: NDArray[np.bool_]) -> tuple[slice, slice]:
    ends = []
    for axis in (1, 0):
        found = np.flatnonzero(pixels.any(axis=axis))
        ends.append(slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 0))
    return ends[0], ends[1]


def _widened(hull: Hull, pixels: NDArray[np.bool_]) -> Hull:
    """Return a hull that holds all pixels too, such as those that the graph does not lead to."""
    if not pixels.any():
        return hull
    sides = zip(hull, _around(pixels), strict=True)
    rows, columns = ((min(a, s.start), max(b, s.stop - 1)) for (a, b), s in sides)
    return Hull(rows, columns)
