"""Models and images that are explained, and the methods with options that take a moment."""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visualization.attribution.masking import occlusion_map, rise
from visualization.attribution.methods import METHODS

DOUBLE = torch.float64
SMALL = {  # options with which each method takes a moment
    "smooth_grad": {"num_samples": 6}, "integrated_gradients": {"num_steps": 4},
    "rise": {"num_masks": 40, "grid": 4},
}  # fmt: skip
PUBLIC: dict[str, Callable[..., Tensor]] = METHODS | {"occlusion": occlusion_map, "rise": rise}
QUICK = {name: functools.partial(f, **SMALL.get(name, {})) for name, f in PUBLIC.items()}
assert_close = functools.partial(torch.testing.assert_close, rtol=1e-6, atol=1e-10)


class Odd(nn.Module):
    """Has BatchNorm, a residual branch, additions and ReLUs in place, and a ReLU used twice."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.a = nn.Conv2d(6, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return the answer (B, 4)."""
        x -= 0.1  # in place, of what it was given
        x = self.relu(self.norm(self.stem(x)))
        y = F.max_pool2d(self.relu(self.a(x)), 2)
        y += F.avg_pool2d(x, 2)
        y = F.relu(y - 0.2, inplace=True)
        return self.head(self.drop(self.pool(y).flatten(1)))


class Cubes(nn.Module):
    """Σ x³, and a second class that is always 0."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("three", torch.tensor(3, dtype=DOUBLE))

    def forward(self, x: Tensor) -> Tensor:
        """Return the answer (B, 2)."""
        cubes = (x**self.three).flatten(1).sum(dim=1)
        return torch.stack([cubes, 0 * cubes], dim=1)


def odd(channels: int = 1) -> Odd:
    """Return an odd model in training mode, with gradients held."""
    torch.manual_seed(3)
    model = Odd(channels).to(DOUBLE)
    with torch.no_grad():
        model.norm.running_mean.normal_()
        model.norm.running_var.uniform_(0.5, 2)
        model.norm.weight.uniform_(0.5, 2)
        model.norm.bias.normal_()
        answers = model.eval()(3 * pictures(30, channels))
        model.head.bias -= answers.mean(dim=0)  # so that images differ in their largest class
    model.train()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    return model


def linear(channels: int = 2, size: int = 4) -> tuple[nn.Module, Tensor]:
    """Return a linear model of 3 classes, with a bias, and its weights (3, C, H, W)."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(channels * size * size, 3)).to(DOUBLE)
    return model, model[1].weight.detach().view(3, channels, size, size)


def pictures(num: int = 3, channels: int = 1, size: int = 8) -> Tensor:
    """Return random images (B, C, H, W)."""
    source = torch.Generator().manual_seed(1)
    return torch.randn(num, channels, size, size, generator=source, dtype=DOUBLE)
