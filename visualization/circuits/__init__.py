"""Circuits: which parts of a network compute its answer, and how."""

from visualization.circuits.fourier import (
    FrequencySpectra,
    fourier_basis,
    frequency_norms,
    frequency_projection,
    frequency_shares,
    frequency_spectra,
    keep_frequencies,
    key_frequencies,
    neuron_frequencies,
    remove_frequencies,
)
from visualization.circuits.frequency_ablation import FrequencyAblation, frequency_ablation
from visualization.circuits.interchange import (
    InterchangeInterventions,
    interchange_interventions,
    shuffle_graphs,
)
from visualization.circuits.logit_attribution import LogitAttribution, direct_logit_attribution
from visualization.circuits.progress import ProgressMeasures, progress_measures

__all__ = [
    "FrequencyAblation",
    "FrequencySpectra",
    "InterchangeInterventions",
    "LogitAttribution",
    "ProgressMeasures",
    "direct_logit_attribution",
    "fourier_basis",
    "frequency_ablation",
    "frequency_norms",
    "frequency_projection",
    "frequency_shares",
    "frequency_spectra",
    "interchange_interventions",
    "keep_frequencies",
    "key_frequencies",
    "neuron_frequencies",
    "progress_measures",
    "remove_frequencies",
    "shuffle_graphs",
]
