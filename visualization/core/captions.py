"""One sentence for each kind of record that says how to read its picture."""

import functools
from typing import Any

from visualization.attention.maps import AttentionMaps
from visualization.core.registry import late
from visualization.recurrent.ablation import UnitRanking
from visualization.recurrent.automaton import Automaton
from visualization.recurrent.intervention import Intervention, Patching
from visualization.recurrent.overlay import Overlay
from visualization.recurrent.paths import StatePaths
from visualization.recurrent.queries import Matches
from visualization.recurrent.roles import UnitRoles
from visualization.recurrent.saturation import GateSaturation
from visualization.representation.comparison import Overlap, UnitMatch
from visualization.representation.probes import ProbeTable

_CAPTIONS: dict[type, str] = {
    UnitRanking: "How much the scores change when one unit is switched off throughout.",
    Overlay: "What each unit does at each character. Point at a character to see all units, pick a "
    "unit to see it over many samples, drag over characters to find where the same units are on.",
    UnitRoles: "Does a unit follow the place in the text (a counter), the character (a detector), "
    "or neither? Right: each unit's mean at each place and character, like beside like.",
    ProbeTable: "What can be read off the state with a line, and when. Dark: all that shuffled "
    "labels leave to find; pale: no more than chance.",
    GateSaturation: "A dot is a unit. Bottom right: its gate is always shut; top left: always "
    "open; near the origin: it works in between.",
    Patching: "One unit is given the state that it has in another sample, and the rest stays: what "
    "changes is what that unit carries.",
    Intervention: "The same question answered twice: untouched, and with states changed.",
    AttentionMaps: "Rows: the characters as they are written; columns: those that were read. "
    "Darker: looked at more.",
    Matches: "Green: the characters over which the units were selected, and the windows that share "
    "most of them.",
    StatePaths: "A dot is the state after one step; grey lines follow single samples.",
    Overlap: "The same questions answered by both.",
    UnitMatch: "Each unit of one network beside the unit of the other that does most nearly the "
    "same; grey: what shuffled samples give.",
    Automaton: "The smallest machine that answers as the network does.",
}


@functools.singledispatch
def caption(record: Any) -> str:
    """Return how to read a record's picture, "" where that goes without saying."""
    found = late(caption, record)
    return _CAPTIONS.get(type(record), "") if found is None else str(found(record))
