"""Worker processes that read files: images are decoded beside training, some batches ahead of it.

As the workers of torch's DataLoader, which cannot be imported here. Threads would not do: opening a
small image holds Python's lock most of the time. A worker is given paths, and returns arrays: it
knows neither the task nor its index, so its memory does not grow with the number of files. It is a
new interpreter (`python -m tasks.core.workers`), never a fork, which would not be safe beside the
threads of torch. What is read, and in which order, is determined by the process that asks: a run
does not depend on the number of workers.
"""

import collections
import contextlib
import functools
import importlib
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from tasks.core import pipes
from tasks.core.settings import ConfigError, TerrariumError

PREFETCHED = 2  # batches that are read ahead
START_AFTER = 1.0  # seconds of reading in this process, after which workers are worth their start
_MAX_DEFAULT = 8  # workers, and threads
_WATCH = 1.0  # seconds between looks of a worker at whether its parent lives
_PART = 256  # items of which a thread returns all results at once

T = TypeVar("T")
U = TypeVar("U")


class WorkerError(TerrariumError):
    """A worker process ended before it returned what it was to read."""


class FileReader(NamedTuple):
    """A function that reads a file, by its name, so that another process can call it."""

    module: str
    name: str
    arguments: tuple[Any, ...] = ()  # of JSON types, after the first, which says what is read

    def __call__(self, item: Any) -> Any:
        """Read one file: return an array, or a list of arrays."""
        function = getattr(importlib.import_module(self.module), self.name)
        return function(item, *self.arguments)


class Answer(NamedTuple):
    """What a worker returns: what it read, or the fields of a ConfigError, or a traceback."""

    results: list[Any]
    error: list[str] | None = None


