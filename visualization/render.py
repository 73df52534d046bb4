"""Figures, text and captions of records: what `visualization.core.registry` finds by their kind."""

from visualization.core.registry import caption, draw, png, text

__all__ = [
    "caption",
    "draw",
    "png",
    "text",
]
