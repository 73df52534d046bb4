"""Which pixels a unit needs, against linear models, planted templates and plain loops."""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.conv.common import activation
from visualization.conv.edits.minimal import MinimalPatch, minimal_patch
from visualization.conv.edits.pattern import (
    occlude,
    pixel_gradient,
    sweep_perturbation,
    unit_pattern,
)
from visualization.conv.edits.perturbations import PERTURBATIONS, perturb
from visualization.conv.fields.receptive import receptive_field
from visualization.render.captions import caption
from visualization.render.conv import patterns  # noqa: F401 - registers its pictures
from visualization.render.core import draw, png, text


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


@contextlib.contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Give a model gradients, and demand that a block leaves it and the generators alone."""
    for number, parameter in enumerate(model.parameters()):
        parameter.grad = torch.full_like(parameter, float(number))
        parameter.requires_grad_(number % 2 == 0)
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


def linear(channels: int = 3) -> tuple[nn.Sequential, Tensor]:
    """Return a linear model of images (channels, 5, 6) with two outputs, and its weights."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = nn.Sequential(nn.Flatten(), nn.Linear(channels * 30, 2, dtype=torch.float64))
    return model, model[1].weight.detach().view(2, channels, 5, 6)


@pytest.mark.parametrize("channels", [1, 3])
def test_occlusion_of_a_linear_model_by_single_pixels_is_w_times_x(channels: int) -> None:
    """Windows of one pixel give Σ_c w·x, and the activation is that of the image."""
    model, weights = linear(channels)
    image = drawn(channels, 5, 6, dtype=torch.float64)
    found = occlude(model, None, (1,), image, window=1)
    np.testing.assert_allclose(found.drop, (weights[1] * image).sum(0), atol=1e-12)
    assert found.activation == float(model(image[None]).detach()[0, 1])
    assert found.field.all()
    assert (found.unit, found.window) == ((1,), (1, 1))


def by_loops(
    model: nn.Module, layer: str, unit: tuple[int, ...], image: Tensor, window: tuple[int, int],
    strides: tuple[int, int], fill: float,
) -> NDArray[Any]:  # fmt: skip
    """Return the mean drop over the windows that cover each pixel (H, W), each of them run."""
    height, width = image.shape[1:]
    total, count = np.zeros((height, width)), np.zeros((height, width))
    base = float(plain(model, image[None], layer, unit))
    starts = [
        range(0, side - size + step, step)
        for side, size, step in zip((height, width), window, strides, strict=True)
    ]
    for row, column in itertools.product(*starts):
        place = slice(row, row + window[0]), slice(column, column + window[1])
        covered = image.clone()
        covered[:, *place] = fill
        total[place] += base - float(plain(model, covered[None], layer, unit))
        count[place] += 1
    return total / count


@pytest.mark.parametrize("strides", [(1, 1), (2, 3)])
def test_overlapping_windows_give_the_mean_over_the_windows(strides: tuple[int, int]) -> None:
    """Of a unit of a map, each pixel's drop is the mean over a plain loop of covering windows."""
    model, image = residual(), drawn(1, 8, 8)
    unit = (2, 3, 5)
    found = occlude(model, "relu@1", unit, image, window=(2, 3), stride=strides, fill=0.4)
    wanted = by_loops(model, "relu@1", unit, image, (2, 3), strides, 0.4)
    field = receptive_field(model, "relu@1", unit, (1, 8, 8)).pixels
    np.testing.assert_array_equal(found.field, field)
    np.testing.assert_allclose(found.drop[field], wanted[field], atol=1e-5)
    assert np.isnan(found.drop[~field]).all()
    assert 0 < field.sum() < 64
    assert np.abs(found.drop[field]).max() > 0.01


