"""Index of lines in files, in some tens of bytes for each, and a store of their images."""

import bisect
import threading
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, overload

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core.names import NameTable
from tasks.core.task import Split
from tasks.core.workers import FileReader, begin


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


class LineTable(Sequence[StoredLine]):
    """Lines in a few blocks of memory: about 35 bytes for each, beside its name and text."""

    def __init__(self, lines: Iterable[StoredLine] = ()) -> None:
        self._names, self._texts = NameTable(), NameTable()
        self._widths, self._groups = array("d"), array("q")
        for line in lines:
            self.append(line)

    def append(self, line: StoredLine) -> None:
        """Add a line; its group is that of the line before, or a greater one."""
        self._names.append(line.name)
        self._texts.append(line.text)
        self._widths.append(line.width)
        self._groups.append(line.group)

    def __len__(self) -> int:
        """Return the number of lines."""
        return len(self._widths)

    @overload
    def __getitem__(self, at: int) -> StoredLine: ...
    @overload
    def __getitem__(self, at: slice) -> list[StoredLine]: ...
    def __getitem__(self, at: int | slice) -> StoredLine | list[StoredLine]:
        """Return a line by its number, or those of a slice."""
        if isinstance(at, slice):
            return [self[number] for number in range(*at.indices(len(self)))]
        return StoredLine(self._names[at], self._texts[at], self._widths[at], self._groups[at])

    @property
    def names(self) -> Sequence[str]:
        """The name of each line."""
        return self._names

    @property
    def texts(self) -> Iterator[str]:
        """The text of each line."""
        return iter(self._texts)

    @property
    def widths(self) -> NDArray[np.float64]:
        """Approximate width of each line."""
        return np.frombuffer(self._widths, np.float64) if len(self) else np.zeros(0)

    def numbers_of(self, group: int) -> range:
        """Return the numbers of the lines of a group."""
        return range(bisect.bisect_left(self._groups, group), bisect.bisect(self._groups, group))

    def find(self, name: str) -> int | None:
        """Return the number of a line by its name; None: there is no such line."""
        return self._names.find(name)


@attrs.frozen(eq=False)
class LineIndex:
    """Lines of all splits, in the order of the splits."""

    lines: LineTable
    ranges: Mapping[Split, range]
    left_out: tuple[LeftOut, ...]
    notes: tuple[LeftOut, ...] = ()  # what is used, but not as it is written


class LineStore:
    """Images of lines, read in groups; up to `num_bytes` are kept, the others are read each time.

    A group, such as a page, is read from `item(group)`: the reader returns the images of its lines,
    bytes (height, width).
    """

    def __init__(
        self, index: LineIndex, reader: FileReader, item: Callable[[int], Any], num_bytes: float
    ) -> None:
        self._index, self._reader, self._item = index, reader, item
        self._lock = threading.Lock()
        self._images: dict[int, NDArray[np.uint8]] = {}
        self._room = num_bytes

    def load(self, numbers: Sequence[int]) -> list[NDArray[np.uint8]]:
        """Return images by number; raises as `begin` of the workers does."""
        return self.begin(numbers)()

    def begin(self, numbers: Sequence[int]) -> Callable[[], list[NDArray[np.uint8]]]:
        """Begin to read; the function that is returned waits, and returns as `load` does."""
        lines = self._index.lines
        found = {n: self._images[n] for n in numbers if n in self._images}
        groups = sorted({lines[number].group for number in numbers if number not in found})
        finish = begin(self._reader, [self._item(group) for group in groups])

        def load() -> list[NDArray[np.uint8]]:
            for group, images in zip(groups, finish(), strict=True):
                found.update(zip(lines.numbers_of(group), images, strict=True))
            self._keep(found)
            return [found[number] for number in numbers]

        return load

    def _keep(self, images: Mapping[int, NDArray[np.uint8]]) -> None:
        with self._lock:
            for number, image in images.items():
                if number not in self._images and image.nbytes <= self._room:
                    self._images[number] = image
                    self._room -= image.nbytes
