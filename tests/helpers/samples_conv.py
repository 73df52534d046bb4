"""A record of each kind that is drawn of convolutional networks; see `drawn`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.helpers.samples import RNG, Size, reproducible, shares, spread
from visualization.adversarial.attacks import Attack
from visualization.adversarial.fooling import FoolingImages
from visualization.adversarial.robustness import MinimalPerturbation, RobustnessCurve
from visualization.adversarial.transfer import TransferTable
from visualization.attribution.faithfulness import RANDOM, Faithfulness
from visualization.attribution.methods import Attributions
from visualization.attribution.relevance.balance import RelevanceBalance
from visualization.attribution.relevance.channels import ChannelRelevance
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
        "target": None, "prediction": zeros, "adversarial_prediction": zeros + 1,
        "confidence": zeros + 0.99, "adversarial_confidence": zeros + 0.51,
        "low": images.amin((1, 2, 3)), "high": images.amax((1, 2, 3)), "classes": size.names(3),
    }  # fmt: skip


def adversarial(size: Size) -> Attack:
    """Return an attack."""
    radius = torch.ones(size.samples)
    return Attack(
        method="PGD",
        norm="linf",
        epsilon=0.1,
        size=radius,
        zero_gradient=radius > 2,
        **attack(size),
    )


def perturbation(size: Size) -> MinimalPerturbation:
    """Return the smallest changes."""
    radius = torch.linspace(0.1, 1, size.samples)
    return MinimalPerturbation(norm="l2", radius=radius, largest=radius, **attack(size))


def fooling(size: Size) -> FoolingImages:
    """Return fooling images, of which the last is not as sure as was asked."""
    values = torch.linspace(0.1, 1, size.samples)
    target = torch.arange(size.samples) % 3
    return FoolingImages(
        norm="l2", start="images", least_confidence=0.999, target_confidence=values,
        reached=values < 0.9, distance=1e4 * values, steps=target, **attack(size) | {
            "target": target},
    )  # fmt: skip


def transfer(size: Size) -> TransferTable:
    """Return what deceives several models."""
    num = min(size.layers, 40)
    values = shares(num, num)
    return TransferTable(
        names=size.names(num), accuracy=values, noise=values, clean=shares(num), method="FGSM",
        norm="linf", epsilon=0.1, num_images=500,
    )  # fmt: skip


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
    return SanityCheck(
        layers=size.names(num), signed=values, absolute=values, image=size.images(), maps=maps,
        cascading=True,
    )  # fmt: skip


def channel_relevance(size: Size) -> ChannelRelevance:
    """Return the relevance of channels."""
    num, shown = size.samples, 12 if size.long else 2
    return ChannelRelevance(
        layer=size.name(0), images=size.images(num), targets=size.names(num),
        scores=1e4 * spread(num), relevance=spread(num, 1024),
        channels=np.broadcast_to(np.arange(1024 - shown, 1024), (num, shown)),
        maps=spread(num, shown, *size.image[1:]), total=spread(num, *size.image[1:]),
    )  # fmt: skip


def balance(size: Size) -> RelevanceBalance:
    """Return what layers absorb of relevance."""
    names = size.names(size.layers)
    amounts = dict(zip(names, spread(len(names)), strict=True))
    return RelevanceBalance(scores=np.ones(size.samples), relevance=shares(size.samples),
                            absorbed=amounts)  # fmt: skip


def neighbours(size: Size) -> Neighbours:
    """Return the nearest images."""
    num, near = size.samples, 20 if size.long else 3
    index = RNG.integers(0, 3, (num, near))
    return Neighbours(
        layer=size.name(0), metric="cosine", queries=tensors(size, num), query_labels=index[:, 0],
        images=tensors(size, num, near), indices=index, distances=shares(num, near), labels=index,
        num_images=60000, classes=size.names(3),
    )  # fmt: skip


def embedding(size: Size) -> Embedding:
    """Return images as points, of some classes or of very many."""
    num, classes = (2000, 100) if size.long else (60, 3)
    labels = np.arange(num) % classes
    explained = np.array([0.5, 0.2])
    return Embedding(
        layer=size.name(0), method="pca", points=spread(num, 2), explained=explained, labels=labels,
        num_features=512, classes=size.names(classes),
    )  # fmt: skip


def dissection(size: Size) -> Dissection:
    """Return concepts of units."""
    num, concepts = size.units, 60 if size.long else 3
    images = size.images(5).astype(np.float32)
    masks = np.stack([inside(size)] * 5)
    examples = tuple(
        Example(
            unit=unit,
            concept=0,
            numbers=tuple(range(5)),
            images=images,
            regions=masks,
            masks=masks[::-1],
        )
        for unit in range(min(num, 5))
    )
    return Dissection(
        layer=size.name(0), concepts=size.names(concepts), iou=shares(num, concepts),
        chance=0.1 * shares(num, concepts), thresholds=shares(num), unit_shares=shares(num),
        concept_shares=shares(concepts), quantile=0.005, least=0.04, placement="centred",
        share_read=1.0, num_images=1000, examples=examples,
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
        layers=size.names(num), num_features=np.full(num, 512), accuracy=shares(num),
        control=0.1 * shares(num), untrained=shares(num), majority=0.1, num_fitted=700,
        num_held_out=300, spatial="flat",
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
        layer=size.name(0), unit=(3, 1, 1), target_unit=(3, 2, 2), offset=(2, -2), stride=(1, 1),
        source=size.images(), target=size.images(), composite=size.images(), copied=where,
        pasted=where, num_lost=4, boxes=(hull, hull), source_activation=1.23456,
        target_activation=-123456.7, composite_activation=0.00012345, maps=maps, exact=False,
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
        layer=size.name(0), edit=size.words("pixel (3, 4) = 1"), original=size.images(),
        modified=size.images(), channels=tuple(range(num)), before=before, after=after,
        changes=shares(num), answers=answered(size),
    )  # fmt: skip


def map_edit(size: Size) -> ChannelAblation:
    """Return an edit of maps."""
    channels = tuple(1000 + channel for channel in range(size.units))
    return ChannelAblation(
        layer=size.name(0), channels=channels, scale=2.0, shift=0.5, image=size.images(),
        answers=answered(size),
    )  # fmt: skip


def field(size: Size) -> ReceptiveField:
    """Return the field of a unit, which reaches beyond the image."""
    mask = np.broadcast_to(inside(size), size.image)
    return ReceptiveField(size.name(0), (3, 1, 1), FieldBox((-2, 4), (-2, 6)), mask)


def fields(size: Size) -> ReceptiveFields:
    """Return what several units see."""
    num, mask = size.units, np.broadcast_to(inside(size), size.image)
    at, hulls = np.arange(num), np.tile([0, 3, 0, 3], (num, 1))
    return ReceptiveFields(
        layer=size.name(0), channel=1234, threshold=0.0, rows=at, columns=at, values=shares(num),
        boxes=hulls, mask=mask, image=size.images(),
    )  # fmt: skip


def patches(size: Size) -> TopPatches:
    """Return the patches that excite maps most."""
    num, best = min(size.units, 33), 20 if size.long else 4
    whole = np.ones((num, best, *size.image[1:]), bool)
    at = np.zeros((num, best), int)
    at[0, 1:] = -1
    return TopPatches(
        layer=size.name(0), channels=np.arange(num) + 1000, image=at, row=at, column=at,
        value=1e5 * shares(num, best), patches=size.images(num, best), inside=whole, threshold=0.0,
        num_images=60000,
    )  # fmt: skip


def activated(size: Size) -> ActivatingPositions:
    """Return the places at which a map is activated."""
    num, high = 100, min(size.image[1], 8)
    at, ends = RNG.integers(0, high, num), np.arange(high)
    hulls = FieldBoxes(
        row_first=ends, row_last=ends + 2, column_first=ends, column_last=ends + 2,
        image_size=size.image[1:],
    )  # fmt: skip
    return ActivatingPositions(
        layer=size.name(0), channel=3, threshold=0.0, image=at, index=at, row=at, column=at,
        value=shares(num), num_activated=12345678, num_units=99999999, num_images=60000,
        boxes=hulls,
    )  # fmt: skip


SAMPLES: dict[type, Callable[[Size], Any]] = reproducible({
    Attack: adversarial, MinimalPerturbation: perturbation, FoolingImages: fooling,
    TransferTable: transfer,
    RobustnessCurve: lambda size: RobustnessCurve(
        norm="l2", epsilons=np.linspace(0.1, 1, 5), accuracy=shares(5), noise=shares(5),
        clean=0.99, num_images=1000, num_classes=10,
    ),
    Attributions: attributions, Faithfulness: faithfulness, SanityCheck: sanity,
    ChannelRelevance: channel_relevance, RelevanceBalance: balance,
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
})  # fmt: skip
