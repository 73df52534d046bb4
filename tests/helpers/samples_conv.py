"""A record of each kind that is drawn of convolutional networks; see `drawn`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.helpers.samples import RNG, Size, shares, spread
from visualization.adversarial.attacks import Attack
from visualization.adversarial.robustness import MinimalPerturbation, RobustnessCurve
from visualization.adversarial.transfer import TransferTable
from visualization.attribution.faithfulness import RANDOM, Faithfulness
from visualization.attribution.methods import Attributions
from visualization.attribution.sanity import SanityCheck
from visualization.feature_maps.dissection import Dissection, Example
from visualization.feature_maps.fields.geometry import FieldBox, FieldBoxes
from visualization.feature_maps.fields.patches import ActivatingPositions, TopPatches
from visualization.feature_maps.fields.receptive import (
    FieldOverImage,
    ReceptiveField,
    ReceptiveFields,
)
from visualization.feature_maps.scan_concepts import ConceptMasks
from visualization.perturbation.minimal import MinimalPatch
from visualization.perturbation.paste import Composite, Crop, FieldTransplant
from visualization.perturbation.pattern import (
    Occlusion,
    PerturbationSweep,
    PixelGradient,
    UnitPattern,
)
from visualization.perturbation.perturbations import PERTURBATIONS
from visualization.perturbation.response import Answers, ChannelAblation, Response
from visualization.representation.embeddings import Embedding, Neighbours
from visualization.representation.layer_probes import LayerProbes

WHOLE = (0.0, 1.0)  # limits of an image


def tensors(size: Size, *count: int) -> Tensor:
    """Return images as a tensor."""
    return torch.as_tensor(size.images(*count), dtype=torch.float32)


def inside(size: Size) -> np.ndarray:
    """Return a mask (H, W) of the upper half of an image."""
    mask = np.zeros(size.image[1:], bool)
    mask[: max(1, size.image[1] // 2)] = True
    return mask


def attack(size: Size) -> dict[str, Any]:
    """Return what both kinds of attacks hold."""
    num, zeros = size.samples, torch.zeros(size.samples, dtype=torch.int64)
    images = tensors(size, num)
    return {
        "images": images, "adversarial": (images + 0.1).clamp(0, 1), "labels": zeros,
        "target": None, "before": zeros, "after": zeros + 1, "confidence_before": zeros + 0.99,
        "confidence_after": zeros + 0.51, "low": images.amin((1, 2, 3)),
        "high": images.amax((1, 2, 3)), "classes": size.names(3),
    }  # fmt: skip


def adversarial(size: Size) -> Attack:
    """Return an attack."""
    radius = torch.ones(size.samples)
    return Attack(
        method="PGD", norm="linf", epsilon=0.1, size=radius, flat=radius > 2, **attack(size)
    )


def perturbation(size: Size) -> MinimalPerturbation:
    """Return the smallest changes."""
    radius = torch.linspace(0.1, 1, size.samples)
    return MinimalPerturbation(norm="l2", radius=radius, largest=radius, **attack(size))


def transfer(size: Size) -> TransferTable:
    """Return what deceives several models."""
    num = min(size.layers, 40)
    values = shares(num, num)
    return TransferTable(size.names(num), values, values, shares(num), "FGSM", "linf", 0.1, 500)


def attributions(size: Size) -> Attributions:
    """Return all methods' maps."""
    num, names = size.samples, ("saliency", "grad_cam_plus_plus", "integrated_gradients", "rise")
    methods = (*names, *size.names(12 if size.long else 1))
    maps = {name: spread(num, *size.image[1:]) for name in methods}
    return Attributions(size.images(num), maps, size.names(num), 1e4 * spread(num))


def faithfulness(size: Size) -> Faithfulness:
    """Return curves of deletion and insertion."""
    methods = (RANDOM, "saliency", *size.names(20 if size.long else 1))
    curves = {name: shares(size.samples, 11) for name in methods}
    fills = (size.words("0"), size.words("blurred"))
    return Faithfulness(np.linspace(0, 1, 11), curves, curves, "probability", fills)


