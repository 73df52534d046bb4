"""Worker processes that read files: the same images, errors that name files, and no orphans."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tasks
from tasks.core import workers
from tasks.core.settings import ConfigError
from tasks.core.workers import FileReader, WorkerError, begin, read_ahead
from tasks.prefetch import Prefetcher
from tests.helpers.images import PIXELS, save
from tests.tasks.handwriting.test_line_images import add_lines
from tests.tasks.handwriting.test_page_xml import add_pages
from tests.tasks.test_prefetch import same

ROOT = Path(__file__).parents[2]
SIZE = FileReader("os.path", "getsize")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start workers without waiting until reading took long."""
    monkeypatch.setattr(workers, "START_AFTER", 0.0)


def add_pictures(folder: Path) -> None:
    """Save ninety pictures with three labels."""
    for number, pixels in enumerate(PIXELS):
        save(folder / ("ant", "bee", "fly")[number % 3] / f"{number:02}.bmp", pixels)


def add_words(folder: Path) -> None:
    """Save forty images of lines with texts."""
    folder.mkdir()
    add_lines(folder, 40)


KINDS: dict[str, Callable[[Path], None]] = {
    "image_folder": add_pictures,
    "line_images": add_words,
    "page_xml": lambda folder: add_pages(folder, 20),
}


def running() -> Any:
    """Return the workers that are running."""
    pool = workers._current()
    assert pool is not None
    assert pool.is_running
    return pool


@pytest.mark.parametrize("name", KINDS)
def test_batches_are_those_that_are_read_here(name: str, tmp_path: Path) -> None:
    """Who decodes changes nothing, in two passes and from any batch on, with memory or without."""
    KINDS[name](tmp_path / "files")
    passes = ((0, 1), (1, 0), (1, 1))  # epoch, start
    path = str(tmp_path / "files")
    alone = tasks.make(name, path=path, cache_memory=0.0)
    right = [[*alone.batches("train", 7, 3, *which)] for which in passes]
    with workers.workers(2):
        for memory in (0.0, 1.0):
            task = tasks.make(name, path=path, cache_memory=memory)
            for which, own in zip(passes, right, strict=True):
                mine = [*task.batches("train", 7, 3, *which)]
                assert len(mine) == len(own) > 0
                assert all(map(same, mine, own))
        pool = running()
    assert all(worker._process.poll() is not None for worker in pool._all)


