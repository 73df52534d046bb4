"""Figures of recurrent layers."""

from visualization.recurrent import overlay_page
from visualization.recurrent.figures import automaton, effects, states

__all__ = ["automaton", "effects", "overlay_page", "states"]
