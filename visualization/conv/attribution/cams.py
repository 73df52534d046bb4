"""Which places of a layer's feature maps speak for a class: Grad-CAM and Grad-CAM++.

B images, C channels of h × w at the layer, H × W pixels.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointError

from visualization.conv.common import (
    Images,
    Target,
    as_images,
    demand_tensor,
    inspecting,
    named,
    one_call,
    score,
)
from visualization.conv.scores import Asked, asked, demand_gradient, spans
from visualization.errors import NothingToShow
from visualization.tracing import NamedLayer, tapped

Weights = Callable[[Tensor, Tensor], Tensor]  # activations, gradients (B, C, h, w) -> (B, C)


def layer_calls(model: nn.Module, images: Images) -> list[tuple[str, int, tuple[int, ...]]]:
    """Return name, number of the call and output's shape for each call of a layer, as they end.

    The model is run on the first image. Outputs that are no single tensor have the shape ().
    """
    calls: list[tuple[str, int, tuple[int, ...]]] = []
    counts: dict[str, int] = {}

    def note(name: str) -> Callable[[Any], None]:
        def take(output: Any) -> None:
            number = counts[name] = counts.get(name, -1) + 1
            calls.append((name, number, tuple(output.shape) if isinstance(output, Tensor) else ()))

        return take

    names = [name for name, _ in model.named_modules() if name]
    with inspecting(model), torch.no_grad(), tapped(model, {name: note(name) for name in names}):
        model(as_images(images, model)[:1].clone())
    return calls


def last_map(model: nn.Module, images: Images) -> str:
    """Return the name of the last layer that puts out feature maps of more than one place.

    It is found by running the model on the first image, and is such as `relu@3` if the layer runs
    several times. What the model itself puts out does not count.

    Raises:
        NothingToShow: (a ValueError) there is none.
    """
    calls = layer_calls(model, images)
    maps = [call for call in calls if len(call[2]) == 4 and call[2][2] * call[2][3] > 1]
    if not maps:
        kind = type(model).__name__
        raise NothingToShow(f"layer: no layer of the {kind} puts out feature maps (B, C, h, w)")
    name, number, _ = maps[-1]
    return f"{name}@{number}" if sum(call[0] == name for call in calls) > 1 else name


def grad_cam(
    model: nn.Module,
    images: Images,
    target: Target = None,
    *,
    layer: NamedLayer | None = None,
    of: NamedLayer | None = None,
    positive: bool = True,
    upsample: bool = True,
    batch_size: int = 64,
) -> Tensor:
    """Return the sum of a layer's maps, each times the mean of the score's gradient in it.

    Grad-CAM (Selvaraju et al. 1610.02391, equations 1 and 2), in units of the score per place. Of a
    net that ends in a global mean and a linear layer it is, before its ReLU, CAM / (h · w).

    Args:
        model: any module; it is left as it was.
        images: (B, C, H, W) or (C, H, W).
        target: what is explained, as `score` takes it; None: each image's own largest class.
        layer: dotted name of the layer whose maps are summed; None: see `last_map`. Of a layer that
            runs several times the first call is meant; `relu@1` is the second.
        of: dotted name of a layer after it whose unit is explained; None: the model's output.
        positive: leave out what speaks against the target (equation 2's ReLU).
        upsample: return (B, H, W), enlarged bilinearly; otherwise (B, h, w).
        batch_size: images that run at once.

    Raises:
        ValueError: the layer puts out no maps (B, C, h, w), or the score does not depend on it; or
            as `score`.
    """
    return _cam(
        model, images, target, _mean_gradient, (layer, of), (positive, upsample), batch_size
    )


def grad_cam_plus_plus(
    model: nn.Module,
    images: Images,
    target: Target = None,
    *,
    layer: NamedLayer | None = None,
    of: NamedLayer | None = None,
    positive: bool = True,
    upsample: bool = True,
    batch_size: int = 64,
) -> Tensor:
    """Return the sum of a layer's maps, each times a mean over places that gain the score.

    Grad-CAM++ (Chattopadhyay et al. 1710.11063, equations 10 and 19), for exp(score): where the
    gradient g is above 0 a place weighs 1 / (2 + g Σ A), elsewhere it is left out, and the factor
    exp(score), the same for a whole map, is not multiplied in. The paper has activations A from 0
    on; in layers before a ReLU those below 0 are left out of Σ A, which keeps weights in (0, 1/2].

    Args:
        model: any module; it is left as it was.
        images: (B, C, H, W) or (C, H, W).
        target: as `grad_cam`.
        layer: as `grad_cam`.
        of: as `grad_cam`.
        positive: as `grad_cam`.
        upsample: as `grad_cam`.
        batch_size: images that run at once.

    Raises:
        ValueError: as `grad_cam`.
    """
    return _cam(model, images, target, _gained, (layer, of), (positive, upsample), batch_size)


def _mean_gradient(_: Tensor, gradients: Tensor) -> Tensor:
    return gradients.mean(dim=(2, 3))


def _gained(activations: Tensor, gradients: Tensor) -> Tensor:
    gains = gradients.clamp(min=0)
    sums = activations.clamp(min=0).sum(dim=(2, 3), keepdim=True)
    return (gains / (2 + gains * sums)).sum(dim=(2, 3))


def _cam(
    model: nn.Module, images: Images, target: Target, weights: Weights,
    layers: tuple[NamedLayer | None, NamedLayer | None], how: tuple[bool, bool], batch_size: int,
) -> Tensor:  # fmt: skip
    """Return the weighted sums of maps (B, H, W), or (B, h, w) if not to be enlarged."""
    positive, upsample = how
    with inspecting(model):
        held = as_images(images, model)
        layer = named(model, layers[0]) or last_map(model, held)
        ask = asked(model, held, target, named(model, layers[1], "of"), batch_size)
        parts = []
        for span in spans(len(held), batch_size):
            try:
                maps, gradients = _maps_and_gradients(ask.part(span), held[span], layer)
            except CheckpointError:  # a checkpoint around the layer begins its graph at the images
                asking = held[span].requires_grad_()
                maps, gradients = _maps_and_gradients(ask.part(span), asking, layer)
            parts.append((weights(maps, gradients)[:, :, None, None] * maps).sum(dim=1))
        cams = torch.cat(parts)
        cams = cams.clamp(min=0) if positive else cams
        if not upsample:
            return cams
        size = held.shape[2:]
        return F.interpolate(cams[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def _maps_and_gradients(ask: Asked, images: Tensor, layer: str) -> tuple[Tensor, Tensor]:
    """Return what a layer puts out and the score's gradient with respect to it (B, C, h, w).

    The graph begins at the maps, and goes on from a copy, which may be changed in place.
    """
    found: list[Tensor] = []
    later: list[Any] = []
    chosen = one_call(ask.model, layer)
    wanted = one_call(ask.model, ask.layer) if ask.layer else None
    if chosen == wanted:
        raise ValueError(f"of: {ask.layer!r} is the layer itself; accepted: a layer after it")

    def begin(output: Any) -> Tensor:
        maps = demand_tensor(output, repr(layer)).detach().requires_grad_()
        found.append(maps)
        return maps.clone()

    taps: dict[str, Callable[[Any], Any]] = {chosen: begin}
    if wanted:
        taps[wanted] = later.append
    with tapped(ask.model, taps, stop=wanted is not None):
        answer = ask.model(images.clone())
    outputs = later if wanted else [answer]
    if not found or not outputs:
        name = ask.layer if found else layer
        raise ValueError(f"layer: {name!r} was not called while the model ran")
    (maps,) = found
    if maps.ndim != 4:
        problem = f"{layer!r} puts out {tuple(maps.shape)}"
        raise ValueError(f"layer: {problem}; accepted: layers that put out (B, C, h, w)")
    scores = score(demand_tensor(outputs[0], repr(ask.layer or "the model")), ask.target)
    return maps.detach(), demand_gradient(scores, maps, repr(layer))
