"""Learning curves."""

from collections.abc import Mapping, Sequence

import attrs

from visualization.core.records import brief_repr


@attrs.frozen(field_transformer=brief_repr)
class Curves:
    """Series over steps, in panels: panel title → label → (steps, values)."""

    panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]]
    logarithmic: frozenset[str] = frozenset()  # titles of the panels whose y axis is logarithmic
    x_name: str = "step"
