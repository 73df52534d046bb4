"""Records of pages, kept between runs: what an index needs, so that XML is not read again.

A file of records has a line for each page, in the order of their names: a hash of the line, then
JSON. It is read and written one line at a time, so that its size does not matter. A record is used
while the sizes and times of XML and image, and the time of their folder, are those of its stamp.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from tasks.core.paths import expand_user
from tasks.core.settings import ConfigError
from tasks.core.workers import map_threads
from tasks.handwriting.line_index import LeftOut

_DIGITS = 16  # of the hash of a line


class PageRecord(NamedTuple):
    """What an index needs of a page."""

    name: str  # path of its XML in the folder
    image: str = ""  # that of its image; empty: it has no line that is used
    digest: int = 0  # hash of its image
    lines: Sequence[tuple[str, str, float]] = ()  # name, text and approximate width of each line
    left_out: Sequence[LeftOut] = ()
    notes: Sequence[LeftOut] = ()


class PageRecords:
    """Records of the pages of a folder, of which those that are kept need not be made again."""

    def __init__(
        self, root: str, kept: IO[bytes] | None, write: Callable[[bytes], None] | None
    ) -> None:
        self._root, self._write = root, write
        self._kept = _lines(kept)
        self._next = next(self._kept, None)

    def of(self, names: Sequence[str], make: Callable[[str], PageRecord]) -> list[PageRecord]:
        """Return the records of pages; names are sorted, and follow those of the call before."""
        known = self._known(names)
        missing = [name for name in names if name not in known]
        known |= dict(zip(missing, map_threads(make, missing), strict=True))
        for name in names:
            self._keep(known[name])
        return [known[name] for name in names]

    def _known(self, names: Sequence[str]) -> dict[str, PageRecord]:
        """Return the records that are kept, and of which the files did not change."""
        wanted, found = set(names), {}
        while self._next is not None and self._next[1].name <= names[-1]:
            stamp, record = self._next
            if record.name in wanted and stamp == _stamp(self._root, record):
                found[record.name] = record
            self._next = next(self._kept, None)
        return found

    def _keep(self, record: PageRecord) -> None:
        """Keep a record; a page that is not used is looked at each time, as it may be completed."""
        if self._write is None or not record.image:
            return
        stamp = _stamp(self._root, record)
        if stamp is not None:
            text = json.dumps([stamp, record]).encode()
            self._write(_hash(text) + text + b"\n")


@contextlib.contextmanager
def page_records(root: Path, cache: str | None, kind: str, place: str) -> Iterator[PageRecords]:
    """Read the records of a folder, and, after a block without an error, replace them.

    Args:
        root: the folder of the pages.
        cache: path of the folder where records are kept; None: they are not.
        kind: all that records depend on but the pages.
        place: task that errors name.

    Raises:
        ConfigError: names the setting `cache`, if its folder cannot be written.
    """
    if cache is None:
        yield PageRecords(os.fspath(root), None, None)
        return
    folder = expand_user(cache)
    path = folder / f"pages-{_hash(f'{kind} {root}'.encode(errors='surrogatepass')).decode()}.jsonl"
    with contextlib.ExitStack() as stack:
        with _writing(folder, place):
            folder.mkdir(parents=True, exist_ok=True)
            kept = stack.enter_context(path.open("rb")) if path.is_file() else None
            file = stack.enter_context(tempfile.NamedTemporaryFile(dir=folder, delete=False))
            stack.callback(Path(file.name).unlink, missing_ok=True)
        yield PageRecords(os.fspath(root), kept, lambda line: _write(file, line, folder, place))
        with _writing(folder, place):
            file.flush()
            os.replace(file.name, path)  # noqa: PTH105 - the name is text


def _write(file: IO[bytes], line: bytes, folder: Path, place: str) -> None:
    with _writing(folder, place):
        file.write(line)


@contextlib.contextmanager
def _writing(folder: Path, place: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        problem = f"{folder} cannot be written: {error.strerror}"
        raise ConfigError(place, "cache", problem, "the path of a folder, or null") from None


def _lines(file: IO[bytes] | None) -> Iterator[tuple[str, PageRecord]]:
    """Yield stamps and records, up to the first line that is spoilt."""
    for line in file or ():
        digest, text = line[:_DIGITS], line[_DIGITS:].rstrip(b"\n")
        if digest != _hash(text):
            return
        stamp, (name, image, page_digest, lines, left_out, notes) = json.loads(text)
        others = [[LeftOut(*item) for item in items] for items in (left_out, notes)]
        yield stamp, PageRecord(name, image, page_digest, [tuple(x) for x in lines], *others)


def _stamp(root: str, record: PageRecord) -> str | None:
    """Return sizes and times of the files of a page; None: one is not there."""
    path, image = f"{root}/{record.name}", f"{root}/{record.image}"
    try:
        found = [os.stat(each) for each in (path, image)]  # noqa: PTH116 - a million times
        folder = os.stat(path.rpartition("/")[0])  # noqa: PTH116
    except OSError:
        return None
    numbers: list[Any] = [number for each in found for number in (each.st_size, each.st_mtime_ns)]
    return " ".join(map(str, [*numbers, folder.st_mtime_ns]))


def _hash(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=_DIGITS // 2).hexdigest().encode()
