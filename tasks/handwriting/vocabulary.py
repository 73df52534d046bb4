"""Words to be written: from a text file, or built of syllables as those of English."""

import functools
import hashlib
from collections.abc import Sequence

import numpy as np

from tasks.core.memory import read_text
from tasks.core.paths import describe_os_error, expand_user
from tasks.core.settings import ConfigError
from tasks.core.task import SPLITS, Split
from tasks.handwriting.texts import normalized

_NUM_BUILT = 20_000
_BEGINNINGS = (
    "", "", "b", "bl", "br", "c", "ch", "cl", "cr", "d", "dr", "f", "fl", "fr", "g", "gl", "gr",
    "h", "j", "k", "kn", "l", "m", "n", "p", "pl", "pr", "qu", "r", "s", "sc", "sh", "sl", "sp",
    "st", "str", "sw", "t", "th", "tr", "v", "w", "wh", "y", "z",
)  # fmt: skip
_VOWELS = ("a", "e", "i", "o", "u", "a", "e", "i", "o", "ai", "ea", "ee", "oo", "ou", "y")
_ENDS = (
    "", "", "", "b", "ck", "d", "ft", "g", "k", "l", "ll", "m", "mp", "n", "nd", "ng", "nt", "p",
    "r", "rd", "rt", "s", "ss", "st", "t", "th", "x",
)  # fmt: skip
_POINTS = ("", "", "", "", "", "", "", ",", ".", "'s", "-", "!", "?")
_WITHHELD = {"test": (0.0, 0.1), "validation": (0.1, 0.2)}  # positions of a word's hash


@functools.lru_cache(maxsize=8)
def words_of(text: str | None, characters: str) -> tuple[dict[Split, Sequence[str]], int]:
    """Return the words of each split, and how many of a text are left out.

    A word is in a split by a hash of its small letters without marks, so that `And` and `and,` are
    in the same. One with a character that is not in `characters` is left out.

    Raises:
        ConfigError: the file of the text cannot be read, or has too few words.
    """
    words = _built() if text is None else _read(text)
    usable = [word for word in words if set(word) <= set(characters)]
    splits: dict[Split, list[str]] = {split: [] for split in SPLITS}
    for word in usable:
        splits[_split_of(word)].append(word)
    if not all(splits.values()):
        problem = f"{text} has {len(usable)} different words, which are too few for three splits"
        raise ConfigError("task handwriting", "text", problem, "a text with 100 words or more")
    return dict(splits), len(words) - len(usable)


def _split_of(word: str) -> Split:
    core = "".join(c for c in word.lower() if c.isalnum()) or word
    digest = hashlib.blake2b(core.encode(), digest_size=8).digest()
    position = int.from_bytes(digest, "little") / 2.0**64
    for split in SPLITS[1:]:
        low, high = _WITHHELD[split]
        if low <= position < high:
            return split
    return "train"


def _read(text: str) -> list[str]:
    path = expand_user(text)
    try:
        content = read_text(path, "utf-8-sig")
    except (OSError, ValueError) as error:
        problem = describe_os_error(path, error)
        raise ConfigError("task handwriting", "text", problem, "a text file in UTF-8") from None
    return sorted(set(normalized(content).split()))


@functools.cache
def _built() -> list[str]:
    """Return words of one to three syllables, some with capitals and marks, and numbers."""
    rng = np.random.default_rng(0)
    words = set[str]()
    while len(words) < _NUM_BUILT:
        if rng.random() < 0.06:
            words.add(str(rng.integers(0, 10 ** int(rng.integers(1, 5)))))
            continue
        parts = (_BEGINNINGS, _VOWELS, _ENDS)
        syllables = 1 + int(rng.random() < 0.6) + int(rng.random() < 0.25)
        word = "".join(str(rng.choice(kinds)) for _ in range(syllables) for kinds in parts)
        word = word.capitalize() if rng.random() < 0.15 else word
        words.add(word + str(rng.choice(_POINTS)))
    return sorted(words)
