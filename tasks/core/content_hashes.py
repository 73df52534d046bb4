"""Hashes of the contents of files, kept between runs by name, size and time of change."""

import bisect
import hashlib
import os
import tempfile
from array import array
from pathlib import Path

import numpy as np

from tasks.core.paths import expand_user
from tasks.core.settings import ConfigError


class ContentHashes:
    """Hashes of the files of a folder; each file is read once, or, with a cache, when it changed.

    Args:
        root: the folder.
        cache: path of a folder where hashes are kept; None: they are not.
        place: task that errors name.
    """

    def __init__(self, root: Path, cache: str | None, place: str) -> None:
        self._root, self._place = os.fspath(root), place
        self._file: Path | None = None
        if cache is not None:
            self._file = (
                expand_user(cache) / f"hashes-{_hash(os.fsencode(self._root)):016x}.safetensors"
            )
        self._known, self._hashes = _load(self._file)
        self._is_changed = False
        self._used = array("Q")  # pairs of the key of a file, and of its hash

    def of(self, name: str) -> int:
        """Return a hash of 64 bits of the content of a file, by its path in the folder.

        Raises:
            OSError: it cannot be read.
        """
        path = f"{self._root}/{name}"
        if self._file is None:
            return hash_of_file(path)
        status = os.stat(path)  # noqa: PTH116 - a million times, and pathlib's is slower
        key = _hash(
            f"{name}\0{status.st_size}\0{status.st_mtime_ns}".encode("utf-8", "surrogatepass")
        )
        at = bisect.bisect_left(self._known, key)
        if at < len(self._known) and self._known[at] == key:
            content = self._hashes[at]
        else:
            content, self._is_changed = hash_of_file(path), True
        self._used.extend((key, content))  # one call, so that threads do not mix pairs
        return content

    def save(self) -> None:
        """Keep the hashes of this run.

        Raises:
            ConfigError: names the setting `cache`, if its folder cannot be written.
        """
        if self._file is None or not (self._is_changed or 2 * len(self._known) != len(self._used)):
            return
        from safetensors.numpy import save

        self._known, self._hashes = array("Q"), array("Q")
        keys, contents = np.array(self._used, np.uint64).reshape(-1, 2).T
        order = np.argsort(keys)
        write_whole(
            self._file, save({"keys": keys[order], "contents": contents[order]}), self._place
        )


def hash_of_file(path: str | Path) -> int:
    """Return a hash of 64 bits of the content of a file."""
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - a million times, and faster
        return _hash(file.read())


def write_whole(path: Path, data: bytes, place: str) -> None:
    """Write a file of a cache: it is whole, or not there.

    Raises:
        ConfigError: names the setting `cache`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(data)
        os.replace(file.name, path)  # noqa: PTH105 - the name is text
    except OSError as error:
        problem = f"{path.parent} cannot be written: {error.strerror}"
        raise ConfigError(place, "cache", problem, "the path of a folder, or null") from None


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _load(path: Path | None) -> "tuple[array[int], array[int]]":
    """Return keys, sorted, and hashes; none, where they are not kept, or are spoilt."""
    if path is None or not path.is_file():
        return array("Q"), array("Q")
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(path.read_bytes())
    except (OSError, SafetensorError):
        return array("Q"), array("Q")
    nothing = np.zeros(0, np.uint64)
    keys, contents = arrays.get("keys", nothing), arrays.get("contents", nothing)
    is_whole = keys.dtype == contents.dtype == np.uint64 and keys.shape == contents.shape
    pair = (keys, contents) if is_whole else (nothing, nothing)
    return array("Q", pair[0].tobytes()), array("Q", pair[1].tobytes())
