"""Fourier components modulo p: against waves that were put in, and least squares."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from visualization.circuits import (
    fourier_basis,
    frequency_norms,
    frequency_projection,
    frequency_shares,
    keep_frequencies,
    key_frequencies,
    neuron_frequencies,
    remove_frequencies,
)
from visualization.circuits.fourier import frequency_spectra, gini_coefficient

RNG = np.random.default_rng(0)
WAVES: list[dict[int, float]] = [{1: 1.0}, {3: 2.0, 5: 1.0}, {2: 1.0, 6: 1.0, 11: 1.0}]
MODULI = (23, 29)


def waves(modulus: int, amplitudes: dict[int, float]) -> NDArray[np.float64]:
    """Return the logits that a network of these frequencies has: Σ amplitude cos w(a + b - c)."""
    a, b, c = np.ogrid[:modulus, :modulus, :modulus]
    angle = 2 * np.pi * (a + b - c) / modulus
    return np.asarray(sum(scale * np.cos(k * angle) for k, scale in amplitudes.items()))


@pytest.mark.parametrize("modulus", [3, 7, 53])
def test_the_basis_is_orthonormal(modulus: int) -> None:
    """Any two rows have the product 0, and each has the norm 1."""
    basis = fourier_basis(modulus)
    np.testing.assert_allclose(basis @ basis.T, np.eye(modulus), atol=1e-12)


def test_norms_obey_parseval() -> None:
    """The squared norms and that of the constant part sum to the squares of the embedding."""
    table = RNG.normal(size=(29, 6))
    constant = 29 * (table.mean(axis=0) ** 2).sum()
    total = (frequency_norms(table) ** 2).sum() + constant
    np.testing.assert_allclose(total, (table**2).sum())


@pytest.mark.parametrize("frequency", [1, 4, 11])
def test_an_embedding_of_one_frequency_has_one_norm(frequency: int) -> None:
    """Cosine and sine of one frequency, in any two directions, have the norm of the table alone."""
    angle = 2 * np.pi * frequency * np.arange(23) / 23
    table = np.outer(np.cos(angle), RNG.normal(size=5)) + np.outer(
        np.sin(angle), RNG.normal(size=5)
    )
    norms = frequency_norms(table)
    assert norms.argmax() + 1 == frequency
    np.testing.assert_allclose(norms.max(), np.linalg.norm(table))
    assert np.delete(norms, frequency - 1).max() < 1e-9
    assert gini_coefficient(norms) == pytest.approx(1 - 1 / 11)


@pytest.mark.parametrize("modulus", MODULI)
@pytest.mark.parametrize("amplitudes", WAVES)
def test_key_frequencies_are_those_put_in(modulus: int, amplitudes: dict[int, float]) -> None:
    """Each wave has the share of its squared amplitude, and these frequencies alone are key."""
    shares = frequency_shares(waves(modulus, amplitudes))
    assert key_frequencies(shares) == tuple(amplitudes)
    total = sum(scale**2 for scale in amplitudes.values())
    for k, scale in amplitudes.items():
        assert shares[k - 1] == pytest.approx(scale**2 / total)


def test_what_is_equal_for_all_classes_does_not_count() -> None:
    """A number added to all logits of a pair changes no share, as it changes no answer."""
    logits = waves(23, {4: 1.0})
    shifted = logits + 10 * RNG.normal(size=(23, 23, 1))
    np.testing.assert_allclose(frequency_shares(shifted), frequency_shares(logits), atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_noise_has_no_key_frequency(seed: int) -> None:
    """Logits at random are waves of a + b in no frequency: the spectrum is flat and tiny."""
    shares = frequency_shares(np.random.default_rng(seed).normal(size=(23, 23, 23)))
    assert key_frequencies(shares) == ()
    assert shares.sum() < 0.1


@pytest.mark.parametrize("amplitudes", WAVES)
def test_restricted_logits_of_waves_are_all_and_excluded_ones_nothing(
    amplitudes: dict[int, float],
) -> None:
    """Of a sum of waves, keeping its frequencies keeps all, and removing them leaves zeros."""
    logits = waves(23, amplitudes)
    np.testing.assert_allclose(keep_frequencies(logits, list(amplitudes)), logits, atol=1e-12)
    np.testing.assert_allclose(remove_frequencies(logits, list(amplitudes)), 0, atol=1e-12)


def test_what_is_kept_and_what_is_removed_make_the_whole() -> None:
    """Of any logits both parts sum to the whole and each class's mean, which both have."""
    logits = RNG.normal(size=(11, 11, 11))
    both = keep_frequencies(logits, [2, 3]) + remove_frequencies(logits, [2, 3])
    np.testing.assert_allclose(both, logits + logits.mean(axis=(0, 1)), atol=1e-12)


