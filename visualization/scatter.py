"""Two quantities of many samples against each other."""

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from visualization.core.records import brief_repr


@attrs.frozen(eq=False, field_transformer=brief_repr)
class Scatter:
    """A dot for each sample, with x and y (N,) and what they are, with their units."""

    title: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    names: Sequence[str]  # of x and y
