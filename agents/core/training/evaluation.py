"""Evaluation in micro-batches, whose size follows from a memory budget."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.core.training import devices, parallel
from agents.core.training.processes import Group
from tasks.core.batch import num_samples, take

if TYPE_CHECKING:
    from agents.core.protocol import AgentProtocol

Result = TypeVar("Result")
Predictions = NDArray[Any] | list[Any]  # an array (batch, …), or one entry per sample


@contextlib.contextmanager
def agent_threads(agent: "AgentProtocol") -> Iterator[None]:
    """Use an agent's threads and float32 for a block, whatever the caller has set."""
    threads = agent.config.threads or 1
    per_part = parallel.threads_each(threads, agent.num_parts(threads))
    with devices.threads(per_part), devices.float32():
        yield


def map_microbatches(
    call: Callable[[Any], Result], batch: Any, model: nn.Module, memory: float
) -> list[Result]:
    """Call a function with each micro-batch of a batch, and return the results.

    The first micro-batch is a single sample. The size of the others follows from its own memory, or
    that of the inputs and outputs of the largest layer of `model`. Memory that a layer uses inside
    its forward pass is not counted.

    Args:
        call: called with each micro-batch.
        batch: see `tasks.core.batch`.
        model: inputs and outputs of its layers are measured for the first micro-batch.
        memory: largest number of bytes of a layer's inputs and outputs.
    """
    num, first = num_samples(batch), take(batch, 0, 1)
    with _record_sizes(model) as sizes:
        results = [call(first)]
    size = max(1, int(memory // max(1, _num_bytes(first), *sizes)))
    return results + [call(take(batch, begin, begin + size)) for begin in range(1, num, size)]


def concatenate_predictions(microbatches: Sequence[Any]) -> Predictions:
    """Concatenate the predictions for the micro-batches of a batch.

    Tensors (batch, …) of one shape per sample become one array; of different shapes, such as texts
    of unequal length, a list of arrays; lists become one list, with arrays in place of tensors.
    """
    shapes = {microbatch.shape[1:] for microbatch in microbatches if isinstance(microbatch, Tensor)}
    if len(shapes) == 1:
        return np.concatenate([_as_arrays(microbatch) for microbatch in microbatches])
    return [_as_arrays(sample) for microbatch in microbatches for sample in microbatch]


def _as_arrays(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy()
    if isinstance(value, tuple):
        entries = [_as_arrays(entry) for entry in value]
        return type(value)(*entries) if type(value) is not tuple else tuple(entries)
    return [_as_arrays(entry) for entry in value] if isinstance(value, list) else value


def predict_shares(agent: "AgentProtocol", batch: Any, group: Group) -> Predictions:
    """Return predictions for a batch of arrays, of which each rank computes a share."""
    if group.size == 1:
        predictions: Predictions = agent.predict_arrays(batch)
        return predictions
    begin, end = group.bounds(num_samples(batch))
    own = agent.predict_arrays(take(batch, begin, end)) if end > begin else None
    return _joined([share for share in group.gather(own) if share is not None])


def mean_loss_of_shares(agent: "AgentProtocol", batch: Any, group: Group) -> float:
    """Return the mean loss of a batch of arrays, of which each rank computes a share."""
    if group.size == 1:
        return agent.mean_loss(batch)
    begin, end = group.bounds(num_samples(batch))
    own = agent.mean_loss(take(batch, begin, end)) * (end - begin) if end > begin else 0.0
    return group.sum([own])[0] / num_samples(batch)


def _joined(shares: Sequence[Predictions]) -> Predictions:
    """Return the predictions of all shares: one array, if they are arrays of one shape a sample."""
    arrays = [share for share in shares if isinstance(share, np.ndarray)]
    if len(arrays) == len(shares) and len({array.shape[1:] for array in arrays}) == 1:
        return np.concatenate(arrays)
    return [sample for share in shares for sample in share]


@contextlib.contextmanager
def _record_sizes(model: nn.Module) -> Iterator[list[int]]:
    """Collect, within a block, the bytes of inputs and outputs of each call of a module."""
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
