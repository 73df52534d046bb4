"""The masks of receptive fields, against one NaN after the other."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from tests.helpers.small_models import Does, chain, conv, normed_by_channel, odd
from visualization.feature_maps.fields.geometry import FieldBox
from visualization.feature_maps.fields.receptive import receptive_field, receptive_fields

Shape = tuple[int, int, int]


def brute(model: nn.Module, unit: tuple[int, ...], shape: Shape) -> NDArray[np.bool_]:
    """Return which numbers of an image make a unit NaN, one after the other, by plain sums."""
    num = math.prod(shape)
    image = torch.randn(num, generator=torch.Generator().manual_seed(3)).double()
    images = image.repeat(num, 1)  # fp64 convolutions are sums: oneDNN has no others
    images[range(num), range(num)] = torch.nan
    with torch.no_grad():
        output = model.double().eval()(images.view(num, *shape))[(slice(None), *unit)]
    model.float()
    return output.isnan().view(shape).numpy()


def squeezed(x: Tensor, inner: nn.Module, gate: nn.Module) -> Tensor:
    """Return maps scaled by what their means say."""
    y = inner(x)
    return y * torch.sigmoid(gate(F.adaptive_avg_pool2d(y, 1)))


def attended(x: Tensor, inner: nn.Module) -> Tensor:
    """Return maps whose places look at each other."""
    tokens = inner(x).flatten(2).transpose(1, 2)
    mixed = (tokens @ tokens.transpose(1, 2)).softmax(-1) @ tokens
    return mixed.transpose(1, 2).reshape(len(x), 2, 4, 4)


def shuffled(x: Tensor, first: nn.Module, second: nn.Module) -> Tensor:
    """Return grouped convolutions with a shuffle of channels between them."""
    y = first(x).view(-1, 2, 2, 8, 8).transpose(1, 2)
    return second(y.reshape(-1, 4, 8, 8))


def windowed(x: Tensor, inner: nn.Module) -> Tensor:
    """Return a layer over the numbers of each window, after the windows were moved."""
    parts = x.roll((-1, -1), (2, 3)).view(-1, 1, 2, 3, 2, 3).permute(0, 2, 4, 1, 3, 5)
    return inner(parts.flatten(3)).permute(0, 3, 1, 2)


GRAPHS: dict[str, tuple[Callable[[], nn.Module], Shape]] = {
    "dilated and strided": (
        lambda: chain(conv(2, 3, 3, dilation=2, padding=1), nn.ReLU(True), conv(3, 3, 3, stride=2)),
        (2, 13, 13),
    ),
    "groups": (
        lambda: chain(conv(4, 8, 3, groups=4, padding=1), nn.SiLU(), conv(8, 4, 3, groups=2)),
        (4, 9, 9),
    ),
    "ceiling": (
        lambda: chain(conv(1, 2, 3), nn.MaxPool2d(3, 2, 1, ceil_mode=True), conv(2, 2, 2)),
        (1, 11, 11),
    ),
    "dilated pool": (
        lambda: chain(nn.MaxPool2d(2, 1, dilation=2), nn.AvgPool2d(3, 2, 1, ceil_mode=True)),
        (1, 10, 11),
    ),
    "transposed, with holes": (
        lambda: chain(conv(1, 2, 3, stride=2), nn.ConvTranspose2d(2, 3, 3, 2, 1, dilation=2)),
        (1, 11, 11),
    ),
    "transposed, in groups": (
        lambda: nn.ConvTranspose2d(4, 6, 3, 3, output_padding=1, groups=2), (4, 5, 5)
    ),
    "adaptive mean": (
        lambda: chain(conv(1, 2, 3), nn.AdaptiveAvgPool2d((3, 4)), conv(2, 2, 2)), (1, 9, 12)
    ),
    "adaptive maximum": (
        lambda: chain(conv(1, 2, 3), nn.AdaptiveMaxPool2d((3, 4)), conv(2, 2, 2)), (1, 9, 12)
    ),
    "squeeze and excite": (lambda: Does(squeezed, conv(2, 3, 3), conv(3, 3, 1)), (2, 8, 8)),
    "nearest": (
        lambda: chain(conv(1, 2, 3), nn.Upsample(scale_factor=1.7), conv(2, 1, 3)), (1, 9, 9)
    ),
    "bilinear": (
        lambda: chain(nn.Upsample(scale_factor=2, mode="bilinear"), conv(2, 1, 3)), (2, 7, 7)
    ),
    "bicubic": (lambda: nn.Upsample((11, 13), mode="bicubic", align_corners=True), (1, 9, 9)),
    "mirrors": (
        lambda: chain(
            conv(1, 2, 3, padding=2, padding_mode="reflect"),
            conv(2, 2, 3, padding=1, padding_mode="replicate"),
        ),
        (1, 9, 9),
    ),
    "not known: circular": (
        lambda: chain(conv(1, 2, 3, padding=1, padding_mode="circular"), conv(2, 2, 3)), (1, 8, 9)
    ),
    "not known: smoothed": (
        lambda: Does(lambda x: F.interpolate(x, (5, 6), mode="bilinear", antialias=True)), (1, 9, 9)
    ),
    "padding": (
        lambda: Does(lambda x, c: c(F.pad(x, (-1, 3, 2, 0))), conv(1, 2, 3)), (1, 7, 8)
    ),
    "pixel shuffle": (lambda: chain(conv(1, 8, 3), nn.PixelShuffle(2), conv(2, 2, 3)), (1, 8, 8)),
    "pixel unshuffle": (lambda: chain(nn.PixelUnshuffle(3), conv(9, 2, 2)), (1, 9, 9)),
    "slices": (lambda: Does(lambda x, c: c(x[:, :, -6:, 1::2]), conv(1, 2, 3)), (1, 9, 9)),
    "concatenation": (
        lambda: Does(
            lambda x, a, b: b(torch.cat([torch.ones_like(x), a(x), x], 1)),
            conv(2, 2, 3, padding=1), conv(6, 3, 1, groups=3),
        ),
        (2, 7, 7),
    ),
    "split": (
        lambda: Does(lambda x, a: torch.cat([a(p) for p in x.chunk(2, 1)][::-1], 1), conv(2, 2, 3)),
        (4, 6, 6),
    ),
    "channel shuffle": (
        lambda: Does(shuffled, conv(4, 4, 3, groups=2, padding=1), conv(4, 4, 3, groups=2)),
        (4, 8, 8),
    ),
    "instance norm": (lambda: chain(conv(2, 4, 3, groups=2), nn.InstanceNorm2d(4)), (2, 8, 8)),
    "group norm": (lambda: chain(conv(4, 4, 3, groups=4), nn.GroupNorm(2, 4)), (4, 8, 8)),
    "channels last": (
        lambda: Does(normed_by_channel, conv(2, 4, 3), nn.Linear(4, 5), conv(5, 2, 2)), (2, 8, 8)
    ),
    "windows": (lambda: Does(windowed, nn.Linear(9, 4)), (1, 6, 6)),
    "attention": (lambda: Does(attended, conv(1, 2, 3)), (1, 6, 6)),
    "largest of channels": (
        lambda: Does(
            lambda x, a, b: b(a(x) * a(x).amax(1, keepdim=True) + a(x).max(1)[0][:, None]),
            conv(2, 3, 3), conv(3, 2, 2),
        ),
        (2, 8, 8),
    ),
    "gates": (lambda: chain(conv(2, 6, 3, groups=2), nn.GLU(1)), (2, 6, 6)),
    "local response": (
        lambda: chain(conv(2, 6, 3, groups=2), nn.LocalResponseNorm(3)), (2, 6, 6)
    ),
    "einsum": (
        lambda: Does(
            lambda x, c: torch.einsum("bchw,dc->bdhw", c(x), c.weight[:, 0, :2, 0].T),
            conv(1, 2, 3),
        ),
        (1, 6, 6),
    ),
    "stack and select": (
        lambda: Does(
            lambda x, c: torch.stack([c(x), c(x)[:, :1] * x[:, :, 1:-1, 1:-1]], 2)[:, :, 1],
            conv(2, 2, 3, groups=2),
        ),
        (2, 6, 6),
    ),
    "behind detach": (
        lambda: Does(
            lambda x, c: c(x)[:, :, :2, :2] * (2 + x.detach()[:, :, -1:, -1:]), conv(1, 2, 3)
        ),
        (1, 7, 7),
    ),
    "one of two outputs": (
        lambda: Does(lambda x, c: torch.var_mean(c(x), 1)[1][:, None], conv(1, 2, 3)), (1, 6, 6)
    ),
    "without a graph": (lambda: Does(lambda x: x.detach() * 2), (2, 4, 4)),
    "nothing at all": (nn.Identity, (2, 4, 5)),
    "a vector": (lambda: chain(conv(1, 2, 3, stride=2), nn.Flatten(), nn.Linear(18, 3)), (1, 8, 8)),
    "odd": (lambda: odd(3), (3, 8, 8)),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_the_mask_is_the_exact_set(name: str) -> None:
    """The mask is what one NaN after the other finds, at corners and inside; the hull holds it."""
    torch.manual_seed(0)
    make, shape = GRAPHS[name]
    model = make()
    with torch.no_grad():
        sizes = model.eval()(torch.randn(1, *shape)).shape[1:]
    rng = np.random.default_rng(0)
    units = [tuple(int(rng.integers(size)) for size in sizes) for _ in range(3)]
    for unit in (tuple(0 for _ in sizes), tuple(size - 1 for size in sizes), *units):
        found = receptive_field(model, None, unit, shape)
        np.testing.assert_array_equal(found.mask, brute(model, unit, shape), str(unit))
        rows, columns = np.nonzero(found.pixels)
        assert all(found.bounding_box.rows[0] <= row <= found.bounding_box.rows[1] for row in rows)
        assert all(
            found.bounding_box.columns[0] <= at <= found.bounding_box.columns[1] for at in columns
        )
        if len(rows):
            assert found.box == (
                slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
            )  # fmt: skip


@pytest.mark.parametrize("relu", [
    lambda x: torch.where(x > 0, x, torch.zeros(())),
    lambda x: x.clamp(min=0),
    lambda x: torch.maximum(x, torch.zeros(())),
    lambda x: x * (x > 0),
    lambda x: torch.nan_to_num(x).relu(),
    lambda x: (x + x.abs()) / 2,
])  # fmt: skip
def test_a_relu_of_any_making_hides_nothing(relu: Callable[[Tensor], Tensor]) -> None:
    """However a ReLU is written, also where it makes NaN 0, the field is that of the layers."""
    torch.manual_seed(0)
    model = Does(lambda x, a, b: relu(b(relu(a(x)))), conv(2, 6, 3, groups=2), conv(6, 2, 3))
    found = receptive_field(model, None, (1, 2, 3), (2, 9, 9))
    wanted = np.zeros((2, 9, 9), bool)
    wanted[:, 2:7, 3:8] = True
    np.testing.assert_array_equal(found.mask, wanted)


class Own(torch.autograd.Function):
    """A ReLU of the user's own, of which the graph tells only that it is there."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        """Return the ReLU, which is 0 for NaN as well."""
        context.save_for_backward(x)
        return torch.where(x > 0, x, torch.zeros(()))

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        """Return no gradient at all, as some do."""
        return torch.zeros_like(gradient)