def test_keeping_is_a_fit_by_least_squares() -> None:
    """Restricted logits are the best fit of each class by a constant, cos and sin w(a + b)."""
    logits = RNG.normal(size=(11, 11, 4))
    a, b = np.mgrid[:11, :11]
    angle = 2 * np.pi * 3 * (a + b).ravel() / 11
    design = np.stack([np.ones(121), np.cos(angle), np.sin(angle)], axis=1)
    flat = logits.reshape(121, 4)
    fitted = design @ np.linalg.lstsq(design, flat, rcond=None)[0]
    np.testing.assert_allclose(keep_frequencies(logits, [3]).reshape(121, 4), fitted, atol=1e-12)


def test_the_best_frequency_of_a_neuron_by_least_squares() -> None:
    """The share explained is that of a fit by a frequency's eight waves; the best one counts."""
    values = RNG.normal(size=(11, 11, 3))
    a, b = (2 * np.pi * number.ravel() / 11 for number in np.mgrid[:11, :11])
    flat = values.reshape(121, 3) - values.mean(axis=(0, 1))
    shares = []
    for k in range(1, 6):
        of_a, of_b = ([np.cos(k * x), np.sin(k * x)] for x in (a, b))
        products = [one * other for one in of_a for other in of_b]
        design = np.stack([*of_a, *of_b, *products], axis=1)
        fitted = design @ np.linalg.lstsq(design, flat, rcond=None)[0]
        shares.append((fitted**2).sum(axis=0) / (flat**2).sum(axis=0))
    best, explained = neuron_frequencies(values)
    np.testing.assert_allclose(explained, np.max(shares, axis=0))
    np.testing.assert_array_equal(best, np.argmax(shares, axis=0) + 1)


def test_neurons_of_known_frequencies() -> None:
    """A product of one frequency is explained wholly, two by the larger, a constant by nothing."""
    a, b = np.mgrid[:13, :13] * 2 * np.pi / 13
    pure = 3 + np.cos(2 * a) + np.cos(2 * a) * np.sin(2 * b)
    two = 3**0.5 * np.cos(4 * a) + np.sin(5 * b)
    best, shares = neuron_frequencies(np.stack([pure, two, np.full_like(pure, 0.1)], axis=-1))
    assert best.tolist() == [2, 4, 0]
    np.testing.assert_allclose(shares, [1.0, 0.75, np.nan])


def test_spectra_of_one_wave() -> None:
    """All three spectra of a network of one frequency show that one."""
    angle = 2 * np.pi * 3 * np.arange(13) / 13
    table = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    neurons = np.cos(angle[:, None] + angle)[..., None]
    record = frequency_spectra(table, neurons, waves(13, {3: 1.0}))
    assert (record.modulus, record.key_frequencies) == (13, (3,))
    assert record.neuron_frequencies.tolist() == [3]
    assert record.gini == pytest.approx(1 - 1 / 6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fourier_basis(10), "modulus: 10 is not accepted; accepted: odd"),
        (lambda: frequency_projection(11, [6]), "frequencies: there is no 6; accepted: 1 to 5"),
        (lambda: frequency_shares(np.zeros((3, 5, 3))), "logits: shape"),
        (lambda: frequency_norms(np.full((3, 2), np.nan)), "embedding: nan"),
    ],
)
def test_what_does_not_fit_is_refused(call: Any, words: str) -> None:
    """An even modulus, an unknown frequency and arrays of other shapes are errors with names."""
    with pytest.raises(ValueError, match=words):
        call()
