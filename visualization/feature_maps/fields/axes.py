"""Axis relations: which places of an operation's input each place of its output reads."""

import abc
from collections.abc import Callable

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Positions = NDArray[np.int64]


class Axis(abc.ABC):
    """Which places of the input each place of the output reads."""

    @abc.abstractmethod
    def span(self, first: Positions, last: Positions) -> tuple[Positions, Positions]:
        """Return the first and the last place that intervals of the output read.

        An interval that reads nothing has its last place before its first.
        """

    @abc.abstractmethod
    def table(self, num_out: int, num_in: int) -> NDArray[np.bool_]:
        """Return which output reads which input (num_out, num_in)."""


@attrs.frozen
class Window(Axis):
    """Output o reads o · stride − padding + dilation · j for j in 0 … size − 1."""

    size: int = 1
    stride: int = 1
    padding: int = 0
    dilation: int = 1

    def span(self, first: Positions, last: Positions) -> tuple[Positions, Positions]:
        """Return the first and the last place that intervals of the output read."""
        reach = self.dilation * (self.size - 1)
        return first * self.stride - self.padding, last * self.stride - self.padding + reach

    def table(self, num_out: int, num_in: int) -> NDArray[np.bool_]:
        """Return which output reads which input (num_out, num_in)."""
        begin = np.arange(num_out)[:, None] * self.stride - self.padding
        distance = np.arange(num_in) - begin
        within = (distance >= 0) & (distance <= self.dilation * (self.size - 1))
        return np.asarray(within & (distance % self.dilation == 0))


@attrs.frozen
class Transposed(Axis):
    """A transposed convolution: input i reaches the outputs that a window at i would read."""

    window: Window

    def span(self, first: Positions, last: Positions) -> tuple[Positions, Positions]:
        """Return the first and the last place that intervals of the output read."""
        window = self.window
        begin = first + window.padding - window.dilation * (window.size - 1)
        return -(-begin // window.stride), (last + window.padding) // window.stride

    def table(self, num_out: int, num_in: int) -> NDArray[np.bool_]:
        """Return which output reads which input (num_out, num_in)."""
        return self.window.table(num_in, num_out).T


@attrs.frozen(eq=False)
class Relation(Axis):
    """Any relation (num_out, num_in), with no places beyond its ends."""

    reads: NDArray[np.bool_]

    def span(self, first: Positions, last: Positions) -> tuple[Positions, Positions]:
        """Return the first and the last place that intervals of the output read.

        Places beyond the output count as the outermost.
        """
        num_out, num_in = self.reads.shape
        begin, end = (np.clip(positions, 0, num_out - 1)[:, None] for positions in (first, last))
        positions = np.arange(num_out)
        read = ((positions >= begin) & (positions <= end)) @ self.reads
        empty = ~read.any(axis=1)
        low, high = read.argmax(axis=1), num_in - 1 - read[:, ::-1].argmax(axis=1)
        return np.where(empty, NOWHERE, low), np.where(empty, -NOWHERE, high)

    def table(self, num_out: int, num_in: int) -> NDArray[np.bool_]:
        """Return which output reads which input (num_out, num_in)."""
        assert self.reads.shape == (num_out, num_in)
        return self.reads


SAME = Window()
NOWHERE = 2**40  # the first place of an interval of nothing; strides leave it far outside


def blocks(groups: int, num_out: int, num_in: int) -> Axis | None:
    """Return the relation of channels that read those of their own group; None: of all."""
    if groups == 1:
        return None
    of_output = np.repeat(np.arange(groups), num_out // groups)
    return Relation(of_output[:, None] == np.repeat(np.arange(groups), num_in // groups))


def probed_axis(
    operation: Callable[[Tensor], Tensor], num_in: int, dtype: torch.dtype = torch.float64
) -> Axis:
    """Return what an operation on the rows of images (B, 1, num_in, 1) reads: one NaN in each."""
    probes = torch.zeros(num_in, 1, num_in, 1, dtype=dtype)
    probes[range(num_in), 0, range(num_in), 0] = torch.nan
    return Relation(operation(probes)[:, 0, :, 0].isnan().T.numpy())
