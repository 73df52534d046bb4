"""Class activation maps (CAM) by gradients: Grad-CAM, Grad-CAM++, LayerCAM, Guided Grad-CAM.

B images, C channels of h × w at the layer, H × W pixels.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointError

from visualization.attribution.gradients import guided_backprop
from visualization.core.earlier_names import renamed_arguments
from visualization.core.errors import NothingToShow, argument_error, not_called_error
from visualization.core.inputs import (
    Images,
    Target,
    as_images,
    check_tensor,
    inspection_mode,
    numbered_call,
    optional_layer_name,
)
from visualization.core.layout import intercept_maps
from visualization.core.targets import (
    TargetScore,
    batch_slices,
    last_dependency,
    no_gradient_error,
    resolve_target,
    score_gradient,
)
from visualization.core.tracing import NamedLayer, intercept_outputs

Weights = Callable[[Tensor, Tensor], Tensor]  # activations, gradients -> their factors (B, C, h, w)


def layer_calls(model: nn.Module, images: Images) -> list[tuple[str, int, tuple[int, ...]]]:
    """Return name, number of the call and output's shape for each call of a layer, as they end.

    The model is run on the first image. Outputs that are not a single tensor have the shape ().
    """
    calls: list[tuple[str, int, tuple[int, ...]]] = []
    counts: dict[str, int] = {}

    def note(name: str) -> Callable[[Any], None]:
        def take(output: Any) -> None:
            number = counts[name] = counts.get(name, -1) + 1
            calls.append((name, number, tuple(output.shape) if isinstance(output, Tensor) else ()))

        return take

    names = [name for name, _ in model.named_modules() if name]
    with (
        inspection_mode(model),
        torch.no_grad(),
        intercept_outputs(model, {name: note(name) for name in names}),
    ):
        model(as_images(images, model)[:1].clone())
    return calls


@renamed_arguments(of="target_layer")
def last_feature_map(
    model: nn.Module, images: Images, target: Target = None, target_layer: NamedLayer | None = None
) -> str:
    """Last layer with feature maps on the way to what is explained, by name.

    The maps have more than one place, and the score of the first image depends on them: what a
    network computes beside it, however late, does not count. The name is such as `relu@3` if the
    layer runs several times. What the model itself outputs does not count.

    Args:
        model: any module.
        images: (B, C, H, W), of which the first is run.
        target: what is explained, as `select_target` takes it; None: the largest class.
        target_layer: dotted name of the layer whose unit is explained; None: the model's output.

    Raises:
        NothingToShow: (a ValueError) there is none.
    """
    with inspection_mode(model):
        images = as_images(images, model)
        target_score = resolve_target(model, images, target, target_layer, None, graph=True)
        return _last_feature_map(target_score, images)


def _last_feature_map(target_score: TargetScore, images: Tensor) -> str:
    """Last layer with feature maps on the way to a target score."""
    calls: list[str] = []
    maps: dict[str, Tensor] = {}  # by name and number of the call, as they end

    def note(name: str) -> Callable[[Any], Any]:
        def take(output: Any) -> Any:
            called = f"{name}@{calls.count(name)}"
            calls.append(name)
            if not isinstance(output, Tensor) or output.ndim != 4 or output[0, 0].numel() < 2:
                return None
            maps[called] = output
            return output.clone()  # what follows may work in place

        return take

    own = target_score.layer.partition("@")[0] if target_score.layer else None
    names = [name for name, _ in target_score.model.named_modules() if name]
    candidates = [name for name in names if not own or not f"{name}.".startswith(f"{own}.")]
    with intercept_maps(target_score.model, {name: note(name) for name in candidates}):
        scores = target_score[:1](images[:1].clone().requires_grad_(), torch.tensor([0]))
    if not maps:
        kind = type(target_score.model).__name__
        raise NothingToShow(f"cam_layer: no layer of the {kind} outputs feature maps (B, C, h, w)")
    last = last_dependency(scores, maps)
    name = last.rpartition("@")[0]
    return last if calls.count(name) > 1 else name


@renamed_arguments(layer="cam_layer", of="target_layer")
def grad_cam(
    model: nn.Module, images: Images, target: Target = None, *,
    cam_layer: NamedLayer | None = None, target_layer: NamedLayer | None = None,
    positive: bool = True, upsample: bool = True, batch_size: int | None = None,
) -> Tensor:  # fmt: skip
    """Grad-CAM: the sum of a layer's maps, each times the mean of the score's gradient in it.

    Grad-CAM (Selvaraju et al. 1610.02391, equations 1 and 2), in units of the score per place. Of a
    net that ends in a global mean and a linear layer it is, before its ReLU, CAM / (h · w).

    Args:
        model: any module; it is left as it was.
        images: (B, C, H, W) or (C, H, W).
        target: what is explained, as `select_target` takes it; None: each image's own largest
            class.
        cam_layer: dotted name of the layer whose maps are summed; None: see `last_feature_map`. Of
            a layer that runs several times the first call is meant; `relu@1` is the second.
        target_layer: dotted name of a layer after it whose unit is explained; None: the model's
            output.
        positive: leave out what counts against the target (equation 2's ReLU).
        upsample: return (B, H, W), enlarged bilinearly; otherwise (B, h, w).
        batch_size: images that run at once, which bounds the memory; None:
            at most 64, of 2²⁰ numbers together.

    Raises:
        ValueError: the layer outputs no maps (B, C, h, w), or the score does not depend on it; or
            as `select_target`.
    """
    layers, options = (cam_layer, target_layer), (positive, upsample)
    return _cam(model, images, target, _mean_gradient, layers, options, batch_size)


@renamed_arguments(layer="cam_layer", of="target_layer")
def grad_cam_plus_plus(
    model: nn.Module, images: Images, target: Target = None, *,
    cam_layer: NamedLayer | None = None, target_layer: NamedLayer | None = None,
    positive: bool = True, upsample: bool = True, batch_size: int | None = None,
) -> Tensor:  # fmt: skip
    """Grad-CAM++: a layer's maps, weighted by a mean over places that raise the score.

    Grad-CAM++ (Chattopadhyay et al. 1710.11063, equations 10 and 19), for exp(score): where the
    gradient g is above 0 a place weighs 1 / (2 + g Σ A), elsewhere it is left out, and the factor
    exp(score), the same for a whole map, is not multiplied in. The paper has activations A from 0
    on; in layers before a ReLU those below 0 are left out of Σ A, which keeps weights in (0, 1/2].

    Arguments and errors are those of `grad_cam`.
    """
    layers, options = (cam_layer, target_layer), (positive, upsample)
    return _cam(model, images, target, _gain_weights, layers, options, batch_size)


def layer_cam(
    model: nn.Module, images: Images, target: Target = None, *,
    cam_layer: NamedLayer | None = None, target_layer: NamedLayer | None = None,
    positive: bool = True, upsample: bool = True, batch_size: int | None = None,
) -> Tensor:  # fmt: skip
    """LayerCAM: a layer's maps, each place times the score's gradient there, if that is above 0.

    LayerCAM (Jiang et al. 2021, 10.1109/TIP.2021.3089943, equations 6 to 8): as places have weights
    of their own, it also serves layers with many places, where Grad-CAM's mean gradient fails.

    Arguments and errors are those of `grad_cam`.
    """
    layers, options = (cam_layer, target_layer), (positive, upsample)
    return _cam(model, images, target, _gains, layers, options, batch_size)


def guided_grad_cam(
    model: nn.Module, images: Images, target: Target = None, *,
    cam_layer: NamedLayer | None = None, target_layer: NamedLayer | None = None,
    batch_size: int | None = None,
) -> Tensor:  # fmt: skip
    """Guided Grad-CAM: guided backpropagation times the enlarged Grad-CAM (B, C, H, W).

    Selvaraju et al. 1610.02391, section 3.2. As guided backpropagation hardly depends on the
    weights, neither does its detail within what Grad-CAM leaves (see `randomisation_check`).

    Arguments and errors are those of `grad_cam`.
    """
    cams = grad_cam(model, images, target, cam_layer=cam_layer, target_layer=target_layer,
                    batch_size=batch_size)  # fmt: skip
    guided = guided_backprop(
        model, images, target, target_layer=target_layer, batch_size=batch_size
    )
    return guided * cams[:, None]


def _mean_gradient(_: Tensor, gradients: Tensor) -> Tensor:
    return gradients.mean(dim=(2, 3), keepdim=True)


def _gains(_: Tensor, gradients: Tensor) -> Tensor:
    return gradients.clamp(min=0)


def _gain_weights(activations: Tensor, gradients: Tensor) -> Tensor:
    gains = gradients.clamp(min=0)
    sums = activations.clamp(min=0).sum(dim=(2, 3), keepdim=True)
    return (gains / (2 + gains * sums)).sum(dim=(2, 3), keepdim=True)


def _cam(
    model: nn.Module, images: Images, target: Target, weights: Weights,
    layers: tuple[NamedLayer | None, NamedLayer | None], how: tuple[bool, bool],
    batch_size: int | None,
) -> Tensor:  # fmt: skip
    """Return the weighted sums of maps (B, H, W), or (B, h, w) if not to be enlarged."""
    positive, upsample = how
    with inspection_mode(model):
        images = as_images(images, model)
        target_score = resolve_target(model, images, target, layers[1], batch_size, graph=True)
        cam_layer = optional_layer_name(model, layers[0], "cam_layer") or _last_feature_map(
            target_score, images
        )
        parts = []
        for batch in batch_slices(len(images), target_score.batch_size):
            try:
                maps, gradients = _maps_and_gradients(target_score[batch], images[batch], cam_layer)
            except CheckpointError:  # a checkpoint around the layer begins its graph at the images
                tracked = images[batch].requires_grad_()
                maps, gradients = _maps_and_gradients(target_score[batch], tracked, cam_layer)
            parts.append((weights(maps, gradients) * maps).sum(dim=1))
        cams = torch.cat(parts)
        cams = cams.clamp(min=0) if positive else cams
        return enlarge(cams, images) if upsample else cams


def enlarge(maps: Tensor, images: Tensor) -> Tensor:
    """Enlarge maps (N, h, w) bilinearly to the size of images (N, H, W)."""
    size = images.shape[2:]
    return F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def _maps_and_gradients(
    target_score: TargetScore, images: Tensor, cam_layer: str
) -> tuple[Tensor, Tensor]:
    """Return what a layer outputs and the score's gradient with respect to it (B, C, h, w).

    The graph begins at the maps, and continues from a copy, which may be changed in place.
    """
    intercepted: list[Tensor] = []
    call = numbered_call(target_score.model, cam_layer)
    if target_score.layer and call == numbered_call(target_score.model, target_score.layer):
        raise argument_error(
            "target_layer", f"{target_score.layer!r} is cam_layer itself", "a layer after it"
        )

    def begin(output: Any) -> Tensor:
        maps = check_tensor(output, repr(cam_layer)).detach()
        if maps.ndim != 4:
            problem = f"{cam_layer!r} outputs {tuple(maps.shape)}"
            raise argument_error("cam_layer", problem, "layers that output (B, C, h, w)")
        intercepted.append(maps.requires_grad_())
        return maps.clone()

    with intercept_maps(target_score.model, {call: begin}):
        scores = target_score(images)
    if not intercepted and target_score.layer:  # the pass went no further than to that one
        raise no_gradient_error(repr(cam_layer))
    if not intercepted:
        raise not_called_error("cam_layer", cam_layer)
    (maps,) = intercepted
    return maps.detach(), score_gradient(scores, maps, repr(cam_layer))
