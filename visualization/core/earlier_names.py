"""Earlier names: what used to be called something else, and works with a DeprecationWarning.

One table of modules, one of functions and classes; keywords are renamed where they are taken, by
`renamed_arguments`. All names are without their `visualization.`.
"""

import functools
import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
_ROOT = "visualization."

_MODULES = """
answers=records bars=records conv.attacks.adversarial=adversarial.attacks
conv.attacks.attacking=adversarial.problem conv.attacks.norms=adversarial.norms
conv.attacks.robustness=adversarial.robustness conv.attacks.transfer=adversarial.transfer
conv.attribution.cams=attribution.cams conv.attribution.faithfulness=attribution.faithfulness
conv.attribution.gradients=attribution.gradients conv.attribution.masking=attribution.masking
conv.attribution.methods=attribution.methods conv.attribution.relus=core.relus
conv.attribution.sanity=attribution.sanity conv.common=core.inputs
conv.concepts.dissection=feature_maps.dissection conv.concepts.labelled=feature_maps.masked_images
conv.concepts.layer_probes=representation.layer_probes
conv.concepts.quantiles=feature_maps.quantiles
conv.concepts.representations=representation.embeddings
conv.concepts.scan_concepts=feature_maps.scan_concepts
conv.concepts.upsampling=feature_maps.upsampling conv.edits.minimal=perturbation.minimal
conv.edits.paste=perturbation.paste conv.edits.pattern=perturbation.pattern
conv.edits.perturbations=perturbation.perturbations conv.edits.response=perturbation.response
conv.edits.watched=perturbation.units conv.fields.axes=feature_maps.fields.axes
conv.fields.cutting=feature_maps.fields.crops conv.fields.geometry=feature_maps.fields.geometry
conv.fields.graph=feature_maps.fields.graph conv.fields.influence=feature_maps.fields.influence
conv.fields.operations=feature_maps.fields.operations
conv.fields.patches=feature_maps.fields.patches conv.fields.pointers=feature_maps.fields.pointers
conv.fields.probing=feature_maps.fields.probing conv.fields.ranking=feature_maps.fields.ranking
conv.fields.receptive=feature_maps.fields.receptive conv.fields.stream=feature_maps.fields.stream
conv.fields.trials=feature_maps.fields.trials conv.layers.activations=model.activations
conv.layers.budget=model.budget conv.layers.histogram=model.histogram
conv.layers.landscape=model.landscape conv.layers.parameter_space=model.parameter_space
conv.layers.values=model.values conv.layers.weights=model.weights conv.layout=core.layout
conv.maximisation.ascent=synthesis.ascent conv.maximisation.demands=synthesis.constraints
conv.maximisation.dreams=synthesis.dreams conv.maximisation.inversion=synthesis.inversion
conv.maximisation.maximise=synthesis.maximise conv.maximisation.objective=synthesis.objective
conv.maximisation.objectives=synthesis.objectives
conv.maximisation.parametrization=synthesis.parametrization
conv.maximisation.real=synthesis.dataset_examples
conv.maximisation.redirection=synthesis.redirected_relu
conv.maximisation.transforms=synthesis.transforms conv.scores=core.targets
conv.sites=core.feature_layers conv.units.progression=feature_maps.progression
conv.units.sheets=feature_maps.sheets cost=model.cost curves=records
diagnosis.case=diagnosis.evidence dispatch=core.dispatch errors=core.errors packing=core.packing
pages=core.registry recurrent.arrays=core.arrays recurrent.comparison=representation.comparison
recurrent.linear=core.statistics recurrent.probes=representation.probes
render.attention=attention.figures render.automaton=recurrent.figures.automaton
render.captions=core.registry render.conv.adversarial=adversarial.figures
render.conv.attribution=attribution.figures render.conv.concepts=feature_maps.figures.dissection
render.conv.edits=perturbation.figures.edits render.conv.fields=feature_maps.fields.figures
render.conv.landscape=model.figures.landscape render.conv.layers=model.figures.layers
render.conv.maximised=synthesis.figures render.conv.patterns=perturbation.figures.patterns
render.conv.progression=feature_maps.figures.progression
render.conv.units=feature_maps.figures.units render.conv.weights=model.figures.weights
render.core=core.registry render.diagnosis=diagnosis.figures
render.effects=recurrent.figures.effects render.general=figures render.legible=core.legible
render.pictures=core.pictures render.pixels=core.pixels render.states=recurrent.figures.states
render.words=core.words scatter=records showing=notebook table=records tracing=core.tracing
transcript=records unit_pages=feature_maps.unit_pages untouched=core.preserve
"""

