"""Checkpoints: tensors and plain values in one safetensors file, written durably, read strictly.

The plain values stand as JSON in the file's metadata, with a SHA-256 digest of the whole file in
which the digest's own 64 characters are zeros. So a flipped bit anywhere is found, and nothing is
ever unpickled.

The history of a long run lies in files beside the checkpoints of its folder, so that saving costs
the same after a million records as after a thousand; see `HistoryFiles`.
"""

import contextlib
import hashlib
import json
import logging
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from agents.core.runs.history import History
from tasks.core.paths import make_folder
from tasks.core.settings import ConfigError, TerrariumError

_LOG = logging.getLogger(__name__)
FORMAT = 2  # raised when an older reader could not understand the file
RECORDS_A_FILE = 1024  # of a run's history
HISTORY = "history"  # the folder of these files within a run folder, and their name for tensors
_KEY = "terrarium"
_ZEROS = "0" * 64


class CheckpointError(TerrariumError):
    """A checkpoint that is damaged, cut off, or of another shape than the agent."""

    exit_code = 65


class DamagedError(CheckpointError):
    """A checkpoint that is cut off or has other bytes than were written."""


class CannotWriteError(TerrariumError):
    """The disk refused; what stood there before is intact."""

    exit_code = 74

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(
            f"{path}: cannot be written: {error.strerror or error}; "
            "free some space or choose another --run-dir; earlier files are intact"
        )


@attrs.frozen
class Checkpoint:
    """Plain values (JSON types), tensors by name, and what was recorded.

    Attributes:
        before: the name of the file that has the records before `history`; "" if there are none.
    """

    values: dict[str, Any]
    tensors: dict[str, Tensor]
    history: History = attrs.Factory(History)
    before: str = ""

    def model_tensors(self) -> dict[str, Tensor]:
        """Return the weights of the model, by the names of its state dict."""
        prefix = "model/"
        named = self.tensors.items()
        return {n.removeprefix(prefix): tensor for n, tensor in named if n.startswith(prefix)}

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        kinds, numbers = self.history.pack()
        tensors = {**self.tensors, **{f"{HISTORY}/{name}": t for name, t in numbers.items()}}
        recorded = {HISTORY: {"kinds": kinds, "before": self.before}}
        values = {"sha256": _ZEROS, "format": FORMAT, **self.values, **recorded}
        text = json.dumps(values, separators=(",", ":"), allow_nan=False)
        data = save_tensors(
            {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()},
            metadata={_KEY: text},
        )
        return _sealed(data, _ZEROS, hashlib.sha256(data).hexdigest())


def _sealed(data: bytes, before: str, after: str) -> bytes:
    """Return the content with one digest put in place of another."""
    mark = 'sha256\\":\\"'
    return data.replace((mark + before).encode(), (mark + after).encode(), 1)


def from_bytes(data: bytes, path: Path) -> Checkpoint:
    """Read a checkpoint's content; a CheckpointError says what is wrong with it."""
    try:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        values = json.loads(header["__metadata__"][_KEY])
        digest = values.pop("sha256")
    except (ValueError, KeyError, TypeError):
        raise DamagedError(f"{path}: is cut off or damaged, or is no checkpoint") from None
    if hashlib.sha256(_sealed(data, digest, _ZEROS)).hexdigest() != digest:
        raise DamagedError(f"{path}: is damaged: its content does not have the digest it names")
    if values.pop("format") > FORMAT:
        raise CheckpointError(f"{path}: was written by a newer version of terrarium")
    recorded, tensors = values.pop(HISTORY, []), load_tensors(data)
    if isinstance(recorded, list):  # of maps, before 0.5.0
        return Checkpoint(values, tensors, History(recorded))
    packed = {name: tensors.pop(f"{HISTORY}/{name}") for name in ("kind", "numbers")}
    history = History.unpack(recorded["kinds"], packed)
    return Checkpoint(values, tensors, history, recorded["before"])


