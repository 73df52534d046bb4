"""Attribution methods by name, and several of them on the same images."""

import contextlib
import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.attribution.cams import (
    grad_cam,
    grad_cam_plus_plus,
    guided_grad_cam,
    layer_cam,
)
from visualization.attribution.gradients import (
    Method,
    bind_target_layer,
    deconvnet,
    guided_backprop,
    input_x_gradient,
    integrated_gradients,
    saliency,
    smooth_grad,
)
from visualization.attribution.masking import occlusion_map, rise
from visualization.attribution.relevance.lrp import lrp
from visualization.attribution.relevance.propagation import NoRule
from visualization.attribution.score_cam import score_cam
from visualization.core.arrays import to_numpy
from visualization.core.earlier_names import renamed_arguments
from visualization.core.errors import unknown_name_error
from visualization.core.inputs import Images, Target, as_images, inspection_mode
from visualization.core.records import brief_repr
from visualization.core.targets import TargetScore, resolve_target
from visualization.core.tracing import NamedLayer

Methods = Sequence[str] | Mapping[str, Method]


def _occlusion(
    model: nn.Module, images: Images, target: Target = None, *,
    target_layer: NamedLayer | None = None, batch_size: int | None = None,
) -> Tensor:  # fmt: skip
    """Return the occlusion map for a window of an eighth of each side, moved by half of that."""
    sides = tuple(images.shape[-2:])
    window = (max(1, sides[0] // 8), max(1, sides[1] // 8))
    stride = (max(1, window[0] // 2), max(1, window[1] // 2))
    return occlusion_map(
        model,
        images,
        target,
        target_layer=target_layer,
        window=window,
        stride=stride,
        batch_size=batch_size,
    )


def _rise(
    model: nn.Module, images: Images, target: Target = None, *,
    target_layer: NamedLayer | None = None, batch_size: int | None = None,
) -> Tensor:  # fmt: skip
    """Return the map of RISE, less its mean, fewer masks for large images."""
    return _centre(rise)(
        model, images, target, target_layer=target_layer, num_masks=_num_masks(images),
        batch_size=batch_size,
    )  # fmt: skip


def _score_cam(
    model: nn.Module, images: Images, target: Target = None, *, batch_size: int | None = None
) -> Tensor:
    """Return the map of Score-CAM, of as many channels at most as RISE has masks."""
    return score_cam(model, images, target, num_channels=_num_masks(images), batch_size=batch_size)


def _num_masks(images: Images) -> int:
    """Return how many masked copies of an image run, fewer of a large one."""
    num = _NUMBERS_MASKED // math.prod(images.shape[-3:])
    return min(_MOST_MASKS, max(_LEAST_MASKS, num))


def _lrp(composite: str) -> Method:
    """Return LRP by a composite's name."""

    def explain(
        model: nn.Module, images: Images, target: Target = None, *,
        target_layer: NamedLayer | None = None, batch_size: int | None = None,
    ) -> Tensor:  # fmt: skip
        return lrp(model, images, target, composite=composite, target_layer=target_layer,
                   batch_size=batch_size)  # fmt: skip

    return explain


def _centre(method: Method) -> Method:
    """Return a method whose maps are less their mean: of RISE only differences explain."""

    @functools.wraps(method)
    def explain(*args: Any, **kwargs: Any) -> Tensor:
        values = method(*args, **kwargs)
        return values - values.mean(dim=(1, 2), keepdim=True)

    return explain


def _is_rise(method: Method) -> bool:
    """Tell whether a method is RISE itself, with whatever options."""
    while isinstance(method, functools.partial):
        method = method.func
    return method is rise


_NUMBERS_MASKED = 2**26  # numbers in all masked copies of an image: 446 masks for (3, 224, 224)
_LEAST_MASKS, _MOST_MASKS = 100, 1000

METHODS: Mapping[str, Method] = {
    "saliency": saliency,
    "input_x_gradient": input_x_gradient,
    "smooth_grad": smooth_grad,
    "integrated_gradients": integrated_gradients,
    "guided_backprop": guided_backprop,
    "deconvnet": deconvnet,
    "grad_cam": grad_cam,
    "grad_cam_plus_plus": grad_cam_plus_plus,
    "layer_cam": layer_cam,
    "score_cam": _score_cam,
    "guided_grad_cam": guided_grad_cam,
    "lrp_epsilon_plus": _lrp("epsilon_plus"),
    "lrp_epsilon_gamma_box": _lrp("epsilon_gamma_box"),
    "lrp_epsilon_alpha2_beta1": _lrp("epsilon_alpha2_beta1"),
    "occlusion": _occlusion,
    "rise": _rise,
}
_CAM_METHODS = tuple(name for name in METHODS if name.endswith("_cam") or "_cam_" in name)


@attrs.frozen(eq=False, field_transformer=brief_repr)
class Attributions:
    """Attribution maps of B images by several methods.

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


def resolve_methods(
    methods: Methods | None, target_layer: NamedLayer | None = None, batch_size: int | None = None
) -> dict[str, Method]:
    """Return functions (model, images, target) -> Tensor by name; None: all that there are.

    Of a unit of a layer, CAMs are not among them, as their own layer must lie before the unit's;
    functions of them may be given. The batch size is for those that have one. Maps of RISE are less
    their mean.

    Raises:
        ValueError: an unknown name; names the nearest.
    """
    names = [name for name in METHODS if target_layer is None or name not in _CAM_METHODS]
    selection = names if methods is None else methods
    for name in selection if not isinstance(selection, Mapping) else ():
        if name not in names:
            raise unknown_name_error("methods", name, names, ", or functions by name")
    by_name = (
        selection if isinstance(selection, Mapping) else {name: METHODS[name] for name in selection}
    )
    resolved: dict[str, Method] = {}
    for name, method in by_name.items():
        explain = bind_target_layer(_centre(method) if _is_rise(method) else method, target_layer)
        has_batches = "batch_size" in inspect.signature(explain).parameters
        options = {"batch_size": batch_size} if has_batches and batch_size is not None else {}
        resolved[name] = functools.partial(explain, **options)
    return resolved


def as_map(attributions: Tensor) -> Tensor:
    """Return attributions (B, C, H, W) summed over channels (B, H, W); maps stay as they are."""
    return attributions.sum(dim=1) if attributions.ndim == 4 else attributions


@renamed_arguments(layer="target_layer")
def attributions(
    model: nn.Module,
    images: Images,
    target: Target = None,
    *,
    methods: Methods | None = None,
    target_layer: NamedLayer | None = None,
    labels: Sequence[str] | None = None,
    batch_size: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> Attributions:
    """Attribution maps of the same scores and images by several methods.

    By default time and memory are bounded: an image costs some 110 backward passes, 225 occluded
    copies, and of RISE as many masked copies as have 2²⁶ numbers together, from 100 to 1,000 (of
    (3, 224, 224) it is 446); Score-CAM has a copy for each channel, at most as many. For how many
    run at once see `batch_size`. Maps of RISE are less their mean, as only differences explain
    there. LRP is left out, unless it is named, where it has no rule for what the model computes.

    Args:
        model: any module; it is left as it was.
        images: (B, C, H, W) or (C, H, W).
        target: what is explained, as `select_target` takes it; None: each image's own largest
            class.
        methods: names of `METHODS`, or functions (model, images, target) -> (B, C, H, W) or
            (B, H, W) by name, with their options set by `functools.partial`; None: all of them.
        target_layer: dotted name of the layer whose unit is meant; None: the model's output.
        labels: of the classes, by number; None: the numbers.
        batch_size: images that run at once, handed on to each method that has one, which bounds
            the memory; None: at most 64 of 2²⁰ numbers together where there are gradients, at most
            256 (on a CPU 64, or 2¹⁶ numbers) of 2²² where there are none.
        progress: is called with the name of each method as it begins, such as `print`.

    Raises:
        ValueError: an unknown method; or as the methods.
    """
    explainers = resolve_methods(methods, target_layer, batch_size)
    maps_by_name: dict[str, Tensor] = {}
    with inspection_mode(model):
        images = as_images(images, model)
        target_score = resolve_target(model, images, target, target_layer, batch_size)
        with torch.no_grad():
            scores = target_score.on_images(images)
        for number, (name, method) in enumerate(explainers.items(), start=1):
            if progress:
                progress(f"{name}, method {number} of {len(explainers)}")
            with contextlib.suppress(*([NoRule] if methods is None else [])):
                maps_by_name[name] = as_map(method(model, images, target_score.target))
    words = tuple(target_words(target_score, labels, len(images)))
    maps = {name: to_numpy(values.double()) for name, values in maps_by_name.items()}
    return Attributions(to_numpy(images.double()), maps, words, to_numpy(scores.double()))


def target_words(target_score: TargetScore, labels: Sequence[str] | None, num: int) -> list[str]:
    """Return what is explained of each image as a person would say it."""
    if callable(target_score.target):
        return [getattr(target_score.target, "__name__", type(target_score.target).__name__)] * num
    numbers = (
        target_score.target.tolist()
        if isinstance(target_score.target, Tensor)
        else [target_score.target] * num
    )
    if labels is not None:
        return [labels[number] if isinstance(number, int) else str(number) for number in numbers]
    return [
        f"{target_score.layer}: {number}" if target_score.layer else str(number)
        for number in numbers
    ]
