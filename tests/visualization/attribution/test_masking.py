"""Occlusion, RISE and what hidden pixels show, against models whose answers are known."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.helpers.attribution import DOUBLE, assert_close, linear, odd, pictures
from visualization.attribution.gradients import integrated_gradients
from visualization.attribution.masking import occlusion_map, replacement, rise


def test_overlapping_windows_give_their_mean() -> None:
    """A pixel's drop is the mean over the windows that cover it, cut at the border."""
    (model, weights), x = linear(), pictures(2, 2, 4)
    share = (weights[1] * x).sum(dim=1)
    # Rows 0 to 2, and 2 to 3 (cut); columns 0 and 1, 1 and 2, 2 and 3.
    total, count = torch.zeros_like(share), torch.zeros_like(share)
    for (top, end), left in itertools.product([(0, 3), (2, 4)], [0, 1, 2]):
        drop = share[:, top:end, left : left + 2].sum(dim=(1, 2), keepdim=True)
        total[:, top:end, left : left + 2] += drop
        count[:, top:end, left : left + 2] += 1
    for batch_size in (1, 5, 256):
        found = occlusion_map(model, x, 1, window=(3, 2), stride=(2, 1), batch_size=batch_size)
        assert_close(found, total / count)


def test_windows_beyond_what_counts_are_not_run() -> None:
    """Windows that hide none of the pixels that count drop exactly 0; the rest is as without."""
    model, x = odd(), pictures()
    unit = {"target_layer": "stem", "target": (2, 0, 1), "window": 2}
    counts = torch.zeros(8, 8, dtype=torch.bool)
    counts[:2, :3] = True
    whole = occlusion_map(model, x, **unit)
    seen: list[int] = []
    model.stem.register_forward_hook(lambda _, args, __: seen.append(len(args[0])))
    found = occlusion_map(model, x, **unit, within=counts)
    assert sum(seen) == 3 + 3 * 2 * 3  # the images, then six windows of each
    assert_close(found, whole, atol=1e-12)
    assert (found[:, 3:] == 0).all()
    assert (found[:, :2, :3] != 0).any()
    each = torch.stack([counts, counts & False, counts])
    assert (occlusion_map(model, x, **unit, within=each)[1] == 0).all()


@pytest.mark.parametrize(
    ("fill", "wanted"),
    [
        (0.5, lambda x: torch.full_like(x, 0.5)),
        ("mean", lambda x: x.mean((2, 3), keepdim=True).expand_as(x)),
        (np.full((1, 2, 1, 1), 3.0), lambda x: torch.full_like(x, 3.0)),
        (torch.ones(2, 4, 4), torch.ones_like),
    ],
)
def test_hidden_pixels_show_what_they_are_filled_with(
    fill: Any, wanted: Callable[[Tensor], Tensor]
) -> None:
    """Occlusion, and integrated gradients, of a linear model are w · (x − fill)."""
    (model, weights), x = linear(), pictures(3, 2, 4)
    share = weights[2] * (x - wanted(x))
    assert_close(integrated_gradients(model, x, 2, baseline=fill, num_steps=1), share)
    assert_close(occlusion_map(model, x, 2, window=1, fill=fill), share.sum(dim=1))


def test_a_blur_takes_away_detail_only() -> None:
    """A blurred plain image is the same, and a blurred checkerboard is nearly its mean."""
    model, _ = linear()
    assert_close(
        replacement(torch.full((1, 2, 9, 5), 0.7), "blur", model), torch.full((1, 2, 9, 5), 0.7)
    )
    at = torch.arange(40)
    board = ((at[:, None] + at) % 2)[None, None].double()
    assert (replacement(board, "blur", model) - 0.5).abs().max() < 5e-3


def test_rise_of_a_linear_model_is_its_share_of_each_pixel() -> None:
    """With cells of a pixel it tends to (1 − keep) w · x of the pixel, but for a constant."""
    (model, weights), x = linear(), pictures(2, 2, 4)
    share, bias = (weights[1] * x).sum(dim=1), model[1].bias[1].detach()
    keep = 0.3
    # The mean over all masks is Σ keep w · x + b; a seen pixel adds (1 - keep) of its own.
    wanted = keep * share.sum(dim=(1, 2), keepdim=True) + bias + (1 - keep) * share
    errors = {}
    for num in (500, 50_000):
        found = rise(model, x, 1, num_masks=num, grid=4, keep=keep, batch_size=10_000)
        errors[num] = float((found - wanted).abs().max())
    assert errors[50_000] < 0.03 < errors[500] < 0.3
    assert share.abs().max() > 0.3


def test_rise_is_exact_over_all_masks_of_a_constant() -> None:
    """A score that does not depend on the image leaves no noise."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).to(DOUBLE)
    with torch.no_grad():
        model[1].weight.zero_()
    found = rise(model, pictures(2, 1, 4), 2, num_masks=30, grid=2)
    assert_close(found, torch.full((2, 4, 4), float(model[1].bias[2].detach()), dtype=DOUBLE))


def test_rise_is_the_covariance_with_its_masks() -> None:
    """With N masks it is mean f + cov(f, M) / keep, with N − 1; masks are shifted and smooth."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(72, 3)).to(DOUBLE)
    seen: list[Tensor] = []
    model[0].register_forward_hook(lambda _, args, __: seen.append(args[0].clone()))
    x = torch.ones(1, 1, 8, 8, dtype=DOUBLE)  # on which a mask is all that is seen
    for num, size in ((2, 5), (40, 7)):
        seen.clear()
        found = rise(model, x, 1, num_masks=num, grid=2, keep=0.4, batch_size=size)[0]
        masks = torch.cat(seen[1:])[:, 0]  # the first pass is of the image itself
        assert len(masks) == num
        f = model(masks[:, None])[:, 1].detach()
        covariance = torch.einsum("n,nhw->hw", f - f.mean(), masks - masks.mean(0)) / (num - 1)
        assert_close(found, f.mean() + covariance / 0.4)
    assert 0 <= masks.min() < masks.max() <= 1
    assert ((masks[:, 0, 0] > 0) & (masks[:, 0, 0] < 1)).any()  # not without shifts
    assert abs(float(masks.mean()) - 0.4) < 0.1
    assert (masks.diff(dim=1).abs() <= 0.25 + 1e-9).all()  # cells of 4 pixels
