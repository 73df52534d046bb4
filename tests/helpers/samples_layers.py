"""A record of each kind that is drawn of layers, maximisation and single units; see `drawn`."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from tests.helpers.samples import RNG, Size, reproducible, shares, spread
from tests.helpers.samples_conv import WHOLE, patches, tensors
from visualization.detection.detections import Detections, detections
from visualization.detection.read_lines import ReadLines
from visualization.feature_maps.progression import Progression
from visualization.feature_maps.sheets import UnitSheets
from visualization.model.landscape import LandscapeLine, LandscapePlane
from visualization.model.values import (
    DeadUnits,
    LayerActivations,
    LayerHistograms,
    LayerValues,
    UnitStates,
)
from visualization.model.weights import LayerWeights, ParameterValues
from visualization.synthesis.atlas import ActivationAtlas
from visualization.synthesis.dreams import Dream
from visualization.synthesis.inversion import Inversion, Solution
from visualization.synthesis.maximise import MaximisedImages
from visualization.synthesis.penalties import PenaltyComparison


def line(size: Size) -> LandscapeLine:
    """Return the loss on a line."""
    alphas = np.linspace(-0.5, 1.5, 9)
    values = {name: 1 + shares(9) for name in size.names(3 if size.long else 1)}
    return LandscapeLine(alphas, values, (size.name(0), size.name(1)), size.words("taken again"))


def plane(size: Size) -> LandscapePlane:
    """Return the loss on a plane, with checkpoints."""
    at = np.linspace(-1, 1, 7)
    values = {name: 1 + shares(7, 7) for name in size.names(3 if size.long else 1)}
    return LandscapePlane(
        x=at, y=at, values=values, center=dict.fromkeys(values, 1.5),
        directions=size.words("random"), trajectory=spread(4, 2) / 3, residual=shares(4),
        statistics=size.words("taken again"),
    )  # fmt: skip


def values(size: Size) -> tuple[LayerValues, ...]:
    """Return the values of layers."""
    num, shown = size.units, min(size.units, 16)
    edges = np.linspace(-1, 1, 11)
    return tuple(
        LayerValues(
            name=name, kind="BatchNorm2d", shape=(num, 8, 8), num_values=10**6, zero_share=0.5,
            mean=0.1, deviation=1.0, counts=RNG.integers(1, 999, 10), edges=edges,
            low=spread(num), high=shares(num), active_share=shares(num),
            maps=spread(min(size.samples, 12), shown, 8, 8).astype(np.float32),
            channels=np.arange(shown), num_undefined=0,
        )
        for name in size.names(size.layers)
    )  # fmt: skip


def activations(size: Size) -> LayerActivations:
    """Return the maps of layers."""
    images = size.images(min(size.samples, 12)).astype(np.float32)
    return LayerActivations(
        layers=values(size), images=images, num_images=60000, skipped=(), first=0,
        num_all=size.layers,
    )  # fmt: skip


def dead(size: Size) -> DeadUnits:
    """Return layers with units that do little."""
    at = np.arange(size.units)
    rows = tuple(
        UnitStates(
            name=name,
            kind="ReLU",
            num_units=size.units,
            dead=at[::2],
            constant=at[:0],
            rarely_active=at[1::4],
            always_active=at[3::4],
        )
        for name in size.names(size.layers)
    )
    return DeadUnits(rows, 60000, 0.01)


def maximised(size: Size) -> MaximisedImages:
    """Return images that were found."""
    num = size.samples
    names = tuple(f"{size.name(0)}:{number}, {size.name(1)}" for number in range(num))
    at = np.zeros(num, int)
    verdicts = ("risen", *["dead"] * (num > 1), *["risen"] * (num - 2))
    images = tensors(size, num)
    images[1:2] = torch.nan
    steps = shares(5, num)
    return MaximisedImages(
        images=images, names=names, values=1e4 * shares(num), starts=shares(num),
        steps=np.arange(5), curve=steps, best=at, verdicts=verdicts, limits=WHOLE,
    )  # fmt: skip


def dream(size: Size) -> Dream:
    """Return dreams."""
    num, stages = size.samples, 10 if size.long else 2
    shown = tuple(tensors(size, num) for _ in range(stages))
    names = size.names(num)
    return Dream(
        names=names, originals=tensors(size, num), stages=shown, starts=shares(num),
        values=shares(num), limits=WHOLE,
    )  # fmt: skip


def inversion(size: Size) -> Inversion:
    """Return images found again from many layers."""
    num, layers = size.samples, size.layers
    return Inversion(
        layers=size.names(layers), originals=tensors(size, num), images=tensors(size, layers, num),
        errors=shares(layers, num), differences=shares(layers, num), limits=WHOLE,
    )  # fmt: skip


def satisfied(size: Size) -> Solution:
    """Return images that satisfy demands."""
    return Solution(maximised(size), tensors(size, size.samples), shares(size.samples), 0.5)


def penalties(size: Size) -> PenaltyComparison:
    """Return class images with many penalties, one of which is not there."""
    num, rows = min(size.units, 20), (5 if not size.long else 24)
    values = 1e4 * shares(rows, num)
    images = tensors(size, rows, num)
    images[1, 0] = torch.nan
    return PenaltyComparison(
        rows=("none", *size.names(rows - 1)), strengths=shares(rows), weights=values[:, 0],
        classes=np.arange(num), class_names=size.names(num), images=images, logits=-values,
        probabilities=shares(rows, num), total_variation=values, sizes={"L1": values, "TV": values},
        verdicts=("risen",) * (rows * num), around=0.0, limits=WHOLE,
    )  # fmt: skip


def atlas(size: Size) -> ActivationAtlas:
    """Return an atlas whose cells are all of an image, and have names that do not agree."""
    side = 16 if size.long else 1
    cells = np.argwhere(np.ones((side, side), bool))
    num = len(cells)
    images = tensors(size, 1).expand(num, -1, -1, -1).clone()
    images[1:2] = torch.nan
    at, values = np.arange(num), shares(num, 3)
    found = MaximisedImages(
        images=images, names=("",) * num, values=values[:, 0], starts=values[:, 0],
        steps=np.arange(1), curve=values[:1], best=at, verdicts=("risen",) * num, limits=WHOLE,
    )  # fmt: skip
    return ActivationAtlas(
        layer=size.name(0), method="tsne", points=spread(num, 2), image_numbers=at,
        positions=cells, cell_of=cells, counts=np.full((side, side), 12345678), least=3,
        cells=cells, means=values, directions=values, attribution=values, labels=at % 3,
        label_shares=values[:, 0], maximised=found, num_images=60000, classes=size.names(3),
    )  # fmt: skip


def progression(size: Size) -> Progression:
    """Return maps through training."""
    num, steps = min(size.units, 5), min(size.steps, 40)
    maps = spread(steps, 2, num, 8, 8)
    at = np.arange(steps) * 100000
    return Progression(
        layer=size.name(0), channels=np.arange(num), steps=at, images=size.images(2), maps=maps,
        kernels=None, patches=(),
    )  # fmt: skip


def sheets(size: Size) -> UnitSheets:
    """Return the channels of a layer."""
    peaks = shares(size.samples, size.units)
    found = patches(size)
    names, labels = size.names(size.samples), size.names(size.samples)
    return UnitSheets(
        layer=size.name(0), patches=found, names=names, labels=labels, peaks=peaks,
        maximised=None, reached=None, real=None, progression=None, kernels=None, biases=None,
    )  # fmt: skip


def parameters(name: str, size: Size) -> tuple[ParameterValues, ...]:
    """Return the weight of a convolution, and six vectors of its layer, as an LSTM has them."""
    shown, num = min(size.units, 16), size.units
    at, counts, edges = np.arange(shown), RNG.integers(1, 99, 10), np.linspace(-1, 1, 11)
    weight = ParameterValues(
        name=f"{name}.weight", layer=name, kind="ConvTranspose2d", role="kernels",
        shape=(num, num, 3, 3), shown=spread(shown, shown, 3, 3).astype(np.float32), filters=at,
        inputs=at, num_filters=num, num_inputs=num, norms=shares(num), mean=0.1, deviation=1.0,
        counts=counts, edges=edges, num_undefined=0,
    )  # fmt: skip
    vector = ParameterValues(
        name=f"{name}.bias", layer=name, kind="ConvTranspose2d", role="vector", shape=(num,),
        shown=spread(num).astype(np.float32), filters=np.arange(num), inputs=at[:0],
        num_filters=num, num_inputs=0, norms=shares(0), mean=0.1, deviation=1.0, counts=counts,
        edges=edges, num_undefined=0,
    )  # fmt: skip
    return (weight, *[vector] * (6 if size.long else 1))


def weights(size: Size) -> LayerWeights:
    """Return the parameters of layers."""
    layers = tuple(parameters(name, size) for name in size.names(size.layers))
    return LayerWeights(layers, 0, size.layers)


def boxes(size: Size) -> Detections:
    """Return pages with many boxes or none, of which some are found, and some wrong."""
    num, (_, height, width) = min(size.samples, 6), size.image
    images = RNG.random((num, *size.image), np.float32)
    many = [size.units * (number + 1) // 2 for number in range(num)]

    def rows() -> list[SimpleNamespace]:
        corners = [np.sort(RNG.random((n, 2, 2)) * [width, height], axis=1) for n in many]
        return [
            SimpleNamespace(boxes=corner.reshape(-1, 4), kinds=RNG.integers(2, size=len(corner)),
                            scores=shares(len(corner)))
            for corner in corners
        ]  # fmt: skip

    right = rows()
    return detections(images, size.names(num), size.names(2), right, [*right[:1], *rows()[1:]],
                      is_ink=not size.long)  # fmt: skip


def read_lines(size: Size) -> ReadLines:
    """Return a page with many lines."""
    _, height, width = size.image
    tops = np.linspace(0, height - 1, size.units)
    bases = tuple(np.array([[1.0, top], [width - 1.0, top + 1]]) for top in tops)
    return ReadLines(
        image=RNG.random((height, width), np.float32), baselines=bases,
        polygons=tuple(np.concatenate([base, base[::-1] - [0, 2]]) for base in bases),
        confidence=shares(size.units),
    )  # fmt: skip


SAMPLES: dict[type, Callable[[Size], Any]] = reproducible({
    Detections: boxes, ReadLines: read_lines,
    LandscapeLine: line, LandscapePlane: plane, LayerActivations: activations, DeadUnits: dead,
    LayerHistograms: lambda size: activations(size).histograms,
    MaximisedImages: maximised, Dream: dream, Inversion: inversion, Solution: satisfied,
    PenaltyComparison: penalties, ActivationAtlas: atlas,
    Progression: progression, UnitSheets: sheets, LayerWeights: weights,
})  # fmt: skip
