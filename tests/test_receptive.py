"""Receptive fields, against known answers and against one NaN after the other."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from visualization.conv.fields.geometry import Hull, hulls
from visualization.conv.fields.receptive import receptive_field, receptive_fields
from visualization.render.captions import caption
from visualization.render.conv import fields
from visualization.render.core import draw, png, text

Shape = tuple[int, int, int]


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


def chain(*modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(*modules)


def test_three_convolutions_and_a_pool() -> None:
    """3 × 3, 3 × 3, pool 2, 3 × 3 at output index 5 sees rows 6 to 15, all 100 pixels."""
    conv = [nn.Conv2d(a, b, 3, padding=1) for a, b in ((1, 4), (4, 4), (4, 4))]
    model = chain(conv[0], conv[1], nn.MaxPool2d(2), conv[2])
    found = receptive_field(model, "3", (2, 5, 5), (1, 28, 28))
    assert found.hull == Hull((6, 15), (6, 15))
    assert found.box == (slice(6, 16), slice(6, 16))
    assert found.num_numbers == 100
    assert found.mask[0, 6:16, 6:16].all()
    assert found.indices[[0, -1]].tolist() == [[0, 6, 6], [0, 15, 15]]


def test_a_cross_has_thirteen_pixels() -> None:
    """Parallel 1 × 7 and 7 × 1 convolutions see 13 pixels, not 49."""
    wide, high = nn.Conv2d(1, 2, (1, 7), padding=(0, 3)), nn.Conv2d(1, 2, (7, 1), padding=(3, 0))
    model = Does(lambda x, a, b: a(x) + b(x), wide, high)
    found = receptive_field(model, None, (1, 8, 6), (1, 16, 16))
    wanted = np.zeros((1, 16, 16), bool)
    wanted[0, 8, 3:10] = wanted[0, 5:12, 6] = True
    assert found.num_numbers == 13
    np.testing.assert_array_equal(found.mask, wanted)
    assert found.hull == Hull((5, 11), (3, 9))


def conv(*sizes: int, **settings: Any) -> nn.Conv2d:
    return nn.Conv2d(*sizes, **settings)


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


def normed_by_channel(x: Tensor, inner: nn.Module, wide: nn.Module, last: nn.Module) -> Tensor:
    """Return a block of the kind that keeps channels last."""
    y = F.layer_norm(inner(x).permute(0, 2, 3, 1), (4,))
    return last(F.gelu(wide(y)).permute(0, 3, 1, 2))


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
        assert all(found.hull.rows[0] <= row <= found.hull.rows[1] for row in rows)
        assert all(found.hull.columns[0] <= at <= found.hull.columns[1] for at in columns)
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
    assert found.hull == Hull((0, 8), (0, 8))


def test_what_only_a_comparison_sees_is_seen() -> None:
    """A condition, which no gradient reaches, belongs to the field; the hull is widened to it."""
    model = Does(lambda x, c: c(x) * (x[:, :, :1, :1] > 0), conv(1, 1, 3))
    found = receptive_field(model, None, (0, 3, 3), (1, 6, 6))
    wanted = np.zeros((1, 6, 6), bool)
    wanted[0, 3:6, 3:6] = wanted[0, 0, 0] = True
    np.testing.assert_array_equal(found.mask, wanted)
    assert found.hull == Hull((0, 5), (0, 5))


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


def test_hulls_follow_the_recursion() -> None:
    """First ← first · s − p, last ← last · s − p + d(k − 1), from the last layer to the first."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        settings = [
            {"kernel_size": int(rng.integers(1, 5)), "stride": int(rng.integers(1, 3)),
             "padding": int(rng.integers(3)), "dilation": int(rng.integers(1, 3))}
            for _ in range(3)
        ]  # fmt: skip
        model = chain(*(conv(1, 1, **held) for held in settings))
        found = hulls(model, "2", (1, 40, 33))
        lo = hi = np.arange(len(found.row_first))
        for held in reversed(settings):
            lo = lo * held["stride"] - held["padding"]
            reach = held["dilation"] * (held["kernel_size"] - 1)
            hi = hi * held["stride"] - held["padding"] + reach
        np.testing.assert_array_equal(found.row_first, lo)
        np.testing.assert_array_equal(found.row_last, hi)
        assert found.size == (hi[0] - lo[0] + 1,) * 2
        if min(len(lo), len(found.column_first)) > 1:
            assert found.stride == (math.prod(held["stride"] for held in settings),) * 2
        np.testing.assert_array_equal(found.column_first, lo[: len(found.column_first)])


