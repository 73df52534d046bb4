"""Idx files, the format of the MNIST database: a big-endian header, then an array.

The header is two zero bytes, a code for the type of the numbers, how many dimensions there are, and
the size of each in four bytes (yann.lecun.com/exdb/mnist). Files may be compressed with gzip.
"""

import gzip
import math
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core.memory import describe_bytes, free_memory
from tasks.core.paths import describe_os_error
from tasks.core.settings import ConfigError

T = TypeVar("T")
TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_ACCEPTED = "an idx file, plain or compressed with gzip"
_GZIP = b"\x1f\x8b"
_MAX_DIMENSIONS = 32  # of a numpy array
_MAX_NUMBERS = 2**48  # limit of numpy, which also applies to empty arrays
_MAX_EXPANSION = 1032  # largest ratio of deflate (zlib.net/zlib_tech.html)


@attrs.frozen
class IdxHeader:
    """Header of an idx file: type and shape of its array."""

    dtype: str  # of numpy, big-endian
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Size of the array in bytes."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


def read_idx_header(path: Path) -> IdxHeader:
    """Read the type and shape of an idx file, from its header alone.

    Raises:
        ConfigError: names the path, and says what is wrong with the file.
    """
    return _read(path, _header)


def read_idx(path: Path) -> NDArray[Any]:
    """Read the array of an idx file, in native byte order.

    No memory is allocated for a header that says more than the file can contain.

    Raises:
        ConfigError: names the path, and says what is wrong with the file.
    """
    return _read(path, _array)


def _read(path: Path, read: Callable[[Path, IO[bytes], bool], T]) -> T:
    """Return `read(path, file, compressed)`; errors of reading are ConfigErrors."""
    try:
        with path.open("rb") as raw:
            compressed = raw.read(2) == _GZIP
            raw.seek(0)
            if not compressed:
                return read(path, raw, False)
            with gzip.open(raw) as file:
                return read(path, cast("IO[bytes]", file), True)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _error(path, f"is damaged or cut off: {error}", "a whole gzip file") from None
    except ConfigError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a path that no file can have
        raise _error(path, describe_os_error(path, error), _ACCEPTED) from None


def _header(path: Path, file: IO[bytes], compressed: bool) -> IdxHeader:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        shown = magic.hex(" ") or "nothing"
        raise _error(path, f"begins with {shown}, not with 00 00", _ACCEPTED)
    code, num_dimensions = magic[2:]
    if code not in TYPES:
        codes = ", ".join(f"{known_code:#04x}" for known_code in TYPES)
        raise _error(path, f"the type of its numbers has the unknown code {code:#04x}", codes)
    if not 1 <= num_dimensions <= _MAX_DIMENSIONS:
        raise _error(path, f"{num_dimensions} dimensions", f"1 to {_MAX_DIMENSIONS}")
    sizes = file.read(4 * num_dimensions)
    if len(sizes) < 4 * num_dimensions:
        problem = f"ends within its header, which has {num_dimensions} sizes"
        raise _error(path, problem, _ACCEPTED)
    return IdxHeader(TYPES[code], struct.unpack(f">{num_dimensions}I", sizes))


def _array(path: Path, file: IO[bytes], compressed: bool) -> NDArray[Any]:
    header = _header(path, file, compressed)
    on_disk = path.stat().st_size
    most = on_disk * _MAX_EXPANSION if compressed else on_disk
    num_bytes = header.num_bytes
    says = f"its header says {' × '.join(map(str, header.shape))}, which are {num_bytes} bytes"
    if num_bytes > most or math.prod(filter(None, header.shape)) > _MAX_NUMBERS:
        raise _error(path, f"{says}; it has {on_disk} in all", "as many bytes as it says")
    if num_bytes > (free := free_memory()):
        problem = f"{says}; {describe_bytes(free)} of memory are free"
        raise _error(path, problem, "fewer samples, or more memory")
    data = file.read(num_bytes)
    if len(data) < num_bytes:
        raise _error(path, f"{says}; {len(data)} follow", "as many bytes as it says")
    if file.read(1):  # this also makes gzip verify its checksum
        raise _error(path, f"{says}; more follow", "as many bytes as it says")
    native = np.dtype(header.dtype).newbyteorder("=")
    return np.frombuffer(data, header.dtype).astype(native).reshape(header.shape)


def _error(path: Path, problem: str, accepted: str) -> ConfigError:
    return ConfigError(os.fspath(path), "", problem, accepted)
