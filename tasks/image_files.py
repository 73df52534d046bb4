"""Files of an image folder: an index with labels and splits, and a cache of pixels.

Made for millions of files: the index has some tens of bytes for each, and nothing is decoded before
it is asked for. To assign the splits each file is read once, or, with a cache, only when it is new.
"""

import functools
import logging
import math
import os
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core.content_hashes import ContentHashes
from tasks.core.images import read_pixels, read_size
from tasks.core.names import NameTable
from tasks.core.paths import describe_os_error
from tasks.core.settings import ConfigError, nearest
from tasks.core.task import SPLITS, Split
from tasks.core.workers import FileReader, begin, map_threads

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".pgm", ".ppm", ".pbm", ".pnm", ".tif",
    ".tiff",
)  # of picture files, in lower or upper case  # fmt: skip
FOLDERS: Mapping[str, Split] = {
    "train": "train", "validation": "validation", "valid": "validation", "val": "validation",
    "test": "test",
}  # names of folders of splits  # fmt: skip
LAYOUT = "a folder of pictures for each label, or folders train, validation and test of those"
A_PICTURE = f"a whole file of a picture ({' '.join(SUFFIXES)})"
PLACE = "task image_folder"
_NO_SPLIT = -1
_LONG = 10.0  # seconds of hashing, after which the setting that makes it faster is told
_CHUNK = 1024  # files of which a thread reads all sizes
_logger = logging.getLogger(__name__)


@attrs.frozen(eq=False)
class Listing:
    """All pictures of a folder: path in the folder, with / on every system, label and split."""

    names: NameTable
    labels: NDArray[np.int32]
    splits: NDArray[np.int8]  # an index of SPLITS; negative: in no folder of a split


