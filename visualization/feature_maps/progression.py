"""Feature maps and kernels at snapshots taken during training.

S copies, N images, U channels, H rows, W columns.
"""

import functools
from collections.abc import Mapping, Sequence

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.core.errors import argument_error
from visualization.core.feature_layers import ACTIVATIONS
from visualization.core.inputs import (
    Images,
    activation,
    as_images,
    copy_model,
    inspection_mode,
    select_channels,
)
from visualization.core.records import brief_repr
from visualization.core.tracing import NamedLayer, find_layer, intercept_outputs, layer_name
from visualization.feature_maps.fields.patches import TopPatches, top_patches

Weighted = nn.Conv2d | nn.Linear
_WEIGHTED = (nn.Conv2d, nn.Linear)


@attrs.frozen(kw_only=True, field_transformer=brief_repr)
class Progression:
    """Channels of one layer at steps of training.

    Attributes:
        layer: dotted name.
        channels: (U,) which channels of the layer.
        steps: (S,) steps taken when the copies were made.
        images: (N, C, H, W) the images that were run each time.
        maps: (S, N, U, h, w) the layer's output for them; of a vector layer h and w are 1.
        kernels: (S, U, c, kh, kw) weights of the convolution, or (S, U, c, 1, 1) of the linear
            layer, that the channels come from; None where none precedes.
        patches: for each copy the one patch, of a larger set, that excites each channel most; none
            where nothing does.
    """

    layer: str
    channels: NDArray[np.int64]
    steps: NDArray[np.int64]
    images: NDArray[np.floating]
    maps: NDArray[np.floating]
    kernels: NDArray[np.floating] | None
    patches: tuple[TopPatches, ...]


def progression(
    model: nn.Module,
    states: Mapping[int, Mapping[str, Tensor]],
    layer: NamedLayer,
    images: Images,
    *,
    num_shown: int = 8,
    channels: Sequence[int] | None = None,
    batch_size: int = 256,
) -> Progression:
    """Feature maps of the same images at snapshots taken during training.

    Args:
        model: the model that the copies are of; it is not changed.
        states: parameters and buffers by step, as `model.state_dict()` gives them.
        layer: dotted name.
        images: (N, C, H, W), among which each copy's best patches are found.
        num_shown: of the first images the feature maps are kept.
        channels: of the layer; None: all.
        batch_size: images in a pass.

    Raises:
        ValueError: no state; no such layer or channel; images of another shape.
    """
    layer = layer_name(model, layer)
    if not states:
        raise argument_error("states", "none are given", "states of the model by step")
    all_images = as_images(images, model)
    first_images = all_images[:num_shown]
    other = copy_model(model)
    source = weights_before(model, layer, first_images[:1])
    numbers: NDArray[np.int64] | None = None
    maps, kernels, patches = [], [], []
    for step in sorted(states):
        other.load_state_dict(states[step])
        with inspection_mode(other), torch.no_grad():
            output = activation(other, first_images, layer)
            if numbers is None:
                numbers = np.array(select_channels(channels, output.shape[1]), np.int64)
            maps_of_step = output.reshape(*output.shape[:2], *(output.shape[2:] or (1, 1)))
            maps.append(maps_of_step[:, numbers].float().cpu().numpy())
            if source is not None:
                kernels.append(as_kernels(states[step][source])[numbers])
        patches.append(
            top_patches(other, layer, all_images, numbers.tolist(), k=1, batch_size=batch_size)
        )
    assert numbers is not None
    return Progression(
        layer=layer, channels=numbers, steps=np.array(sorted(states)),
        images=first_images.float().cpu().numpy(), maps=np.stack(maps),
        kernels=np.stack(kernels) if kernels else None, patches=tuple(patches),
    )  # fmt: skip


def as_kernels(weight: Tensor) -> NDArray[np.floating]:
    """Return weights as (U, c, kh, kw), whatever layer they are of."""
    array = weight.detach().float().cpu().numpy()
    return array.reshape(*array.shape[:2], *(array.shape[2:] or (1, 1)))


def weights_before(model: nn.Module, layer: str, image: Tensor) -> str | None:
    """Return the name of the weights that a layer's channels come from, in the state dict.

    They are the layer's own if it is a convolution or a linear layer; else those with as many
    channels that ran since the activation before it, of several, as beside a shortcut, those with
    the largest kernels and then the last; None if there are none.
    """
    source = find_layer(model, layer).module
    if not isinstance(source, _WEIGHTED):
        if any(p.ndim > 1 for p in source.parameters(recurse=False)):
            return None  # of another kind, such as a transposed convolution
        ran: list[Weighted] = []
        before: list[Weighted] = []

        def note(module: nn.Module, output: object) -> None:
            if isinstance(module, _WEIGHTED):
                ran.append(module)
            elif isinstance(module, ACTIVATIONS):
                before[:] = ran
                ran.clear()

        taps = {name: functools.partial(note, m) for name, m in model.named_modules() if name}
        with inspection_mode(model), torch.no_grad(), intercept_outputs(model, taps):
            num_channels = activation(model, image, layer).shape[1]
        fitting = [module for module in ran or before if len(module.weight) == num_channels]
        if not fitting:
            return None
        source = max(reversed(fitting), key=lambda module: module.weight[0, 0].numel())
    name = next(name for name, module in model.named_modules() if module is source)
    own = f"{name}.weight"  # not there if it is worked out of others, as by weight_norm
    return own if own in model.state_dict() else None
