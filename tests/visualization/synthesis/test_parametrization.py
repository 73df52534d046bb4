"""How images are held, bounded and blurred, against sums done by hand."""

import math
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from tests.helpers.synthesis import draw, held_in
from visualization.synthesis.parametrization import (
    ImageParam,
    frequencies,
    imagenet_covariance,
)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 5), (3, 6, 9), (4, 1, 3)])
@pytest.mark.parametrize("basis", ["fourier", "pixel"])
@pytest.mark.parametrize("bound", ["sigmoid", "box", "none"])
def test_an_image_held_and_shown_is_the_same(shape: Any, basis: Any, bound: Any) -> None:
    """The image of what is held for an image is that image, up to the ends of a sigmoid."""
    easel = held_in(ImageParam(basis, bound, limits=(-1.0, 3.0)), shape)
    images = -0.9 + 3.8 * draw(2, *shape)
    assert_close(easel.images(easel.latent(images)), images, atol=1e-12, rtol=0)
    ends = torch.full((1, *shape), 3.0).double()
    kept = 4e-3 + 1e-9 if bound == "sigmoid" else 1e-12  # a thousandth of the range
    assert_close(easel.images(easel.latent(ends)), ends, atol=kept, rtol=0)


def test_a_wave_of_twice_the_frequency_is_held_at_half_the_scale() -> None:
    """The Fourier basis scales by 1/f, and noise of variance 1 becomes an image of variance 1."""
    easel = held_in(ImageParam(bound="none"), (1, 16, 16))
    assert float(frequencies(16, 16)[0, 8]) == 0.5
    assert_close(easel.scale[0, 2:5:2], easel.scale[0, 1:3] / 2)
    assert_close(easel.scale[0, 0], easel.scale[0, 1])
    for shape in ((1, 16, 16), (3, 9, 7)):
        easel = held_in(ImageParam(bound="none"), shape)
        images = easel.images(easel.noise(2000, 1.0, torch.Generator().manual_seed(0)))
        assert images.var().item() == pytest.approx(1, abs=0.05)


def test_independent_colours_are_mixed_to_those_of_photographs() -> None:
    """Noise in independent colours has, as an image, the covariance of ImageNet's colours."""
    covariance = imagenet_covariance()
    easel = held_in(ImageParam("pixel", "none"), (3, 8, 8))
    scaled = covariance / covariance.trace() * 3
    assert_close(easel.mixing @ easel.mixing.T, scaled, atol=1e-6, rtol=0)
    images = easel.images(easel.noise(400, 1.0, torch.Generator().manual_seed(0)))
    channels = images.movedim(1, 0).flatten(1)
    assert_close(torch.cov(channels), scaled, atol=0.05, rtol=0)
    grey = torch.ones(3).double() / math.sqrt(3)
    assert float(grey @ covariance @ grey) > 0.9 * float(covariance.trace())
    for canvas, num in ((ImageParam(), 1), (ImageParam(), 4), (ImageParam(colors="none"), 3)):
        assert_close(held_in(canvas, (num, 4, 4)).mixing, torch.eye(num).double())


def test_images_are_the_nearest_within_bounds() -> None:
    """A box cuts values off, in either basis and with colours."""
    images = 3 * draw(2, 3, 4, 5) - 1
    for basis in ("fourier", "pixel"):
        box = held_in(ImageParam(basis, "box"), (3, 4, 5))
        assert_close(box.images(box.latent(images)), images.clamp(0, 1))


def test_gradients_that_lead_out_of_a_bound_are_taken_away() -> None:
    """At the edge of a box only what leads outwards is taken from a gradient."""
    images = torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0]).double().reshape(1, 1, 1, 5)
    gradient = torch.tensor([-1.0, 2.0, 3.0, -4.0, 5.0]).double().reshape(1, 1, 1, 5)
    kept = torch.tensor([0.0, 2.0, 3.0, -4.0, 0.0]).double().reshape(1, 1, 1, 5)
    assert torch.equal(
        held_in(ImageParam(bound="box"), (1, 1, 5)).projected_gradient(images, gradient), kept
    )
    free = held_in(ImageParam(bound="none"), (1, 1, 5))
    assert torch.equal(free.projected_gradient(images, gradient), gradient)


def test_a_blur_keeps_flat_images_and_spreads_a_point_as_a_gaussian() -> None:
    """Blurring is the same in both bases; the spread of a point has the variance asked for."""
    point = torch.zeros(1, 1, 21, 21).double()
    point[..., 10, 10] = 1
    found = []
    for basis in ("fourier", "pixel"):
        easel = held_in(ImageParam(basis, "none"), (1, 21, 21))
        flat = easel.latent(torch.full((1, 1, 21, 21), 0.3).double())
        assert_close(easel.images(easel.blurred(flat, 2.0)), easel.images(flat))
        found.append(easel.images(easel.blurred(easel.latent(point), 1.5)))
    assert_close(found[0], found[1])
    rows = found[0][0, 0].sum(dim=1)
    assert rows.sum().item() == pytest.approx(1)
    places = torch.arange(21) - 10
    assert (rows * places**2).sum().item() == pytest.approx(1.5**2, rel=1e-3)
