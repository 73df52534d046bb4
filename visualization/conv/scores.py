"""The score that an attribution explains, settled once on the images themselves.

B images, R rows of a batch that are made from them (masked, noisy, on the way to a baseline).
"""

from collections.abc import Iterator

import attrs
import torch
from torch import Tensor, nn

from visualization.conv.common import Target, activation, named, one_target, score
from visualization.tracing import NamedLayer


@attrs.frozen(eq=False)
class Asked:
    """A score of a model or a layer, the same one for all variants of an image.

    Attributes:
        model: the module.
        layer: dotted name; None: the model's output.
        target: what `score` takes, but None; a number for each image (B,) is held on the CPU.
        probability: the score is the target's share under a softmax over the classes (B, K).
    """

    model: nn.Module
    layer: str | None
    target: int | tuple[int, ...] | Tensor
    probability: bool = False

    def of(self, rows: Tensor | None) -> int | tuple[int, ...] | Tensor:
        """Return the target of variants of images `rows` (R,); None: of each image in order."""
        if rows is None or not isinstance(self.target, Tensor):
            return self.target
        return self.target[rows.cpu()]

    def __call__(self, variants: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return the scores (R,) of variants (R, C, H, W) of the images `rows` (R,)."""
        output = activation(self.model, variants, self.layer)
        return score(_softmax(output) if self.probability else output, self.of(rows))

    def part(self, span: slice) -> "Asked":
        """Return the same for some of the images."""
        if not isinstance(self.target, Tensor):
            return self
        return attrs.evolve(self, target=self.target[span])

    def each(self, images: Tensor, batch_size: int) -> Tensor:
        """Return the scores (B,) of the images themselves."""
        numbers = torch.arange(len(images), device=images.device)
        parts = (numbers[span] for span in spans(len(images), batch_size))
        return torch.cat([self(images[rows], rows) for rows in parts])


def _softmax(output: Tensor) -> Tensor:
    if output.ndim != 2 or output.shape[1] < 2:
        problem = f"an output of shape {tuple(output.shape)} has no classes"
        raise ValueError(f"probability: {problem}; accepted: (B, K) from 2 classes on, or False")
    return output.softmax(dim=1)


def asked(
    model: nn.Module, images: Tensor, target: Target, layer: NamedLayer | None, batch_size: int
) -> Asked:
    """Settle what is asked: with a target of None, the largest class of each image (B, C, H, W).

    Otherwise a masked or noisy image would be scored by another class than the image.

    Raises:
        ValueError: as `activation` and `score`.
    """
    demand_count(batch_size, "batch_size")
    name, chosen = named(model, layer), one_target(target)
    if isinstance(chosen, (int, tuple)):
        return Asked(model, name, chosen)
    with torch.no_grad():
        parts = (images[span] for span in spans(len(images), batch_size))
        output = torch.cat([activation(model, part, name) for part in parts])
        score(output, chosen)  # raises what there is to raise before the work begins
    if chosen is None:
        return Asked(model, name, output.reshape(len(output), -1).argmax(dim=1).cpu())
    return Asked(model, name, chosen.cpu())


def spans(num: int, size: int) -> Iterator[slice]:
    """Yield slices of at most `size` that make up `num`."""
    for first in range(0, num, size):
        yield slice(first, min(first + size, num))


def demand_count(number: int, name: str, least: int = 1) -> None:
    """Raise a ValueError unless a number is at least `least`."""
    if number < least:
        raise ValueError(f"{name}: {number} is not accepted; accepted: {least} or more")


def demand_gradient(scores: Tensor, of: Tensor, name: str) -> Tensor:
    """Return the gradient of the sum of scores with respect to a tensor, detached.

    Raises:
        ValueError: the scores do not depend on it by differentiable steps.
    """
    found = None
    if scores.requires_grad:
        (found,) = torch.autograd.grad(scores.sum(), of, allow_unused=True)
    if found is None:
        accepted = "a score that follows from it by steps with a derivative"
        problem = f"the score has no gradient with respect to {name}"
        raise ValueError(f"target: {problem}; accepted: {accepted} (no argmax, detach or no_grad)")
    return found.detach()
