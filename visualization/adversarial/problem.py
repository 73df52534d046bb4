"""The attack problem (model, images, goal) and projected gradient ascent.

N images (C, H, W) in all, B in a part of them, n numbers in each, K classes.
"""

import abc
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.adversarial.norms import Norm, NormName, find_norm
from visualization.core.errors import argument_error, check_count, value_error
from visualization.core.inputs import (
    Images,
    OutputSelector,
    as_images,
    as_logits,
    as_record,
    as_tensor,
    select_output,
)
from visualization.core.records import brief_repr

Classes = int | Sequence[int] | Tensor | NDArray[np.integer] | None
Bound = float | Sequence[float]  # of pixels; several: one for each channel
_REACH = 2.5  # of all steps together, in radii: Madry et al. 2018
_ROUNDING = 1e-4  # of a pixel, where what was normalised should end
SLACK = 1e-5  # of the largest logit: a margin that is not a rounding error


@attrs.frozen
class PgdSettings:
    """Settings of projected gradient ascent; see `pgd`."""

    steps: int
    step_size: float | None = None
    restarts: int = 1
    seed: int = 0
    until_found: bool = False  # leave an image once its answer is as wanted

    def __attrs_post_init__(self) -> None:
        """Refuse counts below 1 and step sizes that go nowhere."""
        for name in ("steps", "restarts"):
            check_count(getattr(self, name), name)
        if self.step_size is not None and not self.step_size > 0:
            raise value_error("step_size", self.step_size, "a number above 0, or None")

    @property
    def slack(self) -> float:
        """Share of the largest logit by which an image is left early: rounding finds nothing."""
        return SLACK if self.until_found else 0.0

    def generators(self) -> list[np.random.Generator]:
        """Return a generator for each run, so that batches of any size draw the same numbers."""
        return [np.random.default_rng([self.seed, run]) for run in range(self.restarts)]


class AttackBatch(NamedTuple):
    """Batch of an attack: images, with the class that each is to be moved from or towards."""

    images: Tensor  # (B, C, H, W)
    reference_classes: Tensor  # (B,)
    competitors: Tensor | None = None  # (B,): other classes that count alone; None: all others

    def take(self, which: Tensor | slice) -> "AttackBatch":
        """Return those that a mask, a list of numbers or a slice chooses."""
        rivals = None if self.competitors is None else self.competitors[which]
        return AttackBatch(self.images[which], self.reference_classes[which], rivals)

    def radii(self, radius: float) -> Tensor:
        """Return the same radius for each image (B, 1)."""
        return self.images.new_full((len(self.images), 1), radius)


class BestAdversarial(NamedTuple):
    """Best adversarial images so far, by their margin: above 0, the attack succeeded."""

    images: Tensor  # (B, C, H, W)
    margins: Tensor  # (B,)
    zero_gradient: Tensor  # (B,): whether the gradient at the image itself is exactly 0
    steps: Tensor  # (B,): gradients that were taken

    def keep(self, indices: Tensor, images: Tensor, margins: Tensor) -> None:
        """Put what is better in the place of what is there."""
        better = margins > self.margins[indices]
        self.images[indices[better]] = images[better]
        self.margins[indices[better]] = margins[better]


