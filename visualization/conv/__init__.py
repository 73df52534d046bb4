"""Looking into convolutional networks: functions on bare modules that return records."""

from visualization.conv.attacks.adversarial import Attack, fgsm, pgd
from visualization.conv.attacks.robustness import (
    MinimalPerturbation,
    RobustnessCurve,
    minimal_perturbation,
    robustness_curve,
)
from visualization.conv.attacks.transfer import TransferTable, transfer_table
from visualization.conv.attribution.cams import grad_cam, grad_cam_plus_plus
from visualization.conv.attribution.faithfulness import Faithfulness, faithfulness
from visualization.conv.attribution.gradients import (
    completeness_gap,
    deconvnet,
    guided_backprop,
    input_x_gradient,
    integrated_gradients,
    saliency,
    smooth_grad,
)
from visualization.conv.attribution.masking import occlusion_map, rise
from visualization.conv.attribution.methods import Attributions, attributions
from visualization.conv.attribution.relus import relu_rule
from visualization.conv.attribution.sanity import SanityCheck, randomisation_check
from visualization.conv.common import activation, as_images
from visualization.conv.concepts.dissection import Dissection, dissect
from visualization.conv.concepts.layer_probes import LayerProbes, probe_layers
from visualization.conv.concepts.representations import Embedding, Neighbours, embed, nearest
from visualization.conv.concepts.scan_concepts import ConceptMasks, scan_concepts
from visualization.conv.edits.minimal import MinimalPatch, minimal_patch
from visualization.conv.edits.paste import Composite, Paste, Piece, cut, paste, put
from visualization.conv.edits.pattern import (
    Occlusion,
    PerturbationSweep,
    PixelGradient,
    UnitPattern,
    occlude,
    pixel_gradient,
    sweep_perturbation,
    unit_pattern,
)
from visualization.conv.edits.perturbations import perturb
from visualization.conv.edits.response import (
    MapEdit,
    Response,
    compare_response,
    edit_map,
    run_from,
)
from visualization.conv.fields.patches import Activated, TopPatches, activated, top_patches
from visualization.conv.fields.receptive import (
    ReceptiveField,
    ReceptiveFields,
    receptive_field,
    receptive_fields,
)
from visualization.conv.layers.activations import dead_units, layer_activations
from visualization.conv.layers.landscape import (
    LandscapeLine,
    LandscapePlane,
    classification_loss,
    landscape_line,
    landscape_plane,
)
from visualization.conv.layers.parameter_space import (
    direction_to,
    random_directions,
    trajectory_directions,
)
from visualization.conv.layers.values import DeadUnits, LayerActivations
from visualization.conv.layers.weights import LayerWeights, layer_weights
from visualization.conv.maximisation.demands import (
    answers,
    at_least,
    at_most,
    equals,
    l2,
    matches,
    total_variation,
)
from visualization.conv.maximisation.dreams import Dream, dream
from visualization.conv.maximisation.inversion import Inversion, Satisfied, invert, satisfy
from visualization.conv.maximisation.maximise import Maximised, maximise
from visualization.conv.maximisation.objective import Objective, each, interpolation, measured
from visualization.conv.maximisation.objectives import (
    amplified,
    channel,
    cosine,
    direction,
    diversity,
    logit,
    unit,
)
from visualization.conv.maximisation.parametrization import Canvas, color_covariance
from visualization.conv.maximisation.transforms import Jitter, Pad, Rotate, Scale
from visualization.conv.sites import feature_layers
from visualization.conv.units.progression import Progression, progression
from visualization.conv.units.sheets import UnitSheets, unit_sheets

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
