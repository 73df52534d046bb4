"""Interchange interventions: known changes of a network and an algorithm."""

from typing import Any

import numpy as np
import pytest

from visualization.circuits import interchange_interventions

CHANGES = np.array([[0.0, -2.0, 4.0, 0.0, 1.0], [0.0, 3.0, -1.0, 2.0, 0.0]])


def test_a_network_that_does_as_the_algorithm() -> None:
    """Equal changes have R² 1, slope 1 and no side effects."""
    record = interchange_interventions(CHANGES, CHANGES, (1, 2))
    np.testing.assert_allclose(record.r2, 1)
    np.testing.assert_allclose(record.slopes, 1)
    np.testing.assert_allclose(record.side_effects, 0)


def test_a_network_that_does_half_of_it_and_more() -> None:
    """Half the change and a constant: slope 0.5, the constant as side effect, R² from its sum."""
    network = 0.5 * CHANGES + 0.25
    record = interchange_interventions(network, CHANGES, (1, 2))
    np.testing.assert_allclose(record.slopes, 0.5)
    np.testing.assert_allclose(record.side_effects, 0.25)
    spread = ((CHANGES - CHANGES.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    np.testing.assert_allclose(record.r2, 1 - ((network - CHANGES) ** 2).sum(axis=1) / spread)


def test_graphs_without_a_swap_do_not_count() -> None:
    """Measures are the same with graphs more that have none."""
    nothing = np.full((2, 3), np.nan)
    network = 0.5 * CHANGES
    few = interchange_interventions(network, CHANGES, (1, 2))
    more = interchange_interventions(
        np.hstack([network, nothing]), np.hstack([CHANGES, nothing]), (1, 2)
    )
    np.testing.assert_allclose(more.r2, few.r2)
    np.testing.assert_allclose(more.slopes, few.slopes)


def test_changes_that_are_all_equal_have_no_measure() -> None:
    """Without any change there is nothing to explain, and no slope."""
    record = interchange_interventions(np.zeros((1, 4)), np.zeros((1, 4)), (1,))
    assert np.isnan([*record.r2, *record.slopes]).all()
    assert record.side_effects.tolist() == [0.0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((CHANGES, CHANGES[:1], (1, 2)), "algorithm: shape"),
        ((CHANGES, CHANGES, (1,)), "rounds: shape"),
        ((CHANGES[0], CHANGES, (1, 2)), "network: shape"),
    ],
)
def test_what_does_not_fit_is_named(arguments: Any, words: str) -> None:
    """An argument of another shape is an error that names it."""
    with pytest.raises(ValueError, match=words):
        interchange_interventions(*arguments)
