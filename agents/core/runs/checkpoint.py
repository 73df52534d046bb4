"""Checkpoints: tensors and plain values in one safetensors file, written atomically, verified.

The plain values are JSON in the file's metadata, with a SHA-256 digest of the whole file in which
the digest's own 64 characters are zeros. So a flipped bit anywhere is detected, and nothing is ever
unpickled.

The history of a long run is in other files of the run folder, so that saving costs the same after a
million records as after a thousand; see `HistoryFiles`.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from agents.core.runs.history import History
from tasks.core import earlier_names
from tasks.core.memory import read_whole
from tasks.core.paths import make_folder
from tasks.core.settings import ConfigError, TerrariumError

_LOG = logging.getLogger(__name__)
FORMAT = 2  # raised when an older reader could not understand the file
RECORDS_A_FILE = 1024  # of a run's history
HISTORY = "history"  # the folder of these files within a run folder, and their name for tensors
_KEY = "terrarium"
_STEP = re.compile(r"step-(\d+)\.safetensors")
_HISTORY_FILE = re.compile(r"[0-9]{9,}-[0-9a-f]{32}")  # a name, and no path to elsewhere
_ZEROS = "0" * 64
# What values of a wrong kind raise where they are used
_UNEXPECTED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
_VALUES: Mapping[str, type | tuple[type, ...]] = {  # of the checkpoint of an agent
    "agent": str, "task": str, "config": dict, "task_settings": dict, "cursor": dict,
    "window": dict, "best": dict, "seconds": (int, float), "threads": int, "precision": str,
    "stopped_early": bool,
}  # fmt: skip
_WRONG_DIGEST = "is damaged: its content does not have the digest it names"


class CheckpointError(TerrariumError):
    """A checkpoint that is corrupt, truncated, or of another shape than the agent."""

    exit_code = 65


class CorruptCheckpointError(CheckpointError):
    """A checkpoint that is truncated or has other bytes than were written."""


class CannotWriteError(TerrariumError):
    """A file cannot be written; its earlier content is intact."""

    exit_code = 74

    def __init__(
        self, path: Path, error: OSError,
        advice: str = "free some space or choose another --run-dir; earlier files are intact",
    ) -> None:  # fmt: skip
        super().__init__(f"{path}: cannot be written: {error.strerror or error}; {advice}")


@attrs.frozen
class Checkpoint:
    """Plain values (JSON types), tensors by name, and what was recorded.

    Attributes:
        previous_file: name of the file with the records before `history`; "" if there are none.
    """

    values: dict[str, Any]
    tensors: dict[str, Tensor]
    history: History = attrs.Factory(History)
    previous_file: str = ""

    def model_tensors(self) -> dict[str, Tensor]:
        """Return the weights of the model, by the names of its state dict."""
        prefix = "model/"
        named = self.tensors.items()
        return {n.removeprefix(prefix): tensor for n, tensor in named if n.startswith(prefix)}

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        kinds, numbers = self.history.pack()
        tensors = {**self.tensors, **{f"{HISTORY}/{name}": t for name, t in numbers.items()}}
        history = {HISTORY: {"kinds": kinds, "before": self.previous_file}}
        values = {"sha256": _ZEROS, "format": FORMAT, **self.values, **history}
        text = json.dumps(values, separators=(",", ":"), allow_nan=False)
        data = save_tensors(
            {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()},
            metadata={_KEY: text},
        )
        return _replace_digest(data, _ZEROS, hashlib.sha256(data).hexdigest())


def _replace_digest(data: bytes, old: str, new: str) -> bytes:
    """Return the content of a file with its digest replaced."""
    mark = 'sha256\\":\\"'
    return data.replace((mark + old).encode(), (mark + new).encode(), 1)


def from_bytes(data: bytes, path: Path) -> Checkpoint:
    """Read a checkpoint from the content of its file; a CheckpointError says what is wrong."""
    try:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        values = json.loads(header["__metadata__"][_KEY])
        digest = values.pop("sha256")
        is_whole = hashlib.sha256(_replace_digest(data, digest, _ZEROS)).hexdigest() == digest
    except _UNEXPECTED:
        problem = "is cut off or damaged, or not a checkpoint"
        raise CorruptCheckpointError(f"{path}: {problem}") from None
    if not is_whole:
        raise CorruptCheckpointError(f"{path}: {_WRONG_DIGEST}")
    try:
        return _from_values(values, data, path)
    except (*_UNEXPECTED, SafetensorError) as error:
        problem = f"is not as a checkpoint is written: {type(error).__name__} {error}"
        raise CorruptCheckpointError(f"{path}: {problem}") from None


def _from_values(values: dict[str, Any], data: bytes, path: Path) -> Checkpoint:
    if values.pop("format") > FORMAT:
        raise CheckpointError(f"{path}: was written by a newer version of terrarium")
    packed, tensors = values.pop(HISTORY, []), load_tensors(data)
    if isinstance(packed, list):  # of records, before 0.5.0
        return Checkpoint(values, tensors, History(packed))
    numbers = {name: tensors.pop(f"{HISTORY}/{name}") for name in ("kind", "numbers")}
    history = History.unpack(packed["kinds"], numbers)
    previous = packed["before"]
    if previous and not _HISTORY_FILE.fullmatch(previous):
        raise ValueError(f"{previous!r} is not the name of a file of a history")
    return Checkpoint(values, tensors, history, previous)


def step_path(folder: Path, step: int) -> Path:
    """Return the path of the file of a step."""
    return folder / f"step-{step:09d}.safetensors"


def step_paths(folder: Path) -> dict[int, Path]:
    """Return the files of steps in a folder, in order."""
    matches = ((_STEP.fullmatch(path.name), path) for path in folder.glob("step-*"))
    return dict(sorted((int(match[1]), path) for match, path in matches if match))


def run_folder_of(path: Path) -> Path:
    """Return the run folder that a checkpoint is in."""
    return path.parents[1] if path.parent.name == "checkpoints" else path.parent


def read(path: Path) -> Checkpoint:
    """Read and verify a checkpoint file, with the files of its history.

    If one of those is missing, as when a checkpoint was copied out of its run folder, a warning
    says so, and the history begins after it.
    """
    try:
        data = read_whole(path)
    except FileNotFoundError:
        raise ConfigError(str(path), "", "does not exist", "a checkpoint file") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    checkpoint = from_bytes(data, path)
    history = History()
    for part in reversed(list(_history_parts(run_folder_of(path) / HISTORY, checkpoint))):
        history.extend(part)
    return attrs.evolve(checkpoint, history=history, previous_file="")


def _history_parts(folder: Path, last: Checkpoint) -> Iterator[History]:
    """Yield the history of a checkpoint, and of each file before it, from the last to the first."""
    yield last.history
    while last.previous_file:
        path = folder / f"{last.previous_file}.safetensors"
        try:
            data = read_whole(path)
        except OSError as error:
            problem = f"cannot be read ({error.strerror}): the history begins later"
            _LOG.warning(f"{path}: {problem}")
            return
        if _digest(data) != last.previous_file.rpartition("-")[2]:
            raise CorruptCheckpointError(f"{path}: {_WRONG_DIGEST}")
        last = from_bytes(data, path)
        yield last.history


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


class HistoryFiles:
    """History files of a run, each with 1,024 records, and each written once.

    Each names the one before, and a checkpoint names the last, so that all can be found. Names
    contain a digest of the content: if a killed run is resumed from an earlier checkpoint, the
    records that it writes again have other names, and no file of a checkpoint is overwritten.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._history = History()
        self._num, self._last = 0, ""  # records in files, and the last file's name

    def move_to_files(self, checkpoint: Checkpoint) -> Checkpoint:
        """Move the records that fill whole files there; return the checkpoint without them."""
        history = checkpoint.history
        if history is not self._history:
            self._history, self._num, self._last = history, 0, ""
        while len(history) - self._num >= RECORDS_A_FILE:
            end = self._num + RECORDS_A_FILE
            data = Checkpoint({}, {}, history.part(self._num, end), self._last).to_bytes()
            name = f"{end:09d}-{_digest(data)}"
            path = self._folder / f"{name}.safetensors"
            if not path.exists():
                atomic_write(path, data)
            self._num, self._last = end, name
        rest = history.part(self._num, len(history))
        return attrs.evolve(checkpoint, history=rest, previous_file=self._last)


