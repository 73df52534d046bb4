"""Operations by their autograd nodes: which input each output reads.

A node such as `ConvolutionBackward0` keeps the settings of the operation that made it; that serves
modules, functional calls and operators alike. What is not known here is left open: see `axes_of`.
"""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from visualization.feature_maps.fields.axes import (
    SAME,
    Axis,
    Relation,
    Transposed,
    Window,
    blocks,
    probed_axis,
)

Shape = tuple[int, ...]
Axes = tuple[Axis | None, ...]  # of an input; None: each output reads the whole axis

_ELEMENTWISE = frozenset({
    "Abs", "Add", "Addcdiv", "Addcmul", "Alias", "Atan", "Ceil", "Celu", "Clamp", "ClampMax",
    "ClampMin", "Clone", "Cos", "Div", "Elu", "Erf", "Exp", "Expm1", "Floor", "Gelu", "Hardshrink",
    "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyRelu", "Lerp", "Log", "Log1p", "Log2",
    "LogSigmoid", "MaskedFill", "Maximum", "Minimum", "Mish", "Mul", "NanToNum", "NativeDropout",
    "Neg", "Pow", "PreluKernel", "Reciprocal", "Relu", "Round", "Rsqrt", "Rsub", "Sigmoid", "Sign",
    "Silu", "Sin", "Softplus", "Softshrink", "Sqrt", "Sub", "Tanh", "Threshold", "ToCopy", "Where",
})  # fmt: skip
_REDUCTIONS = frozenset({
    "Amax", "Amin", "Kthvalue", "LinalgVectorNorm", "Logsumexp", "Max", "Mean", "Median", "Min",
    "Mode", "Nanmedian", "Prod", "Std", "Sum", "Var",
})  # fmt: skip
_MOVES = frozenset({
    "Cat", "ChannelShuffle", "Col2Im", "ConstantPadNd", "Copy", "Cumsum", "Embedding", "Expand",
    "Flip", "Gather", "Im2Col", "Index", "IndexAdd", "IndexCopy", "IndexPut", "IndexSelect", "Mean",
    "Permute", "PixelShuffle", "PixelUnshuffle", "ReflectionPad1D", "ReflectionPad2D", "Repeat",
    "ReplicationPad1D", "ReplicationPad2D", "ReshapeAlias", "Roll", "Scatter", "ScatterAdd",
    "Select", "SelectScatter", "Slice", "SliceScatter", "Split", "SplitWithSizes", "Squeeze",
    "Stack", "Sum", "T", "Take", "Transpose", "Unbind", "Unfold", "UnsafeSplit", "UnsafeView",
    "Unsqueeze", "View",
})  # fmt: skip
_RESHAPES = frozenset({"Expand", "ReshapeAlias", "Squeeze", "UnsafeView", "Unsqueeze", "View"})
_PRODUCTS = {"Mm": 0, "Bmm": 0, "Addmm": 1, "Baddbmm": 1}  # slot of the left factor


def kind_of(node: Any) -> str:
    """Return the name of the operation that made a node, such as `Convolution`."""
    return re.sub(r"Backwards?\d*$", "", node.name())


def is_move(kind: str) -> bool:
    """Tell whether an operation only moves, copies and adds up numbers.

    Its own backward pass then takes a set of outputs to the exact set of inputs.
    """
    return kind in _MOVES


def is_copy(node: Any) -> bool:
    """Tell whether an operation in place copies numbers into part of a tensor.

    Autograd does not say what was done in place. A copy hands each 1 back once, from the part to
    what was copied; other operations multiply it, or lose some.
    """
    if kind_of(node) != "torch::autograd::CopySlices":
        return False
    about = node._input_metadata[0]
    try:
        with torch.no_grad():
            handed = node(torch.ones(about.shape, dtype=about.dtype, device=about.device))
    except RuntimeError:  # what it needs was overwritten
        return False
    parts = [part.double() for part in handed if part is not None]
    is_whole = all(bool((part == part.round()).all()) for part in parts)
    total = sum(float(part.sum()) for part in parts)
    return is_whole and (node.next_functions[0][0] is None or total == math.prod(about.shape))


def is_reshape(kind: str) -> bool:
    """Tell whether an operation leaves the numbers of each image in their order."""
    return kind in _RESHAPES


def is_left_factor(kind: str, slot: int) -> bool:
    """Tell whether an input is the left factor of a matrix product."""
    return _PRODUCTS.get(kind) == slot


