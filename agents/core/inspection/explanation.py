"""Attribution of named targets, which are different in each sample, such as a character."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.core.inspection.observation import Target
from visualization.attribution.methods import Attributions, attributions

# Methods of one or a few passes: masking methods would take minutes for each target.
METHODS = ("saliency", "input_x_gradient", "integrated_gradients")


def explain(
    model: nn.Module,
    images: NDArray[np.float32],
    numbers: Sequence[int],
    name: str,
    target: Target,
) -> Attributions:
    """Return attributions of a target for some images (B, C, H, W), one by one."""

    def attribute(number: int) -> Attributions:
        def score(output: Any) -> Tensor:
            return target(output, number)

        return attributions(model, images[number : number + 1], score, methods=METHODS)

    records = [attribute(number) for number in numbers]
    return Attributions(
        images=np.concatenate([record.images for record in records]),
        maps={m: np.concatenate([record.maps[m] for record in records]) for m in records[0].maps},
        targets=(name,) * len(records),
        scores=np.concatenate([record.scores for record in records]),
    )
