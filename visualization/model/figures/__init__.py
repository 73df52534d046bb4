"""Figures of activations, weights and loss landscapes."""

from visualization.model.figures import cost, landscape, layers, weights

__all__ = ["cost", "landscape", "layers", "weights"]
