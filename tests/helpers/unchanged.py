"""What reading a model must leave as it was."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn


def left_alone(model: nn.Module, x: np.ndarray) -> Callable[[], None]:
    """Give the head a gradient; return what asserts that model, images and generator stay so."""
    given, state = x.copy(), {name: value.clone() for name, value in model.state_dict().items()}
    model.head.weight.grad = torch.ones_like(model.head.weight)
    random = torch.get_rng_state()

    def demand_same() -> None:
        np.testing.assert_array_equal(x, given)
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
        assert all(module.training for module in model.modules())
        assert all(parameter.requires_grad for parameter in model.parameters())
        assert (model.head.weight.grad == 1).all()
        assert model.conv.weight.grad is None
        assert not any(module._forward_hooks for module in model.modules())
        assert torch.equal(torch.get_rng_state(), random)

    return demand_same
