"""Deletion and insertion: does an attribution name the pixels that the score depends on.

B images, S steps; shares of the H · W pixels, of which all channels change together.
"""

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.attribution.masking import Fill, replacement
from visualization.attribution.methods import as_map
from visualization.core.arrays import to_numpy
from visualization.core.earlier_names import renamed_arguments
from visualization.core.errors import argument_error, check_count
from visualization.core.inputs import Images, Target, as_images, as_tensor, inspection_mode
from visualization.core.records import brief_repr
from visualization.core.targets import (
    TargetScore,
    batch_slices,
    resolve_target,
    unravel_index,
)
from visualization.core.tracing import NamedLayer

RANDOM = "random order"


@attrs.frozen(eq=False, field_transformer=brief_repr)
class Faithfulness:
    """Deletion and insertion curves: scores while the pixels rated highest change first.

    Attributes:
        shares: of the pixels that have changed, from 0 to 1 (S + 1,).
        deletion: by method, the scores of images with pixels deleted (B, S + 1).
        insertion: by method, the scores of a blank with pixels of the image inserted (B, S + 1).
        quantity: what is scored: `probability` or `score`.
        fills: what deleted pixels show, and those not yet inserted, in words.
    """

    shares: NDArray[np.float64]
    deletion: Mapping[str, NDArray[np.float64]]
    insertion: Mapping[str, NDArray[np.float64]]
    quantity: str
    fills: tuple[str, str]

    def deletion_area(self) -> dict[str, NDArray[np.float64]]:
        """Return by method the area under each image's deletion curve (B,): low is faithful."""
        return {name: self._area(curves) for name, curves in self.deletion.items()}

    def insertion_area(self) -> dict[str, NDArray[np.float64]]:
        """Return by method the area under each image's insertion curve (B,): high is faithful."""
        return {name: self._area(curves) for name, curves in self.insertion.items()}

    def _area(self, curves: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.trapezoid(curves, self.shares, axis=1))


@renamed_arguments(layer="target_layer")
def faithfulness(
    model: nn.Module,
    images: Images,
    maps: Mapping[str, Tensor | NDArray[Any]],
    target: Target = None,
    *,
    target_layer: NamedLayer | None = None,
    deletion_fill: Fill = 0.0,
    insertion_fill: Fill = "blur",
    num_steps: int = 28,
    num_random: int = 10,
    probability: bool | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> Faithfulness:
    """Deletion and insertion curves of attributions (Petsiuk et al. 2018).

    Petsiuk et al. 1806.07421, section 4.1. Beside the methods there is the mean over random orders,
    which a method has to beat.

    Args:
        model: any module; it is left as it was.
        images: (B, C, H, W) or (C, H, W).
        maps: attributions of these images by method, (B, H, W), or (B, C, H, W), which are summed
            over channels; large is important. Pixels of the same number come in random order.
        target: what is scored, as `select_target` takes it; None: each image's own largest class.
        target_layer: dotted name of the layer whose unit is meant; None: the model's output.
        deletion_fill: what deleted pixels show, as `replacement` takes it.
        insertion_fill: what is shown before a pixel is inserted, likewise.
        num_steps: S, equal steps to all pixels.
        num_random: random orders of each image.
        probability: score the softmax; None: of the model's output, unless a function reads it.
        seed: of random orders.
        batch_size: images that run at once; None: at most 256 (on a CPU 64, or 2¹⁶ numbers), of 2²²
            numbers together.

    Raises:
        ValueError: maps that do not fit the images; a setting out of range; or as `select_target`.
    """
    check_count(num_steps, "num_steps")
    check_count(num_random, "num_random")
    rng = np.random.default_rng(seed)
    with inspection_mode(model), torch.no_grad():
        images = as_images(images, model)
        orders = {name: [_ranks(name, values, images, rng)] for name, values in maps.items()}
        size = (len(images), images.shape[2] * images.shape[3])
        shuffled = np.broadcast_to(np.arange(size[1]), (num_random, *size))
        orders[RANDOM] = [torch.as_tensor(ranks) for ranks in rng.permuted(shuffled, axis=-1)]
        score = resolve_target(model, images, target, target_layer, batch_size)
        usual = target_layer is None and not callable(target)
        score = attrs.evolve(score, probability=usual if probability is None else probability)
        counts = torch.linspace(0, size[1], num_steps + 1, dtype=torch.float64).round().long()
        blank = replacement(images, deletion_fill, model, "deletion_fill")
        start = replacement(images, insertion_fill, model, "insertion_fill")
        ways = (images, blank), (start, images)
        both = [_curves_of_all(score, *way, orders, counts) for way in ways]
    fills = (_words(deletion_fill), _words(insertion_fill))
    quantity = "probability" if score.probability else "score"
    return Faithfulness(counts.numpy() / size[1], both[0], both[1], quantity, fills)


def _ranks(
    name: str, values: Tensor | NDArray[Any], images: Tensor, rng: np.random.Generator
) -> Tensor:
    """Return each pixel's place in the order of a map (B, H · W), 0 for the largest number."""
    array = to_numpy(as_map(as_tensor(values, "maps")).double())
    expected = (len(images), *images.shape[2:])
    if array.shape != expected:
        raise argument_error("maps", f"{name!r} has shape {array.shape}", expected)
    if not np.isfinite(array).all():
        raise argument_error("maps", f"{name!r} has NaN or inf", "finite numbers")
    flat = array.reshape(len(array), -1)
    shuffled = rng.permutation(flat.shape[1])  # a stable sort leaves ties in this order
    order = shuffled[np.argsort(-flat[:, shuffled], axis=1, kind="stable")]
    return torch.as_tensor(np.argsort(order, axis=1))


def _curves_of_all(
    target_score: TargetScore, before: Tensor, after: Tensor, orders: Mapping[str, list[Tensor]],
    counts: Tensor,
) -> dict[str, NDArray[np.float64]]:  # fmt: skip
    """Return the scores (B, S + 1) by name of orders, which share the first step and the last."""
    ends = [
        to_numpy(target_score.on_images(images).double())[:, None] for images in (before, after)
    ]
    return {
        name: np.hstack(
            [ends[0], _curves(target_score, before, after, ranks, counts[1:-1]), ends[1]]
        )
        for name, ranks in orders.items()
    }


def _curves(
    target_score: TargetScore, before: Tensor, after: Tensor, orders: list[Tensor], counts: Tensor
) -> NDArray[np.float64]:
    """Return the scores (B, S) while pixels become those of `after`: a mean over orders."""
    ranks = torch.stack(orders).to(before.device)
    steps = counts.to(before.device)
    shape = (len(ranks), len(before), len(steps))
    parts = [before.new_zeros(0)]
    for span in batch_slices(ranks.shape[0] * len(before) * len(steps), target_score.batch_size):
        rows = torch.arange(span.start, span.stop, device=before.device)
        order, number, step = unravel_index(rows, shape)
        changed = (ranks[order, number] < steps[step, None]).view(-1, 1, *before.shape[2:])
        parts.append(target_score(torch.where(changed, after[number], before[number]), number))
    return to_numpy(torch.cat(parts).view(shape).double().mean(dim=0))


def _words(fill: Fill) -> str:
    """Return what hidden pixels show, as a figure's title says it."""
    if isinstance(fill, str):
        return {"mean": "the image's mean", "blur": "the blurred image"}[fill]
    return f"{fill:g}" if isinstance(fill, (int, float)) else "another image"
