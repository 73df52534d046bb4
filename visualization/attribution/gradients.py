"""Gradient attribution: saliency, SmoothGrad, integrated gradients, guided backpropagation.

B images, C channels, H rows, W columns; S steps or samples; R = rows of one batch. All functions
return plain tensors (B, C, H, W) on the model's device, signed, in units of the score per unit of
the image, or in units of the score where they are multiplied by the image.
"""

import contextlib
import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from visualization.attribution.masking import Fill, replacement
from visualization.core.earlier_names import renamed_arguments
from visualization.core.errors import check_count, value_error
from visualization.core.inputs import Images, Target, as_images, inspection_mode
from visualization.core.relus import relu_rule
from visualization.core.targets import (
    TargetScore,
    batch_slices,
    resolve_target,
    score_gradient,
)
from visualization.core.tracing import NamedLayer

Method = Callable[..., Tensor]  # (model, images, target, **options) -> (B, C, H, W) or (B, H, W)


def bind_target_layer(method: Method, target_layer: NamedLayer | None) -> Method:
    """Return a method that explains units of a layer; None: the model's output."""
    return method if target_layer is None else functools.partial(method, target_layer=target_layer)


def _gradients(
    target_score: TargetScore, images: Tensor, rows: Tensor | None = None, rule: str | None = None
) -> Tensor:
    """Return the gradient of each variant's own score (R, C, H, W), plain or by a rule."""
    leaf = images.detach().clone().requires_grad_()
    with relu_rule(rule) if rule else contextlib.nullcontext():
        # The gradient is taken in the block too: what is checkpointed runs again.
        return score_gradient(target_score(leaf, rows), leaf, "images")


def _by_rule(
    model: nn.Module, images: Images, target: Target, target_layer: NamedLayer | None,
    rule: str | None, batch_size: int | None,
) -> Tensor:  # fmt: skip
    with inspection_mode(model):
        images = as_images(images, model)
        target_score = resolve_target(model, images, target, target_layer, batch_size, graph=True)
        batches = batch_slices(len(images), target_score.batch_size)
        return torch.cat(
            [_gradients(target_score[batch], images[batch], rule=rule) for batch in batches]
        )


@renamed_arguments(layer="target_layer")
def saliency(
    model: nn.Module, images: Images, target: Target = None, *,
    target_layer: NamedLayer | None = None, batch_size: int | None = None,
) -> Tensor:  # fmt: skip
    """Saliency: the gradient of the score with respect to the image (B, C, H, W), with its sign.

    Simonyan et al. 1312.6034, section 3, who draw its absolute value: `saliency(…).abs().amax(1)`.

    Args:
        model: any module; it is left as it was.
        images: (B, C, H, W) or (C, H, W).
        target: what is explained, as `select_target` takes it; None: each image's own largest
            class.
        target_layer: dotted name of the layer whose unit is meant; None: the model's output.
        batch_size: images that run at once, which bounds the memory; None:
            at most 64, of 2²⁰ numbers together.

    Raises:
        ValueError: the score has no gradient; or as `select_target`.
    """
    return _by_rule(model, images, target, target_layer, None, batch_size)


@renamed_arguments(layer="target_layer")
def input_x_gradient(
    model: nn.Module, images: Images, target: Target = None, *,
    target_layer: NamedLayer | None = None, batch_size: int | None = None,
) -> Tensor:  # fmt: skip
    """Input × gradient: the image times the gradient of the score (B, C, H, W).

    Shrikumar et al. 1605.01713. It sums to the score where that is linear without a bias along the
    way from 0, as of nets of convolutions and ReLUs without biases.

    Arguments and errors are those of `saliency`.
    """
    gradients = saliency(model, images, target, target_layer=target_layer, batch_size=batch_size)
    return gradients * as_images(images, model)


@renamed_arguments(layer="target_layer")
def guided_backprop(
    model: nn.Module, images: Images, target: Target = None, *,
    target_layer: NamedLayer | None = None, batch_size: int | None = None,
) -> Tensor:  # fmt: skip
    """Guided backpropagation: the gradient of which each ReLU lets only what is positive pass.

    Springenberg et al. 1412.6806; see `relu_rule` for the ReLUs that are meant: modules, functions
    and methods alike. It is known to depend little on the weights of late layers (Adebayo et al.
    1810.03292; see `randomisation_check`): it shows the image's edges more than the decision.

    Arguments and errors are those of `saliency`.
    """
    return _by_rule(model, images, target, target_layer, "guided", batch_size)


@renamed_arguments(layer="target_layer")
def deconvnet(
    model: nn.Module, images: Images, target: Target = None, *,
    target_layer: NamedLayer | None = None, batch_size: int | None = None,
) -> Tensor:  # fmt: skip
    """Deconvnet: the score led back (B, C, H, W); a ReLU passes what is positive, on or off.

    Zeiler & Fergus 1311.2901, section 2.1; max-pooling leads back to where its maximum was. See
    `relu_rule` for the ReLUs that are meant.

    Arguments and errors are those of `saliency`.
    """
    return _by_rule(model, images, target, target_layer, "deconvnet", batch_size)


