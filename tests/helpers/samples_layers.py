"""A record of each kind that is drawn of layers, maximisation and single units; see `drawn`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tests.helpers.samples import RNG, Size, shares, spread
from tests.helpers.samples_conv import WHOLE, patches, tensors
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
from visualization.synthesis.dreams import Dream
from visualization.synthesis.inversion import Inversion, Solution
from visualization.synthesis.maximise import MaximisedImages


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
        at, at, values, dict.fromkeys(values, 1.5), size.words("random"), spread(4, 2) / 3,
        shares(4), size.words("taken again"),
    )  # fmt: skip


def values(size: Size) -> tuple[LayerValues, ...]:
    """Return the values of layers."""
    num, shown = size.units, min(size.units, 16)
    edges = np.linspace(-1, 1, 11)
    return tuple(
        LayerValues(
            name, "BatchNorm2d", (num, 8, 8), 10**6, 0.5, 0.1, 1.0, RNG.integers(1, 999, 10),
            edges, spread(num), shares(num), shares(num),
            spread(min(size.samples, 12), shown, 8, 8).astype(np.float32), np.arange(shown), 0,
        )
        for name in size.names(size.layers)
    )  # fmt: skip


def activations(size: Size) -> LayerActivations:
    """Return the maps of layers."""
    images = size.images(min(size.samples, 12)).astype(np.float32)
    return LayerActivations(values(size), images, 60000, (), 0, size.layers)


def dead(size: Size) -> DeadUnits:
    """Return layers with units that do little."""
    at = np.arange(size.units)
    rows = tuple(
        UnitStates(name, "ReLU", size.units, at[::2], at[:0], at[1::4], at[3::4])
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
        images, names, 1e4 * shares(num), shares(num), np.arange(5), steps, at, verdicts, WHOLE
    )


def dream(size: Size) -> Dream:
    """Return dreams."""
    num, stages = size.samples, 10 if size.long else 2
    shown = tuple(tensors(size, num) for _ in range(stages))
    names = size.names(num)
    return Dream(names, tensors(size, num), shown, shares(num), shares(num), WHOLE)


def inversion(size: Size) -> Inversion:
    """Return images found again from many layers."""
    num, layers = size.samples, size.layers
    return Inversion(
        size.names(layers), tensors(size, num), tensors(size, layers, num), shares(layers, num),
        shares(layers, num), WHOLE,
    )  # fmt: skip


def satisfied(size: Size) -> Solution:
    """Return images that satisfy demands."""
    return Solution(maximised(size), tensors(size, size.samples), shares(size.samples), 0.5)


def progression(size: Size) -> Progression:
    """Return maps through training."""
    num, steps = min(size.units, 5), min(size.steps, 40)
    maps = spread(steps, 2, num, 8, 8)
    at = np.arange(steps) * 100000
    return Progression(size.name(0), np.arange(num), at, size.images(2), maps, None, ())


def sheets(size: Size) -> UnitSheets:
    """Return the channels of a layer."""
    peaks = shares(size.samples, size.units)
    found = patches(size)
    names, labels = size.names(size.samples), size.names(size.samples)
    return UnitSheets(size.name(0), found, names, labels, peaks, *[None] * 6)


def parameters(name: str, size: Size) -> tuple[ParameterValues, ...]:
    """Return the weight of a convolution, and six vectors of its layer, as an LSTM has them."""
    shown, num = min(size.units, 16), size.units
    at, counts, edges = np.arange(shown), RNG.integers(1, 99, 10), np.linspace(-1, 1, 11)
    weight = ParameterValues(
        f"{name}.weight", name, "ConvTranspose2d", "kernels", (num, num, 3, 3),
        spread(shown, shown, 3, 3).astype(np.float32), at, at, num, num, shares(num), 0.1, 1.0,
        counts, edges, 0,
    )  # fmt: skip
    vector = ParameterValues(
        f"{name}.bias", name, "ConvTranspose2d", "vector", (num,), spread(num).astype(np.float32),
        np.arange(num), at[:0], num, 0, shares(0), 0.1, 1.0, counts, edges, 0,
    )  # fmt: skip
    return (weight, *[vector] * (6 if size.long else 1))


def weights(size: Size) -> LayerWeights:
    """Return the parameters of layers."""
    layers = tuple(parameters(name, size) for name in size.names(size.layers))
    return LayerWeights(layers, 0, size.layers)


SAMPLES: dict[type, Callable[[Size], Any]] = {
    LandscapeLine: line, LandscapePlane: plane, LayerActivations: activations, DeadUnits: dead,
    LayerHistograms: lambda size: activations(size).histograms,
    MaximisedImages: maximised, Dream: dream, Inversion: inversion, Solution: satisfied,
    Progression: progression, UnitSheets: sheets, LayerWeights: weights,
}  # fmt: skip