class Placed(nn.Module):
    """A layer after which each place has something of its own, by a table, or by counting rows."""

    def __init__(self, has_table: bool) -> None:
        super().__init__()
        self.table = nn.Parameter(drawn(1, 2, 18, 17)) if has_table else None
        self.first = nn.Conv2d(1, 2, 3, padding=1)
        self.second = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Return maps (B, 2, H, W)."""
        rows = torch.linspace(0, 5, images.shape[2])[:, None]
        held = self.first(images) * (rows if self.table is None else self.table)
        return self.second(held).relu()


@pytest.mark.parametrize("unit", [(1, 2, 2), (0, 0, 5), (1, 7, 3), (1, 8, 7), (0, 3, 7)])
@pytest.mark.parametrize(("window", "strides"), [((3, 2), (1, 2)), ((4, 5), (3, 2))])
def test_near_its_field_a_unit_does_what_it_does_in_the_whole(
    unit: tuple[int, int, int], window: tuple[int, int], strides: tuple[int, int]
) -> None:
    """In parts of a larger image, strided and over borders, the drops are those of whole images."""
    model, image = residual(), drawn(1, 18, 17)
    excite(model, "down", unit, image, torch.zeros_like(image))
    found = occlude(model, "down", unit, image, window, stride=strides, fill=0.3)
    wanted = by_loops(model, "down", unit, image, window, strides, 0.3)
    np.testing.assert_allclose(found.drop[found.field], wanted[found.field], atol=1e-5)
    sizes = []
    with model.stem.register_forward_hook(lambda module, given, _: sizes.append(given[0].shape)):
        patch = minimal_patch(model, "down", unit, image, block=2)
    assert sizes[-1][2] * sizes[-1][3] < 150
    other = torch.zeros(())
    shown = torch.where(torch.as_tensor(patch.mask), image, other)
    assert patch.kept == pytest.approx(float(plain(model, shown[None], "down", unit)), rel=1e-5)
    assert float(removals(model, patch, other).max()) < 0.9 * patch.activation


@pytest.mark.parametrize("has_table", [True, False])
def test_a_net_that_knows_its_places_is_asked_with_whole_images(has_table: bool) -> None:
    """Where a part of the image would not do, or would do something else, the whole is used."""
    torch.manual_seed(0)
    model, image = Placed(has_table), drawn(1, 18, 17)
    with torch.no_grad():
        model.second.bias.add_(5)
    found = occlude(model, "second", (1, 9, 9), image, 2)
    wanted = by_loops(model, "second", (1, 9, 9), image, (2, 2), (1, 1), 0.0)
    np.testing.assert_allclose(found.drop[found.field], wanted[found.field], atol=1e-5)


def test_an_early_unit_needs_only_the_windows_of_its_field() -> None:
    """A 3×3 field under windows of 3×3 takes 25 covered images, however large the image is."""
    torch.manual_seed(0)
    model, seen = nn.Sequential(nn.Conv2d(1, 1, 3)), []
    image = drawn(1, 30, 30)
    unit = (0, 12, 9)
    receptive_field(model, "0", unit, (1, 30, 30))
    handle = model[0].register_forward_hook(lambda module, given, _: seen.append(given[0].shape))
    occlude(model, "0", unit, image)
    handle.remove()
    assert [shape[0] for shape in seen if shape[0] > 4] == [25]  # the field's search takes 4


def test_the_pixel_gradient_is_the_weights_of_a_linear_model() -> None:
    """Of w·x + b it is w; of a unit of a map it is 0 outside the field, but not within it."""
    model, weights = linear()
    image = drawn(3, 5, 6, dtype=torch.float64)
    found = pixel_gradient(model, None, (0,), image)
    np.testing.assert_allclose(found.gradient, weights[0], atol=1e-12)
    assert not found.is_dead
    net, picture = residual(3), drawn(3, 8, 8)
    unit = (1, 2, 2)
    mapped = pixel_gradient(net, "inner", unit, picture)
    field = receptive_field(net, "inner", unit, (3, 8, 8)).mask
    assert not mapped.gradient[~field].any()
    assert mapped.gradient[field].any()
    assert mapped.activation == float(plain(net, picture[None], "inner", unit))


def test_a_dead_unit_says_so() -> None:
    """Behind a ReLU that puts out 0 the gradient is 0, is_dead says it, and there is no patch."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True))
    with torch.no_grad():
        model[0].bias.fill_(-100)
    found = unit_pattern(model, "1", (0, 2, 2), drawn(1, 8, 8))
    assert found.gradient.is_dead
    assert found.patch is None
    assert found.occlusion.activation == 0


