"""Figures of what layers and rounds represent, and of comparisons."""

from visualization.representation.figures import comparison, layers, rounds

__all__ = ["comparison", "layers", "rounds"]
