"""Ridge and logistic regression, many problems at once; N rows, F features, P problems."""

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
    """Return logistic regression weights (P, F, num_classes) for labels `codes` (P, N).

    Every step divides the gradient by Böhning's bound of the Hessian, XᵀX / 2 (Annals of the
    Institute of Statistical Mathematics 44, 1992), which one inverse serves, with Nesterov's
    momentum: no line search, and no step size to choose. In single precision, which takes half the
    time: each step corrects the rounding of the one before.
    """
    inverse = _inverse_gram(x, 0.5, ridge).astype(np.float32)
    x = x.astype(np.float32)
    truth = np.eye(num_classes, dtype=np.float32)[codes.T]  # (N, P, K)
    weights = np.zeros((x.shape[1], truth[0].size), np.float32)  # (F, P · K): one product for all
    lookahead, momentum = weights, 1.0
    for _ in range(_STEPS):
        odds = (x @ lookahead).reshape(truth.shape)
        odds -= odds.max(axis=-1, keepdims=True)
        np.exp(odds, out=odds)
        odds /= odds.sum(axis=-1, keepdims=True)
        odds -= truth
        gradient = x.T @ odds.reshape(len(x), -1) / np.float32(len(x))
        gradient[:-1] += np.float32(ridge) * lookahead[:-1]
        new = lookahead - inverse @ gradient
        next_momentum = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        lookahead = new + np.float32((momentum - 1) / next_momentum) * (new - weights)
        weights, momentum = new, next_momentum
    by_problem = weights.reshape(-1, *truth.shape[1:]).swapaxes(0, 1)
    return np.asarray(by_problem.astype(np.float64))
