"""Sanity checks: model parameter randomisation (Adebayo et al. 2018).

B images, L layers.
"""

from collections.abc import Mapping, Sequence

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.attribution.cams import layer_calls
from visualization.attribution.methods import Methods, as_map, resolve_methods
from visualization.attribution.relevance.propagation import NoRule
from visualization.core.arrays import to_numpy
from visualization.core.errors import NothingToShow, argument_error
from visualization.core.inputs import Images, Target, as_images, copy_model, inspection_mode
from visualization.core.records import brief_repr
from visualization.core.targets import resolve_target
from visualization.core.tracing import NamedLayer, find_layer, layer_names

CHECKED = (
    "saliency", "input_x_gradient", "integrated_gradients", "guided_backprop", "deconvnet",
    "grad_cam", "layer_cam", "guided_grad_cam", "lrp_epsilon_plus",
)  # fmt: skip


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class SanityCheck:
    """Rank correlations of maps with those of a model whose weights are randomised.

    Attributes:
        layers: in the order in which they lose their weights, the last of the model first (L,);
            "" is the model itself, for weights of its own.
        signed: by method, the rank correlation with the original map (L + 1, B), from -1 to 1; the
            first row is the model as it is. It is 0 where a map has lost all differences, and NaN
            where the original has none.
        absolute: the same of the maps' absolute values.
        image: the first image (C, H, W).
        maps: by method, the first image's maps (L + 1, H, W).
        cascading: layers stay lost; otherwise each of them alone.
    """

    layers: tuple[str, ...]
    signed: Mapping[str, NDArray[np.float64]]
    absolute: Mapping[str, NDArray[np.float64]]
    image: NDArray[np.float64]
    maps: Mapping[str, NDArray[np.float64]]
    cascading: bool


def edges(model: nn.Module, images: Images, target: Target = None) -> Tensor:
    """Edge map: how steep the image is at each pixel (B, H, W), whatever the model.

    What an explanation must not be mistaken for; `randomisation_check` shows it unmoved.
    """
    pixels = as_images(images, model)
    slopes = [torch.gradient(pixels, dim=axis)[0] for axis in (2, 3) if pixels.shape[axis] > 1]
    return torch.stack([slope.square() for slope in slopes]).sum(dim=(0, 2)).sqrt()


def randomisation_check(
    model: nn.Module,
    images: Images,
    target: Target = None,
    *,
    methods: Methods | None = None,
    layers: Sequence[NamedLayer] | None = None,
    cascading: bool = True,
    seed: int = 0,
    batch_size: int | None = None,
) -> SanityCheck:
    """Model parameter randomisation test: maps of a copy that loses its weights layer by layer.

    Adebayo et al. 1810.03292, section 3. A layer's weights are redrawn from a normal distribution
    of their own mean and standard deviation, which keeps the scale of activations and loses what
    was learned. Weights that are all the same number stay, and so do buffers, such as the running
    means of BatchNorm. Spearman's rank correlation is taken over all numbers of a map. A map that
    stays like the original, such as that of `edges`, does not explain what was learned.

    Args:
        model: any module; it is left as it was: a copy loses its weights.
        images: (B, C, H, W) or (C, H, W).
        target: what is explained, as `select_target` takes it; None: each image's largest class as
            the model is, throughout.
        methods: names of `METHODS`, or functions (model, images, target) -> (B, C, H, W) or
            (B, H, W) by name; None: those of `CHECKED`, which need a few passes each, of which LRP
            is left out where it has no rule for what the model computes.
        layers: dotted names, blocks with all that is in them; None: each layer with weights.
        cascading: keep what is lost; otherwise each layer loses its weights alone.
        seed: of the new weights.
        batch_size: images that run at once, handed on to each method that has one; None: at most
            64, of 2²⁰ numbers together.

    Raises:
        ValueError: an unknown layer or method; a layer without weights; or as `select_target`.
    """
    explained = resolve_methods(CHECKED if methods is None else methods, None, batch_size)
    source = torch.Generator().manual_seed(seed)
    maps_by_name: dict[str, list[Tensor]] = {name: [] for name in explained}
    with inspection_mode(model), torch.random.fork_rng([]):
        images = as_images(images, model)
        target_score = resolve_target(model, images, target, None, batch_size, graph=True)
        twin = copy_model(model)
        names = None if layers is None else layer_names(model, layers)
        parameters = _parameters(twin, images, names)
        for randomised in ([], *parameters.values()):
            before = [parameter.detach().clone() for parameter in randomised]
            for parameter in randomised:
                redraw(parameter, source)
            for name, method in list(explained.items()):
                try:
                    maps_by_name[name].append(method(twin, images, target_score.target).detach())
                except NoRule:
                    if methods is not None:
                        raise
                    del explained[name], maps_by_name[name]
            for parameter, values in () if cascading else zip(randomised, before, strict=True):
                parameter.data.copy_(values)
    return _as_sanity_check(tuple(parameters), maps_by_name, images[0], cascading)


