"""Array conversion and checks: values per sample, time step and unit."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from visualization.core.errors import argument_error, value_error


def as_array(
    values: ArrayLike | Tensor, name: str, axes: Sequence[str], *, finite: bool = False
) -> NDArray[Any]:
    """Array with one axis for each name in `axes`, from a tensor or anything that numpy takes.

    Raises:
        ValueError: another number of axes, or one of length 0; with `finite`, NaN or inf.
    """
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
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


def unit_deviations(values: NDArray[Any]) -> NDArray[np.float64]:
    """Standard deviation of each unit (U,), over all axes of values (…, U) but the last."""
    flat = values.reshape(-1, values.shape[-1]).astype(np.float64)
    return np.asarray(flat.std(axis=0))
