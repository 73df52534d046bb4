"""Data parallelism: one model on several GPUs or CPU cores; the only user of torch's wrappers.

The wrapper is an attribute of the agent, not of the model. Inside the model it would contain
itself: DataParallel registers the model as its child, and the model would register DataParallel as
its own, so that every walk over the modules (`train()`, `apply()`, `state_dict()`) would recurse
for ever.

On a CPU the parts of a batch are computed in parallel, each by one thread. torch (OpenMP) would
split every single product instead, and its threads wait for each other in a busy loop: beside one
other busy process a step of two threads takes 4 to 40 times as long. Parts need one another only at
the end of a step: they are as fast on a quiet machine and lose little on a busy one. They give the
same bits however many cores there are.
"""

import functools
import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import nn

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
    return ThreadPoolExecutor(initializer=torch.set_num_threads, initargs=(1,))


if sys.platform != "win32":  # which has no fork; a forked process has none of the threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
