"""Evaluation in pieces: of a large batch a few samples at a time, as memory has room."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
from torch import Tensor, nn

from tasks.core.settings import ConfigError

BUDGET = (
    2**25
)  # bytes that a layer may read and write at once; about what a processor's cache holds
Result = TypeVar("Result")


def num_samples(batch: Any) -> int:
    """Return how many samples a batch has: the length of the first axis of each of its arrays.

    Raises:
        ConfigError: (a ValueError) names the fields, if their lengths differ.
    """
    lengths = {name: len(array) for name, array in zip(batch._fields, batch, strict=True)}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        accepted = "arrays whose first axis counts the samples"
        raise ConfigError(
            type(batch).__name__, "", f"its fields differ in length: {told}", accepted
        )
    return next(iter(lengths.values()))


def part(batch: Any, begin: int, end: int) -> Any:
    """Return samples `begin` to `end` of a batch; what `num_samples` refuses is refused."""
    num_samples(batch)
    return type(batch)(*(array[begin:end] for array in batch))


def in_pieces(call: Callable[[Any], Result], batch: Any, model: nn.Module) -> list[Result]:
    """Call with one piece of a batch after the other, and return what the calls return.

    The first piece is a single sample. The memory that it takes itself, or that the layer of
    `model` takes that reads and writes most, says how many samples are in the others. What a layer
    makes within itself is not seen.
    """
    num, first = num_samples(batch), part(batch, 0, 1)
    with _watched(model) as sizes:
        results = [call(first)]
    size = max(1, BUDGET // max(1, _num_bytes(first), *sizes))
    return results + [call(part(batch, at, at + size)) for at in range(1, num, size)]


@contextlib.contextmanager
def _watched(model: nn.Module) -> Iterator[list[int]]:
    """Collect the bytes that each call of a module reads and writes within a block."""
    sizes: list[int] = []

    def hook(module: nn.Module, read: Any, named: Any, written: Any) -> None:
        sizes.append(_num_bytes((read, named, written)))

    with contextlib.ExitStack() as stack:
        for module in model.modules():
            stack.callback(module.register_forward_hook(hook, with_kwargs=True).remove)
        yield sizes


def _num_bytes(values: Any) -> int:
    """Return the bytes of all arrays within tuples, packed sequences among them, and mappings."""
    if isinstance(values, (Tensor, np.ndarray)):
        return values.nbytes
    if isinstance(values, Mapping):
        return sum(map(_num_bytes, values.values()))
    return sum(map(_num_bytes, values)) if isinstance(values, (tuple, list)) else 0
