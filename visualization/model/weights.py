"""Weights: kernels, matrices, biases, their norms and histograms."""

import math

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.core.errors import NothingToShow
from visualization.core.records import brief_repr
from visualization.model.parameter_space import filter_norms
from visualization.model.values import in_pages

PAGE = 8  # layers of a picture
_IMAGES = 64  # filters of one or three inputs, which are drawn as images
_FEW, _MANY = 8, 24  # filters and inputs of a kernel of more inputs, or the other way round
_SIDE = 64  # rows and columns of a matrix
_MOST_BINS = 60


@attrs.frozen(kw_only=True, eq=False)
class ParameterValues:
    """One parameter tensor.

    Attributes:
        name: dotted.
        layer: the module that has it, "" the model itself.
        kind: of that module, such as `Conv2d`.
        role: `kernels` of a convolution (filter, input, row, column), `matrix` (output, input) or
            `vector`.
        shape: of the tensor.
        shown: what is drawn: kernels (F, I, h, w), of three-dimensional ones the middle
            slice; a matrix (R, C); a vector (N,), whole.
        filters: which filters or rows are shown (F,), of a vector which entries.
        inputs: which inputs or columns (I,).
        num_filters: how many filters or rows there are.
        num_inputs: how many inputs or columns.
        norms: Euclidean norm of each filter (num_filters,); empty for a vector.
        mean: of all numbers.
        deviation: their standard deviation.
        counts: how many lie in each bin.
        edges: the ends of the bins, one more.
        num_undefined: how many numbers are NaN or inf; they are left out of the statistics.
    """

    name: str
    layer: str
    kind: str
    role: str
    shape: tuple[int, ...]
    shown: NDArray[np.float32]
    filters: NDArray[np.int64]
    inputs: NDArray[np.int64]
    num_filters: int
    num_inputs: int
    norms: NDArray[np.float64]
    mean: float
    deviation: float
    counts: NDArray[np.int64]
    edges: NDArray[np.float64]
    num_undefined: int


@attrs.frozen(eq=False, field_transformer=brief_repr)
class LayerWeights:
    """Every parameter tensor of a network, layer by layer.

    Attributes:
        layers: the tensors of each layer that has any of its own, in the order of the modules.
        first: the number of the first layer here, from 0, when this is a page of a longer record.
        num_all: layers in all.
    """

    layers: tuple[tuple[ParameterValues, ...], ...]
    first: int
    num_all: int

    def __getitem__(self, name: str) -> ParameterValues:
        """Return one parameter by its name."""
        by_name = {each.name: each for layer in self.layers for each in layer}
        if name not in by_name:
            raise KeyError(f"{name!r} is not here; here: {', '.join(by_name)}")
        return by_name[name]

    def pages(self, num: int = PAGE) -> tuple["LayerWeights", ...]:
        """Return the same in parts of `num` layers, each of which fits a picture."""
        return in_pages(self, num)


def layer_weights(model: nn.Module) -> LayerWeights:
    """Weights of every layer, as much of each as can be drawn.

    Kernels are those of any convolution, transposed, grouped or depthwise; of size 1 × 1 they are a
    matrix. Where there are more than can be shown, the strongest are shown: those of the largest
    Euclidean norms: of filters with one or three inputs, which are drawn as images, up to 64; with
    more inputs 8 filters and 24 inputs (24 filters where there are no more than 8 inputs); of a
    matrix 64 rows and columns. Norms and distributions are those of the whole tensor. A tensor that
    layers share is listed with the first.

    Args:
        model: any module.

    Raises:
        NothingToShow: (a ValueError) a model without parameters.
    """
    layers = []
    listed: set[Tensor] = set()
    for name, module in model.named_modules():
        own = [
            (f"{name}.{short}" if name else short, parameter)
            for short, parameter in module.named_parameters(recurse=False)
            if parameter not in listed
        ]
        listed.update(parameter for _, parameter in own)
        if own:
            layers.append(tuple(_values(full, name, module, parameter) for full, parameter in own))
    if not layers:
        raise NothingToShow("model: has no parameters; accepted: one with some")
    return LayerWeights(tuple(layers), 0, len(layers))


def _values(name: str, layer: str, module: nn.Module, parameter: Tensor) -> ParameterValues:
    """Return the record of one tensor."""
    weight = parameter.detach().cpu()
    weight = weight if weight.dtype == torch.float64 else weight.float()
    norms = np.zeros(0)
    if weight.ndim > 1:
        norms = _norms(module, weight).double().numpy()
        role, whole = _as_kernels(module, weight)
        filters, inputs = _strongest(whole, role)
        sizes = whole.shape[0], whole.shape[1]
        part = whole[torch.from_numpy(filters)][:, torch.from_numpy(inputs)]
    else:
        role, part = "vector", weight.reshape(-1)
        filters, inputs, sizes = np.arange(len(part)), np.arange(1), (len(part), 1)
    finite = weight[weight.isfinite()].numpy()
    mean, deviation = (finite.mean(), finite.std()) if len(finite) else (math.nan, math.nan)
    counts, edges = np.histogram(finite, min(max(8, int(2 * len(finite) ** 0.5)), _MOST_BINS))
    return ParameterValues(
        name=name, layer=layer, kind=type(module).__name__, role=role, shape=tuple(weight.shape),
        shown=part.float().numpy(), filters=filters, inputs=inputs, num_filters=sizes[0],
        num_inputs=sizes[1], norms=norms, mean=float(mean), deviation=float(deviation),
        counts=counts, edges=edges, num_undefined=weight.numel() - len(finite),
    )  # fmt: skip


def _norms(module: nn.Module, weight: Tensor) -> Tensor:
    """Return the norm of each filter, in the order of the outputs."""
    norms = filter_norms(module, weight)
    if isinstance(module, nn.modules.conv._ConvTransposeNd):  # the same for each input of a group
        norms = norms.reshape(module.groups, -1, weight.shape[1])[:, 0]
    return norms.flatten()


def _as_kernels(module: nn.Module, weight: Tensor) -> tuple[str, Tensor]:
    """Return the role of a tensor, and it as kernels (O, I, h, w) or as a matrix (O, I)."""
    if isinstance(module, nn.modules.conv._ConvTransposeNd):  # (I, O/G, …) to (O, I/G, …)
        grouped = weight.reshape(module.groups, -1, *weight.shape[1:])
        weight = grouped.transpose(1, 2).flatten(0, 1)
    is_kernel = weight.ndim > 3 or isinstance(module, nn.modules.conv._ConvNd)
    if not is_kernel or weight[0, 0].numel() == 1:
        return "matrix", weight.flatten(1) if is_kernel else weight.flatten(0, -2)
    if weight.ndim == 3:
        return "kernels", weight[:, :, None]
    middle = [size // 2 for size in weight.shape[2:-2]]
    for index in middle:
        weight = weight.select(2, index)
    return "kernels", weight


def _strongest(whole: Tensor, role: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which filters and which inputs are shown, in order: those of the largest norms."""
    most = (_SIDE, _SIDE)
    if role == "kernels":
        few = whole.shape[1] <= _FEW
        most = (_MANY, _FEW) if few else (_FEW, _MANY)
        most = (_IMAGES, 3) if whole.shape[1] in (1, 3) else most
    squares = (whole**2).flatten(2).sum(dim=2) if whole.ndim > 2 else whole**2
    rows, columns = squares.sum(dim=1).numpy(), squares.sum(dim=0).numpy()
    return _top(rows, most[0]), _top(columns, most[1])


def _top(sizes: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    return np.sort(np.argsort(-sizes, kind="stable")[:most])
