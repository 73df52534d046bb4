"""Memory layout of outputs: channels first (B, C, H, W) or channels last (B, H, W, C).

The output itself does not say which; it follows from the layers that made it: a convolution outputs
its channels first, a linear layer last, and what keeps a shape keeps its axes.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from visualization.core.preserve import hooks
from visualization.core.tracing import find_layer, intercept_outputs

UnitAxis = Callable[[nn.Module, Tensor], int]
_LAST = (nn.Linear, nn.Bilinear, nn.RMSNorm, nn.Embedding)


@contextlib.contextmanager
def unit_axes(model: nn.Module) -> Iterator[UnitAxis]:
    """Give a function that tells along which axis the units of a layer's output are.

    It is to be called with the module as its output comes, in passes of the model within the block.
    A layer that does not settle it itself, such as an activation or a block, has the axis of the
    layer that last settled it for an output of the same shape; without one it is the first after
    the batch, of three axes the last (batch, tokens, features).
    """
    axes: dict[torch.Size, int] = {}

    def note(module: nn.Module, _: Any, output: Any) -> None:
        axis = _own_axis(module)
        if isinstance(output, Tensor) and axis is not None:
            axes[output.shape] = axis % max(output.ndim, 1)

    def axis_of(module: nn.Module, output: Tensor) -> int:
        axis = _own_axis(module)
        if axis is not None:
            return axis % max(output.ndim, 1)
        return axes.get(output.shape, 2 if output.ndim == 3 else 1)

    settling = [module for module in model.modules() if _own_axis(module) is not None]
    with hooks(module.register_forward_hook(note) for module in settling):
        yield axis_of


def _own_axis(module: nn.Module) -> int | None:
    """Return the axis that a kind of layer has its units along; None: that of its input."""
    if type(module).__name__.endswith(("1d", "2d", "3d")):  # convolutions, their norms, pooling
        return 1
    last = isinstance(module, _LAST)
    if isinstance(module, nn.LayerNorm):
        last = len(module.normalized_shape) == 1
    return -1 if last else None


def channels_first(output: Any, axis: UnitAxis, module: nn.Module) -> Any:
    """Return a layer's feature maps as (B, C, H, W); all else as it is."""
    if isinstance(output, Tensor) and output.ndim == 4:
        return output.movedim(axis(module, output), 1)
    return output


@contextlib.contextmanager
def intercept_maps(
    model: nn.Module, functions: Mapping[str, Callable[[Any], Any]], *, stop: bool = False
) -> Iterator[None]:
    """Intercept outputs, feature maps as (B, C, H, W) also where a layer outputs (B, H, W, C).

    What a function returns in their place is moved back.
    """
    with unit_axes(model) as axis:

        def moving(name: str) -> Callable[[Any], Any]:
            module = find_layer(model, name).module

            def take(output: Any) -> Any:
                moved = channels_first(output, axis, module)
                replaced = functions[name](moved)
                if replaced is None or moved is output:
                    return replaced
                return replaced.movedim(1, axis(module, output))

            return take

        with intercept_outputs(model, {name: moving(name) for name in functions}, stop=stop):
            yield
