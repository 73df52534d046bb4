"""Streaming quantiles and top-k images of the units of a layer.

U units, of whose maps batches (B, U, h, w) come one after the other.
"""

import math

import numpy as np
import torch
from torch import Tensor

_MAX_KEPT = 2**25  # numbers


class UpperQuantile:
    """Upper quantile of each unit: the value that a given share of its values reach.

    Kept are the highest values, which makes the thresholds exact, unless they are more than fit:
    then the values of some places only, drawn evenly in each batch.
    """

    def __init__(self, share: float, num_values: int, like: Tensor, seed: int = 0) -> None:
        num_units = like.shape[1]
        self.share = share
        self.share_read = min(1.0, _MAX_KEPT / (num_units * share * num_values))
        self._num_kept = _rank(share, num_values * self.share_read) + 1
        self._rng, self._num_read = np.random.default_rng(seed), 0
        self._highest = like.new_zeros((num_units, 0))
        self._lowest = like.new_full((num_units,), torch.inf)

    def update(self, maps: Tensor) -> None:
        """Take what is high from a batch of maps (B, U, h, w)."""
        values = maps.transpose(0, 1).flatten(1)
        self._lowest = torch.minimum(self._lowest, values.amin(dim=1))
        if self.share_read < 1:
            num = max(1, int(self.share_read * values.shape[1]))
            sampled = self._rng.choice(values.shape[1], num, replace=False)
            values = values[:, torch.as_tensor(sampled, device=values.device)]
        self._num_read += values.shape[1]
        both = torch.cat([self._highest, values], dim=1)
        self._highest = both.topk(min(self._num_kept, both.shape[1]), dim=1).values

    @property
    def thresholds(self) -> Tensor:
        """The thresholds (U,): the value of rank ⌈share · number of values⌉."""
        rank = min(_rank(self.share, self._num_read), self._highest.shape[1])
        return self._highest[:, rank - 1]

    def regions(self, maps: Tensor, units: slice) -> Tensor:
        """Return where maps (B, u, H, W) of some units reach their thresholds.

        Where a threshold is a unit's lowest value, so that every place would, those above it count.
        """
        thresholds = self.thresholds[units, None, None]
        lowest = self._lowest[units, None, None]
        return (maps >= thresholds) & (maps > lowest)


def _rank(share: float, num: float) -> int:
    return max(1, math.ceil(share * num - 1e-9))


class TopKImages:
    """Top-k images of each unit; of equals the first."""

    def __init__(self, num: int, like: Tensor) -> None:
        self._num, self._num_seen = num, 0
        self._values = like.new_zeros((like.shape[1], 0))
        self.numbers = torch.zeros((like.shape[1], 0), dtype=torch.long, device=like.device)

    def update(self, maps: Tensor) -> None:
        """Take the best images of a batch of maps (B, U, h, w)."""
        values = maps.flatten(2).amax(dim=2).T
        numbers = torch.arange(self._num_seen, self._num_seen + len(maps), device=maps.device)
        both = torch.cat([self._values, values], dim=1)
        all_numbers = torch.cat([self.numbers, numbers.expand(len(values), -1)], dim=1)
        ordered, order = both.sort(dim=1, descending=True, stable=True)
        self._values = ordered[:, : self._num]
        self.numbers = all_numbers.gather(1, order[:, : self._num])
        self._num_seen += len(maps)
