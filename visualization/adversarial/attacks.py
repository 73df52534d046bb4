"""Adversarial examples: FGSM and PGD.

N images (C, H, W), K classes. What is said of an image's class is its answer: the largest logit.
"""

from collections.abc import Sequence
from typing import final

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from visualization.adversarial.norms import NormName
from visualization.adversarial.problem import (
    AdversarialImages,
    AttackProblem,
    Bound,
    Classes,
    PgdSettings,
    ascend,
    check_epsilon,
    prepare,
)
from visualization.core.inputs import Images, OutputSelector, as_record, inspection_mode
from visualization.core.records import brief_repr


@final
@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class Attack(AdversarialImages):
    """Adversarial examples of N images.

    Attributes:
        method: its name, such as FGSM.
        epsilon: the largest size of a perturbation.
        size: of the perturbations, in the norm (N,).
        zero_gradient: whether the gradient at the image is exactly 0 (N,): there it shows no way.
    """

    method: str
    epsilon: float
    size: Tensor
    zero_gradient: Tensor

    @property
    def success(self) -> Tensor:
        """Whether an attackable image is now answered wrongly, or with the target (N,)."""
        changed = (
            self.adversarial_prediction != self.labels
            if self.target is None
            else self.adversarial_prediction == self.target
        )
        return self.attackable & changed

    @property
    def success_rate(self) -> float:
        """Share of the attackable images; NaN if there is none."""
        return float(self.success.sum()) / num if (num := int(self.attackable.sum())) else np.nan

    @property
    def clean_accuracy(self) -> float:
        """Share of the images that were answered with their labels."""
        return float((self.prediction == self.labels).double().mean())

    @property
    def adversarial_accuracy(self) -> float:
        """Share of the adversarial images that are."""
        return float((self.adversarial_prediction == self.labels).double().mean())


def fgsm(
    model: nn.Module,
    images: Images,
    labels: Classes,
    epsilon: float,
    *,
    target: Classes = None,
    norm: NormName = "linf",
    low: Bound = 0.0,
    high: Bound = 1.0,
    batch_size: int = 256,
    output: OutputSelector | None = None,
    classes: Sequence[str] = (),
) -> Attack:
    """Fast gradient sign method (FGSM): one step of size epsilon up the loss.

    x + ε · sign(∇ₓ J(x, y)), Goodfellow et al. 2015 (1412.6572), section 4; in L2 the gradient is
    scaled to length ε instead. J is log Σ exp z_k − z_y over the other classes k: cross-entropy is
    its softplus, so that the gradients have the same direction, but this one does not vanish where
    the model is very sure.

    Args:
        model: outputs logits (N, K), or probabilities (N, K), which are noticed by their sum.
        images: (N, C, H, W), or one (C, H, W), with pixels from `low` to `high`.
        labels: the right classes (N,); None: the model's own answers.
        epsilon: size of the step, in units of a pixel, 0 or more.
        target: a class, or one for each image, that is to be answered; the step goes down the loss.
        norm: `linf` or `l2`.
        low: the least value that a pixel may have, or one for each channel.
        high: the largest, likewise.
        batch_size: images at a time.
        output: picks the logits from what the model outputs, such as
            `lambda out: out["logits"]`; None: it is one tensor.
        classes: names of the classes, for the figure.

    Raises:
        ValueError: names the argument that does not fit.
    """
    with inspection_mode(model):
        problem = prepare(model, images, labels, target, norm, (low, high), batch_size, output)
        radius = check_epsilon(epsilon)
        adversarial, flat = [], []
        for batch in problem.batches():
            _, slope = problem.margins_and_gradient(batch)
            walls = problem.box_bounds(batch.images)
            step = radius * problem.norm.steepest(slope)
            delta = problem.norm.project(step, batch.radii(radius), *walls)
            adversarial.append(problem.perturb(batch.images, delta))
            flat.append((slope == 0).all(dim=1))
        return _as_attack(problem, "FGSM", radius, torch.cat(adversarial), torch.cat(flat), classes)


def pgd(
    model: nn.Module,
    images: Images,
    labels: Classes,
    epsilon: float,
    *,
    steps: int = 40,
    step_size: float | None = None,
    restarts: int = 1,
    norm: NormName = "linf",
    target: Classes = None,
    seed: int = 0,
    low: Bound = 0.0,
    high: Bound = 1.0,
    batch_size: int = 256,
    output: OutputSelector | None = None,
    classes: Sequence[str] = (),
) -> Attack:
    """Projected gradient descent attack (PGD), within epsilon of the image and within its box.

    Madry et al. 2018 (1706.06083), with the loss of `fgsm`. Each step is the steepest of its norm;
    then the nearest point that is both in the ball and in the box takes its place. Of all points
    on the way, the start too, the one with the largest margin of a wrong answer (of the target) is
    kept, so that nothing found is lost again. The first run starts at the image, or at random where
    the gradient is exactly 0; further runs start at random in the ball.

    Args:
        model: outputs logits (N, K).
        images: (N, C, H, W), or one (C, H, W), with pixels from `low` to `high`.
        labels: the right classes (N,); None: the model's own answers.
        epsilon: the largest size of a perturbation, in units of a pixel, 0 or more.
        steps: of each run.
        step_size: of one; None: 2.5 · epsilon / steps.
        restarts: how many runs.
        norm: `linf` or `l2`.
        target: a class, or one for each image, that is to be answered.
        seed: of the random starts.
        low: the least value that a pixel may have, or one for each channel.
        high: the largest, likewise.
        batch_size: images at a time; the result does not depend on it.
        output: as `fgsm`.
        classes: names of the classes, for the figure.

    Raises:
        ValueError: names the argument that does not fit.
    """
    climb = PgdSettings(steps, step_size, restarts, seed)
    with inspection_mode(model):
        problem = prepare(model, images, labels, target, norm, (low, high), batch_size, output)
        radius, rngs = check_epsilon(epsilon), climb.generators()
        adversarial, flat = [], []
        for batch in problem.batches():
            best = ascend(problem, batch, batch.radii(radius), climb, rngs)
            adversarial.append(best.images)
            flat.append(best.zero_gradient)
        return _as_attack(problem, "PGD", radius, torch.cat(adversarial), torch.cat(flat), classes)


def _as_attack(
    problem: AttackProblem,
    method: str,
    epsilon: float,
    adversarial: Tensor,
    zero_gradient: Tensor,
    classes: Sequence[str],
) -> Attack:
    size = problem.norm.size((adversarial - problem.images).flatten(1))[:, 0]
    return Attack(
        method=method, epsilon=epsilon, size=as_record(size),
        zero_gradient=as_record(zero_gradient), **problem.outcome(adversarial, classes),
    )  # fmt: skip
