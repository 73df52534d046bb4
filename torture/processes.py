"""Clocks that jump, second interrupts, many starts at once, and losses that are not numbers."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from agents.core.runs import checkpoint
from tests.helpers.ranks import ended, started
from torture.commands import (
    DIVERGED,
    DONE,
    IN_USE,
    INTERRUPTED,
    LATEST,
    LIMIT,
    Tally,
    end,
    hosted,
    left_alone,
    wrong_continuation,
    wrong_end,
)
from torture.host import BEFORE
from torture.kills import RUNS, command, differences, killed, newest
from torture.registry import Effort, Outcome, case

_STARTS = 20
_HEARS_SIGINT = ["env", "--default-signal=INT"]  # which a shell's background jobs ignore
_SOON = 0.2  # seconds within which a second SIGINT follows the first


@case
def clock_jumps(effort: Effort) -> Outcome:
    """The wall clock jumps by years in a killed run: the bits and the curve of no fault."""
    straight, tally = left_alone("adder", effort), Tally()
    for number in range(max(1, effort.kills // 5)):
        folder = effort.folder / f"jumping-{number}"
        words = hosted(f"clock={effort.chance.random()}", command("adder", folder))
        after = effort.chance.uniform(0, 1)
        if not killed(words, folder, after, working=True, victim=None):
            tally.missed += 1
            continue
        again = hosted(f"clock={effort.chance.random()}", command("adder", folder))
        wrong = wrong_continuation(again, folder, straight)
        tally.add(folder.name, wrong or wrong_curve(folder))
    return tally.outcome("each run once killed, and continued by a clock that jumps otherwise")


def wrong_curve(folder: Path) -> list[str]:
    """Return whether TensorBoard shows other steps than the run's history has."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = checkpoint.read(max((folder / "checkpoints").glob("step-*"))).history
    shown = [event.step for event in EventAccumulator(str(folder)).Reload().Scalars("train/loss")]
    same = shown == history.series("train/loss")[0]
    return [] if same else [f"TensorBoard has {len(shown)} other steps"]


@case
def double_sigint(effort: Effort) -> Outcome:
    """A second SIGINT within 0.2 s of the first: exit code 130, later the bits of no fault.

    Starts that end, or nearly so, before the second are not counted.
    """
    straight, tally = left_alone("adder", effort), Tally()
    runs = saved = 0
    while tally.tried < effort.kills:
        folder, done = effort.folder / f"interrupted-{runs}", False
        runs += 1
        while not done and tally.tried < effort.kills:
            words, before = command("adder", folder), newest(folder)
            ending, in_time = interrupted(words, folder, effort)
            done = not in_time and ending.returncode == DONE
            if in_time:
                saved += newest(folder) > before
                tally.add(folder.name, wrong_interrupt(ending))
            else:
                tally.missed += 1
        if not done:
            tally.failures += wrong_end(end(command("adder", folder)), DONE)
        tally.failures += [f"{folder.name}: {each}" for each in differences(folder, straight)]
    if tally.failures:
        tally.held = min(tally.held, tally.tried - 1)
    return tally.outcome(f"{runs} run{'s' * (runs > 1)}; {saved} starts had saved a checkpoint")


def interrupted(
    words: Sequence[str], folder: Path, effort: Effort
) -> tuple["subprocess.CompletedProcess[str]", bool]:
    """Start a command and interrupt it twice, at random after it locked its folder.

    Returns:
        how it ended, and whether both signals met it with steps left.
    """
    in_time = True
    with started([*_HEARS_SIGINT, *words]) as process:
        while process.poll() is None and not has_lock(folder, process.pid):
            time.sleep(0.005)
        for longest in (2.0, _SOON):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(effort.chance.uniform(0, longest))
            in_time &= process.poll() is None and newest(folder) <= LATEST
            if in_time:
                process.send_signal(signal.SIGINT)
        return ended(process, LIMIT), in_time


def has_lock(folder: Path, pid: int) -> bool:
    """Return whether a process has written itself into the lock of a folder."""
    return owner(folder) == pid


def owner(folder: Path) -> int:
    """Return the process that the lock of a run folder names; 0 if there is none yet."""
    try:
        return int((folder / "lock").read_text().split()[0])
    except (OSError, IndexError, ValueError):
        return 0


def wrong_interrupt(done: "subprocess.CompletedProcess[str]") -> list[str]:
    """Return what is not right about a command that was interrupted twice.

    A signal that Python gets before or after the command itself ends the process by SIGINT, which a
    shell shows as 130 too.
    """
    if done.returncode == -signal.SIGINT:
        return []
    return wrong_end(done, INTERRUPTED, "interrupted; the same command continues from here")


@case
def twenty_starts(effort: Effort) -> Outcome:
    """20 starts at once in one folder: one trains to the bits of no fault, 19 end with 75."""
    straight, tally = left_alone("adder", effort), Tally()
    folder = effort.folder / "shared"
    with contextlib.ExitStack() as stack:
        group = [stack.enter_context(started(command("adder", folder))) for _ in range(_STARTS)]
        while not (first := owner(folder)):
            time.sleep(0.002)
        os.kill(first, signal.SIGSTOP)  # so that it does not end before the others have tried
        others = [process for process in group if process.pid != first]
        for process in others:
            says = f"is in use by a living run (process {first} on "
            tally.add(f"start {process.pid}", wrong_end(ended(process, LIMIT), IN_USE, says))
        os.kill(first, signal.SIGCONT)
        winner = next(process for process in group if process.pid == first)
        wrong = wrong_end(ended(winner, LIMIT), DONE) or differences(folder, straight)
        tally.add("the first", wrong)
    return tally.outcome("the first is stopped until the others have ended")


@case
def nan_at_a_step(effort: Effort) -> Outcome:
    """The loss is NaN at a random step: exit code 76, `best` untouched, later the right bits."""
    tally = Tally()
    for run, (_, _, *settings) in RUNS.items():
        straight = left_alone(run, effort)
        steps = next(int(each[6:]) for each in settings if each.startswith("steps="))
        for number in range(max(1, effort.kills // 10)):
            folder = effort.folder / f"{run}-{number}"
            step = effort.chance.randint(7, steps)  # after the first evaluation
            words = command(run, folder)
            done = end(hosted(f"nan={step}", words))
            wrong = wrong_end(done, DIVERGED, f"diverged at step {step}", "parameter")
            wrong = wrong or wrong_best(folder, step)
            tally.add(f"{run}, step {step}", wrong or wrong_continuation(words, folder, straight))
    return tally.outcome(f"{', '.join(RUNS)}; the same commands then continue without the NaN")


def wrong_best(folder: Path, step: int) -> list[str]:
    """Return whether `best` has other bytes than before the NaN, or a checkpoint is of later."""
    names = "best.safetensors", BEFORE
    best, before = ((folder / name).read_bytes() for name in names)
    found = [] if best == before else ["best.safetensors was changed"]
    return found + [f"a checkpoint of step {newest(folder)}"] * (newest(folder) >= step)
