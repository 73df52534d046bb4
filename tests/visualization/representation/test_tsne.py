"""t-SNE by the exact gradient: against scikit-learn's, and known arrangements."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform
from scipy.special import rel_entr

from visualization.representation.embeddings import embed_rows
from visualization.representation.tsne import joint_probabilities, tsne


def _points(num: int, groups: int, size: int = 6) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return groups of points far apart, along their principal axes, and the group of each."""
    rng = np.random.default_rng(0)
    group = np.arange(num) % groups
    points = 8 * rng.normal(size=(groups, size))[group] + rng.normal(size=(num, size))
    points -= points.mean(axis=0)
    return points @ np.linalg.svd(points, full_matrices=False)[2].T, group


def _divergence(joint: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return the Kullback-Leibler divergence of places, in nats, by its definition."""
    near = 1 / (1 + squareform(pdist(y, "sqeuclidean")))
    np.fill_diagonal(near, 0)
    return float(rel_entr(joint, near / near.sum()).sum())


def test_the_rows_of_the_joint_probabilities_have_the_perplexity() -> None:
    """Twenty equidistant neighbours, and none else near, have the perplexity 20, each 1 / 20."""
    corners = np.eye(21)
    joint = joint_probabilities(np.concatenate([corners, corners + 100]), 20.0)
    np.testing.assert_allclose(joint[:21, :21], (1 - np.eye(21)) / 20 / 42, atol=1e-9)
    np.testing.assert_allclose(joint[:21, 21:], 0, atol=1e-9)


def test_joint_probabilities_are_those_of_scikit_learn() -> None:
    """Points of several groups have the joint probabilities that scikit-learn computes."""
    from sklearn.manifold._t_sne import _joint_probabilities

    points, _ = _points(90, 3)
    squares = squareform(pdist(points, "sqeuclidean")).astype(np.float32)
    theirs = squareform(_joint_probabilities(squares, 12.0, 0))
    np.testing.assert_allclose(joint_probabilities(points, 12.0), theirs, atol=1e-4 * theirs.max())


@pytest.mark.parametrize("groups", [1, 4])
def test_the_divergence_is_no_higher_than_scikit_learns(groups: int) -> None:
    """The places are as good as scikit-learn's, by what both minimise."""
    from sklearn.manifold import TSNE

    points, _ = _points(120, groups)
    joint = joint_probabilities(points, 15.0)
    theirs = TSNE(2, perplexity=15, init="pca", method="exact").fit_transform(points)
    assert _divergence(joint, tsne(points, 15.0, 0)) < 1.05 * _divergence(joint, theirs) + 0.02


def test_groups_stay_groups() -> None:
    """Of points in groups far apart the nearest place to each is one of its own group."""
    points, group = _points(150, 5)
    distances = squareform(pdist(tsne(points, None, 0)))
    np.fill_diagonal(distances, np.inf)
    assert (group[distances.argmin(axis=1)] == group).all()


@pytest.mark.parametrize("num", [4, 30])
def test_equal_points_have_finite_places(num: int) -> None:
    """Points, some of which are equal, have finite places, also where they are few."""
    points = np.repeat(np.eye(3)[: num // 2], num, axis=0)[:num]
    assert np.isfinite(embed_rows(points, None, "tsne").points).all()
    pairs = np.repeat(np.random.default_rng(1).normal(size=(num // 2, 3)), 2, axis=0)
    assert np.isfinite(embed_rows(pairs, None, "tsne").points).all()
