"""The folder of a run: its lock, checkpoints, status, and copies of what it was started with."""

import abc
import contextlib
import json
import os
import platform
import re
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, final

import filelock
import numpy as np
import torch

from agents.core.runs import snapshots
from agents.core.runs.checkpoint import (
    HISTORY,
    CannotWriteError,
    Checkpoint,
    DamagedError,
    HistoryFiles,
    left_over,
    read_agent,
    write_durably,
)
from tasks.core.paths import make_folder
from tasks.core.settings import TerrariumError

BEST = "best.safetensors"
_CHECKPOINT = re.compile(r"step-(\d+)\.safetensors")
_OF_TRAINING = (  # what `evaluate` writes is left out: it may be writing, as it takes no lock
    "config.yaml", "command.txt", "env.json", "status.json", "metrics.jsonl", BEST, "test.json",
    "loss.csv",
)  # fmt: skip


class FolderInUseError(TerrariumError):
    """Another living run has this folder."""

    exit_code = 75


class Folder(abc.ABC):
    """Where a run keeps what it must not lose."""

    @abc.abstractmethod
    def start(self, config_text: str, warn: Callable[[str], None]) -> None:
        """Keep copies of the settings, the command and the environment."""

    @abc.abstractmethod
    def status(self, state: str, **values: Any) -> None:
        """Say what the run is doing."""

    @abc.abstractmethod
    def is_done(self) -> bool:
        """Tell whether the last status was `done`."""

    @abc.abstractmethod
    def newest_good(self, warn: Callable[[str], None]) -> Checkpoint | None:
        """Return the newest checkpoint that is whole."""

    @abc.abstractmethod
    def save(self, step: int, checkpoint: Callable[[], Checkpoint], keep: int) -> None:
        """Keep the checkpoint of a step."""

    @abc.abstractmethod
    def save_best(self, checkpoint: Callable[[], Checkpoint]) -> None:
        """Keep the best checkpoint so far."""


@final
class NullFolder(Folder):
    """Keeps nothing: for learning without a run folder."""

    def start(self, config_text: str, warn: Callable[[str], None]) -> None:
        """Keep nothing."""

    def status(self, state: str, **values: Any) -> None:
        """Say nothing."""

    def is_done(self) -> bool:
        """Return True: nothing is left to write."""
        return True

    def newest_good(self, warn: Callable[[str], None]) -> Checkpoint | None:
        """Return None: nothing was kept."""
        return None

    def save(self, step: int, checkpoint: Callable[[], Checkpoint], keep: int) -> None:
        """Keep nothing."""

    def save_best(self, checkpoint: Callable[[], Checkpoint]) -> None:
        """Keep nothing."""


