"""Free memory, and reading of files that may be larger than it."""

import contextlib
import errno
import os
import sys
from pathlib import Path

_OF_TORCH = (
    "not enough memory", "can't allocate memory", "out of memory", "std::bad_alloc",
    "Cannot allocate memory",
)  # fmt: skip
_MOST_UNSAID = 2**28  # bytes beyond what a file says that it has
UNKNOWN = 2**62  # bytes: more than any machine has


def free_memory() -> int:
    """Return how many bytes this process may still take: of the machine's memory, and its limits.

    Where the system does not say it, a number that is larger than any memory.
    """
    return max(0, min(_free_of_machine(), _free_of_limit(), free_of_groups()))


def _free_of_machine() -> int:
    """Return what Linux calls MemAvailable, in bytes."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        return int(line.split()[1]) * 1024
    return UNKNOWN


def free_of_groups(
    groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> int:
    """Return what control groups (cgroups, of containers and batch systems) leave, in bytes.

    The least that the process's group and those above it leave; what they hold of files that can
    be read again counts as free.
    """
    free = UNKNOWN
    with contextlib.suppress(OSError, ValueError):
        for line in groups.read_text(encoding="utf-8").splitlines():
            _, kinds, own = line.split(":", 2)
            if kinds == "":
                top, names = root, ("memory.max", "memory.current", "inactive_file")
            elif "memory" in kinds.split(","):
                top = root / "memory"
                names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            else:
                continue
            group = top / own.strip("/")
            for each in (group, *group.parents):
                free = min(free, _left_in(each, *names))
                if each == top:
                    break
    return free


def _left_in(group: Path, most: str, used: str, cached: str) -> int:
    """Return what one control group leaves, in bytes."""
    with contextlib.suppress(OSError, ValueError):  # such as no such group, or the word max
        limit, taken = (int((group / name).read_text(encoding="ascii")) for name in (most, used))
        lines = (group / "memory.stat").read_text(encoding="ascii").splitlines()
        values = dict(line.split() for line in lines)
        return limit - taken + int(values.get(cached, 0))
    return UNKNOWN


def _free_of_limit() -> int:
    """Return what is left of the limit on the address space of this process (`ulimit -v`)."""
    if sys.platform == "win32":
        return UNKNOWN
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return UNKNOWN
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        return limit - pages * os.sysconf("SC_PAGE_SIZE")
    return limit


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, of Python, numpy, torch or the system."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, RuntimeError):  # of torch
        return any(words in str(error) for words in _OF_TORCH)
    return isinstance(error, MemoryError)


def read_whole(path: Path, most: int | None = None) -> bytes:
    """Read a file of at most so many bytes; the default is half of the memory that is free.

    A file that does not say its size, such as a pipe or `/dev/zero`, may have 256 MiB by default.

    Raises:
        OSError: it cannot be read, or is larger.
    """
    limit = free_memory() // 2 if most is None else most
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= limit:
            data = file.read(size + 1)  # as much as it says, in one piece
            if len(data) > size:  # it has no size, such as a pipe, or it grows
                limit = limit if most is not None else min(limit, size + _MOST_UNSAID)
                data += file.read(limit + 1 - len(data))
            if len(data) <= limit:
                return data
    why = "it may have" if most is not None else "the free memory allows"
    raise OSError(errno.EFBIG, f"it has more than the {describe_bytes(limit)} that {why}")


def describe_bytes(num: float) -> str:
    """Return a number of bytes as a person reads it.

    >>> describe_bytes(3 * 2**30)
    '3.0 GiB'
    """
    units = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")
    power = min(max(int(num).bit_length() - 1, 0) // 10, len(units) - 1)
    return f"{num / 1024**power:,.{1 if power else 0}f} {units[power]}"


def read_text(path: Path, encoding: str, most: int | None = None) -> str:
    r"""Read a file of text, as `read_whole` reads one of bytes; lines end with \n.

    Raises:
        OSError: it cannot be read, or is larger.
        UnicodeDecodeError: it is of another encoding.
    """
    return read_whole(path, most).decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
