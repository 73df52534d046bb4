"""t-SNE (van der Maaten & Hinton 2008, JMLR 9), of some hundreds of points.

N points of D numbers, placed in two dimensions.
"""

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from visualization.core.errors import value_error

MOST_EXACT = 1000  # points: of more the exact gradient takes longer than Barnes and Hut's
_EXAGGERATION, _NUM_EXAGGERATED, _NUM_STEPS = 12.0, 250, 1000  # as in scikit-learn
_MIN_GAIN, _MIN_RATE = 0.01, 50.0
_NUM_BISECTIONS = 40  # of the logarithm: to a part in 10¹⁰


def tsne(points: NDArray[np.float64], perplexity: float | None, seed: int) -> NDArray[np.float64]:
    """t-SNE of points (N, D) whose first two columns, the start, have the most variance (N, 2).

    Up to 1,000 points by the exact gradient, which then is faster than Barnes and Hut's, by
    scikit-learn, whose import alone takes two seconds. The steps are as there: 250 with attraction
    exaggerated 12 times and a momentum of 0.5, 750 with 0.8, each coordinate with a gain of its
    own, at a rate of N / 48 and at least 50.

    Raises:
        ValueError: the perplexity is not above 0 and below N.
    """
    num = len(points)
    num_neighbours = min(30.0, num / 3) if perplexity is None else perplexity
    if not 0 < num_neighbours < num:
        raise value_error("perplexity", perplexity, f"above 0, below the {num} images")
    if np.ptp(points, axis=0).max() == 0 or points.shape[1] < 2:
        return points[:, :2]
    with threadpool_limits(1):  # with more, products of this size mostly wait
        if num > MOST_EXACT:
            return _by_scikit_learn(points, num_neighbours, seed)
        start = points[:, :2] / points[:, 0].std() * 1e-4
        return _descend(joint_probabilities(points, num_neighbours), start)


def joint_probabilities(points: NDArray[np.float64], perplexity: float) -> NDArray[np.float64]:
    """Joint probabilities (N, N) of being neighbours, by Gaussians of one perplexity (eq. 1).

    Each point's precision is found by bisection, for all of them at once.
    """
    squares = (points**2).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares - 2 * points @ points.T, 0)
    np.fill_diagonal(distances, np.inf)
    distances -= distances.min(axis=1, keepdims=True)
    distances /= np.median(distances[np.isfinite(distances)]) or 1.0
    low = np.full((len(points), 1), -60.0)  # of the logarithm of the precision
    high = -low
    for _ in range(_NUM_BISECTIONS):
        middle = (low + high) / 2
        is_wide = _entropy(distances, np.exp(middle)) > np.log(perplexity)
        low, high = np.where(is_wide, middle, low), np.where(is_wide, high, middle)
    weights = np.exp(-distances * np.exp(middle))
    weights /= weights.sum(axis=1, keepdims=True)
    return np.asarray((weights + weights.T) / (2 * len(points)))


def _entropy(distances: NDArray[np.float64], precision: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the entropy (N, 1), in nats, of being a neighbour, with the nearest at 0."""
    logs = -distances * precision
    weights = np.exp(logs)
    np.fill_diagonal(logs, 0)  # of a point and itself, of weight 0
    total = weights.sum(axis=1, keepdims=True)
    return np.asarray(np.log(total) - (weights * logs).sum(axis=1, keepdims=True) / total)


def _descend(joint: NDArray[np.float64], start: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return places (N, 2) after gradient descent of the Kullback-Leibler divergence (eq. 5).

    In single precision: what a step rounds the next ones correct.
    """
    num = len(start)
    rate = max(num / _EXAGGERATION / 4, _MIN_RATE)
    y, target = start.astype(np.float32), joint.astype(np.float32)
    update, gains = np.zeros_like(y), np.ones_like(y)
    ones, weights = np.ones((num, 1), np.float32), np.empty((num, num), np.float32)
    near = np.empty_like(weights)
    for step in range(_NUM_STEPS):
        squares = (y**2).sum(axis=1, keepdims=True)
        # 1 + |y_i - y_j|², as one product
        np.matmul(np.hstack([y * -2, squares, ones]), np.hstack([y, ones, squares + 1]).T, out=near)
        np.maximum(near, 1, out=near)
        np.reciprocal(near, out=near)
        near.flat[:: num + 1] = 0
        np.multiply(near, -1 / near.sum(), out=weights)
        weights += target * np.float32(_EXAGGERATION) if step < _NUM_EXAGGERATED else target
        weights *= near
        gradient = 4 * (weights.sum(axis=1, keepdims=True) * y - weights @ y)
        gains = np.where(update * gradient < 0, gains + 0.2, gains * 0.8).clip(_MIN_GAIN)
        update *= np.float32(0.5 if step < _NUM_EXAGGERATED else 0.8)
        update -= np.float32(rate) * gains * gradient
        y += update
        y -= y.mean(axis=0)
    return y.astype(np.float64)


def _by_scikit_learn(
    points: NDArray[np.float64], perplexity: float, seed: int
) -> NDArray[np.float64]:
    from sklearn.manifold import TSNE

    tsne = TSNE(2, perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed)
    return np.asarray(tsne.fit_transform(points), np.float64)
