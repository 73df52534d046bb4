"""Redirected ReLU: gradients through ReLUs that are zero over a whole map (Olah et al. 2017)."""

import contextlib
import functools

import torch
from torch import Tensor

from visualization.core.relus import Rule, relu_rule


class RedirectedReLU:
    """Redirected ReLU: another gradient for images of a batch that have none.

    A unit that is inactive all over its map has a gradient of exactly zero, so that ascent from
    there goes nowhere. A ReLU that lets nothing through passes on what would open it: the gradient
    of places where it is inactive, if that is above 0. Where anything gets through by itself, it is
    the plain gradient (after Olah et al. 2017, in their code's `redirected_relu`).

    The gradients of all places are those of copies of a pattern in each place; in their sum it may
    be lost, such as a bar, of which nothing but the mean brightness is left. Then the gradient of
    one place of each map is passed on, of that which is nearest to opening.

    Attributes:
        nearest: pass on the gradient of the nearest place alone.
        redirected: for which images (B,).
        used: for which it made a difference in the last pass (B,).
    """

    def __init__(self, num_images: int, device: torch.device, nearest: bool = False) -> None:
        self.nearest = nearest
        self.redirected = torch.zeros(num_images, dtype=torch.bool, device=device)
        self.used = torch.zeros_like(self.redirected)

    def rule(self, values: Tensor, above: Tensor, on: Tensor) -> Tensor:
        """Return the gradient below a ReLU (B, …) of values, from that above and where it is on."""
        plain = above * on
        if len(above) != len(self.redirected):
            return plain  # a batch of something else than images
        other = above.clamp(min=0) * ~on
        other = _nearest(values, other) if self.nearest else other
        zero_gradient = ~_any(plain) & _any(other) & self.redirected
        self.used |= zero_gradient
        return torch.where(zero_gradient.reshape(-1, *[1] * (above.ndim - 1)), other, plain)

    def forward_pass(self) -> contextlib.AbstractContextManager[object]:
        """Return a context for the forward pass."""
        self.used = torch.zeros_like(self.redirected)
        return _RedirectedReluMode(self) if self.redirected.any() else contextlib.nullcontext()

    def update(self, gradient: Tensor) -> Tensor:
        """Note from a gradient (B, …) which images have none; return which they were (B,)."""
        zero_gradient = ~_any(gradient) | self.used
        self.redirected = zero_gradient
        return zero_gradient


class _RedirectedReluMode(relu_rule):
    """Lets gradients flow by a redirection's rule, which also sees what goes into each ReLU."""

    def __init__(self, redirection: RedirectedReLU) -> None:
        super().__init__(torch.mul)
        self.redirection = redirection

    def rule_for(self, values: Tensor) -> Rule:
        """Return the rule for a ReLU of these values."""
        return functools.partial(self.redirection.rule, values.detach().clone())


def _nearest(values: Tensor, gradient: Tensor) -> Tensor:
    """Return a gradient (B, C, …) at one place of each map: of those it has, of the largest value.

    A vector (B, C) has no places, and stays as it is.
    """
    if gradient.ndim < 3:
        return gradient
    near = values.masked_fill(gradient == 0, -torch.inf).flatten(2).argmax(dim=2, keepdim=True)
    mask = torch.zeros_like(gradient.flatten(2)).scatter(2, near, 1.0)
    return mask.view_as(gradient) * gradient


def _any(gradient: Tensor) -> Tensor:
    """Return for which images a gradient (B, …) is anything but exactly zero (B,)."""
    return (gradient != 0).reshape(len(gradient), -1).any(dim=1)
