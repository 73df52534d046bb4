"""Data that outgrows memory: image folders of 10³ to 10⁶ files, and decoding beside a DataLoader.

The folders are made of a thousand different small JPEG files, each linked many times, so that a
million of them takes seconds and no room. Pages need images that all differ, so those are written:
a million take 4 GB. Memory and time of the start are those of a fresh process without torch for
each size. Then the same files are decoded, in turns, by the workers of the task and by those of
torch's DataLoader, as many of each, and with the same function.
"""

import itertools
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tasks
from benchmarks.measure import Figures, median, own, run_child, scratch, table, tell
from tasks.core import workers
from tasks.core.images import read_pixels
from tasks.handwriting.page_format import Page, TextLine
from tasks.handwriting.page_writing import write_page

ROUNDS = 7
COUNTS = (1_000, 10_000, 100_000, 1_000_000)
NUM_WORKERS = 2
STEPS = 40  # batches in a window; the two sides take turns
_BATCH = 64
_SIDE = 96  # pixels of a file; decoded to _SHAPE
_SHAPE = (3, 64, 64)
_NUM_DIFFERENT = 1_000
_NUM_LABELS = 10
_PER_FOLDER = 1_000
_PLAIN: dict[str, Any] = {"height": _SHAPE[1], "width": _SHAPE[2], "cache_memory": 0.0}
_SETTINGS: dict[str, dict[str, Any]] = {
    "image_folder": _PLAIN,
    "page_xml": {"charset": "ab", "cache_memory": 0.0},
}
_KINDS = {"plain": "", "first": "cache", "kept": "cache"}  # what is measured, with which cache


def make_files(folder: Path) -> list[Path]:
    """Write different JPEG files of smooth noise, about 3 kB each."""
    from PIL import Image

    rng = np.random.default_rng(0)
    folder.mkdir()
    paths = []
    for number in range(_NUM_DIFFERENT):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8))
        paths.append(folder / f"{number}.jpg")
        coarse.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC).save(paths[-1], quality=85)
    return paths


def link_files(folder: Path, files: Sequence[Path], num: int) -> None:
    """Make an image folder of `num` files: links to `files`, a thousand in each folder."""
    for first in range(0, num, _PER_FOLDER):
        at = first // _PER_FOLDER
        inner = folder / f"label{at % _NUM_LABELS}" / f"{at:04}"
        inner.mkdir(parents=True)
        for number in range(first, min(first + _PER_FOLDER, num)):
            os.link(files[number % len(files)], inner / f"{number:07}.jpg")
    for label in range(_NUM_LABELS):  # of a small folder some labels have no thousand of their own
        inner = folder / f"label{label}"
        if not inner.exists():
            inner.mkdir()
            os.link(files[label], inner / "0.jpg")


def write_pages(folder: Path, files: Sequence[Path], num: int) -> None:
    """Make a folder of `num` pages with a line each: an image of its own, and a link to its XML."""
    points = np.array([[5, 20], [90, 20], [90, 70], [5, 70]], float)
    line = TextLine("l", points, points[2:] - [0, 10], "ab")
    page = Page("", _SIDE, _SIDE, [line])
    images = [path.read_bytes() for path in files]
    for number in range(num):
        inner = folder / f"{number // _PER_FOLDER:04}"
        if number % _PER_FOLDER == 0:
            inner.mkdir(parents=True)
            write_page(xml := inner / f"{number:07}.xml", page)
        else:
            os.link(xml, inner / f"{number:07}.xml")
        (inner / f"{number:07}.jpg").write_bytes(images[number % len(images)] + b"%d" % number)


def memory(process: int | str) -> dict[str, float]:
    """Return megabytes (2^20 bytes) of a process: resident (RSS), its share (PSS), and the peak."""
    found = {}
    for name, key in (("smaps_rollup", "Rss"), ("smaps_rollup", "Pss"), ("status", "VmHWM")):
        for line in Path(f"/proc/{process}/{name}").read_text().splitlines():
            if line.startswith(f"{key}:"):
                found[key] = int(line.split()[1]) / 1024
    return found


def children() -> list[str]:
    """Return the numbers of the child processes of this one."""
    lists = Path("/proc/self/task").glob("*/children")
    return [child for path in lists for child in path.read_text().split()]


def look(name: str, folder: str, cache: str | None, num_batches: int) -> Figures:
    """Start on a folder in this process; return seconds to the first batch, and memory."""
    before = memory("self")
    begun = time.perf_counter()
    task = tasks.make(name, path=folder, cache=cache, **_SETTINGS[name])
    with workers.workers(NUM_WORKERS):
        batches = task.batches("train", _BATCH, 0, 0)
        next(batches)
        seconds = time.perf_counter() - begun
        for _ in itertools.islice(batches, num_batches):
            pass
        read = [memory(child) for child in children()]
        after = memory("self")
    return {
        "seconds": seconds, "before": before["Rss"], "main": after["Rss"], "peak": after["VmHWM"],
        "worker": max(each["Rss"] for each in read),
        "all_pss": sum(each["Pss"] for each in (after, *read)),
    }  # fmt: skip


