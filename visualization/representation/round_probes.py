"""Linear probes by round: what the states of a graph network hold of an algorithm's, step by step.

R rounds of messages, K steps of the algorithm, B graphs with at most n objects, D hidden units.
"""

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from visualization.core.arrays import as_array, check_shape
from visualization.core.errors import check_share
from visualization.core.records import brief_repr
from visualization.representation.probes import can_be_probed, heldout_scores

_AXES = ("round", "graph", "object", "unit")  # of states


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class RoundProbes:
    """Linear probes of states after 0 … R rounds for what an algorithm knows after 1 … K steps.

    Scores are R² on withheld graphs; NaN where what is known does not vary, or is known of too few
    objects, as in `ProbeTable`.

    Attributes:
        scores: of ridge regressions (R + 1, K).
        controls: the same with the targets shuffled among objects of one kind: what a probe reads
            from what the kind alone tells (R + 1, K).
        untrained: the scores of an untrained network (R + 1, K); None without one.
        num_objects: how many have a target after each step (K,).
        num_graphs: B.
        held_out: share of the graphs that no probe was fitted on.
    """

    scores: NDArray[np.float64]
    controls: NDArray[np.float64]
    untrained: NDArray[np.float64] | None
    num_objects: NDArray[np.int64]
    num_graphs: int
    held_out: float


def probe_rounds(
    states: ArrayLike | Tensor,
    targets: ArrayLike,
    kinds: ArrayLike,
    *,
    untrained: ArrayLike | Tensor | None = None,
    held_out: float = 0.3,
    seed: int = 0,
) -> RoundProbes:
    """Linear probes of each object's state, by round and by step of an algorithm.

    A network whose rounds line up with the steps of an algorithm (Xu et al. 2020, 1905.13211) has
    high scores where round and step are equal, and low ones where the step is ahead of the round.

    Args:
        states: at first and after each round (R + 1, B, n, D).
        targets: what the algorithm knows of each object after steps 1 … K, NaN: nothing (K, B, n).
        kinds: codes of what is known of an object beforehand (B, n), for the control.
        untrained: the states of an untrained network.
        held_out: share of the graphs that score the probes.
        seed: of the split and the shuffling.

    Raises:
        ValueError: names the argument that does not fit.
    """
    array = as_array(states, "states", _AXES, finite=True)
    truth = as_array(targets, "targets", ("step", "graph", "object")).astype(np.float64)
    codes = as_array(kinds, "kinds", ("graph", "object"))
    check_shape("targets", truth.shape[1:], array.shape[1:3], "states")
    check_shape("kinds", codes.shape, array.shape[1:3], "states")
    check_share(held_out, "held_out")
    other = None if untrained is None else as_array(untrained, "untrained", _AXES, finite=True)
    if other is not None:
        check_shape("untrained", other.shape[:3], array.shape[:3], "states")
    rng = np.random.default_rng(seed)
    tested = np.repeat(
        (rng.permutation(codes.shape[0]) < held_out * codes.shape[0])[:, None], codes.shape[1], 1
    )
    shape = (len(array), len(truth))
    scores, controls, bare = (np.full(shape, np.nan) for _ in range(3))
    for step, values in enumerate(truth):
        known = ~np.isnan(values)
        y, test = values[known], tested[known]
        if not can_be_probed(y, test):
            continue
        both = np.stack([y, _shuffled_within(codes[known], y, rng)])
        for each in range(len(array)):
            rows = array[each][known].astype(np.float64)
            scores[each, step], controls[each, step] = heldout_scores(rows, [both], test)[0]
            if other is not None:
                rows = other[each][known].astype(np.float64)
                bare[each, step] = heldout_scores(rows, [y[None]], test)[0][0]
    return RoundProbes(
        scores=scores, controls=controls, untrained=None if other is None else bare,
        num_objects=(~np.isnan(truth)).sum(axis=(1, 2)), num_graphs=array.shape[1],
        held_out=held_out,
    )  # fmt: skip


def _shuffled_within(
    kinds: NDArray[np.int64], values: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return values (N,) shuffled among those of the same kind (N,)."""
    shuffled = np.empty_like(values)
    for kind in np.unique(kinds):
        rows = np.flatnonzero(kinds == kind)
        shuffled[rows] = values[rng.permutation(rows)]
    return shuffled
