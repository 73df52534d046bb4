"""Conservation of relevance: what of a score reaches the image, and what stays where.

B images.
"""

from collections.abc import Mapping

import attrs
import numpy as np
from numpy.typing import NDArray
from torch import nn

from visualization.attribution.relevance.composites import LrpComposite, as_composite
from visualization.attribution.relevance.lrp import Propagated
from visualization.core.arrays import to_numpy
from visualization.core.inputs import Images, Target, as_images, inspection_mode
from visualization.core.records import brief_repr
from visualization.core.targets import batch_slices, resolve_target
from visualization.core.tracing import NamedLayer


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class RelevanceBalance:
    """Balance of relevance propagation: scores = relevance of the pixels + what is absorbed.

    Attributes:
        scores: of the images (B,).
        relevance: of all pixels of each image (B,).
        absorbed: by layer, in the order of the backward pass, what went to biases or was lost to ε,
            summed over the images; "" is what the model computes itself.
    """

    scores: NDArray[np.float64]
    relevance: NDArray[np.float64]
    absorbed: Mapping[str, float]

    @property
    def elsewhere(self) -> float:
        """The rest: of constants that are put among numbers of the image and keep their share.

        Such are a class token and a filled border; in the sum over the images.
        """
        return float(self.scores.sum() - self.relevance.sum() - sum(self.absorbed.values()))


def relevance_balance(
    model: nn.Module,
    images: Images,
    target: Target = None,
    *,
    composite: str | LrpComposite = "epsilon_plus",
    target_layer: NamedLayer | None = None,
    batch_size: int | None = None,
) -> RelevanceBalance:
    """Conservation of `lrp`: how much of the scores reaches the pixels, and which layers absorb.

    Arguments and errors are those of `lrp`.
    """
    rules = as_composite(composite)
    scores, sums = [], []
    absorbed: dict[str, float] = {}
    with inspection_mode(model):
        images = as_images(images, model)
        target_score = resolve_target(model, images, target, target_layer, batch_size, graph=True)
        for span in batch_slices(len(images), target_score.batch_size):
            propagated = Propagated.of(target_score[span], images[span], rules)
            sums.append(propagated.relevance().double().flatten(1).sum(dim=1))
            scores.append(propagated.scores.detach().double())
            for layer, amount in propagated.mode.absorbed.items():
                absorbed[layer] = absorbed.get(layer, 0.0) + amount
    return RelevanceBalance(
        scores=np.concatenate([to_numpy(each) for each in scores]),
        relevance=np.concatenate([to_numpy(each) for each in sums]),
        absorbed=absorbed,
    )
