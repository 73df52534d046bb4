"""Figures of what was found in convolutional networks, loaded when the first is asked for."""

from visualization.render.conv import (
    adversarial,
    attribution,
    concepts,
    edits,
    fields,
    landscape,
    layers,
    maximised,
    patterns,
    progression,
    units,
    weights,
)

__all__ = [
    "adversarial", "attribution", "concepts", "edits", "fields", "landscape", "layers", "maximised",
    "patterns", "progression", "units", "weights",
]  # fmt: skip
