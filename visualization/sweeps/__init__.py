"""Sweeps: scores of trials against their settings."""

from visualization.sweeps.sample_complexity import SampleComplexity, SamplePoint
from visualization.sweeps.trials import ParallelCoordinates, Slices, TrialScores

__all__ = ["ParallelCoordinates", "SampleComplexity", "SamplePoint", "Slices", "TrialScores"]
