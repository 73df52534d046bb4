"""Gate saturation (Karpathy et al. 2015, 1506.02078, section 4.3)."""

from collections.abc import Mapping

import attrs
import numpy as np
from numpy.typing import NDArray

from visualization.core.earlier_names import renamed_arguments
from visualization.core.errors import argument_error, value_error
from visualization.core.records import brief_repr
from visualization.recurrent.cells import CellTrace

SIGMOID_GATES = ("i", "f", "o", "r", "z")


@attrs.frozen(eq=False, field_transformer=brief_repr)
class GateSaturation:
    """Gate saturation: for each gate the share of samples and steps (U,) at which it saturates.

    Attributes:
        left: share below `low`, in [0, 1]: a gate that is always 1 here is shut.
        right: share above `high`, in [0, 1]: a gate that is always 1 here is open.
    """

    left: Mapping[str, NDArray[np.float64]]
    right: Mapping[str, NDArray[np.float64]]
    low: float
    high: float


@renamed_arguments(row="layer_index")
def gate_saturation(
    trace: CellTrace, low: float = 0.1, high: float = 0.9, layer_index: int = 0
) -> GateSaturation:
    """Gate saturation: how often each sigmoid gate of each unit is left- or right-saturated.

    Args:
        trace: of an LSTM (gates i, f, o) or a GRU (r, z).
        low: a gate below this is left-saturated.
        high: a gate above this is right-saturated.
        layer_index: layer and direction, as in `CellTrace`.

    Raises:
        ValueError: the layer has no gates or no such row, or not 0 ≤ low < high ≤ 1.
    """
    if not 0 <= low < high <= 1:
        raise argument_error("low, high", f"{low}, {high}", "0 <= low < high <= 1")
    if not 0 <= layer_index < len(trace.h):
        raise value_error("layer_index", layer_index, f"0 to {len(trace.h) - 1}")
    gates = {name: trace.gates[name][layer_index] for name in SIGMOID_GATES if name in trace.gates}
    if not gates:
        raise argument_error("trace", f"a layer of kind {trace.kind} has no gates", "lstm, gru")
    shares = {
        name: [saturated.double().mean((0, 1)).cpu().numpy() for saturated in (g < low, g > high)]
        for name, g in gates.items()
    }
    left = {name: pair[0] for name, pair in shares.items()}
    return GateSaturation(left, {name: pair[1] for name, pair in shares.items()}, low, high)
