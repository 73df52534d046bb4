"""Lines of handwriting from files: an index with splits and texts, and a store of cut images."""

import abc
import functools
import hashlib
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core.paths import expand_user
from tasks.core.settings import ConfigError, setting
from tasks.core.task import SPLITS, Split
from tasks.handwriting.lines import Line, LineImages, LineTask, Pass
from tasks.handwriting.texts import charset_of
from tasks.image_files import FOLDERS, map_threads

STORE_BYTES = 2**30  # of images of lines that are kept; the others are read again each time
_NAMED = 3  # examples of each reason in a warning
_SHARES = ("test", "validation")  # the splits that are made by a share, and their settings
_logger = logging.getLogger(__name__)


class LeftOut(NamedTuple):
    """What a task does not use of its files, or not as it is written, and why."""

    place: str  # the file, and the line in it
    reason: str


class StoredLine(NamedTuple):
    """A line that is in a file: its name, its text, and about how wide it is."""

    name: str
    text: str
    width: float  # in pixels of an image of the task's height
    group: int  # what is read at once, such as a page


@attrs.frozen(eq=False)
class LineIndex:
    """Lines of all splits, in the order of the splits."""

    lines: Sequence[StoredLine]
    ranges: Mapping[Split, range]
    left_out: tuple[LeftOut, ...]
    notes: tuple[LeftOut, ...] = ()  # what is used, but not as it is written

    @functools.cached_property
    def numbers(self) -> Mapping[str, int]:
        """Number of each line by name."""
        return {line.name: number for number, line in enumerate(self.lines)}

    @functools.cached_property
    def widths(self) -> NDArray[np.float64]:
        """Approximate width of each line."""
        return np.array([line.width for line in self.lines])


class LineStore:
    """Images of lines, read in groups once, by threads; up to STORE_BYTES are kept.

    `read` returns the images of a group, bytes (height, width), by number of the line.
    """

    def __init__(
        self, index: LineIndex, read: Callable[[int], Mapping[int, NDArray[np.uint8]]]
    ) -> None:
        self._index, self._read, self._lock = index, read, threading.Lock()
        self._images: dict[int, NDArray[np.uint8]] = {}
        self._num_bytes = 0

    def load(self, numbers: Sequence[int]) -> list[NDArray[np.uint8]]:
        """Return images by number; raises as `read` does."""
        with self._lock:
            missing = [number for number in numbers if number not in self._images]
            groups = sorted({self._index.lines[number].group for number in missing})
            found = {n: self._images[n] for n in numbers if n in self._images}
            for images in map_threads(self._read, groups):
                found.update(images)
                for number, image in images.items():
                    if number not in self._images and self._num_bytes < STORE_BYTES:
                        self._images[number] = image
                        self._num_bytes += image.nbytes
            return [found[number] for number in numbers]


@attrs.frozen(kw_only=True)
class StoredLines(LineTask):
    """Base class of tasks whose lines are read from files."""

    path: str | None = setting(None, "path of the folder of the files")
    unicode_form: Literal["NFC", "NFD", "NFKC", "NFKD"] = setting(
        "NFC", "Unicode normal form of the texts; NFC: é is one character"
    )

    def __attrs_post_init__(self) -> None:
        """Store the characters of the files, for checkpoints; check those that are given."""
        LineTask.__attrs_post_init__(self)
        if self.charset is None and self.path is not None:
            object.__setattr__(self, "charset", self.own_characters)

    @property
    @abc.abstractmethod
    def index(self) -> LineIndex:
        """The lines of all splits; made once."""

    @property
    @abc.abstractmethod
    def store(self) -> LineStore:
        """The images of the lines; one per process."""

    @property
    def own_characters(self) -> str:
        """All characters of the texts."""
        return charset_of(line.text for line in self.index.lines)

    @property
    def root(self) -> Path:
        """The folder of the files.

        Raises:
            ConfigError: no path is given.
        """
        if self.path is None:
            problem = f"is required: {self.name} is read from files"
            raise ConfigError(f"task {self.name}", "path", problem, "the path of a folder")
        return Path(os.path.abspath(expand_user(self.path)))  # noqa: PTH100 - pathlib follows links

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """What is not used of the files, and why."""
        return self.index.left_out

    @property
    def notes(self) -> tuple[LeftOut, ...]:
        """What is used of the files, but not as it is written, such as clipped coordinates."""
        return self.index.notes

    def num_samples_in(self, split: Split) -> int:
        """Return the number of lines in a split."""
        return len(self.index.ranges[split])

    def widths(self, pass_: Pass) -> NDArray[np.float64]:
        """Return the approximate width of each line of a split."""
        within = self.index.ranges[pass_.split]
        return self.index.widths[within.start : within.stop]

    def load(self, pass_: Pass, index: NDArray[np.int64]) -> list[Line]:
        """Return lines of a split."""
        first = self.index.ranges[pass_.split].start
        return self._numbered([first + number for number in index.tolist()])

    def _numbered(self, numbers: Sequence[int]) -> list[Line]:
        lines = self.index.lines
        pairs = zip(numbers, self.store.load(numbers), strict=True)
        return [Line(image, lines[number].text, number) for number, image in pairs]

    def encode_one(self, x: Any) -> Line:
        """Return a line by its name, such as `test/17` or that in `rows`, or as every task does."""
        if isinstance(x, str) and self.path is not None and self.root.is_dir():
            name = x.strip()
            split, _, at = name.partition("/")
            within = self.index.ranges.get(split, range(0)) if split in SPLITS else range(0)
            if at.isdecimal() and int(at) < len(within):
                return self._numbered([within[int(at)]])[0]
            if name in self.index.numbers:
                return self._numbered([self.index.numbers[name]])[0]
        return super().encode_one(x)

    def score(self, answers: Any, targets: LineImages) -> dict[str, float]:
        """Return the error rates, and that of characters with the form of the texts: `cer/NFC`."""
        scores = LineTask.score(self, answers, targets)
        return scores | {f"cer/{self.unicode_form}": scores["cer"]}

    def names_of(self, batch: LineImages) -> list[str]:
        """Return the name of each line; of one from outside, a hash and its width."""
        names = super().names_of(batch)
        if batch.number is None:
            return names
        numbers = np.asarray(batch.number).tolist()
        stored = {number: self.index.lines[number].name for number in numbers if number >= 0}
        return [stored.get(number, name) for number, name in zip(numbers, names, strict=True)]


