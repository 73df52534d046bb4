"""How far weights moved in training: the distance of each layer's from the first snapshot."""

from collections.abc import Mapping

import torch
from torch import Tensor

from visualization.core.errors import argument_error
from visualization.records import Curves

_TITLE = "distance of the weights from the first snapshot (share of their norm there)"


def weight_movement(states: Mapping[int, Mapping[str, Tensor]]) -> Curves:
    """Weight movement: ‖w(t) − w(0)‖ / ‖w(0)‖ of each parameter with two axes or more, over steps.

    Args:
        states: a state dict by step, two or more, such as an agent's weight snapshots.

    Raises:
        ValueError: there are fewer than two.
    """
    if len(states) < 2:
        raise argument_error("states", f"{len(states)} are not accepted", "two or more")
    steps = sorted(states)
    first = states[steps[0]]
    lines = {}
    for name, start in first.items():
        if start.ndim >= 2 and start.is_floating_point():
            norm = float(torch.linalg.vector_norm(start.double())) or 1.0
            distances = [
                float(torch.linalg.vector_norm(states[step][name].double() - start.double())) / norm
                for step in steps
            ]
            lines[name] = ([float(step) for step in steps], distances)
    return Curves({_TITLE: lines})
