"""Run folder: lock, checkpoints, status, settings, command and environment."""

import abc
import contextlib
import errno
import json
import os
import platform
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
    CheckpointError,
    CorruptCheckpointError,
    HistoryFiles,
    atomic_write,
    read_agent,
    step_path,
    step_paths,
    unfinished_files,
)
from tasks.core.paths import make_folder
from tasks.core.settings import ConfigError, TerrariumError

BEST = "best.safetensors"
_LOCKED_FILES = (  # without test.json, predictions.csv, …, which are also written without the lock
    "config.yaml", "command.txt", "env.json", "status.json", "metrics.jsonl", BEST,
)  # fmt: skip


class FolderInUseError(TerrariumError):
    """Another running process uses this folder."""

    exit_code = 75


class Folder(abc.ABC):
    """Base class of run folders: storage of checkpoints, status and settings."""

    @abc.abstractmethod
    def start(self, config_text: str, warn: Callable[[str], None]) -> None:
        """Save the settings, the command and the environment."""

    @abc.abstractmethod
    def check(self) -> None:
        """Check that what is written now is in the folder in which the run began.

        Raises:
            CannotWriteError: the folder was renamed, removed or replaced.
        """

    @abc.abstractmethod
    def write_status(self, status: str, **values: Any) -> None:
        """Write whether the run is running, done, …."""

    @abc.abstractmethod
    def is_done(self) -> bool:
        """Tell whether the last status was `done`."""

    @abc.abstractmethod
    def latest_valid_checkpoint(self, warn: Callable[[str], None]) -> Checkpoint | None:
        """Return the latest checkpoint that is not corrupt."""

    @abc.abstractmethod
    def save(self, step: int, checkpoint: Callable[[], Checkpoint], keep: int) -> None:
        """Save the checkpoint of a step."""

    @abc.abstractmethod
    def remove_old(self, keep: int) -> None:
        """Remove all checkpoints but the latest `keep`."""

    @abc.abstractmethod
    def save_best(self, checkpoint: Callable[[], Checkpoint]) -> None:
        """Save the best checkpoint so far."""


@final
class NullFolder(Folder):
    """Stores nothing: for training without a run folder."""

    def start(self, config_text: str, warn: Callable[[str], None]) -> None:
        """Ignored."""

    def check(self) -> None:
        """Ignored."""

    def write_status(self, status: str, **values: Any) -> None:
        """Ignored."""

    def is_done(self) -> bool:
        """Return True: nothing is left to write."""
        return True

    def latest_valid_checkpoint(self, warn: Callable[[str], None]) -> Checkpoint | None:
        """Return None: nothing is stored."""
        return None

    def save(self, step: int, checkpoint: Callable[[], Checkpoint], keep: int) -> None:
        """Ignored."""

    def remove_old(self, keep: int) -> None:
        """Ignored."""

    def save_best(self, checkpoint: Callable[[], Checkpoint]) -> None:
        """Ignored."""


