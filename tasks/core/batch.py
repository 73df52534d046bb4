"""Batches of samples: their number, slices of them, and functions of their arrays.

A batch is a NamedTuple. Each field is an array whose first axis counts the samples (padded arrays,
with an array of lengths or a mask), a list with one entry per sample (texts, boxes,
arrays of unequal size), or None. What does not fit that, such as a graph with one list of edges for
all samples, is a class of its own that extends `Batch`.
"""

import abc
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from tasks.core.settings import ConfigError

BatchT = TypeVar("BatchT")


class Batch(abc.ABC):
    """Base class of batches that are not a NamedTuple of arrays and lists."""

    @property
    @abc.abstractmethod
    def num_samples(self) -> int:
        """Number of samples."""

    @abc.abstractmethod
    def take(self, begin: int, end: int) -> "Batch":
        """Return samples `begin` to `end` (excluded) as a batch."""

    @abc.abstractmethod
    def map_arrays(self, function: Callable[[Any], Any]) -> "Batch":
        """Return the batch with `function(array)` in place of each array."""


def num_samples(batch: Any) -> int:
    """Return the number of samples of a batch.

    Raises:
        ConfigError: (a ValueError) names the fields, if their lengths differ.
    """
    if isinstance(batch, Batch):
        return batch.num_samples
    lengths = {name: len(value) for name, value in batch._asdict().items() if value is not None}
    if len(set(lengths.values())) != 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        accepted = "arrays whose first axis counts the samples, and lists with one entry for each"
        raise ConfigError(
            type(batch).__name__, "", f"its fields differ in length: {listed}", accepted
        )
    return next(iter(lengths.values()))


def take(batch: BatchT, begin: int, end: int) -> BatchT:
    """Return samples `begin` to `end` (excluded) of a batch; raises as `num_samples` does."""
    num_samples(batch)
    if isinstance(batch, Batch):
        return batch.take(begin, end)  # type: ignore[return-value]
    return _changed(batch, lambda value: value[begin:end])


def map_arrays(batch: BatchT, function: Callable[[Any], Any]) -> BatchT:
    """Return a batch with `function(array)` in place of each array, also within lists."""
    if isinstance(batch, Batch):
        return batch.map_arrays(function)  # type: ignore[return-value]

    def change(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            entries = [change(entry) for entry in value]
            return type(value)(*entries) if isinstance(value, tuple) else entries
        return value if isinstance(value, str) else function(value)

    return _changed(batch, change)


def _changed(batch: BatchT, change: Callable[[Any], Any]) -> BatchT:
    values: Any = batch
    return type(batch)(*(None if value is None else change(value) for value in values))


def plain_arrays(name: str, values: Any) -> dict[str, NDArray[Any]]:
    """Return batches or predictions as arrays by name, which a file without pickle can hold.

    Lists of arrays (n, …) are concatenated, with the number of each in `NAME.lengths`. Fields of
    named tuples, also within lists, are `NAME.FIELD`; arrays of a `Batch` are numbered.

    >>> plain_arrays("boxes", [np.ones((2, 4)), np.zeros((0, 4))])["boxes.lengths"]
    array([2, 0])
    """
    if values is None:
        return {}
    if isinstance(values, Batch):
        arrays: list[NDArray[Any]] = []

        def collect(array: Any) -> Any:
            arrays.append(np.asarray(array))
            return array

        values.map_arrays(collect)
        return {f"{name}.{number}": array for number, array in enumerate(arrays)}
    if isinstance(values, tuple):  # a named one
        named = cast("Any", values)._asdict().items()
        parts = [plain_arrays(f"{name}.{field}", value) for field, value in named]
        return {key: array for part in parts for key, array in part.items()}
    if not isinstance(values, list) or not values or isinstance(values[0], str):
        return {name: np.asarray(values)}
    if isinstance(values[0], tuple):
        return plain_arrays(name, type(values[0])(*map(list, zip(*values, strict=True))))
    rows = [np.atleast_1d(value) for value in values]
    return {name: np.concatenate(rows), f"{name}.lengths": np.array(list(map(len, rows)))}


def stacked(batches: Sequence[Any]) -> Iterator[tuple[list[int], Any]]:
    """Stack batches of one sample each: yield the indices of the samples, and their batch.

    Arrays of one shape are stacked; a batch of a class of its own is unchanged.
    """
    groups: dict[Any, list[int]] = {}
    for index, batch in enumerate(batches):
        own = isinstance(batch, Batch)
        shapes = index if own else tuple(map(_shape, batch))
        groups.setdefault((type(batch), shapes), []).append(index)
    for (kind, _), members in groups.items():
        if len(members) == 1:
            yield members, batches[members[0]]
        else:
            fields = zip(*(batches[index] for index in members), strict=True)
            yield members, kind(*map(_concatenated, fields))


def _shape(value: Any) -> tuple[int, ...] | None:
    return None if value is None or isinstance(value, list) else np.shape(value)


def _concatenated(values: tuple[Any, ...]) -> Any:
    if values[0] is None:
        return None
    if isinstance(values[0], list):
        return [entry for value in values for entry in value]
    return np.concatenate(values)