def decoded(path: str) -> Iterator[float]:
    """Yield images a second of windows of batches that the task's workers decode."""
    import torch

    task = tasks.make("image_folder", path=path, **_PLAIN)
    with workers.workers(NUM_WORKERS):
        batches = itertools.chain.from_iterable(
            task.batches("train", _BATCH, 0, epoch) for epoch in itertools.count()
        )
        yield from windows(torch.as_tensor(batch.image) for batch in batches)


class Files:
    """A dataset for torch's DataLoader, of the same files and the same decoding."""

    def __init__(self, folder: Path) -> None:
        names = sorted(folder.rglob("*.jpg"))
        self.names = np.array([os.fspath(path) for path in names])

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.names)

    def __getitem__(self, at: int) -> Any:
        """Return a picture (3, 64, 64), float32."""
        path = str(self.names[at])
        return read_pixels(Path(path), _SHAPE, path, "") / np.float32(255)


def loaded(folder: Path) -> Iterator[float]:
    """Yield images a second of windows of batches that torch's DataLoader decodes."""
    from torch.utils.data import DataLoader

    loader: Any = DataLoader(
        Files(folder), batch_size=_BATCH, shuffle=True, num_workers=NUM_WORKERS,  # type: ignore[arg-type]
        persistent_workers=True,
    )  # fmt: skip
    yield from windows(itertools.chain.from_iterable(loader for _ in itertools.count()))


def windows(batches: Iterator[Any]) -> Iterator[float]:
    """Yield images a second of windows; before the first, the workers have been started."""
    for _ in itertools.islice(batches, STEPS):
        pass
    while True:
        begun = time.perf_counter()
        num = sum(len(image) for image in itertools.islice(batches, STEPS))
        yield num / (time.perf_counter() - begun)


def measure(rounds: int = ROUNDS, limit: int = 0) -> Figures:
    """Return memory and start by the number of files (at most `limit`), and images a second."""
    figures: Figures = {name: {} for name in _SETTINGS}
    makers = {"image_folder": link_files, "page_xml": write_pages}
    with scratch() as folder:
        files = make_files(folder / "files")
        for num in (num for num in COUNTS if num <= (limit or num)):
            for name, make in makers.items():
                tell(f"{num:,} files of {name}")
                path = folder / f"{name}-{num}"
                make(path, files, num)
                figures[name][str(num)] = starts(name, path)
        figures["speed"] = speeds(folder / f"image_folder-{min(num, 10_000)}", rounds)
    return figures


def starts(name: str, path: Path) -> Figures:
    """Return what fresh processes measure: without a cache, with a new one, and with one kept."""
    found = {}
    for kind, cache in _KINDS.items():
        call = own("-m", "benchmarks.files", name, str(path), cache and f"{path}-{cache}")
        found[kind] = json.loads(run_child(call))
    return found


def speeds(folder: Path, rounds: int) -> Mapping[str, float]:
    """Return the median images a second of the task's workers and of the DataLoader, in turns."""
    sides = {"workers": decoded(str(folder)), "DataLoader": loaded(folder)}
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            found[name].append(next(side))
    for side in sides.values():
        side.close()  # type: ignore[attr-defined]
    ratios = [a / b for a, b in zip(found["workers"], found["DataLoader"], strict=True)]
    return {**{name: median(values) for name, values in found.items()}, "ratio": median(ratios)}


def report(figures: Figures) -> str:
    """Return the figures as two tables; memory in megabytes (2^20 bytes)."""
    columns = ("main", "peak", "worker", "all_pss")
    rows = []
    for name in _SETTINGS:
        for num, one in figures[name].items():
            times = [f"{one[kind]['seconds']:.1f}" for kind in ("plain", "kept")]
            rows.append([name, num, *times, *(f"{one['plain'][c]:.0f}" for c in columns)])
    head = ["task", "files", "s to first batch", "with cache"]
    head += ["main, MB", "its peak", "a worker", "all, PSS"]
    speed = figures["speed"]
    names = ["workers", "DataLoader", "ratio"]
    values = [f"{speed['workers']:.0f}", f"{speed['DataLoader']:.0f}", f"{speed['ratio']:.2f}"]
    both = table(["images a second", *names], [[f"{NUM_WORKERS} workers each", *values]])
    return f"{table(head, rows)}\n\n{both}"


if __name__ == "__main__":
    workers.START_AFTER = 0.0
    print(json.dumps(look(sys.argv[1], sys.argv[2], sys.argv[3] or None, STEPS)))
