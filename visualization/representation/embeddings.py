"""Nearest neighbours and 2-D embeddings (PCA, t-SNE) of a layer's features.

N images (C, H, W), Q of which neighbours are sought; D numbers represent an image in a layer.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import attrs
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from visualization.core.errors import argument_error, check_count, value_error
from visualization.core.inputs import (
    Images,
    as_images,
    as_record,
    at_least_float32,
    batches,
    inspection_mode,
    optional_layer_name,
)
from visualization.core.records import brief_repr
from visualization.core.tracing import NamedLayer
from visualization.representation.features import Spatial, as_labels, features, principal_axes
from visualization.representation.tsne import tsne

Metric = Literal["cosine", "euclidean"]
Method = Literal["pca", "tsne"]
_TSNE_COMPONENTS = 50  # to which t-SNE's input is reduced: van der Maaten & Hinton 2008


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class Neighbours:
    """Nearest neighbours: the k images nearest to each of Q others, in a layer.

    Attributes:
        layer: its name; None: the model's output.
        metric: `cosine`, from 0, the same direction, to 2; or `euclidean`, from 0.
        queries: the images whose neighbours these are (Q, C, H, W).
        query_labels: their labels (Q,), or None.
        images: the neighbours, nearest first (Q, k, C, H, W).
        indices: their numbers among all images (Q, k); of equal distances the lower number first.
        distances: (Q, k), rising.
        labels: of the neighbours (Q, k), or None.
        num_images: N.
        classes: names of labels that are numbers; empty: the labels themselves.
    """

    layer: str | None
    metric: Metric
    queries: Tensor
    query_labels: NDArray[Any] | None
    images: Tensor
    indices: NDArray[np.int64]
    distances: NDArray[np.float64]
    labels: NDArray[Any] | None
    num_images: int
    classes: tuple[str, ...]


def nearest_neighbours(
    model: nn.Module,
    layer: NamedLayer | None,
    query_images: Images,
    images: Images | Iterable[Any],
    k: int = 8,
    metric: Metric = "cosine",
    *,
    spatial: Spatial = "flat",
    exclude_self: bool = False,
    query_labels: ArrayLike | Tensor | None = None,
    labels: ArrayLike | Tensor | None = None,
    batch_size: int = 256,
    classes: Sequence[str] = (),
) -> Neighbours:
    """Nearest neighbours of images in a layer's features.

    One pass over the images, of which only the k nearest so far are kept. A representation of zeros
    has no direction: its cosine distance from any other is 1.

    Args:
        model: any module.
        layer: dotted name; None: the model's output.
        query_images: (Q, C, H, W), or one (C, H, W).
        images: an array (N, C, H, W), or an iterable of batches, such as a loader.
        k: neighbours of each.
        metric: `cosine` (1 − the cosine of the angle) or `euclidean`.
        spatial: `flat` compares maps place by place, `mean` the means of maps only.
        exclude_self: leave out images that equal the query pixel by pixel.
        query_labels: of the queries (Q,).
        labels: of the images (N,).
        batch_size: images at a time, of an array; the result does not depend on it.
        classes: names of labels that are numbers.

    Raises:
        ValueError: names the argument that does not fit.
    """
    layer = optional_layer_name(model, layer)
    check_count(k, "k")
    check_count(batch_size, "batch_size")
    if metric not in ("cosine", "euclidean"):
        raise value_error("metric", repr(metric), "cosine, euclidean")
    with inspection_mode(model):
        queries = as_images(query_images, model, "query_images")
        parts = (features(model, layer, part, spatial) for part in torch.split(queries, batch_size))
        best = _Nearest(queries, _normalise(torch.cat(list(parts)), metric), k)
        for batch in batches(images, model, batch_size):
            rows = _normalise(features(model, layer, batch, spatial), metric)
            best.update(batch, _distances(best.rows, rows, metric), exclude_self)
    if (num := int(best.distances.isfinite().sum(dim=1).min())) < k:
        raise value_error("k", k, f"1 to {num}, as many as there are")
    numbers = best.numbers.cpu().numpy()
    own = None if query_labels is None else as_labels(query_labels, len(queries), "query_labels")
    neighbour_labels = None if labels is None else as_labels(labels, best.num_seen)[numbers]
    return Neighbours(
        layer=layer, metric=metric, queries=as_record(queries), query_labels=own,
        images=as_record(best.images), indices=numbers,
        distances=best.distances.cpu().double().numpy(), labels=neighbour_labels,
        num_images=best.num_seen, classes=tuple(classes),
    )  # fmt: skip


class _Nearest:
    """The k nearest images so far of each query."""

    def __init__(self, queries: Tensor, rows: Tensor, k: int) -> None:
        self.queries, self.rows, self.num_seen = queries, rows, 0
        self.distances = rows.new_full((len(rows), k), torch.inf)
        self.numbers = torch.full((len(rows), k), -1, device=rows.device)
        self.images = queries.new_zeros((len(rows), k, *queries.shape[1:]))

    def update(self, batch: Tensor, distances: Tensor, exclude_self: bool) -> None:
        """Take from a batch, at distances (Q, B), what is nearer; of equals the first stays."""
        if exclude_self:
            pixels, others = (at_least_float32(part.flatten(1)) for part in (self.queries, batch))
            apart = torch.cdist(pixels, others, p=torch.inf)
            distances = distances.masked_fill(apart == 0, torch.inf)
        numbers = torch.arange(self.num_seen, self.num_seen + len(batch), device=batch.device)
        both = torch.cat([self.distances, distances], dim=1)
        k = self.distances.shape[1]
        self.distances, order = (part[:, :k] for part in both.sort(dim=1, stable=True))
        all_numbers = torch.cat([self.numbers, numbers.expand(len(distances), -1)], dim=1)
        self.numbers = all_numbers.gather(1, order)
        queries, ranks = (order >= k).nonzero(as_tuple=True)
        kept_order = order.clamp(max=k - 1)[..., None, None, None].expand_as(self.images)
        self.images = self.images.gather(1, kept_order)
        self.images[queries, ranks] = batch[order[queries, ranks] - k]
        self.num_seen += len(batch)


def _normalise(rows: Tensor, metric: Metric) -> Tensor:
    """Return representations (B, D), for the cosine brought to length 1, but those of zeros."""
    if metric == "euclidean":
        return rows
    length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / torch.where(length > 0, length, 1.0)


def _distances(a: Tensor, b: Tensor, metric: Metric) -> Tensor:
    """Return distances (A, B) of rows, without the rounding that products would bring near 0."""
    if a.shape[1] != b.shape[1]:
        problem = f"the layer has {b.shape[1]} numbers for these, {a.shape[1]} for query_images"
        raise argument_error("images", problem, "images of one size")
    distances = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
    if metric == "euclidean":
        return distances
    directed = a.any(dim=1)[:, None] & b.any(dim=1)
    return torch.where(directed, distances.square() / 2, 1.0)  # |u - v|² = 2 - 2 cos


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class Embedding:
    """2-D embedding of a layer's features of N images.

    Attributes:
        layer: its name; None: the model's output.
        method: `pca` or `tsne`.
        points: (N, 2). PCA's are in units of the layer's activity, centred; t-SNE's have no unit,
            and distances between groups in it say little.
        explained: share of the variance along each axis (2,), of PCA; else None.
        labels: of the images (N,), or None.
        num_features: D.
        classes: names of labels that are numbers; empty: the labels themselves.
    """

    layer: str | None
    method: Method
    points: NDArray[np.float64]
    explained: NDArray[np.float64] | None
    labels: NDArray[Any] | None
    num_features: int
    classes: tuple[str, ...]


def embed(
    model: nn.Module,
    layer: NamedLayer | None,
    images: Images | Iterable[Any],
    method: Method = "pca",
    labels: ArrayLike | Tensor | None = None,
    seed: int = 0,
    *,
    spatial: Spatial = "flat",
    perplexity: float | None = None,
    batch_size: int = 256,
    classes: Sequence[str] = (),
) -> Embedding:
    """2-D embedding of images by a layer's features: PCA or t-SNE.

    t-SNE (van der Maaten & Hinton 2008) starts from the principal components and sees the first 50
    (see `tsne`).
    The sign of a component is such that its largest weight is positive, and all runs on one thread:
    the same images give the same picture. All features are in memory, N · D numbers.

    Args:
        model: any module.
        layer: dotted name; None: the model's output.
        images: an array (N, C, H, W), or an iterable of batches; two images or more.
        method: `pca` or `tsne`.
        labels: of the images (N,), which colour the points.
        seed: of t-SNE, and of the principal components where there are many.
        spatial: `flat` takes maps place by place, `mean` the means of maps only.
        perplexity: about how many neighbours t-SNE looks at, above 0, below N; None: 30, or a third
            of N if that is less.
        batch_size: images at a time, of an array.
        classes: names of labels that are numbers.

    Raises:
        ValueError: names the argument that does not fit.
    """
    layer = optional_layer_name(model, layer)
    check_count(batch_size, "batch_size")
    check_method(method)
    with inspection_mode(model):
        parts: Iterator[Tensor] = (
            features(model, layer, batch, spatial) for batch in batches(images, model, batch_size)
        )
        rows = torch.cat([part.cpu() for part in parts]).double().numpy()
    return embed_rows(rows, layer, method, labels, seed, perplexity=perplexity, classes=classes)


def check_method(method: str) -> None:
    """Raise a ValueError unless a method of embedding exists."""
    if method not in ("pca", "tsne"):
        raise value_error("method", repr(method), "pca, tsne")


def embed_rows(
    rows: NDArray[np.float64],
    layer: str | None,
    method: Method = "pca",
    labels: ArrayLike | Tensor | None = None,
    seed: int = 0,
    *,
    perplexity: float | None = None,
    classes: Sequence[str] = (),
) -> Embedding:
    """Embedding of representations (N, D) that are at hand; for the arguments see `embed`."""
    if len(rows) < 2:
        raise argument_error("images", f"{len(rows)} are not accepted", "two or more")
    label_values = None if labels is None else as_labels(labels, len(rows))
    points, explained = pca(rows, 2 if method == "pca" else _TSNE_COMPONENTS)
    if method == "tsne":
        points = tsne(points, perplexity, seed)
    points = np.pad(points, ((0, 0), (0, max(0, 2 - points.shape[1]))))
    shares = np.pad(explained, (0, max(0, 2 - len(explained)))) if method == "pca" else None
    return Embedding(
        layer=layer, method=method, points=points, explained=shares, labels=label_values,
        num_features=rows.shape[1], classes=tuple(classes),
    )  # fmt: skip


def pca(rows: NDArray[np.float64], num: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Principal components of rows (N, D), at most `num`, and the variance share of each (K,).

    Of each component the weight that is largest in size is positive. Components along which there
    is nothing but rounding are 0.
    """
    mean, axes, squares = principal_axes(rows, num)
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(len(squares))])
    centred = rows - mean
    shares = squares / np.square(centred).sum()
    missing = (0, min(num, *rows.shape) - len(squares))
    return np.pad(centred @ (axes * signs), ((0, 0), missing)), np.pad(shares, missing)
