"""SIGKILL at random moments of the real command, which is started again until it is done.

One of two moments is drawn of the whole time that a start takes, so many are before the first step;
the other is drawn of the time after a start has saved its first checkpoint: steps, evaluations,
further savings.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from agents.core.analysis.states import exact, same
from agents.core.runs import checkpoint
from tests.helpers.ranks import (
    descendants,
    finished,
    kill_tree,
    ranks_below,
    started,
    torchrun_command,
)
from torture.registry import Effort, Outcome, case

_LONGEST = 300.0  # seconds from a kill to the end of a command; a starved machine takes long
_MODEST = ["log_every=2", "save_every=2", "eval_every=6", "eval_samples=16", "keep_checkpoints=2"]
RUNS = {
    "adder": ["seq2seq_adder", "add2x2", "hidden_size=12", "batch_size=8", "steps=120",
              "task.num_samples=300", "dropout=0.2", "precision=fp32"],
    "classifier": ["cnn_classifier", "digits", "channels=4", "batch_size=8", "steps=60",
                   "precision=fp32"],
    "detector": ["yolo_detector", "digit_pages", "channels=4", "batch_size=2", "steps=30",
                 "task.size=64", "task.max_digits=5", "eval_samples=4", "precision=fp32"],
    "reader": ["ctc_reader", "digit_strings", "task.height=16", "task.most_digits=3",
               "batch_size=4", "steps=40", "eval_samples=8"],
}  # fmt: skip


def command(run: str, folder: Path, ranks: int = 1) -> list[str]:
    """Return the command that trains one of RUNS in a folder, with or without `torchrun`."""
    agent, task, *settings = RUNS[run]
    words = ["main.py", "--agent", agent, "--task", task, "--device", "cpu", "--run-dir"]
    words += [str(folder), *(f"--set={setting}" for setting in [*_MODEST, *settings])]
    return [sys.executable, *words] if ranks == 1 else torchrun_command(words, ranks)


def differences(folder: Path, other: Path) -> list[str]:
    """Return what differs in the bits of two runs' ends, but for what a clock says."""
    found = []
    for pattern in ("checkpoints/step-*.safetensors", "best.safetensors"):
        a, b = (sorted(each.glob(pattern)) for each in (folder, other))
        if not a or [path.name for path in a] != [path.name for path in b]:
            found.append(f"{pattern}: {len(a)} and {len(b)} files, or others")
            continue
        for left, right in zip(a, b, strict=True):
            x, y = checkpoint.read(left), checkpoint.read(right)
            if not same(x.tensors, y.tensors):
                found.append(f"{left.name}: tensors")
            if exact(x.history) != exact(y.history):
                found.append(f"{left.name}: history")
            keys = ("cursor", "best", "step")
            if [x.values.get(key) for key in keys] != [y.values.get(key) for key in keys]:
                found.append(f"{left.name}: plain values")
    return [*found, *(f"left over: {path.name}" for path in folder.rglob("*.tmp"))]


def newest(folder: Path) -> int:
    """Return the step of the newest checkpoint; 0 if there is none."""
    return max(checkpoint.step_paths(folder / "checkpoints"), default=0)


def killed(
    words: Sequence[str], folder: Path, after: float, *, working: bool, victim: float | None
) -> str:
    """Start a command and kill it; return `start`, `work`, `file`, or "" if it ended before.

    Args:
        words: the command.
        folder: of its run.
        after: seconds, from the start or (if working) from the first checkpoint of this start.
        working: whether to wait for that checkpoint.
        victim: which of the ranks SIGKILL meets, a share of their number from 0 on and below 1;
            None: all processes.
    """
    before = newest(folder)
    with started(words, {"PYTHONFAULTHANDLER": "1"}) as process:
        begin = time.monotonic()
        while process.poll() is None:
            if working and newest(folder) == before:
                begin = time.monotonic()
            if time.monotonic() - begin > after:
                break
            time.sleep(0.002)
        else:
            if process.returncode:
                raise RuntimeError((process.stderr.read() if process.stderr else "")[-2000:])
            return ""
        if victim is None:
            kill_tree(process.pid)
        else:
            _kill_a_rank(process, victim)
        _wait(process)
        if not process.returncode:
            return ""
    if list(folder.rglob("*.tmp")):
        return "file"
    return "work" if newest(folder) > before else "start"


def _wait(process: "subprocess.Popen[str]") -> None:
    """Wait until a command has ended that lost a process; if it hangs, say in which lines."""
    try:
        process.communicate(timeout=_LONGEST)
    except subprocess.TimeoutExpired:
        for pid in [*descendants(process.pid), process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGABRT)
        _, where = process.communicate()
        problem = f"did not end within {_LONGEST:.0f} s of a kill"
        raise RuntimeError(f"{problem}\n{where[-6000:]}") from None


def _kill_a_rank(process: "subprocess.Popen[str]", victim: float) -> None:
    """Kill one of the ranks, or `torchrun` if it has started none yet."""
    ranks = ranks_below(process.pid) or [process.pid]
    with contextlib.suppress(ProcessLookupError):
        os.kill(ranks[int(victim * len(ranks))], signal.SIGKILL)


def torment(run: str, effort: Effort, ranks: int = 1) -> Outcome:
    """Kill runs, each until it is done, and compare each with one that was left alone."""
    straight = effort.folder / "straight"
    begin = time.monotonic()
    done = finished(command(run, straight, ranks), 900)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    whole = time.monotonic() - begin
    kinds = dict.fromkeys(("start", "work", "file"), 0)
    failures: list[str] = []
    runs = 0
    while sum(kinds.values()) < effort.kills:
        folder = effort.folder / f"killed-{runs}"
        words, is_done = command(run, folder, ranks), False
        while not is_done:
            working = effort.chance.random() < 0.5
            after = effort.chance.uniform(0, 0.3 * whole if working else whole)
            if sum(kinds.values()) >= effort.kills:
                after = 900.0
            victim = effort.chance.random() if ranks > 1 else None
            kind = killed(words, folder, after, working=working, victim=victim)
            is_done = not kind
            if kind:
                kinds[kind] += 1
        runs += 1
        failures += [f"{folder.name}: {each}" for each in differences(folder, straight)]
    tried = sum(kinds.values())
    remark = (
        f"{runs} run{'s' * (runs > 1)}; killed before a start's first checkpoint {kinds['start']} "
        f"times, after it {kinds['work']}, inside the writing of a file {kinds['file']}"
    )
    held = 0 if failures else tried
    return Outcome(tried=tried, held=held, remark=remark, failures=tuple(failures))


@case
def kill_adder(effort: Effort) -> Outcome:
    """SIGKILL at random moments, LSTM adder: ends with the bits of a run left alone."""
    return torment("adder", effort)


@case
def kill_classifier(effort: Effort) -> Outcome:
    """SIGKILL at random moments, image classifier: ends with the bits of a run left alone."""
    return torment("classifier", effort)


@case
def kill_detector(effort: Effort) -> Outcome:
    """SIGKILL at random moments, detector: ends with the bits of a run left alone."""
    return torment("detector", effort)


@case
def kill_reader(effort: Effort) -> Outcome:
    """SIGKILL at random moments, reader of lines: ends with the bits of a run left alone."""
    return torment("reader", effort)


@case
def kill_rank(effort: Effort) -> Outcome:
    """SIGKILL to one of two ranks at random moments: ends with the bits of a run left alone."""
    return torment("adder", effort, ranks=2)
