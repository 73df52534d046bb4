"""Numbers that look random and follow from other numbers alone: splitmix64.

Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators". All arithmetic is
modulo 2⁶⁴.
"""

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ROUNDS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


def mix64(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the number after each of some states, in which every bit depends on all of theirs."""
    with np.errstate(over="ignore"):
        state = state + _GOLDEN
        for shift, factor in _ROUNDS:
            state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
        return np.asarray(state ^ (state >> np.uint64(31)), np.uint64)


def splitmix64(key: int, draws: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the draws of these numbers, from 0, of the stream of a key.

    Any draw can be had without those before it, so that a few cost no more than themselves.
    """
    with np.errstate(over="ignore"):
        return mix64(np.uint64(key) + draws.astype(np.uint64) * _GOLDEN)
