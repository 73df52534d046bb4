"""Pictures, in files and as tensors, and a net that sees them, for several test files."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from torch import Tensor, nn

RNG = np.random.default_rng(3)
PIXELS = RNG.integers(0, 256, (90, 5, 4, 3)).astype(np.uint8)


def save(path: Path, pixels: np.ndarray, **settings: object) -> Path:
    """Write a picture, and the folders that it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **settings)
    return path


class Odd(nn.Module):
    """A residual net with in-place and functional ReLU, a ReLU used twice, BatchNorm, dropout."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.side = nn.Conv2d(6, 6, 1, groups=2)
        self.deep = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, 3)."""
        x = self.relu(self.norm(self.stem(x)))
        y = F.relu(self.deep(x)) + self.side(x)
        y = self.relu(y)
        return self.head(self.drop(y).mean((2, 3)))


def odd(channels: int = 1, dtype: torch.dtype = torch.float32) -> Odd:
    """Return such a net, in training mode as it is handed over, with statistics that matter."""
    torch.manual_seed(0)
    model = Odd(channels).to(dtype)
    model(torch.randn(16, channels, 8, 8, dtype=dtype))
    return model


def pictures(num: int, channels: int = 1) -> Tensor:
    """Return images of 8 by 8 pixels."""
    return torch.randn(num, channels, 8, 8, generator=torch.Generator().manual_seed(1))


@contextlib.contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Assert that a block leaves weights, modes, hooks, gradients and the generator as they are."""
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    random = torch.get_rng_state()
    yield
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    for parameter in model.parameters():
        assert parameter.requires_grad
        assert bool((parameter.grad == 1).all())
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert "forward" not in vars(model)


def words(figure: Figure) -> str:
    """Return all that is written in a figure."""
    return "\n".join(part.get_text() for part in figure.findobj(Text))
