"""Array conversion and checks: values per sample, time step and unit."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from visualization.core.errors import argument_error, value_error
from visualization.core.inputs import as_record


def to_numpy(values: ArrayLike | Tensor) -> NDArray[Any]:
    """Return values as an array; a tensor without its graph, on the CPU, in a type numpy has."""
    return np.asarray(as_record(values).numpy() if isinstance(values, Tensor) else values)


def as_array(
    values: ArrayLike | Tensor, name: str, axes: Sequence[str], *, finite: bool = False
) -> NDArray[Any]:
    """Array with one axis for each name in `axes`, from a tensor or anything that numpy takes.

    Raises:
        ValueError: another number of axes, or one of length 0; with `finite`, NaN or inf.
    """
    array = to_numpy(values)
    if array.ndim != len(axes) or 0 in array.shape:
        raise value_error(name, f"shape {array.shape}", f"({', '.join(axes)}), none of them 0")
    if finite and array.dtype.kind == "f" and not np.isfinite(array).all():
        first = tuple(map(int, np.argwhere(~np.isfinite(array))[0]))
        where = ", ".join(f"{axis} {index}" for axis, index in zip(axes, first, strict=True))
        raise argument_error(name, f"{array[first]} at {where}", "finite numbers")
    return array


def check_shape(name: str, shape: Sequence[int], expected: Sequence[int], like: str) -> None:
    """Raise a ValueError unless a shape is the one that goes with `like`."""
    if tuple(shape) != tuple(expected):
        problem = f"shape {tuple(shape)} does not go with {like}"
        raise argument_error(name, problem, tuple(expected))


def check_quantity(name: str, values: NDArray[Any]) -> None:
    """Raise a ValueError unless values are categories (integers, booleans) or numbers, NaN too."""
    if values.dtype.kind not in "biuf":
        problem = f"values of type {values.dtype} are not accepted"
        raise argument_error(name, problem, "integers, booleans, floats")
    if values.dtype.kind == "f" and np.isinf(values).any():
        raise value_error(name, "inf", "numbers, or NaN")


def derangement(num: int, seed: int) -> NDArray[np.int64]:
    """Derangement: a random permutation of `num` ≥ 2 that leaves nothing in its place."""
    ring = np.random.default_rng(seed).permutation(num)
    order = np.empty(num, np.int64)
    order[ring] = np.roll(ring, 1)
    return order


def unit_deviations(values: NDArray[Any]) -> NDArray[np.float64]:
    """Standard deviation of each unit (U,), over all axes of values (…, U) but the last."""
    flat = values.reshape(-1, values.shape[-1]).astype(np.float64)
    return np.asarray(flat.std(axis=0))
