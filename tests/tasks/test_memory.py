"""Reading of files that may be larger than memory, and errors that say that it ran out."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.core import memory
from tasks.core.idx import read_idx
from tasks.core.memory import describe_bytes, free_memory, is_out_of_memory, read_text, read_whole
from tasks.core.settings import ConfigError


def test_a_file_is_read_whole_up_to_its_limit(tmp_path: Path) -> None:
    """A file of exactly the limit is read; one byte more is an OSError that says the limit."""
    path = tmp_path / "a"
    path.write_bytes(bytes(1024))
    assert read_whole(path, 1024) == bytes(1024)
    assert read_whole(path) == bytes(1024)
    with pytest.raises(OSError, match=r"more than the 1,023 bytes that it may have"):
        read_whole(path, 1023)


def test_a_file_without_an_end_is_not_read_on() -> None:
    """A device has no size; of it no more than the limit is read."""
    with pytest.raises(OSError, match=r"more than the 4\.0 KiB"):
        read_whole(Path("/dev/zero"), 4096)


def test_what_a_pipe_gives_is_read() -> None:
    """A pipe has no size either, and is whole when it ends."""
    reading, writing = os.pipe()
    os.write(writing, b"a\r\nb\rc\n")
    os.close(writing)
    assert read_text(Path(f"/dev/fd/{reading}"), "utf-8", 100) == "a\nb\nc\n"
    os.close(reading)


def test_a_file_larger_than_memory_is_refused_unread(tmp_path: Path) -> None:
    """A sparse file of 1 TiB is refused by its size."""
    with (tmp_path / "a").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(OSError, match="the free memory allows"):
        read_whole(tmp_path / "a")


def test_an_idx_file_larger_than_memory_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A header that promises more than is free is an error that says how much is free."""
    monkeypatch.setattr("tasks.core.idx.free_memory", lambda: 5)
    path = tmp_path / "a"
    path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 6]) + bytes(6))
    with pytest.raises(ConfigError, match=r"are 6 bytes; 5 bytes of memory are free"):
        read_idx(path)


def test_free_memory_is_that_of_the_machine_and_of_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The smaller one counts, and it is never negative."""
    assert 0 < free_memory() <= 2**62
    monkeypatch.setattr(memory, "_free_of_limit", lambda: -3)
    assert free_memory() == 0


def test_errors_of_memory_are_told_from_others() -> None:
    """Of Python, of numpy, of torch and of the system."""
    caught: list[BaseException] = []
    for allocate in (lambda: np.empty(2**50), lambda: torch.empty(2**50), lambda: bytes(2**60)):
        with pytest.raises((MemoryError, RuntimeError)) as error:
            allocate()
        caught.append(error.value)
    assert [is_out_of_memory(error) for error in caught] == [True] * 3
    assert is_out_of_memory(OSError(errno.ENOMEM, "Cannot allocate memory"))
    assert not any(map(is_out_of_memory, (OSError(errno.ENOSPC, ""), RuntimeError("shape"))))


@pytest.mark.parametrize(
    ("num", "text"),
    [(0, "0 bytes"), (1023, "1,023 bytes"), (1024, "1.0 KiB"), (2**40, "1.0 TiB"),
     (2**70, "1,048,576.0 PiB")],
)  # fmt: skip
def test_bytes_are_described_in_the_largest_unit(num: int, text: str) -> None:
    """Of bytes to PiB the largest that is not above them."""
    assert describe_bytes(num) == text


def test_a_file_without_a_size_may_have_little_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much memory is free, a device without an end is not read until that is full."""
    monkeypatch.setattr(memory, "_MOST_UNSAID", 4096)
    with pytest.raises(OSError, match=r"more than the 4\.0 KiB"):
        read_whole(Path("/dev/zero"))


@pytest.mark.parametrize("version", [1, 2])
def test_memory_of_a_container_is_what_its_groups_leave(tmp_path: Path, version: int) -> None:
    """The least of a group and those above it; files that can be read again count as free."""
    files = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }[version]
    top = tmp_path / "memory" if version == 1 else tmp_path

    def group(name: str, most: str, used: int, cached: int) -> None:
        folder = top / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / files[0]).write_text(f"{most}\n")
        (folder / files[1]).write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 7\n{files[2]} {cached}\n")

    group("job", "5000", 4000, 500)
    group("job/step", "max" if version == 2 else "9999999", 300, 0)
    own = tmp_path / "cgroup"
    own.write_text("4:cpu,memory:/job/step\n" if version == 1 else "0::/job/step\n")
    assert memory.free_of_groups(own, tmp_path) == 1500
    group("job", "max" if version == 2 else str(2**61), 4000, 500)
    group("job/step", "1000", 300, 0)
    assert memory.free_of_groups(own, tmp_path) == 700
    assert memory.free_of_groups(tmp_path / "none", tmp_path) == memory.UNKNOWN
