"""Figures of recurrent layers."""

from visualization.recurrent import overlay_page
from visualization.recurrent.figures import automaton, effects, relevance, states

__all__ = ["automaton", "effects", "overlay_page", "relevance", "states"]
