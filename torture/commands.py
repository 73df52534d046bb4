"""Commands that meet a fault: how they must end, and that they then go on to the same bits."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from tests.helpers.ranks import ended, finished, started
from torture.kills import command, differences, newest
from torture.registry import Effort, Outcome

DONE, MISTAKE, CORRUPT, MEMORY, NOT_WRITTEN, IN_USE = 0, 2, 65, 71, 74, 75  # exit codes
DIVERGED, INTERRUPTED, TERMINATED = 76, 130, 143
LATEST = 100  # of the 120 steps of `adder`; a fault that is made later may meet nothing
LIMIT = 600.0  # seconds that a command may take
Write = Callable[[Path], list[str]]  # files into a folder; returns words of a command about them


@attrs.define
class Tally:
    """Counts trials, and what went wrong in them."""

    tried: int = 0
    held: int = 0
    missed: int = 0  # trials whose fault was not made: the command had ended, or nearly so
    failures: list[str] = attrs.Factory(list)

    def add(self, name: str, problems: Sequence[str]) -> None:
        """Count a trial; it held if there are no problems."""
        self.tried += 1
        self.held += not problems
        self.failures += [f"{name}: {problem}" for problem in problems]

    def outcome(self, remark: str) -> Outcome:
        """Return the outcome of all trials."""
        failures = tuple(self.failures)
        if self.missed:
            remark += f"; {self.missed} more had ended, or nearly, before the fault"
        return Outcome(tried=self.tried, held=self.held, remark=remark, failures=failures)


def hosted(fault: str, words: Sequence[str]) -> list[str]:
    """Return a command of main.py with a fault inside its process."""
    return [words[0], "-m", "torture.host", fault, *words[2:]]


def main_py(*words: object) -> list[str]:
    """Return a command of main.py."""
    return [sys.executable, "main.py", *map(str, words)]


def learn(agent: str, task: str, folder: Path, *settings: str) -> list[str]:
    """Return main.py's words that train an agent for two steps in a run folder within a folder."""
    words = ["--agent", agent, "--task", task, "--device", "cpu", "--run-dir", str(folder / "run")]
    return [*words, *(f"--set={setting}" for setting in ("steps=2", *settings))]


def end(words: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end."""
    return finished(words, LIMIT)


def wrong_end(done: "subprocess.CompletedProcess[str]", code: int, *says: str) -> list[str]:
    """Return what is not right about an end: exit code, words of the message, a traceback."""
    found = []
    if done.returncode != code:
        found.append(f"exit code {done.returncode}, not {code}: {done.stderr[-300:]!r}")
    if "Traceback" in done.stderr:
        found.append(f"traceback: {done.stderr[-300:]!r}")
    missing = [words for words in says if words not in done.stderr]
    return found + [f"does not say {words!r}: {done.stderr[-300:]!r}" for words in missing]


def left_alone(run: str, effort: Effort) -> Path:
    """Train one of the runs without a fault; return its folder."""
    folder = effort.folder / f"{run} left alone"
    done = end(command(run, folder))
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return folder


def meanwhile(
    words: Sequence[str], folder: Path, change: Callable[["subprocess.Popen[str]"], object],
    after: float,
) -> tuple["subprocess.CompletedProcess[str]", bool]:  # fmt: skip
    """Change something while a command trains one of the runs in a folder.

    Args:
        words: the command.
        folder: of its run.
        change: what is changed; it is given the process.
        after: seconds after the run's first checkpoint.

    Returns:
        how the command ended, and whether it had enough steps left to be met by the change.
    """
    with started(words) as process:
        while process.poll() is None and not newest(folder):
            time.sleep(0.002)
        time.sleep(after)
        in_time = process.poll() is None and newest(folder) <= LATEST
        if in_time:
            change(process)
        return ended(process, LIMIT), in_time


def wrong_continuation(words: Sequence[str], folder: Path, straight: Path) -> list[str]:
    """Run a command, now without the fault; return what differs from a run left alone."""
    return wrong_end(end(words), DONE) or differences(folder, straight)