@final
class RunFolder(Folder):
    """A folder on the disk, which one living run holds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._history = HistoryFiles(path / HISTORY)

    @classmethod
    @contextlib.contextmanager
    def hold(cls, path: Path) -> Iterator["RunFolder"]:
        """Create and lock a folder for the length of a `with` block.

        The lock is the kernel's (flock), so that it goes with the process that held it; the file
        says which process that is.
        """
        lock = filelock.FileLock(path / "lock", timeout=0)
        try:
            make_folder(path)
            lock.acquire()
            holder = f"{os.getpid()} {socket.gethostname()}\n"
            (path / "lock").write_text(holder, encoding="utf-8")
            numbered = [(path / part, "") for part in ("checkpoints", snapshots.FOLDER, HISTORY)]
            for folder, name in [*((path, name) for name in _OF_TRAINING), *numbered]:
                for file in left_over(folder, name):  # by a run that was killed while writing
                    file.unlink(missing_ok=True)
        except filelock.Timeout:
            pid, host = ((path / "lock").read_text(encoding="utf-8").split() or ["?", "?"])[:2]
            raise FolderInUseError(
                f"{path}: is in use by a living run (process {pid} on {host}); "
                "wait for it, stop it, or choose another --run-dir"
            ) from None
        except OSError as error:
            raise CannotWriteError(path, error) from error
        try:
            yield cls(path)
        finally:
            lock.release()

    def start(self, config_text: str, warn: Callable[[str], None]) -> None:
        """Write the settings, add the command, and compare the environment with the last one."""
        environment = {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "platform": platform.platform(),
        }
        before = self._read_json("env.json")
        changed = [
            f"{k} {before[k]} → {v}" for k, v in environment.items() if before.get(k, v) != v
        ]
        if changed:
            warn(f"{self.path}: other versions than before, bits may differ: {', '.join(changed)}")
        commands = self.path / "command.txt"
        earlier = commands.read_bytes() if commands.exists() else b""
        command = shlex.join(sys.argv).encode(errors="surrogateescape")  # bytes of no encoding
        self._write("config.yaml", config_text)
        write_durably(commands, earlier + command + b"\n")
        self._write("env.json", json.dumps(environment, indent=2) + "\n")

    def status(self, state: str, **values: Any) -> None:
        """Say in status.json: running, done, interrupted, diverged or failed."""
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        known = {"state": state, **values, "time": now, "pid": os.getpid()}
        self._write("status.json", json.dumps(known) + "\n")

    def is_done(self) -> bool:
        """Tell whether status.json says done."""
        return self.state() == "done"

    def state(self) -> str:
        """Return the word of status.json, such as `done` or `diverged`; "" if there is none."""
        return str(self._read_json("status.json").get("state", ""))

    def _write(self, name: str, text: str) -> None:
        write_durably(self.path / name, text.encode())

    def _read_json(self, name: str) -> dict[str, Any]:
        """Return a file's map; an empty one where there is none, or none that can be read."""
        try:
            found = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

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
        damaged: list[tuple[Path, DamagedError]] = []
        for path in self.checkpoints():
            try:
                checkpoint = read_agent(path)
            except DamagedError as error:
                damaged.append((path, error))
                continue
            for bad, reason in damaged:
                warn(f"{reason}; kept as {bad.name}.damaged, using the one before")
                bad.rename(f"{bad}.damaged")  # else it would count among the newest to keep
            return checkpoint
        if damaged:
            raise DamagedError(
                f"{damaged[-1][1]}; no checkpoint in the folder is whole; "
                "`--resume never` starts anew and keeps the old folder aside"
            )
        return None

    def save(self, step: int, checkpoint: Callable[[], Checkpoint], keep: int) -> None:
        """Write the checkpoint of a step; then drop all but the newest `keep`."""
        path = self.path / "checkpoints" / f"step-{step:09d}.safetensors"
        write_durably(path, self._history.relieve(checkpoint()).to_bytes())
        for old in self.checkpoints()[keep:]:
            old.unlink(missing_ok=True)

    def save_best(self, checkpoint: Callable[[], Checkpoint]) -> None:
        """Write the best checkpoint so far."""
        write_durably(self.path / BEST, self._history.relieve(checkpoint()).to_bytes())


def put_aside(path: Path) -> Path | None:
    """Rename the folder of an earlier run out of the way; return its new name, if there was one."""
    if not (path / "status.json").exists() and not (path / "checkpoints").exists():
        return None
    path, number = path.resolve(), 1
    while (aside := path.with_name(f"{path.name}.old-{number}")).exists():
        number += 1
    with RunFolder.hold(path):  # never from under a living run
        path.rename(aside)
    return aside


def best_of(path: Path, warn: Callable[[str], None]) -> Checkpoint:
    """Return a run's best checkpoint; if that is damaged, say so and return its newest good one."""
    try:
        return read_agent(path / BEST)
    except DamagedError as error:
        newest = RunFolder(path).newest_good(warn)
        if newest is None:
            raise
        warn(f"{error}; using the newest checkpoint")
        return newest
