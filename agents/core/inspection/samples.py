"""Which samples are shown."""

import numpy as np
from numpy.typing import NDArray


def labels_in_turn(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of all samples in the order in which they are shown: the first of each label in turn.

    >>> labels_in_turn(np.array([7, 7, 3, 7, 3]))
    array([2, 0, 4, 1, 3])
    """
    order = np.argsort(labels, kind="stable")
    rank = np.empty(len(order), np.int64)
    for label in np.unique(labels):
        numbers = order[labels[order] == label]
        rank[numbers] = np.arange(len(numbers))
    return np.lexsort((labels, rank))
