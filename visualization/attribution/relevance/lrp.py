"""Layer-wise relevance propagation (LRP): which pixels a score comes from, layer by layer.

B images, C channels, H rows, W columns.
"""

import attrs
import torch
from torch import Tensor, nn

from visualization.attribution.relevance.composites import LrpComposite, as_composite
from visualization.attribution.relevance.propagation import RelevancePropagation
from visualization.attribution.relevance.rules import weighted_sum
from visualization.core.inputs import Images, Target, as_images, inspection_mode
from visualization.core.targets import (
    TargetScore,
    batch_slices,
    no_gradient_error,
    resolve_target,
)
from visualization.core.tracing import NamedLayer


@attrs.frozen(eq=False)
class Propagated:
    """Scores of images, with a graph whose backward pass leads relevance back.

    Attributes:
        images: what the graph begins at (B, C, H, W).
        scores: (B,).
        mode: what was intercepted.
    """

    images: Tensor
    scores: Tensor
    mode: RelevancePropagation

    @classmethod
    def of(cls, target_score: TargetScore, images: Tensor, composite: LrpComposite) -> "Propagated":
        """Run the model on images."""
        leaf = images.detach().clone().requires_grad_()
        mode = RelevancePropagation(target_score.model, composite)
        with mode.following():
            scores = target_score(leaf)
        return cls(leaf, scores, mode)

    def relevance(self) -> Tensor:
        """Return the relevance of the images (B, C, H, W).

        Raises:
            ValueError: the scores do not depend on it.
        """
        return relevance(self.scores, self.scores.detach(), self.images)


def relevance(above: Tensor, value: Tensor, below: Tensor, name: str = "images") -> Tensor:
    """Return what of the relevance of a tensor comes from one before it; the graph is kept.

    Raises:
        ValueError: the first does not depend on the second.
    """
    found = None
    if above.requires_grad and below.requires_grad:
        total = weighted_sum(above, value)
        (found,) = torch.autograd.grad(total, below, retain_graph=True, allow_unused=True)
    if found is None:
        raise no_gradient_error(name)
    return found.detach()


def lrp(
    model: nn.Module, images: Images, target: Target = None, *,
    composite: str | LrpComposite = "epsilon_plus", target_layer: NamedLayer | None = None,
    batch_size: int | None = None,
) -> Tensor:  # fmt: skip
    """Layer-wise relevance propagation (LRP): what each number of an image adds to the score.

    LRP (Bach et al. 2015, 10.1371/journal.pone.0130140), in units of the score (B, C, H, W). The
    score is shared out from layer to layer by rules, so that relevance is conserved: it sums to the
    score, less what biases and ε absorb (see `relevance_balance`). It is led through functions,
    methods and operators as through modules. A batch norm is folded into the layer before it. Of a
    softmax at the end the logit is explained. Relevance of a score below 0 has its signs turned.

    Args:
        model: any module of convolutions, linear layers, norms, pooling, activations, sums,
            concatenations and products; it is left as it was.
        images: (B, C, H, W) or (C, H, W).
        target: what is explained, as `select_target` takes it; None: each image's own largest
            class.
        composite: rules by layer: a name of `COMPOSITES`, or a `LrpComposite` of one's own.
        target_layer: dotted name of the layer whose unit is explained; None: the model's output.
        batch_size: images that run at once, which bounds the memory; None:
            at most 64, of 2²⁰ numbers together.

    Raises:
        NothingToShow: (a ValueError) the model has a function for which there is no rule.
        ValueError: an unknown composite; the score has no gradient; or as `select_target`.
    """
    rules = as_composite(composite)
    with inspection_mode(model):
        images = as_images(images, model)
        target_score = resolve_target(model, images, target, target_layer, batch_size, graph=True)
        parts = batch_slices(len(images), target_score.batch_size)
        return torch.cat(
            [Propagated.of(target_score[part], images[part], rules).relevance() for part in parts]
        )
