"""Weights that are redrawn for one pass: whose they are, and that they come back."""

import pytest
import torch
from torch import Tensor, nn

from tests.helpers import live as small
from tests.helpers.images import unchanged
from visualization.live.images import ImageEngine, module_subject
from visualization.live.layer_edits import LayerEdit, edited


class Block(nn.Module):
    """A residual block as torchvision's: one module is the activation after each convolution."""

    def __init__(self, *, is_relu_first: bool) -> None:
        super().__init__()
        if is_relu_first:
            self.relu = nn.ReLU()
        self.conv1, self.bn1 = nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2)
        if not is_relu_first:
            self.relu = nn.ReLU()
        self.conv2, self.bn2 = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)

    def forward(self, images: Tensor) -> Tensor:
        """Return maps of images (B, 1, H, W)."""
        maps: Tensor = self.relu(self.bn1(self.conv1(images)))
        return torch.as_tensor(self.relu(self.bn2(self.conv2(maps)) + images))


def redrawn(model: nn.Module, layer: str) -> set[str]:
    """Return the parameters that are others in a pass for which a layer is randomised."""
    engine = ImageEngine(module_subject(model, small.samples()))
    before = {name: values.detach().clone() for name, values in model.named_parameters()}
    found: set[str] = set()

    def note(*_: object) -> None:
        found.update(n for n, p in model.named_parameters() if not torch.equal(p, before[n]))

    with unchanged(model):
        handle = model.register_forward_pre_hook(note)
        engine.forward(small.samples()[0], layer, [LayerEdit(layer=layer, kind="randomise")])
        handle.remove()
    return found


def test_a_randomised_layer_has_other_weights_for_one_pass() -> None:
    """The layer's weights are redrawn from the seed, with their mean and deviation, then back."""
    model = small.network()
    kernel = model[0].weight
    with unchanged(model):
        seen = []
        for seed in (0, 0, 1):
            with edited(model, [LayerEdit(layer="0", kind="randomise", value=seed)]):
                seen.append(kernel.detach().clone())
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], kernel)
    assert float(seen[0].std() / kernel.detach().std()) == pytest.approx(1, abs=0.5)


@pytest.mark.parametrize("is_relu_first", [False, True], ids=["as torchvision", "relu first"])
@pytest.mark.parametrize(("layer", "kernel"), [("relu@0", "conv1"), ("relu@1", "conv2")])
def test_the_last_kernel_before_a_call_is_redrawn(
    layer: str, kernel: str, is_relu_first: bool
) -> None:
    """Of a shared activation, the convolution before that call, in whatever order they are made."""
    model = Block(is_relu_first=is_relu_first)
    assert redrawn(model, layer) == {f"{kernel}.weight", f"{kernel}.bias"}


def test_a_slope_is_no_kernel() -> None:
    """A PReLU that is randomised keeps its slope, and the convolution before it is redrawn."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.PReLU(), nn.Conv2d(2, 2, 3))
    assert redrawn(model, "2") == {"0.weight", "0.bias"}


def test_a_convolution_has_its_own_kernel() -> None:
    """Without activations the layers are convolutions, of which each is redrawn itself."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3))
    assert redrawn(model, "1") == {"1.weight", "1.bias"}


def test_a_layer_without_weights_before_it_is_an_error() -> None:
    """A layer that comes first in a network is named."""
    model = nn.Sequential(nn.ReLU(), nn.Conv2d(1, 2, 3), nn.ReLU())
    with pytest.raises(ValueError, match="layer: '0' and what comes before it have no weights"):
        redrawn(model, "0")
