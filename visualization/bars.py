"""Named numbers beside each other."""

from collections.abc import Collection, Mapping

import attrs

from visualization.core.records import brief_repr


@attrs.frozen(field_transformer=brief_repr)
class Bars:
    """Panels of bars: panel title with its unit → name → value, all ≥ 0."""

    panels: Mapping[str, Mapping[str, float]]
    marked: Collection[str] = ()  # names in another colour
    digits: int = 0  # after the decimal point
