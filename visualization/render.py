"""Records to figures and to plain text: what draws each kind is registered here."""

from visualization import figures
from visualization.adversarial import figures as adversarial
from visualization.attention import figures as attention
from visualization.attribution import figures as attribution
from visualization.core.captions import caption
from visualization.core.registry import draw, png, text
from visualization.diagnosis import figures as diagnosis
from visualization.feature_maps.fields import figures as fields
from visualization.feature_maps.figures import dissection, progression, units
from visualization.model.figures import landscape, layers, weights
from visualization.perturbation.figures import edits, patterns
from visualization.recurrent.figures import automaton, effects, states
from visualization.synthesis import figures as synthesis

__all__ = [
    "adversarial", "attention", "attribution", "automaton", "caption", "diagnosis", "dissection",
    "draw", "edits", "effects", "fields", "figures", "landscape", "layers", "patterns", "png",
    "progression", "states", "synthesis", "text", "units", "weights",
]  # fmt: skip
