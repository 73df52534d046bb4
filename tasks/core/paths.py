"""Files that people name: `~` is a home folder, and an error says where a file was looked for."""

import os
from pathlib import Path


def expanded(text: str) -> Path:
    """Return a path with the home folder for `~`; where there is none the path stays as it is."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - pathlib's own raises for `~nobody`


def is_file(path: Path) -> bool:
    """Tell whether a path is that of a file; one that no file can have is not."""
    return os.path.isfile(path)  # noqa: PTH113 - pathlib's own raises where a name is too long


def why_not(path: Path, error: OSError | ValueError) -> str:
    """Say why a file cannot be read, and where a relative path was looked for.

    >>> why_not(Path("/a.txt"), FileNotFoundError(2, "No such file or directory"))
    'cannot be read: No such file or directory'
    """
    reason = error.strerror if isinstance(error, OSError) else error
    missing = isinstance(error, FileNotFoundError) and not path.is_absolute()
    return f"cannot be read: {reason}{f' in {Path.cwd()}' if missing else ''}"
