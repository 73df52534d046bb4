"""Features of a layer: how it represents each image, or each sample, as a row of numbers.

D numbers represent one of B images, or of N samples.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from visualization.core.arrays import to_numpy
from visualization.core.errors import argument_error, not_called_error, value_error
from visualization.core.inputs import (
    activation,
    at_least_float32,
    check_tensor,
    inspection_mode,
    numbered_call,
)
from visualization.core.layout import intercept_maps
from visualization.core.preserve import clone_inputs
from visualization.core.tracing import intercept_outputs

Spatial = Literal["flat", "mean"]
_ROUNDING = 1e-12  # of the largest sum of squares: components with less are noise


def features(
    model: nn.Module, layer: str | None, images: Tensor, spatial: Spatial = "flat"
) -> Tensor:
    """Features of images in a layer, as rows (B, D): each number, or the mean of each map.

    Raises:
        ValueError: `spatial` is neither flat nor mean; no such layer; or it outputs no row for
            each image.
    """
    if spatial not in ("flat", "mean"):
        raise value_error("spatial", repr(spatial), "flat, mean")
    with torch.no_grad():
        return _as_rows(activation(model, images, layer), layer, len(images), spatial)


def features_of_layers(
    model: nn.Module, layers: Sequence[str | None], images: Tensor, spatial: Spatial = "flat"
) -> list[Tensor]:
    """Features of images in several layers, as rows (B, D) each, from one pass; see `features`."""
    rows: dict[str | None, Tensor] = {}

    calls = {layer: numbered_call(model, layer) for layer in layers if layer is not None}

    def taking(call: str) -> Callable[[Any], None]:
        def take(output: Any) -> None:
            named = [layer for layer in calls if calls[layer] == call]
            output = check_tensor(output, repr(named[0]))
            taken = _as_rows(output, named[0], len(images), spatial).clone()
            rows.update(dict.fromkeys(named, taken))

        return take

    functions = {call: taking(call) for call in calls.values()}
    if None in layers:  # a whole pass
        with intercept_maps(model, functions):
            rows[None] = features(model, None, images, spatial)
    else:
        with torch.no_grad(), clone_inputs(model), intercept_maps(model, functions, stop=True):
            model(images)
    for layer in calls:
        if layer not in rows:
            raise not_called_error("layer", layer)
    return [rows[layer] for layer in layers]


def _as_rows(output: Tensor, layer: str | None, num: int, spatial: Spatial) -> Tensor:
    """Return what a layer outputs for some images as rows (B, D)."""
    if output.ndim < 1 or len(output) != num:
        problem = f"{layer or 'the model'!r} outputs {tuple(output.shape)} for {num} images"
        raise argument_error("layer", problem, "layers with a row for each image")
    pooled = output.flatten(2).mean(dim=2) if output.ndim > 2 and spatial == "mean" else output
    return at_least_float32(pooled.reshape(num, -1))


def represented_while(
    model: nn.Module, layers: Sequence[str], run: Callable[[], Any], num_samples: int
) -> dict[str, NDArray[np.float64]]:
    """Representations (N, D) of layers of any model while a function runs it on N samples.

    Of each layer its last call that puts out a row for each sample; axes between the first and the
    last (time, places) are averaged. Of recurrent layers their outputs.
    """
    rows: dict[str, NDArray[np.float64]] = {}

    def note(name: str) -> Callable[[Any], None]:
        def take(output: Any) -> None:
            values = output[0] if isinstance(output, tuple) else output
            if isinstance(values, Tensor) and values.ndim > 1 and len(values) == num_samples:
                means = values.flatten(1, -2).mean(1) if values.ndim > 2 else values
                rows[name] = to_numpy(means.double())

        return take

    with (
        inspection_mode(model),
        torch.no_grad(),
        intercept_outputs(model, {name: note(name) for name in layers}),
    ):
        run()
    return rows


def principal_axes(
    rows: NDArray[np.float64], num: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Principal component analysis of rows (N, D): the axes of most variance, at most `num`.

    Returns the mean (D,), K axes of length 1 as columns (D, K), and the sum of squares along each
    (K,), falling. They are those of the smaller product of the centred rows with themselves, (D, D)
    or (N, N). Axes along which there is nothing but rounding are left out: of equal rows all.
    """
    from scipy.linalg import eigh  # 0.2 s, not needed by every view

    mean = rows.mean(axis=0)
    if np.ptp(rows, axis=0).max() == 0:
        return mean, np.zeros((rows.shape[1], 0)), np.zeros(0)
    centred = rows - mean
    is_wide = rows.shape[1] > len(rows)
    products = centred @ centred.T if is_wide else centred.T @ centred
    last = len(products) - 1
    squares, vectors = eigh(products, subset_by_index=(max(0, last + 1 - num), last))
    squares, vectors = squares[::-1], vectors[:, ::-1]
    is_kept = squares > _ROUNDING * squares[0]
    squares, vectors = squares[is_kept], vectors[:, is_kept]
    return mean, centred.T @ vectors / np.sqrt(squares) if is_wide else vectors, squares


def as_labels(labels: ArrayLike | Tensor, num: int, name: str = "labels") -> NDArray[Any]:
    """Return a whole number or a word for each image (N,).

    Raises:
        ValueError: another shape, or numbers that are not whole.
    """
    array = to_numpy(labels)
    if array.shape != (num,) or array.dtype.kind not in "iubUO":
        problem = f"{array.dtype} of shape {array.shape} does not go with {num} images"
        raise argument_error(name, problem, "a whole number or a word for each image")
    return array
