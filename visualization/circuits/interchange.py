"""Interchange interventions: does a state do in a network what a variable does in an algorithm?

R rounds of messages, N graphs.
"""

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from visualization.core.arrays import as_array, check_shape
from visualization.core.records import brief_repr

_FEWEST = 2  # changes that are not all equal, of a slope


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class InterchangeInterventions:
    """Interchange interventions after R rounds: changes of the answer to N graphs.

    Attributes:
        rounds: after which round a state was replaced (R,).
        network: change of the network's answer (R, N); NaN: there was nothing to replace.
        algorithm: change of the algorithm's answer with its own value replaced likewise (R, N).
    """

    rounds: tuple[int, ...]
    network: NDArray[np.float64]
    algorithm: NDArray[np.float64]

    @property
    def r2(self) -> NDArray[np.float64]:
        """R² of the network's changes as predictions of the algorithm's (R,); NaN: all equal.

        1: the network does as the algorithm; 0 or below: their mean predicts them as well.
        """
        return np.array([_r2(*pair) for pair in self._pairs()])

    @property
    def slopes(self) -> NDArray[np.float64]:
        """Slopes of the line that fits the network's changes by least squares (R,)."""
        return np.array([_slope(*pair) for pair in self._pairs()])

    @property
    def side_effects(self) -> NDArray[np.float64]:
        """Mean absolute change by the network where the algorithm changes nothing (R,)."""
        still = [network[algorithm == 0] for network, algorithm in self._pairs()]
        return np.array([np.abs(each).mean() if len(each) else np.nan for each in still])

    def _pairs(self) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Return the changes of network and algorithm that there are, by round."""
        pairs = zip(self.network, self.algorithm, strict=True)
        return [(a[is_made], b[is_made]) for a, b in pairs for is_made in [~np.isnan(a + b)]]


def interchange_interventions(
    network: ArrayLike, algorithm: ArrayLike, rounds: Sequence[int]
) -> InterchangeInterventions:
    """Interchange interventions (Geiger et al. 2021, 2106.02997) beside those on an algorithm.

    The state of one object is replaced by that of another, and the network runs on from there; in
    the algorithm the one's value is replaced by the other's. If states are what the algorithm
    computes, both answers change alike.

    Args:
        network: change of the network's answer (R, N); NaN: there was nothing to replace.
        algorithm: change of the algorithm's answer (R, N).
        rounds: after which round a state was replaced (R,).

    Raises:
        ValueError: names the argument that does not fit.
    """
    changes = as_array(network, "network", ("round", "graph")).astype(np.float64)
    wanted = as_array(algorithm, "algorithm", ("round", "graph")).astype(np.float64)
    check_shape("algorithm", wanted.shape, changes.shape, "network")
    check_shape("rounds", (len(rounds),), changes.shape[:1], "network")
    return InterchangeInterventions(rounds=tuple(rounds), network=changes, algorithm=wanted)


def shuffle_graphs(record: InterchangeInterventions, seed: int = 0) -> InterchangeInterventions:
    """Return the network's changes beside the algorithm's for other graphs: what chance gives."""
    rng, algorithm = np.random.default_rng(seed), record.algorithm.copy()
    for row, network in zip(algorithm, record.network, strict=True):
        made = np.flatnonzero(~np.isnan(row + network))
        row[made] = row[rng.permutation(made)]
    return attrs.evolve(record, algorithm=algorithm)


def _r2(network: NDArray[np.float64], algorithm: NDArray[np.float64]) -> float:
    if len(algorithm) < _FEWEST or np.ptp(algorithm) == 0:
        return float("nan")
    spread = ((algorithm - algorithm.mean()) ** 2).sum()
    return float(1 - ((network - algorithm) ** 2).sum() / spread)


def _slope(network: NDArray[np.float64], algorithm: NDArray[np.float64]) -> float:
    if len(algorithm) < _FEWEST or np.ptp(algorithm) == 0:
        return float("nan")
    return float(np.polyfit(algorithm, network, 1)[0])
