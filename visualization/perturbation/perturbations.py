"""Named image perturbations: noise, blur, rotation and others, each with one strength.

Each is a function of images (B, C, H, W), a strength in its own unit, and a seed, and returns new
images of the same shape and type. Each image of a batch has draws of its own; stronger versions of
one seed are the same draws, only stronger. What comes in from beyond the border, and what is
erased, is `fill`. Values are not clipped: which are allowed is not known here.
"""

import math
from collections.abc import Callable, Sequence

import attrs
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from visualization.attribution.masking import gaussian_blur, mix_along
from visualization.core.errors import argument_error, unknown_name_error
from visualization.core.inputs import Images, as_tensor, at_least_float32

_DIRECTIONS = ((0, 1), (1, 0), (0, -1), (-1, 0))  # right, down, left, up


@attrs.frozen
class Perturbation:
    """A perturbation by name.

    Attributes:
        name: of the perturbation.
        apply: what it does to images (B, C, H, W), given a strength and a seed.
        unit: what its strength is measured in.
        neutral: the strength at which nothing changes, to the bit.
        usual: usual range of strengths, the default of sweeps.
        least: the smallest strength that has a meaning.
        per_side: whether `usual` is a share of the image's shorter side.
        whole: whether the strength is rounded to a whole number.
        is_random: whether the seed matters.
    """

    name: str
    apply: Callable[[Tensor, float, int], Tensor]
    unit: str
    neutral: float = 0.0
    usual: tuple[float, float] = (0.0, 1.0)
    least: float = -math.inf
    per_side: bool = False
    whole: bool = False
    is_random: bool = False

    def strengths(self, side: int, num: int = 13) -> list[float]:
        """Return up to `num` usual strengths for images of a shorter side, in rising order."""
        strengths = np.linspace(*self.usual, num) * (side if self.per_side else 1)
        strengths = np.maximum(strengths, self.least)
        return [
            float(strength)
            for strength in (np.unique(strengths.round()) if self.whole else strengths)
        ]


def shifted(
    images: Tensor, rows: int, columns: int, fill: float = 0.0, size: Sequence[int] | None = None
) -> Tensor:
    """Return images (…, H, W) moved down by rows and right by columns, whole numbers of pixels.

    Args:
        images: of any type.
        rows: negative: up.
        columns: negative: left.
        fill: what comes in from beyond the border.
        size: rows and columns of the result; None: those of the images. What does not lie on it is
            lost.
    """
    sides = tuple(size or images.shape[-2:])
    result = images.new_full((*images.shape[:-2], *sides), fill)
    spans = [
        _overlap(images.shape[axis - 2], sides[axis], by) for axis, by in enumerate((rows, columns))
    ]
    (to_rows, of_rows), (to_columns, of_columns) = spans
    result[..., to_rows, to_columns] = images[..., of_rows, of_columns]
    return result


def _overlap(length: int, side: int, by: int) -> tuple[slice, slice]:
    """Return where a line of some length, moved by pixels, lies on a side, and which of it does."""
    first = max(by, 0)
    last = max(min(by + length, side), first)
    return slice(first, last), slice(first - by, last - by)


def noise(images: Tensor, strength: float, seed: int = 0) -> Tensor:
    """Add Gaussian noise; strength: its standard deviation, in units of the image."""
    return images + strength * _normal(images.shape, seed).to(images)


def salt_and_pepper(images: Tensor, strength: float, seed: int = 0) -> Tensor:
    """Set pixels to the image's largest or smallest value; strength: share of the pixels."""
    size = (len(images), 1, *images.shape[2:])
    chance, side = _uniform((2, *size), seed).to(images.device)
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    return torch.where(chance < strength, torch.where(side < 0.5, low, high), images)


def blur(images: Tensor, strength: float, seed: int = 0) -> Tensor:
    """Blur by a Gaussian; strength: its sigma in pixels.

    At the borders the mean goes over the pixels that there are.
    """
    return gaussian_blur(images, (strength, strength)) if strength else images


