"""Image parametrisations: pixel or Fourier basis, colour decorrelation, bounds.

What is optimised are numbers from which the image follows: coordinates in a basis (pixels, or the
Fourier basis with 1/f scaling), then colours that vary independently, then a bound on the values.
The same steps take on more of what natural images have: low frequencies, and grey before colour
(Olah et al. 2017, Feature Visualization, "The Enemy of Feature Visualization"). Each part can be
run backwards, so that one can start from a given image.

B images, C channels, H rows, W columns.
"""

from collections.abc import Callable
from typing import Any, Literal, final

import attrs
import numpy as np
import torch
from torch import Tensor

from visualization.core.errors import argument_error, value_error

Basis = Literal["fourier", "pixel"]
Bound = Literal["sigmoid", "box", "none"]
Colors = Literal["auto", "none"]

# The variances of ImageNet's colours, red, green and blue from 0 to 1, along their principal axes
# (the rows), as published with the colour augmentation of Krizhevsky et al. 2012, section 4.1.
_IMAGENET_VARIANCES = (0.2175, 0.0188, 0.0045)
_IMAGENET_AXES = (
    (-0.5675, -0.5808, -0.5836), (0.7192, -0.0045, -0.6948), (0.4009, -0.8140, 0.4203),
)  # fmt: skip

_CLOSEST = 1e-3  # share of the range that a sigmoid keeps from its ends, which it never reaches


def _choice(*accepted: str) -> Callable[[Any, Any, str], None]:
    def check(_: Any, attribute: Any, value: str) -> None:
        if value not in accepted:
            raise value_error(attribute.name, repr(value), ", ".join(accepted))

    return check


@final
@attrs.frozen(eq=False)
class ImageParam:
    """Image parametrisation: basis, bound and colours.

    Attributes:
        basis: `fourier`: amplitudes of waves, those of frequency f scaled by 1/f; `pixel`.
        bound: `sigmoid` of the latent numbers, between the limits, never at them; `box`: cut off at
            them; `none`.
        limits: the lowest and the highest value of a pixel; for `none` only for drawing.
        colors: `auto`: for 3 channels those of ImageNet's photographs, else none; `none`.
    """

    basis: Basis = attrs.field(default="fourier", validator=_choice("fourier", "pixel"))
    bound: Bound = attrs.field(default="sigmoid", validator=_choice("sigmoid", "box", "none"))
    limits: tuple[float, float] = attrs.field(default=(0.0, 1.0))
    colors: Colors = attrs.field(default="auto", validator=_choice("auto", "none"))

    @limits.validator
    def _(self, _: object, limits: tuple[float, float]) -> None:
        if not limits[0] < limits[1]:
            raise argument_error("limits", f"{limits} are not accepted", "(low, high), low < high")


def check_within(images: Tensor, limits: tuple[float, float], name: str) -> None:
    """Raise a ValueError unless all pixels lie within limits."""
    low, high = limits
    if images.min() < low or images.max() > high:
        problem = f"values from {float(images.min()):g} to {float(images.max()):g}"
        accepted = f"{low:g} to {high:g}, or other limits"
        raise argument_error(name, f"{problem} are not accepted", accepted)


def imagenet_covariance() -> Tensor:
    """Return the covariance (3, 3) of red, green and blue over ImageNet's photographs."""
    axes = torch.tensor(_IMAGENET_AXES, dtype=torch.float64)
    return axes.T @ torch.diag(torch.tensor(_IMAGENET_VARIANCES, dtype=torch.float64)) @ axes


def frequencies(height: int, width: int) -> Tensor:
    """Return the frequency of each wave of `rfft2`, in cycles per pixel (H, W // 2 + 1)."""
    down = torch.fft.fftfreq(height, dtype=torch.float64)[:, None]
    return torch.hypot(down, torch.fft.rfftfreq(width, dtype=torch.float64)[None])


