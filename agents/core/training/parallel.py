"""Data parallelism: one model on several GPUs, processes or CPU cores; only here torch's wrappers.

Ranks, one process each, with DistributedDataParallel are the way to use several GPUs or machines
(`distribute`). DataParallel, several GPUs in one process (`wrap`), is slower and there by option.

The wrapper of DataParallel is an attribute of the agent, not of the model. Inside the model it
would contain itself: DataParallel registers the model as its child, and the model would register
DataParallel as its own, so that every walk over the modules (`train()`, `apply()`, `state_dict()`)
would recurse for ever. DistributedDataParallel is around the whole loss: what an agent calls, how
often, and which parameters it needs for it may differ from step to step.

On a CPU the parts of a batch are computed in parallel, each by one thread. torch (OpenMP) would
split every single product instead, and its threads wait for each other in a busy loop: beside one
other busy process a step of two threads takes 4 to 40 times as long. Parts need one another only at
the end of a step: they are as fast on a quiet machine and lose little on a busy one. They give the
same bits however many cores there are.
"""

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from agents.core.training.processes import Group
from tasks.core.settings import ConfigError

if TYPE_CHECKING:
    from agents.core.protocol import AgentProtocol

MIN_PART_SIZE = 32  # samples; products of fewer take nearly as long
_T = TypeVar("_T")
_R = TypeVar("_R")


def wrap(model: nn.Module, kind: str, device: torch.device) -> nn.Module:
    """Return the module that a training step calls: `model` itself, or a wrapper around it.

    Args:
        model: the bare module, on `device`; its parameters are trained and saved.
        kind: `none`, or `data` for DataParallel over all visible GPUs. On a machine without a GPU
            torch's DataParallel calls the module itself.
        device: where the model is. DataParallel would move it from the CPU to a GPU that it sees.
    """
    if kind == "none" or (device.type == "cpu" and torch.cuda.is_available()):
        return model
    return nn.DataParallel(model)


class LossOfRank(nn.Module):
    """The loss of a rank's samples as a module, with the model within: what is synchronised.

    Called with a batch and a function that returns its loss, as a tensor and named values; with
    None for the batch, on a rank without samples, it is 0 and needs no parameter of the model.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        device = next(model.parameters()).device
        self.anchor = nn.Parameter(torch.zeros((), device=device))  # starts the exchange

    def forward(self, batch: Any, loss: Callable[[Any], tuple[Tensor, Any]]) -> tuple[Tensor, Any]:
        """Return the loss and its named values."""
        return (0 * self.anchor, {}) if batch is None else loss(batch)


@contextlib.contextmanager
def distribute(agent: "AgentProtocol", group: Group) -> Iterator[LossOfRank | None]:
    """Wrap an agent's loss in DistributedDataParallel for a block; a single process has None.

    The gradient of each backward pass is then the mean of those of the ranks. Buffers are those of
    rank 0. On GPUs batch normalisation is that of the whole batch (SyncBatchNorm, which torch has
    not for CPUs: there it is that of a rank's share).
    """
    if group.size == 1:
        yield None
        return
    if agent.device.type == "cpu":
        yield _data_parallel(agent.model)
        return
    with synchronized_batch_norm(agent.model):
        yield _data_parallel(agent.model)


def _data_parallel(model: nn.Module) -> Any:
    return nn.parallel.DistributedDataParallel(LossOfRank(model), find_unused_parameters=True)


@contextlib.contextmanager
def synchronized_batch_norm(model: nn.Module) -> Iterator[None]:
    """Put SyncBatchNorm, on the same tensors, in place of batch normalisation for a block."""
    own = {n: m for n, m in model.named_modules() if n and isinstance(m, _BatchNorm)}
    nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for name, module in own.items():
            parent, _, last = name.rpartition(".")
            module.train(model.training)
            setattr(model.get_submodule(parent), last, module)


def check_batch_norm(model: nn.Module, num: int, group: Group) -> None:
    """Raise a ConfigError if a batch has no sample for some rank, which SyncBatchNorm waits for."""
    if num < group.size and any(isinstance(m, nn.SyncBatchNorm) for m in model.modules()):
        problem = f"a batch of {num} samples for {group.size} ranks with batch normalisation"
        accepted = "fewer ranks, or batches, the last of an epoch too, with a sample for each rank"
        raise ConfigError("batch_size", "", problem, accepted)


def share_buffers(model: nn.Module, group: Group) -> None:
    """Give every rank the buffers of rank 0, such as the running statistics of batch normalisation.

    Without GPUs each rank has gathered its own; those of rank 0 are saved, and so evaluated.
    """
    if group.size > 1:
        values = group.broadcast([buffer.cpu().numpy() for buffer in model.buffers()])
        for buffer, value in zip(model.buffers(), values, strict=True):
            buffer.copy_(torch.from_numpy(value.copy()))


def synchronized(network: Any, is_last: bool) -> contextlib.AbstractContextManager[None]:
    """Let the ranks exchange gradients in a block only with the last of a rank's micro-batches."""
    return contextlib.nullcontext() if network is None or is_last else network.no_sync()


def num_parts(threads: int, batch_size: int) -> int:
    """Return the number of parts, of 32 samples or more, of a batch for `threads` cores."""
    return max(1, min(threads, batch_size // MIN_PART_SIZE))


def threads_each(threads: int, parts: int) -> int:
    """Return the number of torch threads for the products of one part."""
    return max(1, threads // parts)


def map_threads(function: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
    """Map a function over items, each in a thread with one core.

    The first is computed by the caller's thread. The modes of autograd and autocast are those of a
    new thread: the function sets its own.
    """
    first, *others = items
    futures = [_pool().submit(function, item) for item in others]
    try:
        return [function(first), *(future.result() for future in futures)]
    finally:
        for future in futures:  # if the first failed: nothing runs on afterwards
            future.exception()


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(initializer=_begin_thread)


def _begin_thread() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


if sys.platform != "win32":  # which has no fork; a forked process has none of the threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
