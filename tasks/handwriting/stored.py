"""Lines of handwriting from files: an index with splits and texts, and a store of cut images."""

import abc
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core.paths import expand_user
from tasks.core.settings import ConfigError, setting
from tasks.core.task import SPLITS, Split
from tasks.core.workers import read_ahead
from tasks.handwriting.line_index import LeftOut, LineIndex, LineStore
from tasks.handwriting.lines import Line, LineImages, LineTask, Pass
from tasks.handwriting.texts import charset_of

_NAMED = 3  # examples of each reason in a warning
_logger = logging.getLogger(__name__)


@attrs.frozen(kw_only=True)
class StoredLines(LineTask):
    """Base class of tasks whose lines are read from files."""

    path: str | None = setting(None, "path of the folder of the files")
    unicode_form: Literal["NFC", "NFD", "NFKC", "NFKD"] = setting(
        "NFC", "Unicode normal form of the texts; NFC: é is one character"
    )

    cache_memory: float = setting(
        1024.0,
        "megabytes (2^20 bytes) of images of lines that are kept in memory; the others are read "
        "each time; 0: none is kept",
        ge=0.0,
        mutable_after_training=True,
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
        return charset_of(self.index.lines.texts)

    @property
    def reads_files(self) -> bool:
        """Whether lines are read as they are needed: yes."""
        return True

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
        return self.index.lines.widths[within.start : within.stop]

    def load(self, pass_: Pass, index: NDArray[np.int64]) -> list[Line]:
        """Return lines of a split."""
        return self._begin(self.index.ranges[pass_.split].start + index)()

    def load_ahead(self, pass_: Pass, batches: Iterable[NDArray[np.int64]]) -> Iterator[list[Line]]:
        """Yield the lines of batches of a split, while worker processes read the next ones."""
        first = self.index.ranges[pass_.split].start
        return read_ahead((first + index for index in batches), self._begin)

    def _begin(self, numbers: NDArray[np.int64]) -> Callable[[], list[Line]]:
        lines, known = self.index.lines, numbers.tolist()
        images = self.store.begin(known)
        return lambda: [
            Line(image, lines[number].text, number)
            for number, image in zip(known, images(), strict=True)
        ]

    def encode_one(self, x: Any) -> Line:
        """Return a line by its name, such as `test/17` or that in `rows`, or as every task does."""
        if isinstance(x, str) and self.path is not None and self.root.is_dir():
            name = x.strip()
            split, _, at = name.partition("/")
            within = self.index.ranges.get(split, range(0)) if split in SPLITS else range(0)
            if at.isdecimal() and int(at) < len(within):
                return self._begin(np.array([within[int(at)]]))()[0]
            number = self.index.lines.find(name)
            if number is not None:
                return self._begin(np.array([number]))()[0]
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


def files_in(root: Path, place: str, ends: tuple[str, ...] = ("",)) -> list[str]:
    """Return the paths in a folder of files with these ends, recursively, sorted, no hidden ones.

    Ends are in lower case; names may be in any.

    Raises:
        ConfigError: names `place`, if the folder is not there.
    """
    if not root.is_dir():
        raise ConfigError(place, "path", f"{root} is not a folder", "the path of a folder")
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(folder).relative_to(root).as_posix()
        start = "" if inside == "." else f"{inside}/"
        found += [
            f"{start}{name}" for name in files if name[0] != "." and name.lower().endswith(ends)
        ]
    return sorted(found)
