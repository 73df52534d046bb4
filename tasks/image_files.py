"""Files of an image folder: an index with labels and splits, and a cache of pixels."""

import functools
import hashlib
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core.images import read_pixels, read_size
from tasks.core.paths import describe_os_error
from tasks.core.settings import ConfigError, nearest
from tasks.core.task import SPLITS, Split

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
CACHE_BYTES = 2**30  # of decoded pictures; the others are read again each time
_MAX_READERS = 8  # largest number of files that are read in parallel
_NO_SPLIT = -1

T = TypeVar("T")
U = TypeVar("U")


@attrs.frozen(eq=False)
class Index:
    """Index of the pictures of a folder, ordered by split."""

    root: Path
    names: Sequence[str]  # paths in the folder, with / on every system
    labels: NDArray[np.int64]
    ranges: Mapping[Split, range]

    @functools.cached_property
    def numbers(self) -> Mapping[str, int]:
        """Number of each picture by name."""
        return {name: number for number, name in enumerate(self.names)}


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
def _list_images(root: Path, classes: str) -> Sequence[tuple[str, int, Split | None]]:
    """Return path in the folder, label and split of each picture; None: no folder of a split."""
    images = []
    labels, parts = classes.split("/"), _parts(root)
    train_names = _folders(parts.get("train", root))
    for split, folder in parts.items():
        unknown = set(_folders(folder)) - set(train_names)
        if unknown:
            problem = f"{folder} has {sorted(unknown)[0]!r}, which is not a folder of train"
            raise ConfigError(PLACE, "path", problem, ", ".join(train_names))
        for label, name in enumerate(labels):
            if name not in train_names:
                problem, hint = (
                    f"{parts.get('train', root)} has no folder {name!r}",
                    nearest(name, train_names),
                )
                raise ConfigError(PLACE, "classes", problem, ", ".join(train_names), hint)
            names = sorted(_pictures_in(folder / name, root))
            if not names and split in (None, "train"):
                raise ConfigError(PLACE, "path", f"{folder / name} has no pictures", A_PICTURE)
            images += [(path, label, split) for path in names]
    return images


def _pictures_in(folder: Path, root: Path) -> Iterator[str]:
    """Yield the paths in `root` of all pictures in a folder, recursively."""
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield (Path(place) / name).relative_to(root).as_posix()


@functools.lru_cache(maxsize=4)
def common_size(root: Path, classes: str) -> tuple[int, int]:
    """Return the common height and width of the pictures of a folder.

    Raises:
        ConfigError: two pictures differ, or one cannot be read.
    """
    paths = [root / name for name, _, _ in _list_images(root, classes)]
    sizes = _map_threads(lambda path: read_size(path, str(path), A_PICTURE), paths)
    for path, size in zip(paths, sizes, strict=True):
        if size != sizes[0]:
            (height, width), (other, wide) = size, sizes[0]
            problem = f"{path} has {height} × {width} pixels, and {paths[0]} {other} × {wide}"
            accepted = "a height and a width, to which all pictures are then brought"
            raise ConfigError(PLACE, "height", problem, accepted)
    return sizes[0]


def _map_threads(read: Callable[[T], U], items: Sequence[T]) -> list[U]:
    """Return `read(item)` of each item, computed by threads."""
    if len(items) < 2:
        return [*map(read, items)]
    with ThreadPoolExecutor(min(_MAX_READERS, os.cpu_count() or 1)) as pool:
        return list(pool.map(read, items))


@functools.lru_cache(maxsize=4)
def build_index(root: Path, classes: str, test: float, validation: float) -> Index:
    """Build the index of a folder: assign its pictures to splits.

    Raises:
        ConfigError: a label or a split has no pictures, or a file cannot be read.
    """
    images = _list_images(root, classes)
    digests = np.array(_map_threads(_digest, [root / name for name, _, _ in images]), np.uint64)
    splits = np.array(
        [_NO_SPLIT if split is None else SPLITS.index(split) for _, _, split in images]
    )
    shares: dict[Split, float] = {"test": test, "validation": validation}
    assigned = _assign_splits(
        splits, digests, {k: v for k, v in shares.items() if SPLITS.index(k) not in splits}
    )
    order, ranges, first = [], {}, 0
    for code, split in enumerate(SPLITS):
        numbers = np.flatnonzero(assigned == code)
        if not len(numbers):
            field = split if split in shares else "path"
            problem = f"of the {len(images)} pictures in {root} none is in {split}"
            raise ConfigError(PLACE, field, problem, "more pictures, or another share")
        order.append(numbers)
        ranges[split] = range(first, first := first + len(numbers))
    ordered = np.concatenate(order)
    labels = np.array([label for _, label, _ in images], np.int64)
    return Index(root, [images[at][0] for at in ordered], labels[ordered], ranges)


def _digest(path: Path) -> int:
    """Return a hash of 64 bits of the content of a file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(str(path), "", describe_os_error(path, error), A_PICTURE) from None
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _assign_splits(
    splits: NDArray[np.int64], digests: NDArray[np.uint64], shares: Mapping[Split, float]
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
    """Cache of the pixels of the pictures of an index, up to CACHE_BYTES."""

    def __init__(self, index: Index, shape: tuple[int, int, int]) -> None:
        self._index, self._shape = index, shape
        self._lock = threading.Lock()
        num = len(index.names)
        room = min(num, CACHE_BYTES // math.prod(shape))
        self._cache = np.empty((room, *shape), np.uint8)  # no memory is used until it is filled
        self._slot = np.full(num, -1)  # position of a picture in the cache
        self._num_cached = 0

    def load(self, number: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return pictures (B, C, H, W) by number; read those that are not cached.

        Raises:
            ConfigError: a file cannot be read.
        """
        with self._lock:
            numbers, inverse = np.unique(number, return_inverse=True)
            pixels = np.empty((len(numbers), *self._shape), np.uint8)
            slots = self._slot[numbers]
            is_cached = slots >= 0
            pixels[is_cached] = self._cache[slots[is_cached]]
            missing = np.flatnonzero(~is_cached)
            for at, image in zip(
                missing, _map_threads(self._read, numbers[missing].tolist()), strict=True
            ):
                pixels[at] = image
            new = missing[: len(self._cache) - self._num_cached]
            slots = self._num_cached + np.arange(len(new))
            self._cache[slots], self._slot[numbers[new]] = pixels[new], slots
            self._num_cached += len(new)
            return pixels[inverse]

    def _read(self, number: int) -> NDArray[np.uint8]:
        path = self._index.root / self._index.names[number]
        return read_pixels(path, self._shape, str(path), A_PICTURE)


@functools.lru_cache(maxsize=2)
def image_cache(index: Index, shape: tuple[int, int, int]) -> ImageCache:
    """Return the cache of an index for a shape (channels, height, width), one per process."""
    return ImageCache(index, shape)