def test_an_operation_of_ones_own_without_gradients() -> None:
    """Where neither rules nor gradients nor NaN tell anything, changed numbers do."""
    torch.manual_seed(0)
    layers = conv(2, 8, 3, groups=2), conv(8, 2, 3)
    model = Does(lambda x, a, b: Own.apply(b(Own.apply(a(x)))), *layers)
    found = receptive_field(model, None, (1, 2, 3), (2, 9, 9))
    wanted = np.zeros((2, 9, 9), bool)
    wanted[:, 2:7, 3:8] = True
    np.testing.assert_array_equal(found.mask, wanted)
    assert found.bounding_box == FieldBox((2, 6), (3, 7))


def test_what_only_a_comparison_sees_is_seen() -> None:
    """A condition, which no gradient reaches, belongs to the field; the hull is widened to it."""
    model = Does(lambda x, c: c(x) * (x[:, :, :1, :1] > 0), conv(1, 1, 3))
    found = receptive_field(model, None, (0, 3, 3), (1, 6, 6))
    wanted = np.zeros((1, 6, 6), bool)
    wanted[0, 3:6, 3:6] = wanted[0, 0, 0] = True
    np.testing.assert_array_equal(found.mask, wanted)
    assert found.bounding_box == FieldBox((0, 5), (0, 5))


