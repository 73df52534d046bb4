"""Pipes to child processes of Python: how they are started, and messages of arrays.

Nothing is pickled: a message is a named tuple of arrays, lists, texts, numbers and None, written as
JSON and the bytes of its arrays.
"""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

LENGTH = 8  # bytes of the length of a header; 0: the end of what was asked for
_PIPE_BYTES = 2**20  # of a pipe's buffer, where the system lets it be chosen


class EndedError(Exception):
    """The process ended, by an error or because it was killed."""


def start(module: str, variables: Mapping[str, str] | None = None, **how: Any) -> Any:
    """Start `python -m module` with pipes for its input and output."""
    return subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, pipesize=_PIPE_BYTES,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
             **(variables or {})},
        start_new_session=True,  # a SIGINT of the terminal is for the run alone
        **how,
    )  # fmt: skip


def own_output() -> IO[bytes]:
    """Return the pipe that a child writes to; what it prints is written to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def send(stream: IO[bytes], *lines: Any) -> None:
    """Write values of JSON types, each as a line.

    Raises:
        EndedError: the process no longer reads.
    """
    try:
        stream.write("".join(f"{json.dumps(line)}\n" for line in lines).encode())
        stream.flush()
    except OSError:
        raise EndedError from None


def read(stream: IO[bytes]) -> Any:
    """Read a message; None: the end of what was asked for.

    Raises:
        EndedError: the process ended before the message did.
    """
    length = int.from_bytes(_bytes(stream, LENGTH), "little")
    if not length:
        return None
    (module, name), fields = json.loads(_bytes(stream, length))

    def value(field: Any) -> Any:
        if isinstance(field, dict):
            dtype, shape = np.dtype(field["dtype"]), field["shape"]
            data = _bytes(stream, dtype.itemsize * int(np.prod(shape, dtype=np.int64)))
            return np.frombuffer(data, dtype).reshape(shape)
        return [value(part) for part in field] if isinstance(field, list) else field

    return getattr(importlib.import_module(module), name)(*map(value, fields))


def _bytes(stream: IO[bytes], num: int) -> bytearray:
    """Read that many bytes, into memory that may be written to."""
    data = bytearray(num)
    if num and stream.readinto(data) < num:  # type: ignore[attr-defined]
        raise EndedError
    return data


def write(stream: IO[bytes], message: Any) -> None:
    """Write a message: a named tuple of arrays, lists of them, texts, numbers and None."""
    arrays: list[Any] = []

    def plain(field: Any) -> Any:
        if isinstance(field, np.ndarray):
            arrays.append(np.ascontiguousarray(field))
            return {"dtype": field.dtype.str, "shape": field.shape}
        return [plain(part) for part in field] if isinstance(field, (list, tuple)) else field

    kind = type(message).__module__, type(message).__qualname__
    header = json.dumps([kind, [plain(field) for field in message]]).encode()
    stream.write(len(header).to_bytes(LENGTH, "little") + header)
    for array in arrays:
        stream.write(memoryview(array).cast("B") if array.size else b"")
    stream.flush()
