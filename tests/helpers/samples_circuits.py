"""A record of each kind that is drawn of circuits; see `samples`."""

from typing import Any

import numpy as np

from tests.helpers.samples import RNG, Size, reproducible, shares, spread
from visualization.attention.rollout import AttentionRollout
from visualization.circuits.fourier import FrequencySpectra
from visualization.circuits.frequency_ablation import FrequencyAblation
from visualization.circuits.interchange import InterchangeInterventions
from visualization.circuits.logit_attribution import LogitAttribution
from visualization.circuits.progress import ProgressMeasures
from visualization.representation.round_probes import RoundProbes


def rollout(size: Size) -> AttentionRollout:
    """Return attention of a few layers or many over a text."""
    layers, num, wide = size.layers, min(size.samples, 2), min(size.steps, 60)
    weights = RNG.dirichlet(np.ones(wide), (2, layers, num, wide))
    text = size.characters(num, wide)
    return AttentionRollout(
        layers=size.names(layers), attention=weights[0], rollout=weights[1], written=text,
        read=text, labels=(size.words("1+2 = 3"),) * num, order="read from its end",
    )  # fmt: skip


def attribution(size: Size) -> LogitAttribution:
    """Return what few or many parts add to the logits of answers."""
    num, places = min(size.samples, 3), min(size.steps, 30)
    values = 1e4 * spread(num, places, size.layers)
    return LogitAttribution(
        parts=size.names(size.layers), values=values, logits=values.sum(-1),
        written=size.characters(num, places), labels=(size.words("1+2 = 3"),) * num,
    )  # fmt: skip


def keys(size: Size) -> tuple[int, ...]:
    """Return a few key frequencies, or none."""
    return (1, 2) if size.long else ()


def modulus(size: Size) -> int:
    """Return a large modulus or the least."""
    return 199 if size.long else 5


def spectra(size: Size) -> FrequencySpectra:
    """Return spectra with constant neurons."""
    count = modulus(size) // 2
    best = RNG.integers(0, count + 1, size.units)
    return FrequencySpectra(
        modulus=modulus(size), embedding_norms=shares(count), logit_shares=shares(count) / count,
        key_frequencies=keys(size), neuron_frequencies=best,
        neuron_shares=np.where(best > 0, shares(size.units), np.nan),
    )  # fmt: skip


def progress(size: Size) -> ProgressMeasures:
    """Return measures of many steps or of one."""
    num = size.steps
    measures: dict[str, Any] = {
        name: 10 ** spread(num)
        for name in ("train_loss", "test_loss", "restricted_loss", "excluded_loss")
    }
    measures |= {
        name: shares(num) for name in ("train_accuracy", "test_accuracy", "key_share", "gini")
    }
    return ProgressMeasures(
        modulus=modulus(size), key_frequencies=keys(size), steps=np.arange(num) ** 2,
        squared_weights=1e5 * shares(num), **measures,
    )  # fmt: skip


def ablation(size: Size) -> FrequencyAblation:
    """Return answers of a few frequencies."""
    names = ("all", "only key", "all but key")
    return FrequencyAblation(
        place="embedding", modulus=modulus(size), key_frequencies=keys(size),
        loss=dict.fromkeys(names, 1e-12 if size.long else 4.0),
        accuracy=dict.fromkeys(names, 1.0), random_loss=10 ** spread(20),
        random_accuracy=shares(20),
    )  # fmt: skip


def interchanges(size: Size) -> InterchangeInterventions:
    """Return changes of few or many graphs, some of them left out."""
    changes = 1e3 * spread(size.layers, 10 * size.samples)
    return InterchangeInterventions(
        rounds=tuple(range(1, size.layers + 1)), algorithm=changes,
        network=np.where(changes > 2e3, np.nan, 0.5 * changes + spread(*changes.shape)),
    )  # fmt: skip


def round_probes(size: Size) -> RoundProbes:
    """Return scores of few or many rounds and steps, some of them unknown or negative."""
    num = min(size.steps, 200)
    scores = shares(size.layers + 1, num) - 0.2
    scores[0] = np.nan
    return RoundProbes(
        scores=scores, controls=0.2 * scores, untrained=0.5 * scores if size.long else None,
        num_objects=np.full(num, 100), num_graphs=size.samples, held_out=0.3,
    )  # fmt: skip


SAMPLES = reproducible({
    AttentionRollout: rollout,
    FrequencyAblation: ablation,
    FrequencySpectra: spectra,
    InterchangeInterventions: interchanges,
    LogitAttribution: attribution,
    ProgressMeasures: progress,
    RoundProbes: round_probes,
})  # fmt: skip
