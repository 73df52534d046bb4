"""Activation maximisation (feature visualisation), many units in one batch.

Erhan et al. 2009, Visualizing higher-layer features of a deep network; Olah et al. 2017, Feature
Visualization, distill.pub.

B images, C channels, H rows, W columns, T steps at which the objective was measured.
"""

import functools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.core.earlier_names import renamed_arguments
from visualization.core.errors import argument_error, value_error
from visualization.core.inputs import (
    Images,
    as_images,
    as_record,
    at_least_float32,
    device_and_dtype,
    inspection_mode,
)
from visualization.core.records import brief_repr
from visualization.synthesis.ascent import (
    AscentResult,
    ForwardFn,
    GradientAscent,
    Optimiser,
    ascend,
    concatenated,
    receptive_extent,
)
from visualization.synthesis.dataset_examples import (
    DatasetExamples,
    best_dataset_examples,
    with_matched_priors,
)
from visualization.synthesis.objective import Measure, Objective, caching_forward, custom, per_image
from visualization.synthesis.parametrization import (
    ImageParam,
    Parametrization,
    check_within,
    parametrization,
)
from visualization.synthesis.transforms import Transform, default_transforms

Verdict = Literal["risen", "redirected", "real", "met", "unchanged", "dead"]
Shape = tuple[int, int, int]  # channels, height, width

_SENTENCES: dict[Verdict, str] = {
    "risen": "rose by the plain gradient",
    "redirected": "silent at the start, with a gradient of exactly zero: opened by redirected "
    "gradients",
    "real": "silent from its start, redirected gradients included: begun again at the best real "
    "image, which excites it",
    "met": "all that was demanded is met",
    "unchanged": "no image on the way was better than the start, which is all that is shown",
    "dead": "silent: its gradient was exactly zero at the start, and nothing that was tried, "
    "redirected gradients through shut ReLUs included, excited it. No image of it was found",
}


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class MaximisedImages:
    """Activation maximisation of B images.

    All numbers are of the images as they are, without transforms.

    Attributes:
        images: the best ones on the way (B, C, H, W); of what is `dead`: NaN.
        names: what each was to excite (B,).
        values: what the objective reads there, such as an activation, without priors (B,).
        starts: the same at the start (B,).
        steps: at which the whole objective, with priors, was measured (T,).
        curve: its values (T, B).
        best: the step of each image (B,).
        verdicts: `risen`; `redirected`: after a start without gradient; `real`: found from the best
            real image alone; `met`: reached `enough`, or all that can be; `unchanged`: nothing
            better than the start was found; `dead`: neither gradient nor redirected gradient
            helped, and no real image that was given excites it (B,).
        limits: the lowest and the highest value of a pixel.
        dataset_examples: the best real images, if some were given.
    """

    images: Tensor
    names: tuple[str, ...]
    values: NDArray[np.float64]
    starts: NDArray[np.float64]
    steps: NDArray[np.int64]
    curve: NDArray[np.float64]
    best: NDArray[np.int64]
    verdicts: tuple[Verdict, ...]
    limits: tuple[float, float]
    dataset_examples: DatasetExamples | None = None

    def sentence(self, image: int) -> str:
        """Return what became of an image, in words."""
        return f"{self.names[image]}: {_SENTENCES[self.verdicts[image]]}"

    @property
    def dead(self) -> tuple[str, ...]:
        """The names of what nothing excited."""
        return tuple(n for n, v in zip(self.names, self.verdicts, strict=True) if v == "dead")


