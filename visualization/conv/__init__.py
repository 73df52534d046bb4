"""Looking into convolutional networks: functions on bare modules that return records."""

from visualization.conv.adversarial import Attack, fgsm, pgd
from visualization.conv.attribution import (
    completeness_gap,
    deconvnet,
    guided_backprop,
    input_x_gradient,
    integrated_gradients,
    saliency,
    smooth_grad,
)
from visualization.conv.cams import grad_cam, grad_cam_plus_plus
from visualization.conv.common import activation, as_images
from visualization.conv.concepts import Embedding, Neighbours, embed, nearest
from visualization.conv.demands import (
    answers,
    at_least,
    at_most,
    equals,
    l2,
    matches,
    total_variation,
)
from visualization.conv.dissection import Dissection, dissect
from visualization.conv.dreams import Dream, dream
from visualization.conv.faithfulness import Faithfulness, faithfulness
from visualization.conv.inversion import Inversion, Satisfied, invert, satisfy
from visualization.conv.landscape import (
    LandscapeLine,
    LandscapePlane,
    classification_loss,
    landscape_line,
    landscape_plane,
)
from visualization.conv.layer_probes import LayerProbes, probe_layers
from visualization.conv.layer_values import DeadUnits, LayerActivations
from visualization.conv.layers import dead_units, layer_activations
from visualization.conv.masking import occlusion_map, rise
from visualization.conv.maximise import Maximised, maximise
from visualization.conv.methods import Attributions, attributions
from visualization.conv.minimal import MinimalPatch, minimal_patch
from visualization.conv.objective import Objective, each, interpolation, measured
from visualization.conv.objectives import (
    amplified,
    channel,
    cosine,
    direction,
    diversity,
    logit,
    unit,
)
from visualization.conv.parameter_space import (
    direction_to,
    random_directions,
    trajectory_directions,
)
from visualization.conv.parametrization import Canvas, color_covariance
from visualization.conv.paste import Composite, Paste, Piece, cut, paste, put
from visualization.conv.patches import Activated, TopPatches, activated, top_patches
from visualization.conv.pattern import (
    Occlusion,
    PerturbationSweep,
    PixelGradient,
    UnitPattern,
    occlude,
    pixel_gradient,
    sweep_perturbation,
    unit_pattern,
)
from visualization.conv.perturbations import perturb
from visualization.conv.progression import Progression, progression
from visualization.conv.receptive import (
    ReceptiveField,
    ReceptiveFields,
    receptive_field,
    receptive_fields,
)
from visualization.conv.relus import relu_rule
from visualization.conv.response import MapEdit, Response, compare_response, edit_map, run_from
from visualization.conv.robustness import (
    MinimalPerturbation,
    RobustnessCurve,
    minimal_perturbation,
    robustness_curve,
)
from visualization.conv.sanity import SanityCheck, randomisation_check
from visualization.conv.scan_concepts import ConceptMasks, scan_concepts
from visualization.conv.sites import feature_layers
from visualization.conv.transfer import TransferTable, transfer_table
from visualization.conv.transforms import Jitter, Pad, Rotate, Scale
from visualization.conv.units import UnitSheets, unit_sheets
from visualization.conv.weights import LayerWeights, layer_weights

__all__ = [
    "Activated",
    "Attack",
    "Attributions",
    "Canvas",
    "Composite",
    "ConceptMasks",
    "DeadUnits",
    "Dissection",
    "Dream",
    "Embedding",
    "Faithfulness",
    "Inversion",
    "Jitter",
    "LandscapeLine",
    "LandscapePlane",
    "LayerActivations",
    "LayerProbes",
    "LayerWeights",
    "MapEdit",
    "Maximised",
    "MinimalPatch",
    "MinimalPerturbation",
    "Neighbours",
    "Objective",
    "Occlusion",
    "Pad",
    "Paste",
    "PerturbationSweep",
    "Piece",
    "PixelGradient",
    "Progression",
    "ReceptiveField",
    "ReceptiveFields",
    "Response",
    "RobustnessCurve",
    "Rotate",
    "SanityCheck",
    "Satisfied",
    "Scale",
    "TopPatches",
    "TransferTable",
    "UnitPattern",
    "UnitSheets",
    "activated",
    "activation",
    "amplified",
    "answers",
    "as_images",
    "at_least",
    "at_most",
    "attributions",
    "channel",
    "classification_loss",
    "color_covariance",
    "compare_response",
    "completeness_gap",
    "cosine",
    "cut",
    "dead_units",
    "deconvnet",
    "direction",
    "direction_to",
    "dissect",
    "diversity",
    "dream",
    "each",
    "edit_map",
    "embed",
    "equals",
    "faithfulness",
    "feature_layers",
    "fgsm",
    "grad_cam",
    "grad_cam_plus_plus",
    "guided_backprop",
    "input_x_gradient",
    "integrated_gradients",
    "interpolation",
    "invert",
    "l2",
    "landscape_line",
    "landscape_plane",
    "layer_activations",
    "layer_weights",
    "logit",
    "matches",
    "maximise",
    "measured",
    "minimal_patch",
    "minimal_perturbation",
    "nearest",
    "occlude",
    "occlusion_map",
    "paste",
    "perturb",
    "pgd",
    "pixel_gradient",
    "probe_layers",
    "progression",
    "put",
    "random_directions",
    "randomisation_check",
    "receptive_field",
    "receptive_fields",
    "relu_rule",
    "rise",
    "robustness_curve",
    "run_from",
    "saliency",
    "satisfy",
    "scan_concepts",
    "smooth_grad",
    "sweep_perturbation",
    "top_patches",
    "total_variation",
    "trajectory_directions",
    "transfer_table",
    "unit",
    "unit_pattern",
    "unit_sheets",
]
