"""Ridge and logistic regression, many problems at once; N rows, F features, P problems."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_STEPS = 60


def _inverse_gram(x: NDArray[Any], factor: float, ridge: float) -> NDArray[Any]:
    """Return (factor · XᵀX / N + ridge)⁻¹, the last feature (the constant) hardly regularised."""
    penalties = np.full(x.shape[1], ridge)
    penalties[-1] = 1e-9
    gram = factor * (x.T @ x) / len(x)
    return np.asarray(np.linalg.inv(gram + np.diag(penalties)))


def fit_numbers(x: NDArray[Any], y: NDArray[Any], ridge: float) -> NDArray[Any]:
    """Return the ridge regression weights (F, P) of P targets y (P, N) on features x (N, F)."""
    return np.asarray(_inverse_gram(x, 1.0, ridge) @ (x.T @ y.T) / len(x))


def fit_classes(
    x: NDArray[Any], codes: NDArray[Any], num_classes: int, ridge: float
) -> NDArray[Any]:
    """Return logistic regression weights (P, F, num_classes) for labels `codes` (P, N)."""
    return fit_labelings(x, [codes], [num_classes], ridge)[0]


def fit_labelings(
    x: NDArray[Any], labelings: Sequence[NDArray[Any]], num_classes: Sequence[int], ridge: float
) -> list[NDArray[Any]]:
    """Return logistic regression weights (P, F, K) for each of several labelings (P, N).

    Every step divides the gradient by Böhning's bound of the Hessian, XᵀX / 2 (Annals of the
    Institute of Statistical Mathematics 44, 1992), which one inverse serves, with Nesterov's
    momentum: no line search, and no step size to choose. In single precision, which takes half the
    time: each step corrects the rounding of the one before. All labelings share the products.
    """
    inverse = _inverse_gram(x, 0.5, ridge).astype(np.float32)
    x = x.astype(np.float32)
    truths = [  # (K, P, N) each: sums over classes run along rows
        (codes == np.arange(num)[:, None, None]).astype(np.float32)
        for codes, num in zip(labelings, num_classes, strict=True)
    ]
    ends = np.cumsum([truth.shape[0] * truth.shape[1] for truth in truths])
    weights = np.zeros((ends[-1], x.shape[1]), np.float32)
    lookahead, momentum = weights, 1.0
    across = np.ascontiguousarray(x.T)
    for _ in range(_STEPS):
        scores = lookahead @ across
        for rows, truth in zip(np.split(scores, ends[:-1]), truths, strict=True):
            odds = rows.reshape(truth.shape)  # a view
            odds -= odds.max(axis=0)
            np.exp(odds, out=odds)
            odds /= odds.sum(axis=0)
            odds -= truth
        gradient = scores @ x / np.float32(len(x))
        gradient[:, :-1] += np.float32(ridge) * lookahead[:, :-1]
        new = lookahead - gradient @ inverse
        next_momentum = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        lookahead = new + np.float32((momentum - 1) / next_momentum) * (new - weights)
        weights, momentum = new, next_momentum
    parts = zip(np.split(weights.astype(np.float64), ends[:-1]), truths, strict=True)
    return [part.reshape(*truth.shape[:2], -1).transpose(1, 2, 0) for part, truth in parts]
