"""Labels of MNIST-like data sets: the meaning of the codes in their files.

>>> named_set("emnist-letters-train-labels-idx1-ubyte.gz")
'letters'
"""

import re

import numpy as np
from numpy.typing import NDArray

_DIGITS = "0123456789"
_CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MERGED = _DIGITS + _CAPITALS + "abdefghnqrt"  # the other small letters look like capitals
LETTERS = "letters"  # the one set whose codes count from 1
EMNIST_CLASSES = {
    "digits": _DIGITS,
    "mnist": _DIGITS,
    LETTERS: _CAPITALS,  # of either case
    "balanced": _MERGED,
    "bymerge": _MERGED,
    "byclass": _DIGITS + _CAPITALS + _CAPITALS.lower(),
}
CLASSES = {
    "digits": tuple(_DIGITS),
    "mnist": tuple(_DIGITS),
    "fashion_mnist": (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
        "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
}  # by source  # fmt: skip


def named_set(file: str) -> str | None:
    """Return the set of EMNIST that is in the name of a file; None: no set is."""
    names = "|".join(EMNIST_CLASSES).replace(
        "mnist", "(?<!e)mnist"
    )  # mnist, but not the end of emnist
    match = re.search(names, file.lower())
    return match[0] if match else None


def own_labels(source: str, file: str) -> tuple[str, ...] | None:
    """Return the labels of a source, for EMNIST those of the set in the name of the file."""
    emnist_set = named_set(file) if source == "emnist" else None
    return tuple(EMNIST_CLASSES[emnist_set]) if emnist_set else CLASSES.get(source)


def first_code(source: str, file: str, labels: tuple[str, ...], codes: NDArray[np.int64]) -> int:
    """Return the code of the first label, 0 or 1, from all codes that occur.

    The codes of a source count from 0, but those of EMNIST's letters from 1, unless a 0 occurs. For
    labels from a setting it is guessed: 1 if the codes are from 1 to the number of labels.
    """
    low, high = codes.min(), codes.max()
    if labels != own_labels(source, file):
        return int(low == 1 and high == len(labels))
    return int(source == "emnist" and named_set(file) == LETTERS and low > 0)
