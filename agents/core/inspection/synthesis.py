"""Views of images that are made for a classifier: an atlas of a layer, fooling and class images."""

import functools
from typing import Any

import numpy as np

from agents.core.inspection.images import ImageViews
from agents.core.inspection.views import view
from visualization import conv

NUM_CLASSES = 3  # of the comparison of penalties
NUM_FOOLING = 3  # fooling images of each kind
NUM_MAPPED = 120  # images of the atlas
_LARGEST_GRID, _PER_CELL = 5, 4  # of the atlas: rows of cells, and activations of an average cell
_PENALTY_STRENGTHS = (0.3, 1.0)
_ATLAS_STEPS, _PENALTY_STEPS = 32, 43
_NUM_IMAGES = 200  # in which all of that is looked for


class SynthesisViews(ImageViews):
    """Views of images that are made, of a smaller sample than other views of images have."""

    @functools.cached_property
    def _batch(self) -> Any:
        return self._task.samples("test", _NUM_IMAGES)

    @view("classes")
    def atlas(self) -> conv.ActivationAtlas:
        """Activation atlas: what the last layer tells apart, as images on a map."""
        mapped, labels = self._images[:NUM_MAPPED], self._labels[:NUM_MAPPED]
        grid = max(1, min(_LARGEST_GRID, int((len(mapped) / _PER_CELL) ** 0.5)))
        return conv.activation_atlas(
            self._network, self._layers[-1], mapped, grid=grid, labels=labels,
            steps=_ATLAS_STEPS, classes=self._classes,
        )  # fmt: skip

    @view("classes")
    def penalties(self) -> conv.PenaltyComparison:
        """Class images compared: what L1, L2 and total variation penalties do to them."""
        return conv.compare_penalties(
            self._network, range(min(NUM_CLASSES, len(self._classes))),
            strengths=_PENALTY_STRENGTHS, reference=self._images, steps=_PENALTY_STEPS,
            class_names=self._classes,
        )  # fmt: skip

    @view("classes")
    def fooling(self) -> dict[str, conv.FoolingImages]:
        """Fooling images: noise, and images of other classes, that are called a class for sure."""
        fool = functools.partial(
            conv.fooling_images, self._network, rounds=3, steps=15, classes=self._classes
        )
        targets = np.arange(min(NUM_FOOLING, len(self._classes)))
        shown = self._shown_numbers[:NUM_FOOLING]
        others = (self._labels[shown] + 1) % len(self._classes)
        shape = self._images.shape[1:]
        return {
            "noise": fool(targets, input_shape=shape),
            "images": fool(others, start=self._images[shown]),
        }
