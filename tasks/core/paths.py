"""Paths of files and folders: `~` is expanded, and errors say where a file was looked for."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.core import earlier_names
from tasks.core.settings import ConfigError


def expand_user(text: str) -> Path:
    """Expand `~` in a path to the home folder; without a home folder the path is unchanged."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - pathlib's own raises for `~nobody`


def folder_path(value: object, place: str) -> Path:
    """Return the path of a folder; an empty text is a ConfigError.

    An unset variable of the shell leaves an empty text, which would be the working directory.
    """
    if not isinstance(value, (str, Path)) or not str(value).strip():
        problem = f"{value!r} is not a folder"
        raise ConfigError(place, "run_dir", problem, "the path of a folder, as text")
    return expand_user(str(value))


def make_folder(path: Path) -> None:
    """Create a folder and its parents; of a symbolic link, the folder that it points to."""
    os.makedirs(os.path.realpath(path), exist_ok=True)  # noqa: PTH103 - pathlib's fails at a loop


def is_file(path: Path) -> bool:
    """Return whether a path is a file; False for a path that no file can have."""
    return os.path.isfile(path)  # noqa: PTH113 - pathlib's own raises where a name is too long


def describe_os_error(path: Path, error: OSError | ValueError) -> str:
    """Describe why a file cannot be read, and where a relative path was looked for.

    >>> describe_os_error(Path("/a.txt"), FileNotFoundError(2, "No such file or directory"))
    'cannot be read: No such file or directory'
    """
    reason = error.strerror if isinstance(error, OSError) else error
    missing = isinstance(error, FileNotFoundError) and not path.is_absolute()
    return f"cannot be read: {reason}{f' in {Path.cwd()}' if missing else ''}"


if not TYPE_CHECKING:
    __getattr__ = earlier_names.symbols_of(__name__)
