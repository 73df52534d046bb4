"""Sweeps: scores of trials against their settings."""

from visualization.sweeps.trials import ParallelCoordinates, Slices, TrialScores

__all__ = ["ParallelCoordinates", "Slices", "TrialScores"]
