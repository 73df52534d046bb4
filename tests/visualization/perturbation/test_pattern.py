"""Which pixels a unit answers to, against linear models and plain loops."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.helpers.small_models import (
    BrokenError,
    breaking,
    drawn,
    excite,
    give_gradients,
    plain,
    removals,
    residual,
    state,
)
from visualization.core.registry import caption, draw, png, text
from visualization.feature_maps.fields.receptive import receptive_field
from visualization.perturbation.figures import patterns  # noqa: F401 - registers its pictures
from visualization.perturbation.minimal import minimal_patch
from visualization.perturbation.pattern import (
    occlude,
    pixel_gradient,
    sweep_perturbation,
    unit_pattern,
)
from visualization.perturbation.perturbations import PERTURBATIONS, perturb


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
    """Behind a ReLU that outputs 0 the gradient is 0, is_dead says it, and there is no patch."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True))
    with torch.no_grad():
        model[0].bias.fill_(-100)
    found = unit_pattern(model, "1", (0, 2, 2), drawn(1, 8, 8))
    assert found.gradient.is_dead
    assert found.patch is None
    assert found.occlusion.activation == 0


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
        assert found.values[name].shape[1] == (5 if PERTURBATIONS[name].is_random else 1)
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
    give_gradients(model)
    before = state(model)
    CALLS[name](model, image)
    assert state(model) == before
    for passes in (0, 1):
        with breaking(model, passes):
            with pytest.raises(BrokenError):
                CALLS[name](model, image)
            assert state(model) == before


def test_mistakes_are_named() -> None:
    """Layers, units, shares and counts that do not exist are refused with what is accepted."""
    model, image = residual(), drawn(1, 8, 8)
    with pytest.raises(ValueError, match=r"'inners' is not a layer .* did you mean 'inner'\?"):
        occlude(model, "inners", (0, 0, 0), image)
    with pytest.raises(ValueError, match=r"unit: channel 4 does not exist; accepted: 0 to 3"):
        occlude(model, "inner", (4, 0, 0), image)
    with pytest.raises(
        ValueError, match=r"unit: \(2,\) is not a unit of an output of shape \(4, 8"
    ):
        pixel_gradient(model, "inner", (2,), image)
    with pytest.raises(ValueError, match=r"unit: \(0, 1, 1\) is not a unit .* accepted: 1 numbers"):
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
    with pytest.raises(ValueError, match=r"unit: \(0, 0, 0\) outputs -.* is above 0"):
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
