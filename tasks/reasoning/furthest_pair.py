"""Furthest pair: the kinds of the two objects of a set that are furthest apart.

A relational argmax: all pairs are compared (Xu et al. 2020, 1905.13211, section 4.2). The distance
is L1. The paper measures it between the coordinates; its code measures it over value and kind as
well, which `distance=all` does.

>>> from tasks.reasoning.furthest_pair import FurthestPair
>>> task = FurthestPair(num_coordinates=2)
>>> batch = task.encode(["0 0 20 4; 9 9 75 1; 0 1 50 2"])  # coordinates, value, kind
>>> task.decode(batch.target)
['1-4']
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core.settings import setting
from tasks.core.task import SetTargets, SetToTarget, Split
from tasks.reasoning.base import Sample
from tasks.reasoning.objects import ObjectTask


@attrs.frozen(kw_only=True)
class FurthestPair(ObjectTask):
    """Furthest pair of objects by L1 distance: its kinds, in no order; a relational argmax.

    A set of which several pairs of other kinds are equally far apart is not drawn (the paper's
    code takes the pair that comes first, so that the order of the objects counts). A person's set
    may be such a one: the label that comes first is then right.
    """

    num_train: int = setting(60_000, "training samples: the first ones of any larger number", ge=1)
    distance: Literal["coordinates", "all"] = setting(
        "coordinates",
        "numbers between which the L1 distance is measured; all: value and kind as well, as in the "
        "paper's code",
    )
    least: ClassVar[int] = 2  # objects of a set

    @property
    def spec(self) -> SetToTarget:
        """Features, and a label for each pair of kinds."""
        low, high = np.triu_indices(self.num_kinds)
        labels = tuple(f"{a}-{b}" for a, b in zip(low.tolist(), high.tolist(), strict=True))
        return SetToTarget(
            self.num_features,
            labels,
            self.num_coordinates,
            scales=self.scales,
            size=self.largest("num_objects"),
        )

    def distances(self, sample: Sample) -> NDArray[np.int64]:
        """Return the distance of each two objects i < j (num, n (n - 1) / 2)."""
        (objects,) = sample
        first, second = np.triu_indices(objects.shape[1], 1)
        used = objects.shape[-1] if self.distance == "all" else self.num_coordinates
        total = np.zeros((len(objects), len(first)), np.int32)
        for column in np.moveaxis(objects[..., :used], -1, 0).astype(np.int32):
            total += np.abs(column[:, first] - column[:, second])
        return total.astype(np.int64)

    def _labels(self, sample: Sample) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the first and the last label (num,) among those of the furthest pairs."""
        kinds, num = sample[0][..., -1], self.num_kinds
        codes = np.zeros((num, num), np.int64)
        codes[np.triu_indices(num)] = np.arange(num * (num + 1) // 2)
        codes = np.maximum(codes, codes.T)
        first, second = np.triu_indices(kinds.shape[1], 1)
        apart = self.distances(sample)
        row, pair = np.nonzero(apart == apart.max(axis=1, keepdims=True))
        labels = codes[kinds[row, first[pair]], kinds[row, second[pair]]]
        begins = np.searchsorted(row, np.arange(len(kinds)))
        return np.minimum.reduceat(labels, begins), np.maximum.reduceat(labels, begins)

    def answers_and_classes(self, sample: Sample) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the labels, and the classes: 0 for sets with one answer, and -1 for others."""
        first, last = self._labels(sample)
        return first, np.where(first == last, 0, -1)

    def class_names(self, split: Split) -> Sequence[str]:
        """Return what each set is."""
        return ("a set with one answer",)

    def answers(self, sample: Sample) -> NDArray[np.int64]:
        """Return the label (num,) of the furthest pair."""
        return self._labels(sample)[0]

    def questions(self, batch: SetTargets) -> list[tuple[str, str]]:
        """Return each set as text, and abbreviated."""
        return [
            (text, f"{num} objects, the first {text.partition(';')[0]}")
            for text, num in super().questions(batch)
        ]
