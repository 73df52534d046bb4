"""The fewest pixels that a unit needs, against planted templates and plain loops."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.helpers.small_models import drawn, excite, plain, removals, residual
from visualization.core.registry import draw, png
from visualization.perturbation.figures import patterns  # noqa: F401 - registers its pictures
from visualization.perturbation.minimal import minimal_patch


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
