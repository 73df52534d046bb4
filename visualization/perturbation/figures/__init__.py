"""Figures of perturbed images and feature maps."""

from visualization.perturbation.figures import edits, patterns

__all__ = ["edits", "patterns"]
