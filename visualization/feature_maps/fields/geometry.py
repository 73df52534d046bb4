"""Receptive field boxes of every place of a layer, by interval arithmetic.

One pass is walked back from the layer to the image; what is carried along is the first and the last
row and column that each row and column of the layer reads.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import attrs
import numpy as np
from torch import nn

from visualization.core.inputs import inspection_mode
from visualization.core.records import brief_repr
from visualization.feature_maps.fields.axes import Axis, Positions, Transposed, Window
from visualization.feature_maps.fields.graph import (
    Graph,
    input_shapes,
    propagate_backward,
    trace_graph,
    trace_graph_of_shapes,
)
from visualization.feature_maps.fields.operations import (
    Shape,
    axes_of,
    is_left_factor,
    is_reshape,
    keepdim_shape,
    kind_of,
    transposed_axes,
)
from visualization.feature_maps.fields.probing import Intervals, tables


class FieldBox(NamedTuple):
    """Receptive field box: pixels, first and last included; it may reach outside the image."""

    rows: tuple[int, int]
    columns: tuple[int, int]


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class FieldBoxes:
    """Receptive field boxes of every place of a layer with h rows and w columns, in pixels.

    A box reaches outside the image where the layer sees padding. Where a place sees nothing at
    all, the last is before the first. An output without rows and columns counts as one place.

    Attributes:
        row_first: first row of the image that each row of the layer sees (h,).
        row_last: the last one (h,).
        column_first: first column of the image that each column of the layer sees (w,).
        column_last: the last one (w,).
        image_size: height and width of the image.
        wraps: whether what is outside the image is its other side, as with circular padding.
    """

    row_first: Positions
    row_last: Positions
    column_first: Positions
    column_last: Positions
    image_size: tuple[int, int]
    wraps: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the largest box."""
        rows, columns = self.row_last - self.row_first, self.column_last - self.column_first
        return int(rows.max()) + 1, int(columns.max()) + 1

    @property
    def stride(self) -> tuple[int, int]:
        """Pixels from a box to the next one down, and to the right; 0: the step is not constant."""
        height, width = self.image_size
        return (
            _step(self.row_first, self.row_last, height if self.wraps else None),
            _step(self.column_first, self.column_last, width if self.wraps else None),
        )

    def box_at(self, row: int, column: int) -> FieldBox:
        """Return the box of one place."""
        return FieldBox(
            (int(self.row_first[row]), int(self.row_last[row])),
            (int(self.column_first[column]), int(self.column_last[column])),
        )

    def at_positions(self, rows: Positions, columns: Positions) -> Positions:
        """Return first and last row and first and last column of the boxes of N places (N, 4)."""
        sides = (self.row_first[rows], self.row_last[rows])
        return np.stack([*sides, self.column_first[columns], self.column_last[columns]], axis=-1)


def field_boxes(model: nn.Module, layer: str | None, input_shape: Sequence[int]) -> FieldBoxes:
    """Receptive field boxes of all places of a layer at once, from a single pass.

    Known are the operations that networks for images are made of; one for which places play no part
    (flatten, a mean over the map) reads all of its input. Where an operation is not known, it is
    tried which rows and columns of the image each place reads. What goes past the graph, as behind
    `detach`, is not seen here; `receptive_field` sees it.

    Args:
        model: any module.
        layer: dotted name, `relu@1` for the second call; None: the model's output.
        input_shape: of one image, (channels, height, width).

    Raises:
        ValueError: a shape of another kind; no such layer.
    """
    with inspection_mode(model):
        by_arithmetic = arithmetic(trace_graph_of_shapes(model, layer, input_shape))
        if by_arithmetic.is_known:
            return by_arithmetic.boxes
        return field_boxes_of_graph(model, layer, trace_graph(model, layer, input_shape))


def field_boxes_of_graph(model: nn.Module, layer: str | None, graph: Graph) -> FieldBoxes:
    """Return the boxes of all places of a layer, from a pass of the model; see `boxes`."""
    by_arithmetic = arithmetic(graph)
    if by_arithmetic.is_known:
        return by_arithmetic.boxes
    rows, columns = map(Intervals.of, tables(model, layer, graph))
    return _boxes(rows, columns, by_arithmetic.boxes.image_size, wraps=True)


def _boxes(
    rows: tuple[Positions, Positions], columns: tuple[Positions, Positions],
    image_size: tuple[int, int], *, wraps: bool = False,
) -> FieldBoxes:  # fmt: skip
    """Return boxes by the first and last row of each row, and likewise of columns."""
    return FieldBoxes(
        row_first=rows[0], row_last=rows[1], column_first=columns[0], column_last=columns[1],
        image_size=image_size, wraps=wraps,
    )  # fmt: skip