@attrs.frozen(eq=False)
class Index:
    """Index of the pictures of a folder that are used, ordered by split."""

    root: Path
    listing: Listing
    order: NDArray[np.int32]  # position in the listing, by number
    ranges: Mapping[Split, range]

    def name(self, number: int) -> str:
        """Return the path of a picture in the folder."""
        return self.listing.names[int(self.order[number])]

    def number_of(self, name: str) -> int | None:
        """Return the number of a picture by its path; None: it has none."""
        at = self.listing.names.find(name)
        found = [] if at is None else np.flatnonzero(self.order == at).tolist()
        return found[0] if found else None

    def labels(self, number: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the labels of pictures."""
        return self.listing.labels[self.order[number]].astype(np.int64)


def labels_in(root: Path) -> list[str]:
    """Return the names of the folders of labels, sorted.

    Raises:
        ConfigError: the folder cannot be read, or has fewer than two labels.
    """
    parts = _parts(root)
    folder = parts.get("train", root)
    names = _folders(folder)
    if len(names) < 2:
        problem = f"{folder} has {f'only the folder {names[0]!r}' if names else 'no folders'}"
        raise ConfigError(PLACE, "path", problem, f"{LAYOUT}; two labels at least")
    return names


def _folders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted, without hidden ones."""
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except (OSError, ValueError) as error:
        raise ConfigError(
            PLACE, "path", f"{folder} {describe_os_error(folder, error)}", LAYOUT
        ) from None


def _parts(root: Path) -> Mapping[Split | None, Path]:
    """Return the folder of each split, or, without such folders, the one of all pictures."""
    names = _folders(root)
    split_names = [name for name in names if name in FOLDERS]
    if "train" not in split_names or len(split_names) < 2:
        return {None: root}
    folders: dict[Split | None, Path] = {FOLDERS[name]: root / name for name in split_names}
    if len(folders) < len(names):
        problem = f"{root} has the folders {', '.join(names)}"
        accepted = f"of {', '.join(FOLDERS)} one for each split, and no others; or none of them"
        raise ConfigError(PLACE, "path", problem, accepted)
    return folders


@functools.lru_cache(maxsize=4)
def _list_images(root: Path, classes: str) -> Listing:
    """Return path in the folder, label and split of each picture."""
    labels, splits = array("i"), array("b")

    def names() -> Iterator[str]:
        for split, label, name in _iter_images(root, classes.split("/")):
            labels.append(label)
            splits.append(split)
            yield name

    table = NameTable(names())
    return Listing(table, np.array(labels, np.int32), np.array(splits, np.int8))


def _iter_images(root: Path, labels: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Yield split, label and path in the folder of each picture."""
    parts = _parts(root)
    train_names = _folders(parts.get("train", root))
    for split, folder in parts.items():
        unknown = set(_folders(folder)) - set(train_names)
        if unknown:
            problem = f"{folder} has {sorted(unknown)[0]!r}, which is not a folder of train"
            raise ConfigError(PLACE, "path", problem, ", ".join(train_names))
        code = _NO_SPLIT if split is None else SPLITS.index(split)
        for label, name in enumerate(labels):
            if name not in train_names:
                problem = f"{parts.get('train', root)} has no folder {name!r}"
                hint = nearest(name, train_names)
                raise ConfigError(PLACE, "classes", problem, ", ".join(train_names), hint)
            names = sorted(_pictures_in(folder / name, root))
            if not names and split in (None, "train"):
                raise ConfigError(PLACE, "path", f"{folder / name} has no pictures", A_PICTURE)
            yield from ((code, label, path) for path in names)


def _pictures_in(folder: Path, root: Path) -> Iterator[str]:
    """Yield the paths in `root` of all pictures in a folder, recursively."""
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(place).relative_to(root).as_posix()
        for name in files:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield f"{inside}/{name}"


@functools.lru_cache(maxsize=4)
def common_size(root: Path, classes: str) -> tuple[int, int]:
    """Return the common height and width of the pictures of a folder, from their headers.

    Raises:
        ConfigError: two pictures differ, or one cannot be read.
    """
    names = _list_images(root, classes).names

    def sizes(first: int) -> NDArray[np.int64]:
        paths = [root / name for name in names[first : first + _CHUNK]]
        return np.array([read_size(path, str(path), A_PICTURE) for path in paths])

    chunks = map_threads(sizes, range(0, len(names), _CHUNK))
    common = chunks[0][0]
    for number, chunk in enumerate(chunks):
        if len(others := np.flatnonzero((chunk != common).any(axis=1))):
            (height, width), (other, wide) = chunk[others[0]], common
            path, first = (root / names[at] for at in (number * _CHUNK + int(others[0]), 0))
            problem = f"{path} has {height} × {width} pixels, and {first} {other} × {wide}"
            accepted = "a height and a width, to which all pictures are then brought"
            raise ConfigError(PLACE, "height", problem, accepted)
    return int(common[0]), int(common[1])


@functools.lru_cache(maxsize=4)
def build_index(
    root: Path, classes: str, test: float, validation: float, cache: str | None = None
) -> Index:
    """Build the index of a folder: assign its pictures to splits.

    Raises:
        ConfigError: a label or a split has no pictures, or a file cannot be read.
    """
    listing = _list_images(root, classes)
    digests = _digests(root, listing.names, cache)
    shares: dict[Split, float] = {"test": test, "validation": validation}
    assigned = _assign_splits(
        listing.splits,
        digests,
        {k: v for k, v in shares.items() if SPLITS.index(k) not in listing.splits},
    )
    order, ranges, first = [], {}, 0
    for code, split in enumerate(SPLITS):
        numbers = np.flatnonzero(assigned == code).astype(np.int32)
        if not len(numbers):
            field = split if split in shares else "path"
            problem = f"of the {len(assigned)} pictures in {root} none is in {split}"
            raise ConfigError(PLACE, field, problem, "more pictures, or another share")
        order.append(numbers)
        ranges[split] = range(first, first := first + len(numbers))
    return Index(root, listing, np.concatenate(order), ranges)


def _digests(root: Path, names: NameTable, cache: str | None) -> NDArray[np.uint64]:
    """Return a hash of the content of each file."""
    hashes, begun = ContentHashes(root, cache, PLACE), time.perf_counter()

    def digests(first: int) -> NDArray[np.uint64]:
        return np.array([digest(name) for name in names[first : first + _CHUNK]], np.uint64)

    def digest(name: str) -> int:
        try:
            return hashes.of(name)
        except OSError as error:
            path = root / name
            raise ConfigError(str(path), "", describe_os_error(path, error), A_PICTURE) from None

    found = np.concatenate(map_threads(digests, range(0, len(names), _CHUNK)))
    hashes.save()
    if cache is None and (seconds := time.perf_counter() - begun) > _LONG:
        _logger.info(
            "%s: hashing %d files, to assign them to splits, took %.0f s; the setting cache names "
            "a folder where the hashes are kept", PLACE, len(names), seconds,
        )  # fmt: skip
    return found


def _assign_splits(
    splits: NDArray[np.int8], digests: NDArray[np.uint64], shares: Mapping[Split, float]
) -> NDArray[np.int64]:
    """Return the split of each picture (N,), as an index of SPLITS; negative: left out.

    Pictures in folders `test` or `validation` stay there; of the rest, the hash assigns a share to
    each split in `shares`. A file in two splits is left out of `train`, else of `validation`.
    """
    train, validation, test = range(len(SPLITS))
    free = (splits == _NO_SPLIT) | (splits == train)
    assigned = np.where(free, train, splits)
    position, low = digests / 2.0**64, 0.0
    for split, share in shares.items():
        assigned[free & (position >= low) & (position < low + share)] = SPLITS.index(split)
        low += share
    assigned[free & np.isin(digests, digests[~free])] = _NO_SPLIT
    assigned[(assigned == validation) & np.isin(digests, digests[assigned == test])] = _NO_SPLIT
    return assigned


class ImageCache:
    """Decoded pictures of an index: kept if all fit in `num_bytes`, otherwise read each time."""

    def __init__(self, index: Index, shape: tuple[int, int, int], num_bytes: float) -> None:
        self._index, self._shape = index, shape
        self._reader = FileReader(__name__, "read_picture", (shape,))
        self._lock = threading.Lock()
        num = len(index.order)
        fits = num * math.prod(shape) <= num_bytes
        self._cache = np.empty((num if fits else 0, *shape), np.uint8)  # uses memory when filled
        self._is_cached = np.zeros(len(self._cache), np.bool_)

    def load(self, number: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return pictures (B, C, H, W) by number; read those that are not cached.

        Raises:
            ConfigError: a file cannot be read.
        """
        return self.begin(number)()

    def begin(self, number: NDArray[np.int64]) -> Callable[[], NDArray[np.uint8]]:
        """Begin to read; the function that is returned waits, and returns as `load` does."""
        numbers, inverse = np.unique(number, return_inverse=True)
        missing = np.ones(len(numbers), np.bool_)
        if len(self._cache):
            missing = ~self._is_cached[numbers]
        root = self._index.root
        paths = [f"{root}/{self._index.name(at)}" for at in numbers[missing].tolist()]
        finish = begin(self._reader, paths)

        def load() -> NDArray[np.uint8]:
            pixels = np.empty((len(numbers), *self._shape), np.uint8)
            for at, image in zip(np.flatnonzero(missing), finish(), strict=True):
                pixels[at] = image
            if len(self._cache):
                with self._lock:
                    pixels[~missing] = self._cache[numbers[~missing]]
                    self._cache[numbers[missing]] = pixels[missing]
                    self._is_cached[numbers[missing]] = True
            return pixels[inverse]

        return load


def read_picture(path: str, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Read a picture of a folder (channels, height, width).

    Raises:
        ConfigError: names the file.
    """
    return read_pixels(Path(path), shape, path, A_PICTURE)


@functools.lru_cache(maxsize=2)
def image_cache(index: Index, shape: tuple[int, int, int], num_bytes: float) -> ImageCache:
    """Return the cache of an index for a shape (channels, height, width), one per process."""
    return ImageCache(index, shape, num_bytes)
