"""Gradient ascent of an objective, and the best image on the way.

B images, T steps at which the objective was measured.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Literal

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.adam import adam

from visualization.core.errors import value_error
from visualization.synthesis.objective import ForwardCache, Objective
from visualization.synthesis.parametrization import Parametrization
from visualization.synthesis.redirected_relu import RedirectedReLU
from visualization.synthesis.transforms import Transform, apply_transforms

Optimiser = Literal["adam", "sgd"]
ForwardFn = Callable[[Tensor, Tensor], ForwardCache]  # of images (B, C, H, W) and rows (B,)

_ROWS = ("values", "starts", "peaks", "best", "zero_gradient")  # of a record, one for each image
_STEPS_BETWEEN_BLURS = 8
_STEPS_BETWEEN_EVALUATIONS = 4  # steps between measurements, where each costs a pass of its own


@attrs.frozen(kw_only=True)
class GradientAscent:
    """Settings of gradient ascent; see `maximise`."""

    steps: int
    rate: float
    optimiser: Optimiser
    blur: float
    stop_at: float | None
    seed: int
    nearest: bool = False  # through shut ReLUs: see `RedirectedReLU`

    def __attrs_post_init__(self) -> None:
        accepted = {
            "steps": ("1 or more", self.steps >= 1),
            "rate": ("above 0", self.rate > 0),
            "optimiser": ("adam, sgd", self.optimiser in ("adam", "sgd")),
            "blur": ("0 or more pixels", self.blur >= 0),
        }
        for name, (words, holds) in accepted.items():
            if not holds:
                value = getattr(self, name)
                raise value_error(name, repr(value), words)


@attrs.frozen(kw_only=True, eq=False)
class AscentResult:
    """Result of gradient ascent for B images.

    Attributes:
        images: the best (B, C, H, W).
        values: what was read of them, without priors (B,).
        starts: what was read at the start (B,).
        peaks: the most that was read at all (B,).
        best: step of the image (B,).
        zero_gradient: whether the gradient at the start was exactly zero (B,).
        steps: measured (T,).
        curve: the whole objective there (T, B).
    """

    images: Tensor
    values: NDArray[np.float64]
    starts: NDArray[np.float64]
    peaks: NDArray[np.float64]
    best: NDArray[np.int64]
    zero_gradient: NDArray[np.bool_]
    steps: NDArray[np.int64]
    curve: NDArray[np.float64]

    @property
    def dead(self) -> NDArray[np.bool_]:
        """Whether nothing that was tried excited them (B,)."""
        return np.asarray(self.zero_gradient & ~(self.peaks > self.starts))

    def with_others(self, positions: NDArray[np.int64], others: "AscentResult") -> "AscentResult":
        """Return the same with others in some places."""
        others_kept = np.setdiff1d(np.arange(len(self.values)), positions)
        return concatenated(
            [self.select(others_kept), others], np.concatenate([others_kept, positions])
        )

    def select(self, positions: NDArray[np.int64]) -> "AscentResult":
        """Return some of them."""
        rows = {name: getattr(self, name)[positions] for name in _ROWS}
        return AscentResult(
            images=self.images[positions], steps=self.steps, curve=self.curve[:, positions], **rows
        )


class _Best:
    """Best image of each row so far, and the curve."""

    def __init__(self, stop_at: float | None) -> None:
        self.stop_at = np.inf if stop_at is None else stop_at
        self.steps: list[int] = []
        self.read: list[Tensor] = []
        self.total: list[Tensor] = []

    def take(self, step: int, images: Tensor, read: Tensor, prior: Tensor) -> None:
        """Evaluate the images of a step: the objective, and the prior (B,)."""
        images, read, total = images.detach(), read.detach(), (read + prior).detach()
        met = read >= self.stop_at
        if not self.steps:
            self.images, self.met, self.value, self.score = images, met, read, total
            self.best_step = torch.zeros_like(read, dtype=torch.long)
        better = torch.where(met == self.met, total > self.score, met)
        self.images = torch.where(better.reshape(-1, 1, 1, 1), images, self.images)
        self.met = torch.where(better, met, self.met)
        self.value = torch.where(better, read, self.value)
        self.score = torch.where(better, total, self.score)
        self.best_step = torch.where(better, step, self.best_step)
        self.steps.append(step)
        self.read.append(read)
        self.total.append(total)

    def result(self, zero_gradient: Tensor) -> AscentResult:
        """Return the result."""
        read = torch.stack(self.read)
        return AscentResult(
            images=self.images, values=_array(self.value), starts=_array(read[0]),
            peaks=_array(read.amax(dim=0)), best=self.best_step.cpu().numpy(),
            zero_gradient=zero_gradient.cpu().numpy(), steps=np.array(self.steps),
            curve=_array(torch.stack(self.total)),
        )  # fmt: skip


class Adam:
    """Adam of one tensor, by torch's functional form.

    The first step of an object of `torch.optim.Adam` imports torch's compiler, which takes seconds.
    """

    def __init__(self, values: Tensor, rate: float) -> None:
        self.values, self.rate = values, rate
        self.mean, self.square = torch.zeros_like(values), torch.zeros_like(values)
        self.count = torch.zeros(())

    @torch.no_grad()
    def step(self, gradient: Tensor) -> None:
        """Make a step up along a gradient."""
        adam(
            [self.values], [gradient], [self.mean], [self.square], [], [self.count],
            amsgrad=False, beta1=0.9, beta2=0.999, lr=self.rate, weight_decay=0.0, eps=1e-8,
            maximize=True,
        )  # fmt: skip


def ascend(
    forward: ForwardFn, objective: Objective, param: Parametrization, latent: Tensor, rows: Tensor,
    ascent: GradientAscent, transforms: Sequence[Transform] = (),
) -> AscentResult:  # fmt: skip
    """Gradient ascent of an objective of images, each for itself; returns the best of each.

    Args:
        forward: runs the model; see `caching_forward`.
        objective: to raise.
        param: image parametrisation of the latent numbers.
        latent: at the start.
        rows: which of the objective's images each is (B,).
        ascent: how.
        transforms: small moves before each pass.
    """
    generator = torch.Generator().manual_seed(ascent.seed)
    latent = latent.detach().clone().requires_grad_()
    optimiser = Adam(latent, ascent.rate) if ascent.optimiser == "adam" else None
    redirection = RedirectedReLU(len(latent), latent.device, ascent.nearest)
    best = _Best(ascent.stop_at)
    zero_gradient = redirection.redirected
    for step in range(ascent.steps):
        output_images = param.images(latent)
        images = output_images.detach().requires_grad_()
        prior = objective.prior(ForwardCache(images, {}, rows))
        if transforms and step % _STEPS_BETWEEN_EVALUATIONS == 0:
            best.take(
                step, images, _read_without_transforms(forward, objective, images, rows), prior
            )
        with redirection.forward_pass():
            read = objective.read(forward(apply_transforms(images, transforms, generator), rows))
        if not transforms:
            best.take(step, images, read, prior)
        if best.met.all():
            break
        gradient = input_gradient(read, images)
        zero_now = redirection.update(gradient)
        zero_gradient = zero_now if step == 0 and objective.layers else zero_gradient
        # Ramp the prior up for images that began with zero gradient: it would push them back.
        prior_weight = torch.where(zero_gradient, min(1.0, 2 * step / ascent.steps), 1.0).to(prior)
        gradient = param.projected_gradient(
            images, gradient + input_gradient(prior_weight * prior, images)
        )
        # Of a sum: `grad` with a gradient of the output imports sympy, which takes a second.
        (slope,) = torch.autograd.grad((output_images * gradient).sum(), latent)
        if optimiser:
            optimiser.step(slope)
        else:
            latent.data.add_(slope, alpha=ascent.rate)
        if ascent.blur and (step + 1) % _STEPS_BETWEEN_BLURS == 0:
            latent.data = param.blurred(latent.data, ascent.blur)
        del read, prior  # or this pass's graph would be held beside the next one's
    else:
        images = param.images(latent).detach()
        prior = objective.prior(ForwardCache(images, {}, rows))
        best.take(
            ascent.steps, images, _read_without_transforms(forward, objective, images, rows), prior
        )
    return best.result(zero_gradient)


@torch.no_grad()
def _read_without_transforms(
    forward: ForwardFn, objective: Objective, images: Tensor, rows: Tensor
) -> Tensor:
    """Return what is read of images as they are (B,)."""
    return objective.read(forward(images, rows))


def input_gradient(value: Tensor, images: Tensor) -> Tensor:
    """Gradient of the sum of values (B,), zero where they do not depend on images."""
    if not value.requires_grad:
        return torch.zeros_like(images)
    (gradient,) = torch.autograd.grad(value.sum(), images, allow_unused=True)
    return torch.zeros_like(images) if gradient is None else gradient


def receptive_extent(
    forward: ForwardFn, objective: Objective, param: Parametrization, rows: Tensor, seed: int
) -> list[int]:
    """Receptive extent: pixels a side on which the objective depends, for each image.

    It is read from gradients in noise, through inactive ReLUs where no other gradient exists. Where
    there are none, it is the image's shorter side.
    """
    low, high = param.image_param.limits
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(param.shape, generator=generator, dtype=torch.float64).to(param.mixing)
    images = (low + (high - low) * noise).repeat(len(rows), 1, 1, 1).requires_grad_()
    redirection = RedirectedReLU(len(rows), rows.device)
    redirection.redirected[:] = True
    with redirection.forward_pass():
        read = objective.read(forward(images, rows))
    has_gradient = (input_gradient(read, images) != 0).any(dim=1)
    return [_extent(each) or min(param.shape[1:]) for each in has_gradient]


def _extent(mask: Tensor) -> int:
    """Return the longer side of the smallest box around what is true in a map (H, W)."""
    spans = [mask.any(dim=axis).nonzero()[:, 0] for axis in (0, 1)]
    return max(int(span[-1] - span[0]) + 1 if len(span) else 0 for span in spans)


def _array(values: Tensor) -> NDArray[np.float64]:
    return values.double().cpu().numpy()


def concatenated(parts: Sequence[AscentResult], order: NDArray[np.int64]) -> AscentResult:
    """Concatenate results of several batches; where one ended early its curve continues flat.

    Args:
        parts: of the batches.
        order: the places of their images in the whole, one batch after the other (B,).
    """
    back = np.argsort(order)
    longest = max((part.steps for part in parts), key=len)
    curves = [
        np.pad(part.curve, ((0, len(longest) - len(part.steps)), (0, 0)), mode="edge")
        for part in parts
    ]
    rows = {
        name: np.concatenate([operator.attrgetter(name)(part) for part in parts])[back]
        for name in _ROWS
    }
    images = torch.cat([part.images for part in parts])[back]
    curve = np.concatenate(curves, axis=1)[:, back]
    return AscentResult(images=images, steps=longest, curve=curve, **rows)
