"""Commands that meet a fault: how they must end, and that they then go on to the same bits."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import attrs

from tests.helpers.ranks import finished
from torture.kills import command, differences
from torture.registry import Effort, Outcome

DONE, MISTAKE, CORRUPT, MEMORY, NOT_WRITTEN, IN_USE = 0, 2, 65, 71, 74, 75  # exit codes
DIVERGED, INTERRUPTED, TERMINATED = 76, 130, 143
LIMIT = 600.0  # seconds that a command may take


@attrs.define
class Tally:
    """Counts trials, and what went wrong in them."""

    tried: int = 0
    held: int = 0
    failures: list[str] = attrs.Factory(list)

    def add(self, name: str, problems: Sequence[str]) -> None:
        """Count a trial; it held if there are no problems."""
        self.tried += 1
        self.held += not problems
        self.failures += [f"{name}: {problem}" for problem in problems]

    def outcome(self, remark: str) -> Outcome:
        """Return the outcome of all trials."""
        failures = tuple(self.failures)
        return Outcome(tried=self.tried, held=self.held, remark=remark, failures=failures)


def hosted(fault: str, words: Sequence[str]) -> list[str]:
    """Return a command of main.py with a fault inside its process."""
    return [words[0], "-m", "torture.host", fault, *words[2:]]


def main_py(*words: object) -> list[str]:
    """Return a command of main.py."""
    return [sys.executable, "main.py", *map(str, words)]


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


def wrong_continuation(words: Sequence[str], folder: Path, straight: Path) -> list[str]:
    """Run a command, now without the fault; return what differs from a run left alone."""
    return wrong_end(end(words), DONE) or differences(folder, straight)
