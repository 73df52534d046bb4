"""Activation atlas: a map of what a layer tells apart, as images of mean activations.

Carter, Armstrong, Schubert, Johnson and Olah 2019, Activation Atlas, distill.pub.

M activations of N images, D channels, G rows and columns of cells, of which n have an image,
K classes.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from visualization.core.errors import argument_error, check_count
from visualization.core.inputs import (
    Images,
    as_record,
    at_least_float32,
    batches,
    check_channels_first,
    inspection_mode,
    optional_layer_name,
)
from visualization.core.records import brief_repr
from visualization.core.tracing import NamedLayer
from visualization.representation.embeddings import Method, check_method, embed_rows
from visualization.representation.features import as_labels
from visualization.synthesis.maximise import MaximisedImages, maximise
from visualization.synthesis.objective import ForwardCache, Objective, caching_forward
from visualization.synthesis.objectives import cosine, direction
from visualization.synthesis.parametrization import ImageParam
from visualization.synthesis.transforms import Transform

_RIDGE = 0.01  # of the mean square of a channel, so that rare channels do not outweigh all others


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class ActivationAtlas:
    """Activation atlas of a layer: G × G cells of a 2-D embedding of M activations.

    Attributes:
        layer: its name; None: the model's output.
        method: of the embedding, `pca` or `tsne`.
        points: of the activations (M, 2).
        image_numbers: of which image each activation is (M,).
        positions: row and column of each in the map (M, 2); 0 of a layer without places.
        cell_of: row and column of each one's cell, from the upper left (M, 2).
        counts: activations in each cell (G, G).
        least: activations that a cell with an image has at least.
        cells: row and column of the cells with an image, row by row (n, 2).
        means: of their activations (n, D).
        directions: that their images were optimised in, of length 1, or zeros (n, D).
        attribution: of each class to the cell (n, K): the mean over its activations a of
            a · ∂logit/∂a, which is the logit's linear approximation; None: not asked for.
        labels: the most frequent label of the images in the cell (n,), or None.
        label_shares: the share of its activations that have it (n,), or None.
        maximised: the images, with what was maximised, and what that was of the noise in which they
            begin.
        num_images: N.
        classes: names of classes, and of labels that are numbers; empty: the numbers.
    """

    layer: str | None
    method: Method
    points: NDArray[np.float64]
    image_numbers: NDArray[np.int64]
    positions: NDArray[np.int64]
    cell_of: NDArray[np.int64]
    counts: NDArray[np.int64]
    least: int
    cells: NDArray[np.int64]
    means: NDArray[np.float64]
    directions: NDArray[np.float64]
    attribution: NDArray[np.float64] | None
    labels: NDArray[Any] | None
    label_shares: NDArray[np.float64] | None
    maximised: MaximisedImages
    num_images: int
    classes: tuple[str, ...]

    @property
    def images(self) -> Tensor:
        """The images of the cells (n, C, H, W)."""
        return self.maximised.images

    @property
    def attributed(self) -> NDArray[np.int64] | None:
        """The class with the highest attribution to each cell (n,), or None."""
        return None if self.attribution is None else self.attribution.argmax(axis=1)


def activation_atlas(
    model: nn.Module, layer: NamedLayer, images: Images | Iterable[Any], *,
    grid: int = 8, least: int = 3, per_image: int | None = 1, method: Method = "tsne",
    whiten: bool = True, power: float = 2.0, labels: ArrayLike | Tensor | None = None,
    attribution: bool = True, steps: int = 128, rate: float = 0.1,
    image_param: ImageParam | None = None, transforms: Sequence[Transform] | None = None,
    batch_size: int = 64, seed: int = 0, classes: Sequence[str] = (),
) -> ActivationAtlas:  # fmt: skip
    """Activation atlas: what a layer tells apart, on one map (Carter et al. 2019).

    Activations at random places are embedded in two dimensions; a grid is laid over them; the mean
    activation of each cell is made an image by activation maximisation, all in one batch; and a
    cell is labelled by the class whose logit its activations raise most. The direction of a cell is
    its mean m, whitened as in the paper: M⁻¹ m, M being the matrix of mean products of channels,
    with a hundredth of its mean diagonal added. Without it, what all cells share is in every image.

    Args:
        model: any module; with `attribution` it outputs logits (B, K).
        layer: dotted name, or a module, of feature maps (B, D, H, W) or of a vector (B, D).
        images: an array (N, C, H, W), or an iterable of batches of one size of images.
        grid: G.
        least: activations that a cell needs for an image.
        per_image: activations that are taken of each image, at random places; None: all.
        method: of the embedding: `tsne` or `pca`; see `embed`.
        whiten: as above; False: the mean itself is the direction.
        power: what is maximised is the dot product with the direction, times the cosine to this
            power, as in the paper, so that an image shows the whole direction: see `cosine`; 0: the
            dot product alone.
        labels: of the images (N,).
        attribution: whether to compute that of the classes, which takes a backward pass for each.
        steps: of the ascent, as all that follows: see `maximise`.
        rate: of learning.
        image_param: image parametrisation.
        transforms: for robustness.
        batch_size: images at a time.
        seed: of the places, the embedding and the ascent.
        classes: names of the classes.

    Raises:
        ValueError: names the argument that does not fit; no cell has enough activations.
    """
    name = optional_layer_name(model, layer)
    for value, argument in ((grid, "grid"), (least, "least"), (per_image, "per_image")):
        check_count(value, argument)
    check_method(method)
    with inspection_mode(model):
        sample = _sample(model, name, images, per_image, attribution, batch_size, seed)
    own = None if labels is None else as_labels(labels, sample.num_images)[sample.numbers]
    cells = _cells(embed_rows(sample.rows, name, method, seed=seed).points, grid, least)
    means = np.stack([sample.rows[members].mean(axis=0) for members in cells.members])
    directions = _directions(means, sample.rows, whiten)
    maximised = maximise(
        model, _objective(name, directions, power, cells.places), sample.shape, steps=steps,
        rate=rate, image_param=image_param, transforms=transforms, batch_size=batch_size, seed=seed,
    )  # fmt: skip
    return ActivationAtlas(
        layer=name, method=method, least=least, means=means, directions=directions,
        maximised=maximised, classes=tuple(classes), **_fields(sample, cells, own),
    )  # fmt: skip


@attrs.frozen(eq=False)
class _Sample:
    """Activations at some places of N images."""

    rows: NDArray[np.float64]  # (M, D)
    numbers: NDArray[np.int64]  # of their images (M,)
    positions: NDArray[np.int64]  # in the map (M, 2)
    attribution: NDArray[np.float64] | None  # of classes (M, K)
    shape: tuple[int, int, int]  # of an image
    num_images: int


def _sample(
    model: nn.Module, layer: str | None, images: Images | Iterable[Any], per_image: int | None,
    attribution: bool, batch_size: int, seed: int,
) -> _Sample:  # fmt: skip
    """Run a model on images, and take activations at places that a seed draws."""
    rng = np.random.default_rng(seed)
    parts, count, shape = [], 0, (0, 0, 0)
    with caching_forward(model, {layer, None} if attribution else {layer}) as forward:
        for batch in map(at_least_float32, batches(images, model, batch_size)):
            cache = forward(batch.requires_grad_(attribution), batch.new_zeros(len(batch)).long())
            maps = cache[layer]
            check_channels_first(maps, "layer", "a vector over channels")
            width = maps.shape[3] if maps.ndim == 4 else 1
            rows, places = _places(rng, len(maps), maps[0, 0].numel(), per_image)
            raised = _attribution(cache, layer, rows, places) if attribution else None
            taken = maps.detach().flatten(2)[rows, :, places] if maps.ndim == 4 else maps[rows]
            numbers = rows.numpy() + count
            where = np.stack([places.numpy() // width, places.numpy() % width], axis=1)
            parts.append((as_record(taken).double().numpy(), numbers, where, raised))
            count += len(batch)
            shape = (int(batch.shape[1]), int(batch.shape[2]), int(batch.shape[3]))
    if not parts:
        raise argument_error("images", "there are none", "two or more")
    rows_, numbers_, where_, raised_ = zip(*parts, strict=True)
    return _Sample(
        np.concatenate(rows_), np.concatenate(numbers_), np.concatenate(where_),
        np.concatenate(raised_) if attribution else None, shape, count,
    )  # fmt: skip


def _places(
    rng: np.random.Generator, num: int, num_places: int, per_image: int | None
) -> tuple[Tensor, Tensor]:
    """Return the numbers of images, and of places in their flattened maps, that are taken."""
    each = num_places if per_image is None else min(per_image, num_places)
    drawn = [np.sort(rng.permutation(num_places)[:each]) for _ in range(num)]
    return torch.arange(num).repeat_interleave(each), torch.from_numpy(np.concatenate(drawn))


def _attribution(
    cache: ForwardCache, layer: str | None, rows: Tensor, places: Tensor
) -> NDArray[np.float64]:
    """Return how much the activations at some places raise each logit, to first order (M, K)."""
    output, maps = cache.output, cache[layer]
    if output.ndim != 2 or not output.requires_grad:
        problem = f"outputs {tuple(output.shape)}"
        accepted = "logits (images, classes), or attribution=False"
        raise argument_error("model", problem, accepted)
    raised = []
    for number in range(output.shape[1]):
        (gradient,) = torch.autograd.grad(
            output[:, number].sum(), maps, retain_graph=True, materialize_grads=True,
            allow_unused=True,
        )  # fmt: skip
        products = (gradient * maps.detach()).sum(dim=1).reshape(len(maps), -1)
        raised.append(products[rows, places])
    return as_record(torch.stack(raised, dim=1)).double().numpy()


@attrs.frozen(eq=False)
class _Cells:
    """Cells of a grid over M points."""

    points: NDArray[np.float64]  # (M, 2)
    cell_of: NDArray[np.int64]  # row and column of each point's cell (M, 2), the first at the top
    counts: NDArray[np.int64]  # (G, G)
    places: NDArray[np.int64]  # row and column of the cells with enough points (n, 2)
    members: list[NDArray[np.int64]]  # numbers of the points of each of these


def _cells(points: NDArray[np.float64], grid: int, least: int) -> _Cells:
    """Return the cells of a grid, of which some must have enough points."""
    low, extent = points.min(axis=0), np.ptp(points, axis=0)
    shares = (points - low) / np.where(extent > 0, extent, 1)
    across, up = np.minimum((shares * grid).astype(np.int64), grid - 1).T
    cell_of = np.stack([grid - 1 - up, across], axis=1)
    flat = cell_of @ [grid, 1]
    counts = np.bincount(flat, minlength=grid**2)
    filled = np.flatnonzero(counts >= least)
    if not len(filled):
        raise argument_error("least", f"no cell has {least}", f"1 to {counts.max()}")
    members = [np.flatnonzero(flat == cell) for cell in filled]
    places = np.stack([filled // grid, filled % grid], axis=1)
    return _Cells(points, cell_of, counts.reshape(grid, grid), places, members)


def _fields(sample: _Sample, cells: _Cells, labels: NDArray[Any] | None) -> dict[str, Any]:
    """Return the fields of the record that tell what is where."""
    raised = sample.attribution
    frequent = None if labels is None else [_most_frequent(labels[each]) for each in cells.members]
    return {
        "points": cells.points, "image_numbers": sample.numbers, "positions": sample.positions,
        "cell_of": cells.cell_of, "counts": cells.counts, "cells": cells.places,
        "attribution": (
            None if raised is None else np.stack([raised[each].mean(0) for each in cells.members])
        ),
        "labels": None if frequent is None else np.array([label for label, _ in frequent]),
        "label_shares": None if frequent is None else np.array([share for _, share in frequent]),
        "num_images": sample.num_images,
    }  # fmt: skip


def _objective(
    layer: str | None, directions: NDArray[np.float64], power: float, places: NDArray[np.int64]
) -> Objective:
    """Return what is maximised in each cell."""
    vectors = torch.from_numpy(directions)
    goal = cosine(layer, vectors, power) if power else direction(layer, vectors)
    return goal.named(*(f"({row}, {column})" for row, column in places))


def _directions(
    means: NDArray[np.float64], rows: NDArray[np.float64], whiten: bool
) -> NDArray[np.float64]:
    """Return a direction of length 1 for each mean (n, D), zeros for a mean of zero."""
    vectors: NDArray[np.floating] = means
    if whiten:
        products = rows.T @ rows / len(rows)
        ridge = _RIDGE * products.trace() / len(products)
        vectors = np.linalg.solve(products + (ridge or 1.0) * np.eye(len(products)), means.T).T
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1))


def _most_frequent(labels: NDArray[Any]) -> tuple[Any, float]:
    """Return the most frequent label, of equally frequent ones the first, and its share."""
    values, counts = np.unique(labels, return_counts=True)
    return values[counts.argmax()], counts.max() / len(labels)