def test_weights_of_zero_count_as_any_others() -> None:
    """The field is that of the layers, whatever their weights."""
    model = conv(1, 1, 3)
    nn.init.zeros_(model.weight)
    assert receptive_field(chain(model), "0", (0, 1, 1), (1, 6, 6)).num_numbers == 9


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("layer", ["stem", "norm", "relu@0", "inner", "relu@1"])
def test_nothing_outside_the_mask_matters(layer: str, channels: int) -> None:
    """Adding 100 to every number outside the mask leaves the activation bit-equal."""
    model = odd(channels)
    shape = (channels, 21, 21)
    image = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    unit = (2, 4, 10)  # at the border on one side
    field = receptive_field(model, layer, unit, shape)
    mask = torch.from_numpy(field.mask)
    assert not field.pixels.all()
    seen = [
        receptive_fields(model, layer, unit[0], x, -math.inf)
        for x in (
            image,
            torch.where(mask, image, image + 100),
            torch.where(mask, image + 100, image),
        )
    ]
    values = [
        float(each.values[(each.rows == unit[1]) & (each.columns == unit[2])][0]) for each in seen
    ]
    assert values[0] == values[1]
    assert values[0] != values[2]


def test_a_large_field_that_no_rule_knows_is_found_in_groups() -> None:
    """Some thousand numbers behind an unknown operation are decided, those out of reach too."""
    layer = conv(3, 3, 9, padding=4, padding_mode="circular", groups=3)
    model = chain(layer, nn.ReLU(), conv(3, 1, 1))
    found = receptive_field(model, "2", (0, 0, 20), (3, 40, 40))
    wanted = np.zeros((3, 40, 40), bool)
    wanted[:, np.arange(-4, 5)[:, None], np.arange(16, 25)] = True
    np.testing.assert_array_equal(found.mask, wanted)