def planted(support: Tensor, channels: int, against: float) -> nn.Sequential:
    """Return a net whose unit adds up the pixels of a 5×5 window, less one that speaks against."""
    model = nn.Sequential(nn.Conv2d(channels, 2, 5), nn.ReLU(inplace=True))
    with torch.no_grad():
        model[0].bias.zero_()
        model[0].weight.zero_()
        model[0].weight[0] = support / channels
        model[0].weight[0, :, 0, 0] = -against / channels
    return model


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("against", "keep"), [(0, 0.9), (0.5, 1)])
def test_the_minimal_patch_of_a_planted_template_is_its_support(
    against: float, keep: float, channels: int
) -> None:
    """Where each of 8 pixels brings 1, all 8 are needed for 7.2 or 7.5, and no other."""
    support = torch.zeros(5, 5)
    support[1, 1:4] = support[3, 1:4] = 1
    support[2, 1] = support[4, 4] = 1
    model, image = planted(support, channels, against), torch.ones(channels, 12, 12)
    found = minimal_patch(model, "1", (0, 4, 6), image, keep)
    wanted = np.zeros((12, 12), bool)
    wanted[4:9, 6:11] = support.bool()
    np.testing.assert_array_equal(found.mask, wanted)
    assert found.kept == pytest.approx(8)
    assert found.activation == pytest.approx(8 - against)
    np.testing.assert_array_equal(found.shown, np.broadcast_to(wanted, (channels, 12, 12)))
    half = minimal_patch(model, "1", (0, 4, 6), image, keep=0.45)
    assert half.mask.sum() == 4
    assert wanted[half.mask].all()


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


@pytest.mark.parametrize("block", [1, 3])
@pytest.mark.parametrize("fill", [0.0, 0.5, "mean", "image"])
@pytest.mark.parametrize(("layer", "unit"), [("inner", (3, 4, 4)), (None, (2,))])
def test_each_square_of_a_minimal_patch_is_needed(
    layer: str | None, unit: tuple[int, ...], fill: Any, block: int
) -> None:
    """The patch keeps the share; with any one square less it does not, whatever stands in."""
    model, image = residual(3, dtype=torch.float64), drawn(3, 8, 8, dtype=torch.float64)
    other = drawn(3, 8, 8, seed=5, dtype=torch.float64)
    flat = torch.full_like(image, fill) if isinstance(fill, float) else image
    stands = other if fill == "image" else flat.mean((1, 2), keepdim=True).expand(3, 8, 8)
    excite(model, layer, unit, image, stands)
    given = other if fill == "image" else fill
    found = minimal_patch(model, layer, unit, image, fill=given, block=block)
    shown = torch.where(torch.as_tensor(found.mask), image, stands)
    np.testing.assert_array_equal(found.shown, shown)
    assert found.kept == pytest.approx(float(plain(model, shown[None], layer, unit)))
    assert found.kept >= 0.9 * found.activation - 1e-12
    assert found.mask[~found.field].sum() == 0
    assert float(removals(model, found, stands).max()) < 0.9 * found.activation


