"""A model whose loss is quadratic, and states of models that lie apart."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visualization.model.landscape import Loss


def linear() -> tuple[nn.Linear, Loss]:
    """Return a linear model and its squared error: a quadratic function of the parameters."""
    torch.manual_seed(0)
    model = nn.Linear(5, 3, dtype=torch.float64)
    x, y = torch.randn(20, 5, dtype=torch.float64), torch.randn(20, 3, dtype=torch.float64)
    return model, lambda held: F.mse_loss(held(x), y)


def copied(model: nn.Module, shift: float = 0.0) -> dict[str, Tensor]:
    """Return a state dict of its own, moved by random numbers of a size."""
    generator = torch.Generator().manual_seed(7)
    return {
        name: value.clone() + shift * torch.randn(value.shape, generator=generator).to(value)
        if value.is_floating_point()
        else value.clone()
        for name, value in model.state_dict().items()
    }
