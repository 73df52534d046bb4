"""What a model costs: parameters and multiply-adds of each layer."""

import math
from typing import Any

import attrs
from torch import Tensor, nn

from visualization.untouched import hooks


@attrs.frozen
class LayerCost:
    """One layer with parameters of its own, in the order of its first call."""

    name: str
    kind: str
    output_shape: tuple[int, ...]  # of the last call, the batch included
    calls: int
    num_parameters: int
    multiply_adds: int | None  # over all calls and the whole batch; None: cannot be counted


@attrs.frozen
class CostTable:
    """The layers of a model, and how many samples were counted."""

    layers: tuple[LayerCost, ...]
    num_samples: int

    @property
    def num_parameters(self) -> int:
        """Parameters of all layers."""
        return sum(layer.num_parameters for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of all layers that can be counted, for all samples."""
        return sum(layer.multiply_adds or 0 for layer in self.layers)


class CostCounter:
    """Counts the layers of a model while it runs, any number of calls.

    Multiply-adds are those of the matrix products and convolutions; element-wise work (gates,
    activations, norms, biases) is not counted. A recurrent layer costs, per time step, layer and
    direction, gates · hidden · (input + hidden), with 4, 3 and 1 gates for LSTM, GRU and RNN.
    """

    def __init__(self, model: nn.Module) -> None:
        self._names = {module: name for name, module in model.named_modules()}
        self._found: dict[nn.Module, LayerCost] = {}

    def _count(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        result = output[0] if isinstance(output, tuple) else output
        before = self._found.get(module)
        count = multiply_adds(module, inputs[0], result)
        if count is not None and before is not None:
            count += before.multiply_adds or 0
        self._found[module] = LayerCost(
            self._names[module],
            type(module).__name__,
            tuple(result.shape),
            (before.calls if before else 0) + 1,
            sum(p.numel() for p in module.parameters(recurse=False)),
            count,
        )

    def watch(self) -> Any:
        """Return a context manager within which every call of a layer is counted."""
        layers = [m for m in self._names if next(m.parameters(recurse=False), None) is not None]
        return hooks(layer.register_forward_hook(self._count) for layer in layers)

    def table(self, num_samples: int) -> CostTable:
        """Return what was counted."""
        return CostTable(tuple(self._found.values()), num_samples)


_ELEMENTWISE = (
    nn.Embedding, nn.PReLU, nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase,
)  # fmt: skip


def multiply_adds(module: nn.Module, inputs: Tensor, output: Tensor) -> int | None:
    """Return the multiply-adds of one call of one layer; None for a layer of another kind."""
    if isinstance(module, nn.Linear):
        return output.numel() * module.in_features
    if isinstance(module, nn.modules.conv._ConvNd):
        kernel = math.prod(module.kernel_size)
        if module.transposed:
            return inputs.numel() * (module.out_channels // module.groups) * kernel
        return output.numel() * (module.in_channels // module.groups) * kernel
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        # Every weight matrix is used once per sample and time step, in each layer and direction.
        matrices = sum(p.numel() for p in module.parameters() if p.ndim == 2)
        return matrices * (inputs.numel() // inputs.shape[-1])
    return 0 if isinstance(module, _ELEMENTWISE) else None
