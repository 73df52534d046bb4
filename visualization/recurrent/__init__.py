"""Looking into recurrent layers: functions on bare modules and arrays that return records."""

from visualization.recurrent.ablation import UnitRanking, pairs, rank_units, singles
from visualization.recurrent.automaton import Automaton, extract_automaton
from visualization.recurrent.cells import CellTrace, Steering, run, steered, trace_cells
from visualization.recurrent.edits import Edit
from visualization.recurrent.intervention import Intervention, Patching, patch_units, taken
from visualization.recurrent.overlay import Overlay, OverlayPart, overlay_cells, overlay_part
from visualization.recurrent.paths import StatePaths, state_paths
from visualization.recurrent.queries import Match, Matches, find_matches
from visualization.recurrent.roles import UnitRoles, classify_units
from visualization.recurrent.saturation import GateSaturation, gate_saturation
from visualization.representation.comparison import (
    Group,
    Overlap,
    UnitMatch,
    compare_answers,
    match_units,
)
from visualization.representation.probes import ProbeTable, correlate_units, probe_states

__all__ = [
    "Automaton", "CellTrace", "Edit", "GateSaturation", "Group", "Intervention", "Match", "Matches",
    "Overlap", "Overlay", "OverlayPart", "Patching", "ProbeTable", "StatePaths", "Steering",
    "UnitMatch", "UnitRanking", "UnitRoles", "classify_units", "compare_answers", "correlate_units",
    "extract_automaton", "find_matches", "gate_saturation", "match_units", "overlay_cells",
    "overlay_part", "pairs", "patch_units",
    "probe_states", "rank_units", "run", "singles", "state_paths", "steered", "taken",
    "trace_cells",
]  # fmt: skip
