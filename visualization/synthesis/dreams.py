"""DeepDream: what a network sees in an image is amplified, at several sizes.

Mordvintsev, Olah and Tyka 2015, Inceptionism: going deeper into neural networks, Google Research.

B images, C channels, H rows, W columns.
"""

import functools
import operator
from collections.abc import Sequence

import attrs
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.core.errors import argument_error, check_count, value_error
from visualization.core.inputs import (
    Images,
    as_images,
    as_record,
    at_least_float32,
    inspection_mode,
)
from visualization.core.records import brief_repr
from visualization.core.tracing import NamedLayer
from visualization.synthesis.ascent import ForwardFn, input_gradient
from visualization.synthesis.objective import Objective, caching_forward
from visualization.synthesis.objectives import layer_energy
from visualization.synthesis.parametrization import check_within
from visualization.synthesis.redirected_relu import RedirectedReLU
from visualization.synthesis.transforms import Jitter

_USUAL_OCTAVES = 4
_TINY = 1e-12  # what a gradient's size is at least, to divide by
_SMALLEST = 4  # pixels a side, of octaves that were not asked for


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class Dream:
    """DeepDream of B images.

    Attributes:
        names: what was made stronger, in each image or in all of them.
        originals: (B, C, H, W).
        stages: after each octave, the smallest first, at its size (B, C, h, w); the last one is the
            result.
        starts: what the objective reads of the originals (B,).
        values: and of the results (B,).
        limits: the lowest and the highest value of a pixel.
    """

    names: tuple[str, ...]
    originals: Tensor
    stages: tuple[Tensor, ...]
    starts: NDArray[np.float64]
    values: NDArray[np.float64]
    limits: tuple[float, float]

    @property
    def images(self) -> Tensor:
        """The results (B, C, H, W)."""
        return self.stages[-1]


def dream(
    model: nn.Module,
    images: Images,
    objective: NamedLayer | Sequence[NamedLayer] | Objective,
    *,
    octaves: int | None = None,
    octave_scale: float = 1.4,
    steps: int = 10,
    rate: float = 0.02,
    jitter: int | None = None,
    limits: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
) -> Dream:
    """DeepDream: amplify what a network sees in images, in small copies first.

    Args:
        model: any module; it is left as it was.
        images: (B, C, H, W), or one (C, H, W), within `limits`.
        objective: layers, by name or as modules, whose activations are amplified (see
            `layer_energy`), or what else is to be; a pass ends at the last layer that it needs.
        octaves: sizes, the image's own included; None: up to 4, as far as the model takes images
            that small and a side has 4 pixels or more.
        octave_scale: factor from one size to the next.
        steps: in each octave.
        rate: by how much a pixel changes on average in a step, as a share of the range.
        jitter: shift of each step, at most, in pixels; None: a sixteenth of the shorter side.
        limits: the lowest and the highest value of a pixel.
        seed: of the shifts.

    Raises:
        ValueError: names the argument; octaves that the model does not take.
    """
    if octave_scale <= 1:
        raise value_error("octave_scale", octave_scale, "above 1")
    check_count(octaves, "octaves")
    objective = objective if isinstance(objective, Objective) else _energy_of(objective)
    with inspection_mode(model), caching_forward(model, objective.layers) as forward:
        originals = at_least_float32(as_images(images, model))
        check_within(originals, limits, "images")
        run = _DreamRun(
            forward=forward, objective=objective, rows=_rows(objective, originals), limits=limits,
            steps=steps, rate=rate,
        )  # fmt: skip
        starts = run.read(originals)
        sizes = _sizes(run, originals, octaves, octave_scale)
        shift = round(min(originals.shape[2:]) / 16) if jitter is None else jitter
        stages = _stages(run, originals, sizes, Jitter(shift), seed)
        values = run.read(stages[-1])
    return Dream(
        names=objective.names, originals=as_record(originals),
        stages=tuple(map(as_record, stages)), starts=starts, values=values, limits=limits,
    )  # fmt: skip


