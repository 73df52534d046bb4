"""Models and images that are attacked."""

import functools
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

FREE = {"low": -np.inf, "high": np.inf}


class Odd(nn.Module):
    """A residual net: in-place ReLU, batch norm, a module used twice, a functional ReLU."""

    def __init__(self, channels: int, num_classes: int = 4) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.shared = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(6, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        x = self.relu(self.norm(self.first(x)))
        y = F.relu(self.shared(x))
        z = self.shared(y)
        z += y
        return self.head(self.drop(self.relu(x + z)).mean(dim=(2, 3)))


class Logits(nn.Module):
    """Two logits, 0 and what a function makes of images."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, 2)."""
        found = self.function(x)
        return torch.stack([torch.zeros_like(found), found], dim=1)


def linear(num_classes: int = 2, size: int = 4, seed: int = 0) -> nn.Sequential:
    """Return a linear model of images (2, size, size)."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(2 * size * size, num_classes))


def images(num: int = 6, channels: int = 2, size: int = 4, seed: int = 0) -> Tensor:
    """Return images within 0 and 1, some pixels at either end."""
    generator = torch.Generator().manual_seed(seed)
    return (1.4 * torch.rand(num, channels, size, size, generator=generator) - 0.2).clamp(0, 1)


def difference(model: nn.Sequential) -> Tensor:
    """Return the row of class 1 minus the row of class 0, as an image."""
    return (model[1].weight[1] - model[1].weight[0]).detach().view(2, 4, 4)


def up_and_down(model: nn.Module, x: Tensor) -> Tensor:
    """Return for each image 1 where answering class 1 would be new, else −1 (B, 1, 1, 1)."""
    with torch.no_grad():
        return 1.0 - 2.0 * model(x).argmax(dim=1)[:, None, None, None]


@functools.cache
def digits() -> tuple[nn.Module, Tensor, Tensor]:
    """Return a small net that was trained on the bundled scans, and scans it has not seen."""
    from sklearn.datasets import load_digits

    found = load_digits()
    x = torch.tensor(found.images[:, None] / 16, dtype=torch.float32)
    y = torch.tensor(found.target)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(8):
        for rows in torch.randperm(1400).split(50):
            optimiser.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimiser.step()
    return model.eval(), x[1400:1520], y[1400:1520]
