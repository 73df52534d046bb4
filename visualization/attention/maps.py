"""Attention maps: where a network looks in what it read while it writes."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from visualization.core.arrays import as_array, check_shape
from visualization.core.errors import argument_error
from visualization.core.records import brief_repr
from visualization.records import AnsweredQuestion


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class AttentionMaps:
    """Attention maps: M over N samples, from A characters written to Q characters read.

    Attributes:
        weights: (M, N, A, Q), from 0 to 1; each row of A sums to 1.
        names: of the maps (M,), such as `head 1`.
        written: characters (N, A).
        read: characters in the order in which they were read (N, Q).
        labels: each sample in words, as a person reads it (N,).
        right: whether what was written is right (N,).
        order: a word on that order, "" where it is the one in which a person reads.
        shares: by quantity, the share of each map's weight on characters of which the
            quantity is what it is for the character being written (M,); NaN: never defined.
        by_chance: what that share would be if all visible places weighed the same.
    """

    weights: NDArray[np.float64]
    names: tuple[str, ...]
    written: NDArray[np.str_]
    read: NDArray[np.str_]
    labels: tuple[str, ...]
    right: NDArray[np.bool_]
    order: str
    shares: Mapping[str, NDArray[np.float64]]
    by_chance: Mapping[str, float]

    def take(self, samples: Sequence[int]) -> "AttentionMaps":
        """Return the maps of some samples; the shares stay those of all."""
        indices = list(samples)
        return attrs.evolve(
            self, weights=self.weights[:, indices], written=self.written[indices],
            read=self.read[indices],
            labels=tuple(self.labels[number] for number in indices), right=self.right[indices],
        )  # fmt: skip

    @property
    def largest(self) -> NDArray[np.float64]:
        """The largest weight of a row, averaged (M,): 1 where it looks at one place at a time."""
        return np.asarray(self.weights.max(axis=-1).mean(axis=(1, 2)))


def attention_maps(
    weights: Mapping[str, ArrayLike | Tensor],
    written: NDArray[np.str_],
    read: NDArray[np.str_],
    rows: Sequence[AnsweredQuestion],
    known: tuple[Mapping[str, NDArray[Any]], Mapping[str, NDArray[Any]]] = ({}, {}),
) -> AttentionMaps:
    """Attention maps: weights by map (sample, written, read) as one record.

    Args:
        weights: each from 0 to 1, summing to 1 over what was read; 0 in every map: out of sight.
        written: characters (sample, written).
        read: characters (sample, read).
        rows: each sample's question, answer, right answer, and whether it was right. Only samples
            that were right count for the shares: what a person knows of a wrong answer's
            characters is not what the network wrote.
        known: what there is to know of each character written and of each character read, as tasks
            declare it; integers that are in both under one name are compared, negative: undefined.

    Raises:
        ValueError: names the argument that does not fit.
    """
    axes = ("sample", "written", "read")
    maps = [as_array(values, name, axes, finite=True) for name, values in weights.items()]
    expected = (*written.shape, read.shape[1])
    for name, values in zip(weights, maps, strict=True):
        check_shape(name, values.shape, expected, "what was written and read")
        if values.min() < 0 or np.abs(values.sum(axis=-1) - 1).max() > 1e-3:
            problem = "a row does not sum to 1, or a weight is below 0"
            raise argument_error(name, problem, "shares of 1")
    stacked = np.stack(maps).astype(np.float64)
    right = np.array([row.correct for row in rows], bool)
    visible = np.asarray((stacked > 0).any(axis=(0, 2)))
    shares, by_chance = {}, {}
    for quantity, same in _shared(*known):
        shares[quantity], by_chance[quantity] = _share(stacked, same, visible, right)
    labels = tuple(f"{row.question} = {row.answer}" for row in rows)
    return AttentionMaps(
        weights=stacked, names=tuple(weights), written=written, read=read, labels=labels,
        right=right, order=reading_order(read, rows), shares=shares, by_chance=by_chance,
    )  # fmt: skip


def _shared(
    of_written: Mapping[str, NDArray[Any]], of_read: Mapping[str, NDArray[Any]]
) -> list[tuple[str, NDArray[np.bool_]]]:
    """Return by quantity where a character read has the value of the one written (N, A, Q)."""
    quantities = []
    for name, values in of_written.items():
        others = of_read.get(name)
        if others is None or values.ndim != 2 or others.ndim != 2:
            continue
        if values.dtype.kind == others.dtype.kind == "i":
            same = (values[:, :, None] == others[:, None]) & (values >= 0)[:, :, None]
            quantities.append((name, np.asarray(same)))
    return quantities


def _share(
    weights: NDArray[np.float64],
    same: NDArray[np.bool_],
    visible: NDArray[np.bool_],
    right: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], float]:
    """Return the share of weight (M,) on what is the same, and that of visible places.

    Both are means over the characters written for which something read is the same.
    """
    counts = same.any(axis=-1) & right[:, None]
    if not counts.any():
        return np.full(len(weights), np.nan), np.nan
    on_same = np.where(same, weights, 0.0).sum(axis=-1)[:, counts].mean(axis=-1)
    of_all = (same & visible[:, None]).sum(axis=-1) / visible.sum(axis=-1)[:, None]
    return on_same, float(of_all[counts].mean())


def reading_order(read: NDArray[np.str_], rows: Sequence[AnsweredQuestion]) -> str:
    """Return a word on the order in which the questions were read."""
    texts = ["".join(characters).strip("\n") for characters in read]
    if all(text == row.question for text, row in zip(texts, rows, strict=True)):
        return ""
    if all(text == row.question[::-1] for text, row in zip(texts, rows, strict=True)):
        return "read from its end"
    return "read in an order of its own"