class Grid(NamedTuple):
    """How places of a layer lie along one axis of the image.

    Attributes:
        pixels: from one place to the next; 0: not known.
        period: pixels by which the image can be moved, and all the layers do the same; 0 likewise.
    """

    pixels: Fraction
    period: int


class Arithmetic(NamedTuple):
    """What the arithmetic of layers tells of a layer's places.

    Attributes:
        boxes: of all places; where an operation is not known, of the whole image.
        grids: of rows and of columns.
        is_known: whether each operation is known.
    """

    boxes: FieldBoxes
    grids: tuple[Grid, Grid]
    is_known: bool


def arithmetic(graph: Graph) -> Arithmetic:
    """Return what the arithmetic of layers tells; of an output without places all is known."""
    shape, image = tuple(graph.output.shape), tuple(graph.image.shape)
    has_places = len(shape) == 4
    height, width = shape[2:] if has_places else (1, 1)
    start = _EVERYTHING
    if has_places:
        start = _Spans(
            shape=shape, axes=(2, 3), rows=_same_positions(height), columns=_same_positions(width),
            steps=(_START, _START),
        )  # fmt: skip
    spans = propagate_backward(graph, start, _input_spans, _union) or _EVERYTHING
    is_known = (spans.shape, spans.axes) == (image, (2, 3)) and not spans.is_guess
    if (spans.shape, spans.axes) != (image, (2, 3)):
        spans = _whole_spans(image)
    rows, columns = _ends(spans.rows, height), _ends(spans.columns, width)
    boxes = _boxes(rows, columns, (image[2], image[3]))
    row_grid, column_grid = (steps.grid() for steps in spans.steps)
    return Arithmetic(boxes, (row_grid, column_grid), is_known or not has_places)


class _Steps(NamedTuple):
    """Places of a tensor from one place of a layer to the next, and of all tensors between them."""

    here: Fraction
    passed: frozenset[Fraction]

    def through(self, axis: Axis | None) -> "_Steps":
        """Return those of an operation's input; 0: nothing is known."""
        factor = Fraction(0)
        if isinstance(axis, Window):
            factor = Fraction(axis.stride)
        elif isinstance(axis, Transposed):
            factor = Fraction(1, axis.window.stride)
        return _Steps(self.here * factor, self.passed | {self.here * factor})

    def joined(self, other: "_Steps") -> "_Steps":
        """Return those of two ways to one tensor."""
        here = self.here if self.here == other.here else Fraction(0)
        return _Steps(here, self.passed | other.passed | {here})

    def grid(self) -> Grid:
        """Return how places lie in the image."""
        if not all(self.passed):
            return Grid(Fraction(0), 0)
        return Grid(self.here, math.lcm(*((self.here / step).numerator for step in self.passed)))


@attrs.frozen(kw_only=True, eq=False)
class _Spans:
    """What h rows and w columns of a layer read of a tensor, first and last: (2, h) and (2, w).

    `axes` are the rows and the columns among the axes of `shape`, which is the tensor's, or that of
    one from which it was reshaped. It is a guess that all is read where an operation is not known.
    """

    shape: Shape
    axes: tuple[int, int]
    rows: Positions
    columns: Positions
    steps: tuple[_Steps, _Steps]
    is_guess: bool = False


_START = _Steps(Fraction(1), frozenset({Fraction(1)}))
_NO_STEPS = _Steps(Fraction(0), frozenset({Fraction(0)}))
_NONE = np.zeros((2, 1), np.int64)
_EVERYTHING = _Spans(
    shape=(), axes=(-1, -1), rows=_NONE, columns=_NONE, steps=(_NO_STEPS, _NO_STEPS), is_guess=True,
)  # fmt: skip


def _same_positions(num: int) -> Positions:
    return np.stack([np.arange(num)] * 2)


def _ends(span: Positions, num: int) -> tuple[Positions, Positions]:
    """Return first and last of all places (num,); of those that see nothing, 0 and −1."""
    first, last = np.broadcast_to(span, (2, num))
    return np.where(last < first, 0, first), np.where(last < first, -1, last)


def _step(first: Positions, last: Positions, cut_at: int | None) -> int:
    """Return the step between all places; boxes may be cut where an image so long ends."""
    first_steps, last_steps = np.diff(first), np.diff(last)
    if cut_at is not None:
        first_steps = first_steps[first[:-1] != 0]
        last_steps = last_steps[last[1:] != cut_at - 1]
    steps = {*first_steps.tolist(), *last_steps.tolist()}
    return int(steps.pop()) if len(steps) == 1 else 0


