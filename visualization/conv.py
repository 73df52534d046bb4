"""Looking into convolutional networks: functions on bare modules that return records."""

from visualization.adversarial.attacks import Attack, fgsm, pgd
from visualization.adversarial.fooling import FoolingImages, fooling_images
from visualization.adversarial.robustness import (
    MinimalPerturbation,
    RobustnessCurve,
    minimal_perturbation,
    robustness_curve,
)
from visualization.adversarial.transfer import TransferTable, transfer_table
from visualization.attribution.cams import (
    grad_cam,
    grad_cam_plus_plus,
    guided_grad_cam,
    layer_cam,
)
from visualization.attribution.faithfulness import Faithfulness, faithfulness
from visualization.attribution.gradients import (
    deconvnet,
    guided_backprop,
    input_x_gradient,
    integrated_gradients,
    saliency,
    smooth_grad,
)
from visualization.attribution.masking import occlusion_map, rise
from visualization.attribution.methods import Attributions, attributions
from visualization.attribution.relevance.balance import RelevanceBalance, relevance_balance
from visualization.attribution.relevance.channels import ChannelRelevance, channel_relevance
from visualization.attribution.relevance.composites import LrpComposite
from visualization.attribution.relevance.lrp import lrp
from visualization.attribution.sanity import SanityCheck, randomisation_check
from visualization.attribution.score_cam import score_cam
from visualization.core.feature_layers import feature_layers
from visualization.core.inputs import activation, as_images
from visualization.core.relus import relu_rule
from visualization.feature_maps.dissection import Dissection, dissect
from visualization.feature_maps.fields.patches import (
    ActivatingPositions,
    TopPatches,
    activating_positions,
    top_patches,
)
from visualization.feature_maps.fields.receptive import (
    ReceptiveField,
    ReceptiveFields,
    receptive_field,
    receptive_fields,
)
from visualization.feature_maps.progression import Progression, progression
from visualization.feature_maps.scan_concepts import ConceptMasks, scan_concepts
from visualization.feature_maps.sheets import UnitSheets, unit_sheets
from visualization.model.activations import dead_units, layer_activations
from visualization.model.landscape import (
    LandscapeLine,
    LandscapePlane,
    classification_loss,
    landscape_line,
    landscape_plane,
)
from visualization.model.parameter_space import (
    random_directions,
)
from visualization.model.values import DeadUnits, LayerActivations
from visualization.model.weights import LayerWeights, layer_weights
from visualization.perturbation.minimal import MinimalPatch, minimal_patch
from visualization.perturbation.paste import (
    Composite,
    Crop,
    FieldTransplant,
    crop,
    paste_onto,
    transplant_field,
)
from visualization.perturbation.pattern import (
    Occlusion,
    PerturbationSweep,
    PixelGradient,
    UnitPattern,
    occlude,
    pixel_gradient,
    sweep_perturbation,
    unit_pattern,
)
from visualization.perturbation.perturbations import perturb
from visualization.perturbation.response import (
    ChannelAblation,
    Response,
    ablate_channels,
    compare_response,
    forward_from,
)
from visualization.representation.embeddings import Embedding, Neighbours, embed, nearest_neighbours
from visualization.representation.layer_probes import LayerProbes, probe_layers
from visualization.synthesis.atlas import ActivationAtlas, activation_atlas
from visualization.synthesis.constraints import (
    at_least,
    at_most,
    class_distribution,
    equals,
    l1,
    l2,
    match_activation,
    total_variation,
)
from visualization.synthesis.dreams import Dream, dream
from visualization.synthesis.inversion import Inversion, Solution, invert, solve
from visualization.synthesis.maximise import MaximisedImages, maximise
from visualization.synthesis.objective import Objective, custom, interpolation, per_image
from visualization.synthesis.objectives import (
    channel,
    cosine,
    direction,
    diversity,
    layer_energy,
    logit,
    unit,
)
from visualization.synthesis.parametrization import ImageParam
from visualization.synthesis.penalties import PenaltyComparison, compare_penalties
from visualization.synthesis.transforms import Jitter, Pad, Rotate, Scale

__all__ = [
    "ActivatingPositions",
    "ActivationAtlas",
    "Attack",
    "Attributions",
    "ChannelAblation",
    "ChannelRelevance",
    "Composite",
    "ConceptMasks",
    "Crop",
    "DeadUnits",
    "Dissection",
    "Dream",
    "Embedding",
    "Faithfulness",
    "FieldTransplant",
    "FoolingImages",
    "ImageParam",
    "Inversion",
    "Jitter",
    "LandscapeLine",
    "LandscapePlane",
    "LayerActivations",
    "LayerProbes",
    "LayerWeights",
    "LrpComposite",
    "MaximisedImages",
    "MinimalPatch",
    "MinimalPerturbation",
    "Neighbours",
    "Objective",
    "Occlusion",
    "Pad",
    "PenaltyComparison",
    "PerturbationSweep",
    "PixelGradient",
    "Progression",
    "ReceptiveField",
    "ReceptiveFields",
    "RelevanceBalance",
    "Response",
    "RobustnessCurve",
    "Rotate",
    "SanityCheck",
    "Scale",
    "Solution",
    "TopPatches",
    "TransferTable",
    "UnitPattern",
    "UnitSheets",
    "ablate_channels",
    "activating_positions",
    "activation",
    "activation_atlas",
    "as_images",
    "at_least",
    "at_most",
    "attributions",
    "channel",
    "channel_relevance",
    "class_distribution",
    "classification_loss",
    "compare_penalties",
    "compare_response",
    "cosine",
    "crop",
    "custom",
    "dead_units",
    "deconvnet",
    "direction",
    "dissect",
    "diversity",
    "dream",
    "embed",
    "equals",
    "faithfulness",
    "feature_layers",
    "fgsm",
    "fooling_images",
    "forward_from",
    "grad_cam",
    "grad_cam_plus_plus",
    "guided_backprop",
    "guided_grad_cam",
    "input_x_gradient",
    "integrated_gradients",
    "interpolation",
    "invert",
    "l1",
    "l2",
    "landscape_line",
    "landscape_plane",
    "layer_activations",
    "layer_cam",
    "layer_energy",
    "layer_weights",
    "logit",
    "lrp",
    "match_activation",
    "maximise",
    "minimal_patch",
    "minimal_perturbation",
    "nearest_neighbours",
    "occlude",
    "occlusion_map",
    "paste_onto",
    "per_image",
    "perturb",
    "pgd",
    "pixel_gradient",
    "probe_layers",
    "progression",
    "random_directions",
    "randomisation_check",
    "receptive_field",
    "receptive_fields",
    "relevance_balance",
    "relu_rule",
    "rise",
    "robustness_curve",
    "saliency",
    "scan_concepts",
    "score_cam",
    "smooth_grad",
    "solve",
    "sweep_perturbation",
    "top_patches",
    "total_variation",
    "transfer_table",
    "transplant_field",
    "unit",
    "unit_pattern",
    "unit_sheets",
]