@renamed_arguments(canvas="image_param", tame="prior_strength", enough="stop_at")
def maximise(
    model: nn.Module, objective: Objective | Sequence[Objective] | Measure,
    input_shape: Shape | None = None, *,
    steps: int = 256, rate: float = 0.1, optimiser: Optimiser = "adam",
    image_param: ImageParam | None = None, transforms: Sequence[Transform] | None = None,
    blur: float = 0.0,
    start: Images | None = None, noise: float = 0.1, num_images: int = 1,
    reference: Images | Iterable[Any] | None = None, prior_strength: float = 1.0,
    stop_at: float | None = None, batch_size: int = 64, seed: int = 0,
) -> MaximisedImages:  # fmt: skip
    """Activation maximisation: images that maximise an objective, from noise or from images.

    All are optimised together. One whose gradient is exactly zero is helped by a `RedirectedReLU`,
    or begun again at a real image that excites it; if all that fails, its verdict is `dead`.

    Args:
        model: any module; it is left as it was.
        objective: see `objectives` and `constraints`; a list: one for each image; a function of a
            pass: see `custom`. Priors are added to it: `channel("conv1", 3) + 0.01 * l2()`.
        input_shape: (C, H, W); None: that of `start` or of `reference`.
        steps: of the ascent.
        rate: learning rate, in units of the latent numbers (see `Parametrization`).
        optimiser: `adam`, or `sgd`: the plain gradient times the rate.
        image_param: image parametrisation; None: `ImageParam()`, with a start its bound is `box`.
        transforms: for robustness; None: `default_transforms` for the extent of the objective.
        blur: standard deviation in pixels of a Gaussian that smooths every 8 steps; 0: never.
        start: (B, C, H, W), or one for all; None: noise, different only for images of one name.
        noise: size of it; see `Parametrization.noise`.
        num_images: B, for an objective that does not say so itself.
        reference: real images (N, C, H, W), or batches of them, to compare with, and by which
            priors on ink and edges are weighted (see `with_matched_priors`).
        prior_strength: multiplies these weights; 0: no such priors.
        stop_at: value of the objective (without priors) at which to end, as soon as all have it.
        batch_size: images optimised together; an objective that compares images takes all.
        seed: of the noise and the transforms.

    Raises:
        ValueError: names the argument, and what is accepted.
    """
    objective, examples = as_objective(objective), None
    with inspection_mode(model):
        if reference is not None:
            examples = best_dataset_examples(model, objective, reference, batch_size)
        if examples and prior_strength:
            objective = with_matched_priors(objective, examples, prior_strength)
        start_images = None if start is None else at_least_float32(as_images(start, model, "start"))
        shape = _shape(input_shape, start_images, examples)
        names = _names(objective, num_images, start_images)
        settings = image_param or ImageParam(bound="sigmoid" if start_images is None else "box")
        param = _parametrization_for(model, settings, shape)
        latent = _initial_latent(param, start_images, names, noise, seed)
        ascent = GradientAscent(
            steps=steps, rate=rate, optimiser=optimiser, blur=blur, stop_at=stop_at, seed=seed,
        )  # fmt: skip
        run = functools.partial(_ascend_batches, model, objective, param, transforms, batch_size)
        result, retried = _with_retries(run, param, latent, ascent, examples, objective.coupled)
    reached = _target_value(objective, stop_at)
    return _record(result, names, reached, settings.limits, examples, retried)


def _parametrization_for(model: nn.Module, settings: ImageParam, shape: Shape) -> Parametrization:
    """Return the image parametrisation on a model's device, in at least single precision."""
    device, dtype = device_and_dtype(model)
    return parametrization(settings, shape, device, torch.promote_types(dtype, torch.float32))


def _target_value(objective: Objective, stop_at: float | None) -> float:
    """Return the value at which an image meets all that is demanded."""
    most = objective.most if objective.layers else math.inf
    return most if stop_at is None else min(most, stop_at)


def _ascend_batches(
    model: nn.Module, objective: Objective, param: Parametrization,
    transforms: Sequence[Transform] | None, batch_size: int, latent: Tensor,
    which: NDArray[np.int64], ascent: GradientAscent,
) -> AscentResult:  # fmt: skip
    """Gradient ascent of some images, by their numbers (B,), batch after batch."""
    rows = torch.as_tensor(which, device=latent.device) % len(objective.names)
    parts, order = [], []
    with caching_forward(model, objective.layers) as forward:
        size = len(rows) if objective.coupled else batch_size
        groups = _groups(forward, objective, param, rows, transforms, size, ascent.seed)
        for moves, positions in groups:
            parts.append(
                ascend(forward, objective, param, latent[positions], rows[positions], ascent, moves)
            )
            order.append(positions)
    return concatenated(parts, np.concatenate(order))


def _with_retries(
    run: Callable[[Tensor, NDArray[np.int64], GradientAscent], AscentResult],
    param: Parametrization, latent: Tensor, ascent: GradientAscent,
    examples: DatasetExamples | None,
    is_coupled: bool,
) -> tuple[AscentResult, NDArray[np.bool_]]:  # fmt: skip
    """Gradient ascent of all images, with other attempts for dead ones."""
    every = np.arange(len(latent))
    result = run(latent, every, ascent)
    from_example = np.zeros(len(latent), bool)
    dead = every[result.dead]
    if len(dead) and not is_coupled:
        again = run(latent[dead], dead, attrs.evolve(ascent, nearest=True))
        result = result.with_others(dead, again)
    if examples is not None:
        best = every % len(examples.values)
        dead = every[result.dead & (examples.values[best] > result.starts)]
        if len(dead):
            example_latent = param.latent(param.nearest(examples.images[best[dead]]))
            result = result.with_others(dead, run(example_latent, dead, ascent))
            from_example[dead] = ~result.dead[dead]
    return result, from_example


