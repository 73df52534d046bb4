"""Runs the command line in forked children that kill themselves at chosen points.

Forking from a process that has imported torch, but computed nothing, saves the import of each run.
Used by test_crash: `python crash_host.py FOLDER SEED KILLS` prints one line of JSON for each child.
"""

import itertools
import json
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from agents.core.runs import checkpoint
from agents.core.runs.run_folder import RunFolder
from agents.core.training import loop, trainer
from agents.core.training.optimizer import Optimizer
from main import main

COMMAND = [
    "--agent", "seq2seq_adder", "--task", "add2x2", "--device", "cpu", "--set=hidden_size=12",
    "--set=task.num_samples=300",
    "--set=steps=200", "--set=batch_size=8", "--set=save_every=3", "--set=eval_every=8",
    "--set=eval_samples=16", "--set=log_every=4", "--set=keep_checkpoints=2", "--set=dropout=0.2",
    "--set=num_layers=2", "--set=precision=fp32", "--set=target_score=null",
]  # fmt: skip


def die() -> None:
    """End this process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


def dying(call: Callable[..., Any], nth: int, *, before: bool) -> Callable[..., Any]:
    """Return `call` so that its nth call kills the process, before or after it does its work."""
    count = itertools.count(1)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        last = next(count) == nth
        if last and before:
            die()
        result = call(*arguments, **options)
        if last:
            die()
        return result

    return wrapped


class HalfWritten:
    """A file of which the nth write stops in the middle of its bytes."""

    def __init__(self, count: "itertools.count[int]", nth: int, file: Any) -> None:
        self.count, self.nth, self.file = count, nth, file

    def __enter__(self) -> "HalfWritten":
        """Enter as the file does."""
        self.file.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        """Leave as the file does."""
        self.file.__exit__(*error)

    def __getattr__(self, name: str) -> Any:
        """Pass everything else on to the file."""
        return getattr(self.file, name)

    def write(self, data: bytes) -> int:
        """Write, or write half and die."""
        if next(self.count) == self.nth:
            self.file.write(data[: len(data) // 2])
            self.file.flush()
            die()
        return int(self.file.write(data))


def arm(point: str, nth: int) -> None:
    """Make this process die at the nth passing of a point."""
    before = point.endswith("before")
    if point.startswith("step"):
        Optimizer.step = dying(Optimizer.step, nth, before=before)
    elif point.startswith("backward"):
        loop.get_total_norm = dying(loop.get_total_norm, nth, before=before)
    elif point.startswith("evaluate"):
        trainer.Trainer._evaluate = dying(trainer.Trainer._evaluate, nth, before=before)
    elif point.startswith("flush"):
        os.fsync = dying(os.fsync, nth, before=before)
    elif point.startswith("rename"):
        Path.replace = dying(Path.replace, nth, before=before)
    elif point == "write-half":
        count, plain = itertools.count(1), Path.open

        def half(self: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            file = plain(self, mode, *arguments, **options)
            return HalfWritten(count, nth, file) if self.name.endswith(".tmp") else file

        Path.open = half
    else:
        raise ValueError(point)


POINTS = ["step-before", "step-after", "backward-after", "evaluate-before", "evaluate-after",
          "flush-before", "flush-after", "rename-before", "rename-after", "write-half"]  # fmt: skip
SAVING = POINTS[5:]  # inside the writing of a file


def count_steps(path: Path) -> None:
    """Add a byte to a file after each step that this process takes."""
    file, plain = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), Optimizer.step

    def counted(self: Optimizer, *arguments: Any) -> None:
        plain(self, *arguments)
        os.write(file, b".")

    Optimizer.step = counted


def newest_step(folder: str) -> int:
    """Return the step of the newest checkpoint, 0 where there is none."""
    names = [path.stem for path in RunFolder(Path(folder)).checkpoints()]
    return int(names[0].removeprefix("step-")) if names else 0


def run_child(folder: str, point: str, nth: int) -> int:
    """Run the command in a child armed to die; return how it ended, as waitpid has it."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    torch.set_num_threads(1)
    checkpoint.RECORDS_A_FILE = 10  # so that the run dies inside files of its history too
    count_steps(Path(f"{folder}.steps"))
    if point:
        arm(point, nth)
    with Path(os.devnull).open("w") as null:
        sys.stdout = sys.stderr = null
        code = main([*COMMAND, "--run-dir", folder])
    os._exit(code)


def host(folder: str, seed: int, kills: int) -> None:
    """Kill a run `kills` times, at points in turn and moments by chance, and then let it end."""
    chance = random.Random(seed)
    for number in range(kills):
        point = POINTS[number % len(POINTS)]
        most = {"evaluate": 2, "write": 12, "rename": 12, "flush": 24}.get(point.split("-")[0], 15)
        nth = chance.randint(1, most)
        before, taken = newest_step(folder), Path(f"{folder}.steps")
        taken.write_bytes(b"")
        status = run_child(folder, point, nth)
        lost = before + taken.stat().st_size - newest_step(folder)
        left = [path.name for path in Path(folder).rglob(".*.tmp")]
        killed = status == signal.SIGKILL
        child = {"point": point, "nth": nth, "killed": killed, "left": left, "lost": lost}
        print(json.dumps(child))
    status = run_child(folder, "", 0)
    print(json.dumps({"point": "end", "nth": 0, "code": os.waitstatus_to_exitcode(status)}))


if __name__ == "__main__":
    host(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
