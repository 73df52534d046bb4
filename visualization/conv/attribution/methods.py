"""Ways of attribution by name, and what several of them say of the same images."""

import difflib
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.conv.attribution.cams import grad_cam, grad_cam_plus_plus
from visualization.conv.attribution.gradients import (
    Method,
    deconvnet,
    guided_backprop,
    input_x_gradient,
    integrated_gradients,
    saliency,
    smooth_grad,
)
from visualization.conv.attribution.masking import occlusion_map, rise
from visualization.conv.common import Images, Target, as_images, inspecting
from visualization.conv.scores import Asked, asked
from visualization.tracing import NamedLayer

Methods = Sequence[str] | Mapping[str, Method]


def _occlusion(
    model: nn.Module, images: Images, target: Target = None, *, layer: NamedLayer | None = None
) -> Tensor:
    """Return the occlusion map for a window of an eighth of each side, moved by half of that."""
    sides = tuple(images.shape[-2:])
    window = (max(1, sides[0] // 8), max(1, sides[1] // 8))
    stride = (max(1, window[0] // 2), max(1, window[1] // 2))
    return occlusion_map(model, images, target, layer=layer, window=window, stride=stride)


def _rise(
    model: nn.Module, images: Images, target: Target = None, *, layer: NamedLayer | None = None
) -> Tensor:
    """Return the map of RISE for 7 × 7 cells, or as many as a small image has pixels.

    It is less its mean over pixels: only the differences between pixels explain.
    """
    sides = tuple(images.shape[-2:])
    cells = (min(7, sides[0]), min(7, sides[1]))
    found = rise(model, images, target, layer=layer, grid=cells)
    return found - found.mean(dim=(1, 2), keepdim=True)


METHODS: Mapping[str, Method] = {
    "saliency": saliency,
    "input_x_gradient": input_x_gradient,
    "smooth_grad": smooth_grad,
    "integrated_gradients": integrated_gradients,
    "guided_backprop": guided_backprop,
    "deconvnet": deconvnet,
    "grad_cam": grad_cam,
    "grad_cam_plus_plus": grad_cam_plus_plus,
    "occlusion": _occlusion,
    "rise": _rise,
}
_OF_THE_ANSWER = ("grad_cam", "grad_cam_plus_plus")  # for a unit, their own layer must be chosen


@attrs.frozen(eq=False)
class Attributions:
    """What several methods say of B images.

    Attributes:
        images: (B, C, H, W).
        maps: by method (B, H, W), summed over channels, with their signs.
        targets: what was explained of each image, in words (B,).
        scores: of the images themselves (B,).
    """

    images: NDArray[np.float64]
    maps: Mapping[str, NDArray[np.float64]]
    targets: tuple[str, ...]
    scores: NDArray[np.float64]


def chosen_methods(methods: Methods | None, layer: NamedLayer | None = None) -> dict[str, Method]:
    """Return functions (model, images, target) -> Tensor by name; None: all that there are.

    Of a unit of a layer, Grad-CAM is not among them, as its own layer must lie before the unit's.

    Raises:
        ValueError: an unknown name; names the nearest.
    """
    names = [name for name in METHODS if layer is None or name not in _OF_THE_ANSWER]
    wanted = names if methods is None else methods
    for name in wanted if not isinstance(wanted, Mapping) else ():
        if name not in names:
            near = difflib.get_close_matches(name, names, 1, 0.0)[0]
            accepted = f"{', '.join(names)}, or functions by name; did you mean {near!r}?"
            raise ValueError(f"methods: {name!r} is not accepted; accepted: {accepted}")
    by_name = wanted if isinstance(wanted, Mapping) else {name: METHODS[name] for name in wanted}
    options: dict[str, Any] = {} if layer is None else {"layer": layer}
    return {name: functools.partial(method, **options) for name, method in by_name.items()}


def as_map(attributions: Tensor) -> Tensor:
    """Return attributions (B, C, H, W) summed over channels (B, H, W); maps stay as they are."""
    return attributions.sum(dim=1) if attributions.ndim == 4 else attributions


def attributions(
    model: nn.Module,
    images: Images,
    target: Target = None,
    *,
    methods: Methods | None = None,
    layer: NamedLayer | None = None,
    labels: Sequence[str] | None = None,
    batch_size: int = 64,
) -> Attributions:
    """Explain the same scores of the same images by several methods.

    Args:
        model: any module; it is left as it was.
        images: (B, C, H, W) or (C, H, W).
        target: what is explained, as `score` takes it; None: each image's own largest class.
        methods: names of `METHODS`, or functions (model, images, target) -> (B, C, H, W) or
            (B, H, W) by name, with their options set by `functools.partial`; None: all of them.
        layer: dotted name of the layer whose unit is meant; None: the model's output.
        labels: of the classes, by number; None: the numbers.
        batch_size: images that run at once for the scores.

    Raises:
        ValueError: an unknown method; or as the methods.
    """
    chosen = chosen_methods(methods, layer)
    with inspecting(model):
        held = as_images(images, model)
        ask = asked(model, held, target, layer, batch_size)
        with torch.no_grad():
            scores = ask.each(held, batch_size)
        found = {name: as_map(method(model, held, ask.target)) for name, method in chosen.items()}
    words = tuple(target_words(ask, labels, len(held)))
    maps = {name: as_array(values) for name, values in found.items()}
    return Attributions(as_array(held), maps, words, as_array(scores))


def target_words(ask: Asked, labels: Sequence[str] | None, num: int) -> list[str]:
    """Return what is explained of each image as a person would say it."""
    numbers = ask.target.tolist() if isinstance(ask.target, Tensor) else [ask.target] * num
    if labels is not None:
        return [labels[at] if isinstance(at, int) else str(at) for at in numbers]
    return [f"{ask.layer}: {at}" if ask.layer else str(at) for at in numbers]


def as_array(values: Tensor) -> NDArray[np.float64]:
    """Return a tensor as an array of numbers for a record."""
    return np.asarray(values.detach().cpu().double().numpy())
