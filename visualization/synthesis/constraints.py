"""Constraints and image priors: objectives that are 0 at their best.

A demand is 0 where it is met, and the further below 0 the further it is from that; so a sum of
demands is 0 where all of them are. A penalty is 0 for the image that has nothing of what it
punishes. Both are objectives: they can be added to others, with weights.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from visualization.core.errors import argument_error, value_error
from visualization.core.inputs import Images, as_logits, as_tensor, at_least_float32
from visualization.core.tracing import NamedLayer
from visualization.synthesis.objective import ForwardCache, Objective, layer_word, union

_SHARES_NAMED = 3
_SMOOTHING = 1e-6  # of the total variation's root, which has no slope at 0 else


def l2(around: float | Images = 0.0) -> Objective:
    """L2 prior: minus half the squared distance, −½‖x − around‖².

    Args:
        around: a grey; or an image (C, H, W), or one for each image (N, C, H, W), to stay near to.
    """
    centres = _centres(around)

    def measure(cache: ForwardCache) -> Tensor:
        distance = _distance(cache, centres)
        return -0.5 * distance.flatten(1).pow(2).sum(dim=1)

    return Objective((), ("l2",) * len(centres), prior=measure, most=0.0)


def l1(around: float | Images = 0.0) -> Objective:
    """L1 prior: minus the sum of absolute differences, −‖x − around‖₁.

    Its slope at `around` itself is that of brighter pixels, so that dark ones stay exactly there if
    `around` is the lower limit of a box; else they hover about it, within a step of the ascent.

    Args:
        around: as in `l2`.
    """
    centres = _centres(around)

    def measure(cache: ForwardCache) -> Tensor:
        distance = _distance(cache, centres)
        return -torch.where(distance < 0, -distance, distance).flatten(1).sum(dim=1)

    return Objective((), ("l1",) * len(centres), prior=measure, most=0.0)


def _centres(around: float | Images) -> Tensor:
    """Return images (N, C, H, W) to stay near to, or a grey (1,)."""
    image = as_tensor(around, "around").double()
    return image if image.ndim == 4 else image[None]


def _distance(cache: ForwardCache, centres: Tensor) -> Tensor:
    return cache.images - cache.own(centres, cache.images).reshape(-1, *_image(centres))


def _image(centres: Tensor) -> tuple[int, ...]:
    """Return the shape of an image to stay near to; a grey is one of a single pixel."""
    return tuple(centres.shape[1:]) if centres.ndim == 4 else (1, 1, 1)


def total_variation(power: float = 1.0) -> Objective:
    """Total variation prior: −Σ (dx² + dy²)^(power/2) over pixels, to the next ones.

    Mahendran and Vedaldi 2015, 1412.0035, their β is `power`: 1 lets edges be sharp, 2 softens all.
    """

    def measure(cache: ForwardCache) -> Tensor:
        down = F.pad(cache.images.diff(dim=2), (0, 0, 0, 1))  # nothing follows the last row
        right = F.pad(cache.images.diff(dim=3), (0, 1))
        steps: Tensor = torch.pow(down**2 + right**2 + _SMOOTHING, power / 2)
        flat = math.pow(_SMOOTHING, power / 2)  # what no step at all gives
        return (flat - steps).flatten(1).sum(dim=1)

    return Objective((), ("total variation",), prior=measure, most=0.0)


def match_activation(layer: NamedLayer | None, activation: Images) -> Objective:
    """Feature inversion constraint: −‖a − target‖² / ‖target‖², −1 for an activation of zero.

    The loss of inversion (Mahendran and Vedaldi 2015, 1412.0035, eq. 2).

    Args:
        layer: dotted name; None: the model's own output.
        activation: target of each image (N, …); 1: of any number of images.

    Raises:
        ValueError: one that is zero all over, or not of the layer's shape.
    """
    target = at_least_float32(as_tensor(activation, "activation"))
    sizes = target.flatten(1).pow(2).sum(dim=1)
    if not (sizes > 0).all():
        problem = f"activation {int((sizes > 0).logical_not().nonzero()[0])} is zero all over"
        raise argument_error("match_activation", problem, "some of it is not")
    names = _numbered_names(f"{layer_word(layer)} as given", len(target))

    def measure(cache: ForwardCache) -> Tensor:
        output = cache[layer]
        if output.shape[1:] != target.shape[1:]:
            problem = f"an activation of shape {tuple(target.shape[1:])} does not go with the layer"
            raise argument_error("match_activation", problem, f"{tuple(output.shape[1:])}")
        distance = (output - cache.own(target, output)).pow(2).flatten(1).sum(dim=1)
        return -distance / cache.own(sizes, output)

    return Objective(union((layer,)), names, measure, most=0.0)


def class_distribution(distribution: Images, layer: NamedLayer | None = None) -> Objective:
    """Class distribution constraint: −KL(target ‖ softmax of the output), in nats.

    Args:
        distribution: shares of the classes that sum to 1, (K,), or for each image (N, K): half a 3
            and half an 8 is `[0, 0, 0, 0.5, 0, 0, 0, 0, 0.5, 0]`.
        layer: whose outputs are the logits, or a softmax, which is noticed; None: the model's own.

    Raises:
        ValueError: shares below 0, or that do not sum to 1; not as many as there are classes.
    """
    shares = as_tensor(distribution, "distribution").double()
    target = shares[None] if shares.ndim == 1 else shares
    if target.ndim != 2 or (target < 0).any() or ((target.sum(dim=1) - 1).abs() > 1e-4).any():
        raise value_error("distribution", repr(distribution), "(K,) or (N, K), each summing to 1")
    entropy = torch.special.entr(target).sum(dim=1)

    def measure(cache: ForwardCache) -> Tensor:
        output = cache[layer]
        if output.shape[1:] != target.shape[1:]:
            problem = f"{target.shape[1]} shares do not go with an output of {tuple(output.shape)}"
            raise argument_error("distribution", problem, "one for each class")
        logs = as_logits(output).log_softmax(dim=1)
        return (cache.own(target, output) * logs).sum(dim=1) + cache.own(entropy, output)

    return Objective(union((layer,)), tuple(map(_shares, target.tolist())), measure, most=0.0)


def at_least(objective: Objective, value: float) -> Objective:
    """Lower bound constraint: min(0, objective − value)."""
    return Objective(
        objective.layers, tuple(f"{name} ≥ {value:g}" for name in objective.names),
        lambda cache: (objective(cache) - value).clamp(max=0), coupled=objective.coupled, most=0.0,
    )  # fmt: skip


def at_most(objective: Objective, value: float) -> Objective:
    """Upper bound constraint: min(0, value − objective)."""
    return Objective(
        objective.layers, tuple(f"{name} ≤ {value:g}" for name in objective.names),
        lambda cache: (value - objective(cache)).clamp(max=0), coupled=objective.coupled, most=0.0,
    )  # fmt: skip


def equals(objective: Objective, value: float) -> Objective:
    """Equality constraint: minus half the squared difference."""
    return Objective(
        objective.layers, tuple(f"{name} = {value:g}" for name in objective.names),
        lambda cache: -0.5 * (objective(cache) - value) ** 2, coupled=objective.coupled, most=0.0,
    )  # fmt: skip


def _shares(distribution: list[float]) -> str:
    """Return what an answer is in words, such as `50% 3, 50% 8`, the largest share first."""
    order = sorted(range(len(distribution)), key=lambda number: -distribution[number])
    parts = [f"{distribution[number]:.0%} {number}" for number in order[:_SHARES_NAMED]]
    return ", ".join(part for part in parts if not part.startswith("0%"))


def _numbered_names(name: str, num: int) -> tuple[str, ...]:
    return (name,) if num == 1 else tuple(f"{name} {number}" for number in range(num))
