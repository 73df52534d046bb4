"""Prefetching: batches that take long to make are made beside training, by another process.

Threads would not do: drawing letters holds Python's lock, for which each operation of torch waits.
The process (`python -m tasks.prefetch`) makes the same task from its name and settings, which are
sent as JSON, and returns batches as bytes. It is one batch ahead: it waits with that until it is
read. As a batch is a pure function of seed, epoch and number, it does not matter who makes it, so
that a run can be resumed, and a process can take over or fail, at any batch.

A task that reads its samples from files has their images decoded by several processes instead
(`tasks.core.workers`), which know nothing of the task.
"""

import collections
import contextlib
import json
import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, Self

import tasks
from tasks.core import pipes
from tasks.core.registry import look_up
from tasks.core.settings import TerrariumError
from tasks.core.task import Task
from tasks.core.workers import workers

_NUM_WATCHED = 50  # batches that are made here before a process is started
_SLOW = 0.005  # seconds for one batch: a faster one is hardly worth its way through a pipe


class Prefetcher:
    """Training batches of a task, made by other processes where that takes long.

    A context manager, which ends the processes. Batches are made here until the median of the last
    ones took long: of files that are read once, only the first batches do. Where the process fails,
    the batch is made here, with its own error.

    Args:
        task: whose batches are made; one that is not registered is always made here.
        batch_size: samples in a batch.
        seed: of the run.
        is_on: False: all batches are made here.
        num_workers: processes that read files, of a task that does; None: one for each core.
        num_watched: batches in the median.
    """

    def __init__(
        self, task: Task, batch_size: int, seed: int, is_on: bool = True,
        num_workers: int | None = None, num_watched: int = _NUM_WATCHED,
    ) -> None:  # fmt: skip
        self._task, self._arguments = task, ("train", batch_size, seed)
        entry = look_up(task.name, tasks.TASKS)
        is_registered = entry is not None and entry.makes(type(task))
        is_alone = (os.cpu_count() or 1) == 1
        self._is_on = is_on and is_registered and not is_alone and not task.reads_files
        self._readers = workers(num_workers if is_on and task.reads_files else 0)
        self._worker: _Worker | None = None
        self._seconds = collections.deque[float](maxlen=num_watched)

    def __enter__(self) -> Self:
        """Return the prefetcher; its processes are started when they are needed."""
        self._readers.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes."""
        self._close()
        self._readers.__exit__(None, None, None)

    def batches(self, epoch: int, start: int, stage: int | None) -> Iterator[Any]:
        """Yield the batches of a pass from number `start` on, as `task.batches` does."""
        if self._worker is None:
            for batch in self._timed(epoch, start, stage):
                yield batch
                start += 1
                if self._pays():
                    self._worker = _Worker(self._task)
                    break
            else:
                return
        try:
            for batch in self._worker.batches(*self._arguments, epoch, start, stage):
                yield batch
                start += 1
        except pipes.EndedError:
            self._is_on = False
            self._close()
            yield from self._task.batches(*self._arguments, epoch, start, stage)  # type: ignore[arg-type]
        except GeneratorExit:  # in the middle of a pass, which the process would go on with
            self._close()
            raise

    def _timed(self, epoch: int, start: int, stage: int | None) -> Iterator[Any]:
        """Yield batches that are made here, and watch how long it takes."""
        batches = self._task.batches(*self._arguments, epoch, start, stage)  # type: ignore[arg-type]
        while True:
            begun = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self._seconds.append(time.perf_counter() - begun)
            yield batch

    def _pays(self) -> bool:
        """Return whether a process is worth its start."""
        is_watched = self._is_on and len(self._seconds) == self._seconds.maxlen
        return is_watched and statistics.median(self._seconds) >= _SLOW

    def _close(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None


class _Worker:
    """A process that makes batches of a task."""

    def __init__(self, task: Task) -> None:
        self._process = pipes.start("tasks.prefetch", stderr=subprocess.DEVNULL)
        self._first = [[task.name, tasks.settings_of(task)]]

    def batches(self, *arguments: Any) -> Iterator[Any]:
        """Yield the batches of a pass; arguments are those of `task.batches`."""
        lines, self._first = [*self._first, arguments], []
        pipes.send(self._process.stdin, *lines)
        while (batch := pipes.read(self._process.stdout)) is not None:
            yield batch

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):  # what it did not read is not needed
            self._process.stdin.close()
        self._process.stdout.close()


def main() -> None:
    """Make the task of the first line of standard input, and the batches of each further one."""
    answers = pipes.own_output()
    logging.disable()  # the run has said it
    name, settings = json.loads(sys.stdin.readline())
    task = tasks.make(name, **settings)
    for line in sys.stdin:
        for batch in task.batches(*json.loads(line)):
            pipes.write(answers, batch)
        answers.write(bytes(pipes.LENGTH))
        answers.flush()


if __name__ == "__main__":
    with contextlib.suppress(OSError, TerrariumError, KeyboardInterrupt):
        main()
