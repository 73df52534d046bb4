"""Figures of images that were found: one by one, by penalties, on a map."""

from visualization.synthesis.figures import atlas, found, penalties

__all__ = ["atlas", "found", "penalties"]
