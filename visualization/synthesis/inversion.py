"""Feature inversion: an image from its representation, or from any given output.

Mahendran and Vedaldi 2015, Understanding deep image representations by inverting them, 1412.0035.

B images, L layers, C channels, H rows, W columns.
"""

from collections.abc import Sequence

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.core.earlier_names import renamed_arguments
from visualization.core.errors import value_error
from visualization.core.inputs import (
    Images,
    activation,
    as_images,
    as_record,
    inspection_mode,
    optional_layer_name,
)
from visualization.core.records import brief_repr
from visualization.core.tracing import NamedLayer
from visualization.synthesis.ascent import Optimiser
from visualization.synthesis.constraints import match_activation, total_variation
from visualization.synthesis.maximise import MaximisedImages, Shape, maximise
from visualization.synthesis.objective import Measure, Objective, per_image
from visualization.synthesis.parametrization import ImageParam, check_within
from visualization.synthesis.transforms import Transform


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class Inversion:
    """Feature inversions of B images from L layers.

    Attributes:
        layers: dotted names (L,); None: the model's own output.
        originals: (B, C, H, W).
        images: that excite each layer most nearly as the originals do (L, B, C, H, W).
        errors: of the activations, ‖a − target‖ / ‖target‖ (L, B).
        differences: of the pixels, root mean square, as a share of the range (L, B).
        limits: the lowest and the highest value of a pixel.
    """

    layers: tuple[str | None, ...]
    originals: Tensor
    images: Tensor
    errors: NDArray[np.float64]
    differences: NDArray[np.float64]
    limits: tuple[float, float]


@renamed_arguments(canvas="image_param")
def invert(
    model: nn.Module,
    layers: NamedLayer | Sequence[NamedLayer | None] | None,
    images: Images,
    *,
    steps: int = 300,
    rate: float = 0.2,
    image_param: ImageParam | None = None,
    smoothness: float = 0.02,
    noise: float = 0.1,
    batch_size: int = 64,
    seed: int = 0,
) -> Inversion:
    """Feature inversion: images that a layer cannot tell from given ones (Mahendran & Vedaldi).

    Args:
        model: any module; it is left as it was.
        layers: dotted names or modules, or one; all are inverted side by side; None: the model's
            own output.
        images: to be found again (B, C, H, W), or one (C, H, W).
        steps: of the ascent.
        rate: learning rate, in units of the latent numbers (see `Parametrization`).
        image_param: image parametrisation; None: `ImageParam("pixel", "box")`, by which early
            layers are inverted exactly.
        smoothness: weight of the total variation of an average pixel beside the squared relative
            error; where a layer leaves it open, the smoothest image is found.
        noise: size of the start; see `Parametrization.noise`.
        batch_size: images that are optimised together.
        seed: of the noise.

    Raises:
        ValueError: names the argument; an image whose activation is zero all over.
    """
    selection = [layers] if layers is None or isinstance(layers, (str, nn.Module)) else layers
    names = [optional_layer_name(model, layer, "layers") for layer in selection]
    settings = image_param or ImageParam("pixel", "box")
    with inspection_mode(model):
        own = as_images(images, model)
        check_within(own, settings.limits, "images")
        with torch.no_grad():
            objectives = [match_activation(name, activation(model, own, name)) for name in names]
        _, channels, height, width = own.shape
        objective = per_image(objectives) + smoothness / (height * width) * total_variation()
        result = maximise(
            model, objective, (channels, height, width), steps=steps, rate=rate,
            image_param=settings, transforms=(), noise=noise, batch_size=batch_size, seed=seed,
        )  # fmt: skip
    originals = as_record(own)
    shape = (len(names), *originals.shape)
    remade = result.images.reshape(shape)
    low, high = settings.limits
    squares = (remade - originals).double().pow(2).flatten(2).mean(dim=2)
    return Inversion(
        layers=tuple(names), originals=originals, images=remade,
        errors=np.sqrt(-result.values).reshape(shape[:2]),
        differences=(squares.sqrt() / (high - low)).numpy(), limits=settings.limits,
    )  # fmt: skip


@attrs.frozen(eq=False, field_transformer=brief_repr)
class Solution:
    """B images that were optimised to satisfy constraints.

    Attributes:
        result: the images and how they came about; where several satisfy it, the best by the
            priors.
        originals: where the search began, if not at noise (B, C, H, W).
        shortfalls: how far each is from what is demanded, at least 0 (B,).
        tolerance: the shortfall up to which it counts as satisfied.
    """

    result: MaximisedImages
    originals: Tensor | None
    shortfalls: NDArray[np.float64]
    tolerance: float

    @property
    def images(self) -> Tensor:
        """The images (B, C, H, W)."""
        return self.result.images

    @property
    def satisfied(self) -> NDArray[np.bool_]:
        """Whether each image satisfies the demand (B,)."""
        return np.asarray(self.shortfalls <= self.tolerance)


@renamed_arguments(canvas="image_param")
def solve(
    model: nn.Module,
    demand: Objective | Sequence[Objective] | Measure,
    input_shape: Shape | None = None,
    *,
    tolerance: float = 0.01,
    start: Images | None = None,
    steps: int = 512,
    rate: float = 0.02,
    optimiser: Optimiser = "adam",
    image_param: ImageParam | None = None,
    transforms: Sequence[Transform] = (),
    noise: float = 0.1,
    num_images: int = 1,
    batch_size: int = 64,
    seed: int = 0,
) -> Solution:
    """Constraint satisfaction: images for which a network gives any output that you ask for.

    A demand is 0 where it is met and below 0 elsewhere: `class_distribution([0.5, 0.5, 0, …])` for
    shares of classes, `match_activation(layer, activation)`, `at_least`, `at_most` or `equals` of
    any objective, sums of them, or a function of what is seen of a pass. Priors can be added, which
    do not count as
    demanded: `class_distribution(…) + 0.01 * l2(image)` stays near an image.

    Args:
        model: any module; it is left as it was.
        demand: one; or a list: one for each image.
        input_shape: (C, H, W); None: that of `start`.
        tolerance: how far below 0 still counts as 0.
        start: (B, C, H, W), or one for all; None: noise.
        steps: at most.
        rate: of learning.
        optimiser: `adam` or `sgd`.
        image_param: image parametrisation; None: as in `maximise`.
        transforms: small moves despite which the demand is sought; it is judged without them.
        noise: size of it; see `Parametrization.noise`.
        num_images: B, for a demand that does not say so itself.
        batch_size: images that are optimised together.
        seed: of the noise and the transforms.

    Raises:
        ValueError: names the argument, and what is accepted.
    """
    if tolerance < 0:
        raise value_error("tolerance", tolerance, "0 or more")
    result = maximise(
        model, demand, input_shape, start=start, steps=steps, rate=rate, optimiser=optimiser,
        image_param=image_param, transforms=transforms, noise=noise, num_images=num_images,
        stop_at=-tolerance,
        batch_size=batch_size, seed=seed,
    )  # fmt: skip
    originals = None
    if start is not None:
        originals = as_record(as_images(start, model, "start")).expand_as(result.images)
    return Solution(result, originals, np.maximum(-result.values, 0), tolerance)
