"""Maximum value difference: the largest value of a set of objects minus the smallest.

A summary statistic: one pass over the objects answers it (Xu et al. 2020, 1905.13211, section 4.1).

>>> from tasks.reasoning.max_difference import MaxDifference
>>> task = MaxDifference(num_coordinates=2)
>>> batch = task.encode(["3 4 20 0; 9 9 75 5; 0 1 50 2"])  # coordinates, value, kind
>>> batch.objects.shape, task.decode(batch.target)
((1, 3, 9), ['55'])
>>> [round(float(number), 2) for number in batch.objects[0, 1]]  # scaled, and the kind one-hot
[4.5, 4.5, 7.5, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
"""

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core.settings import setting
from tasks.core.task import SetTargets, SetToTarget
from tasks.reasoning.base import Sample, Target
from tasks.reasoning.objects import ObjectTask


@attrs.frozen(kw_only=True)
class MaxDifference(ObjectTask):
    """Maximum value difference of objects: largest value minus smallest, a summary statistic."""

    target: Target = setting(
        "label", "whether the answer is a label, one of max_value + 1, or a number"
    )

    @property
    def spec(self) -> SetToTarget:
        """Features, and a label for each difference, or a number."""
        labels = tuple(map(str, range(self.largest("max_value") + 1)))
        return SetToTarget(
            self.num_features,
            labels if self.target == "label" else None,
            self.num_coordinates,
            scales=self.scales,
            size=self.largest("num_objects"),
        )

    @property
    def scale(self) -> float:
        """The largest value."""
        return float(self.max_value)

    def answers(self, sample: Sample) -> NDArray[np.int64]:
        """Return the differences (num,)."""
        values = sample[0][..., self.num_coordinates]
        return np.asarray(values.max(axis=1) - values.min(axis=1))

    def questions(self, batch: SetTargets) -> list[tuple[str, str]]:
        """Return each set as text, and its extreme values."""
        texts = super().questions(batch)
        values = (objects[:, self.num_coordinates] for objects in self.objects_of(batch))
        return [
            (text, f"{num} objects, values {each.min()} to {each.max()}")
            for (text, num), each in zip(texts, values, strict=True)
        ]
