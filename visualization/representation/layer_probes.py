"""Linear probes by depth: what a linear classifier reads off each layer, with controls.

L layers, N images, D numbers of a representation.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import attrs
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from visualization.core.errors import argument_error, check_count, check_share, value_error
from visualization.core.inputs import Images, batches, inspection_mode, optional_layer_name
from visualization.core.records import brief_repr
from visualization.core.statistics import fit_classes
from visualization.core.tracing import NamedLayer
from visualization.representation.features import (
    Spatial,
    as_labels,
    features_of_layers,
    principal_axes,
)

_RIDGE = 1e-2
_FEWEST = 10  # images of either part
_MAX_BYTES = 2**28  # of representations held at once, if those of one layer are not more
PIXELS = "pixels"


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class LayerProbes:
    """Linear probes: accuracy on withheld images for each of L layers.

    The first layer is `pixels`, the images themselves.

    Attributes:
        layers: their names, in the order given (L,).
        num_features: how many numbers each outputs for an image (L,).
        accuracy: of the probe (L,).
        control: of a probe of labels shuffled over the images (L,).
        untrained: of the probe of the same layers of a second model (L,); None without one.
        majority: share of the held-out images with the label most frequent among the others.
        num_fitted: images that the probes were fitted on.
        num_held_out: those that they are scored on.
        spatial: `flat` or `mean`.
    """

    layers: tuple[str, ...]
    num_features: NDArray[np.int64]
    accuracy: NDArray[np.float64]
    control: NDArray[np.float64]
    untrained: NDArray[np.float64] | None
    majority: float
    num_fitted: int
    num_held_out: int
    spatial: Spatial


def probe_layers(
    model: nn.Module,
    layers: Sequence[NamedLayer | None],
    images: Images | Iterable[Any],
    labels: ArrayLike | Tensor,
    *,
    untrained: nn.Module | None = None,
    spatial: Spatial = "flat",
    num_components: int = 64,
    held_out: float = 0.3,
    seed: int = 0,
    batch_size: int = 256,
) -> LayerProbes:
    """Linear probes of layers (Alain & Bengio 2016), scored on images that they were not fitted on.

    Alain & Bengio 2016 (1610.01644). A probe is a multinomial logistic regression on the first
    principal components of the layer, each scaled to variance 1; components, scales and weights are
    fitted on one part of the images. Its control is the same with labels shuffled over the images
    (in the spirit of Hewitt & Liang 2019, 1909.03368). A second model, of the same layers and not
    trained, shows what the architecture gives without learning. The model runs once for as many
    layers as have features of 256 MB together.

    Args:
        model: any module; give images that it was not trained on, whose labels it knows by heart.
        layers: dotted names or modules, the first of the model first; None: the model's output.
        images: an array (N, C, H, W), or an iterable of batches that can be read several times.
        labels: a whole number or a word for each image (N,).
        untrained: a model that has the same layers.
        spatial: `flat` takes maps place by place, `mean` the means of maps only.
        num_components: principal components that a probe sees at most.
        held_out: share of the images that score the probes.
        seed: of the split and the shuffling.
        batch_size: images at a time, of an array.

    Raises:
        ValueError: names the argument that does not fit.
    """
    _check_arguments(layers, held_out, num_components, batch_size)
    selection = [optional_layer_name(model, layer, "layers") for layer in layers]
    source = _Source(images, spatial, batch_size)
    pixels = source.pixels(model)
    split = _split(as_labels(labels, len(pixels)), held_out, seed)

    def probed(network: nn.Module) -> list[tuple[int, float, float]]:
        rows = itertools.chain([pixels], source.rows_of_layers(network, selection, len(pixels)))
        return [split.scores(layer_rows, num_components) for layer_rows in rows]

    scores = probed(model)
    untrained_accuracy = (
        None if untrained is None else np.array([score for _, score, _ in probed(untrained)])
    )
    sizes, accuracy, control = (np.array(column) for column in zip(*scores, strict=True))
    names = (PIXELS, *(layer or "output" for layer in selection))
    num_tested = int(split.tested.sum())
    return LayerProbes(
        layers=names, num_features=sizes, accuracy=accuracy, control=control,
        untrained=untrained_accuracy, majority=split.majority, num_fitted=len(pixels) - num_tested,
        num_held_out=num_tested, spatial=spatial,
    )  # fmt: skip


def probe_rows(
    rows: Mapping[str, NDArray[np.float64]],
    labels: ArrayLike | Tensor,
    *,
    num_components: int = 64,
    held_out: float = 0.3,
    seed: int = 0,
) -> LayerProbes:
    """Linear probes of representations (N, D) that are at hand, by layer; see `probe_layers`."""
    split = _split(as_labels(labels, len(next(iter(rows.values())))), held_out, seed)
    scores = [split.scores(values, num_components) for values in rows.values()]
    sizes, accuracy, control = (np.array(column) for column in zip(*scores, strict=True))
    tested = int(split.tested.sum())
    return LayerProbes(
        layers=tuple(rows), num_features=sizes, accuracy=accuracy, control=control,
        untrained=None, majority=split.majority, num_fitted=len(split.tested) - tested,
        num_held_out=tested, spatial="mean",
    )  # fmt: skip


def _check_arguments(
    layers: Sequence[NamedLayer | None], held_out: float, num_components: int, batch_size: int
) -> None:
    check_count(num_components, "num_components")
    check_count(batch_size, "batch_size")
    if isinstance(layers, str) or not layers:
        raise value_error("layers", repr(layers), "a list of names")
    check_share(held_out, "held_out")


@attrs.frozen(eq=False)
class _Source:
    """Images, and how a layer represents them."""

    images: Images | Iterable[Any]
    spatial: Spatial
    batch_size: int

    def pixels(self, model: nn.Module) -> NDArray[np.float64]:
        """Return the images as rows (N, D), of the type of a model."""
        parts = [batch.flatten(1).cpu() for batch in batches(self.images, model, self.batch_size)]
        return _joined(parts or _none_left())

    def rows_of_layers(
        self, model: nn.Module, layers: Sequence[str | None], num: int
    ) -> Iterator[NDArray[np.float64]]:
        """Yield the representation of `num` images in each layer (N, D).

        One run over the images gives as many layers as `_MAX_BYTES` hold, and at least one.
        """
        left = list(layers)
        sizes = [num * size for size in self._bytes_of_an_image(model, left)]
        while left:
            fitting = sum(size <= _MAX_BYTES for size in itertools.accumulate(sizes)) or 1
            with inspection_mode(model):
                parts = [
                    [
                        rows.cpu()
                        for rows in features_of_layers(model, left[:fitting], batch, self.spatial)
                    ]
                    for batch in batches(self.images, model, self.batch_size)
                ]
            by_layer = [list(each) for each in zip(*parts, strict=True)]
            del parts
            while by_layer:
                yield _joined(by_layer.pop(0))
            left, sizes = left[fitting:], sizes[fitting:]

    def _bytes_of_an_image(self, model: nn.Module, layers: Sequence[str | None]) -> list[int]:
        with inspection_mode(model):
            first = next(batches(self.images, model, 1), None)
            first = _none_left() if first is None else first
            rows = features_of_layers(model, layers, first, self.spatial)
        return [each[0].nbytes for each in rows]


def _none_left() -> NoReturn:
    raise argument_error("images", "none are left", "an array, or a loader that can be read again")


def _joined(parts: Sequence[Tensor]) -> NDArray[np.float64]:
    return np.asarray(torch.cat(list(parts)).double().numpy())


@attrs.frozen(eq=False)
class _Split:
    """Classes of N images, and which of them score a probe."""

    codes: NDArray[np.int64]  # (2, N): the labels, and the labels shuffled
    num_classes: int
    tested: NDArray[np.bool_]

    @property
    def majority(self) -> float:
        """Share of the tested that have the label most frequent among the others."""
        most = np.bincount(self.codes[0, ~self.tested]).argmax()
        return float((self.codes[0, self.tested] == most).mean())

    def scores(self, rows: NDArray[np.float64], num: int) -> tuple[int, float, float]:
        """Return D, and the accuracy of a probe of rows (N, D) and of its control."""
        fitted = ~self.tested
        points = _components(rows, fitted, num)
        weights = fit_classes(points[fitted], self.codes[:, fitted], self.num_classes, _RIDGE)
        predictions = np.einsum("nf,pfk->pnk", points[self.tested], weights).argmax(axis=-1)
        right, control = (predictions == self.codes[:, self.tested]).mean(axis=1)
        return rows.shape[1], float(right), float(control)


def _split(labels: NDArray[Any], held_out: float, seed: int) -> _Split:
    rng = np.random.default_rng(seed)
    distinct, codes = np.unique(labels, return_inverse=True)
    tested = rng.permutation(len(codes)) < held_out * len(codes)
    if min(tested.sum(), (~tested).sum()) < _FEWEST or len(distinct) < 2:
        problem = f"{len(codes)} images with {len(distinct)} labels are too few to be split"
        fewest = math.ceil(_FEWEST / min(held_out, 1 - held_out))
        accepted = f"{fewest} images or more, {_FEWEST} in either part, 2 labels or more"
        raise argument_error("labels", problem, accepted)
    return _Split(np.stack([codes, rng.permutation(codes)]), len(distinct), tested)


def _components(
    rows: NDArray[np.float64], fitted: NDArray[np.bool_], num: int
) -> NDArray[np.float64]:
    """Return principal components of the fitted rows, scaled, for all rows, and a constant."""
    mean, axes, squares = principal_axes(rows[fitted], num)
    points = (rows - mean) @ axes * np.sqrt(max(fitted.sum() - 1, 1) / squares)
    return np.concatenate([points, np.ones((len(rows), 1))], axis=1)
