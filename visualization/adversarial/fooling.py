"""Fooling images: images of nothing that a network is sure to recognise.

Nguyen, Yosinski and Clune 2015, Deep neural networks are easily fooled, 1412.1897.

N images (C, H, W), K classes.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, final

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from visualization.adversarial.norms import NormName
from visualization.adversarial.problem import (
    AdversarialImages,
    AttackBatch,
    AttackProblem,
    BestAdversarial,
    Bound,
    Classes,
    PgdSettings,
    ascend_from,
    prepare,
)
from visualization.adversarial.robustness import SearchResult, joined, search, shrink_changes
from visualization.core.errors import argument_error, check_count, check_share, value_error
from visualization.core.inputs import (
    Images,
    OutputSelector,
    as_images,
    as_record,
    as_tensor,
    inspection_mode,
)
from visualization.core.records import brief_repr

Start = Literal["noise", "blank"]
_STARTS = ("noise", "blank")


@final
@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class FoolingImages(AdversarialImages):
    """Fooling images: N images that were changed until a model was sure of a class.

    `images` are those at the start, `adversarial` the fooling ones; of what was not reached, those
    with the highest probability of all that were tried.

    Attributes:
        start: `noise`, `blank`, or `images`.
        least_confidence: the probability that was asked for.
        target_confidence: probability of the target, by a softmax (N,).
        reached: whether the target is answered with the least confidence (N,).
        distance: from the start, in the norm (N,); 0 where that was so already.
        steps: gradients that the search took (N,).
    """

    start: str
    least_confidence: float
    target_confidence: Tensor
    reached: Tensor
    distance: Tensor
    steps: Tensor


def fooling_images(
    model: nn.Module, target: Classes, confidence: float = 0.99, start: Start | Images = "noise",
    input_shape: tuple[int, int, int] | None = None, *,
    norm: NormName = "l2", rounds: int = 8, steps: int = 20, restarts: int = 1, seed: int = 0,
    low: Bound = 0.0, high: Bound = 1.0, batch_size: int = 256,
    output: OutputSelector | None = None, classes: Sequence[str] = (),
) -> FoolingImages:  # fmt: skip
    """Fooling images: noise, a blank page or an image of something else, called a class for sure.

    Each start is changed as little as is found necessary before the model answers the target with a
    probability of at least `confidence`, by the search of `minimal_perturbation`, and where that
    fails by going on from the surest image in smaller and smaller steps: so what is not to be
    recognised at the start is hardly to be recognised at the end. Nguyen et al. evolve images or
    climb the probability without staying near the start. For a linear model of two classes the
    distance is (log(p / (1 − p)) − d) / ‖w‖₂, in L∞ over ‖w‖₁, where d is the difference of the
    logits at the start and w that of the two rows, as long as no pixel comes to its bound.

    Args:
        model: outputs logits (N, K), or probabilities (N, K), which are noticed by their sum.
        target: a class, or one for each image, that is to be answered.
        confidence: the least probability of the target, by a softmax, above 0 and below 1.
        start: `noise`: each pixel uniformly between its bounds; `blank`: each half-way between
            them; or images (N, C, H, W), or one (C, H, W).
        input_shape: (C, H, W), of `noise` and `blank`.
        norm: `linf` or `l2`.
        rounds: of doubling and bisection of the distance, and, where they fail, of smaller steps.
        steps: of projected gradient ascent in each round.
        restarts: runs of it.
        seed: of the noise, and of random starts.
        low: the least value that a pixel may have, or one for each channel.
        high: the largest, likewise.
        batch_size: images at a time.
        output: picks the logits from what the model outputs; None: it is one tensor.
        classes: names of the classes, for the figure.

    Raises:
        ValueError: names the argument that does not fit.
    """
    check_share(confidence, "confidence")
    check_count(rounds, "rounds")
    settings = PgdSettings(steps, None, restarts, seed, until_found=True)
    images, targets = _starts_and_targets(model, target, start, input_shape, (low, high), seed)
    with inspection_mode(model):
        problem = prepare(model, images, None, targets, norm, (low, high), batch_size, output)
        least = math.log(confidence) - math.log1p(-confidence)
        problem = attrs.evolve(problem, least_log_odds=least)
        found = _search(problem, rounds, settings)
        return FoolingImages(
            start=start if isinstance(start, str) else "images", least_confidence=confidence,
            **_outcome(problem, found), **problem.outcome(found.closest, classes),
        )  # fmt: skip


def _search(problem: AttackProblem, rounds: int, settings: PgdSettings) -> SearchResult:
    """Return the result for all images, `closest` being the nearest where one succeeds."""
    rngs = settings.generators()

    def result(batch: AttackBatch) -> SearchResult:
        found = search(problem, batch, np.inf, rounds, settings, rngs)
        rng = np.random.default_rng([settings.seed, settings.restarts])
        for halvings in range(1, rounds + 1):
            _climb_on(problem, batch, found, settings, 0.5**halvings, rng)
        return found

    found = joined(map(result, problem.batches()))
    reached = found.radius.isfinite()[:, None, None, None]
    return found._replace(closest=torch.where(reached, found.nearest, found.closest))


def _climb_on(
    problem: AttackProblem, batch: AttackBatch, found: SearchResult, settings: PgdSettings,
    share: float, rng: np.random.Generator,
) -> None:  # fmt: skip
    """Ascend from the surest images on, in smaller steps, where none was sure enough.

    As in Auto-PGD (Croce and Hein 2020, 2003.01690), the size of steps is halved round by round.
    Where nothing was surer than the start, which may lie on a crease, noise is added first.
    """
    missed = (~found.radius.isfinite()).nonzero()[:, 0]
    if not len(missed):
        return
    current, surest = batch.take(missed), found.closest[missed]
    margins = problem.margins(current._replace(images=surest), settings.slack)
    no_steps = torch.zeros_like(missed)
    best = BestAdversarial(surest, margins, no_steps.bool(), no_steps)
    radius = found.tried[missed][:, None]
    start = (surest - current.images).flatten(1)
    noise = share * radius * problem.norm.within(start, rng)
    start = torch.where((start == 0).all(dim=1, keepdim=True), noise, start)
    ascend_from(problem, current, radius, settings, start, best, share)
    shrunk, works = shrink_changes(problem, current, best.images)
    found.closest[missed] = best.images
    found.steps[missed] += best.steps
    found.nearest[missed[works]] = shrunk[works]
    sizes = problem.norm.size((shrunk - current.images).flatten(1))[:, 0]
    found.radius[missed[works]] = sizes[works]


def _outcome(problem: AttackProblem, found: SearchResult) -> dict[str, Any]:
    """Return the fields of the record that other attacks do not have."""
    change = (found.closest - problem.images).flatten(1)
    fields = {
        "target_confidence": _probabilities(problem, found.closest),
        "reached": found.radius.isfinite(), "distance": problem.norm.size(change)[:, 0],
        "steps": found.steps,
    }  # fmt: skip
    return {name: as_record(values) for name, values in fields.items()}


def _probabilities(problem: AttackProblem, images: Tensor) -> Tensor:
    """Return the probability of each image's target (N,), in double precision."""
    goals = problem.everything.reference_classes
    with torch.no_grad():
        parts = [problem.logits(part) for part in torch.split(images, problem.batch_size)]
    return torch.cat(parts).double().softmax(dim=1).gather(1, goals[:, None])[:, 0]