def _as_sanity_check(
    layers: tuple[str, ...], maps_by_name: Mapping[str, list[Tensor]], image: Tensor,
    cascading: bool,
) -> SanityCheck:  # fmt: skip
    """Return the record of maps (B, …), a list for each method with one entry for each stage."""
    signed, absolute, first = {}, {}, {}
    for name, maps in maps_by_name.items():
        signed[name] = _correlations(maps)
        absolute[name] = _correlations([each.abs() for each in maps])
        first[name] = to_numpy(torch.cat([as_map(each[:1]) for each in maps]).double())
    return SanityCheck(
        layers=layers, signed=signed, absolute=absolute, image=to_numpy(image.double()), maps=first,
        cascading=cascading,
    )  # fmt: skip


def _parameters(
    model: nn.Module, images: Tensor, layers: Sequence[str] | None
) -> dict[str, list[nn.Parameter]]:
    """Return the weights of layers, the layer whose last call ends last first.

    A layer that is never called itself counts as called with the module that holds it.
    """
    own = layers is None
    names = [name for name, _ in model.named_modules()] if layers is None else layers
    by_layer = {}
    for name in names:
        parameters = list(find_layer(model, name, "layers").module.parameters(recurse=not own))
        if not parameters and not own:
            accepted = "layers with weights, or blocks of them"
            raise argument_error("layers", f"{name!r} has no weights", accepted)
        if parameters:
            by_layer[name] = parameters
    if not by_layer:
        raise NothingToShow(f"model: the {type(model).__name__} has no layer with weights")
    ends = {name: index for index, (name, _, _) in enumerate(layer_calls(model, images))}

    def end(name: str) -> float:
        while name and name not in ends:
            name = name.rpartition(".")[0]
        return ends.get(name, np.inf)

    return {name: by_layer[name] for name in sorted(by_layer, key=end, reverse=True)}


def redraw(parameter: nn.Parameter, source: torch.Generator) -> None:
    """Replace numbers by normal ones of the same mean and standard deviation."""
    values = parameter.data.cpu().double()
    noise = torch.randn(values.shape, generator=source, dtype=torch.float64)
    parameter.data.copy_(values.mean() + values.std(correction=0) * noise)


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks from 1 on (N,), of equal values their mean; NaN where a value is NaN.

    As those of scipy.stats, whose import takes more than a second.
    """
    if np.isnan(values).any():
        return np.full(len(values), np.nan)
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last: NDArray[np.int64] = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[place])


def _correlations(maps: list[Tensor]) -> NDArray[np.float64]:
    """Return Spearman's correlation of each stage's maps with the first stage's (L + 1, B)."""
    rows = [to_numpy(each.flatten(1).double()) for each in maps]
    ranks = np.stack([[_ranks(row) for row in each] for each in rows])
    centred = ranks - ranks.mean(axis=-1, keepdims=True)
    sizes = np.sqrt((centred**2).sum(axis=-1))
    products = (centred * centred[0]).sum(axis=-1)
    scale = sizes * sizes[0]
    correlations = np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)
    return np.where(sizes[0] > 0, correlations, np.nan)
