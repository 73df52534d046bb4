"""What it is worth to make batches beside training: steps a second with `prefetch` and without."""

from collections.abc import Iterator
from typing import Any

import agents
from benchmarks.measure import Figures, median, table
from benchmarks.steps import seconds_of_windows

ROUNDS = 7
_FIRST = 60  # steps, after which another process makes the batches where that pays
STEPS = 20  # in a window; the two sides take turns
TASKS = ("handwriting", "digit_strings")


def windows(task: str, prefetch: bool, num: int) -> Iterator[float]:
    """Yield the steps a second of windows of training, the first without the start of a process."""
    agent: Any = agents.make(
        "ctc_reader", task=task, steps=10**6, prefetch=prefetch, threads=1, device="cpu"
    )
    for seconds in seconds_of_windows(agent, _FIRST, num):
        yield num / seconds


def measure(rounds: int = ROUNDS, steps: int = 0) -> Figures:
    """Return the median steps a second of each task, without and with prefetching."""
    figures: Figures = {}
    num = steps or STEPS
    for task in TASKS:
        sides = {False: windows(task, False, num), True: windows(task, True, num)}
        speeds: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(rounds):
            for side, speed in sides.items():
                speeds[side].append(next(speed))
        for speed in sides.values():
            speed.close()  # type: ignore[attr-defined]
        ratio = median([b / a for a, b in zip(speeds[False], speeds[True], strict=True)])
        figures[task] = {
            "without": median(speeds[False]), "with": median(speeds[True]), "ratio": ratio,
        }  # fmt: skip
    return figures


def report(figures: Figures) -> str:
    """Return the figures as a table."""
    rows = [
        [task, f"{own['without']:.2f}", f"{own['with']:.2f}", f"{own['ratio']:.2f}"]
        for task, own in figures.items()
    ]
    return table(["ctc_reader, steps a second", "in the loop", "beside it", "ratio"], rows)
