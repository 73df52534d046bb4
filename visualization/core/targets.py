"""Target scores: the target is resolved once, on the clean images.

B images, R rows of a batch that are made from them (masked, noisy, on the way to a baseline).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from visualization.core.errors import argument_error, check_count
from visualization.core.inputs import (
    OutputSelector,
    Target,
    activation,
    as_logits,
    normalise_target,
    optional_layer_name,
    raw_output,
    select_target,
)
from visualization.core.tracing import NamedLayer


@attrs.frozen(eq=False)
class TargetScore:
    """Target score of a model or layer: one number for each variant of an image.

    Attributes:
        model: the module.
        layer: dotted name; None: the model's output.
        target: what `select_target` takes, but None; a number for each image (B,) is held on the
            CPU. A function gets the raw output for variants and returns their scores (R,).
        batch_size: images that run at once.
        probability: the score is the target's share under a softmax over the classes (B, K), or of
            an output that is a softmax already the target's number.
    """

    model: nn.Module
    layer: str | None
    target: int | tuple[int, ...] | Tensor | OutputSelector
    batch_size: int = 64
    probability: bool = False

    def target_of(self, rows: Tensor | None) -> int | tuple[int, ...] | Tensor | OutputSelector:
        """Return the target of variants of images `rows` (R,); None: of each image in order."""
        if rows is None or not isinstance(self.target, Tensor):
            return self.target
        return self.target[rows.cpu()]

    def __call__(self, variants: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return the scores (R,) of variants (R, C, H, W) of the images `rows` (R,)."""
        target = self.target_of(rows)
        if callable(target):
            answer = raw_output(self.model, variants, self.layer)
            return _check_scores(target(answer), len(variants))
        output = activation(self.model, variants, self.layer)
        return select_target(_softmax(output) if self.probability else output, target)

    def __getitem__(self, images: slice) -> "TargetScore":
        """Return the target score of some of the images."""
        if not isinstance(self.target, Tensor):
            return self
        return attrs.evolve(self, target=self.target[images])

    def on_images(self, images: Tensor) -> Tensor:
        """Return the scores (B,) of the images themselves."""
        numbers = torch.arange(len(images), device=images.device)
        parts = (numbers[span] for span in batch_slices(len(images), self.batch_size))
        return torch.cat([self(images[rows], rows) for rows in parts])


def _check_scores(scores: Any, num: int) -> Tensor:
    """Return what a function gave as the scores of variants, if it is one number for each."""
    if not isinstance(scores, Tensor) or scores.shape != (num,):
        description = tuple(scores.shape) if isinstance(scores, Tensor) else repr(scores)
        accepted = f"a tensor ({num},), a number for each image"
        raise argument_error("target", f"the function returns {description}", accepted)
    return scores


def _softmax(output: Tensor) -> Tensor:
    if output.ndim != 2 or output.shape[1] < 2:
        problem = f"an output of shape {tuple(output.shape)} has no classes"
        raise argument_error("probability", problem, "(B, K) from 2 classes on, or False")
    return as_logits(output).softmax(dim=1)


def resolve_batch_size(batch_size: int | None, images: Tensor, *, graph: bool = False) -> int:
    """Batch size: as given, or as many images as are fast and a budget of memory allows.

    The budget is of numbers in the images (B, C, H, W): 2²² of them, 16 MB in single precision, at
    most 256 images; with a graph, which keeps what each layer outputs, 2²⁰ and 64. What the model
    needs beside is some ten times as much without a graph, some hundred times with it. On a CPU at
    most 64 images run at once, or as many as have 2¹⁶ numbers together: larger feature maps leave
    its caches.

    Raises:
        ValueError: a number below 1.
    """
    check_count(batch_size, "batch_size")
    if batch_size is not None:
        return batch_size
    size = images[0].numel()
    budget, most = (2**20, 64) if graph else (2**22, 256)
    if images.device.type == "cpu":
        most = min(most, max(64, 2**16 // size))
    return max(1, min(most, budget // size))


def resolve_target(
    model: nn.Module, images: Tensor, target: Target, layer: NamedLayer | None,
    batch_size: int | None, *, graph: bool = False,
) -> TargetScore:  # fmt: skip
    """Resolve the target on the clean images: None is the largest class of each (B, C, H, W).

    Otherwise a masked or noisy image would be scored by another class than the image. So is how
    many images run at once, with a graph or without: see `resolve_batch_size`.

    Raises:
        ValueError: as `activation` and `select_target`.
    """
    size = resolve_batch_size(batch_size, images, graph=graph)
    name = optional_layer_name(model, layer, "target_layer")
    resolved = target if callable(target) else normalise_target(target)
    if isinstance(resolved, (int, tuple)) or callable(resolved):
        return TargetScore(model, name, resolved, size)
    if resolved is not None and resolved.shape == (len(images),) and len(images) <= size:
        return TargetScore(model, name, resolved.cpu(), size)  # the first pass checks the rest
    checked = images if resolved is None else images[:1]  # the others have the same shape
    with torch.no_grad():
        parts = (checked[span] for span in batch_slices(len(checked), size))
        output = torch.cat([activation(model, part, name) for part in parts])
        if len(output) == 1:
            output = output.expand(len(images), *output.shape[1:])
        select_target(output, resolved)  # raises what there is to raise before the work begins
    if resolved is None:
        return TargetScore(model, name, output.reshape(len(output), -1).argmax(dim=1).cpu(), size)
    return TargetScore(model, name, resolved.cpu(), size)


def batch_slices(num: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` that make up `num`."""
    for first in range(0, num, size):
        yield slice(first, min(first + size, num))


def unravel_index(flat: Tensor, shape: Sequence[int]) -> list[Tensor]:
    """Return the indices along each axis of places in a flattened array (N,) each.

    `torch.unravel_index` does the same, but its first call imports for a second or more.
    """
    indices: list[Tensor] = []
    for size in reversed(shape):
        indices.insert(0, flat % size)
        flat = flat // size
    return indices


def score_gradient(scores: Tensor, of: Tensor, name: str) -> Tensor:
    """Gradient of the sum of scores with respect to a tensor, detached.

    Raises:
        ValueError: the scores do not depend on it by differentiable steps.
    """
    (gradient,) = _gradients(scores, [of])
    if gradient is None:
        raise no_gradient_error(name)
    return gradient.detach()


def last_dependency(scores: Tensor, tensors: Mapping[str, Tensor]) -> str:
    """Name of the last of some tensors that scores depend on.

    Raises:
        ValueError: they depend on none by differentiable steps.
    """
    gradients = _gradients(scores, list(tensors.values()))
    names = [name for name, grad in zip(tensors, gradients, strict=True) if grad is not None]
    if not names:
        raise no_gradient_error("any feature map")
    return names[-1]


def _gradients(scores: Tensor, of: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """Return the gradients of the sum of scores; None: they do not depend on a tensor."""
    tracked = [tensor for tensor in of if tensor.requires_grad]
    if not scores.requires_grad or not tracked:
        return [None] * len(of)
    gradients = iter(torch.autograd.grad(scores.sum(), tracked, allow_unused=True))
    return [next(gradients) if tensor.requires_grad else None for tensor in of]


def no_gradient_error(name: str) -> ValueError:
    """Return the error that a score does not follow from something by differentiable steps."""
    accepted = "a score that follows from it by steps with a derivative"
    problem = f"the score has no gradient with respect to {name}"
    return argument_error("target", problem, f"{accepted} (no argmax, detach or no_grad)")
