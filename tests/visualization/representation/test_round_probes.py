"""Linear probes by round: states that hold known distances, kinds, and bad arguments."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from visualization.representation.round_probes import RoundProbes, probe_rounds

GRAPHS, OBJECTS, STEPS = 60, 6, 3


def targets(seed: int) -> NDArray[np.float64]:
    """Return independent numbers of each step (K, B, n)."""
    return np.random.default_rng(seed).normal(size=(STEPS, GRAPHS, OBJECTS))


def states_of(values: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Return states of which round r is a mixture of the target of step r, and of noise."""
    rng = np.random.default_rng(seed + 100)
    states = rng.normal(size=(STEPS + 1, GRAPHS, OBJECTS, 4))
    states[1:, ..., 0] += values
    states[1:, ..., 1] = 2 * values - states[1:, ..., 0]  # the sum of both is the target, twice
    return states


def probed(seed: int, **arguments: Any) -> RoundProbes:
    """Return probes of these states."""
    values = targets(seed)
    states = states_of(values, seed)
    kinds = np.zeros((GRAPHS, OBJECTS), np.int64)
    return probe_rounds(states, values, **{"kinds": kinds, "seed": seed, **arguments})


@pytest.mark.parametrize("seed", range(3))
def test_what_a_round_holds_is_found_there_and_nowhere_else(seed: int) -> None:
    """R² is 1 where round and step are equal, and about 0 elsewhere and with shuffled targets."""
    record = probed(seed)
    own = np.arange(STEPS + 1)[:, None] == np.arange(STEPS) + 1
    assert record.scores[own].min() > 0.99
    assert record.scores[~own].max() < 0.3
    assert record.controls.max() < 0.3
    assert record.untrained is None
    assert record.num_objects.tolist() == [GRAPHS * OBJECTS] * STEPS


def test_the_control_knows_what_the_kind_tells() -> None:
    """Targets that follow from the kind, which states hold, are found as well when shuffled."""
    kinds = np.tile(np.arange(OBJECTS), (GRAPHS, 1))
    values = np.broadcast_to(kinds.astype(float), (STEPS, GRAPHS, OBJECTS))
    states = np.broadcast_to(np.eye(OBJECTS)[kinds], (STEPS + 1, GRAPHS, OBJECTS, OBJECTS))
    record = probe_rounds(states, values, kinds)
    assert record.controls.min() > 0.99
    other_kind = probe_rounds(states, values, np.zeros_like(kinds))
    assert other_kind.controls.max() < 0.3


def test_an_untrained_network_has_scores_of_its_own() -> None:
    """The other states are probed for the same targets."""
    noise = np.random.default_rng(0).normal(size=(STEPS + 1, GRAPHS, OBJECTS, 4))
    record = probed(0, untrained=noise)
    assert record.untrained is not None
    assert record.untrained.max() < 0.3


def test_unknown_targets_do_not_count() -> None:
    """NaN is left out, and a step that is known of too few objects has no score."""
    values = targets(0)
    values[0, :, 1:] = np.nan
    values[1, 1:] = np.nan
    record = probe_rounds(states_of(targets(0), 0), values, np.zeros(values.shape[1:], np.int64))
    assert record.num_objects.tolist() == [GRAPHS, OBJECTS, GRAPHS * OBJECTS]
    assert np.isnan(record.scores[:, 1]).all()
    assert record.scores[1, 0] > 0.99


def test_probes_are_scored_on_graphs_that_they_were_not_fitted_on() -> None:
    """What all objects of a graph share, and no other graph does, is of no use."""
    each = np.random.default_rng(0).normal(size=GRAPHS)
    values = np.broadcast_to(each[:, None], (STEPS, GRAPHS, OBJECTS))
    one_hot = np.eye(GRAPHS)[np.tile(np.arange(GRAPHS)[:, None], (1, OBJECTS))]
    states = np.broadcast_to(one_hot, (STEPS + 1, *one_hot.shape))
    record = probe_rounds(states, values, np.zeros((GRAPHS, OBJECTS), np.int64))
    assert record.scores.max() < 0.3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kinds": np.zeros((GRAPHS, 2))}, "kinds: shape"),
        ({"held_out": 1.0}, "held_out: 1.0"),
        ({"untrained": np.zeros((2, GRAPHS, OBJECTS, 4))}, "untrained: shape"),
        ({"untrained": np.zeros((2, GRAPHS))}, r"untrained: .*\(round, graph, object, unit\)"),
    ],
)
def test_what_does_not_fit_is_named(arguments: dict[str, Any], words: str) -> None:
    """An argument of another shape or out of range is an error that names it."""
    with pytest.raises(ValueError, match=words):
        probed(0, **arguments)
