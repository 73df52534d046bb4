"""Images that excite a network most: activation maximisation, many units in one batch.

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


@attrs.frozen(eq=False, field_transformer=brief_repr)
class MaximisedImages:
    """B images found, and how.

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
    blur: float = 0.0, blur_every: int = 8,
    start: Images | None = None, noise: float = 0.1, num_images: int = 1,
    reference: Images | Iterable[Any] | None = None, prior_strength: float = 1.0,
    stop_at: float | None = None, batch_size: int = 64, seed: int = 0,
) -> MaximisedImages:  # fmt: skip
    """Find images that excite what an objective names, from noise or from images.

    All are optimised together. One whose gradient is exactly zero is helped by a `RedirectedReLU`,
    or begun again at a real image that excites it; if all that fails, its verdict is `dead`.

    Args:
        model: any module; it is left as it was.
        objective: see `objectives` and `constraints`; a list: one for each image; a function: of
            what was seen of a pass, such as `lambda seen: seen.output[:, 3]` (see `custom`). Priors
            that keep an image tame are added to it: `channel("conv1", 3) + 0.01 * l2()`.
        input_shape: (C, H, W); None: that of `start` or of `reference`.
        steps: of the ascent.
        rate: of learning, in units of what is held (see `Parametrization`).
        optimiser: `adam`, or `sgd`: the plain gradient times the rate.
        image_param: how images are held; None: `ImageParam()`, and with a start
            `ImageParam(bound="box")`, which holds that exactly.
        transforms: small moves that the image is to survive; None: those that are
            `default_transforms` for as many pixels as what is asked for depends on; (): none.
        blur: standard deviation in pixels of a Gaussian that smooths now and then; 0: never.
        blur_every: steps from one to the next.
        start: (B, C, H, W), or one for all; None: noise, the same for each image of a batch, but
            for those that share a name.
        noise: size of it; see `Parametrization.noise`.
        num_images: B, for an objective that does not say so itself.
        reference: real images (N, C, H, W), or batches of them, to compare with, and to tame by.
        prior_strength: how strongly priors keep the image to as little ink and as few edges as real
            images have, relative to what is asked for (see `with_matched_priors`); 0, or without
            reference: not at all.
        stop_at: value of the objective (without priors) at which to end, as soon as all have it.
        batch_size: images that are optimised together; an objective that compares images takes all.
        seed: of the noise and the transforms.

    Raises:
        ValueError: names the argument, and what is accepted.
    """
    asked = as_objective(objective)
    with inspection_mode(model):
        real = (
            None
            if reference is None
            else best_dataset_examples(model, asked, reference, batch_size)
        )
        asked = (
            with_matched_priors(asked, real, prior_strength) if real and prior_strength else asked
        )
        begin = None if start is None else at_least_float32(as_images(start, model, "start"))
        shape = _shape(input_shape, begin, real)
        names = _names(asked, num_images, begin)
        chosen = image_param or ImageParam(bound="sigmoid" if begin is None else "box")
        device, dtype = device_and_dtype(model)
        param = parametrization(chosen, shape, device, torch.promote_types(dtype, torch.float32))
        held = _initial_latent(param, begin, names, noise, seed)
        ascent = GradientAscent(steps, rate, optimiser, blur, blur_every, stop_at, seed)
        run = functools.partial(_ascend_batches, model, asked, param, transforms, batch_size)
        found, from_real = _ascend_with_retries(run, param, held, ascent, real, asked.coupled)
    met = min(asked.most if asked.layers else math.inf, math.inf if stop_at is None else stop_at)
    return _record(found, names, met, chosen.limits, real, from_real)


def _ascend_batches(
    model: nn.Module, asked: Objective, param: Parametrization,
    transforms: Sequence[Transform] | None, batch_size: int, held: Tensor,
    which: NDArray[np.int64], ascent: GradientAscent,
) -> AscentResult:  # fmt: skip
    """Return what came of some images, by their numbers (B,), batch after batch."""
    rows = torch.as_tensor(which, device=held.device) % len(asked.names)
    parts, order = [], []
    with caching_forward(model, asked.layers) as look:
        size = len(rows) if asked.coupled else batch_size
        groups = _groups(look, asked, param, rows, transforms, size, ascent.seed)
        for moves, places in groups:
            parts.append(ascend(look, asked, param, held[places], rows[places], ascent, moves))
            order.append(places)
    return concatenated(parts, np.concatenate(order))


def _ascend_with_retries(
    run: Callable[[Tensor, NDArray[np.int64], GradientAscent], AscentResult],
    param: Parametrization, held: Tensor, ascent: GradientAscent, real: DatasetExamples | None,
    is_coupled: bool,
) -> tuple[AscentResult, NDArray[np.bool_]]:  # fmt: skip
    """Return what came of all images, what was dead tried in other ways; and what of real ones."""
    every = np.arange(len(held))
    found = run(held, every, ascent)
    from_real = np.zeros(len(held), bool)
    dead = every[found.dead]
    if len(dead) and not is_coupled:
        again = run(held[dead], dead, attrs.evolve(ascent, nearest=True))
        found = found.with_others(dead, again)
    if real is not None:
        best = every % len(real.values)
        dead = every[found.dead & (real.values[best] > found.starts)]
        if len(dead):
            begun = param.latent(param.nearest(real.images[best[dead]]))
            found = found.with_others(dead, run(begun, dead, ascent))
            from_real[dead] = ~found.dead[dead]
    return found, from_real


