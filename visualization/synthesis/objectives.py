"""Objectives: a unit, a channel, a logit, a direction; and diversity.

An objective may be another one for each image: `channel("conv1", range(32))` asks the first image
to excite channel 0, the second channel 1, and so on, all in one pass.

>>> both = channel("conv1", 3) + 0.5 * channel("conv1", 8)
>>> both.names, both.layers
(('conv1:3 + 0.5 conv1:8',), ('conv1',))
>>> len(channel("conv1", range(32)).names)
32

B images, N images that an objective tells apart (1: it is the same for any number of them),
C channels, H rows, W columns. After Olah, Mordvintsev and Schubert 2017, Feature Visualization,
distill.pub.
"""

import operator
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from visualization.core.errors import argument_error
from visualization.core.inputs import Images, as_tensor, check_channels_first, check_unit
from visualization.core.tracing import NamedLayer
from visualization.synthesis.objective import ForwardCache, Objective, layer_word, union

_LEAST_COSINE = 0.1  # lower ones count as this, so that there is a slope far away too


def unit(
    layer: NamedLayer | None, channels: int | Iterable[int], row: int | None = None,
    column: int | None = None,
) -> Objective:  # fmt: skip
    """Unit objective: the activation at one place of a feature map (or of a vector).

    Args:
        layer: dotted name or module; `relu@1` is its second call; None: the model's own output.
        channels: one, or one for each image.
        row: of the map; None: its middle, which of an even number is the one below.
        column: as `row`.
    """
    numbers = _numbers(channels)
    position_word = (
        f"({'middle' if row is None else row}, {'middle' if column is None else column})"
    )
    where = "" if row is None and column is None else position_word

    def measure(cache: ForwardCache) -> Tensor:
        maps = _channels(cache, layer, numbers)
        position = [size // 2 for size in maps.shape[1:]]
        if (row, column) != (None, None):
            down, across = position if len(position) == 2 else (0, 0)
            position = [down if row is None else row, across if column is None else column]
        check_unit((numbers[0], *position), cache[layer].shape[1:], "objective")
        index: tuple[slice | int, ...] = (slice(None), *position)
        return maps[index]

    return Objective(union((layer,)), _names(layer, numbers, where), measure)


def channel(layer: NamedLayer | None, channels: int | Iterable[int]) -> Objective:
    """Channel objective: the mean of a feature map (or a number of a vector)."""
    numbers = _numbers(channels)

    def measure(cache: ForwardCache) -> Tensor:
        check_channels_first(cache[layer], "objective", f"channel {numbers[0]}")
        maps = _channels(cache, layer, numbers)
        return maps if maps.ndim == 1 else maps.flatten(1).mean(dim=1)

    return Objective(union((layer,)), _names(layer, numbers), measure)


def logit(classes: int | Iterable[int]) -> Objective:
    """Logit objective: the model's own output for a class, before any softmax if it is a logit."""
    numbers = _numbers(classes)
    return channel(None, numbers).named(*(f"class {number}" for number in numbers))


def direction(layer: NamedLayer | None, vector: Images, name: str = "direction") -> Objective:
    """Direction objective: a · v, averaged over the places of the map.

    Args:
        layer: dotted name; None: the model's own output.
        vector: over channels (C,), or over a whole layer (C, H, W), where a · v is one number; with
            a leading axis one for each image: (N, C), (N, C, H, W).
        name: a word for it.
    """
    vectors, names = _vectors(vector, name)

    def measure(cache: ForwardCache) -> Tensor:
        activation, along = _activations_and_vectors(cache, layer, vectors)
        return torch.einsum("bdp,bd->bp", activation, along).mean(dim=1)

    return Objective(union((layer,)), names, measure)


def cosine(
    layer: NamedLayer | None, vector: Images, power: float | None = None, name: str = "cosine"
) -> Objective:
    """Cosine objective: the cosine of the activation and a vector, averaged over the map.

    Args:
        layer: dotted name; None: the model's own output.
        vector: as in `direction`; the whole activation of an image makes a caricature of it.
        power: None: the cosine alone, however weak the activation; a number: (a · v) times
            cos(a, v)^power, cosines being at least 0.1 (Carter et al. 2019, Activation Atlas).
        name: a word for it.
    """
    vectors, names = _vectors(vector, name)

    def measure(cache: ForwardCache) -> Tensor:
        activation, along = _activations_and_vectors(cache, layer, vectors)
        cosines = F.cosine_similarity(activation, along[:, :, None], dim=1)
        if power is None:
            return cosines.mean(dim=1)
        dots = torch.einsum("bdp,bd->bp", activation, along)
        return (dots * cosines.clamp(min=_LEAST_COSINE) ** power).mean(dim=1)

    return Objective(union((layer,)), names, measure)


def layer_energy(layer: NamedLayer | None) -> Objective:
    """Layer energy (DeepDream): half the mean square of a layer's activations."""
    name = layer_word(layer)
    return Objective(
        union((layer,)), (f"all of {'the output' if name == 'output' else name}",),
        lambda cache: 0.5 * (cache[layer] ** 2).flatten(1).mean(dim=1),
    )  # fmt: skip


def diversity(layer: NamedLayer) -> Objective:
    """Diversity: minus the mean cosine of the images' Gram matrices.

    The Gram matrix (C, C) of a layer holds how much its channels are active in the same places:
    the style. From −1 (all the same) to 1 (Olah et al. 2017).
    """

    def measure(cache: ForwardCache) -> Tensor:
        maps = cache[layer].flatten(2) if cache[layer].ndim > 2 else cache[layer][:, :, None]
        if len(maps) < 2:
            problem = "one image has no others to be unlike"
            raise argument_error("diversity", problem, "2 or more, with num_images or names")
        grams = F.normalize((maps @ maps.transpose(1, 2)).flatten(1), dim=1)
        cosines = grams @ grams.T
        return -(cosines.sum(dim=1) - cosines.diagonal()) / (len(maps) - 1)

    return Objective(union((layer,)), (f"diversity of {layer_word(layer)}",), measure, coupled=True)


def _numbers(channels: int | Iterable[int]) -> tuple[int, ...]:
    """Return channels as given, one or several, as whole numbers."""
    if isinstance(channels, Iterable):
        numbers = tuple(operator.index(number) for number in channels)
    else:
        numbers = (operator.index(channels),)
    if not numbers:
        raise argument_error("channels", "there are none", "one or more")
    return numbers


def _names(layer: NamedLayer | None, numbers: tuple[int, ...], where: str = "") -> tuple[str, ...]:
    return tuple(
        f"{layer_word(layer)}:{number}{f' {where}' if where else ''}" for number in numbers
    )


def _channels(cache: ForwardCache, layer: NamedLayer | None, numbers: tuple[int, ...]) -> Tensor:
    """Return each image's own channel (B, …) of a layer's output (B, C, …)."""
    output = cache[layer]
    for number in (min(numbers), max(numbers)):
        check_unit((number, *[0] * (output.ndim - 2)), output.shape[1:], "objective")
    own = cache.own(torch.tensor(numbers), torch.empty(0, dtype=torch.long, device=output.device))
    return output[torch.arange(len(output), device=output.device), own]


def _vectors(vector: Images, name: str) -> tuple[Tensor, tuple[str, ...]]:
    """Return vectors with the axis of images, (N, C) or (N, C, H, W), and their names."""
    vectors = as_tensor(vector, "vector")
    if vectors.ndim not in (1, 2, 3, 4):
        problem = f"shape {tuple(vectors.shape)} is not accepted"
        raise argument_error("vector", problem, "(C,), (C, H, W), (N, C), (N, C, H, W)")
    if vectors.ndim in (1, 3):
        return vectors[None], (name,)
    return vectors, tuple(f"{name} {n}" for n in range(len(vectors))) if len(vectors) > 1 else (
        name,
    )


def _activations_and_vectors(
    cache: ForwardCache, layer: NamedLayer | None, vectors: Tensor
) -> tuple[Tensor, Tensor]:
    """Return activations (B, D, P) at P places, and each image's own vector (B, D)."""
    output = cache[layer]
    check_channels_first(output, "objective", "a vector over channels")
    whole = vectors.ndim == 4
    expected = output.shape[1:] if whole else output.shape[1:2]
    if vectors.shape[1:] != expected:
        problem = f"shape {tuple(vectors.shape[1:])} does not go with the layer"
        raise argument_error("vector", problem, tuple(expected))
    shaped = output.flatten(1)[:, :, None] if whole else output.reshape(*output.shape[:2], -1)
    return shaped, cache.own(vectors, output).flatten(1)
