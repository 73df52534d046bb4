"""Live page: draw into an image, and watch what a network makes of it."""

from visualization.live.drawings import load_drawing

__all__ = ["load_drawing"]
