"""Views side by side: each in a forked process of its own, as many at once as there are cores."""

import contextlib
import copyreg
import gc
import io
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any

import attrs
import torch

from agents.core.training.devices import keep_freed_memory
from visualization.renderers import live_with_parent

Work = Callable[[], Any]


def num_processes(device: torch.device, threads: int | None = None) -> int:
    """Return how many views can be computed at once: 1, or as many as this process has cores.

    1 where a fork would not do: elsewhere than on Linux, with other threads, with an accelerator,
    or where the agent's setting asks torch for threads: OpenMP's do not survive a fork.
    """
    can_fork = sys.platform == "linux" and threading.active_count() == 1 and (threads or 1) == 1
    if not can_fork or device.type != "cpu" or torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return 1
    return len(os.sched_getaffinity(0))


def compute(
    works: Mapping[str, Work], uses: Mapping[str, Sequence[str]], num: int
) -> Iterator[tuple[str, Any]]:
    """Yield the name and the result of each work, when it is there; at most `num` run at once.

    A work begins after those that it uses have been yielded, in a fork of this process, and so
    finds what the caller has kept of them. What a process cannot give, an exception or a result
    that cannot be sent, is computed by the caller's.

    Args:
        works: functions by name, which are started in this order.
        uses: of some works the names of others.
        num: processes at once.
    """
    waiting, running = list(works), list[_Fork]()
    gc.freeze()  # else each process goes through all that torch has made, and so copies it
    try:
        while waiting or running:
            done = set(works) - set(waiting) - {fork.name for fork in running}
            free = [n for n in waiting if done.issuperset(set(uses.get(n, ())) & works.keys())]
            for name in free[: num - len(running)]:
                waiting.remove(name)
                running.append(_Fork.start(name, works[name]))
            ready = wait([fork.receiver for fork in running])
            for fork in [fork for fork in running if fork.receiver in ready]:
                running.remove(fork)
                result = fork.result()
                yield fork.name, works[fork.name]() if result is None else result[0]
    finally:
        gc.unfreeze()
        for fork in running:
            fork.process.terminate()
            fork.process.join()


@attrs.frozen(eq=False)
class _Fork:
    """A process that does one work, and the end at which its result comes out."""

    name: str
    process: BaseProcess
    receiver: Connection

    @staticmethod
    def start(name: str, work: Work) -> "_Fork":
        """Fork a process that sends the result of a work."""
        context = multiprocessing.get_context("fork")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_send, args=(work, sender))
        process.start()
        sender.close()
        return _Fork(name, process, receiver)

    def result(self) -> tuple[Any] | None:
        """Return the result, or None if the process gave none."""
        data = b""
        with contextlib.suppress(EOFError, OSError):  # it failed, or was ended
            data = self.receiver.recv_bytes()
        self.process.join()
        self.receiver.close()
        return (ForkingPickler.loads(data),) if data else None


def _send(work: Work, sender: Connection) -> None:
    """Do the work on one core, and send its result, or nothing."""
    from threadpoolctl import threadpool_limits

    live_with_parent()
    keep_freed_memory()
    with contextlib.suppress(Exception), threadpool_limits(1):
        sender.send_bytes(_bytes(work()))
    sender.close()


def _bytes(result: Any) -> bytes:
    """Return a result as bytes, with tensors by value and not as shared memory."""
    buffer = io.BytesIO()
    pickler = ForkingPickler(buffer)
    pickler.dispatch_table = copyreg.dispatch_table
    pickler.dump(result)
    return buffer.getvalue()
