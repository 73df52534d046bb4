"""Learning curves."""

from collections.abc import Mapping, Sequence

import attrs


@attrs.frozen
class Curves:
    """Series over training steps, in panels: panel title → label → (steps, values)."""

    panels: Mapping[str, Mapping[str, tuple[Sequence[int], Sequence[float]]]]
    logarithmic: frozenset[str] = frozenset()  # titles of the panels whose y axis is logarithmic
