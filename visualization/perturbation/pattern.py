"""Unit patterns: occlusion, pixel gradient and perturbation sweeps of one unit.

B images, C channels, H rows, W columns. A unit is (channel, row, column) of a feature map, or, of a
vector such as the logits, (place,).
"""

from collections.abc import Mapping, Sequence

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.attribution.masking import Fill, Size, occlusion_map, replacement, size_pair
from visualization.core.arrays import to_numpy
from visualization.core.errors import argument_error, check_count
from visualization.core.inputs import (
    Images,
    inspection_mode,
    one_image,
)
from visualization.core.records import brief_repr
from visualization.core.targets import score_gradient
from visualization.core.tracing import NamedLayer
from visualization.perturbation.minimal import MinimalPatch, minimal_patch
from visualization.perturbation.perturbations import find_perturbation, perturb
from visualization.perturbation.units import Unit, UnitRecord, crop_to_field, find_unit


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class Occlusion(UnitRecord):
    """Occlusion sensitivity of a unit.

    Attributes:
        field: pixels that the unit depends on (H, W).
        drop: activation − activation with the window covered, the mean over the windows that cover
            a pixel, in units of the activation (H, W); negative where covering excites the unit;
            NaN outside the field, where nothing can change.
        window: rows and columns of the window, in pixels.
    """

    field: NDArray[np.bool_]
    drop: NDArray[np.floating]
    window: tuple[int, int]


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class PixelGradient(UnitRecord):
    """Pixel gradient of a unit's activation.

    Attributes:
        gradient: of the activation with respect to the image (C, H, W), in units of the activation
            per unit of the image.
    """

    gradient: NDArray[np.floating]

    @property
    def is_dead(self) -> bool:
        """Whether no pixel has any influence here: such as behind a ReLU that outputs 0."""
        return not self.gradient.any()