def pixelate(images: Tensor, strength: float, seed: int = 0) -> Tensor:
    """Give squares of pixels their mean; strength: their side in pixels, rounded."""
    side = round(strength)
    result = images
    for axis in (2, 3):
        block = torch.arange(images.shape[axis], device=images.device) // side
        result = mix_along(result, (block[:, None] == block).to(images.dtype), axis)
    return result


def rotate(images: Tensor, strength: float, seed: int = 0, *, fill: float = 0.0) -> Tensor:
    """Rotate about the centre (bilinear); strength: degrees, counter-clockwise."""
    return _warp(images, strength, 1.0, fill)


def zoom(images: Tensor, strength: float, seed: int = 0, *, fill: float = 0.0) -> Tensor:
    """Enlarge about the centre (bilinear); strength: the factor, below 1 makes smaller."""
    return _warp(images, 0.0, strength, fill)


def shift(images: Tensor, strength: float, seed: int = 0, *, fill: float = 0.0) -> Tensor:
    """Move in one of four directions; strength: pixels, of which parts are interpolated.

    With seed 0 the first image goes right, the second down, then left, up, and so on; with seed 1
    the first goes down.
    """
    whole = math.floor(strength)
    part = strength - whole
    result = torch.empty_like(images)
    for turn, (down, right) in enumerate(_DIRECTIONS):
        turn_images = slice((turn - seed) % len(_DIRECTIONS), None, len(_DIRECTIONS))
        near = shifted(images[turn_images], down * whole, right * whole, fill)
        far = shifted(images[turn_images], down * (whole + 1), right * (whole + 1), fill)
        result[turn_images] = torch.lerp(near, far, part) if part else near
    return result


def flip(images: Tensor, strength: float, seed: int = 0) -> Tensor:
    """Mirror; strength: 0 not at all, 1 left and right, 2 top and bottom, 3 both."""
    sides = {0: (), 1: (3,), 2: (2,), 3: (2, 3)}[round(strength) % 4]
    return images.flip(sides)


def contrast(images: Tensor, strength: float, seed: int = 0) -> Tensor:
    """Stretch each image about its mean; strength: the factor, 0 is grey, negative inverts."""
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + strength * (images - mean)


def brightness(images: Tensor, strength: float, seed: int = 0) -> Tensor:
    """Add a constant; strength: the constant, in units of the image."""
    return images + strength


def erase(images: Tensor, strength: float, seed: int = 0, *, fill: float = 0.0) -> Tensor:
    """Fill a square at a random place; strength: its side in pixels, rounded.

    It lies within the image; of a longer side than the image's the whole image is filled.
    """
    return torch.where(_square(images, strength, seed), fill, images)


def cover(images: Tensor, strength: float, seed: int = 0) -> Tensor:
    """Put a grey square, the image's mean, at a random place; strength: its side in pixels."""
    grey = images.mean((1, 2, 3), keepdim=True)
    return torch.where(_square(images, strength, seed), grey, images)


def _square(images: Tensor, strength: float, seed: int) -> Tensor:
    """Return where a square of a side lies at random in each image (B, 1, H, W)."""
    share = _uniform((len(images), 2), seed)
    inside = []
    for axis in (0, 1):
        size = images.shape[2 + axis]
        side = min(round(strength), size)
        first = (share[:, axis, None] * (size - side + 1)).floor()
        positions = torch.arange(size)
        inside.append((positions >= first) & (positions < first + side))
    rows, columns = inside
    return (rows[:, None, :, None] & columns[:, None, None, :]).to(images.device)


def _normal(size: Sequence[int], seed: int) -> Tensor:
    return torch.randn(tuple(size), generator=torch.Generator().manual_seed(seed))


def _uniform(size: Sequence[int], seed: int) -> Tensor:
    return torch.rand(tuple(size), generator=torch.Generator().manual_seed(seed))


