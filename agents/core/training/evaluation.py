"""Evaluation in pieces: of a large batch a few samples at a time, as memory has room."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from tasks.core.batch import num_samples, take

Result = TypeVar("Result")
Predictions = NDArray[Any] | list[Any]  # an array (batch, …), or one entry per sample


def in_pieces(
    call: Callable[[Any], Result], batch: Any, model: nn.Module, memory: float
) -> list[Result]:
    """Call with one piece of a batch after the other, and return what the calls return.

    The first piece is a single sample. The memory that it takes itself, or that the layer of
    `model` takes that reads and writes most, says how many samples are in the others. What a layer
    makes within itself is not seen.

    Args:
        call: gets each piece.
        batch: see `tasks.core.batch`.
        model: its layers are watched while the first piece is computed.
        memory: bytes that a layer may read and write at once.
    """
    num, first = num_samples(batch), take(batch, 0, 1)
    with _watched(model) as sizes:
        results = [call(first)]
    size = max(1, int(memory // max(1, _num_bytes(first), *sizes)))
    return results + [call(take(batch, begin, begin + size)) for begin in range(1, num, size)]


def joined(pieces: Sequence[Any]) -> Predictions:
    """Return predictions for all samples from those for the pieces of their batch.

    Tensors (batch, …) of one shape per sample become one array; of different shapes, such as texts
    of unequal length, a list of arrays; lists become one list, with arrays in place of tensors.
    """
    shapes = {piece.shape[1:] for piece in pieces if isinstance(piece, Tensor)}
    if len(shapes) == 1:
        return np.concatenate([_as_arrays(piece) for piece in pieces])
    return [_as_arrays(sample) for piece in pieces for sample in piece]


def _as_arrays(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy()
    if isinstance(value, tuple):
        entries = [_as_arrays(entry) for entry in value]
        return type(value)(*entries) if type(value) is not tuple else tuple(entries)
    return [_as_arrays(entry) for entry in value] if isinstance(value, list) else value


@contextlib.contextmanager
def _watched(model: nn.Module) -> Iterator[list[int]]:
    """Collect the bytes that each call of a module reads and writes within a block."""
    sizes: list[int] = []

    def hook(module: nn.Module, inputs: Any, keywords: Any, output: Any) -> None:
        sizes.append(_num_bytes((inputs, keywords, output)))

    with contextlib.ExitStack() as stack:
        for module in model.modules():
            stack.callback(module.register_forward_hook(hook, with_kwargs=True).remove)
        yield sizes


def _num_bytes(values: Any) -> int:
    """Return the bytes of all arrays within tuples, lists, packed sequences and mappings."""
    if isinstance(values, (Tensor, np.ndarray)):
        return values.nbytes
    if isinstance(values, Mapping):
        return sum(map(_num_bytes, values.values()))
    return sum(map(_num_bytes, values)) if isinstance(values, (tuple, list)) else 0
