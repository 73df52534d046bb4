"""Each unit's activity on the characters that it reads and writes (Karpathy et al. 1506.02078)."""

from collections.abc import Mapping

import attrs
import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.float64] | NDArray[np.str_]


@attrs.frozen(eq=False)
class OverlayPart:
    """One recurrent layer over a set of samples: S samples, T time steps, U units.

    Attributes:
        name: such as `encoder`.
        quantities: what can be shown, in the order of interest: name, such as `c` or `i`, to
            values (S, T, U).
        reads: the character that is read at each step (S, T); a newline is padding.
        writes: the character that is written at each step (S, T), if any is.
        facts: what is known of each unit, by a name that a person reads: numbers or words (U,).
    """

    name: str
    quantities: Mapping[str, NDArray[np.float32]]
    reads: NDArray[np.str_]
    writes: NDArray[np.str_] | None
    facts: Mapping[str, Column]


@attrs.frozen(eq=False)
class Overlay:
    """The layers of one agent over the same samples; `labels` and `right` have one entry a sample.

    Attributes:
        unit_threshold: least standard deviation, as a share of the layer's largest, of the units
            that are shown at first.
    """

    title: str
    parts: tuple[OverlayPart, ...]
    labels: tuple[str, ...]  # such as `123+45+6 = 174`
    right: NDArray[np.bool_]
    unit_threshold: float = 0.05
