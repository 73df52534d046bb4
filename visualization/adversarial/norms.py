"""Norms of perturbations, L∞ and L2: steepest steps, projections, random points.

B images, each flattened to n numbers: all tensors here are (B, n), all radii (B, 1).
"""

import abc
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from visualization.core.errors import unknown_name_error

NormName = Literal["linf", "l2"]


class Norm(abc.ABC):
    """A norm with its unit ball."""

    title: str

    @abc.abstractmethod
    def size(self, delta: Tensor) -> Tensor:
        """Return the norm of each row (B, 1)."""

    @abc.abstractmethod
    def dual(self, gradient: Tensor) -> Tensor:
        """Return by how much a step of norm 1 raises a linear function at most (B, 1)."""

    @abc.abstractmethod
    def steepest(self, gradient: Tensor) -> Tensor:
        """Return that step of norm 1; zeros where the gradient is zero."""

    @abc.abstractmethod
    def project(self, delta: Tensor, radius: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Return the nearest point that lies within the radius and from low ≤ 0 to high ≥ 0."""

    @abc.abstractmethod
    def within(self, like: Tensor, rng: np.random.Generator) -> Tensor:
        """Draw a point of each row's unit ball, uniformly."""

    @abc.abstractmethod
    def outermost(self, like: Tensor, rng: np.random.Generator) -> Tensor:
        """Draw noise of norm 1 that is as large as that norm allows."""


class _LInf(Norm):
    title = "L∞"

    def size(self, delta: Tensor) -> Tensor:
        return delta.abs().amax(dim=1, keepdim=True)

    def dual(self, gradient: Tensor) -> Tensor:
        return gradient.abs().sum(dim=1, keepdim=True)

    def steepest(self, gradient: Tensor) -> Tensor:
        return gradient.sign()

    def project(self, delta: Tensor, radius: Tensor, low: Tensor, high: Tensor) -> Tensor:
        return delta.clamp(torch.maximum(low, -radius), torch.minimum(high, radius))

    def within(self, like: Tensor, rng: np.random.Generator) -> Tensor:
        points = torch.as_tensor(rng.random(tuple(like.shape), np.float32))
        return (2 * points - 1).to(like)

    def outermost(self, like: Tensor, rng: np.random.Generator) -> Tensor:
        return self.within(like, rng).sign()


class _L2(Norm):
    title = "L2"

    def size(self, delta: Tensor) -> Tensor:
        length: Tensor = torch.linalg.vector_norm(delta, dim=1, keepdim=True)
        return length

    def dual(self, gradient: Tensor) -> Tensor:
        return self.size(gradient)

    def steepest(self, gradient: Tensor) -> Tensor:
        tiny = torch.finfo(gradient.dtype).tiny
        scaled = gradient / gradient.abs().amax(dim=1, keepdim=True).clamp(min=tiny)
        return scaled / self.size(scaled).clamp(min=tiny)  # squares of small gradients underflow

    def project(self, delta: Tensor, radius: Tensor, low: Tensor, high: Tensor) -> Tensor:
        outside = self.size(delta.clamp(low, high)) > radius
        share = torch.where(outside, _shrinking(delta, radius, low, high), 1.0)
        return self._rounded((share * delta).clamp(low, high), radius)

    def _rounded(self, delta: Tensor, radius: Tensor) -> Tensor:
        """Return points that are too long by a rounding error at the radius itself."""
        tiny = torch.finfo(delta.dtype).tiny
        return delta * (radius / self.size(delta).clamp(min=tiny)).clamp(max=1.0)

    def within(self, like: Tensor, rng: np.random.Generator) -> Tensor:
        # The first n of n + 2 coordinates of a point on a sphere are uniform in the ball.
        shape = (len(like), like.shape[1] + 2)
        points = torch.as_tensor(rng.standard_normal(shape, np.float32))
        return (points / self.size(points))[:, :-2].to(like)

    def outermost(self, like: Tensor, rng: np.random.Generator) -> Tensor:
        points = torch.as_tensor(rng.standard_normal(tuple(like.shape), np.float32))
        return (points / self.size(points)).to(like)


def _shrinking(delta: Tensor, radius: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return the s in [0, 1] at which clamp(s · delta, low, high) has the L2 norm `radius` (B, 1).

    The nearest point of a ball and a box around 0 has this form (its Lagrangian's stationary
    point). As s rises, coordinates reach their bounds one by one; between two such moments the
    squared norm is (what is at its bound) + s² · (what is free), so s is found without a search.
    """
    length = delta.abs()
    wall = torch.where(delta > 0, high, -low)
    moment = torch.where(length > 0, wall / length, 1.0).clamp(max=1.0)
    moment, order = moment.sort(dim=1)
    free = length.gather(1, order).square()
    at_wall = wall.gather(1, order).square().cumsum(dim=1)
    free_after = (free.sum(dim=1, keepdim=True) - free.cumsum(dim=1)).clamp(min=0)
    target = radius.square()
    reached = (at_wall + moment.square() * free_after <= target).sum(dim=1, keepdim=True)
    index = (reached - 1).clamp(min=0)
    before = torch.where(reached > 0, at_wall.gather(1, index), 0.0)
    rest = torch.where(reached > 0, free_after.gather(1, index), free.sum(dim=1, keepdim=True))
    tiny = torch.finfo(delta.dtype).tiny
    return ((target - before).clamp(min=0) / rest.clamp(min=tiny)).sqrt().clamp(max=1.0)


NORMS: dict[str, Norm] = {"linf": _LInf(), "l2": _L2()}


def find_norm(name: str) -> Norm:
    """Return a norm by its name.

    Raises:
        ValueError: names those that there are, and the nearest.
    """
    if name not in NORMS:
        raise unknown_name_error("norm", name, NORMS)
    return NORMS[name]
