"""Streaming top-k of feature maps over any number of images, in bounded memory.

B images, C channels that are ranked, H rows, W columns, N places found.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visualization.feature_maps.fields.crops import at_least_float32

Ints = NDArray[np.int64]


class RankedPositions(NamedTuple):
    """Places in feature maps, each an array (N,)."""

    channel: Ints  # number among the channels that are ranked
    value: NDArray[np.floating]  # activation
    image: Ints  # what the image is known by
    position: Ints  # index of the image in the data
    place: Ints  # in its map, in reading order

    def select(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> "RankedPositions":
        """Return some of them."""
        return RankedPositions._make(part[index] for part in self)

    def with_more(self, more: "RankedPositions") -> "RankedPositions":
        """Return both."""
        return RankedPositions._make(map(np.concatenate, zip(self, more, strict=True)))

    @property
    def rank(self) -> Ints:
        """How many of the same channel come before each; channels are side by side."""
        return _ranks(self.channel)

    def best(self, limit: int | None) -> "RankedPositions":
        """Return the best of each channel: by value, then by image, then by place."""
        order = np.lexsort((self.place, self.image, -self.value, self.channel))
        return self.select(order if limit is None else order[_ranks(self.channel[order]) < limit])


_MAX_PENDING = 2**24  # numbers of maps that are put aside, at the most
NO_POSITIONS = RankedPositions(
    np.empty(0, np.int64), np.empty(0, np.float32), *[np.empty(0, np.int64)] * 3
)


def _ranks(group: Ints) -> Ints:
    """Return how many of the same group come before each; equal groups are side by side."""
    begins = np.flatnonzero(np.diff(group, prepend=-1))
    sizes = np.diff(begins, append=len(group))
    return np.arange(len(group)) - np.repeat(begins, sizes)


class TopK:
    """Top-k positions, of which the best `limit` are kept; None: all."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._parts = [NO_POSITIONS]
        self.num_found = 0  # those that were not kept as well
        self._num_held = 0

    def add(self, positions: RankedPositions) -> None:
        """Add positions."""
        self._parts.append(positions)
        self.num_found += len(positions.value)
        self._num_held += len(positions.value)
        if self._limit is not None and self._num_held > 2 * self._limit:
            self.best()

    def best(self) -> RankedPositions:
        """Return those that are kept, in order."""
        best = RankedPositions._make(map(np.concatenate, zip(*self._parts, strict=True))).best(
            self._limit
        )
        self._parts, self._num_held = [best], len(best.value)
        return best


class _Pending(NamedTuple):
    """Maps (N, H, W) that may hold one of the best places of their channel, not yet compared."""

    maps: Tensor
    channel: Tensor  # (N,)
    batch_index: Tensor  # of its batch (N,)
    first: int  # where that batch begins in the data
    images: Ints  # of the whole batch


