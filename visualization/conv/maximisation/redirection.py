"""A way out of silence: gradients through ReLUs that are shut for a whole image."""

import contextlib

import torch
from torch import Tensor

from visualization.conv.attribution.relus import relu_rule


class Redirection:
    """Which images of a batch are without gradient, and another gradient for them.

    A unit that is silent all over its map has a gradient of exactly zero, so that ascent from there
    never starts. For such an image, a ReLU that lets nothing through passes on what would open it:
    the gradient of places where it is shut, if that is above 0. Where anything gets through by
    itself, it is the plain gradient (after Olah et al. 2017, in their code's `redirected_relu`).

    Attributes:
        wanted: for which images (B,).
        used: for which it made a difference in the last pass (B,).
    """

    def __init__(self, num_images: int, device: torch.device) -> None:
        self.wanted = torch.zeros(num_images, dtype=torch.bool, device=device)
        self.used = torch.zeros_like(self.wanted)

    def rule(self, above: Tensor, on: Tensor) -> Tensor:
        """Return the gradient below a ReLU (B, …) from that above it, and from where it is on."""
        plain = above * on
        if len(above) != len(self.wanted):
            return plain  # a batch of something else than images
        other = above.clamp(min=0) * ~on
        silent = ~_any(plain) & _any(other) & self.wanted
        self.used |= silent
        return torch.where(silent.reshape(-1, *[1] * (above.ndim - 1)), other, plain)

    def over_a_pass(self) -> contextlib.AbstractContextManager[object]:
        """Return a context for the forward pass."""
        self.used = torch.zeros_like(self.wanted)
        return relu_rule(self.rule) if self.wanted.any() else contextlib.nullcontext()

    def learn(self, gradient: Tensor) -> Tensor:
        """Note from a gradient (B, …) which images are without one; return which they were (B,)."""
        silent = ~_any(gradient) | self.used
        self.wanted = silent
        return silent


def _any(gradient: Tensor) -> Tensor:
    """Return for which images a gradient (B, …) is anything but exactly zero (B,)."""
    return (gradient != 0).reshape(len(gradient), -1).any(dim=1)