def _whole_spans(shape: Shape) -> _Spans:
    """Return the spans of all of a tensor, if it is clear which of its axes are places."""
    if len(shape) != 4:
        return _EVERYTHING
    rows, columns = (np.array([[0], [size - 1]]) for size in shape[2:])
    return _Spans(
        shape=shape, axes=(2, 3), rows=rows, columns=columns, steps=(_NO_STEPS, _NO_STEPS),
        is_guess=True,
    )  # fmt: skip


def _union(a: _Spans, b: _Spans) -> _Spans:
    if (a.shape, a.axes) != (b.shape, b.axes):
        return _EVERYTHING
    rows, columns = (
        np.stack([np.minimum(p[0], q[0]), np.maximum(p[1], q[1])])
        for p, q in ((a.rows, b.rows), (a.columns, b.columns))
    )
    steps = (a.steps[0].joined(b.steps[0]), a.steps[1].joined(b.steps[1]))
    return _Spans(
        shape=a.shape, axes=a.axes, rows=rows, columns=columns, steps=steps,
        is_guess=a.is_guess or b.is_guess,
    )  # fmt: skip


def _input_spans(node: Any, arrived: list[_Spans | None]) -> Iterator[_Spans | None]:
    """Yield the spans of each input of an operation."""
    output = tuple(node._input_metadata[0].shape)
    spans = [span for span in arrived if span is not None]
    if len(arrived) > 1:  # such as the parts of a split, whose sizes may differ
        spans = [attrs.evolve(s, shape=output) if len(s.shape) == len(output) else s for s in spans]
    span = functools.reduce(_union, spans, _EVERYTHING if not spans else spans[0])
    for slot, shape in enumerate(input_shapes(node)):
        yield None if shape is None else _input_span(node, slot, span, output, shape)


def _input_span(node: Any, slot: int, spans: _Spans, output: Shape, input_shape: Shape) -> _Spans:
    kind = kind_of(node)
    spans = spans if spans.shape else _whole_spans(output)
    if not spans.shape:
        return _EVERYTHING
    if is_reshape(kind):
        return _reshaped_spans(spans, input_shape)
    if spans.shape != output:
        return (
            _through_product(spans, output, input_shape)
            if is_left_factor(kind, slot)
            else _EVERYTHING
        )
    order = transposed_axes(node, len(output))
    if order:
        return attrs.evolve(
            spans, shape=input_shape, axes=(order[spans.axes[0]], order[spans.axes[1]])
        )
    shape = keepdim_shape(node, output, input_shape)
    spans = _reshaped_spans(spans, shape)
    axes = axes_of(node, slot, shape, input_shape)
    shift = len(shape) - len(input_shape)
    if axes is None or spans.shape != shape or min(spans.axes) < shift:
        return _EVERYTHING
    row, column = spans.axes[0] - shift, spans.axes[1] - shift
    rows = _span_read(axes[row], spans.rows, input_shape[row])
    columns = _span_read(axes[column], spans.columns, input_shape[column])
    steps = (spans.steps[0].through(axes[row]), spans.steps[1].through(axes[column]))
    return _Spans(
        shape=input_shape, axes=(row, column), rows=rows, columns=columns, steps=steps,
        is_guess=spans.is_guess,
    )  # fmt: skip


def _span_read(axis: Axis | None, span: Positions, num_in: int) -> Positions:
    return np.array([[0], [num_in - 1]]) if axis is None else np.stack(axis.span(*span))


def _reshaped_spans(spans: _Spans, input_shape: Shape) -> _Spans:
    """Return spans of a tensor of another shape whose numbers are in the same order.

    They stay those of the old shape where the new one has no axes for rows and columns.
    """
    axes = []
    for axis in spans.axes:
        size_and_stride = spans.shape[axis], math.prod(spans.shape[axis + 1 :])
        fits = [
            position
            for position in range(len(input_shape))
            if (input_shape[position], math.prod(input_shape[position + 1 :])) == size_and_stride
        ]
        axes += [axis if axis in fits else fits[-1]] if fits else []
    if len({*axes}) == 2:
        return attrs.evolve(spans, shape=input_shape, axes=(axes[0], axes[1]))
    return spans if math.prod(spans.shape) == math.prod(input_shape) else _EVERYTHING


def _through_product(spans: _Spans, output: Shape, input_shape: Shape) -> _Spans:
    """Return the spans of a matrix whose rows are places, and each number of a row is a channel."""
    last = len(spans.shape) - 1
    if last in spans.axes or spans.shape[-1] != output[-1]:
        return _EVERYTHING
    return attrs.evolve(spans, shape=(*spans.shape[:-1], input_shape[-1]))
