"""Views of confidences: are they honest?"""

from collections.abc import Mapping

from agents.core.inspection.views import Views, view
from visualization.calibration.reliability import ReliabilityDiagram, reliability_diagrams

NUM_SAMPLES = 1000  # of each split, at most: fewer where an observation has fewer


class ConfidenceViews(Views):
    """How sure an agent is, and how often it is right."""

    @view("confidences")
    def reliability(self) -> Mapping[str, ReliabilityDiagram]:
        """Reliability diagram of test samples, before and after temperature scaling.

        The temperature is fitted on validation samples.
        """
        task = self._task.for_display()
        fitted, shown = (
            self._observe(task.samples(split, NUM_SAMPLES)) for split in ("validation", "test")
        )
        return reliability_diagrams(fitted.confidences, shown.confidences, shown.temperature)