@renamed_arguments(layer="target_layer")
def integrated_gradients(
    model: nn.Module,
    images: Images,
    target: Target = None,
    *,
    target_layer: NamedLayer | None = None,
    baseline: Fill = 0.0,
    num_steps: int = 50,
    batch_size: int | None = None,
) -> Tensor:
    """Integrated gradients: (image − baseline) × the mean gradient between (B, C, H, W).

    Integrated gradients (Sundararajan et al. 1703.01365, equation 1), in units of the score, by
    Gauss–Legendre nodes: exact where the gradient is a polynomial of degree up to 2 S − 1 along the
    way. They sum to score(image) − score(baseline), up to the error of too few steps.

    Args:
        model: any module; it is left as it was.
        images: (B, C, H, W) or (C, H, W).
        target: as `saliency`; None: the largest class of the image, along the whole way.
        target_layer: as `saliency`.
        baseline: where the way begins, as `replacement` takes it: a number, `mean`, `blur`, images.
        num_steps: S, nodes on the way.
        batch_size: nodes that run at once, which bounds the memory; None:
            at most 64, of 2²⁰ numbers together.

    Raises:
        ValueError: as `saliency` and `replacement`.
    """
    check_count(num_steps, "num_steps")
    abscissae, shares = np.polynomial.legendre.leggauss(num_steps)
    with inspection_mode(model):
        images = as_images(images, model)
        target_score = resolve_target(model, images, target, target_layer, batch_size, graph=True)
        path = images - replacement(images, baseline, model, "baseline")
        # Nodes lie in [-1, 1]: `remaining` is what of the path is left, of the whole of it.
        remaining = torch.as_tensor((1 - abscissae) / 2).to(images)
        weights = torch.as_tensor(shares / 2).to(images)
        total = torch.zeros_like(images)
        for span in batch_slices(len(images) * num_steps, target_score.batch_size):
            number = torch.arange(span.start, span.stop, device=images.device)
            rows, nodes = number // num_steps, number % num_steps
            points = images[rows] - remaining[nodes, None, None, None] * path[rows]
            gradients = _gradients(target_score, points, rows)
            total.index_add_(0, rows, weights[nodes, None, None, None] * gradients)
        return total * path


@renamed_arguments(layer="target_layer")
def smooth_grad(
    model: nn.Module,
    images: Images,
    target: Target = None,
    *,
    target_layer: NamedLayer | None = None,
    method: Method = saliency,
    num_samples: int = 50,
    noise: float = 0.15,
    seed: int = 0,
    batch_size: int | None = None,
) -> Tensor:
    """SmoothGrad: the mean of a method's maps over noisy copies of the image.

    SmoothGrad (Smilkov et al. 1706.03825, section 3). Of a linear model it is the gradient.

    Args:
        model: any module; it is left as it was.
        images: (B, C, H, W) or (C, H, W).
        target: as `saliency`; None: the largest class of the image without noise.
        target_layer: as `saliency`: the layer whose unit is explained, not that of a Grad-CAM's
            maps.
        method: what is averaged: any function (model, images, target) -> (B, …), with its options,
            such as the layer of a Grad-CAM's maps, set by `functools.partial`.
        num_samples: S, noisy copies.
        noise: standard deviation of the noise, as a share of the image's largest minus its smallest
            value; the paper has 0.1 to 0.2.
        seed: of the noise, which is the same for each image.
        batch_size: copies that run at once, which bounds the memory; None:
            at most 64, of 2²⁰ numbers together.

    Raises:
        ValueError: a setting out of range; or as the method.
    """
    check_count(num_samples, "num_samples")
    if not 0 <= noise < float("inf"):
        raise value_error("noise", noise, "0 or more")
    rng = np.random.default_rng(seed)
    explain = bind_target_layer(method, target_layer)
    with inspection_mode(model):
        images = as_images(images, model)
        target_score = resolve_target(model, images, target, target_layer, batch_size, graph=True)
        scale = noise * (images.amax((1, 2, 3)) - images.amin((1, 2, 3)))[:, None, None, None, None]
        totals: list[Tensor] = []
        for samples in batch_slices(num_samples, target_score.batch_size):
            num = samples.stop - samples.start
            draws = torch.as_tensor(rng.standard_normal((num, *images.shape[1:]))).to(images)
            parts = []
            for span in batch_slices(len(images), max(1, target_score.batch_size // num)):
                noisy = (images[span, None] + scale[span] * draws).flatten(0, 1)
                rows = torch.arange(span.start, span.stop).repeat_interleave(num)
                maps = explain(model, noisy, target_score.target_of(rows))
                parts.append(maps.reshape(-1, num, *maps.shape[1:]).sum(dim=1))
            totals.append(torch.cat(parts))
        return torch.stack(totals).sum(dim=0) / num_samples
