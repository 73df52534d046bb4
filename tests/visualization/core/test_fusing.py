"""Batch normalisation folded into convolutions."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from visualization.core.fusing import fuse_batch_norm
from visualization.core.inputs import activation


class _Residual(nn.Module):
    """Convolutions with norms, one of which is read by a sum too, and a norm that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.second, self.norm = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.both, self.apart = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.twice, self.again = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = x + self.norm(self.second(x)).relu()
        y: Tensor = self.both(x)
        y = y + self.apart(y)
        y = self.again(self.twice(self.again(self.twice(y))))
        return y.mean((2, 3))


class _Branching(nn.Module):
    """A model whose pass depends on the numbers that it gets, which cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(x))
        return y if x.sum() > 0 else -y


class _Optional(nn.Module):
    """A model with an argument that it is called without."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)
        self.other, self.last = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        y: Tensor = self.norm(self.conv(x))
        return y if skip is None else self.last(self.other(skip)) + y


class _ReadBeside(nn.Module):
    """A model that reads the weights of its convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(x))
        return y * self.conv.weight.mean()


class _Named(nn.Conv2d):
    """A convolution with the pass of torch's."""


class _Own(nn.Conv2d):
    """A convolution with a pass of its own."""

    def forward(self, input: Tensor) -> Tensor:  # torch's name  # noqa: A002
        return super().forward(input) * 2


def _parametrized() -> nn.Module:
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 2, 3))
    return nn.Sequential(conv, nn.BatchNorm2d(2))


def _own_pass() -> nn.Module:
    return nn.Sequential(_Own(1, 2, 3), nn.BatchNorm2d(2))


def _hidden() -> nn.Module:
    return nn.Sequential(_Named(1, 2, 3), nn.BatchNorm2d(2))


MODELS = [_Residual, _Branching, _Optional, _ReadBeside, _parametrized, _own_pass, _hidden]


def _trained(make: Callable[[], nn.Module]) -> tuple[nn.Module, Tensor]:
    """Return a model whose norms have means and variances of images, and the images."""
    torch.manual_seed(0)
    model, images = make(), 3 * torch.randn(6, 1, 7, 7) + 1
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    for _ in range(5):
        model(images)
    return model.eval(), images


@pytest.mark.parametrize("make", MODELS)
def test_output_and_gradients_are_the_same(make: Callable[[], nn.Module]) -> None:
    """A model with folded norms has the output, and the gradient of the images, of the original."""
    model, images = _trained(make)
    results = []
    for network in (model, fuse_batch_norm(model)):
        leaf = images.clone().requires_grad_()
        output = network(leaf)
        results.append((output.detach(), *torch.autograd.grad(output.pow(2).sum(), leaf)))
    for before, after in zip(*results, strict=True):
        torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4 * float(before.abs().max()))


@pytest.mark.parametrize(("make", "num"), [(_hidden, 0), (_Optional, 1), (_ReadBeside, 1)])
def test_layers_of_ones_own_class_are_folded(make: Callable[[], nn.Module], num: int) -> None:
    """A subclass with torch's pass is folded; what is not called, or is read beside it, is not."""
    fused = fuse_batch_norm(_trained(make)[0])
    assert sum(isinstance(module, nn.BatchNorm2d) for module in fused.modules()) == num


def test_only_what_a_norm_alone_reads_is_folded() -> None:
    """Norms of convolutions that others read, that run twice, or that are kept, stay."""
    model, _ = _trained(_Residual)
    fused = fuse_batch_norm(model, keep=["second"])
    kinds = {
        name: type(fused.get_submodule(name)) for name in ("first.1", "norm", "apart", "again")
    }
    assert kinds.pop("first.1") is nn.Identity
    assert set(kinds.values()) == {nn.BatchNorm2d}


def test_maps_after_norms_are_as_before_and_so_is_the_model() -> None:
    """The output of a folded norm is what it was; the model itself keeps its layers and mode."""
    model, images = _trained(_Residual)
    model.train()
    fused = fuse_batch_norm(model)
    assert model.training
    assert isinstance(model.get_submodule("norm"), nn.BatchNorm2d)
    model.eval()
    with torch.no_grad():
        for layer in ("first.1", "norm"):
            before, after = (activation(each, images, layer) for each in (model, fused))
            torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


def test_a_hooked_convolution_is_left_alone() -> None:
    """A layer with a hook of one's own keeps its output."""
    model, _ = _trained(_Residual)
    model.get_submodule("second").register_forward_hook(lambda *_: None)
    assert isinstance(fuse_batch_norm(model).get_submodule("norm"), nn.BatchNorm2d)


def test_the_memory_format_of_kernels_stays() -> None:
    """Kernels in channels-last format, which a pass is faster with, are so after the fold."""
    model, _ = _trained(_Residual)
    fused = fuse_batch_norm(model.to(memory_format=torch.channels_last))
    kernels = fused.get_parameter("second.weight")
    assert kernels.is_contiguous(memory_format=torch.channels_last)
    assert not kernels.is_contiguous()
