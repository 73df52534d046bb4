"""Fourier components of a network that adds modulo p (Nanda et al. 2023, 2301.05217, section 4).

A network that learned (a + b) mod p answers with a few waves: it computes cos w(a + b) and
sin w(a + b) for a few frequencies w = 2πk/p, and the logit of c is a sum of
cos w(a + b - c) = cos w(a + b) cos wc + sin w(a + b) sin wc, which is largest at c = a + b.

Letters of shapes: p the modulus, which is odd; K = (p - 1) / 2 frequencies, counted from 1;
D features; M neurons; C classes. Arrays (p, p, …) have a in rows and b in columns.
"""

from collections.abc import Collection, Iterable

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from visualization.core.arrays import as_array
from visualization.core.errors import argument_error
from visualization.core.records import brief_repr

Array = NDArray[np.float64]
_LEAST = 3  # numbers, of which there is one frequency


@attrs.frozen(eq=False, kw_only=True, field_transformer=brief_repr)
class FrequencySpectra:
    """Fourier spectra of embedding, neurons and logits, by frequency.

    Attributes:
        modulus: p.
        embedding_norms: norm of each frequency's cosine and sine components (K,).
        logit_shares: share of the logits' variance along cos and sin w(a + b) of each (K,).
        key_frequencies: those by which it answers, from 1.
        neuron_frequencies: that which explains most of each neuron's variance (M,); 0: it has none.
        neuron_shares: the share that it explains (M,); NaN: the neuron is constant.
    """

    modulus: int
    embedding_norms: Array
    logit_shares: Array
    key_frequencies: tuple[int, ...]
    neuron_frequencies: NDArray[np.int64]
    neuron_shares: Array

    @property
    def gini(self) -> float:
        """Gini coefficient of the embedding's norms: 0 where all are equal."""
        return gini_coefficient(self.embedding_norms)


def num_frequencies(modulus: int) -> int:
    """Return how many frequencies an odd modulus has.

    Raises:
        ValueError: it is even, or below 3.
    """
    if modulus < _LEAST or modulus % 2 == 0:
        raise argument_error("modulus", f"{modulus} is not accepted", "odd numbers from 3")
    return (modulus - 1) // 2


def fourier_basis(modulus: int) -> Array:
    """Fourier basis of functions of a number modulo p: orthonormal rows (p, p).

    The first is constant; rows 2k - 1 and 2k are the cosine and the sine of frequency k.

    >>> fourier_basis(3).round(3)
    array([[ 0.577,  0.577,  0.577],
           [ 0.816, -0.408, -0.408],
           [ 0.   ,  0.707, -0.707]])
    """
    angles = _angles(modulus)
    waves = np.stack([np.cos(angles), np.sin(angles)], axis=1).reshape(-1, modulus)
    constant = np.full((1, modulus), modulus**-0.5)
    return np.concatenate([constant, waves * (2 / modulus) ** 0.5])


def _angles(modulus: int) -> Array:
    """Return 2πka / p for each frequency and number (K, p)."""
    frequencies = np.arange(1, num_frequencies(modulus) + 1)
    return 2 * np.pi * (np.outer(frequencies, np.arange(modulus)) % modulus) / modulus


def _by_frequency(energies: Array) -> Array:
    """Return the sum over cosine and sine of each frequency (K, …) of values (p, …)."""
    return np.asarray(energies[1:].reshape(-1, 2, *energies.shape[1:]).sum(axis=1))


def frequency_norms(embedding: ArrayLike | Tensor) -> Array:
    """Fourier norms of an embedding (p, D): of each frequency's two components over a (K,).

    With the constant component their squares sum to the embedding's (Parseval).
    """
    table = as_array(embedding, "embedding", ("number", "feature"), finite=True).astype(np.float64)
    return np.asarray(_by_frequency(((fourier_basis(len(table)) @ table) ** 2).sum(axis=1)) ** 0.5)


def frequency_projection(modulus: int, frequencies: Collection[int]) -> Array:
    """Projection (p, p) of functions of a number on the constant and on some frequencies.

    Raises:
        ValueError: a frequency does not exist.
    """
    rows = fourier_basis(modulus)[[0, *_rows(modulus, frequencies)]]
    return np.asarray(rows.T @ rows)


def _rows(modulus: int, frequencies: Iterable[int]) -> list[int]:
    """Return the rows of the basis that belong to frequencies."""
    count = num_frequencies(modulus)
    for frequency in frequencies:
        if not 1 <= frequency <= count:
            raise argument_error("frequencies", f"there is no {frequency}", f"1 to {count}")
    return [row for k in frequencies for row in (2 * k - 1, 2 * k)]


def _as_logits(logits: ArrayLike | Tensor) -> Array:
    """Return logits (p, p, C) in double precision."""
    array = as_array(logits, "logits", ("a", "b", "class"), finite=True).astype(np.float64)
    if array.shape[0] != array.shape[1]:
        raise argument_error("logits", f"shape {array.shape}", "as many a as b")
    return array


def _mean_by_sum(logits: Array) -> Array:
    """Return the mean over all pairs of the same a + b modulo p (p, C)."""
    p = len(logits)
    a, total = np.arange(p)[:, None], np.arange(p)
    return np.asarray(logits[a, (total - a) % p].mean(axis=0))