def transposed_axes(node: Any, num_axes: int) -> list[int] | None:
    """Return the axis of the input that each axis of an output was, where axes were exchanged."""
    kind = kind_of(node)
    if kind == "Permute":
        return [as_signed(axis) % num_axes for axis in node._saved_dims]
    if kind not in ("Transpose", "T"):
        return None
    axes = list(range(num_axes))
    a, b = (as_signed(n) for n in (node._saved_dim0, node._saved_dim1)) if kind != "T" else (0, 1)
    axes[a], axes[b] = axes[b], axes[a]
    return axes


def keepdim_shape(node: Any, output: Shape, input_shape: Shape) -> Shape:
    """Return an output's shape with the axes that the operation took away kept, of size 1."""
    kind = kind_of(node)
    if kind != "Select" and kind not in _REDUCTIONS:
        return output
    saved = getattr(node, "_saved_dim", None)  # not there, None or empty: all axes
    listed = (saved,) if isinstance(saved, int) else saved or range(len(input_shape))
    reduced = {as_signed(axis) % len(input_shape) for axis in listed} if input_shape else set()
    return tuple(1 if axis in reduced else size for axis, size in enumerate(input_shape))


def axes_of(node: Any, slot: int, output: Shape, input_shape: Shape) -> Axes | None:
    """Return how an input is read, axis by axis; None: that is not known.

    Args:
        node: of autograd's graph.
        slot: which of the operation's inputs.
        output: its shape, as `keepdim_shape` gives it.
        input_shape: the input's shape; its axes are the last of the output's.
    """
    kind = kind_of(node)
    if kind in _ELEMENTWISE or kind in _REDUCTIONS:
        return _stretched_axes(output, input_shape)
    if kind in _PRODUCTS:
        return _product(slot - _PRODUCTS[kind], output, input_shape)
    if kind not in _RULES or (slot and kind != "Cat"):  # such as weights that depend on the input
        return None
    return _RULES[kind](node, output, input_shape)


def as_signed(number: int) -> int:
    """Return a saved axis or index, which torch gives out without its sign."""
    return number - 2**64 if number >= 2**63 else number


def _stretched_axes(output: Shape, input_shape: Shape) -> Axes:
    """Return the axes of an input that is stretched where its size is 1, or shrunk to 1."""
    last = output[len(output) - len(input_shape) :]
    return tuple(SAME if a == b else None for a, b in zip(last, input_shape, strict=True))


def _product(factor: int, output: Shape, input_shape: Shape) -> Axes:
    """Return the axes of a matrix product: of its left factor the rows, of the right columns."""
    batch = [SAME] * (len(input_shape) - 2)
    if factor < 0:
        return _stretched_axes(output, input_shape)
    return (*batch, SAME, None) if factor == 0 else (*batch, None, SAME)


def _convolution(node: Any, output: Shape, input_shape: Shape) -> Axes | None:
    sizes = node._saved_weight.shape[2:]
    if len(input_shape) != len(sizes) + 2:
        return None
    settings = (sizes, node._saved_stride, node._saved_padding, node._saved_dilation)
    windows = list(map(Window, *settings))
    spatial: list[Axis] = list(map(Transposed, windows)) if node._saved_transposed else [*windows]
    return (SAME, blocks(node._saved_groups, output[1], input_shape[1]), *spatial)


def _pool(node: Any, output: Shape, input_shape: Shape) -> Axes:
    sizes = node._saved_kernel_size
    stride = node._saved_stride or sizes
    dilation = node._saved_dilation if "Max" in kind_of(node) else [1] * len(sizes)
    windows = map(Window, sizes, stride, node._saved_padding, dilation)
    return (*[SAME] * (len(input_shape) - len(sizes)), *windows)


def _adaptive_pool(node: Any, output: Shape, input_shape: Shape) -> Axes:
    def bins(num_out: int, num_in: int) -> Axis:
        return probed_axis(lambda x: F.adaptive_avg_pool2d(x, (num_out, 1)), num_in)

    return (*[SAME] * (len(input_shape) - 2), *map(bins, output[-2:], input_shape[-2:]))


def _resize(node: Any, output: Shape, input_shape: Shape) -> Axes:
    resize = _RESIZES[kind_of(node)]
    corners = () if "Nearest" in kind_of(node) else (node._saved_align_corners,)
    dtype = node._input_metadata[0].dtype  # rounding decides which place is the nearest

    def places(num_out: int, num_in: int, scale: float | None) -> Axis:
        return probed_axis(lambda x: resize(x, [num_out, 1], *corners, scale, None), num_in, dtype)

    scales = (node._saved_scales_h, node._saved_scales_w)
    return (SAME, SAME, *map(places, output[2:], input_shape[2:], scales))


def _constant_pad(node: Any, output: Shape, input_shape: Shape) -> Axes:
    befores = [as_signed(side) for side in node._saved_pad[::2]]  # from the last axis on
    windows = [Window(padding=before) for before in reversed(befores)]
    return (*[SAME] * (len(input_shape) - len(windows)), *windows)


