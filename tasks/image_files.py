"""Which pictures a folder has, in which split each is, and what their pixels are."""

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
)  # of the files that are taken for pictures, in small letters or capitals  # fmt: skip
FOLDERS: Mapping[str, Split] = {
    "train": "train", "validation": "validation", "valid": "validation", "val": "validation",
    "test": "test",
}  # of splits that a person has made  # fmt: skip
LAYOUT = "a folder of pictures for each label, or folders train, validation and test of those"
A_PICTURE = f"a whole file of a picture ({' '.join(SUFFIXES)})"
PLACE = "task image_folder"
CACHE_BYTES = (
    2**30
)  # bytes of decoded pictures that are kept; what is beyond is read again each time
_READERS = 8  # files that are read side by side at most
_NO_SPLIT = -1

T = TypeVar("T")
U = TypeVar("U")


@attrs.frozen(eq=False)
class Index:
    """The pictures of a folder, in an order in which those of a split stand together."""

    root: Path
    names: Sequence[str]  # paths in the folder, with / on every machine
    labels: NDArray[np.int64]
    ranges: Mapping[Split, range]

    @functools.cached_property
    def numbers(self) -> Mapping[str, int]:
        """The number of each name."""
        return {name: number for number, name in enumerate(self.names)}


def labels_in(root: Path) -> list[str]:
    """Return the names of the folders that are labels, sorted.

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
    """Return the names of the folders in a folder, sorted; hidden ones do not count."""
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except (OSError, ValueError) as error:
        raise ConfigError(
            PLACE, "path", f"{folder} {describe_os_error(folder, error)}", LAYOUT
        ) from None


def _parts(root: Path) -> Mapping[Split | None, Path]:
    """Return the folder of each split, or, where there are none, that of all pictures."""
    names = _folders(root)
    named = [name for name in names if name in FOLDERS]
    if "train" not in named or len(named) < 2:
        return {None: root}
    found: dict[Split | None, Path] = {FOLDERS[name]: root / name for name in named}
    if len(found) < len(names):
        problem = f"{root} has the folders {', '.join(names)}"
        accepted = f"of {', '.join(FOLDERS)} one for each split, and no others; or none of them"
        raise ConfigError(PLACE, "path", problem, accepted)
    return found


@functools.lru_cache(maxsize=4)
def _list_images(root: Path, classes: str) -> Sequence[tuple[str, int, Split | None]]:
    """Return the path in the folder, the label and the split, if it has one, of each picture."""
    found = []
    labels, parts = classes.split("/"), _parts(root)
    known = _folders(parts.get("train", root))
    for split, folder in parts.items():
        strange = set(_folders(folder)) - set(known)
        if strange:
            problem = f"{folder} has {sorted(strange)[0]!r}, which is not a folder of train"
            raise ConfigError(PLACE, "path", problem, ", ".join(known))
        for label, name in enumerate(labels):
            if name not in known:
                problem, hint = (
                    f"{parts.get('train', root)} has no folder {name!r}",
                    nearest(name, known),
                )
                raise ConfigError(PLACE, "classes", problem, ", ".join(known), hint)
            names = sorted(_pictures_in(folder / name, root))
            if not names and split in (None, "train"):
                raise ConfigError(PLACE, "path", f"{folder / name} has no pictures", A_PICTURE)
            found += [(path, label, split) for path in names]
    return found


def _pictures_in(folder: Path, root: Path) -> Iterator[str]:
    """Yield the paths in `root` of all pictures in a folder and the folders in it."""
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield (Path(place) / name).relative_to(root).as_posix()


@functools.lru_cache(maxsize=4)
def common_size(root: Path, classes: str) -> tuple[int, int]:
    """Return height and width of the pictures of a folder.

    Raises:
        ConfigError: two differ, and both are named; or one cannot be read.
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
    """Return what `read` makes of each item; threads wait for the disk, and decode side by side."""
    if len(items) < 2:
        return [*map(read, items)]
    with ThreadPoolExecutor(min(_READERS, os.cpu_count() or 1)) as pool:
        return list(pool.map(read, items))


