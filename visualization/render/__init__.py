"""Records to figures and to plain text; the only package that draws."""

from visualization.render import attention, automaton, diagnosis, effects, general, states
from visualization.render.captions import caption
from visualization.render.core import draw, png, text

__all__ = [
    "attention",
    "automaton",
    "caption",
    "diagnosis",
    "draw",
    "effects",
    "general",
    "png",
    "states",
    "text",
]