def test_hulls_of_a_residual_network() -> None:
    """Branches join, padding is outside the image, and means and unknown operations see it all."""
    model = odd()
    found = hulls(model, "relu@1", (1, 8, 8))
    assert found.at(0, 2) == Hull((-3, 3), (1, 7))
    assert found.at(3, 3) == Hull((3, 9), (3, 9))
    assert (found.size, found.stride, found.image_size) == ((7, 7), (2, 2), (8, 8))
    np.testing.assert_array_equal(
        found.boxes(np.array([0, 3]), np.array([2, 3])), [[-3, 3, 1, 7], [3, 9, 3, 9]]
    )
    head = hulls(model, None, (1, 8, 8))
    assert head.at(0, 0) == Hull((-3, 9), (-3, 9))
    assert head.stride == (0, 0)
    last = Does(normed_by_channel, conv(2, 4, 3), nn.Linear(4, 5), conv(5, 2, 2))
    assert hulls(last, None, (2, 8, 8)).at(2, 4) == Hull((2, 5), (4, 7))
    circular = chain(conv(1, 1, 3, padding=1, padding_mode="circular"))
    assert hulls(circular, "0", (1, 6, 9)).at(2, 3) == Hull((0, 5), (0, 8))


def test_units_that_see_nothing() -> None:
    """A hole of a transposed convolution has no pixels and a hull that ends before it begins."""
    model = chain(nn.ConvTranspose2d(1, 1, 1, stride=2))
    found = receptive_field(model, "0", (0, 1, 2), (1, 4, 4))
    assert found.num_numbers == 0
    assert found.box == (slice(0, 0), slice(0, 0))
    assert found.hull == Hull((0, -1), (1, 1))
    assert hulls(model, "0", (1, 4, 4)).size == (1, 1)


def test_all_activated_units_of_a_channel() -> None:
    """They come in the order of their activation, each with its hull, and the union of masks."""
    model, image = odd(3), torch.randn(3, 12, 10, generator=torch.Generator().manual_seed(1))
    found = receptive_fields(model, "relu@1", 1, image, threshold=0.3)
    with torch.no_grad():
        x = torch.relu(model.eval().norm(model.stem(image[None])))
        map_ = torch.relu(model.inner(x) + x)[0, 1]
    assert 2 < len(found.rows) < map_.numel() - 2
    assert len(found.rows) == int((map_ > 0.3).sum())
    np.testing.assert_allclose(found.values, map_[found.rows, found.columns], rtol=1e-5)
    assert (np.diff(found.values) <= 0).all()
    union = np.zeros((3, 12, 10), bool)
    for row, column, box in zip(found.rows, found.columns, found.hulls, strict=True):
        one = receptive_field(model, "relu@1", (1, row, column), (3, 12, 10))
        union |= one.mask
        assert one.hull == Hull((box[0], box[1]), (box[2], box[3]))
    np.testing.assert_array_equal(found.mask, union)
    np.testing.assert_array_equal(found.indices, np.argwhere(union))
    assert not union.all()
    none = receptive_fields(model, "relu@1", 1, image, threshold=1e9)
    assert (len(none.rows), none.mask.any(), none.hulls.shape) == (0, False, (0, 4))
    logit = receptive_fields(model, None, 2, image, -math.inf)
    assert (logit.rows.tolist(), logit.columns.tolist(), logit.mask.all()) == ([0], [0], True)


def test_other_types_of_numbers() -> None:
    """A network of 64 or of 16 bits has the same field as one of 32."""
    for dtype in (torch.float64, torch.bfloat16):
        model = chain(conv(2, 4, 3, dilation=2), nn.ReLU(), conv(4, 2, 2, groups=2)).to(dtype)
        found = receptive_field(model, "2", (1, 2, 1), (2, 9, 9))
        assert found.num_numbers == 2 * (9 + 9 + 9 + 9)
        assert found.hull == Hull((2, 7), (1, 6))


