"""Looking into recurrent layers: functions on bare modules and arrays that return records."""

from visualization.recurrent.ablation import (
    UnitRanking,
    rank_units,
    single_units,
    single_units_and_pairs,
)
from visualization.recurrent.automaton import Automaton, extract_automaton
from visualization.recurrent.cells import (
    CellTrace,
    InterventionHandle,
    forward_with_edits,
    intervene_on,
    trace_cells,
)
from visualization.recurrent.edits import Edit
from visualization.recurrent.intervention import (
    ActivationPatching,
    Intervention,
    patch_units,
    state_from,
)
from visualization.recurrent.overlay import (
    LayerHeatmap,
    UnitTextHeatmap,
    layer_heatmap,
    unit_text_heatmap,
)
from visualization.recurrent.paths import StatePaths, state_paths
from visualization.recurrent.queries import Match, Matches, find_matches
from visualization.recurrent.roles import UnitRoles, classify_units
from visualization.recurrent.saturation import GateSaturation, gate_saturation
from visualization.representation.comparison import (
    AnswerAgreement,
    GroupAccuracy,
    UnitMatch,
    compare_answers,
    match_units,
)
from visualization.representation.probes import ProbeTable, correlate_units, probe_states

__all__ = [
    "ActivationPatching",
    "AnswerAgreement",
    "Automaton",
    "CellTrace",
    "Edit",
    "GateSaturation",
    "GroupAccuracy",
    "Intervention",
    "InterventionHandle",
    "LayerHeatmap",
    "Match",
    "Matches",
    "ProbeTable",
    "StatePaths",
    "UnitMatch",
    "UnitRanking",
    "UnitRoles",
    "UnitTextHeatmap",
    "classify_units",
    "compare_answers",
    "correlate_units",
    "extract_automaton",
    "find_matches",
    "forward_with_edits",
    "gate_saturation",
    "intervene_on",
    "layer_heatmap",
    "match_units",
    "patch_units",
    "probe_states",
    "rank_units",
    "single_units",
    "single_units_and_pairs",
    "state_from",
    "state_paths",
    "trace_cells",
    "unit_text_heatmap",
]
