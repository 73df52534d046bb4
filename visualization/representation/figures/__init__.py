"""Figures of what layers represent, and of comparisons."""

from visualization.representation.figures import comparison, layers

__all__ = ["comparison", "layers"]
