"""Prefetching: batches that take long to make are made beside training, by another process.

Threads would not do: drawing letters holds Python's lock, for which each operation of torch waits.
The process (`python -m tasks.prefetch`) makes the same task from its name and settings, which are
sent as JSON, and returns batches as bytes. It is one batch ahead: it waits with that until it is
read. As a batch is a pure function of seed, epoch and number, it does not matter who makes it, so
that a run can be resumed, and a process can take over or fail, at any batch.
"""

import collections
import contextlib
import importlib
import json
import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import IO, Any, Self

import numpy as np

import tasks
from tasks.core.registry import look_up
from tasks.core.settings import TerrariumError
from tasks.core.task import Task

_NUM_WATCHED = 50  # batches that are made here before a process is started
_SLOW = 0.005  # seconds for one batch: a faster one is hardly worth its way through a pipe
_LENGTH = 8  # bytes of the length of a header; 0: the pass is over


class _EndedError(Exception):
    """The process ended, by an error or because it was killed."""


class Prefetcher:
    """Training batches of a task, made by another process where that takes long.

    A context manager, which ends the process. Batches are made here until the median of the last
    ones took long: of files that are read once, only the first batches do. Where the process fails,
    the batch is made here, with its own error.

    Args:
        task: whose batches are made; one that is not registered is always made here.
        batch_size: samples in a batch.
        seed: of the run.
        is_on: False: all batches are made here.
        num_watched: batches in the median.
    """

    def __init__(
        self, task: Task, batch_size: int, seed: int, is_on: bool = True,
        num_watched: int = _NUM_WATCHED,
    ) -> None:  # fmt: skip
        self._task, self._arguments = task, ("train", batch_size, seed)
        entry = look_up(task.name, tasks.TASKS)
        is_registered = entry is not None and entry.makes(type(task))
        self._is_on = is_on and is_registered and (os.cpu_count() or 1) > 1
        self._worker: _Worker | None = None
        self._seconds = collections.deque[float](maxlen=num_watched)

    def __enter__(self) -> Self:
        """Return the prefetcher."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self._close()

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
        except _EndedError:
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
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tasks.prefetch"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,  # a SIGINT of the terminal is for the run alone
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout
        self._first = [task.name, tasks.settings_of(task)]

    def batches(self, *arguments: Any) -> Iterator[Any]:
        """Yield the batches of a pass; arguments are those of `task.batches`."""
        lines = [self._first, arguments] if self._first else [arguments]
        self._first = []
        try:
            self._requests.write("".join(f"{json.dumps(line)}\n" for line in lines).encode())
            self._requests.flush()
        except OSError:
            raise _EndedError from None
        while (batch := _read(self._answers)) is not None:
            yield batch

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):  # what it did not read is not needed
            self._requests.close()
        self._answers.close()


def _read(stream: IO[bytes]) -> Any:
    """Read a batch; None: the pass is over."""
    length = int.from_bytes(_bytes(stream, _LENGTH), "little")
    if not length:
        return None
    (module, name), fields = json.loads(_bytes(stream, length))

    def value(field: Any) -> Any:
        if isinstance(field, dict):
            dtype, shape = np.dtype(field["dtype"]), field["shape"]
            data = _bytes(stream, dtype.itemsize * int(np.prod(shape, dtype=np.int64)))
            return np.frombuffer(data, dtype).reshape(shape)
        return [value(part) for part in field] if isinstance(field, list) else field

    return getattr(importlib.import_module(module), name)(*map(value, fields))


def _bytes(stream: IO[bytes], num: int) -> bytearray:
    """Read that many bytes, into memory that may be written to."""
    data = bytearray(num)
    if num and stream.readinto(data) < num:  # type: ignore[attr-defined]
        raise _EndedError
    return data


def _write(stream: IO[bytes], batch: Any) -> None:
    """Write a batch: a named tuple of arrays, lists of them, texts, numbers and None."""
    arrays: list[Any] = []

    def plain(field: Any) -> Any:
        if isinstance(field, np.ndarray):
            arrays.append(np.ascontiguousarray(field))
            return {"dtype": field.dtype.str, "shape": field.shape}
        return [plain(part) for part in field] if isinstance(field, (list, tuple)) else field

    kind = type(batch).__module__, type(batch).__qualname__
    header = json.dumps([kind, [plain(field) for field in batch]]).encode()
    stream.write(len(header).to_bytes(_LENGTH, "little") + header)
    for array in arrays:
        stream.write(memoryview(array).cast("B") if array.size else b"")
    stream.flush()


def main() -> None:
    """Make the task of the first line of standard input, and the batches of each further one."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what is printed is no batch
    logging.disable()  # the run has said it
    name, settings = json.loads(sys.stdin.readline())
    task = tasks.make(name, **settings)
    for line in sys.stdin:
        for batch in task.batches(*json.loads(line)):
            _write(answers, batch)
        answers.write(bytes(_LENGTH))
        answers.flush()


if __name__ == "__main__":
    with contextlib.suppress(OSError, TerrariumError, KeyboardInterrupt):
        main()
