"""The time from the start of a process to the first training step, and of the quick answers.

The command is `main.py` as it is. It saves after each of two steps, and the first checkpoint's time
on the disk is the moment when the first step was taken; writing it is in the figure.
"""

import functools
import time
from pathlib import Path

from benchmarks.measure import Figures, median, own, run_child, scratch, table, tell

ROUNDS = 7
ADDER = ["--agent", "seq2seq_adder", "--task", "add3x3"]
ONE_STEP_SAVED = ["--set", "steps=2", "--set", "save_every=1"]
QUICK = {
    "--help": ["--help"],
    "--list-agents": ["--list-agents"],
    "--list-tasks": ["--list-tasks"],
    "--print-config": [*ADDER, "--print-config"],
    "--version": ["--version"],
}
ACCEPTED_START = 1.5  # seconds beyond `import torch`
ACCEPTED_QUICK = 0.3  # seconds


def seconds_to_import() -> float:
    """Return the seconds from the start of a process to the end of `import torch`."""
    begun = time.time()
    return float(run_child(own("-c", "import torch, time; print(time.time())"))) - begun


def seconds_to_first_step() -> float:
    """Return the seconds from the start of main.py to its first checkpoint on the disk."""
    with scratch() as folder:
        begun = time.time()
        run_child(own("main.py", *ADDER, *ONE_STEP_SAVED, "--run-dir", str(folder)))
        return _first_checkpoint(folder).stat().st_mtime - begun


def _first_checkpoint(folder: Path) -> Path:
    return min((folder / "checkpoints").glob("*.safetensors"))


def seconds_to_answer(arguments: list[str]) -> float:
    """Return the seconds that main.py takes from its start to its end."""
    begun = time.perf_counter()
    run_child(own("main.py", *arguments))
    return time.perf_counter() - begun


def measure(rounds: int = ROUNDS) -> Figures:
    """Run every command in turn; the first round fills the disk's cache and does not count."""
    commands = {
        "import torch": seconds_to_import,
        "first step": seconds_to_first_step,
        **{name: functools.partial(seconds_to_answer, a) for name, a in QUICK.items()},
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(-1, rounds):
        for name, seconds_of in commands.items():
            seconds = seconds_of()
            if number >= 0:
                times[name].append(seconds)
        tell(f"round {number + 1} of {rounds}")
    beyond = [a - b for a, b in zip(times["first step"], times["import torch"], strict=True)]
    return {
        "rounds": rounds,
        "seconds": {name: median(values) for name, values in times.items()},
        "first_step_beyond_import": median(beyond),
    }


def report(figures: Figures) -> str:
    """Return the figures as a table."""
    seconds = figures["seconds"]
    rows = [
        ["import torch", f"{seconds['import torch']:.2f}", ""],
        ["main.py to its first step", f"{seconds['first step']:.2f}", ""],
        [
            "  beyond import torch",
            f"{figures['first_step_beyond_import']:.2f}",
            f"≤ {ACCEPTED_START}",
        ],
        *([f"main.py {name}", f"{seconds[name]:.2f}", f"< {ACCEPTED_QUICK}"] for name in QUICK),
    ]
    return table(["start", "seconds", "accepted"], rows)
