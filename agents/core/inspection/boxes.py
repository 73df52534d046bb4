"""Views of detectors: the boxes that they find."""

from agents.core.inspection.views import Views, view
from visualization import NothingToShow
from visualization.detection.detections import Detections, detections

NUM_PAGES = 6  # that are drawn


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
