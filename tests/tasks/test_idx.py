"""Idx files: bytes written by hand are read as the numbers that they are, and nothing else is."""

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from tasks.core.idx import read_idx, read_idx_header
from tasks.core.settings import ConfigError
from tests.conftest import idx_bytes

KNOWN = bytes.fromhex("00000802 00000002 00000003 010203fdfeff")


def written(folder: Path, data: bytes) -> Path:
    """Return the path of a file of these bytes."""
    path = folder / "numbers-idx2-ubyte"
    path.write_bytes(data)
    return path


def test_known_bytes_are_known_numbers(tmp_path: Path) -> None:
    """Two rows of three bytes, spelled out, are those numbers in that order."""
    found = read_idx(written(tmp_path, KNOWN))
    assert found.dtype == np.uint8
    assert found.tolist() == [[1, 2, 3], [253, 254, 255]]


@pytest.mark.parametrize(
    ("code", "packed", "kind"),
    [
        (0x08, "B", "uint8"), (0x09, "b", "int8"), (0x0B, "h", "int16"), (0x0C, "i", "int32"),
        (0x0D, "f", "float32"), (0x0E, "d", "float64"),
    ],
)  # fmt: skip
def test_every_type_is_read_in_the_machines_order(
    tmp_path: Path, code: int, packed: str, kind: str
) -> None:
    """Big-endian numbers of each type come out as numpy's own type."""
    numbers = [0, 1, 2, 100] if packed == "B" else [0, 1, -2, 100]
    data = struct.pack(f">BBBBI4{packed}", 0, 0, code, 1, 4, *numbers)
    found = read_idx(written(tmp_path, data))
    assert found.dtype == np.dtype(kind)
    assert found.tolist() == numbers


def test_compressed_and_plain_are_equal(tmp_path: Path) -> None:
    """Gzip is told by the content, whatever the name; the header alone agrees with the array."""
    numbers = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    for data in (idx_bytes(numbers), gzip.compress(idx_bytes(numbers))):
        path = written(tmp_path, data)
        np.testing.assert_array_equal(read_idx(path), numbers)
        assert read_idx_header(path).shape == (2, 3, 4)
        assert read_idx_header(path).dtype == ">u1"


def test_an_empty_array_is_one(tmp_path: Path) -> None:
    """A file of no scans has the stated shape."""
    data = struct.pack(">BBBB3I", 0, 0, 0x08, 3, 0, 28, 28)
    assert read_idx(written(tmp_path, data)).shape == (0, 28, 28)


BAD = {
    "nothing": (b"", "begins with nothing"),
    "short magic": (b"\0\0\x08", "begins with 00 00 08"),
    "wrong magic": (b"\x89PNG....", "begins with 89 50 4e 47, not with 00 00"),
    "unknown type": (b"\0\0\x0a\x01\0\0\0\0", "unknown code 0x0a; accepted: 0x08, 0x09, 0x0b"),
    "no dimension": (b"\0\0\x08\0", "0 dimensions; accepted: 1 to 32"),
    "many dimensions": (b"\0\0\x08\x21" + bytes(200), "33 dimensions; accepted: 1 to 32"),
    "cut header": (KNOWN[:10], "ends within its header, which has 2 sizes"),
    "cut numbers": (KNOWN[:-1], "says 2 × 3, which are 6 bytes; 5 follow"),
    "too long": (KNOWN + b"\0", "says 2 × 3, which are 6 bytes; more follow"),
    "absurd": (b"\0\0\x08\x01\xff\xff\xff\xff" + bytes(9), "4294967295 bytes; it has 17 in all"),
    "absurd and empty": (b"\0\0\x08\x03" + bytes(4) + b"\xff" * 8, "are 0 bytes; it has 16 in all"),
    "absurd and compressed": (
        gzip.compress(b"\0\0\x0e\x02" + b"\xff" * 8 + bytes(9)), "147573952520956936200 bytes"
    ),
    "cut gzip": (gzip.compress(KNOWN)[:-9], "is damaged or cut off"),
    "cut check": (gzip.compress(KNOWN)[:-3], "is damaged or cut off"),
    "bad check": (gzip.compress(KNOWN)[:-8] + bytes(8), "is damaged or cut off: CRC check failed"),
    "no gzip": (b"\x1f\x8bno gzip at all", "is damaged or cut off"),
    "bad deflate": (gzip.compress(KNOWN)[:10] + b"\xff" * 20, "is damaged or cut off"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_idx_file_is_refused(tmp_path: Path, case: str) -> None:
    """Every wrong file is an error that names its path and what is wrong with it."""
    data, problem = BAD[case]
    path = written(tmp_path, data)
    with pytest.raises(ConfigError) as caught:
        read_idx(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert problem in str(caught.value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A missing file and a folder are errors that name the path."""
    with pytest.raises(ConfigError, match=r"none: cannot be read: No such file"):
        read_idx(tmp_path / "none")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_idx(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read: File name too long"):
        read_idx(tmp_path / ("x" * 5000))
    with pytest.raises(ConfigError, match="cannot be read: embedded null"):
        read_idx(Path("a\0b"))


def test_a_relative_path_says_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a missing file the error names the folder, unless the path has it."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=f"a/b: cannot be read: No such .* in {tmp_path};"):
        read_idx(Path("a/b"))
    with pytest.raises(ConfigError, match=f"none: cannot be read: {os.strerror(2)};"):
        read_idx(tmp_path / "none")
