"""Reliability: known answers of calibrated and of overconfident samples; the temperature."""

import numpy as np
import pytest

from visualization import NothingToShow, render
from visualization.calibration.reliability import (
    Confidences,
    fit_temperature,
    reliability,
    reliability_diagrams,
    wilson_interval,
)


def drawn(num: int, temperature: float, seed: int = 0) -> Confidences:
    """Return what says its likeliest of five labels, with logits too large by a factor."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (num, 5))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (p.cumsum(1) > rng.random((num, 1))).argmax(1)

    def at(t: float) -> tuple[np.ndarray, np.ndarray]:
        scaled = np.exp(temperature * logits / t)
        return scaled.max(1) / scaled.sum(1), logits.argmax(1) == labels

    return Confidences(name="labels", at=at)


def test_calibrated_samples_have_no_error_beyond_chance() -> None:
    """What is right as often as it says has an error near 0, within its chance level."""
    found = reliability(*drawn(20_000, 1.0).at(1.0))
    assert found.ece < 0.02
    assert found.ece <= 1.5 * found.chance
    assert found.counts.sum() == 20_000
    seen = found.counts > 100
    inside = (found.low <= found.confidence) & (found.confidence <= found.high)
    assert inside[seen].mean() >= 0.7


def test_the_error_of_known_shares() -> None:
    """Ten of confidence 0.95, of which 5 are right, and ten of 0.25, of which 3: .25."""
    sure = [0.95] * 10 + [0.25] * 10
    right = [True] * 5 + [False] * 5 + [True] * 3 + [False] * 7
    found = reliability(sure, right)
    assert found.ece == pytest.approx((0.45 + 0.05) / 2)
    assert found.accuracy[[9, 2]].tolist() == [0.5, pytest.approx(0.3)]
    assert found.counts[[9, 2]].tolist() == [10, 10]
    assert np.isnan(found.accuracy[0])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_is_recovered(temperature: float) -> None:
    """Of logits that are too large by a factor, that factor is the temperature that is fitted."""
    assert fit_temperature(drawn(20_000, temperature)) == pytest.approx(temperature, rel=0.06)


def test_scaling_mends_what_is_overconfident_on_other_samples() -> None:
    """Fitted on one half, the error of the other falls from far beyond chance to near it."""
    found = reliability_diagrams([drawn(5000, 3.0)], [drawn(5000, 3.0, seed=1)])["labels"]
    assert found.before.ece > 5 * found.before.chance
    assert found.after.ece < 2 * found.after.chance
    assert found.before.mean_accuracy == found.after.mean_accuracy
    assert found.before.mean_confidence > found.after.mean_confidence


def test_a_sample_without_a_mistake_does_not_make_all_sure() -> None:
    """Twenty right of twenty at 0.9: the temperature stays where its confidence is below 0.99."""
    said = Confidences(
        name="labels",
        at=lambda t: (1 / (1 + np.exp(-np.full(20, 2.2) / t)), np.ones(20, bool)),
    )
    assert said.at(fit_temperature(said))[0].max() < 0.99


def test_the_interval_is_wilsons() -> None:
    """Known answer: 8 of 10 are 0.490 to 0.943; of nothing there is none."""
    low, high = wilson_interval([8, 0], [10, 0])
    assert (low[0], high[0]) == (pytest.approx(0.490, abs=1e-3), pytest.approx(0.943, abs=1e-3))
    assert np.isnan(low[1])


def test_what_cannot_be_reliable_is_refused() -> None:
    """Nothing said, numbers that are no probabilities, and unequal lengths have their own words."""
    with pytest.raises(NothingToShow, match="nothing was said"):
        reliability([], [])
    with pytest.raises(ValueError, match=r"confidence: .* accepted: 0 to 1"):
        reliability([1.5], [True])
    with pytest.raises(ValueError, match="right"):
        reliability([0.5, 0.5], [True])


def test_the_diagram_is_drawn_and_told() -> None:
    """Two panels with counts below, and the same figures as text."""
    record = reliability_diagrams([drawn(300, 2.0)], [drawn(300, 2.0, seed=1)])["labels"]
    figure = render.draw(record)
    assert len(figure.axes) == 4
    words = render.text(record)
    assert f"ECE {record.before.ece:.4f}" in words
    assert "temperature fitted on 300 labels of validation" in words
    assert "on the broken line" in render.caption(record)
