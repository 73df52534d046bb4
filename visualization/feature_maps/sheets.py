"""Unit sheets: patches, weights, maximised image and progression of each channel.

N images, U channels, k patches, S snapshots.
"""

from collections.abc import Sequence

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.core.errors import argument_error
from visualization.core.inputs import Images, activation, as_images, batches, inspection_mode
from visualization.core.records import brief_repr
from visualization.core.tracing import NamedLayer, layer_name
from visualization.feature_maps.fields.patches import TopPatches
from visualization.feature_maps.progression import Progression, as_kernels, weights_before
from visualization.synthesis.maximise import MaximisedImages


@attrs.frozen(kw_only=True, field_transformer=brief_repr)
class UnitSheets:
    """Unit sheets: the channels of one layer, each with what excites it and what it is made of.

    Attributes:
        layer: dotted name; with a channel's number it is the address of a unit's page.
        patches: (U, k, …) of a set of images those that excite each channel most.
        names: of all images of that set, as a person reads them.
        labels: name of each image's label; none where there are no labels.
        peaks: (N, U) the largest value of each channel's map for each image.
        maximised: (U, C, H, W) an image found for each channel; None where none was looked for.
        reached: (U,) the mean of the channel's map for it, NaN where none was found; None likewise.
        real: (U,) the largest mean of its map for a real image; None where it was not computed.
        progression: the channels through training; None where nothing was recorded.
        kernels: (U, c, kh, kw) the weights that each channel comes from; None where there are none.
        biases: (U,) their biases, likewise.
    """

    layer: str
    patches: TopPatches
    names: Sequence[str]
    labels: Sequence[str]
    peaks: NDArray[np.floating]
    maximised: NDArray[np.floating] | None
    reached: NDArray[np.floating] | None
    real: NDArray[np.floating] | None
    progression: Progression | None
    kernels: NDArray[np.floating] | None
    biases: NDArray[np.floating] | None


def unit_sheets(
    model: nn.Module,
    layer: NamedLayer,
    images: Images,
    *,
    patches: TopPatches,
    names: Sequence[str],
    labels: Sequence[str] = (),
    maximised: MaximisedImages | None = None,
    progression: Progression | None = None,
    batch_size: int = 256,
) -> UnitSheets:
    """Unit sheets: gather what is known of the channels of a layer.

    Args:
        model: any module.
        layer: dotted name.
        images: (N, C, H, W), those in which the patches were found.
        patches: of some channels or all.
        names: of the images.
        labels: of each image, in words.
        maximised: an image for each of these channels.
        progression: of these channels.
        batch_size: images in a pass.

    Raises:
        ValueError: records of other channels than the patches are of.
    """
    layer = layer_name(model, layer)
    channels = patches.channels
    if maximised is not None and len(maximised.images) != len(channels):
        problem = f"{len(maximised.images)} images do not go with {len(channels)} channels"
        raise argument_error("maximised", problem, "one for each")
    if progression is not None and not np.array_equal(progression.channels, channels):
        problem = "is of other channels than the patches"
        raise argument_error("progression", problem, f"channels {channels.tolist()}")
    kernels, biases = _weights(model, layer, as_images(images[:1], model))
    examples = None if maximised is None else maximised.dataset_examples
    return UnitSheets(
        layer=layer, patches=patches, names=names, labels=labels,
        peaks=channel_peaks(model, layer, images, batch_size)[:, channels],
        maximised=None if maximised is None else maximised.images.float().cpu().numpy(),
        reached=None if maximised is None else maximised.values,
        real=None if examples is None else examples.values, progression=progression,
        kernels=None if kernels is None else kernels[channels],
        biases=None if biases is None else biases[channels],
    )  # fmt: skip


def _weights(
    model: nn.Module, layer: str, image: Tensor
) -> tuple[NDArray[np.floating] | None, NDArray[np.floating] | None]:
    """Return the kernels (U, c, kh, kw) and biases (U,) that a layer's channels come from."""
    name = weights_before(model, layer, image)
    if name is None:
        return None, None
    parameters = dict(model.named_parameters(remove_duplicate=False))
    bias = parameters.get(name.removesuffix("weight") + "bias")
    return as_kernels(
        parameters[name]
    ), None if bias is None else bias.detach().float().cpu().numpy()


def channel_peaks(
    model: nn.Module, layer: str, images: Images, batch_size: int = 256
) -> NDArray[np.floating]:
    """Return the largest value of each channel's map for each image (N, U).

    Raises:
        ValueError: no such layer, or images that the model does not take.
    """
    peaks = []
    with inspection_mode(model), torch.no_grad():
        for batch in batches(images, model, batch_size):
            output = activation(model, batch, layer)
            peaks.append(output.flatten(2).amax(2) if output.ndim > 2 else output)
    return torch.cat(peaks).float().cpu().numpy()
