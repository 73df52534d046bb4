"""Random image transforms, for transformation robustness.

Transform robustness after Olah et al. 2017, Feature Visualization. Each transform is a function of
images (B, C, H, W) and of a generator, differentiable in the images. It moves all images of a batch
alike, so that an image comes out the same alone and in a batch. Your own may be among them.
"""

import math
from collections.abc import Callable, Sequence

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

Transform = Callable[[Tensor, torch.Generator], Tensor]


@attrs.frozen
class Pad:
    """Pad: a border into which others can move the image; `apply_transforms` takes it off again.

    Attributes:
        pixels: on each side, from 0.
        value: of the border; None: the pixels at the edge are repeated.
    """

    pixels: int
    value: float | None = None

    def __call__(self, images: Tensor, _: torch.Generator) -> Tensor:
        """Return the images with a border."""
        sides = [self.pixels] * 4
        if self.value is None:
            return F.pad(images, sides, mode="replicate")
        return F.pad(images, sides, value=self.value)


@attrs.frozen
class Jitter:
    """Shift by up to so many whole pixels; what leaves on one side comes in on the other."""

    pixels: int

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images shifted."""
        most = self.pixels
        shifts = torch.randint(-most, most + 1, (2,), generator=generator).tolist()
        return images.roll(shifts, dims=(2, 3))


@attrs.frozen
class Scale:
    """Enlarge about the middle by a factor between two numbers above 0; the shape stays."""

    low: float
    high: float

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images enlarged."""
        factor = _between(self.low, self.high, generator)
        return _warp(images, [[1 / factor, 0.0], [0.0, 1 / factor]])


@attrs.frozen
class Rotate:
    """Rotate about the middle by up to so many degrees either way; the shape stays."""

    degrees: float

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images rotated."""
        angle = math.radians(_between(-self.degrees, self.degrees, generator))
        cosine, sine = math.cos(angle), math.sin(angle)
        height, width = images.shape[2:]
        # The grid's unit is half a side, which differ.
        return _warp(images, [[cosine, -sine * height / width], [sine * width / height, cosine]])


def apply_transforms(
    images: Tensor, transforms: Sequence[Transform], generator: torch.Generator
) -> Tensor:
    """Apply transforms in turn; the result is cut or filled up to the images' shape."""
    height, width = images.shape[2:]
    for transform in transforms:
        images = transform(images, generator)
    down, right = height - images.shape[2], width - images.shape[3]
    if down or right:
        images = F.pad(images, [right // 2, right - right // 2, down // 2, down - down // 2])
    return images


def default_transforms(side: int) -> tuple[Transform, ...]:
    """Default transforms for a pattern of so many pixels a side: none for what is small.

    What reaches over 3 pixels would be lost by a shift of 1: it gets none.
    """
    shift = min(round(side / 14), 8)
    if not shift:
        return ()
    turn, zoom = (5, 0.05) if shift == 1 else (8, 0.1)
    return (Pad(shift), Jitter(shift), Scale(1 - zoom, 1 + zoom), Rotate(turn))


def _between(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _warp(images: Tensor, matrix: list[list[float]]) -> Tensor:
    """Warp images by a linear map about their middle; pixels at the edge are repeated."""
    rows = torch.tensor([[*row, 0.0] for row in matrix]).to(images)
    grid = F.affine_grid(rows[None], [1, *images.shape[1:]], align_corners=False)
    return F.grid_sample(
        images, grid.expand(len(images), -1, -1, -1), padding_mode="border", align_corners=False
    )