class Ranking:
    """The k best places of each channel over the batches that were added.

    A channel's k best places lie in the k images with the largest maxima of its map. So a batch
    costs these maxima; the few maps that can still hold one of the best are put aside, and compared
    when there are enough of them.
    """

    def __init__(
        self, channels: Sequence[int], k: int, per_image: int | None,
        min_distance: tuple[int, int] | None, threshold: float, is_ordered: bool,
        dtype: torch.dtype,
    ) -> None:  # fmt: skip
        """See `top_patches`.

        Args:
            channels: those that are ranked.
            k: how many places of each.
            per_image: the most in one image; None: k.
            min_distance: rows, or else columns, between two in one image; None: any.
            threshold: only more than this counts.
            is_ordered: the images come in the order that settles ties.
            dtype: of the maps.
        """
        self._channels = torch.as_tensor(channels)
        self._k = k
        self._most = k if per_image is None else min(per_image, k)  # of one image
        self._min_distance = min_distance
        self._threshold = threshold
        self._is_ordered = is_ordered
        wide = torch.promote_types(dtype, torch.float32)
        self._least = _above(torch.full((len(channels),), threshold, dtype=wide))
        self._pending: list[_Pending] = []
        self._num_pending = 0
        self._best = NO_POSITIONS

    @property
    def best(self) -> RankedPositions:
        """The best places so far, channel by channel."""
        self._compare()
        return self._best

    def candidates(self) -> Ints:
        """Return the indices in the data of images that may be among the best so far."""
        return np.concatenate(
            [self._best.position, *(p.first + p.batch_index.numpy() for p in self._pending)]
        )

    def add(self, maps: Tensor, images: Ints, first: int) -> None:
        """Add a batch of maps (B, C, H, W).

        Args:
            maps: of all channels.
            images: what the images are known by (B,).
            first: index of the first of them in the data.
        """
        peaks = at_least_float32(maps.amax((2, 3))).cpu()[:, self._channels]
        hits = peaks >= self._least
        enough = self._k * len(self._channels)
        if int(hits.sum()) > enough:
            hits &= peaks >= peaks.topk(min(self._k, len(peaks)), dim=0).values[-1]
        batch_index, channel = hits.nonzero(as_tuple=True)
        if not len(batch_index):
            return
        selected_maps = at_least_float32(maps[batch_index, self._channels[channel]])
        self._pending.append(_Pending(selected_maps, channel, batch_index, first, images))
        self._num_pending += len(batch_index)
        if (
            self._num_pending > enough
            or self._num_pending * selected_maps[0].numel() > _MAX_PENDING
        ):
            self._compare()

    def _compare(self) -> None:
        """Bring what was put aside into the order of the best."""
        if not self._pending:
            return
        find = self._spread if self._min_distance else self._all
        which, place, value = find(torch.cat([pending.maps for pending in self._pending]))
        channel = torch.cat([pending.channel for pending in self._pending]).numpy()
        image = np.concatenate(
            [pending.images[pending.batch_index.numpy()] for pending in self._pending]
        )
        position = np.concatenate(
            [pending.first + pending.batch_index.numpy() for pending in self._pending]
        )
        self._pending, self._num_pending = [], 0
        candidates = RankedPositions(channel[which], value, image[which], position[which], place)
        self._best = self._best.with_more(candidates).best(self._k)
        counts = np.bincount(self._best.channel, minlength=len(self._least))
        full = counts == self._k
        least = torch.from_numpy(self._best.value[np.cumsum(counts)[full] - 1])
        self._least[torch.from_numpy(full)] = _above(least) if self._is_ordered else least

    def _all(self, maps: Tensor) -> tuple[Ints, Ints, NDArray[np.floating]]:
        """Return the best places of maps (N, H, W): whose map, where in it, and the value."""
        flat = maps.flatten(1)
        most = min(self._most, flat.shape[1])
        hits = (flat >= flat.topk(most).values[:, -1:]) & (flat > self._threshold)
        which, position = hits.nonzero().cpu().numpy().T
        value = flat[hits].cpu().numpy()
        order = np.lexsort((position, -value, which))
        order = order[_ranks(which[order]) < most]  # of ties with the last there may be too many
        return which[order], position[order], value[order]

    def _spread(self, maps: Tensor) -> tuple[Ints, Ints, NDArray[np.floating]]:
        """Return the best places, each far enough from all better ones of its map."""
        assert self._min_distance is not None
        _, height, width = maps.shape
        rows, columns = (torch.arange(size, device=maps.device) for size in (height, width))
        remaining, which = maps.flatten(1), torch.arange(len(maps), device=maps.device)
        parts = []
        for _ in range(min(self._most, height * width)):
            value, position = remaining.max(dim=1)
            is_above = value > self._threshold
            remaining = remaining[is_above]
            which = which[is_above]
            value = value[is_above]
            position = position[is_above]
            parts.append((which, position, value))
            if not len(which):
                break
            near_rows = (rows - (position // width)[:, None]).abs() < self._min_distance[0]
            near_columns = (columns - (position % width)[:, None]).abs() < self._min_distance[1]
            near = near_rows[:, :, None] & near_columns[:, None]
            remaining = remaining.masked_fill(near.flatten(1), -torch.inf)
        columns_found = [torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True)]
        return columns_found[0], columns_found[1], columns_found[2]


def _above(values: Tensor) -> Tensor:
    """Return the next larger numbers."""
    return torch.nextafter(values, torch.full_like(values, torch.inf))
