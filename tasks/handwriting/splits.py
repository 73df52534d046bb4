"""Splits of files: by the folders that they are in, or by hashes of their names."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.core.settings import ConfigError
from tasks.core.task import SPLITS, Split
from tasks.handwriting.line_index import LeftOut
from tasks.image_files import FOLDERS

NO_SPLIT = -1  # beside the indices of SPLITS
_SHARES: tuple[Split, ...] = ("test", "validation")  # made by a share, the setting of that name


def splits_by_folder(root: Path) -> Mapping[str, Split]:
    """Return the splits by the names of their folders, if a folder has one but `train`."""
    has_splits = any((root / folder).is_dir() for folder in FOLDERS if folder != "train")
    return FOLDERS if has_splits else {}


class Candidate(NamedTuple):
    """A file, or a page, that is to be assigned to a split."""

    name: str
    split: Split | None  # None: assigned by a share
    digest: int  # of its image: equal ones must not be in two splits


def assign_splits(
    items: Sequence[Candidate], shares: Mapping[str, float], place: str
) -> tuple[list[Split | None], list[LeftOut]]:
    """Return the split of each item, None: left out; and what is left out; see `assign_codes`."""
    given = [NO_SPLIT if item.split is None else SPLITS.index(item.split) for item in items]
    digests = np.array([item.digest for item in items], np.uint64)
    names = [item.name for item in items]
    codes, left_out = assign_codes(names, np.array(given, np.int8), digests, shares, place)
    return [None if code < 0 else SPLITS[code] for code in codes.tolist()], left_out


def assign_codes(
    names: Sequence[str],
    given: NDArray[np.int8],
    digests: NDArray[np.uint64],
    shares: Mapping[str, float],
    place: str,
) -> tuple[NDArray[np.int8], list[LeftOut]]:
    """Return the split of each item as an index of SPLITS, negative: left out; and what is.

    Items without a split (a negative one is given), and those of `train` if `test` or `validation`
    has no items, are assigned by a hash of their names, so that a new item changes no other. A
    split that is empty then has the item that is the nearest to it. Of equal images in two splits,
    one is used: that of the test, then that of the validation.

    Raises:
        ConfigError: a split is empty.
    """
    train = SPLITS.index("train")
    wanted = [split for split in _SHARES if SPLITS.index(split) not in given]
    free = np.flatnonzero((given == NO_SPLIT) | (given == train))
    position = np.array([_position(names[at]) for at in free.tolist()])
    codes, low = np.where(given == NO_SPLIT, train, given).astype(np.int8), 0.0
    for split in wanted:
        is_member = (low <= position) & (position < low + shares[split])
        rest = np.flatnonzero((codes[free] == train) & ~is_member)
        if not is_member.any() and len(rest) > 1:
            is_member[rest[np.argmin(np.abs(position[rest] - low))]] = True
        codes[free[is_member]] = SPLITS.index(split)
        low += shares[split]
    left_out = _leave_out_twins(names, codes, digests)
    for code, split in enumerate(SPLITS):
        if code not in codes:
            problem = f"of the {len(names)} files with texts none is in {split}"
            raise ConfigError(place, "path", problem, "more files, or another share")
    return codes, left_out


def _leave_out_twins(
    names: Sequence[str], codes: NDArray[np.int8], digests: NDArray[np.uint64]
) -> list[LeftOut]:
    """Leave out, in `codes`, images that are also in a split that goes first; return them."""
    _, inverse, counts = np.unique(digests, return_inverse=True, return_counts=True)
    twins = np.flatnonzero(counts[inverse] > 1).tolist()
    left_out, seen = [], dict[int, tuple[Split, str]]()
    for split in ("test", "validation", "train"):
        for at in twins:
            if codes[at] == SPLITS.index(split):
                first = seen.setdefault(int(digests[at]), (split, names[at]))
                if first[0] != split:
                    codes[at] = NO_SPLIT
                    reason = f"its image is also in {first[0]}"
                    left_out.append(LeftOut(f"{names[at]}, equal to {first[1]}", reason))
    return left_out


def _position(name: str) -> float:
    digest = hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2.0**64


def digest_of(data: bytes) -> int:
    """Return a hash of 64 bits of the content of a file."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
