"""Least costs of paths from one object to all others, by Bellman and Ford, of many graphs at once.

Bellman 1958, Ford 1956. Of paths with the same cost the one with the fewest edges counts.
"""

import numpy as np
from numpy.typing import NDArray

_EDGE = 2**20  # a cost in this unit leaves room to count edges
UNREACHED = -1  # the cost and the number of edges of an object to which no path leads


def least_costs(
    weights: NDArray[np.int64], source: NDArray[np.int64], rounds: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return least costs of paths from a source, and their numbers of edges: each (num, n).

    Args:
        weights: (num, n, n), of the edge from i to j at [i, j]; 0: there is no such edge.
        source: (num,), the object at which paths begin.
        rounds: the most edges of a path; None: any number.
    """
    far = np.iinfo(np.int64).max // 4
    steps = np.where(weights > 0, weights * _EDGE + 1, far)
    costs = np.full(weights.shape[:2], far)
    costs[np.arange(len(costs)), source] = 0
    for _ in range(weights.shape[1] - 1 if rounds is None else rounds):
        shorter = np.minimum(costs, (costs[:, :, None] + steps).min(axis=1))
        if np.array_equal(shorter, costs):
            break
        costs = shorter
    is_reached = costs < far
    cost, edges = np.divmod(costs, _EDGE)
    return np.where(is_reached, cost, UNREACHED), np.where(is_reached, edges, UNREACHED)
