"""How fast sums become codes, and words images: samples a second, one thread."""

import time

import tasks
from benchmarks.measure import Figures, median, table
from tasks.core.task import Task
from tasks.handwriting import strokes

ROUNDS = 9
TASKS = ("add3x2", "add3x3", "add9x9")
ACCEPTED = 1_000_000  # samples a second, of add3x2 and add3x3
ACCEPTED_IMAGES = 500  # words a second, also in the first pass


def samples_per_second(task: Task, epoch: int, batch_size: int = 10_000, seed: int = 0) -> float:
    """Return the speed at which an epoch is drawn, split, encoded and cut into batches.

    Seconds are those of the thread, so that other work on the machine does not count.
    """
    begun = time.thread_time()
    count = sum(len(batch[0]) for batch in task.batches("train", batch_size, seed, epoch))
    return count / (time.thread_time() - begun)


def images_per_second(rounds: int) -> dict[str, float]:
    """Return the median speed of drawing words, in a first pass over new writers and a second."""
    task = tasks.make("handwriting")
    task.samples("test", 1)  # words and fonts are read
    speeds: dict[str, list[float]] = {"first pass": [], "second pass": []}
    for seed in range(rounds):
        strokes.forget()
        for epoch, found in enumerate(speeds.values()):
            found.append(samples_per_second(task, epoch, 32, seed))
    return {name: median(found) for name, found in speeds.items()}


def measure(rounds: int = ROUNDS) -> Figures:
    """Return the median speed of each task; drawing the numbers and choosing the split count."""
    speeds: dict[str, list[float]] = {name: [] for name in TASKS}
    for epoch in range(rounds):
        for name, found in speeds.items():
            found.append(samples_per_second(tasks.make(name), epoch))
    return {
        "samples_per_s": {name: median(found) for name, found in speeds.items()},
        "images_per_s": images_per_second(rounds),
    }


def report(figures: Figures) -> str:
    """Return the figures as tables."""
    rows = [
        [name, f"{speed:,.0f}", f"≥ {ACCEPTED:,}" if name in ("add3x2", "add3x3") else ""]
        for name, speed in figures["samples_per_s"].items()
    ]
    images = [
        [name, f"{speed:,.0f}", f"≥ {ACCEPTED_IMAGES:,}"]
        for name, speed in figures["images_per_s"].items()
    ]
    sums = table(["drawing and encoding sums", "samples/s", "accepted"], rows)
    return f"{sums}\n\n{table(['drawing words of handwriting', 'images/s', 'accepted'], images)}"
