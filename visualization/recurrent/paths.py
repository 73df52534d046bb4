"""State trajectories in principal components."""

from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from visualization.core.arrays import as_array, check_quantity, check_shape
from visualization.core.errors import value_error
from visualization.core.records import brief_repr


@attrs.frozen(eq=False, field_transformer=brief_repr)
class StatePaths:
    """State trajectories of N samples over T steps in K principal components.

    Attributes:
        points: (N, T, K), in units of activity, centred.
        explained: share of the variance that each component has (K,), falling.
        quantity: name of what colours the points.
        colors: its values (N, T): integers are categories (negative: undefined), others are
            numbers (NaN: undefined).
    """

    points: NDArray[np.float64]
    explained: NDArray[np.float64]
    quantity: str
    colors: NDArray[Any]


def state_paths(
    states: ArrayLike | Tensor, quantity: str, colors: ArrayLike, num_components: int = 2
) -> StatePaths:
    """State trajectories (sample, time, unit) projected onto their first principal components.

    Args:
        states: such as `trace.state()`.
        quantity: name of what colours the points.
        colors: its values (sample, time), or (sample,) for what holds at every step. Integers and
            booleans are categories (negative: undefined), floats are numbers (NaN: undefined).
        num_components: 1 or more. The sign of each is chosen so that its largest weight is
            positive, so that the picture is the same on every machine.

    Raises:
        ValueError: names the argument that does not fit.
    """
    array = as_array(states, "states", ("sample", "time", "unit"), finite=True).astype(np.float64)
    if not 1 <= num_components <= array.shape[2]:
        raise value_error("num_components", num_components, f"1 to the {array.shape[2]} units")
    color_values = np.asarray(colors)
    if color_values.ndim == 1:
        color_values = np.repeat(color_values[:, None], array.shape[1], axis=1)
    check_shape("colors", color_values.shape, array.shape[:2], "states")
    check_quantity("colors", color_values)
    flat = array.reshape(-1, array.shape[-1])
    flat = flat - flat.mean(axis=0)
    variances, axes = np.linalg.eigh(flat.T @ flat / len(flat))
    components = axes[:, ::-1][:, :num_components]
    components = components * np.sign(
        components[np.abs(components).argmax(axis=0), np.arange(num_components)]
    )
    total = variances.sum()
    shares = variances[::-1][:num_components] / (total if total > 0 else 1.0)
    points = (flat @ components).reshape(*array.shape[:2], num_components)
    return StatePaths(points, shares, quantity, color_values)