def test_a_large_field_that_no_rule_knows_is_found_in_groups() -> None:
    """Some thousand numbers behind an unknown operation are decided, those out of reach too."""
    layer = conv(3, 3, 9, padding=4, padding_mode="circular", groups=3)
    model = chain(layer, nn.ReLU(), conv(3, 1, 1))
    found = receptive_field(model, "2", (0, 0, 20), (3, 40, 40))
    wanted = np.zeros((3, 40, 40), bool)
    wanted[:, np.arange(-4, 5)[:, None], np.arange(16, 25)] = True
    np.testing.assert_array_equal(found.mask, wanted)


def test_nothing_is_left_changed() -> None:
    """Model, gradients, hooks, generators and kernels are as before, also after an exception."""
    model, image = odd(), torch.rand(1, 8, 8)
    with unchanged(model):
        receptive_field(model, "inner", (0, 1, 1), (1, 8, 8))
        receptive_fields(model, "inner", 0, image)
        hulls(model, "inner", (1, 8, 8))
        with pytest.raises(ValueError, match="row 9 does not exist"):
            receptive_field(model, "inner", (0, 9, 1), (1, 8, 8))
        with pytest.raises(RuntimeError):
            receptive_field(model, "inner", (0, 0, 0), (2, 8, 8))

    def fails(x: Tensor) -> Tensor:
        if x.isnan().any():
            raise KeyError
        return x

    broken = Does(lambda x, c: fails(c(x)), conv(1, 1, 3))
    with unchanged(broken), pytest.raises(KeyError):
        receptive_field(broken, None, (0, 1, 1), (1, 8, 8))


def test_nan_goes_through_sums_only() -> None:
    """While NaN is in the images, no kernel runs that would spread it to its neighbours."""
    fast = []

    def watched(x: Tensor) -> Tensor:
        if x.isnan().any():
            backends = torch.backends
            fast.append((backends.mkldnn.enabled, backends.cudnn.enabled))
        return x

    receptive_field(Does(lambda x, c: watched(c(x)), conv(1, 1, 3)), None, (0, 1, 1), (1, 8, 8))
    assert set(fast) == {(False, False)}


def test_mistakes_are_named() -> None:
    """An error says what was not accepted, and what is."""
    model = odd()
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: receptive_field(model, "iner", (0, 0, 0), (1, 8, 8)), "did you mean 'inner'"),
        (lambda: receptive_field(model, "inner", (4, 0, 0), (1, 8, 8)),
         "unit: channel 4 does not exist; accepted: 0 to 3"),
        (lambda: receptive_field(model, "inner", (1,), (1, 8, 8)),
         r"unit: \(1,\) is a whole channel; accepted: \(channel, row, column\)"),
        (lambda: receptive_field(model, "inner", (0, 1), (1, 8, 8)), "unit: .* is no unit of an"),
        (lambda: receptive_field(model, "inner", (0, 0, 0), (8, 8)),
         r"input_shape: \(8, 8\) is not accepted; accepted: \(channels, height, width\)"),
        (lambda: hulls(model, "relu@2", (1, 8, 8)), "'relu@2' was not called"),
        (lambda: receptive_fields(model, "inner", 7, torch.ones(1, 8, 8)),
         "channel: channel 7 does not exist; accepted: 0 to 3"),
        (lambda: receptive_fields(model, "inner", 0, torch.ones(2, 1, 8, 8)), "image: 2 images"),
        (lambda: receptive_field(model, "inner", (0, 0, 0), (1, 8, 8)).over(torch.ones(1, 9, 9)),
         r"image: shape \(1, 9, 9\) is not accepted; accepted: \(1, 8, 8\)"),
    ]  # fmt: skip
    for call, words in cases:
        with pytest.raises(ValueError, match=words):
            call()


def test_fields_are_drawn() -> None:
    """Each record has a figure and a caption; a single field has a line of text."""
    assert fields is not None
    model, image = odd(3), torch.rand(3, 12, 12)
    field = receptive_field(model, "inner", (0, 0, 5), (3, 12, 12))
    many = receptive_fields(model, "inner", 0, image, -math.inf)
    nothing = receptive_fields(model, "inner", 0, image, math.inf)
    for record in (field, field.over(image), many, nothing):
        assert png(draw(record), dpi=40).startswith(b"\x89PNG")
        assert "pixels that can change" in caption(record)
    line = "inner, channel 0 at (0, 5): 60 of 432 numbers (20 of 144 pixels)"
    assert text(field) == text(field.over(image)) == f"{line}; hull: rows -3 to 3, columns 7 to 13"