def _warp(images: Tensor, degrees: float, factor: float, fill: float) -> Tensor:
    """Return images rotated counter-clockwise and enlarged by a factor about their centre."""
    if degrees % 360 == 0 and factor == 1:
        return images.clone()
    height, width = images.shape[2:]
    angle = math.radians(degrees % 360)
    cosine, sine = math.cos(angle) / factor, math.sin(angle) / factor
    back = [[cosine, -sine * height / width, 0.0], [sine * width / height, cosine, 0.0]]
    theta = torch.tensor(back, dtype=images.dtype, device=images.device)
    grid = F.affine_grid(theta.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images - fill, grid, align_corners=False) + fill


_SIDE, _DEVIATION = "side in pixels", "standard deviation, in units of the image"
PERTURBATIONS = {
    each.name: each
    for each in (
        Perturbation("noise", noise, _DEVIATION, least=0, is_random=True),
        Perturbation("salt_and_pepper", salt_and_pepper, "share of the pixels", least=0,
                     is_random=True),
        Perturbation("blur", blur, "sigma in pixels", usual=(0, 0.15), least=0, per_side=True),
        Perturbation("pixelate", pixelate, _SIDE, 1, (0, 0.5), 1, per_side=True, whole=True),
        Perturbation("rotate", rotate, "degrees, counter-clockwise", usual=(-180, 180)),
        Perturbation("zoom", zoom, "factor", neutral=1, usual=(0.5, 2), least=0.01),
        Perturbation("shift", shift, "pixels", usual=(0, 0.5), per_side=True, is_random=True),
        Perturbation("flip", flip, "0 none, 1 left–right, 2 top–bottom, 3 both", usual=(0, 3),
                     least=0, whole=True),
        Perturbation("contrast", contrast, "factor", neutral=1, usual=(0, 2)),
        Perturbation("brightness", brightness, "added, in units of the image", usual=(-1, 1)),
        Perturbation("erase", erase, _SIDE, least=0, per_side=True, whole=True, is_random=True),
        Perturbation("cover", cover, _SIDE, least=0, per_side=True, whole=True, is_random=True),
    )
}  # fmt: skip


def find_perturbation(name: str) -> Perturbation:
    """Return a perturbation by name.

    Raises:
        ValueError: names the nearest of those that there are.
    """
    if name not in PERTURBATIONS:
        raise unknown_name_error("perturbation", name, PERTURBATIONS)
    return PERTURBATIONS[name]


def perturb(name: str, images: Images, strength: float, seed: int = 0) -> Tensor:
    """Return images under a perturbation by name.

    At its neutral strength (0, of factors 1) nothing changes, to the bit.

    Args:
        name: one of `PERTURBATIONS`, which say the unit of the strength.
        images: (B, C, H, W) or (C, H, W), of a floating type.
        strength: how much.
        seed: of what is drawn.

    Raises:
        ValueError: no such perturbation, a strength without a meaning, or another kind of images.
    """
    perturbation = find_perturbation(name)
    if not (math.isfinite(strength) and strength >= perturbation.least):
        accepted = f"{perturbation.unit}, finite" + (
            f", at least {perturbation.least:g}" if math.isfinite(perturbation.least) else ""
        )
        raise argument_error("strength", f"{strength} is not accepted by {name}", accepted)
    tensor = as_tensor(images, "images") if not isinstance(images, Tensor) else images
    if tensor.ndim not in (3, 4) or not tensor.is_floating_point():
        problem = f"{tensor.dtype} of shape {tuple(tensor.shape)} is not accepted"
        raise argument_error("images", problem, "floating (B, C, H, W) or (C, H, W)")
    if strength == perturbation.neutral:
        return tensor.clone()
    changed = perturbation.apply(
        at_least_float32(tensor if tensor.ndim == 4 else tensor[None]), strength, seed
    )
    return (changed if tensor.ndim == 4 else changed[0]).to(tensor.dtype)
