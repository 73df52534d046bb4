"""Earlier names of record fields: they are what they are now, with a DeprecationWarning."""

import warnings
from collections.abc import Iterable
from typing import Any

from visualization.core.earlier_names import renamed_arguments

_FIELDS = """
ActivationPatching: donated=adopted all_units=full_state places=positions
Answer: figure=measurement
Attack: before=prediction after=adversarial_prediction confidence_before=confidence
    confidence_after=adversarial_confidence flat=zero_gradient eligible=attackable
    accuracy_before=clean_accuracy accuracy_after=adversarial_accuracy
CellTrace: row_name=layer_name
Crop: place=origin
FieldBoxes: at=box_at
FieldTransplant: place=target_unit of_source=source_activation before=target_activation
    after=composite_activation hulls=boxes
LandscapePlane: outside=residual
LayerHeatmap: reads=input_symbols writes=output_symbols facts=unit_notes
LayerValues: on=active_share zeros=zero_share rare=rarely_active always_on=always_active
Matches: found=matches
MaximisedImages: real=dataset_examples
MinimalPerturbation: before=prediction after=adversarial_prediction
    confidence_before=confidence confidence_after=adversarial_confidence eligible=attackable
Panel: places=marks
ReceptiveField: hull=bounding_box
Solution: found=result
UnitRanking: touched=share_changed
"""


def _fields() -> dict[str, dict[str, str]]:
    """Return class → earlier name of a field or method → name of today."""
    table: dict[str, dict[str, str]] = {}
    names: dict[str, str] = {}
    for word in _FIELDS.split():
        if word.endswith(":"):
            names = table.setdefault(word[:-1], {})
        else:
            old, _, new = word.partition("=")
            names[old] = new
    return table


FIELDS = _fields()


class _Constructor:
    """Lets a class be called with earlier names, as soon as attrs has written its `__init__`."""

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names

    def __set_name__(self, owner: type, _: str) -> None:
        """Replace the `__init__` of a class that has just been made."""
        owner.__init__ = renamed_arguments(**self._names)(owner.__init__)  # type: ignore[misc]


def adopt(cls: type, fields: Iterable[str]) -> None:
    """Let a record be made by the earlier names of its fields, and read by those of methods too."""
    names = FIELDS.get(cls.__name__)
    if names is None or not cls.__module__.startswith("visualization."):
        return

    def find(self: Any, name: str) -> Any:
        new = names.get(name)
        if new is None:
            message = f"{type(self).__name__!r} object has no attribute {name!r}"
            raise AttributeError(message, name=name, obj=self)
        place = f"{type(self).__name__}.{name}"
        warnings.warn(f"{place} is now .{new}", DeprecationWarning, stacklevel=2)
        return getattr(self, new)

    cls.__getattr__ = find  # type: ignore[attr-defined]
    own = set(fields)
    constructor = _Constructor({old: new for old, new in names.items() if new in own})
    cls.__earlier_fields__ = constructor  # type: ignore[attr-defined]
