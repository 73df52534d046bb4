"""Checkpoints: tensors and plain values in one safetensors file, written durably, read strictly.

The plain values stand as JSON in the file's metadata, with a SHA-256 digest of the whole file in
which the digest's own 64 characters are zeros. So a flipped bit anywhere is found, and nothing is
ever unpickled.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from tasks.core.settings import ConfigError, TerrariumError

FORMAT = 1  # raised when an older reader could not understand the file
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
    """Plain values (JSON types) and tensors by name."""

    values: dict[str, Any]
    tensors: dict[str, Tensor]

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        values = {"sha256": _ZEROS, "format": FORMAT, **self.values}
        text = json.dumps(values, separators=(",", ":"), allow_nan=False)
        data = save_tensors(
            {name: tensor.detach().cpu().clone() for name, tensor in self.tensors.items()},
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
    if values.pop("format") != FORMAT:
        raise CheckpointError(f"{path}: was written by a newer version of terrarium")
    return Checkpoint(values, load_tensors(data))


def read(path: Path) -> Checkpoint:
    """Read a checkpoint file, whole and checked."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(str(path), "", "does not exist", "a checkpoint file") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    return from_bytes(data, path)


def beside(path: Path) -> Path:
    """Return the name under which a file is written before it takes its place."""
    return path.with_name(f".{path.name}.tmp")


def write_durably(path: Path, data: bytes) -> None:
    """Put `data` at `path` so that a crash at any moment leaves the old content or the new.

    Written beside, flushed to the disk, renamed over; then the folder's entry is flushed as well.
    """
    temporary = beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
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
