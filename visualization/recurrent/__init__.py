"""Looking into recurrent layers: functions on bare modules and arrays that return records."""

from visualization.recurrent.ablation import (
    UnitRanking,
    rank_units,
    single_units,
    single_units_and_pairs,
)
from visualization.recurrent.attribution import (
    QuestionRelevance,
    input_x_gradient,
    integrated_gradients,
    occlusion,
    question_relevance,
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
from visualization.recurrent.gate_paths import GatePaths, gate_paths
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
from visualization.recurrent.relevance import LayerwiseRelevance, layerwise_relevance
from visualization.recurrent.roles import UnitRoles, classify_units
from visualization.recurrent.saturation import GateSaturation, gate_saturation
from visualization.recurrent.step_scores import StepScores
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
    "GatePaths",
    "GateSaturation",
    "GroupAccuracy",
    "Intervention",
    "InterventionHandle",
    "LayerHeatmap",
    "LayerwiseRelevance",
    "Match",
    "Matches",
    "ProbeTable",
    "QuestionRelevance",
    "StatePaths",
    "StepScores",
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
    "gate_paths",
    "gate_saturation",
    "input_x_gradient",
    "integrated_gradients",
    "intervene_on",
    "layer_heatmap",
    "layerwise_relevance",
    "match_units",
    "occlusion",
    "patch_units",
    "probe_states",
    "question_relevance",
    "rank_units",
    "single_units",
    "single_units_and_pairs",
    "state_from",
    "state_paths",
    "trace_cells",
    "unit_text_heatmap",
]