def sanity(size: Size) -> SanityCheck:
    """Return what randomisation leaves."""
    num, methods = size.layers, ("saliency", *size.names(10 if size.long else 1))
    values = {name: shares(num + 1, size.samples) for name in methods}
    maps = {name: spread(num + 1, *size.image[1:]) for name in methods}
    return SanityCheck(size.names(num), values, values, size.images(), maps, True)


def neighbours(size: Size) -> Neighbours:
    """Return the nearest images."""
    num, near = size.samples, 20 if size.long else 3
    index = RNG.integers(0, 3, (num, near))
    return Neighbours(
        size.name(0), "cosine", tensors(size, num), index[:, 0], tensors(size, num, near),
        index, shares(num, near), index, 60000, size.names(3),
    )  # fmt: skip


def embedding(size: Size) -> Embedding:
    """Return images as points, of some classes or of very many."""
    num, classes = (2000, 100) if size.long else (60, 3)
    labels = np.arange(num) % classes
    explained = np.array([0.5, 0.2])
    return Embedding(
        size.name(0), "pca", spread(num, 2), explained, labels, 512, size.names(classes)
    )


def dissection(size: Size) -> Dissection:
    """Return concepts of units."""
    num, concepts = size.units, 60 if size.long else 3
    images = size.images(5).astype(np.float32)
    masks = np.stack([inside(size)] * 5)
    examples = tuple(
        Example(unit, 0, tuple(range(5)), images, masks, masks[::-1]) for unit in range(min(num, 5))
    )
    return Dissection(
        size.name(0), size.names(concepts), shares(num, concepts), 0.1 * shares(num, concepts),
        shares(num), shares(num), shares(concepts), 0.005, 0.04, "centred", 1.0, 1000, examples,
    )  # fmt: skip


def masks(size: Size) -> ConceptMasks:
    """Return where concepts are in scans."""
    num = 40 if size.long else 4
    where = np.stack([np.stack([inside(size)] * num)] * size.samples)
    scans = size.images(size.samples)[:, :1].astype(np.float32)
    return ConceptMasks(size.names(num), where, scans)


def probes(size: Size) -> LayerProbes:
    """Return probes of layers."""
    num = size.layers
    return LayerProbes(
        size.names(num), np.full(num, 512), shares(num), 0.1 * shares(num), shares(num), 0.1, 700,
        300, "flat",
    )  # fmt: skip


def unit(size: Size) -> dict[str, Any]:
    """Return what records of one unit hold."""
    return {"layer": size.name(0), "unit": (3, 1, 1), "image": size.images()}


def occlusion(size: Size) -> Occlusion:
    """Return what covering takes away."""
    drop = spread(*size.image[1:])
    return Occlusion(**unit(size), field=inside(size), drop=drop, activation=1.2, window=(3, 3))


def gradient(size: Size) -> PixelGradient:
    """Return a gradient."""
    return PixelGradient(**unit(size), gradient=spread(*size.image), activation=1234567.8)


def patch(size: Size) -> MinimalPatch:
    """Return a minimal patch."""
    num = inside(size).sum()
    return MinimalPatch(
        **unit(size), field=inside(size), mask=inside(size), shown=size.images(), activation=2.0,
        kept=1.9, keep=0.9, sizes=np.arange(num, -1, -1), curve=shares(num + 1), block=1,
    )  # fmt: skip


def sweep(size: Size) -> PerturbationSweep:
    """Return rising perturbations."""
    known = ("noise", "blur", "rotate", "shift", "contrast", "brightness")
    names = [name for name in known if name in PERTURBATIONS][: 6 if size.long else 1]
    strengths = {name: np.linspace(0, 1, 20) for name in names}
    values = {name: shares(20, 3) for name in names}
    shown = {name: size.images(20) for name in names}
    return PerturbationSweep(
        **unit(size), activation=1.0, strengths=strengths, values=values, shown=shown
    )


