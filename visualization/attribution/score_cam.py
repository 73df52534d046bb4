"""Score-CAM: a class activation map without gradients.

B images, C channels of h × w at the layer, K of them that are used, H × W pixels.
"""

import torch
from torch import Tensor, nn

from visualization.attribution.cams import enlarge, last_feature_map
from visualization.core.errors import argument_error, check_count
from visualization.core.inputs import (
    Images,
    Target,
    activation,
    as_images,
    inspection_mode,
    optional_layer_name,
)
from visualization.core.targets import TargetScore, batch_slices, resolve_target, unravel_index
from visualization.core.tracing import NamedLayer


def score_cam(
    model: nn.Module, images: Images, target: Target = None, *,
    cam_layer: NamedLayer | None = None, target_layer: NamedLayer | None = None,
    num_channels: int | None = None, positive: bool = True, upsample: bool = True,
    batch_size: int | None = None,
) -> Tensor:  # fmt: skip
    """Score-CAM: a layer's maps, each weighted by the score of the image seen through it.

    Score-CAM (Wang et al. 1910.01279, algorithm 1). Each map, enlarged and scaled to [0, 1], masks
    the image; weights are a softmax, over channels, of what this adds to the score of a black image
    (of zeros). It needs a pass for each channel, and no gradient.

    Args:
        model: any module; it is left as it was.
        images: (B, C, H, W) or (C, H, W).
        target: what is explained, as `select_target` takes it; None: each image's own largest
            class.
        cam_layer: dotted name of the layer whose maps are summed; None: see `last_feature_map`.
        target_layer: dotted name of a layer whose unit is explained; None: the model's output.
        num_channels: K, the channels that are used of each image, those that vary most over its
            places (standard deviation); None: all. Fewer save passes.
        positive: leave out what is below 0.
        upsample: return (B, H, W), enlarged bilinearly; otherwise (B, h, w).
        batch_size: masked images that run at once, which bounds the memory; None:
            at most 256 (on a CPU 64, or 2¹⁶ numbers), of 2²² numbers together.

    Raises:
        ValueError: the layer outputs no maps (B, C, h, w); or as `select_target`.
    """
    check_count(num_channels, "num_channels")
    with inspection_mode(model):
        images = as_images(images, model)
        name = optional_layer_name(model, cam_layer, "cam_layer") or last_feature_map(
            model, images, target, target_layer
        )
        with torch.no_grad():
            target_score = resolve_target(model, images, target, target_layer, batch_size)
            maps = _most_varied(_maps(target_score, images, name), num_channels)
            weights = _gains(target_score, images, maps).softmax(dim=1)
        cams = (weights[:, :, None, None] * maps).sum(dim=1)
        cams = cams.clamp(min=0) if positive else cams
        return enlarge(cams, images) if upsample else cams


def _maps(target_score: TargetScore, images: Tensor, layer: str) -> Tensor:
    """Return a layer's maps (B, C, h, w) of images."""
    parts = batch_slices(len(images), target_score.batch_size)
    maps = torch.cat([activation(target_score.model, images[part], layer) for part in parts])
    if maps.ndim != 4:
        problem = f"{layer!r} outputs {tuple(maps.shape)}"
        raise argument_error("cam_layer", problem, "layers that output (B, C, h, w)")
    return maps


def _most_varied(maps: Tensor, num: int | None) -> Tensor:
    """Return of each image's maps the ones that vary most (B, K, h, w), in their order."""
    if num is None or num >= maps.shape[1]:
        return maps
    chosen = (
        maps.flatten(2).double().std(dim=2, correction=0).topk(num, dim=1).indices.sort().values
    )
    return maps.gather(1, chosen[:, :, None, None].expand(-1, -1, *maps.shape[2:]))


def _gains(target_score: TargetScore, images: Tensor, maps: Tensor) -> Tensor:
    """Return by how much the image seen through a map scores above a black one (B, K).

    A map that is the same everywhere shows nothing of the image.
    """
    numbers = torch.arange(len(images), device=images.device)
    parts = batch_slices(len(images), target_score.batch_size)
    black = torch.cat([target_score(0 * images[part], numbers[part]) for part in parts])
    shape = (maps.shape[0], maps.shape[1])
    gains = []
    for span in batch_slices(shape[0] * shape[1], target_score.batch_size):
        rows = torch.arange(span.start, span.stop, device=images.device)
        number, channel = unravel_index(rows, shape)
        masks = enlarge(maps[number, channel], images)
        low, high = masks.amin((1, 2), keepdim=True), masks.amax((1, 2), keepdim=True)
        scaled = torch.where(high > low, (masks - low) / (high - low).clamp(min=_LEAST), 0)
        seen = images[number] * scaled[:, None].to(images)
        gains.append(target_score(seen, number) - black[number])
    return torch.cat(gains).view(shape)


_LEAST = 1e-7  # difference between two numbers of a map by which its scaling divides