def _for_pairs(by_sum: Array) -> Array:
    """Return a function of a + b (p, C) for each pair (p, p, C)."""
    numbers = np.arange(len(by_sum))
    return np.asarray(by_sum[(numbers[:, None] + numbers) % len(by_sum)])


def keep_frequencies(logits: ArrayLike | Tensor, frequencies: Collection[int]) -> Array:
    """Restricted logits (p, p, C): of each class its mean, and cos and sin w(a + b) of frequencies.

    2301.05217, section 5.1. All that depends on a and b in another way is left out.
    """
    by_sum = _mean_by_sum(_as_logits(logits))
    return _for_pairs(frequency_projection(len(by_sum), frequencies) @ by_sum)


def remove_frequencies(logits: ArrayLike | Tensor, frequencies: Collection[int]) -> Array:
    """Excluded logits (p, p, C): all but cos and sin w(a + b) of frequencies (section 5.1)."""
    array = _as_logits(logits)
    by_sum = _mean_by_sum(array)
    waves = frequency_projection(len(by_sum), frequencies) @ by_sum - by_sum.mean(axis=0)
    return np.asarray(array - _for_pairs(waves))


def frequency_shares(logits: ArrayLike | Tensor) -> Array:
    """Share of the logits' variance over all pairs that lies along cos and sin w(a + b) (K,).

    What is equal for all classes of a pair is left out first, as no answer depends on it. The
    shares sum to at most 1; 0 where the logits do not vary.
    """
    array = _as_logits(logits)
    array = array - array.mean(axis=-1, keepdims=True)
    total = float(((array - array.mean(axis=(0, 1))) ** 2).sum())
    p = len(array)
    energies = ((fourier_basis(p) @ _mean_by_sum(array)) ** 2).sum(axis=1) * p
    return np.asarray(_by_frequency(energies) / (total or 1.0))


def key_frequencies(shares: ArrayLike) -> tuple[int, ...]:
    """Key frequencies: those with more of the logits' variance than a flat spectrum would give.

    The rule: frequency k is key if its share (K,), as `frequency_shares` returns it, is above
    1 / K, which each would have if all variance were evenly spread over them. So a network whose
    logits are not waves of a + b has none, whatever their size. Nanda et al. read them off a plot.

    >>> key_frequencies([0.01, 0.6, 0.0, 0.3])
    (2, 4)
    """
    array = np.asarray(shares, np.float64)
    return tuple(int(k) + 1 for k in np.flatnonzero(array > 1 / len(array)))


def neuron_frequencies(activations: ArrayLike | Tensor) -> tuple[NDArray[np.int64], Array]:
    """Best single frequency of each neuron (M,), and the share of its variance it explains (M,).

    Of activations (p, p, M), over all pairs. To a frequency belong cos and sin of wa, of wb, and
    the four products of them (2301.05217, section 4): 8 of the p² - 1 components.

    Returns:
        frequencies from 1, or 0 of a neuron that is constant, and shares, then NaN.
    """
    names = ("a", "b", "neuron")
    values = as_array(activations, "activations", names, finite=True).astype(np.float64)
    p = len(values)
    basis = fourier_basis(p)
    half = np.tensordot(basis, values, (1, 0))  # (p, b, M)
    energies = np.tensordot(basis, half, (1, 1)).swapaxes(0, 1) ** 2  # (p, p, M)
    total = energies.sum(axis=(0, 1)) - energies[0, 0]
    ranges = [slice(2 * k - 1, 2 * k + 1) for k in range(1, num_frequencies(p) + 1)]
    explained = np.stack([
        energies[0, part].sum(axis=0) + energies[part, 0].sum(axis=0)
        + energies[part, part].sum(axis=(0, 1))
        for part in ranges
    ])  # fmt: skip
    varies = total > np.finfo(np.float64).eps * energies.sum(axis=(0, 1)) * p**2
    shares = np.where(varies, explained.max(axis=0) / np.where(varies, total, 1.0), np.nan)
    return np.where(varies, explained.argmax(axis=0) + 1, 0), shares


def frequency_spectra(
    embedding: ArrayLike | Tensor, activations: ArrayLike | Tensor, logits: ArrayLike | Tensor
) -> FrequencySpectra:
    """Fourier spectra of a network that adds modulo p.

    Args:
        embedding: vectors of the numbers (p, D).
        activations: of the neurons for all pairs (p, p, M).
        logits: of the remainders for all pairs (p, p, p).
    """
    shares = frequency_shares(logits)
    best, explained = neuron_frequencies(activations)
    return FrequencySpectra(
        modulus=2 * len(shares) + 1, embedding_norms=frequency_norms(embedding),
        logit_shares=shares, key_frequencies=key_frequencies(shares),
        neuron_frequencies=best, neuron_shares=explained,
    )  # fmt: skip


def gini_coefficient(values: ArrayLike) -> float:
    """Gini coefficient of numbers ≥ 0 (K,): 0 if all are equal, near 1 if one has all.

    >>> gini_coefficient([1, 1, 1, 1]), gini_coefficient([0, 0, 0, 4])
    (0.0, 0.75)
    """
    ordered = np.sort(np.asarray(values, np.float64))
    num, total = len(ordered), ordered.sum()
    if total == 0:
        return 0.0
    ranks = np.arange(1, num + 1)
    return float(2 * (ranks * ordered).sum() / (num * total) - (num + 1) / num)