@attrs.frozen(kw_only=True, eq=False)
class AttackProblem:
    """Attack problem: a model, images, and what would be a success."""

    model: nn.Module
    images: Tensor  # (N, C, H, W)
    labels: Tensor  # (N,)
    target: Tensor | None  # (N,)
    prediction: Tensor  # (N,)
    confidence: Tensor  # (N,)
    norm_name: NormName
    norm: Norm
    low: Tensor  # (C or 1, 1, 1)
    high: Tensor
    batch_size: int
    output: OutputSelector | None  # picks the logits; None: the model outputs one tensor
    least_log_odds: float = -np.inf  # of a target, beside being the largest logit

    @property
    def everything(self) -> AttackBatch:
        """All images, with the labels to leave or the targets to reach."""
        return AttackBatch(self.images, self.labels if self.target is None else self.target)

    def batches(self, which: Tensor | None = None) -> Iterator[AttackBatch]:
        """Yield the images, or those that a mask chooses, in batches."""
        batch = self.everything if which is None else self.everything.take(which)
        for first in range(0, len(batch.images), self.batch_size):
            yield batch.take(slice(first, first + self.batch_size))

    def box_bounds(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return how far each pixel may go down (≤ 0) and up (B, n)."""
        down, up = self.low - images, self.high - images
        return down.clamp(max=0).flatten(1), up.clamp(min=0).flatten(1)

    def perturb(self, images: Tensor, delta: Tensor) -> Tensor:
        """Return images with perturbations (B, n) added; no rounding takes them out of the box."""
        return torch.maximum(torch.minimum(images + delta.view_as(images), self.high), self.low)

    def logits(self, images: Tensor) -> Tensor:
        """Return the model's answers (B, K)."""
        return logits(self.model, images, self.output)

    def answers(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the class that is answered to each image (B,), and its probability (B,)."""
        return predict_classes(self.model, images, self.batch_size, self.output)

    def margins(self, batch: AttackBatch, slack: float = 0.0) -> Tensor:
        """Return by how much the best wrong logit (the target's) is above the right one (B,).

        It is at most what a target's log-odds exceed the least. Of that is taken off what may be a
        rounding error, `slack` times the largest logit.
        """
        with torch.no_grad():
            return self._margins(self.logits(batch.images), batch, slack)

    def margins_and_gradient(self, batch: AttackBatch, slack: float = 0) -> tuple[Tensor, Tensor]:
        """Return the margins (B,), and the gradient of the loss that is to rise (B, n)."""
        leaf = batch.images.detach().clone().requires_grad_()
        answers = self.logits(leaf)
        if batch.competitors is None:
            rivals = answers.scatter(1, batch.reference_classes[:, None], -torch.inf).logsumexp(
                dim=1
            )
        else:
            rivals = answers.gather(1, batch.competitors[:, None])[:, 0]
        loss = self.sign * (rivals - answers.gather(1, batch.reference_classes[:, None])[:, 0])
        gradient = torch.zeros_like(leaf)
        if loss.requires_grad:  # not so where the answer does not depend on the image
            values = torch.autograd.grad(loss.sum(), leaf, allow_unused=True)[0]
            gradient = gradient if values is None else values
        return self._margins(answers.detach(), batch, slack), gradient.flatten(1).nan_to_num()

    def outcome(self, adversarial: Tensor, classes: Sequence[str]) -> dict[str, Any]:
        """Return the fields of a record of changed images."""
        prediction, confidence = self.answers(adversarial)
        tensors = {
            "images": self.images, "adversarial": adversarial, "labels": self.labels,
            "prediction": self.prediction, "adversarial_prediction": prediction,
            "confidence": self.confidence, "adversarial_confidence": confidence,
            "low": self.low, "high": self.high,
        }  # fmt: skip
        fields: dict[str, Any] = {name: as_record(values) for name, values in tensors.items()}
        target = None if self.target is None else as_record(self.target)
        return {**fields, "target": target, "norm": self.norm_name, "classes": tuple(classes)}

    @property
    def sign(self) -> int:
        """1 where a class is to be left, −1 where it is to be reached."""
        return 1 if self.target is None else -1

    def _margins(self, answers: Tensor, batch: AttackBatch, slack: float) -> Tensor:
        goals = batch.reference_classes[:, None]
        others, own = answers.scatter(1, goals, -torch.inf), answers.gather(1, goals)[:, 0]
        margins = self.sign * (others.amax(dim=1) - own)
        if self.least_log_odds > -np.inf:
            margins = margins.minimum(own - others.logsumexp(dim=1) - self.least_log_odds)
        return margins - slack * answers.abs().amax(dim=1) if slack else margins


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class AdversarialImages(abc.ABC):
    """Adversarial images: what is common to the records of N images that an attack has changed.

    Attributes:
        norm: `linf` or `l2`.
        images: as they were (N, C, H, W).
        adversarial: as they are now.
        labels: the right answers (N,), or the model's own.
        target: the classes to reach (N,); None: any but the label.
        prediction: the model's answers to the images (N,).
        adversarial_prediction: to the adversarial images (N,).
        confidence: probability of those answers, by a softmax (N,).
        adversarial_confidence: the same after.
        low: the least value of a pixel (C or 1, 1, 1).
        high: the largest.
        classes: their names; empty: their numbers.
    """

    norm: NormName
    images: Tensor
    adversarial: Tensor
    labels: Tensor
    target: Tensor | None
    prediction: Tensor
    adversarial_prediction: Tensor
    confidence: Tensor
    adversarial_confidence: Tensor
    low: Tensor
    high: Tensor
    classes: tuple[str, ...]

    @property
    def attackable(self) -> Tensor:
        """Whether there was something to change: answered right, and not with the target (N,)."""
        return attackable(self.prediction, self.labels, self.target)


def logits(model: nn.Module, images: Tensor, output: OutputSelector | None = None) -> Tensor:
    """Return a model's answers (B, K); the images stay as they are also if it works in place.

    Of a network that ends in a softmax they are its logarithm.

    Raises:
        ValueError: it outputs something else.
    """
    output_logits = select_output(model(images.clone()), output)
    if output_logits.ndim != 2 or output_logits.shape[1] < 2:
        problem = f"outputs {tuple(output_logits.shape)}"
        raise argument_error("model", problem, "logits (images, classes), 2 classes or more")
    return as_logits(output_logits)


def predict_classes(
    model: nn.Module, images: Tensor, batch_size: int, output: OutputSelector | None = None
) -> tuple[Tensor, Tensor]:
    """Return the class of the largest logit of each image (B,), and its probability (B,)."""
    with torch.no_grad():
        best_per_batch = [
            logits(model, batch, output).softmax(dim=1).max(dim=1)
            for batch in torch.split(images, batch_size)
        ]
    return torch.cat([best.indices for best in best_per_batch]), torch.cat(
        [best.values for best in best_per_batch]
    )


def prepare(
    model: nn.Module,
    images: Images,
    labels: Classes,
    target: Classes,
    norm: NormName,
    box: tuple[Bound, Bound],
    batch_size: int,
    output: OutputSelector | None,
) -> AttackProblem:
    """Attack problem from checked arguments, with the model's predictions for the images."""
    pixels = as_images(images, model)
    check_count(batch_size, "batch_size")
    low, high = (
        _bound(value, pixels, name) for value, name in zip(box, ("low", "high"), strict=True)
    )
    _check_box(pixels, low, high)
    with torch.no_grad():
        num_classes = logits(model, pixels[:1], output).shape[1]
    prediction, confidence = predict_classes(model, pixels, batch_size, output)
    correct = _class_per_image(labels, prediction, num_classes, "labels")
    targets = (
        None if target is None else _class_per_image(target, prediction, num_classes, "target")
    )
    return AttackProblem(
        model=model, images=pixels, labels=prediction if correct is None else correct,
        target=targets, prediction=prediction, confidence=confidence, norm_name=norm,
        norm=find_norm(norm), low=low, high=high, batch_size=batch_size, output=output,
    )  # fmt: skip


def check_epsilon(epsilon: float, name: str = "epsilon") -> float:
    """Return a size of perturbations that is finite and 0 or more."""
    if not 0 <= epsilon < np.inf:
        raise value_error(name, epsilon, "a finite number, 0 or more")
    return float(epsilon)


def ascend(
    problem: AttackProblem,
    batch: AttackBatch,
    radius: Tensor,
    settings: PgdSettings,
    rngs: Sequence[np.random.Generator],
) -> BestAdversarial:
    """Projected gradient ascent within each image's own radius (B, 1), once for each generator."""
    margins, gradient = problem.margins_and_gradient(batch, settings.slack)
    zero_gradient = (gradient == 0).all(dim=1)
    steps = torch.ones_like(margins, dtype=torch.long)
    best = BestAdversarial(batch.images.clone(), margins, zero_gradient, steps)
    for run, rng in enumerate(rngs):
        noise = problem.norm.within(gradient, rng) * radius
        start = torch.where(zero_gradient[:, None], noise, 0.0) if run == 0 else noise
        ascend_from(problem, batch, radius, settings, start, best)
    return best


def ascend_from(
    problem: AttackProblem, batch: AttackBatch, radius: Tensor, settings: PgdSettings,
    start: Tensor, best: BestAdversarial, share: float = 1.0,
) -> None:  # fmt: skip
    """Run projected gradient ascent from one start, and write into `best` what is better.

    Steps have a share of their size.
    """
    step_size = (
        radius * _REACH / settings.steps if settings.step_size is None else settings.step_size
    )
    step_size = (share * torch.as_tensor(step_size)).to(radius).expand_as(radius)
    indices = torch.arange(len(radius), device=radius.device)
    delta = problem.norm.project(start, radius, *problem.box_bounds(batch.images))
    for step in range(settings.steps + 1):
        if settings.until_found:
            unfinished = best.margins[indices] <= 0
            indices, delta = indices[unfinished], delta[unfinished]
        if not len(indices):
            return
        current = batch.take(indices)
        bounds = problem.box_bounds(current.images)
        current = current._replace(images=problem.perturb(current.images, delta))
        if step == settings.steps:
            best.keep(indices, current.images, problem.margins(current, settings.slack))
            return
        margins, gradient = problem.margins_and_gradient(current, settings.slack)
        best.steps[indices] += 1
        best.keep(indices, current.images, margins)
        delta = delta + step_size[indices] * problem.norm.steepest(gradient)
        delta = problem.norm.project(delta, radius[indices], *bounds)


def _class_per_image(classes: Classes, like: Tensor, num_classes: int, name: str) -> Tensor | None:
    """Return a class for each image (N,), as a tensor beside `like`."""
    if classes is None:
        return None
    numbers = as_tensor(classes, name)
    numbers = numbers.expand(len(like)) if numbers.ndim == 0 else numbers
    if (
        numbers.shape != like.shape
        or numbers.dtype.is_floating_point
        or numbers.dtype == torch.bool
    ):
        problem = f"{numbers.dtype} of shape {tuple(numbers.shape)} does not go with"
        accepted = f"{len(like)} whole numbers, one for each image"
        raise argument_error(name, f"{problem} {len(like)} images", accepted)
    if (wrong := numbers[(numbers < 0) | (numbers >= num_classes)]).numel():
        accepted = f"0 to {num_classes - 1}"
        raise argument_error(name, f"class {int(wrong[0])} does not exist", accepted)
    return numbers.to(like)


def _bound(bound: Bound, images: Tensor, name: str) -> Tensor:
    """Return a bound of pixels (C or 1, 1, 1)."""
    values = as_tensor(bound, name).to(images).reshape(-1, 1, 1)
    if len(values) not in (1, images.shape[1]) or values.isnan().any():
        accepted = f"a number, or one for each of the {images.shape[1]} channels"
        raise value_error(name, bound, accepted)
    return values


def _check_box(images: Tensor, low: Tensor, high: Tensor) -> None:
    """Raise a ValueError unless images lie in their box, but for a rounding error."""
    if not (low < high).all():
        problem = f"{low.flatten().tolist()} is not below high {high.flatten().tolist()}"
        raise argument_error("low", problem, "low below high")
    if ((images < low - _ROUNDING) | (images > high + _ROUNDING)).any():
        extent = f"values from {float(images.min()):.4g} to {float(images.max()):.4g}"
        box = f"low {low.flatten().tolist()} to high {high.flatten().tolist()}"
        accepted = "images that are, or their own low and high"
        raise argument_error("images", f"{extent} are not within {box}", accepted)


def attackable(prediction: Tensor, labels: Tensor, target: Tensor | None) -> Tensor:
    """Whether each image is classified correctly, and not as the target already (B,)."""
    correct = prediction == labels
    return correct if target is None else correct & (prediction != target)
