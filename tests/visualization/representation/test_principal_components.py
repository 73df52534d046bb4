"""Principal components of rows: scikit-learn's, and what is not there left out."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from visualization.representation.embeddings import pca
from visualization.representation.features import principal_axes


@pytest.mark.parametrize("shape", [(40, 7), (7, 40), (9, 9), (30, 1)], ids=str)
def test_principal_components_of_narrow_and_wide_rows(shape: tuple[int, int]) -> None:
    """Points, and shares that sum to 1, are scikit-learn's up to sign, of rows of any shape."""
    rows = np.random.default_rng(1).normal(size=shape) * np.arange(1, shape[1] + 1) + 5
    points, shares = pca(rows, 99)
    oracle = PCA(svd_solver="full").fit(rows)
    np.testing.assert_allclose(np.abs(points), np.abs(oracle.transform(rows)), atol=1e-6)
    np.testing.assert_allclose(shares, oracle.explained_variance_ratio_, atol=1e-12)
    assert shares.sum() == pytest.approx(1)


@pytest.mark.parametrize("shape", [(40, 7), (7, 40)], ids=str)
def test_principal_axes_leave_out_what_is_not_there(shape: tuple[int, int]) -> None:
    """Rows on a plane have two axes at right angles, of length 1, which give the rows again."""
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(shape[0], 2)) @ rng.normal(size=(2, shape[1])) + 3
    mean, axes, squares = principal_axes(rows, 5)
    np.testing.assert_allclose(axes.T @ axes, np.eye(2), atol=1e-9)
    np.testing.assert_allclose((rows - mean) @ axes @ axes.T + mean, rows, atol=1e-9)
    np.testing.assert_allclose(squares, np.square((rows - mean) @ axes).sum(axis=0))
    assert squares[0] > squares[1]
    points, shares = pca(rows, 5)
    assert points.shape == (shape[0], 5)
    assert not points[:, 2:].any()
    assert not shares[2:].any()