def read_agent(path: Path) -> Checkpoint:
    """Read the checkpoint of an agent; a weight snapshot is a CheckpointError."""
    checkpoint = read(path)
    if "agent" not in checkpoint.values:
        raise CheckpointError(
            f"{path}: holds a copy of weights and no agent; "
            "accepted: a run's best.safetensors, or a file of its checkpoints/"
        )
    for name, kind in _VALUES.items():
        if not isinstance(checkpoint.values.get(name), kind):
            problem = f"has no {name}, or one of another kind"
            raise CorruptCheckpointError(f"{path}: is not as a checkpoint is written: it {problem}")
    return checkpoint


def temporary_path(path: Path) -> Path:
    """Return a unique temporary path, to which a file is written before it is renamed.

    `unfinished_files` finds those of processes that were killed.
    """
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def unfinished_files(folder: Path, name: str) -> Iterator[Path]:
    """Yield the unfinished files for a name, or a pattern of names, in a folder."""
    yield from folder.glob(f".{name}*.tmp")


def atomic_write(path: Path, data: bytes) -> None:
    """Write a file atomically: a crash at any moment leaves the old content or the new.

    Written to a temporary file, flushed, renamed; then the folder's entry is flushed as well.
    """
    temporary = temporary_path(path)
    try:
        make_folder(path.parent)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise CannotWriteError(path, error) from error


def check_state_dict(kind: str, saved: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Check names and shapes of tensors; a CheckpointError says what is missing or differs."""
    missing, extra = sorted(own.keys() - saved.keys()), sorted(saved.keys() - own.keys())
    if missing or extra:
        problem = f"missing {missing}, extra {extra}"
        raise CheckpointError(f"the checkpoint's {kind} does not fit: {problem}")
    for name, tensor in saved.items():
        if tensor.shape != own[name].shape:
            raise CheckpointError(
                f"the checkpoint's {kind} does not fit: {name} has the shape "
                f"{list(tensor.shape)}, the agent's {list(own[name].shape)}"
            )


if not TYPE_CHECKING:
    __getattr__ = earlier_names.symbols_of(__name__)