@functools.lru_cache(maxsize=4)
def build_index(root: Path, classes: str, test: float, validation: float) -> Index:
    """Return the pictures of a folder in their splits.

    Raises:
        ConfigError: a label has no pictures, or a split none; or a file cannot be read.
    """
    listed = _list_images(root, classes)
    digests = np.array(_map_threads(_digest, [root / name for name, _, _ in listed]), np.uint64)
    splits = np.array(
        [_NO_SPLIT if split is None else SPLITS.index(split) for _, _, split in listed]
    )
    shares: dict[Split, float] = {"test": test, "validation": validation}
    dealt = _assign_splits(
        splits, digests, {k: v for k, v in shares.items() if SPLITS.index(k) not in splits}
    )
    order, ranges, first = [], {}, 0
    for code, split in enumerate(SPLITS):
        found = np.flatnonzero(dealt == code)
        if not len(found):
            field = split if split in shares else "path"
            problem = f"of the {len(listed)} pictures in {root} none is in {split}"
            raise ConfigError(PLACE, field, problem, "more pictures, or another share")
        order.append(found)
        ranges[split] = range(first, first := first + len(found))
    chosen = np.concatenate(order)
    labels = np.array([label for _, label, _ in listed], np.int64)
    return Index(root, [listed[at][0] for at in chosen], labels[chosen], ranges)


def _digest(path: Path) -> int:
    """Return 64 bits that follow from a file's content."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(str(path), "", describe_os_error(path, error), A_PICTURE) from None
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _assign_splits(
    splits: NDArray[np.int64], digests: NDArray[np.uint64], shares: Mapping[Split, float]
) -> NDArray[np.int64]:
    """Return the split of each picture (N,), as a place in SPLITS; negative: left out.

    What a person has put into `test` or `validation` stays there; of the rest a share is drawn for
    each split in `shares`. A file that is in two splits is left out of `train`, or `validation`.
    """
    train, validation, test = range(len(SPLITS))
    free = (splits == _NO_SPLIT) | (splits == train)
    dealt = np.where(free, train, splits)
    drawn, low = digests / 2.0**64, 0.0
    for split, share in shares.items():
        dealt[free & (drawn >= low) & (drawn < low + share)] = SPLITS.index(split)
        low += share
    dealt[free & np.isin(digests, digests[~free])] = _NO_SPLIT
    dealt[(dealt == validation) & np.isin(digests, digests[dealt == test])] = _NO_SPLIT
    return dealt


class ImageCache:
    """The pixels of the pictures of an index; of those that were read some are kept."""

    def __init__(self, index: Index, shape: tuple[int, int, int]) -> None:
        self._index, self._shape = index, shape
        self._lock = threading.Lock()
        num = len(index.names)
        room = min(num, CACHE_BYTES // math.prod(shape))
        self._kept = np.empty((room, *shape), np.uint8)  # no memory is taken until it is filled
        self._slot = np.full(num, -1)  # where a picture is kept
        self._num_kept = 0

    def load(self, number: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return pictures (B, C, H, W) by number, from the files those that are not kept.

        Raises:
            ConfigError: a file cannot be read.
        """
        with self._lock:
            wanted, back = np.unique(number, return_inverse=True)
            found = np.empty((len(wanted), *self._shape), np.uint8)
            slots = self._slot[wanted]
            there = slots >= 0
            found[there] = self._kept[slots[there]]
            missing = np.flatnonzero(~there)
            for at, pixels in zip(
                missing, _map_threads(self._read, wanted[missing].tolist()), strict=True
            ):
                found[at] = pixels
            new = missing[: len(self._kept) - self._num_kept]
            slots = self._num_kept + np.arange(len(new))
            self._kept[slots], self._slot[wanted[new]] = found[new], slots
            self._num_kept += len(new)
            return found[back]

    def _read(self, number: int) -> NDArray[np.uint8]:
        path = self._index.root / self._index.names[number]
        return read_pixels(path, self._shape, str(path), A_PICTURE)


@functools.lru_cache(maxsize=2)
def image_cache(index: Index, shape: tuple[int, int, int]) -> ImageCache:
    """Return the pixels of an index at a size (channels, height, width), once in a process."""
    return ImageCache(index, shape)