def _groups(
    look: ForwardFn, objective: Objective, param: Parametrization, rows: Tensor,
    transforms: Sequence[Transform] | None, size: int, seed: int,
) -> Iterator[tuple[tuple[Transform, ...], NDArray[np.int64]]]:  # fmt: skip
    """Yield the transforms and the places of images that are optimised together."""
    given = tuple(transforms or ())
    moves = [given] * len(rows)
    if transforms is None:
        parts = torch.split(rows, size)
        sides = [
            side for part in parts for side in receptive_extent(look, objective, param, part, seed)
        ]
        moves = [default_transforms(max(sides) if objective.coupled else side) for side in sides]
    for each_moves in dict.fromkeys(moves):
        places = np.array([at for at, own in enumerate(moves) if own == each_moves])
        for first in range(0, len(places), size):
            yield each_moves, places[first : first + size]


def as_objective(objective: Objective | Sequence[Objective] | Measure) -> Objective:
    """Return an objective from what `maximise` takes as one."""
    if isinstance(objective, Objective):
        return objective
    return per_image(objective) if isinstance(objective, Sequence) else custom(objective)


def _shape(given: Shape | None, begin: Tensor | None, real: DatasetExamples | None) -> Shape:
    """Return the shape (C, H, W) of the images."""
    if given is not None and (len(given) != 3 or min(given) < 1):
        raise ValueError(f"input_shape: {given} is not accepted; accepted: (C, H, W), each from 1")
    known = [begin.shape[1:]] if begin is not None else []
    known += [real.images.shape[1:]] if real is not None else []
    shapes = [(int(c), int(h), int(w)) for c, h, w in known]
    shapes = shapes if given is None else [given, *shapes]
    if not shapes:
        raise ValueError("input_shape: is missing; accepted: (C, H, W), a start, or a reference")
    if len(set(shapes)) > 1:
        raise ValueError(f"input_shape: {shapes[0]} is not that of other images, {shapes[1]}")
    return shapes[0]


def _names(objective: Objective, num_images: int, begin: Tensor | None) -> tuple[str, ...]:
    """Return the name of each of B images."""
    starts = 1 if begin is None else len(begin)
    counts = {"objective": len(objective.names), "num_images": num_images, "start": starts}
    several = {name: count for name, count in counts.items() if count != 1}
    if num_images < 1 or len(set(several.values())) > 1:
        problem = ", ".join(f"{name} for {count}" for name, count in several.items())
        raise ValueError(f"images: {problem}; accepted: the same number, or 1")
    total = max(counts.values())
    return objective.names if len(objective.names) == total else objective.names * total


def _initial_latent(
    param: Parametrization, begin: Tensor | None, names: tuple[str, ...], noise: float, seed: int
) -> Tensor:
    """Return what is held at the start."""
    if begin is None:
        seen: Counter[str] = Counter()
        copies = []  # which of the images of its name each is
        for name in names:
            copies.append(seen[name])
            seen[name] += 1
        generator = torch.Generator().manual_seed(seed)
        drawn = param.noise(max(seen.values()), noise, generator)
        return drawn[copies]
    if param.image_param.bound in ("sigmoid", "box"):
        check_within(begin, param.image_param.limits, "start")
    return param.latent(begin.expand(len(names), -1, -1, -1))


def _record(
    found: AscentResult, names: tuple[str, ...], stop_at: float,
    limits: tuple[float, float], real: DatasetExamples | None, from_real: NDArray[np.bool_],
) -> MaximisedImages:  # fmt: skip
    """Return the record, with a verdict for each image."""
    verdicts = tuple(_verdict(found, at, stop_at, from_real[at]) for at in range(len(names)))
    dead = torch.tensor([verdict == "dead" for verdict in verdicts])
    images = as_record(found.images).masked_fill(dead.reshape(-1, 1, 1, 1), torch.nan)
    if real is not None and len(real.values) < len(names):
        real = real.repeated(len(names))
    return MaximisedImages(
        images, names, found.values, found.starts, found.steps, found.curve, found.best,
        verdicts, limits, real,
    )  # fmt: skip


def _verdict(found: AscentResult, at: int, stop_at: float, from_real: bool) -> Verdict:
    start, value = found.starts[at], found.values[at]
    if value >= stop_at:
        return "met"
    if found.dead[at]:
        return "dead"
    if from_real:
        return "real"
    if found.best[at] == 0 or (found.zero_gradient[at] and not value > start):
        return "unchanged"
    return "redirected" if found.zero_gradient[at] else "risen"
