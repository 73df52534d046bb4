"""Networks wired by hand, numbers from seeds and canvases, for tests of maximised images."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visualization.core.registry import draw as drawn
from visualization.core.registry import png
from visualization.synthesis.figures import found  # noqa: F401 - registers the drawings
from visualization.synthesis.parametrization import ImageParam, parametrization

SHAPE = (1, 4, 5)
LINEAR = torch.randn(20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
PIXELS = ImageParam("pixel", "none")
CPU = torch.device("cpu")


class Odd(nn.Module):
    """What trips tools up: a residual, ReLUs in place and as functions, BatchNorm, reuse."""

    def __init__(self, num_channels: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(num_channels, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.twice = nn.Conv2d(6, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(6, 4)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, 4)."""
        x = self.relu(self.norm(self.stem(x)))
        y = self.twice(F.relu(self.twice(x)))
        y += x
        return self.head(self.drop(self.relu(y).mean(dim=(2, 3))))


def odd(num_channels: int = 1) -> Odd:
    """Return the odd network with random weights, in training mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Odd(num_channels)


def linear(weight: Tensor = LINEAR, shape: tuple[int, int, int] = SHAPE) -> nn.Module:
    """Return a linear neuron without bias."""
    layer = nn.Linear(weight.numel(), 1, bias=False, dtype=weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight[None])
    return nn.Sequential(nn.Flatten(), layer)


def from_seed(*shape: int, seed: int = 0) -> Tensor:
    """Return numbers from 0 to 1 that a seed gives."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def shut(relu: nn.Module, weight: float = 1.0) -> nn.Module:
    """Return a convolution and a ReLU of 2 channels, the second of which is shut in the dark."""
    conv = nn.Conv2d(1, 2, 3)
    with torch.no_grad():
        conv.weight.copy_(from_seed(2, 1, 3, 3))
        conv.weight[1] *= weight
        conv.bias.copy_(torch.tensor([0.1, -3.0]))
    return nn.Sequential(conv, relu, nn.MaxPool2d(2))


def words(record: Any) -> str:
    """Return all that is written in a record's figure, which must be drawn without warnings."""
    figure = drawn(record)
    assert png(figure, 40).startswith(b"\x89PNG")
    parts = [figure._suptitle.get_text()] if figure._suptitle else []
    for axes in figure.axes:
        parts += [axes.get_title(), axes.get_xlabel(), *(each.get_text() for each in axes.texts)]
    return "\n".join(parts)


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Return numbers from 0 to 1, exactly as often as they are asked for."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def held_in(canvas: ImageParam, shape: tuple[int, int, int]) -> Any:
    """Return a parametrization in double precision."""
    return parametrization(canvas, shape, CPU, torch.float64)
