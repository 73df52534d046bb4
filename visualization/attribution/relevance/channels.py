"""Concept relevance propagation (CRP): which channels of a layer carry the score, and from where.

B images, C channels of h × w at the layer, K of them with a map, H × W pixels.
"""

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.attribution.cams import last_feature_map
from visualization.attribution.methods import target_words
from visualization.attribution.relevance.composites import LrpComposite, as_composite
from visualization.attribution.relevance.lrp import Propagated, relevance
from visualization.core.arrays import to_numpy
from visualization.core.errors import argument_error, check_count, not_called_error
from visualization.core.inputs import (
    Images,
    Target,
    as_images,
    check_tensor,
    inspection_mode,
    numbered_call,
    optional_layer_name,
    select_channels,
)
from visualization.core.layout import intercept_maps
from visualization.core.records import brief_repr
from visualization.core.targets import TargetScore, batch_slices, resolve_target
from visualization.core.tracing import NamedLayer


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class ChannelRelevance:
    """Relevance of a layer's channels, and where in the image that of single ones comes from.

    Attributes:
        layer: dotted name.
        images: (B, C, H, W).
        targets: what is explained of each image, in words (B,).
        scores: of the images (B,).
        relevance: of each channel, summed over its places, in units of the score (B, C).
        channels: those that have a map, of each image, the most relevant first (B, K).
        maps: the relevance of pixels by way of these channels alone, summed over colours
            (B, K, H, W). The maps of all channels sum to `total`.
        total: the relevance of pixels by way of the whole layer (B, H, W).
    """

    layer: str
    images: NDArray[np.float64]
    targets: tuple[str, ...]
    scores: NDArray[np.float64]
    relevance: NDArray[np.float64]
    channels: NDArray[np.int64]
    maps: NDArray[np.float64]
    total: NDArray[np.float64]


def channel_relevance(
    model: nn.Module,
    images: Images,
    target: Target = None,
    *,
    layer: NamedLayer | None = None,
    composite: str | LrpComposite = "epsilon_plus",
    channels: Sequence[int] | None = None,
    num_channels: int = 6,
    labels: Sequence[str] | None = None,
    batch_size: int | None = None,
) -> ChannelRelevance:
    """Concept relevance propagation (CRP): relevance of single channels of a layer.

    CRP (Achtibat et al. 2023, 10.1038/s42256-023-00711-8, equation 6). The relevance of a layer's
    maps, by `lrp`, says which channels carry the score; led on from one channel alone, all others
    set to 0, it says where in the image that channel's part comes from. It costs a pass and, for
    each channel with a map, the backward pass of what is before the layer.

    Args:
        model: any module that `lrp` takes; it is left as it was.
        images: (B, C, H, W) or (C, H, W).
        target: what is explained, as `select_target` takes it; None: each image's own largest
            class.
        layer: dotted name of the layer, which outputs (B, C, h, w); None: see `last_feature_map`.
            Of a layer that runs several times the first call is meant; `relu@1` is the second. What
            goes past it, as by a residual connection around it, is not in the sums.
        composite: rules by layer, as `lrp` takes them. A batch norm right after the layer is not
            folded into it.
        channels: those with maps, the same of each image; None: those with the largest relevance,
            whatever its sign.
        num_channels: K, how many have maps if `channels` is None.
        labels: of the classes, by number; None: the numbers.
        batch_size: images that run at once; None: at most 64, of 2²⁰ numbers together.

    Raises:
        NothingToShow: (a ValueError) the model has a function for which there is no rule.
        ValueError: the layer outputs no maps; no such channel; or as `lrp`.
    """
    check_count(num_channels, "num_channels")
    rules = as_composite(composite)
    with inspection_mode(model):
        images = as_images(images, model)
        name = optional_layer_name(model, layer) or last_feature_map(model, images, target)
        target_score = resolve_target(model, images, target, None, batch_size, graph=True)
        parts = [
            _relevances(target_score[span], images[span], name, rules, channels, num_channels)
            for span in batch_slices(len(images), target_score.batch_size)
        ]
    scores, shares, chosen, maps, total = (torch.cat(each) for each in zip(*parts, strict=True))
    return ChannelRelevance(
        layer=name,
        images=to_numpy(images.double()),
        targets=tuple(target_words(target_score, labels, len(images))),
        scores=to_numpy(scores.double()),
        relevance=to_numpy(shares.double()),
        channels=to_numpy(chosen),
        maps=to_numpy(maps.double()),
        total=to_numpy(total.double()),
    )


def _relevances(
    target_score: TargetScore, images: Tensor, layer: str, rules: LrpComposite,
    channels: Sequence[int] | None, num: int,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Return scores, relevances of channels, channels with maps, their maps, and the whole one."""
    outputs: list[Tensor] = []

    def take(output: Any) -> Tensor:
        maps = check_tensor(output, repr(layer))
        if maps.ndim != 4:
            problem = f"{layer!r} outputs {tuple(maps.shape)}"
            raise argument_error("layer", problem, "layers that output (B, C, h, w)")
        outputs.append(maps)
        return maps.clone()  # what follows may work in place

    call = numbered_call(target_score.model, layer)
    with intercept_maps(target_score.model, {call: take}):
        propagated = Propagated.of(target_score, images, rules)
    if not outputs:
        raise not_called_error("layer", layer)
    at_layer = relevance(propagated.scores, propagated.scores.detach(), outputs[0], repr(layer))
    shares = at_layer.sum(dim=(2, 3))
    chosen = _chosen(shares, channels, num)

    def below(part: Tensor) -> Tensor:
        return relevance(outputs[0], part, propagated.images).sum(dim=1)

    numbers = torch.arange(shares.shape[1], device=shares.device)
    masks = chosen[:, :, None] == numbers  # (B, K, C)
    maps = [below(at_layer * mask[:, :, None, None]) for mask in masks.unbind(dim=1)]
    return propagated.scores.detach(), shares, chosen, torch.stack(maps, dim=1), below(at_layer)


def _chosen(shares: Tensor, channels: Sequence[int] | None, num: int) -> Tensor:
    """Return the channels with maps (B, K), the most relevant first unless they are given."""
    if channels is not None:
        numbers = torch.tensor(select_channels(channels, shares.shape[1]), device=shares.device)
        return numbers.expand(len(shares), -1)
    return shares.abs().topk(min(num, shares.shape[1]), dim=1).indices