def test_the_curve_of_a_minimal_patch_goes_from_all_to_none() -> None:
    """It begins with the whole field and its activation, passes the patch, ends with the fill."""
    model, image = residual(), drawn(1, 8, 8)
    with torch.no_grad():
        model.inner.bias.add_(0.5)
    unit = (3, 3, 3)
    found = minimal_patch(model, "relu@1", unit, image, keep=0.8, batch_size=7)
    assert found.sizes[0] == found.field.sum()
    assert found.sizes[-1] == 0
    assert (np.diff(found.sizes) < 0).all()
    assert found.curve[0] == pytest.approx(found.activation)
    at = int(np.flatnonzero(found.sizes == found.mask.sum())[0])
    assert found.curve[at] == found.kept
    nothing = float(plain(model, torch.zeros(1, 1, 8, 8), "relu@1", unit))
    assert found.curve[-1] == pytest.approx(nothing, abs=1e-6)
    at_once = minimal_patch(model, "relu@1", unit, image, keep=0.8)
    np.testing.assert_array_equal(at_once.mask, found.mask)


def test_a_unit_that_needs_no_pixel_keeps_none() -> None:
    """Where a bias alone is enough, the patch is empty, and the figure can still be drawn."""
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU())
    with torch.no_grad():
        model[0].weight.fill_(0.001)
        model[0].bias.fill_(5)
    found = minimal_patch(model, "1", (0, 1, 1), drawn(1, 8, 8))
    assert not found.mask.any()
    assert found.kept == 5
    assert len(png(draw(found))) > 1000


def test_a_sweep_begins_at_the_base_and_repeats_single_perturbations() -> None:
    """At strength 0 it is the undisturbed activation, elsewhere that of the perturbed copies."""
    model, image = residual(dtype=torch.float64), drawn(1, 8, 8, dtype=torch.float64)
    names = ["noise", "shift", "rotate", "blur", "erase"]
    found = sweep_perturbation(
        model, None, (1,), image, names, {"rotate": [0, 30, 360], "noise": [0, 0.5]}, seed=4, num=5
    )
    base = float(plain(model, image[None], None, (1,)))
    assert found.activation == pytest.approx(base)
    for name in names:
        assert found.values[name][0] == pytest.approx(base), name
        assert found.values[name].shape[1] == (5 if PERTURBATIONS[name].drawn else 1)
        assert len(found.shown[name]) == len(found.strengths[name])
    assert found.values["rotate"][2] == pytest.approx(base)
    noisy = perturb("noise", image.expand(5, 1, 8, 8), 0.5, seed=4)
    wanted = plain(model, noisy, None, (1,)).numpy()
    np.testing.assert_allclose(found.values["noise"][1], wanted, atol=1e-12)
    assert found.mean("noise")[1] == pytest.approx(wanted.mean())
    low, high = found.extent("noise")
    assert (low[1], high[1]) == pytest.approx((wanted.min(), wanted.max()))
    np.testing.assert_array_equal(found.strengths["erase"], np.arange(9))


def test_erasing_everything_gives_the_activation_of_the_fill() -> None:
    """A square as large as the image leaves what the unit does with an empty image."""
    model, image = residual(3), drawn(3, 8, 8)
    found = sweep_perturbation(model, "down", (4, 1, 1), image, "erase", [8], num=3)
    nothing = float(plain(model, torch.zeros(1, 3, 8, 8), "down", (4, 1, 1)))
    np.testing.assert_allclose(found.values["erase"], nothing, atol=1e-6)


CALLS: dict[str, Callable[[nn.Module, Tensor], Any]] = {
    "occlude": lambda model, image: occlude(model, "relu@1", (0, 3, 3), image),
    "pixel_gradient": lambda model, image: pixel_gradient(model, "relu@1", (0, 3, 3), image),
    "minimal_patch": lambda model, image: minimal_patch(model, "inner", (0, 3, 3), image),
    "unit_pattern": lambda model, image: unit_pattern(model, None, (0,), image),
    "sweep": lambda model, image: sweep_perturbation(model, "relu", (0, 3, 3), image, "noise"),
}