def _starts_and_targets(
    model: nn.Module, target: Classes, start: Start | Images,
    input_shape: tuple[int, int, int] | None, box: tuple[Bound, Bound], seed: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return as many images (N, C, H, W) as targets (N,)."""
    if target is None:
        raise value_error("target", None, "a class, or one for each image")
    targets = as_tensor(target, "target").reshape(-1)
    if not len(targets):
        raise argument_error("target", "there are none", "a class, or one for each image")
    if isinstance(start, str):
        shape = _checked_shape(start, input_shape)
        images = _made_start(start, (len(targets), *shape), box, seed)
    else:
        images = as_images(start, model, "start")
    num = max(len(images), len(targets))
    if {len(images), len(targets)} - {1, num}:
        problem = f"{len(targets)} classes do not go with {len(images)} images"
        raise argument_error("target", problem, "one class, or one for each image")
    return images.expand(num, -1, -1, -1), targets.expand(num)


def _checked_shape(start: str, shape: tuple[int, int, int] | None) -> tuple[int, int, int]:
    if start not in _STARTS:
        near = (start, _STARTS)
        raise argument_error("start", f"there is no {start!r}", "noise, blank, or images", near)
    if shape is None or len(shape) != 3 or min(shape) < 1:
        raise value_error("input_shape", shape, f"(C, H, W), each from 1, for {start}")
    return shape


def _made_start(
    start: str, shape: tuple[int, int, int, int], box: tuple[Bound, Bound], seed: int
) -> Tensor:
    """Return images (N, C, H, W) of noise, or of pixels half-way between their bounds."""
    low, high = (
        as_tensor(bound, name).double().reshape(-1, 1, 1)
        for bound, name in zip(box, ("low", "high"), strict=True)
    )
    for bound, name in ((low, "low"), (high, "high")):
        if not bound.isfinite().all() or len(bound) not in (1, shape[1]):
            accepted = f"finite for a start of {start}: a number, or one for each channel"
            raise value_error(name, bound.flatten().tolist(), accepted)
    share = torch.full(shape, 0.5, dtype=torch.float64)
    if start == "noise":
        generator = torch.Generator().manual_seed(seed)
        share = torch.rand(shape, generator=generator, dtype=torch.float64)
    return low + (high - low) * share