# Of each module its earlier names; one with a dot is in another module now.
_NAMES = """
adversarial.problem: Case=AttackProblem Climb=PgdSettings Found=BestAdversarial Part=AttackBatch
    answers=predict_classes begin=prepare demand_size=check_epsilon eligible=attackable
attention: AttentionMaps=attention.maps.AttentionMaps attention_maps=attention.maps.attention_maps
attribution.cams: last_map=last_feature_map
attribution.gradients: explaining=bind_target_layer
attribution.masking: pair=size_pair
attribution.methods: as_array=core.arrays.to_numpy chosen_methods=resolve_methods
conv: Activated=ActivatingPositions Canvas=ImageParam MapEdit=ChannelAblation
    Maximised=MaximisedImages Paste=FieldTransplant Piece=Crop Satisfied=Solution
    activated=activating_positions amplified=layer_energy answers=class_distribution cut=crop
    each=per_image edit_map=ablate_channels matches=match_activation measured=custom
    nearest=nearest_neighbours paste=transplant_field put=paste_onto run_from=forward_from
    satisfy=solve
core.arrays: demand_quantity=check_quantity demand_same=check_shape deviation=unit_deviations
core.inputs: as_array=core.arrays.to_numpy Pick=OutputSelector Place=TargetIndex copied=copy_model
    demand_channels_first=check_channels_first demand_tensor=check_tensor demand_unit=check_unit
    home=device_and_dtype inspecting=inspection_mode named=optional_layer_name
    one_call=numbered_call one_target=normalise_target picked=select_output score=select_target
    widened=at_least_float32
core.layout: tapped_maps=intercept_maps
core.packing: each_tensor=map_tensors tensors=flatten_tensors
core.preserve: closed=closed_module_error demand_module=check_module given_copies=clone_inputs
    untouched=preserve_state
core.targets: Asked=TargetScore asked=resolve_target
    demand_count=core.errors.check_count
    demand_gradient=score_gradient demand_last=last_dependency fitting=resolve_batch_size
    spans=batch_slices unravelled=unravel_index without_gradient=no_gradient_error
core.tracing: tapped=intercept_outputs
core.words: breadth=display_width brief=shorten key=legend listed=truncated_list
    spaced=evenly_spaced wrapped=wrap
diagnosis: AS_IS=BASELINE Case=RunEvidence
diagnosis.evidence: AS_IS=BASELINE Case=RunEvidence
feature_maps.fields.axes: Places=Positions Table=Relation Turned=Transposed measured=probed_axis
feature_maps.fields.crops: cut_out=crop_fields widened=at_least_float32
feature_maps.fields.geometry: Hull=FieldBox Hulls=FieldBoxes hulls=field_boxes
    hulls_of=field_boxes_of_graph
feature_maps.fields.graph: Held=Carried carry_back=propagate_backward
    outline=trace_graph_of_shapes run=trace_graph shapes_given=input_shapes
feature_maps.fields.influence: carried=dependency_by_graph influence=dependency_mask
feature_maps.fields.operations: kept=keepdim_shape signed=as_signed turned=transposed_axes
feature_maps.fields.patches: Activated=ActivatingPositions activated=activating_positions
feature_maps.fields.ranking: Found=RankedPositions NOTHING=NO_POSITIONS Pile=TopK Whole=Ints
feature_maps.fields.stream: Batch=ActivationBatch Source=ActivationStream
feature_maps.fields.trials: Trial=ProbedUnits changed=units_changed
feature_maps.figures.units: face=thumbnail
feature_maps.masked_images: Batch=MaskedBatch Labelled=MaskedImages labelled=masked_images
feature_maps.quantiles: Highest=TopKImages TopShare=UpperQuantile
feature_maps.scan_concepts: thinned=skeletonize
model.budget: counted=count_inputs points_within=points_per_axis told=report_progress
model.parameter_space: completed=fill_missing demand_parameters=check_parameters
    demand_shapes=check_shapes
notebook: Shown=NotebookView
perturbation.paste: Paste=FieldTransplant Piece=Crop cut=crop paste=transplant_field
    put=paste_onto
perturbation.perturbations: moved=shifted
perturbation.response: Edit=ImageEdit MapEdit=ChannelAblation edit_map=ablate_channels
    run_from=forward_from
perturbation.units: CloseUp=CroppedUnit Place=UnitIndex Watched=Unit close_up=crop_to_field
    watched=find_unit
records: Answered=AnsweredQuestion
recurrent: Group=GroupAccuracy Overlap=AnswerAgreement Overlay=UnitTextHeatmap
    OverlayPart=LayerHeatmap Patching=ActivationPatching Steering=InterventionHandle
    overlay_cells=unit_text_heatmap overlay_part=layer_heatmap pairs=single_units_and_pairs
    run=forward_with_edits singles=single_units steered=intervene_on taken=state_from
recurrent.ablation: pairs=single_units_and_pairs singles=single_units
recurrent.cells: Run=RnnOutput Steering=InterventionHandle run=forward_with_edits
    steered=intervene_on
recurrent.edits: assign=apply_edit clamps_of=split_clamps demand_fit=check_edits
    each_step=edit_steps
recurrent.engine: Part=DirectionOutput segments=run_with_edits
recurrent.intervention: Patching=ActivationPatching taken=state_from
recurrent.machine: run=run_automaton
recurrent.overlay: Overlay=UnitTextHeatmap OverlayPart=LayerHeatmap
    overlay_cells=unit_text_heatmap overlay_part=layer_heatmap
representation.comparison: CORNERS=OUTCOMES Group=GroupAccuracy Overlap=AnswerAgreement
representation.embeddings: nearest=nearest_neighbours principal=pca
    represented=features
synthesis.ascent: Ascent=GradientAscent Climbed=AscentResult Look=ForwardFn climb=ascend
    joined=concatenated reach=receptive_extent slope=input_gradient
synthesis.constraints: answers=class_distribution matches=match_activation
synthesis.dataset_examples: Real=DatasetExamples best_real=best_dataset_examples
    tamed=with_matched_priors
synthesis.inversion: Satisfied=Solution satisfy=solve
synthesis.maximise: Maximised=MaximisedImages
synthesis.objective: Seen=ForwardCache each=per_image measured=custom nothing=zeros_per_image
    or_output=layer_or_output watching=caching_forward word=layer_word
synthesis.objectives: amplified=layer_energy
synthesis.parametrization: Canvas=ImageParam demand_within=check_within
synthesis.redirected_relu: Redirection=RedirectedReLU
synthesis.transforms: robust=apply_transforms usual=default_transforms
"""


