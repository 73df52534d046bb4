"""Weights of a model that may learn on while its page is open."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn


@final
class WeightsWatch:
    """Tells by a number whether a model's parameters and buffers are those that they were.

    Their values are compared with copies: torch's fused optimizers, and what is written through
    `.data`, change a tensor and leave its version as it is.

    >>> model = nn.Linear(2, 1)
    >>> watch = WeightsWatch(model)
    >>> with torch.no_grad():
    ...     watch.number(), watch.number(), model.weight.add_(1).shape, watch.number()
    (1, 1, torch.Size([1, 2]), 2)
    """

    def __init__(self, model: nn.Module) -> None:
        self._model, self._number = model, 0
        self._copies: list[Tensor] = []

    def number(self) -> int:
        """Return the number of the weights as they are now: another one if they have changed."""
        weights = [each.detach() for each in (*self._model.parameters(), *self._model.buffers())]
        if not self._number or not _are_equal(weights, self._copies):
            self._number += 1
            self._copies = [each.clone() for each in weights]
        return self._number


def _are_equal(weights: Sequence[Tensor], copies: Sequence[Tensor]) -> bool:
    """Tell whether tensors are the same numbers, of the same types and in the same places."""
    return len(weights) == len(copies) and all(
        own.dtype == copy.dtype and own.device == copy.device and _are_same(own, copy)
        for own, copy in zip(weights, copies, strict=True)
    )


def _are_same(own: Tensor, copy: Tensor) -> bool:
    """Tell whether numbers are equal, or both NaN, as in a model that diverged."""
    if own.shape != copy.shape:
        return False
    return bool(((own == copy) | (torch.isnan(own) & torch.isnan(copy))).all())
