"""Streaming histogram: values come in parts, of a range that is not known before."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_MOST_BINS = 96
_FINEST = 12  # binary digits of the largest value that a bin's width may have
_LEAST = -126  # exponent of the finest bin, of a normal number in single precision


class Histogram:
    """Counts of values in bins of a power of two's width, with an edge at 0.

    When the range grows, bins are joined in pairs, which is exact; so the result is that of all
    values at once, in whichever order and parts they came.
    """

    def __init__(self) -> None:
        self._low, self._high = math.inf, -math.inf
        self._exponent, self._first = _LEAST, 0  # a bin is [(first + i)·2^exponent, … + 2^exponent)
        self._counts = np.zeros(0, np.int64)

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many values lie in each bin (N,), the upper edge not counted."""
        return self._counts

    @property
    def edges(self) -> NDArray[np.float64]:
        """The ends of the bins (N + 1,)."""
        indices = np.arange(len(self._counts) + 1) + self._first
        return np.asarray(np.ldexp(indices.astype(np.float64), self._exponent))

    def add(self, values: Tensor, low: float, high: float) -> None:
        """Count values (…), all finite and from `low` to `high`."""
        self._low, self._high = min(self._low, low), max(self._high, high)
        exponent = _exponent(self._low, self._high)
        self._join(exponent - self._exponent, exponent)
        scaled = values.flatten() * 2.0**-exponent  # exact: a power of two
        start = math.floor(math.ldexp(low, -exponent))
        new_counts = torch.bincount(scaled.floor_().int() - start).cpu().numpy()
        if not len(self._counts):
            self._first = start
        first = min(start, self._first)
        last = max(start + len(new_counts), self._first + len(self._counts))
        counts = np.zeros(last - first, np.int64)
        offset = self._first - first
        counts[offset : offset + len(self._counts)] += self._counts
        counts[start - first : start - first + len(new_counts)] += new_counts
        self._first, self._counts = first, counts

    def _join(self, times: int, exponent: int) -> None:
        """Make each 2^times bins one."""
        if times and len(self._counts):
            indices = (np.arange(len(self._counts)) + self._first) >> min(times, 62)
            self._first = int(indices[0])
            counts = np.zeros(int(indices[-1]) - self._first + 1, np.int64)
            np.add.at(counts, indices - self._first, self._counts)
            self._counts = counts
        self._exponent = exponent


def _exponent(low: float, high: float) -> int:
    """Return the finest width's power of two with which a range takes no more than all bins."""
    largest = max(abs(low), abs(high))
    exponent = max(math.frexp(largest)[1] - _FINEST, _LEAST) if largest else _LEAST
    while math.floor(math.ldexp(high, -exponent)) - math.floor(math.ldexp(low, -exponent)) >= (
        _MOST_BINS
    ):
        exponent += 1
    return exponent
