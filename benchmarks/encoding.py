"""How fast sums become codes: samples a second, one thread."""

import time

import tasks
from benchmarks.measure import Figures, median, table
from tasks.core.task import Task

ROUNDS = 9
TASKS = ("add3x2", "add3x3", "add9x9")
ACCEPTED = 1_000_000  # samples a second, of add3x2 and add3x3


def samples_per_second(task: Task, epoch: int) -> float:
    """Return the speed at which an epoch is drawn, split, encoded and cut into batches."""
    begun = time.perf_counter()
    count = sum(len(batch[0]) for batch in task.batches("train", 10_000, 0, epoch))
    return count / (time.perf_counter() - begun)


def measure(rounds: int = ROUNDS) -> Figures:
    """Return the median speed of each task; drawing the numbers and choosing the split count."""
    speeds: dict[str, list[float]] = {name: [] for name in TASKS}
    for epoch in range(rounds):
        for name, found in speeds.items():
            found.append(samples_per_second(tasks.make(name), epoch))
    return {"samples_per_s": {name: median(found) for name, found in speeds.items()}}


def report(figures: Figures) -> str:
    """Return the figures as a table."""
    rows = [
        [name, f"{speed:,.0f}", f"≥ {ACCEPTED:,}" if name in ("add3x2", "add3x3") else ""]
        for name, speed in figures["samples_per_s"].items()
    ]
    return table(["drawing and encoding sums", "samples/s", "accepted"], rows)