@final
@attrs.frozen(eq=False)
class Parametrization:
    """Image parametrisation of a size: images from latent numbers, and back.

    Latent numbers have the shape (B, C, H, W) in the pixel basis; in the Fourier basis
    (B, C, H, W // 2 + 1, 2), real and imaginary parts. The scale is such that latent numbers of
    variance 1 are an image of variance 1 (before the bound).

    Attributes:
        image_param: its settings.
        shape: (C, H, W).
        scale: of each wave (H, W // 2 + 1).
        mixing: colours from independent ones (C, C).
    """

    image_param: ImageParam
    shape: tuple[int, int, int]
    scale: Tensor
    mixing: Tensor

    def images(self, latent: Tensor) -> Tensor:
        """Return the images (B, C, H, W) of latent numbers, differentiably."""
        low, high = self.image_param.limits
        plain: Tensor = torch.einsum("dc,bchw->bdhw", self.mixing, self._plain(latent))
        if self._squashes:
            return low + (high - low) * plain.sigmoid()
        if self.image_param.bound == "box":
            plain = StraightThrough.apply(plain, plain.detach().clamp(low, high))
        return plain

    def latent(self, images: Tensor) -> Tensor:
        """Return the latent numbers of images (B, C, H, W): `images` backwards.

        A sigmoid never reaches its limits; what lies at them is taken a thousandth inside.
        """
        low, high = self.image_param.limits
        if self._squashes:
            images = ((images - low) / (high - low)).clamp(_CLOSEST, 1 - _CLOSEST).logit()
        plain: Tensor = torch.einsum("dc,bchw->bdhw", torch.linalg.inv(self.mixing), images)
        if self.image_param.basis == "pixel":
            return plain
        waves = torch.fft.rfft2(plain, norm="ortho") / self.scale
        return torch.view_as_real(waves).contiguous()

    def nearest(self, images: Tensor) -> Tensor:
        """Return the nearest images (B, C, H, W) that can be represented."""
        unbounded = self.image_param.bound == "none"
        return images if unbounded else images.clamp(*self.image_param.limits)

    def noise(self, num: int, size: float, generator: torch.Generator) -> Tensor:
        """Return the latent numbers of noise about the middle of the range.

        Args:
            num: how many images.
            size: their standard deviation before a sigmoid; in a box the range is 1, elsewhere
                pixels are what they are, and the middle is 0.
            generator: on the CPU.
        """
        like = self.latent(torch.zeros(1, *self.shape).to(self.mixing))
        random = torch.randn((num, *like.shape[1:]), generator=generator, dtype=torch.float64)
        noise = size * random.to(like)
        if self.image_param.bound != "box":
            return noise
        low, high = self.image_param.limits
        middle = self.latent(torch.full((1, *self.shape), (low + high) / 2).to(self.mixing))
        return middle + (high - low) * noise

    def projected_gradient(self, images: Tensor, gradient: Tensor) -> Tensor:
        """Projected gradient (B, C, H, W): without what would lead out of a box.

        So the ascent rests only where nothing within the bound is better (to first order).
        """
        if self.image_param.bound != "box":
            return gradient
        low, high = self.image_param.limits
        outwards = ((images <= low) & (gradient < 0)) | ((images >= high) & (gradient > 0))
        return gradient.masked_fill(outwards, 0)

    def blurred(self, latent: Tensor, deviation: float) -> Tensor:
        """Return latent numbers with their image (before a sigmoid) blurred by a Gaussian.

        Args:
            latent: as it is.
            deviation: of the Gaussian, in pixels; it wraps around at the edges.
        """
        rates = frequencies(*self.shape[1:])
        passed = torch.exp(-2 * (np.pi * deviation * rates) ** 2).to(self.scale)
        if self.image_param.basis == "fourier":
            return latent * passed[:, :, None]
        waves = torch.fft.rfft2(latent) * passed
        return _from_waves(waves, self.shape, "backward")

    @property
    def _squashes(self) -> bool:
        return self.image_param.bound == "sigmoid"

    def _plain(self, latent: Tensor) -> Tensor:
        """Return images (B, C, H, W) in independent colours."""
        if self.image_param.basis == "pixel":
            return latent
        waves = torch.view_as_complex(latent) * self.scale
        return _from_waves(waves, self.shape, "ortho")


class StraightThrough(torch.autograd.Function):
    """Straight-through estimator: one tensor in the place of another, with its gradient."""

    @staticmethod
    def forward(_: Any, __: Tensor, instead: Tensor) -> Tensor:
        """Return the other."""
        return instead

    @staticmethod
    def backward(_: Any, above: Tensor) -> tuple[Tensor, None]:
        """Return the gradient as it is."""
        return above, None


def parametrization(
    image_param: ImageParam, shape: tuple[int, int, int], device: torch.device, dtype: torch.dtype
) -> Parametrization:
    """Image parametrisation for images of a shape (C, H, W)."""
    num_channels, height, width = shape
    rates = frequencies(height, width)
    scale = 1 / rates.clamp(min=1 / max(height, width))
    # Variance of an image of latent numbers of variance 1. A wave counts for itself and its mirror
    # image; in the outer columns both are held, and the image takes the mean of the two.
    power = torch.full((width // 2 + 1,), 4.0, dtype=torch.float64)
    power[0] = 1.0
    if width % 2 == 0:
        power[-1] = 1.0
    variance = (scale**2 * power).sum() / (height * width)
    mixing = _mixing(image_param.colors, num_channels)
    return Parametrization(
        image_param, shape, (scale / variance.sqrt()).to(device, dtype), mixing.to(device, dtype)
    )


def _from_waves(waves: Tensor, shape: tuple[int, int, int], norm: str) -> Tensor:
    images: Tensor = torch.fft.irfft2(waves, s=shape[1:], norm=norm)
    return images


def _mixing(colors: Colors, num_channels: int) -> Tensor:
    """Return the root (C, C) of the covariance of channels, scaled to a mean variance of 1."""
    if colors == "none" or num_channels != 3:
        return torch.eye(num_channels, dtype=torch.float64)
    variances, axes = torch.linalg.eigh(imagenet_covariance())
    root: Tensor = axes * (variances / variances.mean()).sqrt()
    return root
