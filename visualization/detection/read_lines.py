"""Lines that were read on a page: outlines, baselines, reading order, confidence."""

import attrs
import numpy as np
from numpy.typing import NDArray

from visualization.core.records import brief_repr


@attrs.frozen(eq=False, kw_only=True, field_transformer=brief_repr)
class ReadLines:
    """Lines on a page, in reading order.

    Attributes:
        image: the page (H, W), 0 is black and 1 is white.
        polygons: outline of each line in pixels, x and y (points, 2).
        baselines: of each line, likewise.
        confidence: of each line, from 0 to 1 (n,).
    """

    image: NDArray[np.float32]
    polygons: tuple[NDArray[np.float64], ...]
    baselines: tuple[NDArray[np.float64], ...]
    confidence: NDArray[np.float64]