def paste(size: Size) -> FieldTransplant:
    """Return part of one image put into another."""
    where = np.broadcast_to(inside(size), size.image)
    hull = FieldBox((0, 3), (-1, 3))
    maps = tuple(spread(8, 8) for _ in range(3))
    return FieldTransplant(
        size.name(0), (3, 1, 1), (3, 2, 2), (2, -2), (1, 1), *(size.images() for _ in range(3)),
        where, where, 4, (hull, hull), 1.23456, -123456.7, 0.00012345, maps, False,
    )  # fmt: skip


def answered(size: Size) -> Answers:
    """Return logits before and after."""
    num = 1000 if size.long else 3
    return Answers(spread(num), spread(num))


def response(size: Size) -> Response:
    """Return maps before and after."""
    num = 3 if size.long else size.units
    before, after = spread(num, 8, 8), spread(num, 8, 8)
    return Response(
        size.name(0), size.words("pixel (3, 4) = 1"), size.images(), size.images(),
        tuple(range(num)), before, after, shares(num), answered(size),
    )  # fmt: skip


def map_edit(size: Size) -> ChannelAblation:
    """Return an edit of maps."""
    channels = tuple(1000 + channel for channel in range(size.units))
    return ChannelAblation(size.name(0), channels, 2.0, 0.5, size.images(), answered(size))


def field(size: Size) -> ReceptiveField:
    """Return the field of a unit, which reaches beyond the image."""
    mask = np.broadcast_to(inside(size), size.image)
    return ReceptiveField(size.name(0), (3, 1, 1), FieldBox((-2, 4), (-2, 6)), mask)


def fields(size: Size) -> ReceptiveFields:
    """Return what several units see."""
    num, mask = size.units, np.broadcast_to(inside(size), size.image)
    at, hulls = np.arange(num), np.tile([0, 3, 0, 3], (num, 1))
    return ReceptiveFields(size.name(0), 1234, 0.0, at, at, shares(num), hulls, mask, size.images())


def patches(size: Size) -> TopPatches:
    """Return the patches that excite maps most."""
    num, best = min(size.units, 33), 20 if size.long else 4
    whole = np.ones((num, best, *size.image[1:]), bool)
    at = np.zeros((num, best), int)
    at[0, 1:] = -1
    return TopPatches(
        size.name(0), np.arange(num) + 1000, at, at, at, 1e5 * shares(num, best),
        size.images(num, best), whole, 0.0, 60000,
    )  # fmt: skip


def activated(size: Size) -> ActivatingPositions:
    """Return the places at which a map is activated."""
    num, high = 100, min(size.image[1], 8)
    at, ends = RNG.integers(0, high, num), np.arange(high)
    hulls = FieldBoxes(ends, ends + 2, ends, ends + 2, size.image[1:])
    return ActivatingPositions(
        size.name(0), 3, 0.0, at, at, at, at, shares(num), 12345678, 99999999, 60000, hulls
    )


SAMPLES: dict[type, Callable[[Size], Any]] = {
    Attack: adversarial, MinimalPerturbation: perturbation, TransferTable: transfer,
    RobustnessCurve: lambda size: RobustnessCurve(
        "l2", np.linspace(0.1, 1, 5), shares(5), shares(5), 0.99, 1000, 10
    ),
    Attributions: attributions, Faithfulness: faithfulness, SanityCheck: sanity,
    Neighbours: neighbours, Embedding: embedding, Dissection: dissection, ConceptMasks: masks,
    LayerProbes: probes, Occlusion: occlusion, PixelGradient: gradient, MinimalPatch: patch,
    UnitPattern: lambda size: UnitPattern(occlusion(size), gradient(size), patch(size)),
    PerturbationSweep: sweep, FieldTransplant: paste, Response: response, ChannelAblation: map_edit,
    Crop: lambda size: Crop(size.images(), np.ones(size.image, bool), (123, 456), 0),
    Composite: lambda size: Composite(
        size.images(), np.broadcast_to(inside(size), size.image), 0
    ),
    ReceptiveField: field, ReceptiveFields: fields, TopPatches: patches,
    ActivatingPositions: activated,
    FieldOverImage: lambda size: FieldOverImage(field(size), size.images()),
}  # fmt: skip