@attrs.frozen(eq=False, field_transformer=brief_repr)
class UnitPattern:
    """Unit pattern: occlusion, pixel gradient and minimal patch of one unit on one image.

    Attributes:
        occlusion: what it loses where a window covers the image.
        gradient: how fast it changes with each pixel.
        patch: the few pixels that keep most of it; None where its activation is not above 0.
    """

    occlusion: Occlusion
    gradient: PixelGradient
    patch: MinimalPatch | None


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class PerturbationSweep(UnitRecord):
    """Perturbation sweep: a unit's activation under perturbations of rising strength.

    Attributes:
        strengths: by name of the perturbation, in its own unit (S,).
        values: by name, activation at each strength for each draw (S, N); N is 1 where nothing is
            drawn.
        shown: by name, the first draw at each strength (S, C, H, W).
    """

    strengths: Mapping[str, NDArray[np.float64]]
    values: Mapping[str, NDArray[np.floating]]
    shown: Mapping[str, NDArray[np.floating]]

    def mean(self, name: str) -> NDArray[np.floating]:
        """Return the mean over draws at each strength (S,)."""
        return np.asarray(self.values[name].mean(axis=1))

    def extent(self, name: str) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Return the smallest and the largest of the draws at each strength (S,), (S,)."""
        return self.values[name].min(axis=1), self.values[name].max(axis=1)


def occlude(
    model: nn.Module,
    layer: NamedLayer | None,
    unit: Sequence[int],
    image: Images,
    window: Size = 3,
    *,
    stride: Size = 1,
    fill: Fill = 0.0,
    batch_size: int | None = None,
) -> Occlusion:
    """Occlusion sensitivity of a unit (Zeiler & Fergus 1311.2901, section 4.2).

    Only windows that touch the unit's receptive field are run, and of the image only what lies near
    it, where the unit is sure to do the same there.

    Args:
        model: any module; it is left as it was.
        layer: dotted name, `relu@1` its second call; None: the model's output.
        unit: (channel, row, column), or (place,) of a vector.
        image: (C, H, W) or (1, C, H, W).
        window: its sides in pixels, a number (of an image with fewer rows or columns as many as
            there are) or (rows, columns); all channels are covered.
        stride: between windows, at most the window.
        fill: what covered pixels show: a number, `mean`, `blur`, or an image.
        batch_size: covered images that run at once, which bounds the memory; None: at most 256
            (on a CPU 64, or 2¹⁶ numbers), of 2²² numbers together.

    Raises:
        ValueError: no such layer or unit, or a window, stride or fill that does not fit.
    """
    with inspection_mode(model), torch.no_grad():
        batch = one_image(image, model)
        windows = size_pair(window, "window", (batch.shape[2], batch.shape[3]), 3)
        strides = size_pair(stride, "stride", windows)
        selected, base = find_unit(model, layer, unit, batch)
        field = selected.field(batch)
        field_mask = torch.as_tensor(field.pixels, device=batch.device)
        cropped = crop_to_field(selected, batch, field, windows, strides)
        drop = torch.full_like(batch[0, 0], torch.nan)
        drop[cropped.rows, cropped.columns] = occlusion_map(
            model, cropped.crop(batch), cropped.unit.index, target_layer=selected.layer,
            window=windows, stride=strides, fill=cropped.crop(replacement(batch, fill, model)),
            within=cropped.crop(field_mask), batch_size=batch_size,
        )[0]  # fmt: skip
    drop[~field_mask] = torch.nan
    return Occlusion(
        field=field.pixels, drop=to_numpy(drop), window=windows,
        **selected.record_fields(batch, base),
    )  # fmt: skip


def pixel_gradient(
    model: nn.Module, layer: NamedLayer | None, unit: Sequence[int], image: Images
) -> PixelGradient:
    """Pixel gradient: the gradient of a unit's activation with respect to the image.

    Args:
        model: any module; it is left as it was.
        layer: dotted name, `relu@1` its second call; None: the model's output.
        unit: (channel, row, column), or (place,) of a vector.
        image: (C, H, W) or (1, C, H, W).

    Raises:
        ValueError: no such layer or unit, or one without a gradient, as behind `argmax`.
    """
    with inspection_mode(model):
        batch = one_image(image, model)
        selected, base = find_unit(model, layer, unit, batch)
        leaf = batch.clone().requires_grad_()
        gradient = score_gradient(selected(leaf), leaf, "the image")
    return PixelGradient(gradient=to_numpy(gradient[0]), **selected.record_fields(batch, base))


def unit_pattern(
    model: nn.Module,
    layer: NamedLayer | None,
    unit: Sequence[int],
    image: Images,
    *,
    window: Size = 3,
    keep: float = 0.9,
    fill: Fill = 0.0,
    block: int | None = None,
    batch_size: int | None = None,
) -> UnitPattern:
    """Unit pattern: which pixels one unit needs of one image, in three ways.

    The three are `occlude`, `pixel_gradient` and, if the activation is above 0, `minimal_patch`,
    which explain the arguments.

    Raises:
        ValueError: as they do.
    """
    occlusion = occlude(model, layer, unit, image, window, fill=fill, batch_size=batch_size)
    gradient = pixel_gradient(model, layer, unit, image)
    if occlusion.activation <= 0:
        return UnitPattern(occlusion, gradient, None)
    patch = minimal_patch(
        model, layer, unit, image, keep, fill=fill, block=block, batch_size=batch_size
    )
    return UnitPattern(occlusion, gradient, patch)


def sweep_perturbation(
    model: nn.Module,
    layer: NamedLayer | None,
    unit: Sequence[int],
    image: Images,
    name: str | Sequence[str],
    strengths: Sequence[float] | Mapping[str, Sequence[float]] | None = None,
    seed: int = 0,
    num: int = 8,
) -> PerturbationSweep:
    """Perturbation sweep: a unit's activation as perturbations of an image grow stronger.

    Args:
        model: any module; it is left as it was.
        layer: dotted name, `relu@1` its second call; None: the model's output.
        unit: (channel, row, column), or (place,) of a vector.
        image: (C, H, W) or (1, C, H, W).
        name: of `perturbations.PERTURBATIONS`, or several names.
        strengths: in the unit of the perturbation; by name, if several differ; None: its usual.
        seed: of what is drawn; at all strengths it is the same.
        num: draws at each strength, of perturbations that draw.

    Raises:
        ValueError: no such layer, unit or perturbation, or a strength without a meaning.
    """
    check_count(num, "num")
    names = [name] if isinstance(name, str) else list(name)
    if isinstance(strengths, Mapping) and not set(strengths) <= set(names):
        problem = f"{', '.join(sorted(set(strengths) - set(names)))} is not asked for"
        raise argument_error("strengths", problem, ", ".join(names))
    with inspection_mode(model), torch.no_grad():
        batch = one_image(image, model)
        selected, base = find_unit(model, layer, unit, batch)
        strengths_by_name = {each: _strengths(each, strengths, batch) for each in names}
        results = {
            each: _sweep(selected, batch, each, strengths_by_name[each], seed, num)
            for each in names
        }
    return PerturbationSweep(
        strengths={each: np.array(numbers) for each, numbers in strengths_by_name.items()},
        values={each: values for each, (values, _) in results.items()},
        shown={each: first_draws for each, (_, first_draws) in results.items()},
        **selected.record_fields(batch, base),
    )  # fmt: skip


def _strengths(
    name: str, strengths: Sequence[float] | Mapping[str, Sequence[float]] | None, image: Tensor
) -> list[float]:
    """Return the strengths that are meant for a perturbation."""
    usual = find_perturbation(name).strengths(min(image.shape[2:]))
    given_strengths = strengths.get(name, usual) if isinstance(strengths, Mapping) else strengths
    resolved = (
        usual if given_strengths is None else [float(strength) for strength in given_strengths]
    )
    if not resolved:
        raise argument_error("strengths", f"none for {name}", "one or more")
    return resolved


def _sweep(
    unit: Unit, image: Tensor, name: str, strengths: Sequence[float], seed: int, num: int
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return the activations (S, N) under one perturbation, and the first draws (S, C, H, W).

    The draws of a strength run at once.
    """
    copies = image.expand(num if find_perturbation(name).is_random else 1, -1, -1, -1)
    values, first_draws = [], []
    for strength in strengths:
        changed = perturb(name, copies, strength, seed)
        values.append(unit(changed))
        first_draws.append(changed[0])
    return to_numpy(torch.stack(values)), to_numpy(torch.stack(first_draws))
