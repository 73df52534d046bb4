"""Views of detectors: the boxes that they find."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from agents.core.inspection.views import Views, view
from tasks.handwriting.boxes import Boxes, PageBoxes, sure
from visualization import NothingToShow
from visualization.detection.detections import Detections, detections

NUM_PAGES = 6  # that are drawn


def page_batch(image: Tensor) -> PageBoxes:
    """Return one page (1, C, H, W) as a batch without boxes."""
    return PageBoxes(image, [torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.long)], ["a page"])


def boxes_answer(
    predict: Callable[[PageBoxes], Sequence[Boxes]], kinds: Sequence[str], image: Tensor
) -> dict[str, Any]:
    """Return the sure boxes of one page, for the live page."""
    (found,) = predict(page_batch(image))
    boxes = sure(Boxes(*(torch.as_tensor(field).cpu().numpy() for field in found)))
    names = [kinds[int(kind)] for kind in boxes.kinds]
    return {
        "kind": "boxes", "boxes": boxes.boxes.tolist(), "names": names,
        "scores": boxes.scores.tolist(),
    }  # fmt: skip


class BoxViews(Views):
    """Which boxes an agent finds."""

    @view("boxes")
    def detections(self) -> Detections:
        """Detections: right and found boxes over test images, with scores."""
        seen = self._observe(self._task.for_display().samples("test", NUM_PAGES))
        if seen.boxes is None or seen.image is None:
            raise NothingToShow("this agent finds no boxes")
        names = [row.question for row in seen.rows]
        return detections(
            seen.image.images.numpy(), names, seen.boxes.kinds, seen.boxes.right,
            seen.boxes.found, is_ink=seen.boxes.is_ink,
        )  # fmt: skip
