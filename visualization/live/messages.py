"""Messages of the live page: a JSON header and binary buffers, and the checks of their fields.

A message is one binary frame: the length of the header in 4 bytes (little endian), the header in
UTF-8, then the buffers without gaps. The header is an object; its `buffers` has their lengths.
"""

import json
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from visualization.core.errors import argument_error, unknown_name_error, value_error

MAX_HEADER = 2**20  # bytes
MAX_MESSAGE = 2**25  # bytes of a frame: what the server reads at most
_LENGTH = struct.Struct("<I")


@attrs.frozen
class Reply:
    """Reply to a message: JSON values by name, and binary buffers."""

    data: Mapping[str, Any]
    buffers: Sequence[bytes] = ()


def pack(header: Mapping[str, Any], buffers: Sequence[bytes] = ()) -> bytes:
    """Pack a header and buffers as one frame.

    >>> unpack(pack({"id": 1}, [b"ab", b""]))
    ({'id': 1}, [b'ab', b''])
    """
    lengths = [len(buffer) for buffer in buffers]
    text = json.dumps({**header, "buffers": lengths}, allow_nan=False).encode()
    return b"".join([_LENGTH.pack(len(text)), text, *buffers])


def unpack(frame: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """Unpack a frame; the inverse of `pack`.

    Raises:
        ValueError: it is not a frame, says what is wrong.
    """
    accepted = "4 bytes of length, a JSON object, and the buffers that it lists"
    if not _LENGTH.size <= len(frame) <= MAX_MESSAGE:
        raise argument_error("message", f"it has {len(frame):,} bytes", accepted)
    (length,) = _LENGTH.unpack_from(frame)
    begin = _LENGTH.size + length
    if length > MAX_HEADER or begin > len(frame):
        raise argument_error("message", f"a header of {length:,} bytes", accepted)
    try:
        header = json.loads(frame[_LENGTH.size : begin].decode())
    except (ValueError, RecursionError) as error:
        raise argument_error("message", f"its header is no JSON: {error}", accepted) from None
    lengths = header.pop("buffers", None) if isinstance(header, dict) else None
    if not isinstance(lengths, list) or not all(type(n) is int and n >= 0 for n in lengths):
        raise argument_error("message", "its header lists no buffers", accepted)
    if begin + sum(lengths) != len(frame):
        problem = f"buffers of {sum(lengths):,} bytes in {len(frame) - begin:,}"
        raise argument_error("message", problem, accepted)
    buffers = []
    for size in lengths:
        buffers.append(frame[begin : begin + size])
        begin += size
    return header, buffers


def is_number(value: object) -> bool:
    """Tell whether a JSON value is a number that a float can have, and is finite."""
    try:
        return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
    except OverflowError:  # an integer of more than 308 digits
        return False


class Arguments:
    """Arguments of a call of the live page, which are checked as they are read.

    Args:
        values: the header of the message.
        buffers: its buffers.
    """

    def __init__(self, values: Mapping[str, Any], buffers: Sequence[bytes] = ()) -> None:
        self._values, self._buffers = values, buffers

    def given(self, name: str) -> bool:
        """Tell whether an argument is given, and not null."""
        return self._values.get(name) is not None

    def integer(self, name: str, low: int, high: int) -> int:
        """Return a whole number from low to high, both included."""
        value = self._values.get(name)
        if type(value) is not int or not low <= value <= high:
            raise value_error(name, _brief(value), f"a whole number from {low} to {high}")
        return value

    def number(self, name: str, low: float = -1e6, high: float = 1e6) -> float:
        """Return a finite number from low to high."""
        value: Any = self._values.get(name)
        if not is_number(value) or not low <= value <= high:
            raise value_error(name, _brief(value), f"a number from {low:g} to {high:g}")
        return float(value)

    def text(self, name: str, longest: int = 1000) -> str:
        """Return a text of at most `longest` characters."""
        value = self._values.get(name)
        if not isinstance(value, str) or len(value) > longest:
            raise value_error(name, _brief(value), f"a text of at most {longest} characters")
        return value

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """Return one of some names."""
        value = self.text(name)
        if value not in choices:
            raise unknown_name_error(name, value, choices)
        return value

    def integers(self, name: str, low: int, high: int, most: int = 4096) -> list[int]:
        """Return a list of at most `most` whole numbers from low to high."""
        values = self._list(name, most)
        if not all(type(value) is int and low <= value <= high for value in values):
            raise value_error(name, _brief(values), f"whole numbers from {low} to {high}")
        return values

    def items(self, name: str, most: int = 256) -> list["Arguments"]:
        """Return a list of objects, each as arguments; none, if it is not given."""
        values = self._list(name, most) if self.given(name) else []
        if not all(isinstance(value, dict) for value in values):
            raise value_error(name, _brief(values), "a list of objects")
        return [Arguments(value) for value in values]

    def cells(self, name: str, shape: tuple[int, int], most: int = 65536) -> list[Any]:
        """Return a list of [row, column, value] within a map of (rows, columns)."""
        values = self._list(name, most)
        for value in values:
            good = isinstance(value, list) and len(value) == 3
            good = good and all(
                type(place) is int and 0 <= place < size
                for place, size in zip(value[:2], shape, strict=True)
            )
            if not good or not is_number(value[2]):
                accepted = f"[row, column, value] within {shape[0]} × {shape[1]}"
                raise value_error(name, _brief(value), accepted)
        return values

    def array(self, shape: Sequence[int], number: int = 0) -> NDArray[np.float32]:
        """Return a buffer of float32, little endian, as an array (writable).

        Raises:
            ValueError: there is none, of another length, or with numbers that are not finite.
        """
        size = 4 * math.prod(shape)
        lengths = [len(buffer) for buffer in self._buffers]
        if number >= len(lengths) or lengths[number] != size:
            problem = f"buffers of {lengths} bytes"
            raise argument_error("buffers", problem, f"{size} bytes: float32 of {tuple(shape)}")
        values = np.frombuffer(self._buffers[number], "<f4").reshape(shape).astype(np.float32)
        if not np.isfinite(values).all():
            raise argument_error("buffers", "NaN or inf", "finite numbers")
        return values

    def content(self, number: int = 0) -> bytes:
        """Return a buffer as it is, such as the content of a file."""
        if number >= len(self._buffers):
            raise argument_error("buffers", "there is none", "the content of a file")
        return bytes(self._buffers[number])

    def _list(self, name: str, most: int) -> list[Any]:
        value = self._values.get(name)
        if not isinstance(value, list) or len(value) > most:
            raise value_error(name, _brief(value), f"a list of at most {most}")
        return value


def _brief(value: object, longest: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= longest else f"{text[:longest]}…"
