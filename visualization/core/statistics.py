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
    return fit_class_sets(x, [(codes, num_classes)], ridge)[0]


def fit_class_sets(
    x: NDArray[Any], sets: Sequence[tuple[NDArray[Any], int]], ridge: float
) -> list[NDArray[Any]]:
    """Return logistic regression weights as `fit_classes`, for several sets of codes and classes.

    Every step divides the gradient by Böhning's bound of the Hessian, XᵀX / 2 (Annals of the
    Institute of Statistical Mathematics 44, 1992), which one inverse serves, with Nesterov's
    momentum: no line search, and no step size to choose. The bound does not depend on the labels,
    so that all sets share it, and one product serves them all. In single precision, which takes
    half the time: each step corrects the rounding of the one before.
    """
    inverse = _inverse_gram(x, 0.5, ridge).astype(np.float32)
    x = x.astype(np.float32)
    truths = [np.eye(num, dtype=np.float32)[codes].swapaxes(1, 2) for codes, num in sets]
    ends = np.cumsum([truth.shape[0] * truth.shape[1] for truth in truths])
    places = [
        slice(end - t.shape[0] * t.shape[1], end) for end, t in zip(ends, truths, strict=True)
    ]
    weights = np.zeros((ends[-1], x.shape[1]), np.float32)  # (all P · K, F): one product for all
    lookahead, momentum = weights, 1.0
    by_feature = np.ascontiguousarray(x.T)
    for _ in range(_STEPS):
        odds = lookahead @ by_feature
        for place, truth in zip(places, truths, strict=True):  # (P, K, N)
            _to_errors(odds[place].reshape(truth.shape), truth)
        gradient = odds @ x / np.float32(len(x))
        gradient[:, :-1] += np.float32(ridge) * lookahead[:, :-1]
        new = lookahead - gradient @ inverse.T
        next_momentum = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        lookahead = new + np.float32((momentum - 1) / next_momentum) * (new - weights)
        weights, momentum = new, next_momentum
    return [
        weights[place].reshape(*truth.shape[:2], -1).swapaxes(1, 2).astype(np.float64)
        for place, truth in zip(places, truths, strict=True)
    ]


def _to_errors(logits: NDArray[Any], truth: NDArray[Any]) -> None:
    """Replace logits (P, K, N) by softmax minus truth, in place."""
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    logits -= truth
