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
    momentum: no line search, and no step size to choose.
    """
    inverse = _inverse_gram(x, 0.5, ridge)
    truth = np.eye(num_classes)[codes]  # (P, N, K)
    weights = np.zeros((len(codes), x.shape[1], num_classes))
    lookahead, momentum = weights, 1.0
    for _ in range(_STEPS):
        logits = x @ lookahead
        logits -= logits.max(axis=-1, keepdims=True)
        odds = np.exp(logits)
        odds /= odds.sum(axis=-1, keepdims=True)
        gradient = x.T @ (odds - truth) / len(x)
        gradient[:, :-1] += ridge * lookahead[:, :-1]
        new = lookahead - inverse @ gradient
        next_momentum = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        lookahead = new + (momentum - 1) / next_momentum * (new - weights)
        weights, momentum = new, next_momentum
    return weights