def _modules() -> dict[str, str]:
    """Return earlier module → module, by whole names."""
    pairs = (pair.split("=") for pair in _MODULES.split())
    return {_ROOT + old: _ROOT + new for old, new in pairs}


def _names() -> dict[str, dict[str, str]]:
    """Return module → earlier name → the whole name of what it is now."""
    table: dict[str, dict[str, str]] = {}
    for word in _NAMES.split():
        if word.endswith(":"):
            module = _ROOT + word[:-1]
            table[module] = {}
        else:
            old, new = word.split("=")
            table[module][old] = _ROOT + new if "." in new else f"{module}.{new}"
    return table


MODULES = _modules()
NAMES = _names()
# What had modules in it once: visualization.conv and visualization.render are modules now.
PACKAGES = frozenset(name.rpartition(".")[0] for name in MODULES) - {_ROOT[:-1]}


def _warn(old: str, new: str) -> None:
    """Warn whoever uses an earlier name, with a line of theirs."""
    warnings.warn(f"{old} is now {new}", DeprecationWarning, stacklevel=3)


def _find(module: str, name: str) -> Any:
    """Return what a module's earlier name means now: its `__getattr__`.

    Raises:
        AttributeError: it has no such name, and had none.
    """
    if name not in NAMES.get(module, {}):
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    new = NAMES[module][name]
    _warn(f"{module}.{name}", new)
    owner, _, attribute = new.rpartition(".")
    return getattr(importlib.import_module(owner), attribute)


class _Earlier(Loader):
    """Puts the module of today in the place of an earlier one; of a package, an empty one."""

    def exec_module(self, module: ModuleType) -> None:
        """Replace the module, unless it is a package."""
        if module.__name__ in MODULES:
            new = MODULES[module.__name__]
            _warn(module.__name__, new)
            sys.modules[module.__name__] = importlib.import_module(new)


class _Source(SourceFileLoader):
    """Loads a module that finds its earlier names, and what was in it when it was a package."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the module."""
        module.__getattr__ = functools.partial(_find, module.__name__)  # type: ignore[method-assign]
        if module.__name__ in PACKAGES and "__path__" not in vars(module):
            module.__path__ = []
        super().exec_module(module)


class _Finder(MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find earlier modules, and modules of today that have earlier names."""
        if not name.startswith(_ROOT):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None and name in MODULES | dict.fromkeys(PACKAGES, ""):
            return ModuleSpec(name, _Earlier(), is_package=name in PACKAGES)
        has_earlier = name in NAMES or name in PACKAGES
        if spec is not None and has_earlier and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Source(name, spec.loader.path)
        return spec


sys.meta_path.insert(0, _Finder())  # before any module that has earlier names is imported


def renamed_arguments(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that takes earlier keywords of a function: earlier=today's.

    >>> @renamed_arguments(clock="start_time")
    ... def run(start_time: int = 0) -> int:
    ...     return start_time
    >>> with warnings.catch_warnings(action="ignore"):
    ...     run(clock=3)
    3
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        called = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            for old in names.keys() & kwargs.keys():
                new = names[old]
                if new in kwargs:
                    raise TypeError(f"{called}: {new} is given twice, also as {old}")
                _warn(f"{called}({old}=…)", f"{new}=…")
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        call.__dict__["renamed"] = names
        return call

    return decorate