def default_num_workers() -> int:
    """Return the number of cores for each process of this machine's run, at most 8."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        cores = os.cpu_count() or 1
    processes = os.environ.get("LOCAL_WORLD_SIZE", "1")  # of a run that torchrun started
    shared_by = int(processes) if processes.isdecimal() else 1
    return max(1, min(_MAX_DEFAULT, cores // max(1, shared_by)))


@contextlib.contextmanager
def workers(num: int | None) -> Iterator[None]:
    """Let files be read by `num` processes in a block; None: one for each core.

    They are started once reading in this process took long, and end with the block.
    """
    pool = _Workers(default_num_workers() if num is None else num)
    _pools.append(pool)
    try:
        yield
    finally:
        _pools.remove(pool)
        pool.close()


def begin(reader: FileReader, items: Sequence[Any]) -> Callable[[], list[Any]]:
    """Begin to read; the function that is returned waits, and returns what was read of each item.

    Raises (the function):
        ConfigError: a file cannot be read; it names the file.
        WorkerError: a worker was killed; it names the files that it was to read.
    """
    pool = _current()
    if pool is None:
        return lambda: map_threads(reader.__call__, items)
    return pool.begin(reader, items)


def read_ahead(items: Iterable[T], begin_item: Callable[[T], Callable[[], U]]) -> Iterator[U]:
    """Yield what is read for each item, in order; with workers, the next ones are begun before."""
    waiting = collections.deque[Callable[[], U]]()
    for item in items:
        waiting.append(begin_item(item))
        pool = _current()
        while len(waiting) > (PREFETCHED if pool is not None and pool.is_running else 0):
            yield waiting.popleft()()
    while waiting:
        yield waiting.popleft()()


def map_threads(read: Callable[[T], U], items: Sequence[T]) -> list[U]:
    """Return `read(item)` of each item, computed by threads."""
    num_threads = min(_MAX_DEFAULT, os.cpu_count() or 1)
    if len(items) < 2 or num_threads < 2:
        return [*map(read, items)]
    size = min(_PART, -(-len(items) // (2 * num_threads)))

    def read_part(first: int) -> list[U]:
        return [read(item) for item in items[first : first + size]]

    with ThreadPoolExecutor(num_threads) as pool:
        parts = pool.map(read_part, range(0, len(items), size))
        return [result for part in parts for result in part]


class _Workers:
    """Worker processes, each with a thread here that waits for it."""

    def __init__(self, num: int) -> None:
        self._num, self._pid = num, os.getpid()
        self._seconds = 0.0
        self._threads: ThreadPoolExecutor | None = None
        self._idle = queue.SimpleQueue[_Worker]()
        self._all: list[_Worker] = []

    @property
    def is_usable(self) -> bool:
        """Whether it has workers of this process: one that was forked has none."""
        return self._num > 0 and self._pid == os.getpid()

    @property
    def is_running(self) -> bool:
        """Whether processes are started."""
        return self._threads is not None

    def begin(self, reader: FileReader, items: Sequence[Any]) -> Callable[[], list[Any]]:
        """Begin to read; see the function of that name."""
        if self._threads is None:
            if self._seconds < START_AFTER:
                return functools.partial(self._read_here, reader, items)
            self._threads = ThreadPoolExecutor(self._num, "reading")
            for _ in range(self._num):
                self._start()
        size = max(1, -(-len(items) // self._num))
        parts = [items[first : first + size] for first in range(0, len(items), size)]
        futures = [self._threads.submit(self._ask, reader, part) for part in parts]
        return lambda: [result for future in futures for result in future.result()]

    def close(self) -> None:
        """End the processes."""
        self._num = 0
        if self._threads is not None and self._pid == os.getpid():
            self._threads.shutdown(wait=False, cancel_futures=True)
            for worker in [*self._all]:
                worker.kill()
            self._threads.shutdown()
            for worker in self._all:
                worker.close()

    def _read_here(self, reader: FileReader, items: Sequence[Any]) -> list[Any]:
        begun = time.perf_counter()
        results = map_threads(reader.__call__, items)
        self._seconds += time.perf_counter() - begun
        return results

    def _start(self) -> None:
        worker = _Worker()
        self._all.append(worker)
        self._idle.put(worker)

    def _ask(self, reader: FileReader, items: Sequence[Any]) -> list[Any]:
        """Let an idle worker read; one that was killed is replaced for those who ask later."""
        worker = self._idle.get()
        try:
            answer = worker.ask(reader, items)
        except pipes.EndedError:
            code = worker.close()
            if self._num:  # otherwise they are being ended
                self._all.remove(worker)
                self._start()
            raise WorkerError(_describe_end(code, reader, items)) from None
        self._idle.put(worker)
        if answer.error is None:
            return answer.results
        if len(answer.error) == 1:
            raise WorkerError(f"a worker process failed: {answer.error[0]}")
        raise ConfigError(*answer.error)


class _Worker:
    """A process that reads files."""

    def __init__(self) -> None:
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._process = pipes.start("tasks.core.reading_worker", one)

    def ask(self, reader: FileReader, items: Sequence[Any]) -> Answer:
        """Return what it reads."""
        pipes.send(self._process.stdin, [*reader, list(items)])
        answer = pipes.read(self._process.stdout)
        assert isinstance(answer, Answer)
        return answer

    def kill(self) -> None:
        """End the process."""
        self._process.kill()

    def close(self) -> int:
        """End the process; return the code with which it ended."""
        self._process.kill()
        code: int = self._process.wait()
        with contextlib.suppress(OSError):  # what it did not read is not needed
            self._process.stdin.close()
        self._process.stdout.close()
        return code


def _describe_end(code: int, reader: FileReader, items: Sequence[Any]) -> str:
    how = f"with code {code}"
    if code < 0:
        how = f"by signal {-code} ({signal.Signals(-code).name})"
    first = items[0] if isinstance(items[0], str) else json.dumps(items[0])
    more = f" and {len(items) - 1} others" if len(items) > 1 else ""
    return (
        f"num_workers: a worker process ended {how} while it read {first}{more} "
        f"({reader.module}.{reader.name}); accepted: memory for all workers, or fewer of them "
        "(num_workers=0: files are read in the process that trains)"
    )


_pools: list[_Workers] = []


def _current() -> _Workers | None:
    """Return the workers of the innermost block, if it has some."""
    return next((pool for pool in reversed(_pools) if pool.is_usable), None)


def answer_of(reader: FileReader, items: Sequence[Any]) -> Answer:
    """Return what a worker answers."""
    try:
        return Answer([reader(item) for item in items])
    except ConfigError as error:
        return Answer([], [error.place, error.field, error.problem, error.accepted])
    except Exception:
        return Answer([], [traceback.format_exc(limit=-3)])


def serve() -> None:
    """Answer each line of standard input, until it ends or the parent does."""
    answers = pipes.own_output()
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    for line in sys.stdin.buffer:
        module, name, arguments, items = json.loads(line)
        pipes.write(answers, answer_of(FileReader(module, name, tuple(arguments)), items))


def _end_with_parent(parent: int) -> None:
    """End the process once its parent ended: forks of that may hold the pipe open."""
    while os.getppid() == parent:
        time.sleep(_WATCH)
    os._exit(0)
