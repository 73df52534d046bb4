"""Robustness: minimal perturbations, and accuracy under attack by perturbation size.

N images (C, H, W), E sizes, K classes. What attacks find is an upper bound: that one finds nothing
does not show that there is nothing.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, final

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.adversarial.norms import NormName
from visualization.adversarial.problem import (
    SLACK,
    AdversarialImages,
    AttackBatch,
    AttackProblem,
    BestAdversarial,
    Bound,
    Classes,
    PgdSettings,
    ascend,
    check_epsilon,
    prepare,
)
from visualization.core.errors import argument_error, check_count
from visualization.core.inputs import Images, OutputSelector, as_record, inspection_mode
from visualization.core.records import brief_repr

_HALVINGS = 14  # of the way from the image to what was found
_RIVALS = 9  # classes, of those with the largest logits, that may be the nearest
_CLOSE = 1e-3  # of a radius: no search goes on between bounds so near each other


@final
@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class MinimalPerturbation(AdversarialImages):
    """Minimal adversarial perturbation found for each of N images.

    They are changed as little as was found necessary, and as they were where nothing was found.

    Attributes:
        radius: size of the change (N,), an upper bound of the smallest one: 0 for an image whose
            answer was already so, inf where none was found.
        largest: the largest that was tried (N,).
    """

    radius: Tensor
    largest: Tensor

    @property
    def median(self) -> float:
        """The median radius of the attackable images; NaN if there is none."""
        radii = self.radius[self.attackable].double()
        return float(np.median(radii.numpy())) if len(radii) else np.nan


def minimal_perturbation(
    model: nn.Module,
    images: Images,
    labels: Classes = None,
    *,
    norm: NormName = "l2",
    target: Classes = None,
    largest: float | None = None,
    rounds: int = 12,
    steps: int = 20,
    restarts: int = 1,
    seed: int = 0,
    low: Bound = 0.0,
    high: Bound = 1.0,
    batch_size: int = 256,
    output: OutputSelector | None = None,
    classes: Sequence[str] = (),
) -> MinimalPerturbation:
    """Minimal adversarial perturbation of each image, by bisecting its size.

    Each round runs `pgd` on all images at once, each within a radius of its own, and where that
    fails once more towards the one class that would be nearest if the model were linear. The first
    radius is the distance of that class; then twice that, and so on, until something is found; then
    half-way between what was found and what failed. What is found is drawn back towards the image
    as far as the answer stays changed. The radius is an upper bound. For a linear model it is the
    distance |margin| / ‖w‖₂, in L∞ |margin| / ‖w‖₁, of the nearest class, w being the difference of
    the two rows, as long as no pixel comes to its bound.

    Args:
        model: outputs logits (N, K).
        images: (N, C, H, W), or one (C, H, W), with pixels from `low` to `high`.
        labels: the right classes (N,); None: the model's own answers.
        norm: `linf` or `l2`.
        target: a class, or one for each image, that is to be answered.
        largest: size that is tried at most; None: that of the way to the farthest corner of the
            box.
        rounds: of doubling and bisection.
        steps: of PGD in each round.
        restarts: runs of it.
        seed: of the random starts.
        low: the least value that a pixel may have, or one for each channel.
        high: the largest, likewise.
        batch_size: images at a time.
        output: as `fgsm`.
        classes: names of the classes, for the figure.

    Raises:
        ValueError: names the argument that does not fit.
    """
    settings = PgdSettings(steps, None, restarts, seed, until_found=True)
    check_count(rounds, "rounds")
    max_radius = np.inf if largest is None else check_epsilon(largest, "largest")
    with inspection_mode(model):
        problem = prepare(model, images, labels, target, norm, (low, high), batch_size, output)
        every, rngs = problem.batches(), settings.generators()
        found = joined(search(problem, part, max_radius, rounds, settings, rngs) for part in every)
        return MinimalPerturbation(
            radius=as_record(found.radius), largest=as_record(found.tried),
            **problem.outcome(found.nearest, classes),
        )  # fmt: skip


class SearchResult(NamedTuple):
    """Result of a search for minimal perturbations of B images."""

    nearest: Tensor  # the nearest images that succeed (B, C, H, W); else as they were
    radius: Tensor  # the size of the change (B,); inf: none succeeded
    tried: Tensor  # the largest radius that was tried (B,)
    closest: Tensor  # of all that was tried the largest margin (B, C, H, W)
    steps: Tensor  # gradients that were taken (B,)


def joined(parts: Iterable[SearchResult]) -> SearchResult:
    """Return the results of several batches as one."""
    return SearchResult(*(torch.cat(each) for each in zip(*parts, strict=True)))


def search(
    problem: AttackProblem,
    batch: AttackBatch,
    max_radius: float,
    rounds: int,
    settings: PgdSettings,
    rngs: Sequence[np.random.Generator],
) -> SearchResult:
    """Return the result for a batch, by doubling and bisecting the size of perturbations."""
    down, up = problem.box_bounds(batch.images)
    limit = problem.norm.size(torch.maximum(-down, up)).clamp(max=max_radius)
    margins = problem.margins(batch)
    first, competitors = _nearest_class(problem, batch)
    somewhere = torch.where(limit.isfinite(), limit / 2, 1.0)
    radius = torch.where(first.isfinite(), first, somewhere).minimum(limit)
    nearest = batch.images.clone()
    no_steps = torch.zeros_like(margins, dtype=torch.long)
    closest = BestAdversarial(nearest.clone(), margins, no_steps.bool(), no_steps)
    upper = torch.where(margins[:, None] > 0, 0.0, torch.inf).to(radius)
    lower, radii_tried = torch.zeros_like(radius), torch.zeros_like(radius)
    for _ in range(rounds):
        gap = torch.where(upper.isfinite(), upper * (1 - _CLOSE) - lower, limit - lower)
        indices = (gap[:, 0] > 0).nonzero()[:, 0]
        if not len(indices):
            break
        current = batch.take(indices)
        best = ascend(problem, current, radius[indices], settings, rngs)
        missed = (best.margins <= 0).nonzero()[:, 0]
        if competitors is not None and len(missed):
            aimed = current.take(missed)._replace(competitors=competitors[indices[missed]])
            more = ascend(problem, aimed, radius[indices[missed]], settings, rngs)
            best.keep(missed, more.images, more.margins)
            best.steps[missed] += more.steps
        closest.keep(indices, best.images, best.margins)
        closest.steps[indices] += best.steps
        shrunk, is_adversarial = shrink_changes(problem, current, best.images)
        size = problem.norm.size((shrunk - current.images).flatten(1))
        radii_tried[indices] = torch.maximum(radii_tried[indices], radius[indices])
        lower[indices] = torch.where(is_adversarial[:, None], lower[indices], radius[indices])
        better = is_adversarial & (size < upper[indices])[:, 0]
        upper[indices[better]], nearest[indices[better]] = size[better], shrunk[better]
        radius = torch.where(upper.isfinite(), (lower + upper) / 2, (2 * radius).minimum(limit))
    return SearchResult(nearest, upper[:, 0], radii_tried[:, 0], closest.images, closest.steps)


def _nearest_class(problem: AttackProblem, batch: AttackBatch) -> tuple[Tensor, Tensor | None]:
    """Return how far the target class would be if the model were linear (B, 1), and which it is.

    Moosavi-Dezfooli et al. 2016 (1511.04599), of the classes with the largest logits. Distances are
    inf where gradients are 0. With a target there is no choice of a class.
    """
    if problem.target is not None:
        margins, gradient = problem.margins_and_gradient(batch)
        return margins.abs()[:, None] / problem.norm.dual(gradient), None
    with torch.no_grad():
        answers = problem.logits(batch.images)
    others = answers.scatter(1, batch.reference_classes[:, None], -torch.inf)
    order = others.argsort(dim=1, descending=True)[:, : min(_RIVALS, answers.shape[1] - 1)]
    own = answers.gather(1, batch.reference_classes[:, None])
    distances_by_class = []
    for competitors in order.T:
        _, gradient = problem.margins_and_gradient(batch._replace(competitors=competitors))
        gap = (answers.gather(1, competitors[:, None]) - own).abs()
        distances_by_class.append(gap / problem.norm.dual(gradient))
    distances = torch.cat(distances_by_class, dim=1).nan_to_num(nan=torch.inf)
    nearest = distances.argmin(dim=1, keepdim=True)
    return distances.gather(1, nearest), order.gather(1, nearest)[:, 0]


def shrink_changes(
    problem: AttackProblem, batch: AttackBatch, adversarial: Tensor
) -> tuple[Tensor, Tensor]:
    """Shrink adversarial images towards the originals as far as they stay so; and which are."""

    def shrink(share: Tensor) -> Tensor:
        return problem.perturb(batch.images, (share * (adversarial - batch.images)).flatten(1))

    def is_wrong(share: Tensor) -> Tensor:
        return problem.margins(batch._replace(images=shrink(share)), SLACK) > 0

    near, far = (adversarial.new_full((len(adversarial), 1, 1, 1), share) for share in (0.0, 1.0))
    works = is_wrong(far)
    for _ in range(_HALVINGS):
        middle = (near + far) / 2
        is_enough = is_wrong(middle)[:, None, None, None]
        near, far = torch.where(is_enough, near, middle), torch.where(is_enough, middle, far)
    return shrink(far), works


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class RobustnessCurve:
    """Robust accuracy on N images as the size of a perturbation grows.

    Attributes:
        norm: `linf` or `l2`.
        epsilons: E sizes, rising.
        accuracy: share of the images that are right and stay so under attack, in [0, 1] (E,). It
            never rises: what deceives within a size does within a larger one.
        noise: share that is right under noise of the same size (E,).
        clean: share that is right as the images are.
        num_images: N.
        num_classes: K.
    """

    norm: NormName
    epsilons: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    noise: NDArray[np.float64]
    clean: float
    num_images: int
    num_classes: int


def robustness_curve(
    model: nn.Module,
    images: Images,
    labels: Classes,
    epsilons: Sequence[float],
    norm: NormName = "linf",
    *,
    steps: int = 40,
    restarts: int = 1,
    seed: int = 0,
    low: Bound = 0.0,
    high: Bound = 1.0,
    batch_size: int = 256,
    output: OutputSelector | None = None,
) -> RobustnessCurve:
    """Robust accuracy: accuracy under `pgd` by perturbation size, and under noise of that size.

    Noise is, in L∞, ± epsilon at each pixel; in L2 of length epsilon in a direction drawn
    uniformly; then brought into the box. The accuracies are upper bounds of the worst case.

    Args:
        model: outputs logits (N, K).
        images: (N, C, H, W), with pixels from `low` to `high`.
        labels: the right classes (N,); None: the model's own answers.
        epsilons: sizes, in units of a pixel, 0 or more, in any order.
        norm: `linf` or `l2`.
        steps: of PGD.
        restarts: runs of it.
        seed: of random starts and noise.
        low: the least value that a pixel may have, or one for each channel.
        high: the largest, likewise.
        batch_size: images at a time.
        output: as `fgsm`.

    Raises:
        ValueError: names the argument that does not fit.
    """
    settings = PgdSettings(steps, None, restarts, seed, until_found=True)
    sizes = sorted({check_epsilon(epsilon, "epsilons") for epsilon in epsilons})
    if not sizes:
        raise argument_error("epsilons", "none are given", "one size or more")
    with inspection_mode(model):
        problem = prepare(model, images, labels, None, norm, (low, high), batch_size, output)
        right = problem.prediction == problem.labels
        clean, accuracy, noise = _share(right), [], []
        for size in sizes:
            noise.append(_accuracy_in_noise(problem, size, seed))
            right[right.clone()] = _still_correct(problem, right, size, settings)
            accuracy.append(_share(right))
        with torch.no_grad():
            num_classes = problem.logits(problem.images[:1]).shape[1]
        return RobustnessCurve(
            norm=norm, epsilons=np.array(sizes), accuracy=np.array(accuracy), noise=np.array(noise),
            clean=clean, num_images=len(right), num_classes=num_classes,
        )  # fmt: skip


def _still_correct(
    problem: AttackProblem, which: Tensor, size: float, settings: PgdSettings
) -> Tensor:
    """Return whether each image that a mask chooses is still answered with its label."""
    rngs = settings.generators()
    best = [
        ascend(problem, batch, batch.radii(size), settings, rngs)
        for batch in problem.batches(which)
    ]
    return torch.cat([each.margins <= 0 for each in best]) if best else which[which]


def _accuracy_in_noise(problem: AttackProblem, size: float, seed: int) -> float:
    rng = np.random.default_rng([seed, 1])
    right = []
    for batch in problem.batches():
        flat = batch.images.flatten(1)
        noise = problem.norm.outermost(flat, rng)
        delta = problem.norm.project(
            size * noise, batch.radii(size), *problem.box_bounds(batch.images)
        )
        noisy = batch._replace(images=problem.perturb(batch.images, delta))
        right.append(problem.margins(noisy) <= 0)
    return _share(torch.cat(right))


def _share(which: Tensor) -> float:
    return int(which.sum()) / len(which)