@final
class RunFolder(Folder):
    """A folder on the disk, locked by one running process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._history = HistoryFiles(path / HISTORY)
        self._identity: tuple[int, int] | None = None  # of the folder, once it is locked

    @classmethod
    @contextlib.contextmanager
    def locked(cls, path: Path) -> Iterator["RunFolder"]:
        """Create and lock a folder for a `with` block.

        The lock is the kernel's (flock), so that it ends with the process; the file says which
        process has it.
        """
        lock = filelock.FileLock(path / "lock", timeout=0)
        try:
            make_folder(path)
            lock.acquire()
            owner = f"{os.getpid()} {socket.gethostname()}\n"
            (path / "lock").write_text(owner, encoding="utf-8")
            numbered = [(path / part, "") for part in ("checkpoints", snapshots.FOLDER, HISTORY)]
            for folder, name in [*((path, name) for name in _LOCKED_FILES), *numbered]:
                for file in unfinished_files(
                    folder, name
                ):  # by a run that was killed while writing
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
            folder_in_use = cls(path)
            folder_in_use._identity = _identity(path)
            yield folder_in_use
        finally:
            lock.release()

    def check(self) -> None:
        """Check that the path is still that of the folder which was locked.

        Otherwise files would go to a new folder of this name, which another run could lock too.

        Raises:
            CannotWriteError: the folder was renamed, removed or replaced.
        """
        if self._identity is None or _identity(self.path) == self._identity:
            return
        problem = FileNotFoundError(
            errno.ENOENT, "it was renamed or removed while this run used it"
        )
        advice = "bring it back, and the same command continues; without it, it starts a new run"
        raise CannotWriteError(self.path, problem, advice)

    def start(self, config_text: str, warn: Callable[[str], None]) -> None:
        """Write the settings, append the command, and compare the environment with the last one."""
        environment = {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "platform": platform.platform(),
        }
        previous = self.read_json("env.json")
        changed = [
            f"{k} {previous[k]} → {v}" for k, v in environment.items() if previous.get(k, v) != v
        ]
        if changed:
            warn(f"{self.path}: other versions than before, bits may differ: {', '.join(changed)}")
        commands = self.path / "command.txt"
        earlier = commands.read_bytes() if commands.exists() else b""
        command = shlex.join(sys.argv).encode(errors="surrogateescape")  # bytes of no encoding
        self._write("config.yaml", config_text)
        self._write_bytes(commands, earlier + command + b"\n")
        self._write("env.json", json.dumps(environment, indent=2) + "\n")

    def write_status(self, status: str, **values: Any) -> None:
        """Write status.json: running, done, interrupted, pruned, diverged or failed."""
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        entries = {"state": status, **values, "time": now, "pid": os.getpid()}
        self._write("status.json", json.dumps(entries) + "\n")

    def is_done(self) -> bool:
        """Tell whether status.json says done."""
        return self.last_status() == "done"

    def last_status(self) -> str:
        """Return the status in status.json, such as `done` or `diverged`; "" if there is none."""
        return str(self.read_json("status.json").get("state", ""))

    def _write(self, name: str, text: str) -> None:
        self._write_bytes(self.path / name, text.encode())

    def _write_bytes(self, path: Path, data: bytes) -> None:
        """Write a file, if this is still the folder; if that is why it failed, say so."""
        self.check()
        try:
            atomic_write(path, data)
        except CannotWriteError:
            self.check()
            raise

    def read_json(self, name: str) -> dict[str, Any]:
        """Return the mapping in a JSON file; empty if it does not exist or cannot be read."""
        try:
            content = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def checkpoints(self) -> list[Path]:
        """Return the paths of the checkpoints, latest step first."""
        return [*step_paths(self.path / "checkpoints").values()][::-1]

    def latest_valid_checkpoint(self, warn: Callable[[str], None]) -> Checkpoint | None:
        """Return the latest checkpoint that is not corrupt; None if there was never one.

        Corrupt ones are renamed, with a warning; if all are, the last error is raised, since a
        fresh start would overwrite the run.
        """
        corrupt: list[tuple[Path, CorruptCheckpointError]] = []
        for path in self.checkpoints():
            try:
                checkpoint = read_agent(path)
            except CorruptCheckpointError as error:
                corrupt.append((path, error))
                continue
            for bad_path, reason in corrupt:
                warn(f"{reason}; kept as {bad_path.name}.damaged, using the one before")
                # Under its own name it would count among the latest to keep.
                bad_path.rename(f"{bad_path}.damaged")
            return checkpoint
        if corrupt:
            raise CorruptCheckpointError(
                f"{corrupt[-1][1]}; no checkpoint in the folder is whole; "
                "`--resume never` starts a new run and archives the old folder"
            )
        return None

    def readable_checkpoint(self) -> Checkpoint | None:
        """Return the best checkpoint, or the latest; None if none can be read. Nothing is renamed.

        So the folder of a run that is still learning is only read.
        """
        for path in (self.path / BEST, *self.checkpoints()):
            with contextlib.suppress(CheckpointError, ConfigError):  # it may be replaced meanwhile
                return read_agent(path)
        return None

    def save(self, step: int, checkpoint: Callable[[], Checkpoint], keep: int) -> None:
        """Write the checkpoint of a step; then remove all but the latest `keep`."""
        self.check()  # before history/ is written
        data = self._history.move_to_files(checkpoint()).to_bytes()
        self._write_bytes(step_path(self.path / "checkpoints", step), data)
        self.remove_old(keep)

    def remove_old(self, keep: int) -> None:
        """Remove all checkpoints but the latest `keep`."""
        for old in self.checkpoints()[keep:]:
            old.unlink(missing_ok=True)

    def save_best(self, checkpoint: Callable[[], Checkpoint]) -> None:
        """Write the best checkpoint so far."""
        self.check()
        data = self._history.move_to_files(checkpoint()).to_bytes()
        self._write_bytes(self.path / BEST, data)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return which folder is at a path, whatever its name; None: there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def archive(path: Path) -> Path | None:
    """Rename the folder of an earlier run; return its new path, or None if there was none."""
    if not (path / "status.json").exists() and not (path / "checkpoints").exists():
        return None
    path, number = path.resolve(), 1
    while (archived := path.with_name(f"{path.name}.old-{number}")).exists():
        number += 1
    with RunFolder.locked(path):  # not while a process uses it
        path.rename(archived)
    return archived


def load_best(path: Path, warn: Callable[[str], None]) -> Checkpoint:
    """Return a run's best checkpoint; if it is corrupt, warn and return the latest valid one."""
    try:
        return read_agent(path / BEST)
    except CorruptCheckpointError as error:
        latest = RunFolder(path).latest_valid_checkpoint(warn)
        if latest is None:
            raise
        warn(f"{error}; using the newest checkpoint")
        return latest
