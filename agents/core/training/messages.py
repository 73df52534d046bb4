"""Messages between ranks: nested values and arrays as bytes, without pickle.

A message is the length of its header, the header (JSON), and the bytes of its arrays. Named tuples
are made again from the module and the name of their class.
"""

import importlib
import json
from typing import Any

import numpy as np

from tasks.core.settings import ConfigError

_LENGTH = 8  # bytes of the length of a header


def to_bytes(value: Any) -> bytes:
    """Return a value as bytes.

    Args:
        value: None, a number, a text, an array; lists, tuples, named tuples and mappings of them.

    Raises:
        ConfigError: the value has another type within it; names the type.
    """
    arrays: list[bytes] = []

    def plain(part: Any) -> Any:
        if isinstance(part, (np.ndarray, np.generic)):
            array = np.asarray(part)
            arrays.append(array.tobytes())
            kind = "array" if isinstance(part, np.ndarray) else "scalar"
            return [kind, array.dtype.str, array.shape]
        if isinstance(part, dict):
            return ["mapping", [[key, plain(entry)] for key, entry in part.items()]]
        if isinstance(part, list):
            return ["list", [plain(entry) for entry in part]]
        if isinstance(part, tuple):
            cls = type(part)
            name = None if cls is tuple else (cls.__module__, cls.__qualname__)
            return ["tuple", name, [plain(entry) for entry in part]]
        if part is None or isinstance(part, (bool, int, float, str)):
            return part
        problem = f"{type(part).__name__} cannot be sent from one rank to another"
        accepted = "numbers, texts, arrays; lists, named tuples and mappings of them"
        raise ConfigError("ranks", "", problem, accepted)

    header = json.dumps(plain(value)).encode()
    return b"".join([len(header).to_bytes(_LENGTH, "little"), header, *arrays])


def from_bytes(data: bytes) -> Any:
    """Return the value of a message."""
    begin = _LENGTH + int.from_bytes(data[:_LENGTH], "little")

    def array(code: str, shape: list[int]) -> Any:
        nonlocal begin
        dtype, num = np.dtype(code), int(np.prod(shape, dtype=np.int64))
        end = begin + num * dtype.itemsize
        values = np.frombuffer(data[begin:end], dtype).reshape(shape).copy()
        begin = end
        return values

    def value(part: Any) -> Any:
        match part:
            case ["array", code, shape]:
                return array(code, shape)
            case ["scalar", code, shape]:
                return array(code, shape)[()]
            case ["mapping", entries]:
                return {key: value(entry) for key, entry in entries}
            case ["list", entries]:
                return [value(entry) for entry in entries]
            case ["tuple", None, entries]:
                return tuple(value(entry) for entry in entries)
            case ["tuple", [module, name], entries]:
                kind = getattr(importlib.import_module(module), name)
                return kind(*(value(entry) for entry in entries))
        return part

    return value(json.loads(data[_LENGTH:begin]))
