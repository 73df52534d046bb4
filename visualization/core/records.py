"""Short repr of records that hold arrays."""

import reprlib
from typing import Any

import attrs
from numpy.typing import NDArray
from torch import Tensor

from visualization.core import earlier_fields


class _Brief(reprlib.Repr):
    """Writes arrays as their shapes, and of long texts and collections what comes first."""

    def repr_ndarray(self, array: NDArray[Any], _: int) -> str:
        """Return the dtype of an array and its shape."""
        return f"<{array.dtype} {array.shape}>"

    def repr_Tensor(self, tensor: Tensor, _: int) -> str:  # noqa: N802 # named as the type is
        """Return the dtype of a tensor, its shape, and its device."""
        return f"<{tensor.dtype} {tuple(tensor.shape)} on {tensor.device}>"


_BRIEF = _Brief()
_BRIEF.maxlevel, _BRIEF.maxstring, _BRIEF.maxother = 3, 60, 80
_BRIEF.maxtuple = _BRIEF.maxlist = _BRIEF.maxdict = 4


def brief_repr(cls: type, fields: "list[attrs.Attribute[Any]]") -> "list[attrs.Attribute[Any]]":
    """Print a record in few words, however large its arrays: a `field_transformer`.

    It can also be made and read by the earlier names of its fields.

    >>> import numpy as np
    >>> @attrs.frozen(field_transformer=brief_repr)
    ... class Map:
    ...     layer: str
    ...     values: NDArray[Any]
    >>> Map("conv", np.zeros((100, 100)))
    Map(layer='conv', values=<float64 (100, 100)>)
    """
    earlier_fields.adopt(cls, [field.name for field in fields])
    return [field.evolve(repr=_BRIEF.repr) if field.repr is True else field for field in fields]
