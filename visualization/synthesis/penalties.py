"""Class images with penalties compared: what L1, L2 and total variation do to them.

Simonyan, Vedaldi and Zisserman 2014, Deep inside convolutional networks, 1312.6034, section 2.

R rows of penalties with strengths, K classes, images (C, H, W).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.core.errors import argument_error, value_error
from visualization.core.inputs import (
    Images,
    activation,
    as_logits,
    as_record,
    at_least_float32,
    device_and_dtype,
    inspection_mode,
)
from visualization.core.records import brief_repr
from visualization.synthesis.ascent import Optimiser
from visualization.synthesis.constraints import l1, l2, total_variation
from visualization.synthesis.dataset_examples import DatasetExamples, best_dataset_examples
from visualization.synthesis.maximise import Shape, Verdict, maximise
from visualization.synthesis.objective import ForwardCache, Objective, per_image
from visualization.synthesis.objectives import logit
from visualization.synthesis.parametrization import ImageParam

NO_PENALTY = "none"


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class PenaltyComparison:
    """Class images with R penalties, or strengths of them, for K classes each.

    What is `dead` has NaN everywhere: see `MaximisedImages`.

    Attributes:
        rows: the name of each row's penalty; the first is `none` (R,).
        strengths: as they were asked for (R,); 0 in the first row.
        weights: λ by which the penalty was multiplied (R,).
        classes: numbers (K,).
        class_names: their names (K,).
        images: (R, K, C, H, W).
        logits: what the model outputs for its class (R, K).
        probabilities: of its class, by a softmax (R, K).
        total_variation: of the images, Σ √(dx² + dy²) (R, K).
        sizes: of each penalty, without its weight, whichever it was that an image was made with
            (R, K).
        verdicts: as of `MaximisedImages` (R · K,).
        around: the grey at which all began.
        limits: the lowest and the highest value of a pixel.
    """

    rows: tuple[str, ...]
    strengths: NDArray[np.float64]
    weights: NDArray[np.float64]
    classes: NDArray[np.int64]
    class_names: tuple[str, ...]
    images: Tensor
    logits: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    total_variation: NDArray[np.float64]
    sizes: Mapping[str, NDArray[np.float64]]
    verdicts: tuple[Verdict, ...]
    around: float
    limits: tuple[float, float]


def compare_penalties(
    model: nn.Module, classes: Iterable[int], input_shape: Shape | None = None, *,
    penalties: Mapping[str, Objective] | None = None, strengths: Sequence[float] = (0.1, 0.3, 1.0),
    reference: Images | None = None, around: float | None = None,
    limits: tuple[float, float] = (0.0, 1.0), steps: int = 128, rate: float = 0.05,
    optimiser: Optimiser = "adam", batch_size: int = 64, class_names: Sequence[str] = (),
) -> PenaltyComparison:  # fmt: skip
    """Class images with L1, L2 and total variation penalties compared (Simonyan et al. 2014).

    The image of each class maximises logit − λ · penalty from a grey page on, pixel by pixel and
    without random moves, so that what differs between rows is the penalty alone. All are optimised
    together. Of a linear neuron in a wide box L2 gives w / λ, L1 in the box [0, 1] gives 1 where
    w > λ and 0 elsewhere.

    Args:
        model: outputs logits (B, K), or probabilities, which are then what is maximised.
        classes: numbers of those that are looked for.
        input_shape: (C, H, W); None: that of `reference`.
        penalties: priors by name; None: L1 and L2 around `around`, and total variation (TV).
        strengths: of each penalty, above 0: λ itself; or, with `reference`, such that at 1 the best
            real images of the classes would on average lose by the penalty the logit that they have
            above mean images, which makes penalties and networks comparable.
        reference: real images (N, C, H, W).
        around: the grey of the start, at which L1 and L2 are 0; None: the median pixel of
            `reference`, or else the middle of the limits.
        limits: the lowest and the highest value of a pixel.
        steps: of the ascent.
        rate: of learning, in units of a pixel.
        optimiser: `adam` or `sgd`.
        batch_size: images that are optimised together.
        class_names: of all classes of the model, for the figure.

    Raises:
        ValueError: names the argument, and what is accepted.
    """
    numbers = [int(number) for number in classes]
    examples, goal = None, logit(numbers)
    with inspection_mode(model):
        if reference is not None:
            examples = best_dataset_examples(model, goal, reference, batch_size)
    grey = _grey(around, examples, limits)
    if penalties is None:
        penalties = {"L1": l1(grey), "L2": l2(grey), "TV": total_variation()}
    rows = _rows(penalties, strengths, examples)
    objectives = [goal] + [goal + row.weight * penalties[row.name] for row in rows[1:]]
    result = maximise(
        model, per_image(objectives), input_shape, start=_page(grey, input_shape, examples),
        steps=steps, rate=rate, optimiser=optimiser, transforms=(), batch_size=batch_size,
        image_param=ImageParam("pixel", "box", limits, "none"),
    )  # fmt: skip
    return PenaltyComparison(
        rows=tuple(row.name for row in rows), strengths=np.array([row.strength for row in rows]),
        weights=np.array([row.weight for row in rows]), classes=np.array(numbers),
        class_names=tuple(class_names[n] if class_names else str(n) for n in numbers),
        around=grey, limits=limits, verdicts=result.verdicts,
        **_readings(model, result.images, numbers, penalties, batch_size),
    )  # fmt: skip


class _Row(NamedTuple):
    """A row of images with one penalty."""

    name: str
    strength: float
    weight: float


def _rows(
    penalties: Mapping[str, Objective], strengths: Sequence[float],
    examples: DatasetExamples | None,
) -> list[_Row]:  # fmt: skip
    """Return the rows: none, and each penalty with each strength."""
    if not all(np.isfinite(strength) and strength > 0 for strength in strengths):
        raise value_error("strengths", list(strengths), "numbers above 0")
    rows = [_Row(NO_PENALTY, 0.0, 0.0)]
    for name, penalty in penalties.items():
        unit = 1.0 if examples is None else _unit(name, penalty, examples)
        rows += [_Row(name, strength, unit * strength) for strength in strengths]
    return rows


def _grey(
    around: float | None, examples: DatasetExamples | None, limits: tuple[float, float]
) -> float:
    """Return the grey at which images begin."""
    if around is not None:
        return around
    return sum(limits) / 2 if examples is None else float(examples.images.median())


def _page(grey: float, shape: Shape | None, examples: DatasetExamples | None) -> Tensor:
    """Return the image (1, C, H, W) at which all begin."""
    if shape is None and examples is None:
        raise argument_error("input_shape", "is missing", "(C, H, W), or a reference")
    own = shape if examples is None else tuple(examples.images.shape[1:])
    if shape is not None and (len(shape) != 3 or min(shape) < 1 or tuple(shape) != own):
        raise value_error("input_shape", shape, own or "(C, H, W), each from 1")
    return torch.full((1, *(own or ())), grey)


def _unit(name: str, penalty: Objective, examples: DatasetExamples) -> float:
    """Return the λ at which the best real images lose what they have above the mean ones."""
    cost = float(_size(penalty, examples.images, (len(examples.images),)).mean())
    if not cost > 0:
        problem = f"{name!r} is 0 for all of the best images, which gives its λ no unit"
        raise argument_error("reference", problem, "images that the penalty punishes, or None")
    return float((examples.values - examples.means).mean()) / cost


def _size(penalty: Objective, images: Tensor, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return what a penalty is for images (N, C, H, W), in a shape of N numbers."""
    cache = ForwardCache(images.double(), {}, torch.zeros(len(images), dtype=torch.long))
    return 0.0 - penalty.prior(cache).numpy().reshape(shape)


def _readings(
    model: nn.Module, images: Tensor, numbers: Sequence[int], penalties: Mapping[str, Objective],
    batch_size: int,
) -> dict[str, Any]:  # fmt: skip
    """Return images (R · K, C, H, W), and what is read of them, in rows."""
    shape = (len(images) // len(numbers), len(numbers))
    with inspection_mode(model), torch.no_grad():
        device, dtype = device_and_dtype(model)
        parts = [
            at_least_float32(activation(model, part.to(device, dtype)))
            for part in torch.split(images, batch_size)
        ]
        output = as_record(torch.cat(parts)).double()
    own = torch.tensor(numbers).repeat(shape[0])[:, None]
    logits, shares = output.gather(1, own), as_logits(output).softmax(dim=1).gather(1, own)
    return {
        "images": images.reshape(*shape, *images.shape[1:]),
        "logits": logits.numpy().reshape(shape), "probabilities": shares.numpy().reshape(shape),
        "total_variation": _size(total_variation(), images, shape),
        "sizes": {name: _size(penalty, images, shape) for name, penalty in penalties.items()},
    }  # fmt: skip
