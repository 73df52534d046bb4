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
from visualization.core.inputs import Images, as_tensor

Basis = Literal["fourier", "pixel"]
Bound = Literal["sigmoid", "box", "ball", "none"]

# The variances of ImageNet's colours, red, green and blue from 0 to 1, along their principal axes
# (the rows), as published with the colour augmentation of Krizhevsky et al. 2012, section 4.1.
_IMAGENET_VARIANCES = (0.2175, 0.0188, 0.0045)
_IMAGENET_AXES = (
    (-0.5675, -0.5808, -0.5836), (0.7192, -0.0045, -0.6948), (0.4009, -0.8140, 0.4203),
)  # fmt: skip

_AT_EDGE = 1e-6  # share of its radius by which an image is within a ball and still at its edge
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
            them; `ball`: shrunk to ‖x‖ ≤ radius; `none`.
        limits: the lowest and the highest value of a pixel; for `ball` and `none` only for drawing.
        radius: of the ball.
        colors: `auto`: for 3 channels those of ImageNet's photographs, else none; `none`; or the
            covariance of the channels (C, C), see `color_covariance`.
    """

    basis: Basis = attrs.field(default="fourier", validator=_choice("fourier", "pixel"))
    bound: Bound = attrs.field(
        default="sigmoid", validator=_choice("sigmoid", "box", "ball", "none")
    )
    limits: tuple[float, float] = attrs.field(default=(0.0, 1.0))
    radius: float = attrs.field(default=1.0)
    colors: Literal["auto", "none"] | Tensor = "auto"

    @limits.validator
    def _(self, _: object, limits: tuple[float, float]) -> None:
        if not limits[0] < limits[1]:
            raise argument_error("limits", f"{limits} are not accepted", "(low, high), low < high")

    @radius.validator
    def _(self, _: object, radius: float) -> None:
        if not radius > 0:
            raise value_error("radius", radius, "above 0")


def check_within(images: Tensor, limits: tuple[float, float], name: str) -> None:
    """Raise a ValueError unless all pixels lie within limits."""
    low, high = limits
    if images.min() < low or images.max() > high:
        problem = f"values from {float(images.min()):g} to {float(images.max()):g}"
        accepted = f"{low:g} to {high:g}, or other limits"
        raise argument_error(name, f"{problem} are not accepted", accepted)


def color_covariance(images: Images) -> Tensor:
    """Return the covariance (C, C) of the channels over all pixels of images (B, C, H, W)."""
    pixels = as_tensor(images, "images").double()
    return torch.cov(pixels.movedim(1, 0).flatten(1), correction=0).reshape(pixels.shape[1], -1)


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
        within = self._within(plain.detach())
        return plain if within is None else StraightThrough.apply(plain, within)

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
        if self._squashes:
            return images.clamp(*self.image_param.limits)
        within = self._within(images)
        return images if within is None else within

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
        """Projected gradient (B, C, H, W): without what would lead out of a box or a ball.

        So the ascent rests only where nothing within the bound is better (to first order).
        """
        low, high = self.image_param.limits
        if self.image_param.bound == "box":
            outwards = ((images <= low) & (gradient < 0)) | ((images >= high) & (gradient > 0))
            return gradient.masked_fill(outwards, 0)
        if self.image_param.bound == "ball":
            sizes = _sizes(images)
            normal = images / sizes.clamp(min=torch.finfo(images.dtype).tiny)
            outwards = (gradient * normal).sum(dim=(1, 2, 3), keepdim=True).clamp(min=0)
            at_edge = sizes >= self.image_param.radius * (1 - _AT_EDGE)
            return gradient - at_edge * outwards * normal
        return gradient

    def _within(self, images: Tensor) -> Tensor | None:
        """Return the nearest images within a box or a ball; None: there is neither."""
        if self.image_param.bound == "box":
            return images.clamp(*self.image_param.limits)
        if self.image_param.bound == "ball":
            return images * (self.image_param.radius / _sizes(images)).clamp(max=1)
        return None

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


def _sizes(images: Tensor) -> Tensor:
    """Return ‖x‖ of each image (B, 1, 1, 1)."""
    sizes: Tensor = torch.linalg.vector_norm(images, dim=(1, 2, 3), keepdim=True)
    return sizes


def parametrization(
    image_param: ImageParam, shape: tuple[int, int, int], device: torch.device, dtype: torch.dtype
) -> Parametrization:
    """Image parametrisation for images of a shape (C, H, W).

    Raises:
        ValueError: colours of another number of channels, or that cannot be told apart.
    """
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


def _mixing(colors: Literal["auto", "none"] | Tensor, num_channels: int) -> Tensor:
    """Return the root (C, C) of a covariance of channels, scaled to a mean variance of 1."""
    if isinstance(colors, str):
        if colors == "none" or num_channels != 3:
            return torch.eye(num_channels, dtype=torch.float64)
        colors = imagenet_covariance()
    covariance = colors.detach().double().cpu()
    if covariance.shape != (num_channels, num_channels):
        accepted = f"({num_channels}, {num_channels}), as the images have channels"
        raise value_error("colors", f"shape {tuple(covariance.shape)}", accepted)
    variances, axes = torch.linalg.eigh(covariance)
    if variances[0] <= 1e-9 * variances[-1]:
        accepted = "a covariance of channels none of which follows from the others"
        raise argument_error("colors", f"variances {variances.tolist()}", accepted)
    root: Tensor = axes * (variances / variances.mean()).sqrt()
    return root
