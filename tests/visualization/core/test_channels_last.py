"""Layers that output (B, H, W, C), as those of ConvNeXt and Swin, and tables that are no maps."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.helpers.attribution import assert_close
from visualization import conv
from visualization.core.layout import unit_axes


class Last(nn.Module):
    """A block with channels last and a table of positions, and its twin with channels first."""

    def __init__(self, last: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(1, 3, 3, padding=1)
        self.table = nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 1))
        self.wide = nn.Linear(3, 7)
        self.gelu = nn.GELU()
        self.narrow = nn.Linear(7, 3)
        self.head = nn.Linear(3, 2)
        self.register_buffer("places", torch.rand(1, 6, 6, 2))
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        """Return the answer (B, 2)."""
        bias = self.table(self.places)
        x = self.stem(x)
        if self.last:
            x = self.narrow(self.gelu(self.wide(x.permute(0, 2, 3, 1))))
            return self.head((x + bias).mean((1, 2)))
        wide = torch.einsum("bchw,dc->bdhw", x, self.wide.weight) + self.wide.bias[:, None, None]
        x = torch.einsum("bchw,dc->bdhw", self.gelu(wide), self.narrow.weight)
        x = x + self.narrow.bias[:, None, None] + bias.movedim(3, 1)
        return self.head(x.mean((2, 3)))


@pytest.fixture
def image() -> Tensor:
    """An image (1, 6, 6)."""
    return torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(1))


def test_feature_layers_are_maps_of_the_image(image: Tensor) -> None:
    """A table that is the same for all images is none, channels last are some."""
    assert conv.feature_layers(Last(True), image[0]) == ("gelu",)


def test_units_are_counted_alike_by_every_function(image: Tensor) -> None:
    """A layer of 7 units has 7 channels by name, among all layers, in patches and fields."""
    model = Last(True).eval()
    assert conv.activation(model, image, "gelu").shape == (4, 7, 6, 6)
    assert len(conv.top_patches(model, "gelu", image, threshold=-9).channels) == 7
    for layers in (None, ["gelu"]):
        found = conv.layer_activations(model, image, layers).layers
        assert [len(row.low) for row in found if row.name == "gelu"] == [7]
    assert len(conv.layer_activations(model, image, ["table.1"]).layers[0].low) == 5
    assert len(conv.compare_response(model, "gelu", image[0], ("blur", 1.0)).changes) == 7
    field = conv.receptive_field(model, "gelu", (6, 2, 3), (1, 6, 6))
    assert field.pixels[1:4, 2:5].all()
    assert field.num_numbers == 9


def test_what_is_found_is_that_of_channels_first(image: Tensor) -> None:
    """Scores, maps, edits and ascents are those of the same network with its channels first."""
    last, first = Last(True).eval(), Last(False).eval()
    assert_close(last(image), first(image), rtol=1e-4, atol=1e-5)

    def alike(function: object) -> None:
        one, other = (np.asarray(function(model)) for model in (last, first))  # type: ignore[operator]
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)

    alike(lambda m: conv.saliency(m, image, 6, target_layer="gelu"))
    alike(lambda m: conv.saliency(m, image, (6, 1, 2), target_layer="gelu"))
    alike(lambda m: conv.grad_cam(m, image, 1, cam_layer="gelu"))
    alike(lambda m: conv.ablate_channels(m, "gelu", image[0], [2, 6]).answers.after)
    maps = conv.activation(last, image, "gelu").detach()
    alike(lambda m: conv.forward_from(m, "gelu", 2 * maps, image))
    alike(lambda m: conv.maximise(m, conv.channel("gelu", 6), (1, 6, 6), steps=2).values)
    alike(
        lambda m: (
            conv.nearest_neighbours(m, "gelu", image[:1], image, k=2, spatial="mean").distances
        )
    )


def test_a_field_of_a_table_is_empty() -> None:
    """What is computed from no image sees no pixel."""
    assert conv.receptive_field(Last(True), "table.1", (4, 0, 0), (1, 6, 6)).num_numbers == 0


def test_the_axis_of_units_follows_from_the_layer_that_made_them() -> None:
    """Convolutions have their channels first, linear layers last, and what follows keeps them."""
    model = nn.ModuleDict(
        {"conv": nn.Conv2d(4, 4, 1), "linear": nn.Linear(4, 4), "norm": nn.LayerNorm([4, 4, 4]),
         "relu": nn.ReLU()}
    )  # fmt: skip
    x = torch.rand(2, 4, 4, 4)
    with unit_axes(model) as axis:
        assert axis(model["relu"], x) == 1
        assert axis(model["linear"], model["linear"](x)) == 3
        assert axis(model["relu"], x) == 3
        model["norm"](x)
        assert axis(model["relu"], x) == 3
        model["conv"](x)
        assert axis(model["relu"], x) == 1
        assert axis(model["relu"], x[0]) == 2
    assert not any(module._forward_hooks for module in model.modules())
