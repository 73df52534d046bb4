"""Text corpora: one file, or Python's own library; splits, and search of texts."""

import functools
import hashlib
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core.memory import read_whole
from tasks.core.paths import describe_os_error, expand_user
from tasks.core.settings import ConfigError
from tasks.core.task import Split
from tasks.text_quantities import text_properties

_MAX_SHOWN = 100  # characters that an error message repeats
_BASE = 0x9E37_79B9_7F4A_7C15  # of polynomial hashes of texts; odd, so that it has an inverse


def quote_characters(characters: str) -> str:
    """Quote characters for an error message: the first hundred, and the total number.

    >>> quote_characters("abc")
    "'abc'"
    """
    rest = f"… ({len(characters):,} in all)" if len(characters) > _MAX_SHOWN else ""
    return f"{characters[:_MAX_SHOWN]!r}{rest}"


@attrs.frozen(eq=False, slots=False)
class Corpus:
    """Text corpus, with an index for search. All positions count characters from its beginning."""

    text: str

    @functools.cached_property
    def characters(self) -> str:
        """Different characters of the text, in the order of Unicode."""
        return "".join(sorted(set(self.text)))

    @functools.cached_property
    def digest(self) -> str:
        """Hash of the text, as a word that YAML does not read as a number."""
        return f"sha256-{hashlib.sha256(self.text.encode()).hexdigest()[:12]}"

    @functools.cached_property
    def points(self) -> NDArray[np.uint32]:
        """Code point of each character (N,)."""
        return np.frombuffer(self.text.encode("utf-32-le"), np.uint32)

    @functools.cached_property
    def properties(self) -> Mapping[str, NDArray[Any]]:
        """Values of `text_quantities` at each character, each (N,)."""
        return text_properties(self.text)

    def parts(self, validation: float, test: float) -> dict[Split, tuple[int, int]]:
        """Return begin and end of each split: the withheld shares are at the end."""
        size = len(self.text)
        first, second = size - round(size * (validation + test)), size - round(size * test)
        return {"train": (0, first), "validation": (first, second), "test": (second, size)}

    @functools.lru_cache(maxsize=2)  # noqa: B019 - a process has at most two corpora
    def codes(self, characters: str) -> NDArray[Any]:
        """Return the index of each character in `characters` (N,), in the smallest type.

        Raises:
            ConfigError: the text has another character; the first one is named.
        """
        table = np.full(max(int(self.points.max()), *map(ord, characters)) + 1, -1, np.int32)
        table[[ord(character) for character in characters]] = np.arange(len(characters))
        codes = table[self.points]
        if codes.min() < 0:
            at = int(codes.argmin())
            line = self.text.count("\n", 0, at) + 1
            problem = f"the corpus has {self.text[at]!r} in line {line} (character {at + 1:,})"
            raise ConfigError("Text", "characters", problem, f"only {quote_characters(characters)}")
        return codes.astype(np.uint8 if len(characters) <= 256 else np.int32)

    @functools.lru_cache(maxsize=3)  # noqa: B019 - as above: 17 bytes for each character
    def _index(self, length: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
        """Return sorted hashes of all texts of a length, their positions, and which come first."""
        hashes = _hashes(self.points, length)
        order = np.argsort(hashes, kind="stable")
        hashes = hashes[order]
        is_first = np.ones(len(order), bool)
        is_first[order[1:]] = hashes[1:] != hashes[:-1]
        return hashes, order, is_first

    def is_first(self, starts: NDArray[Any], length: int) -> NDArray[np.bool_]:
        """Return which texts of a length do not occur earlier in the corpus (S,)."""
        is_first: NDArray[np.bool_] = self._index(length)[2][starts]
        return is_first

    def find(self, points: NDArray[np.uint32]) -> NDArray[np.int64]:
        """Return the first position of texts (S, length) in the corpus (S,); -1: not in it."""
        length = points.shape[1]
        if length > len(self.text):
            return np.full(len(points), -1)
        hashes, order, _ = self._index(length)
        keys = np.array([_hashes(row, length)[0] for row in points], np.uint64)
        places = order[np.searchsorted(hashes, keys).clip(max=len(order) - 1)]
        same = self.points[places[:, None] + np.arange(length)] == points
        return np.where(same.all(axis=1), places, -1)


def _hashes(points: NDArray[np.uint32], length: int) -> NDArray[np.uint64]:
    """Return a hash of every text of a length (N − length + 1,).

    Polynomials modulo 2⁶⁴ from differences of running sums, divided by the power of the position.
    """
    powers, inverses = (
        np.multiply.accumulate(np.full(len(points), base, np.uint64))
        for base in (_BASE, pow(_BASE, -1, 2**64))
    )
    sums = np.concatenate([np.zeros(1, np.uint64), (points.astype(np.uint64) * powers).cumsum()])
    return np.asarray((sums[length:] - sums[:-length]) * inverses[: len(sums) - length])


def read_corpus(path: str, num_characters: int, with_mark: bool = False) -> Corpus:
    """Read the first characters of a file, or of the library's sources for an empty path.

    A byte-order mark at the beginning of a file is skipped, unless `with_mark`.

    Raises:
        ConfigError: the file is missing, empty or not UTF-8 text.
    """
    if not path:
        return _library(num_characters)
    file = expand_user(path)
    try:
        stat = file.stat()
        return _file(file, num_characters, with_mark, stat.st_mtime_ns, stat.st_size)
    except ConfigError:
        raise
    except UnicodeDecodeError as error:
        problem = f"{path} is not UTF-8 text: byte {error.start:,} does not fit"
    except (OSError, ValueError) as error:  # ValueError: a path that no file can have
        problem = f"{path} {describe_os_error(file, error)}"
    raise ConfigError("Text", "path", problem, "a file of text in UTF-8") from None


@functools.lru_cache(maxsize=2)
def _file(path: Path, num_characters: int, with_mark: bool, changed: int, size: int) -> Corpus:
    # Line ends are not converted, so that positions are those in the file.
    text = read_whole(path).decode("utf-8")
    text = text.removeprefix("" if with_mark else "\ufeff")[:num_characters]
    if not text:
        raise ConfigError("Text", "path", f"{path} is empty", "a file of text in UTF-8")
    return Corpus(text)


@functools.lru_cache(maxsize=2)
def _library(num_characters: int) -> Corpus:
    """Return the sources of the library's modules, ordered by a hash of their names.

    So the last parts, which are withheld, are a random sample. Packages are left out, because they
    may not be installed, and so are generated files and the few files that are not ASCII, for a
    small character set.
    """
    folder = Path(sysconfig.get_path("stdlib"))
    files = [file for file in folder.glob("*.py") if not file.name.startswith("_sysconfigdata")]
    files.sort(key=lambda file: hashlib.sha256(file.name.encode()).digest())
    texts, size = [], 0
    for file in files:
        data = file.read_bytes()
        if size < num_characters and data.isascii():
            texts.append(data.decode("ascii").replace("\r\n", "\n"))
            size += len(texts[-1])
    if not size:
        problem = f"the library's sources are not installed: {folder} has none"
        raise ConfigError("Text", "path", problem, "a file of text in UTF-8")
    return Corpus("".join(texts)[:num_characters])