class Candidate(NamedTuple):
    """A file, or a page, that is to be assigned to a split."""

    name: str
    split: Split | None  # None: assigned by a share
    digest: int  # of its image: equal ones must not be in two splits


def assign_splits(
    items: Sequence[Candidate], shares: Mapping[str, float], place: str
) -> tuple[list[Split | None], list[LeftOut]]:
    """Return the split of each item, None: left out; and what is left out.

    Items without a split, and those of `train` if `test` or `validation` has no items, are assigned
    by a hash of their names, so that a new item changes no other. A split that is empty then has
    the item that is the nearest to it. Of equal images in two splits, one is used: that of the
    test, then that of the validation.

    Raises:
        ConfigError: a split is empty.
    """
    wanted = {split: shares[split] for split in _SHARES if split not in {x.split for x in items}}
    free = [at for at, item in enumerate(items) if item.split in (None, "train")]
    position = {at: _position(items[at].name) for at in free}
    splits: list[Split | None] = [item.split or "train" for item in items]
    low = 0.0
    for split, share in wanted.items():
        members = [at for at in free if low <= position[at] < low + share]
        rest = [at for at in free if splits[at] == "train" and at not in members]
        if not members and len(rest) > 1:
            members = [min(rest, key=lambda at: abs(position[at] - low))]
        for at in members:
            splits[at] = split  # type: ignore[call-overload]
        low += share
    left_out, seen = [], dict[int, tuple[Split, str]]()
    for split in ("test", "validation", "train"):
        for at, item in enumerate(items):
            if splits[at] == split:
                first = seen.setdefault(item.digest, (split, item.name))
                if first[0] != split:
                    splits[at] = None
                    place = f"{item.name}, equal to {first[1]}"
                    left_out.append(LeftOut(place, f"its image is also in {first[0]}"))
    for split in SPLITS:
        if split not in splits:
            problem = f"of the {len(items)} files with texts none is in {split}"
            raise ConfigError(place, "path", problem, "more files, or another share")
    return splits, left_out


def _position(name: str) -> float:
    digest = hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2.0**64


def digest_of(data: bytes) -> int:
    """Return a hash of 64 bits of the content of a file."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def warn(place: str, index: LineIndex) -> None:
    """Log one warning that counts and names what is left out, or not used as it is written."""
    if not index.left_out and not index.notes:
        return
    reasons = "; ".join(filter(None, (_counted(index.left_out), _counted(index.notes))))
    counts = f"{len(index.left_out):,} left out, {len(index.lines):,} lines used"
    _logger.warning("%s: %s; left_out and notes name all: %s", place, counts, reasons)


def _counted(items: Sequence[LeftOut]) -> str:
    told = []
    for reason, count in Counter(item.reason for item in items).most_common():
        names = [item.place for item in items if item.reason == reason]
        more = ", …" if count > _NAMED else ""
        told.append(f"{count} × {reason} ({', '.join(names[:_NAMED])}{more})")
    return "; ".join(told)


def splits_by_folder(root: Path) -> Mapping[str, Split]:
    """Return the splits by the names of their folders, if a folder has one but `train`."""
    has_splits = any((root / folder).is_dir() for folder in FOLDERS if folder != "train")
    return FOLDERS if has_splits else {}


def files_in(root: Path, place: str) -> list[str]:
    """Return the paths in a folder of all files, recursively, sorted, without hidden ones.

    Raises:
        ConfigError: names `place`, if the folder is not there.
    """
    if not root.is_dir():
        raise ConfigError(place, "path", f"{root} is not a folder", "the path of a folder")
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        names = [name for name in files if not name.startswith(".")]
        found += [(Path(folder) / name).relative_to(root).as_posix() for name in names]
    return sorted(found)
