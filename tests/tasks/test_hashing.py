"""The hash behind splits and fixed sets: published numbers, and splits that stay what they are."""

import hashlib

import numpy as np

import tasks
from tasks.core.hashing import mix64, splitmix64


def digest(array: np.ndarray) -> str:
    """Return a few characters that name an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def test_splitmix64_gives_the_published_numbers() -> None:
    """Its first five draws for the key 1234567 are those of the reference implementation."""
    wanted = [6457827717110365317, 3203168211198807973, 9817491932198370423,
              4593380528125082431, 16408922859458223821]  # fmt: skip
    assert splitmix64(1234567, np.arange(5)).tolist() == wanted
    assert splitmix64(1234567, np.array([3])).tolist() == wanted[3:4]
    assert mix64(np.array([1234567], np.uint64)).tolist() == wanted[:1]


def test_splits_stay_what_they_were() -> None:
    """Sums and series of a split are those of every version, or the test would be learned from."""
    sums = tasks.make("add3x3")
    assert digest(sums.samples("test", 500).question) == "d25a2926a66387e0"
    assert digest(sums.samples("train", 500).question) == "e71f6c4c3bd337a2"
    series = tasks.make("adding_problem", length=20, num_samples=500)
    assert digest(series.samples("train", 500).series) == "2ece16ae8d87b1e0"