def test_a_broken_file_is_named_when_it_is_met(tmp_path: Path) -> None:
    """One that breaks off, or vanished after the start, is the error of its batch alone."""
    add_pictures(tmp_path)
    sizes = {"height": 5, "width": 4}
    task = tasks.make("image_folder", path=str(tmp_path), cache_memory=0.0, **sizes)
    names = [row.question for row in task.rows(*answers(task))]
    whole = (tmp_path / names[10]).read_bytes()
    (tmp_path / names[10]).write_bytes(whole[: len(whole) // 2])
    (tmp_path / names[20]).unlink()
    with Prefetcher(task, 5, 0, num_workers=2) as prefetcher:
        batches = prefetcher.batches(0, 0, None)
        assert len([next(batches), next(batches)]) == 2
        with pytest.raises(ConfigError, match=rf"{names[10]}: cannot be read: .*; accepted: a who"):
            next(batches)
        rest = prefetcher.batches(0, 3, None)
        assert len(next(rest).image) == 5
        with pytest.raises(ConfigError, match=rf"{names[20]}: cannot be read: .*No such file"):
            next(rest)


def answers(task: Any) -> tuple[Any, Any]:
    """Return labels and batches of a first pass, in its order."""
    batches = list(task.batches("train", 1000, 0, 0))
    assert len(batches) == 1
    return batches[0].label, batches[0]


def test_a_page_that_changes_is_named(tmp_path: Path) -> None:
    """XML that lost its line, or is gone, since the index was made is an error with its name."""
    add_pages(tmp_path, 3)
    task = tasks.make("page_xml", path=str(tmp_path), cache_memory=0.0)
    assert task.num_samples_in("train") == 1
    name = task.pages.names[0]
    text = (tmp_path / name).read_text()
    (tmp_path / name).write_text(text.replace("<Unicode>ab</Unicode>", "<Unicode></Unicode>"))
    with pytest.raises(ConfigError, match=rf"{name}: was changed since the start: .*has no text"):
        task.samples("train", 1)
    (tmp_path / name).unlink()
    with pytest.raises(ConfigError, match=rf"{name}: is no longer there"):
        task.samples("train", 1)


def test_a_killed_worker_is_an_error_and_is_replaced(tmp_path: Path) -> None:
    """Files that a killed process was to read are named; what is asked later is read."""
    files = [str(save(tmp_path / f"{number}.bmp", PIXELS[0])) for number in range(6)]
    sizes = [Path(path).stat().st_size for path in files]
    with workers.workers(2):
        assert begin(SIZE, files)() == sizes
        for worker in running()._all:
            worker.kill()
            worker._process.wait()
        with pytest.raises(WorkerError, match=r"signal 9 \(SIGKILL\) while it read .*0\.bmp and 2"):
            begin(SIZE, files)()
        assert begin(SIZE, files)() == sizes
        with pytest.raises(WorkerError, match="ended with code 3"):
            begin(FileReader("os", "_exit"), [3])()


def test_a_bug_in_a_worker_is_shown_here() -> None:
    """An exception that is not about a file comes with its traceback."""
    with workers.workers(1), pytest.raises(WorkerError, match="TypeError"):
        begin(SIZE, [1.5])()


def test_the_next_batches_are_begun_before_they_are_asked_for() -> None:
    """With workers two more are begun; without them each is read when its turn comes."""
    begun: list[int] = []

    def begin_one(item: int) -> Callable[[], list[Any]]:
        begun.append(item)
        return begin(FileReader("builtins", "abs"), [-item])

    def first(num: int | None) -> Iterator[tuple[list[Any], int]]:
        begun.clear()
        with workers.workers(num):
            for result in read_ahead(range(5), begin_one):
                yield result, len(begun)

    assert list(first(0)) == [([item], item + 1) for item in range(5)]
    assert list(first(2)) == [([item], min(5, item + 3)) for item in range(5)]


def test_workers_are_started_where_reading_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quick read is made here, and none of a block outlives it, in whatever order blocks end."""
    monkeypatch.setattr(workers, "START_AFTER", 1e9)
    with workers.workers(1):
        pool = workers._current()
        assert begin(FileReader("os", "getpid"), [])() == []
        assert begin(FileReader("builtins", "abs"), [-2, -3])() == [2, 3]
        assert pool is not None
        assert not pool.is_running
    one, two = workers.workers(1), workers.workers(1)
    one.__enter__()
    two.__enter__()
    one.__exit__(None, None, None)
    assert workers._current() is not None
    two.__exit__(None, None, None)
    assert workers._current() is None


@pytest.mark.parametrize(("ranks", "expected"), [("1", 4), ("2", 2), ("16", 1), ("many", 4)])
def test_ranks_share_the_cores(ranks: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that torchrun starts on a machine have their part of its cores each."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
    assert workers.default_num_workers() == expected


STARTED = """
import os, sys, time
from tasks.core import workers
workers.START_AFTER = 0.0
with workers.workers(2):
    workers.begin(workers.FileReader("builtins", "abs"), [-1, -2])()
    print(*[worker._process.pid for worker in workers._current()._all], flush=True)
    if {forks}:
        if os.fork() == 0:
            print(os.getpid(), flush=True)
            time.sleep(600)
    time.sleep(600)
"""


@pytest.mark.parametrize("forks", [False, True])
def test_workers_end_with_their_parent(forks: bool) -> None:
    """They end when it is killed, also where a fork of it lives on and holds their pipes open."""
    run = subprocess.Popen(
        [sys.executable, "-c", STARTED.format(forks=forks)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert run.stdout is not None
    found = [int(word) for word in run.stdout.readline().split()]
    fork = int(run.stdout.readline()) if forks else 0
    try:
        assert len(found) == 2
        assert all(map(is_alive, found))
        run.kill()
        run.wait()
        deadline = time.monotonic() + 30
        while any(map(is_alive, found)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(map(is_alive, found))
    finally:
        if fork:
            os.kill(fork, signal.SIGKILL)
        run.stdout.close()


def is_alive(process: int) -> bool:
    """Return whether a process runs, and is not a zombie."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


STARTED_BY = """
import multiprocessing, os, sys
from tasks.core import workers

def read(queue):
    workers.START_AFTER = 0.0
    inherited = workers.begin(workers.FileReader("builtins", "abs"), [-1])()
    with workers.workers(2):
        own = workers.begin(workers.FileReader("builtins", "abs"), [-2, -3])()
        running = workers._current().is_running
    queue.put((inherited, own, running))

if __name__ == "__main__":
    workers.START_AFTER = 0.0
    context = multiprocessing.get_context(sys.argv[1])
    with workers.workers(2):
        workers.begin(workers.FileReader("builtins", "abs"), [-1])()
        queue = context.SimpleQueue()
        process = context.Process(target=read, args=(queue,))
        process.start()
        print(queue.get())
        process.join(60)
        print(workers.begin(workers.FileReader("builtins", "abs"), [-4])(), process.exitcode)
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_that_are_forked_or_spawned_have_their_own(method: str, tmp_path: Path) -> None:
    """In a child of multiprocessing, those of the parent are not used, and its own run."""
    script = tmp_path / "started.py"
    script.write_text(STARTED_BY)
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(script), method], text=True,
        capture_output=True, timeout=120, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["([1], [2, 3], True)", "[4] 0"]
