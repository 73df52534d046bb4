"""The command line with a fault inside its process: `python -m torture.host FAULT main's words`.

Faults: `clock=SEED` (the wall clock jumps back and forth), `slow=SECONDS` (the disk takes up to so
long to flush a file), `nan=STEP` (the loss of that step is NaN; what `best` was then is copied).
"""

import math
import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

YEAR = 365.25 * 86400  # seconds
BEFORE = "best.before"  # the copy of a run's best checkpoint as it was before the NaN


def clock(seed: str) -> None:
    """Let the wall clock jump, at every tenth reading on average, by up to ten years to any side.

    `time.monotonic` and `time.perf_counter` never jump, as with a real one that is set.
    """
    chance, real = random.Random(seed), time.time
    shift = chance.uniform(-10, 10) * YEAR

    def jumping() -> float:
        nonlocal shift
        if chance.random() < 0.1:
            shift = chance.uniform(-10, 10) * YEAR
        return real() + shift

    time.time = jumping
    time.time_ns = lambda: int(jumping() * 1e9)


def slow(seconds: str) -> None:
    """Let `os.fsync` take up to so many seconds longer."""
    chance, longest, real = random.Random(0), float(seconds), os.fsync

    def waiting(file: Any) -> None:
        time.sleep(chance.uniform(0, longest))
        real(file)

    os.fsync = waiting


def nan(step: str) -> None:
    """Multiply the loss of a step by NaN, in whatever agent."""
    from agents.core.training import loop

    real, number = loop.total_loss, int(step)
    take = loop.TrainStep.step

    def poisoned(self: Any, batch: Any, now: int, lr_factor: float) -> Any:
        loop.total_loss = real if now != number else lambda loss: real(loss) * math.nan
        if now == number:
            best = Path(sys.argv[sys.argv.index("--run-dir") + 1]) / "best.safetensors"
            shutil.copy(best, best.with_name(BEFORE))
        return take(self, batch, now, lr_factor)

    loop.TrainStep.step = poisoned  # type: ignore[method-assign]


FAULTS: dict[str, Callable[[str], None]] = {"clock": clock, "slow": slow, "nan": nan}


def main() -> None:
    """Make the fault, then run the command line with the other words."""
    name, _, value = sys.argv.pop(1).partition("=")
    FAULTS[name](value)
    from main import command

    sys.argv[0] = "main.py"
    command()


if __name__ == "__main__":
    main()