def _stages(
    run: "_DreamRun", originals: Tensor, sizes: list[tuple[int, int]], jitter: Jitter, seed: int
) -> list[Tensor]:
    """Return the images after each octave: the original at its size, with the detail so far."""
    generator = torch.Generator().manual_seed(seed)
    stages: list[Tensor] = []
    for size in sizes:
        images = resized(originals, size)
        if stages:
            images = images + resized(stages[-1] - resized(originals, sizes[len(stages) - 1]), size)
        stages.append(run.further(images, jitter, generator))
    return stages


@attrs.frozen(kw_only=True, eq=False)
class _DreamRun:
    """Settings of a dream that are the same for all octaves."""

    forward: ForwardFn
    objective: Objective
    rows: Tensor
    limits: tuple[float, float]
    steps: int
    rate: float

    @torch.no_grad()
    def read(self, images: Tensor) -> NDArray[np.float64]:
        """Return what the objective reads of images (B,)."""
        return self.objective.read(self.forward(images, self.rows)).double().cpu().numpy()

    def further(self, images: Tensor, jitter: Jitter, generator: torch.Generator) -> Tensor:
        """Return images after the steps of an octave, each along the gradient scaled to size 1."""
        low, high = self.limits
        redirection = RedirectedReLU(len(images), images.device)
        for _ in range(self.steps):
            leaf = images.clamp(low, high).detach().requires_grad_()
            with redirection.forward_pass():
                cache = self.forward(jitter(leaf, generator), self.rows)
                value = self.objective.read(cache) + self.objective.prior(cache)
            gradient = input_gradient(value, leaf)
            redirection.update(gradient)
            size = gradient.abs().mean(dim=(1, 2, 3), keepdim=True).clamp(min=_TINY)
            images = leaf + self.rate * (high - low) * gradient / size
        return images.detach().clamp(low, high)


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Return images (B, C, H, W) at another size (height, width)."""
    if images.shape[2:] == size:
        return images
    return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)


def _energy_of(layers: NamedLayer | Sequence[NamedLayer]) -> Objective:
    """Return the objective that makes all of one or several layers stronger."""
    each = [layers] if isinstance(layers, (str, nn.Module)) else list(layers)
    if not each:
        raise argument_error("objective", "there are no layers", "one or more, or an Objective")
    return functools.reduce(operator.add, map(layer_energy, each))


def _rows(objective: Objective, images: Tensor) -> Tensor:
    """Return which of its images the objective is to see in each (B,)."""
    if len(objective.names) not in (1, len(images)):
        problem = f"an objective for {len(objective.names)} does not go with {len(images)}"
        raise argument_error("images", problem, "as many, or an objective for 1")
    return torch.arange(len(images), device=images.device) % len(objective.names)


def _sizes(
    run: _DreamRun, images: Tensor, octaves: int | None, octave_scale: float
) -> list[tuple[int, int]]:
    """Return the sizes (height, width) of the octaves, the smallest first."""
    height, width = images.shape[2:]
    sizes, problem = [(height, width)], ""
    for octave in range(1, octaves or _USUAL_OCTAVES):
        factor = octave_scale**octave
        size = (max(round(height / factor), 1), max(round(width / factor), 1))
        if octaves is None and min(size) < _SMALLEST:
            break
        problem = _size_problem(run, resized(images[:1], size).expand(len(images), -1, -1, -1))
        if problem:
            break
        sizes.insert(0, size)
    if octaves is not None and len(sizes) < octaves:
        reason = f"the model does not take images of {size[0]}×{size[1]}: {problem}"
        accepted = f"1 to {len(sizes)}" if len(sizes) > 1 else "1"
        way = "or an objective on a layer before what fixes the size, such as a convolution"
        raise argument_error("octaves", f"{octaves}, but {reason}", f"{accepted}, {way}")
    return sizes


def _size_problem(run: _DreamRun, images: Tensor) -> str:
    """Return what a model says to images of a size that it does not take, "" where it does."""
    try:
        run.read(images)
    except Exception as error:  # whatever a model raises: at another size it runs
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    return ""
