"""Splitmix64, a hash of integers and a counter-based random number generator.

Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators". All arithmetic is
modulo 2⁶⁴.
"""

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ROUNDS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


def mix64(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the next output for each state; every bit depends on all bits of the state."""
    with np.errstate(over="ignore"):
        state = state + _GOLDEN
        for shift, factor in _ROUNDS:
            state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
        return np.asarray(state ^ (state >> np.uint64(31)), np.uint64)


def splitmix64(key: int, draws: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return random numbers of the stream of a key, at these indices, which count from 0.

    Each is computed on its own, without those before it.
    """
    with np.errstate(over="ignore"):
        return mix64(np.uint64(key) + draws.astype(np.uint64) * _GOLDEN)