@pytest.mark.parametrize("name", list(CALLS))
def test_looking_changes_nothing(name: str) -> None:
    """Weights, modes, gradients, hooks and generators are as before, also after a failure."""
    model, image = residual(3), drawn(3, 8, 8)
    with torch.no_grad():
        model.inner.bias.add_(2)
    with untouched(model):
        CALLS[name](model, image)
    for passes in (0, 1):
        with breaking(model, passes), untouched(model), pytest.raises(BrokenError):
            CALLS[name](model, image)


def test_mistakes_are_named() -> None:
    """Layers, units, shares and counts that do not exist are refused with what is accepted."""
    model, image = residual(), drawn(1, 8, 8)
    with pytest.raises(ValueError, match=r"'inners' is no layer .* did you mean 'inner'\?"):
        occlude(model, "inners", (0, 0, 0), image)
    with pytest.raises(ValueError, match=r"unit: channel 4 does not exist; accepted: 0 to 3"):
        occlude(model, "inner", (4, 0, 0), image)
    with pytest.raises(ValueError, match=r"unit: \(2,\) is no unit of an output of shape \(4, 8"):
        pixel_gradient(model, "inner", (2,), image)
    with pytest.raises(ValueError, match=r"unit: \(0, 1, 1\) is no unit .* accepted: 1 numbers"):
        pixel_gradient(model, None, (0, 1, 1), image)
    with pytest.raises(ValueError, match="image: 2 images are not accepted; accepted: one"):
        occlude(model, "inner", (0, 0, 0), drawn(2, 1, 8, 8))
    with pytest.raises(ValueError, match="window: 9 is not accepted; accepted: 1 to 8 rows"):
        occlude(model, "inner", (0, 0, 0), image, window=9)
    for keep in (0, 1.5):
        with pytest.raises(ValueError, match=f"keep: {keep} is not accepted; accepted: above 0"):
            minimal_patch(model, "inner", (0, 0, 0), image, keep)
    with pytest.raises(ValueError, match="block: 0 is not accepted; accepted: 1 or more"):
        minimal_patch(model, "inner", (0, 0, 0), image, block=0)
    with torch.no_grad():
        model.inner.bias.fill_(-100)
    with pytest.raises(ValueError, match=r"unit: \(0, 0, 0\) puts out -.* is above 0"):
        minimal_patch(model, "inner", (0, 0, 0), image)
    with pytest.raises(ValueError, match=r"perturbation: 'noize' .* did you mean 'noise'\?"):
        sweep_perturbation(model, "inner", (0, 0, 0), image, "noize")
    with pytest.raises(ValueError, match="strengths: none for noise; accepted: one or more"):
        sweep_perturbation(model, "inner", (0, 0, 0), image, "noise", [])
    with pytest.raises(ValueError, match="strengths: blur is not asked for; accepted: noise"):
        sweep_perturbation(model, "inner", (0, 0, 0), image, "noise", {"blur": [1]})
    with pytest.raises(ValueError, match="num: 0 is not accepted; accepted: 1 or more"):
        sweep_perturbation(model, "inner", (0, 0, 0), image, "noise", num=0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("layer", "unit"), [("relu@1", (3, 4, 4)), (None, (2,))])
def test_each_record_has_a_picture_and_a_caption(
    layer: str | None, unit: tuple[int, ...], channels: int
) -> None:
    """A unit and a class of grey and coloured images can be drawn, and the picture is explained."""
    model, image = residual(channels), drawn(channels, 8, 8)
    with torch.no_grad():
        model.head.bias.add_(1)
        model.inner.bias.add_(0.5)
    found = unit_pattern(model, layer, unit, image)
    swept = sweep_perturbation(model, layer, unit, image, ["shift", "contrast"])
    assert found.patch is not None
    for record in (found, found.occlusion, found.gradient, found.patch, swept):
        assert len(png(draw(record), dpi=40)) > 1000
        assert caption(record).endswith(".")
    assert f"{int(found.patch.mask.sum())} of {int(found.patch.field.sum())}" in text(found.patch)
    lines = text(swept).splitlines()
    assert len(lines) == 1 + sum(1 + len(each) for each in swept.strengths.values())
