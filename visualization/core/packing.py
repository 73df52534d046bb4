"""Tensors in nested containers, as `torch.utils._pytree` has them.

Tensors, mappings, lists, tuples (named ones and packed sequences too) and dataclasses are looked
into; anything else is passed on as it is.
"""

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor


def map_tensors(packed: Any, change: Callable[[Tensor], Any]) -> Any:
    """Tree map: the same containers with each tensor in them changed."""
    if isinstance(packed, Tensor):
        return change(packed)
    if isinstance(packed, Mapping):
        mapping: Any = copy.copy(packed)
        for key, value in packed.items():
            mapping[key] = map_tensors(value, change)
        return mapping
    if isinstance(packed, (list, tuple)):
        kind = type(packed)
        make = getattr(kind, "_make", kind)  # of named tuples, whatever their subclasses take
        return make([map_tensors(value, change) for value in packed])
    if dataclasses.is_dataclass(packed) and not isinstance(packed, type):
        changed = copy.copy(packed)
        for field in dataclasses.fields(packed):
            value = map_tensors(getattr(packed, field.name), change)
            object.__setattr__(changed, field.name, value)  # for frozen ones
        return changed
    return packed


def flatten_tensors(packed: Any) -> list[Tensor]:
    """Tensors in nested containers, in order."""
    members: list[Tensor] = []
    map_tensors(packed, members.append)
    return members
