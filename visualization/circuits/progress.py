"""Progress measures of grokking (Nanda et al. 2023, 2301.05217, section 5).

Training and test loss show that a network groks; these show what changes before it does.
"""

from collections.abc import Collection, Iterable
from typing import NamedTuple

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from visualization.circuits.fourier import (
    Array,
    frequency_norms,
    frequency_shares,
    gini_coefficient,
    keep_frequencies,
    remove_frequencies,
)
from visualization.core.arrays import check_shape, to_numpy
from visualization.core.errors import NothingToShow
from visualization.core.records import brief_repr


class Snapshot(NamedTuple):
    """What is measured of a network at one step of training, on all pairs modulo p.

    Attributes:
        step: of training.
        logits: (p, p, p), of a, b and the remainder.
        embedding: (p, D).
        squared_weights: the sum of the squares of all weights.
    """

    step: int
    logits: ArrayLike | Tensor
    embedding: ArrayLike | Tensor
    squared_weights: float


@attrs.frozen(eq=False, kw_only=True, field_transformer=brief_repr)
class ProgressMeasures:
    """Progress measures at S steps of training. Losses are cross entropies in nats.

    Attributes:
        modulus: p.
        key_frequencies: those of the trained network.
        steps: (S,).
        train_loss: mean over the training pairs (S,).
        test_loss: mean over all others (S,).
        train_accuracy: share right of the training pairs (S,).
        test_accuracy: share right of the others (S,).
        restricted_loss: of the other pairs from the key frequencies alone (S,).
        excluded_loss: of the training pairs without the key frequencies (S,).
        key_share: share of the logits' variance along the key frequencies (S,).
        gini: Gini coefficient of the embedding's Fourier norms (S,).
        squared_weights: sum of the squares of all weights (S,).
    """

    modulus: int
    key_frequencies: tuple[int, ...]
    steps: NDArray[np.int64]
    train_loss: Array
    test_loss: Array
    train_accuracy: Array
    test_accuracy: Array
    restricted_loss: Array
    excluded_loss: Array
    key_share: Array
    gini: Array
    squared_weights: Array


def score_pairs(logits: ArrayLike | Tensor, pairs: NDArray[np.bool_]) -> tuple[float, float]:
    """Cross entropy (nats) and accuracy of a + b modulo p, of logits (p, p, p), over some pairs.

    `pairs` (p, p) is true where a pair counts; NaN where none does.
    """
    array = np.asarray(to_numpy(logits), np.float64)
    check_shape("pairs", pairs.shape, array.shape[:2], "logits")
    a, b = np.nonzero(pairs)
    if not len(a):
        return np.nan, np.nan
    chosen, right = array[a, b], (a + b) % len(array)
    shifted = chosen - chosen.max(axis=1, keepdims=True)
    of_right = shifted[np.arange(len(a)), right]
    losses = np.log(np.exp(shifted).sum(axis=1)) - of_right
    return float(losses.mean()), float((chosen.argmax(axis=1) == right).mean())


def progress_measures(
    snapshots: Iterable[Snapshot], is_train: NDArray[np.bool_], frequencies: Collection[int]
) -> ProgressMeasures:
    """Measure progress by snapshots of training: restricted and excluded loss, Gini, weights.

    The restricted loss falls while the waves form, before the test loss does; the excluded loss
    rises while what was learned by heart is given up.

    Args:
        snapshots: in the order of their steps; each is used once.
        is_train: which pairs are for training (p, p).
        frequencies: the key frequencies of the trained network.

    Raises:
        NothingToShow: there is no snapshot.
    """
    steps, rows = [], []
    for snapshot in snapshots:
        steps.append(snapshot.step)
        rows.append(_measures(snapshot, is_train, tuple(frequencies)))
    if not rows:
        raise NothingToShow("there are no snapshots of training; see num_weight_snapshots")
    series = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return ProgressMeasures(
        modulus=len(is_train), key_frequencies=tuple(frequencies), steps=np.array(steps), **series
    )


def _measures(
    snapshot: Snapshot, is_train: NDArray[np.bool_], frequencies: tuple[int, ...]
) -> dict[str, float]:
    """Return all measures of one snapshot by the field of the record."""
    train_loss, train_accuracy = score_pairs(snapshot.logits, is_train)
    test_loss, test_accuracy = score_pairs(snapshot.logits, ~is_train)
    shares = frequency_shares(snapshot.logits)
    restricted = keep_frequencies(snapshot.logits, frequencies)
    excluded = remove_frequencies(snapshot.logits, frequencies)
    return {
        "train_loss": train_loss,
        "test_loss": test_loss,
        "train_accuracy": train_accuracy,
        "test_accuracy": test_accuracy,
        "restricted_loss": score_pairs(restricted, ~is_train)[0],
        "excluded_loss": score_pairs(excluded, is_train)[0],
        "key_share": float(shares[[k - 1 for k in frequencies]].sum()),
        "gini": gini_coefficient(frequency_norms(snapshot.embedding)),
        "squared_weights": snapshot.squared_weights,
    }
