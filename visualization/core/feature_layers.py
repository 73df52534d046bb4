"""Feature layers: which layers of a network have feature maps."""

import functools
from collections import Counter
from typing import Any

import numpy as np
from torch import Tensor, nn

from visualization.core.earlier_names import renamed_arguments
from visualization.core.errors import NothingToShow
from visualization.core.inputs import Images, inspection_mode, one_image
from visualization.core.tracing import intercept_outputs

ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Hardswish, nn.Sigmoid, nn.Tanh, nn.Softplus,
)  # fmt: skip


@renamed_arguments(most="num_layers")
def feature_layers(
    model: nn.Module, image: Images, num_layers: int | None = None
) -> tuple[str, ...]:
    """Feature layers: the activations that output feature maps, in the order of their calls.

    They are the activations (ReLU and its kin) that output maps of the image, (B, C, H, W) or, as
    in ConvNeXt and Swin, (B, H, W, C); of a model without such modules, as where `F.relu` is
    called, its convolutions. A table that is the same for all images, such as Swin's of positions,
    is none. A module that runs several times comes as `relu@0`, `relu@1`.

    Args:
        model: any module.
        image: (C, H, W), of the size that the model takes.
        num_layers: of so many layers those that are evenly spread, the first and the last among
            them; None: all.

    Raises:
        NothingToShow: (a ValueError) no layer outputs feature maps.
    """
    calls = _calls(model, one_image(image, model))
    for kinds in (ACTIVATIONS, (nn.Conv2d,)):
        names = [name for name, module in calls if isinstance(module, kinds)]
        if names:
            break
    else:
        kind = type(model).__name__
        accepted = "models with modules for their convolutions or activations"
        raise NothingToShow(f"model: no layer of the {kind} has feature maps; accepted: {accepted}")
    if num_layers is None or num_layers >= len(names):
        return tuple(names)
    return tuple(
        names[index] for index in np.linspace(0, len(names) - 1, num_layers).round().astype(int)
    )


def _calls(model: nn.Module, image: Tensor) -> list[tuple[str, nn.Module]]:
    """Calls of activations and convolutions that output feature maps, by name.

    If gradients tell which of them follow from the image, only those.
    """
    kinds = (*ACTIVATIONS, nn.Conv2d)
    leaves = {name: m for name, m in model.named_modules() if name and isinstance(m, kinds)}
    calls: list[tuple[str, bool, bool]] = []  # name, whether it gave maps, whether of the image

    def note(name: str, output: Any) -> None:
        is_tensor = isinstance(output, Tensor)
        calls.append((name, is_tensor and output.ndim == 4, is_tensor and output.requires_grad))

    taps = {name: functools.partial(note, name) for name in leaves}
    with inspection_mode(model), intercept_outputs(model, taps):
        model(image.requires_grad_().clone())
    totals, counts = Counter(name for name, _, _ in calls), Counter[str]()
    map_calls: list[tuple[str, nn.Module]] = []
    with_gradient = any(is_map and follows for _, is_map, follows in calls)
    for name, is_map, follows in calls:
        called = name if totals[name] == 1 else f"{name}@{counts[name]}"
        counts[name] += 1
        if is_map and (follows or not with_gradient):
            map_calls.append((called, leaves[name]))
    return map_calls
