"""The folder of a run: its lock, checkpoints, status, and copies of what it was started with."""

import contextlib
import json
import os
import platform
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import torch

from agents.core.checkpoint import (
    CannotWriteError,
    Checkpoint,
    CheckpointError,
    read,
    write_durably,
)
from tasks.core.settings import TerrariumError

BEST = "best.safetensors"
_CHECKPOINT = re.compile(r"step-(\d+)\.safetensors")


class FolderInUseError(TerrariumError):
    """Another living run has this folder."""

    exit_code = 75


class NullFolder:
    """Keeps nothing: for learning without a run folder."""

    path: Path | None = None

    def start(self, config_text: str) -> None:
        """Write nothing."""

    def status(self, state: str, **values: Any) -> None:
        """Write nothing."""

    def newest_good(self, warn: Callable[[str], None]) -> Checkpoint | None:
        """Return None: nothing was kept."""
        return None

    def save(self, step: int, checkpoint: Callable[[], Checkpoint], keep: int) -> None:
        """Write nothing."""

    def save_best(self, checkpoint: Callable[[], Checkpoint]) -> None:
        """Write nothing."""


class RunFolder(NullFolder):
    """A folder that one living run holds."""

    def __init__(self, path: Path) -> None:
        self.path: Path = path

    @classmethod
    @contextlib.contextmanager
    def hold(cls, path: Path) -> Iterator["RunFolder"]:
        """Create and lock a folder for the length of a `with` block.

        The lock is the kernel's (flock), so that it goes with the process that held it; the file
        says which process that is.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(path / "lock", timeout=0)
            with lock:
                (path / "lock").write_text(f"{os.getpid()} {socket.gethostname()}\n")
                for left_over in path.rglob(".*.tmp"):  # of a run that was killed while writing
                    left_over.unlink()
                yield cls(path)
        except filelock.Timeout:
            pid, host = ((path / "lock").read_text().split() or ["?", "?"])[:2]
            raise FolderInUseError(
                f"{path}: is in use by a living run (process {pid} on {host}); "
                "wait for it, stop it, or choose another --run-dir"
            ) from None
        except OSError as error:
            raise CannotWriteError(path, error) from error

    def start(self, config_text: str) -> None:
        """Write copies of the settings, the command and the environment."""
        environment = {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "threads": torch.get_num_threads(),
            "platform": platform.platform(),
        }
        self._write("config.yaml", config_text)
        self._write("command.txt", " ".join(sys.argv) + "\n")
        self._write("env.json", json.dumps(environment, indent=2) + "\n")

    def status(self, state: str, **values: Any) -> None:
        """Say in status.json: running, done, interrupted, diverged or failed."""
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        known = {"state": state, **values, "time": now, "pid": os.getpid()}
        self._write("status.json", json.dumps(known) + "\n")

    def _write(self, name: str, text: str) -> None:
        write_durably(self.path / name, text.encode())

    def checkpoints(self) -> list[Path]:
        """Return the checkpoints, the newest by its step first."""
        paths = (self.path / "checkpoints").glob("*.safetensors")
        numbered = [(int(m[1]), p) for p in paths if (m := _CHECKPOINT.fullmatch(p.name))]
        return [path for _, path in sorted(numbered, reverse=True)]

    def newest_good(self, warn: Callable[[str], None]) -> Checkpoint | None:
        """Return the newest checkpoint that is whole; None where there was never one.

        Damaged ones are named through `warn` and renamed; if none is whole, the last error is
        raised, since starting anew would bury the run.
        """
        damaged: list[tuple[Path, CheckpointError]] = []
        for path in self.checkpoints():
            try:
                checkpoint = read(path)
            except CheckpointError as error:
                damaged.append((path, error))
                continue
            for bad, reason in damaged:
                warn(f"{reason}; kept as {bad.name}.damaged, using the one before")
                bad.rename(f"{bad}.damaged")  # else it would count among the newest to keep
            return checkpoint
        if damaged:
            raise CheckpointError(
                f"{damaged[-1][1]}; no checkpoint in the folder is whole; "
                "`--resume never` starts anew and keeps the old folder aside"
            )
        return None

    def save(self, step: int, checkpoint: Callable[[], Checkpoint], keep: int) -> None:
        """Write the checkpoint of a step; then drop all but the newest `keep`."""
        path = self.path / "checkpoints" / f"step-{step:09d}.safetensors"
        write_durably(path, checkpoint().to_bytes())
        for old in self.checkpoints()[keep:]:
            old.unlink(missing_ok=True)

    def save_best(self, checkpoint: Callable[[], Checkpoint]) -> None:
        """Write the best checkpoint so far."""
        write_durably(self.path / BEST, checkpoint().to_bytes())


def put_aside(path: Path) -> Path | None:
    """Rename the folder of an earlier run out of the way; return its new name, if there was one."""
    if not (path / "status.json").exists() and not (path / "checkpoints").exists():
        return None
    number = 1
    while (aside := path.with_name(f"{path.name}.old-{number}")).exists():
        number += 1
    with RunFolder.hold(path):  # never from under a living run
        path.rename(aside)
    return aside
