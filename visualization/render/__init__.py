"""Records to figures and to plain text; the only package that draws."""

from visualization.render import automaton, effects, general, states
from visualization.render.captions import caption
from visualization.render.core import draw, png, text

__all__ = ["automaton", "caption", "draw", "effects", "general", "png", "states", "text"]
