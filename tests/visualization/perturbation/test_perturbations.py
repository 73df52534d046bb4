"""Named perturbations: each does what its strength says, and nothing at its neutral strength."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from visualization.perturbation.perturbations import (
    PERTURBATIONS,
    blur,
    erase,
    find_perturbation,
    noise,
    perturb,
    rotate,
    shift,
    shifted,
)

NAMES = list(PERTURBATIONS)
SHAPES = [(3, 1, 8, 8), (2, 3, 9, 6)]


def drawn(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return random images with values from 0 to 1."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_the_neutral_strength_is_the_identity(name: str, shape: tuple[int, ...]) -> None:
    """At its neutral strength a perturbation returns the same images to the bit, as new ones."""
    images = drawn(*shape)
    known = find_perturbation(name)
    for found in (perturb(name, images, known.neutral), known.apply(images, known.neutral, 0)):
        torch.testing.assert_close(found, images, rtol=0, atol=1e-15)
    found = perturb(name, images, known.neutral)
    assert torch.equal(found, images)
    assert found.data_ptr() != images.data_ptr()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_usual_strengths_change_new_images_only(
    name: str, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    """Each usual strength keeps shape and type, leaves its input alone, and repeats by its seed."""
    images = drawn(*shape, dtype=dtype)
    before = images.clone()
    state = torch.get_rng_state()
    changes = 0
    for strength in find_perturbation(name).strengths(min(shape[2:])):
        found = perturb(name, images, strength, seed=3)
        assert (found.shape, found.dtype) == (images.shape, dtype)
        assert found.isfinite().all()
        assert torch.equal(found, perturb(name, images, strength, seed=3))
        changes += not torch.equal(found, images)
    assert changes >= 2
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", NAMES)
def test_only_what_is_drawn_depends_on_the_seed(name: str) -> None:
    """Another seed makes a difference exactly where the registry says that something is drawn."""
    images = drawn(4, 1, 8, 8)
    known = find_perturbation(name)
    strength = known.strengths(8)[-2] if name != "zoom" else 1.5
    found = {perturb(name, images, strength, seed).numpy().tobytes() for seed in range(4)}
    assert (len(found) > 1) == known.is_random


def test_noise_has_the_deviation_that_it_names_and_grows_along_one_draw() -> None:
    """Noise of strength s has mean 0 and deviation s; twice the strength is twice the same draw."""
    images = drawn(2, 3, 64, 64)
    added = noise(images, 0.5, seed=7) - images
    assert float(added.std()) == pytest.approx(0.5, rel=0.02)
    assert float(added.mean()) == pytest.approx(0, abs=0.02)
    torch.testing.assert_close(noise(images, 1.0, seed=7) - images, 2 * added)
    assert not torch.equal(added[0], added[1])


def test_blur_is_a_gaussian_of_that_sigma() -> None:
    """A point becomes a Gaussian whose variance is sigma squared; constants stay constant."""
    image = torch.zeros(1, 1, 41, 41, dtype=torch.float64)
    image[0, 0, 20, 20] = 1
    found = blur(image, 2.0)[0, 0]
    at = torch.arange(41, dtype=torch.float64) - 20
    assert float(found.sum()) == pytest.approx(1)
    assert float((found.sum(dim=0) * at**2).sum()) == pytest.approx(4, rel=1e-3)
    torch.testing.assert_close(found, found.T)
    flat = torch.full((1, 3, 8, 5), 0.7, dtype=torch.float64)
    torch.testing.assert_close(blur(flat, 6.0), flat)


def test_pixelate_gives_squares_their_mean() -> None:
    """Squares of the side get the mean of what was there; at the border they are cut."""
    images = drawn(1, 1, 7, 7)
    found = perturb("pixelate", images, 3)
    torch.testing.assert_close(found[0, 0, :3, 3:6], images[0, 0, :3, 3:6].mean().expand(3, 3))
    torch.testing.assert_close(found[0, 0, 6, 6], images[0, 0, 6, 6])


@pytest.mark.parametrize("size", [(8, 8), (9, 9)])
def test_rotation_is_counter_clockwise_and_360_degrees_is_none(size: tuple[int, int]) -> None:
    """90 degrees is the turn of an array, and 360 the identity to the bit, also with a fill."""
    images = drawn(2, 1, *size)
    torch.testing.assert_close(rotate(images, 90), images.rot90(1, (2, 3)))
    torch.testing.assert_close(rotate(images, -90, fill=0.3), images.rot90(-1, (2, 3)))
    for full in (360, -360, 720):
        assert torch.equal(rotate(images, full), images)


def test_rotation_keeps_its_angle_in_an_image_that_is_no_square() -> None:
    """A half turn mirrors both sides, and 45 degrees take a point to the diagonal in pixels."""
    images = drawn(1, 1, 5, 11)
    torch.testing.assert_close(rotate(images, 180), images.flip((2, 3)))
    point = torch.zeros(1, 1, 21, 41, dtype=torch.float64)
    point[0, 0, 10, 28] = 1  # 8 to the right of the centre
    found = rotate(point, 45)[0, 0]
    row, column = divmod(int(found.argmax()), 41)
    assert (row, column) == (10 - round(8 / math.sqrt(2)), 20 + round(8 / math.sqrt(2)))


def test_what_comes_in_from_beyond_the_border_is_the_fill() -> None:
    """A turned, shrunk or moved image shows the fill at its sides, 0 if none is named."""
    images = torch.ones(4, 3, 8, 8)
    assert rotate(images, 45)[0, 0, 0, 0] == 0
    assert float(rotate(images, 45, fill=0.5)[0, 0, 0, 0]) == 0.5
    assert perturb("zoom", images, 0.5)[0, :, 0, 0].eq(0).all()
    assert shift(images, 2, fill=-1)[0, 0, 0].tolist() == [-1, -1, 1, 1, 1, 1, 1, 1]


def test_zoom_enlarges_about_the_centre() -> None:
    """A bright square of side 4 gets side 8 at factor 2, and 2 at factor a half."""
    image = shifted(torch.ones(1, 1, 4, 4), 6, 6, size=(16, 16))
    assert float(perturb("zoom", image, 2.0).sum()) == pytest.approx(64, rel=0.05)
    assert float(perturb("zoom", image, 0.5).sum()) == pytest.approx(4, rel=0.05)


def test_shift_goes_four_ways_and_between_pixels() -> None:
    """The images of a batch go right, down, left, up; half a pixel is the mean of two moves."""
    images = drawn(5, 1, 6, 6)
    found = shift(images, 2)
    for number, (rows, columns) in enumerate([(0, 2), (2, 0), (0, -2), (-2, 0), (0, 2)]):
        assert torch.equal(found[number], shifted(images[number], rows, columns))
    torch.testing.assert_close(shift(images, 1.5), (shift(images, 1) + shift(images, 2)) / 2)
    assert torch.equal(shift(images, 0), images)
    assert torch.equal(shift(images[:1], 2, seed=1)[0], shifted(images[0], 2, 0))


@pytest.mark.parametrize(
    ("by", "size"), [((0, 0), None), ((2, -1), None), ((-9, 3), None), ((1, 2), (9, 4))]
)
def test_moved_is_a_loop_over_pixels(by: tuple[int, int], size: tuple[int, int] | None) -> None:
    """Each pixel lands as far away as it was moved, or is lost; the rest is the fill."""
    image = drawn(2, 5, 7)
    height, width = size or (5, 7)
    wanted = torch.full((2, height, width), 9.0, dtype=torch.float64)
    for row, column in np.ndindex(5, 7):
        to = (row + by[0], column + by[1])
        if 0 <= to[0] < height and 0 <= to[1] < width:
            wanted[:, to[0], to[1]] = image[:, row, column]
    assert torch.equal(shifted(image, *by, 9.0, size), wanted)


def test_erasing_fills_a_square_of_that_side_within_the_image() -> None:
    """Each image loses one square, at a place of its own; the whole side and more leave nothing."""
    images = torch.ones(20, 3, 8, 6)
    places = set()
    for gone in erase(images, 3, seed=2).sum(dim=1) == 0:
        rows, columns = gone.any(dim=1).nonzero()[:, 0], gone.any(dim=0).nonzero()[:, 0]
        assert gone.sum() == 9
        assert (len(rows), len(columns)) == (3, 3)
        places.add((int(rows[0]), int(columns[0])))
    assert len(places) > 5
    for side in (8, 100):
        assert (erase(images, side, fill=0.25) == 0.25).all()
    grey = perturb("cover", drawn(1, 1, 8, 8), 8)
    torch.testing.assert_close(grey, drawn(1, 1, 8, 8).mean().expand_as(grey))


def test_contrast_brightness_flip_and_salt_do_what_they_say() -> None:
    """Contrast scales about the mean, brightness adds, flip mirrors, salt hits a share."""
    images = drawn(2, 3, 40, 40)
    mean = images.mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(perturb("contrast", images, 0), mean.expand_as(images))
    torch.testing.assert_close(perturb("contrast", images, -1), 2 * mean - images)
    torch.testing.assert_close(perturb("brightness", images, -0.5), images - 0.5)
    for strength, axes in {1: (3,), 2: (2,), 3: (2, 3)}.items():
        assert torch.equal(perturb("flip", images, strength), images.flip(axes))
    salted = perturb("salt_and_pepper", images, 0.3, seed=1)
    hit = (salted != images).any(dim=1)
    assert float(hit.double().mean()) == pytest.approx(0.3, abs=0.03)
    for image, found, where in zip(images, salted, hit, strict=True):
        assert set(found[:, where].unique().tolist()) == {float(image.min()), float(image.max())}


def test_one_image_and_numpy_arrays_are_taken() -> None:
    """An image (C, H, W) comes back as one, and is treated as the only image of a batch."""
    images = drawn(1, 1, 8, 8)
    found = perturb("erase", images[0].numpy(), 3, seed=4)
    assert torch.equal(found, perturb("erase", images, 3, seed=4)[0])


def test_usual_strengths_go_with_the_size_of_the_image() -> None:
    """Strengths in pixels grow with the image, whole ones are whole, and factors meet 1."""
    assert find_perturbation("shift").strengths(8)[-1] == 4
    assert find_perturbation("erase").strengths(8) == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert find_perturbation("flip").strengths(8) == [0, 1, 2, 3]
    for name in NAMES:
        strengths = find_perturbation(name).strengths(28)
        assert strengths == sorted(strengths)
        assert find_perturbation(name).neutral in strengths


def test_mistakes_are_named() -> None:
    """An unknown name, a strength without a meaning, and other arrays are refused with reasons."""
    images = drawn(1, 1, 8, 8)
    with pytest.raises(ValueError, match=r"perturbation: 'blurr' .* did you mean 'blur'\?"):
        perturb("blurr", images, 1)
    with pytest.raises(ValueError, match=r"strength: -1 is not accepted by noise; .* at least 0"):
        perturb("noise", images, -1)
    with pytest.raises(ValueError, match="strength: nan is not accepted by rotate"):
        perturb("rotate", images, math.nan)
    with pytest.raises(ValueError, match=r"images: torch.int64 of shape \(1, 1, 8, 8\)"):
        perturb("noise", images.long(), 1)
    with pytest.raises(ValueError, match=r"images: .* accepted: floating \(B, C, H, W\)"):
        perturb("noise", images[0, 0], 1)