def _groups(
    forward: ForwardFn, objective: Objective, param: Parametrization, rows: Tensor,
    transforms: Sequence[Transform] | None, size: int, seed: int,
) -> Iterator[tuple[tuple[Transform, ...], NDArray[np.int64]]]:  # fmt: skip
    """Yield the transforms and the places of images that are optimised together."""
    fixed = tuple(transforms or ())
    moves = [fixed] * len(rows)
    if transforms is None:
        parts = torch.split(rows, size)
        sides = [
            side
            for part in parts
            for side in receptive_extent(forward, objective, param, part, seed)
        ]
        moves = [default_transforms(max(sides) if objective.coupled else side) for side in sides]
    for each_moves in dict.fromkeys(moves):
        positions = np.array([position for position, own in enumerate(moves) if own == each_moves])
        for first in range(0, len(positions), size):
            yield each_moves, positions[first : first + size]


def as_objective(objective: Objective | Sequence[Objective] | Measure) -> Objective:
    """Return an objective from what `maximise` takes as one."""
    if isinstance(objective, Objective):
        return objective
    return per_image(objective) if isinstance(objective, Sequence) else custom(objective)


def _shape(
    input_shape: Shape | None, start_images: Tensor | None, examples: DatasetExamples | None
) -> Shape:
    """Return the shape (C, H, W) of the images."""
    if input_shape is not None and (len(input_shape) != 3 or min(input_shape) < 1):
        raise value_error("input_shape", input_shape, "(C, H, W), each from 1")
    image_shapes = [start_images.shape[1:]] if start_images is not None else []
    image_shapes += [examples.images.shape[1:]] if examples is not None else []
    shapes = [(int(c), int(h), int(w)) for c, h, w in image_shapes]
    shapes = shapes if input_shape is None else [input_shape, *shapes]
    if not shapes:
        raise argument_error("input_shape", "is missing", "(C, H, W), a start, or a reference")
    if len(set(shapes)) > 1:
        raise argument_error("input_shape", f"{shapes[0]} differs from other images", shapes[1])
    return shapes[0]


def _names(objective: Objective, num_images: int, start_images: Tensor | None) -> tuple[str, ...]:
    """Return the name of each of B images."""
    starts = 1 if start_images is None else len(start_images)
    counts = {"objective": len(objective.names), "num_images": num_images, "start": starts}
    several = {name: count for name, count in counts.items() if count != 1}
    if num_images < 1 or len(set(several.values())) > 1:
        problem = ", ".join(f"{name} for {count}" for name, count in several.items())
        raise argument_error("images", problem, "the same number, or 1")
    total = max(counts.values())
    return objective.names if len(objective.names) == total else objective.names * total


def _initial_latent(
    param: Parametrization,
    start_images: Tensor | None,
    names: tuple[str, ...],
    noise: float,
    seed: int,
) -> Tensor:
    """Return the latent numbers at the start."""
    if start_images is None:
        counts: Counter[str] = Counter()
        copies = []  # which of the images of its name each is
        for name in names:
            copies.append(counts[name])
            counts[name] += 1
        generator = torch.Generator().manual_seed(seed)
        noise_latent = param.noise(max(counts.values()), noise, generator)
        return noise_latent[copies]
    if param.image_param.bound in ("sigmoid", "box"):
        check_within(start_images, param.image_param.limits, "start")
    return param.latent(start_images.expand(len(names), -1, -1, -1))


def _record(
    result: AscentResult, names: tuple[str, ...], stop_at: float,
    limits: tuple[float, float], examples: DatasetExamples | None, from_example: NDArray[np.bool_],
) -> MaximisedImages:  # fmt: skip
    """Return the record, with a verdict for each image."""
    verdicts = tuple(
        _verdict(result, number, stop_at, from_example[number]) for number in range(len(names))
    )
    dead = torch.tensor([verdict == "dead" for verdict in verdicts])
    images = as_record(result.images).masked_fill(dead.reshape(-1, 1, 1, 1), torch.nan)
    if examples is not None and len(examples.values) < len(names):
        examples = examples.repeated(len(names))
    return MaximisedImages(
        images=images, names=names, values=result.values, starts=result.starts, steps=result.steps,
        curve=result.curve, best=result.best, verdicts=verdicts, limits=limits,
        dataset_examples=examples,
    )  # fmt: skip


def _verdict(result: AscentResult, number: int, stop_at: float, from_example: bool) -> Verdict:
    start, value = result.starts[number], result.values[number]
    if value >= stop_at:
        return "met"
    if result.dead[number]:
        return "dead"
    if from_example:
        return "real"
    if result.best[number] == 0 or (result.zero_gradient[number] and not value > start):
        return "unchanged"
    return "redirected" if result.zero_gradient[number] else "risen"
