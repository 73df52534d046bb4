"""Small models, images and checks that tests of feature maps, fields and patterns share."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visualization.core.inputs import activation
from visualization.feature_maps.fields.patches import TopPatches
from visualization.perturbation.minimal import MinimalPatch


class Does(nn.Module):
    """Calls a function with its input and the modules that it holds."""

    def __init__(self, function: Callable[..., Tensor], *modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.held = nn.ModuleList(modules)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the function returns."""
        return self.function(x, *self.held)


class Odd(nn.Module):
    """Residual, with BatchNorm, a ReLU in place that runs twice, and one that is a function."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.inner = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Return the answer (B, 5)."""
        x = self.relu(self.norm(self.stem(x)))
        y = self.inner(x)
        y += x
        return self.head(F.relu(self.relu(y) - 0.1).mean((2, 3)))


def odd(channels: int = 1) -> Odd:
    """Return the odd network with statistics of its own, in training mode."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = Odd(channels)
        model(torch.randn(8, channels, 8, 8))
    return model


@contextlib.contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Hold that a block leaves a model, the generators and the kernels as they were."""

    def state() -> list[Any]:
        modules = list(model.modules())
        grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
        values = {name: value.clone() for name, value in model.state_dict().items()}
        backends = torch.backends
        return [
            [values, grads, torch.get_rng_state(), np.random.get_state()[1].copy()],  # noqa: NPY002
            [(m.training, len(m._forward_hooks), len(m._backward_hooks)) for m in modules],
            [p.requires_grad for p in model.parameters()],
            [sorted(vars(module)) for module in modules],
            [backends.mkldnn.enabled, backends.cudnn.enabled, torch.is_grad_enabled()],
        ]

    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = state()
    try:
        yield
    finally:
        after = state()
        torch.testing.assert_close(after[0], before[0], rtol=0, atol=0)
        assert after[1:] == before[1:]


def chain(*modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(*modules)


def conv(*sizes: int, **settings: Any) -> nn.Conv2d:
    return nn.Conv2d(*sizes, **settings)


def normed_by_channel(x: Tensor, inner: nn.Module, wide: nn.Module, last: nn.Module) -> Tensor:
    """Return a block of the kind that keeps channels last."""
    y = F.layer_norm(inner(x).permute(0, 2, 3, 1), (4,))
    return last(F.gelu(wide(y)).permute(0, 3, 1, 2))


ARRAYS = ("channels", "image", "row", "column", "value", "patches", "inside")


def same(a: TopPatches, b: TopPatches) -> None:
    """Hold that two records are equal to the bit."""
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), name)


def counting(channels: int = 1, seed: int = 0) -> nn.Sequential:
    """Return a network of small whole numbers, whose sums are exact and whose ties are many."""
    model = nn.Sequential(
        nn.Conv2d(channels, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 4, 2, stride=2), nn.ReLU()
    )
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        drawn = torch.randint(-1, 2, parameter.shape, generator=generator)
        parameter.data = drawn.float()
    return model


def whole(num: int, *shape: int, seed: int = 0) -> Tensor:
    """Return images of zeros, ones and twos."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 3, (num, *shape), generator=generator).float()


class Residual(nn.Module):
    """A small net with all that is odd: a shortcut, ReLUs in place and functional, one used twice.

    Its BatchNorm is handed over in training mode.
    """

    def __init__(self, channels: int = 1, classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.inner = nn.Conv2d(4, 4, 3, padding=1)
        self.down = nn.Conv2d(4, 6, 2, stride=2)
        self.head = nn.Linear(6, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, classes)."""
        held = self.relu(self.norm(self.stem(images)))
        inside = self.inner(held)
        inside += held
        return self.head(F.relu(self.down(self.relu(inside))).mean((2, 3)))


def residual(channels: int = 1, seed: int = 0, dtype: torch.dtype = torch.float32) -> Residual:
    """Return the odd net with random weights and statistics."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = Residual(channels).to(dtype)
        net.norm.running_mean.normal_(0, 0.2)
        net.norm.running_var.uniform_(0.5, 1.5)
    return net.train()


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return random images with values from 0 to 1."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def state(model: nn.Module) -> tuple[Any, ...]:
    """Return all that looking may not change, as values that can be compared."""
    tensors = {name: value.numpy().tobytes() for name, value in model.state_dict().items()}
    hooks = [len(module._forward_hooks) for module in model.modules()]
    modes = [module.training for module in model.modules()]
    grads = [None if p.grad is None else p.grad.numpy().tobytes() for p in model.parameters()]
    asking = [p.requires_grad for p in model.parameters()]
    own = "forward" in vars(model)
    return tensors, hooks, modes, grads, asking, own, torch.get_rng_state().numpy().tobytes()


def give_gradients(model: nn.Module) -> None:
    """Give each parameter a gradient of its own, and let only every second one ask for more."""
    for number, parameter in enumerate(model.parameters()):
        parameter.grad = torch.full_like(parameter, float(number))
        parameter.requires_grad_(number % 2 == 0)


@contextlib.contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Give a model gradients, and demand that a block leaves it and the generators alone."""
    give_gradients(model)
    before = state(model)
    try:
        yield
    finally:
        assert state(model) == before


class BrokenError(RuntimeError):
    """What a model throws after some passes."""


@contextlib.contextmanager
def breaking(model: nn.Module, passes: int) -> Iterator[None]:
    """Let a model fail from within after some passes; the hook that does it comes off again."""
    left = [passes]

    def count(*_: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise BrokenError

    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    handle = first.register_forward_pre_hook(count)
    try:
        yield
    finally:
        handle.remove()


def plain(model: nn.Module, images: Tensor, layer: str | None, unit: tuple[int, ...]) -> Tensor:
    """Return a unit's activations (B,), in evaluation mode and with no help but the trace's."""
    modes = {module: module.training for module in model.modules()}
    with torch.no_grad():
        output = activation(model.eval(), images.clone(), layer)
    for module, mode in modes.items():
        module.training = mode
    return output[(slice(None), *unit)]


def excite(
    model: Residual, layer: str | None, unit: tuple[int, ...], image: Tensor, other: Tensor
) -> None:
    """Change a last layer so that a unit is at 0 for one image and above 0 for another."""
    last = {"down": model.down, "inner": model.inner, None: model.head}[layer]
    with torch.no_grad():
        last.bias -= plain(model, other[None], layer, unit)
        sign = plain(model, image[None], layer, unit).sign()
        last.weight *= sign
        last.bias *= sign


def removals(model: nn.Module, found: MinimalPatch, other: Tensor) -> Tensor:
    """Return the activations when one more square of a patch is replaced, in a plain loop."""
    block = found.block
    side = -(-found.mask.shape[1] // block)
    rows, columns = found.mask.nonzero()
    values = []
    for number in set((rows // block * side + columns // block).tolist()):
        mask = found.mask.copy()
        row, column = number // side * block, number % side * block
        mask[row : row + block, column : column + block] = False
        shown = torch.where(torch.as_tensor(mask), torch.as_tensor(found.image), other)
        values.append(plain(model, shown[None], found.layer, found.unit)[0])
    return torch.stack(values)