def run_folder_of(path: Path) -> Path:
    """Return the run folder that a checkpoint lies in."""
    return path.parents[1] if path.parent.name == "checkpoints" else path.parent


def read(path: Path) -> Checkpoint:
    """Read a checkpoint file, whole and checked, with the files of its history.

    If one of those is not there, as when a checkpoint was copied out of its run folder, a warning
    says so, and the history begins after it.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(str(path), "", "does not exist", "a checkpoint file") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    checkpoint = from_bytes(data, path)
    history = History()
    for part in reversed(list(_parts(run_folder_of(path) / HISTORY, checkpoint))):
        history.extend(part)
    return attrs.evolve(checkpoint, history=history, before="")


def _parts(folder: Path, last: Checkpoint) -> Iterator[History]:
    """Yield the history of a checkpoint, and of each file before it, from the last to the first."""
    yield last.history
    while last.before:
        path = folder / f"{last.before}.safetensors"
        try:
            data = path.read_bytes()
        except OSError as error:
            problem = f"cannot be read ({error.strerror}): the history begins later"
            _LOG.warning(f"{path}: {problem}")
            return
        if _digest(data) != last.before.rpartition("-")[2]:
            raise DamagedError(f"{path}: is damaged: its content does not have the digest it names")
        last = from_bytes(data, path)
        yield last.history


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


class HistoryFiles:
    """Files for the records of a run, each of the same number of them, and each written once.

    Each names the one before, and a checkpoint names the last, so that it names them all. Names
    have the digest of the content: where a killed run is gone on from an earlier checkpoint, what
    is recorded again gets other names, and no file that a checkpoint names is ever written over.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._history = History()
        self._num, self._last = 0, ""  # records that lie in files, and the last file's name

    def relieve(self, checkpoint: Checkpoint) -> Checkpoint:
        """Write the records that fill files, and return the checkpoint without them."""
        history = checkpoint.history
        if history is not self._history:
            self._history, self._num, self._last = history, 0, ""
        while len(history) - self._num >= RECORDS_A_FILE:
            end = self._num + RECORDS_A_FILE
            data = Checkpoint({}, {}, history.part(self._num, end), self._last).to_bytes()
            name = f"{end:09d}-{_digest(data)}"
            path = self._folder / f"{name}.safetensors"
            if not path.exists():
                write_durably(path, data)
            self._num, self._last = end, name
        rest = history.part(self._num, len(history))
        return attrs.evolve(checkpoint, history=rest, before=self._last)


def read_agent(path: Path) -> Checkpoint:
    """Read the checkpoint of an agent; a file of weights alone is a CheckpointError."""
    checkpoint = read(path)
    if "agent" not in checkpoint.values:
        raise CheckpointError(
            f"{path}: holds a copy of weights and no agent; "
            "accepted: a run's best.safetensors, or a file of its checkpoints/"
        )
    return checkpoint


def beside(path: Path) -> Path:
    """Return a name of this writer's own, under which a file is written before it takes its place.

    `left_over` finds the files of writers that were killed.
    """
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def left_over(folder: Path, name: str) -> Iterator[Path]:
    """Yield the unfinished files for a name, or a pattern of names, in a folder."""
    yield from folder.glob(f".{name}*.tmp")


def write_durably(path: Path, data: bytes) -> None:
    """Put `data` at `path` so that a crash at any moment leaves the old content or the new.

    Written beside, flushed to the disk, renamed over; then the folder's entry is flushed as well.
    """
    temporary = beside(path)
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


def demand_fit(kind: str, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise a CheckpointError that lists missing and extra names, or names another shape."""
    missing, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing or extra:
        problem = f"missing {missing}, extra {extra}"
        raise CheckpointError(f"the checkpoint's {kind} does not fit: {problem}")
    for name, tensor in found.items():
        if tensor.shape != wanted[name].shape:
            raise CheckpointError(
                f"the checkpoint's {kind} does not fit: {name} has the shape "
                f"{list(tensor.shape)}, the agent's {list(wanted[name].shape)}"
            )