def _mirror(node: Any, output: Shape, input_shape: Shape) -> Axes:
    """Return the axes of a padding with what the image has at its border."""
    mode = "reflect" if "Reflection" in kind_of(node) else "replicate"
    left, right, top, bottom = (as_signed(side) for side in node._saved_padding)

    def padded(num_in: int, before: int, after: int) -> Axis:
        return probed_axis(lambda x: F.pad(x, (0, 0, before, after), mode=mode), num_in)

    return (SAME, SAME, padded(input_shape[2], top, bottom), padded(input_shape[3], left, right))


def _slice(node: Any, output: Shape, input_shape: Shape) -> Axes:
    axis, start = as_signed(node._saved_dim) % len(input_shape), as_signed(node._saved_start)
    begin = min(start + input_shape[axis] if start < 0 else start, input_shape[axis])
    window = Window(1, as_signed(node._saved_step), -max(begin, 0))
    return tuple(window if number == axis else SAME for number in range(len(input_shape)))


def _gate(node: Any, output: Shape, input_shape: Shape) -> Axes:
    """Return the axes of a gated linear unit: a number, and its gate half the axis further on."""
    axis = as_signed(node._saved_dim) % len(input_shape)
    both = Relation(np.tile(np.eye(output[axis], dtype=bool), 2))
    return tuple(both if number == axis else SAME for number in range(len(input_shape)))


def _shuffle(node: Any, output: Shape, input_shape: Shape) -> Axes:
    """Return the axes of a pixel shuffle or its inverse, as if all channels were read."""
    factor, inverse = output[-1] // input_shape[-1], input_shape[-1] // output[-1]
    spatial = [
        Relation(np.repeat(np.eye(size, dtype=bool), factor, axis=0))
        if factor
        else Window(inverse, inverse)
        for size in input_shape[-2:]
    ]
    return (*[SAME] * (len(input_shape) - 3), None, *spatial)


def _rule(find: Callable[[Any, Shape], range | list[int]]) -> Callable[[Any, Shape, Shape], Axes]:
    """Return the rule of operations that mix all numbers along some axes, and along no other."""

    def rule(node: Any, output: Shape, input_shape: Shape) -> Axes:
        mixed = {axis % len(input_shape) for axis in find(node, input_shape)}
        return tuple(None if axis in mixed else SAME for axis in range(len(input_shape)))

    return rule


def _group_norm(node: Any, output: Shape, input_shape: Shape) -> Axes:
    return (
        SAME,
        blocks(node._saved_group, input_shape[1], input_shape[1]),
        *[None] * (len(input_shape) - 2),
    )


_one_axis = _rule(lambda node, _: [as_signed(node._saved_dim)])
_batch_norm = _rule(lambda n, shape: [0, *range(2, len(shape))] if n._saved_training else [])
_RESIZES: dict[str, Any] = {
    "UpsampleNearest2D": torch.ops.aten.upsample_nearest2d,
    "UpsampleNearestExact2D": torch.ops.aten._upsample_nearest_exact2d,
    "UpsampleBilinear2D": torch.ops.aten.upsample_bilinear2d,
    "UpsampleBicubic2D": torch.ops.aten.upsample_bicubic2d,
}
_RULES: dict[str, Callable[[Any, Shape, Shape], Axes | None]] = {
    "Convolution": _convolution,
    **dict.fromkeys(("MaxPool2DWithIndices", "MaxPool3DWithIndices"), _pool),
    **dict.fromkeys(("AvgPool2D", "AvgPool3D"), _pool),
    **dict.fromkeys(("AdaptiveAvgPool2D", "AdaptiveMaxPool2D"), _adaptive_pool),
    **dict.fromkeys(_RESIZES, _resize),
    "ConstantPadNd": _constant_pad,
    **dict.fromkeys(("ReflectionPad2D", "ReplicationPad2D"), _mirror),
    "Slice": _slice,
    "Glu": _gate,
    **dict.fromkeys(("PixelShuffle", "PixelUnshuffle"), _shuffle),
    "ChannelShuffle": _rule(lambda node, _: [1]),
    **dict.fromkeys(
        ("Softmax", "SafeSoftmax", "LogSoftmax", "Cat", "Split", "Sort", "Topk"), _one_axis
    ),
    **dict.fromkeys(("NativeBatchNorm", "CudnnBatchNorm", "MiopenBatchNorm"), _batch_norm),
    "NativeLayerNorm": _rule(lambda node, _: range(-len(node._saved_normalized_shape), 0)),
    "NativeGroupNorm": _group_norm,
}
