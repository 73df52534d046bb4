"""Views of any model: weights, dead units, loss landscape, embedding, probes, movement."""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.core.inspection.observation import Observation
from agents.core.inspection.views import NUM_REPRESENTED, Views, view
from visualization import NothingToShow
from visualization.model.activations import dead_units_while
from visualization.model.landscape import landscape_line, landscape_plane
from visualization.model.movement import weight_movement
from visualization.model.weights import LayerWeights, layer_weights
from visualization.records import Curves
from visualization.representation.embeddings import Embedding, embed_rows
from visualization.representation.features import represented_while
from visualization.representation.layer_probes import LayerProbes, probe_rows

NUM_SAMPLES = 200  # of views that run the model often
PLANE = 11  # points on each side of the landscape


class ModelViews(Views):
    """Views that require neither images nor recurrent layers."""

    @functools.cached_property
    def _observation(self) -> Observation:
        return self._observe(self._task.for_display().samples("test", NUM_SAMPLES))

    def prepare(self) -> None:
        """Compute the observation, which views of agents without images share."""
        if self._observation.image is None:
            self._states  # noqa: B018 - computed once

    @view()
    def weights(self) -> dict[str, LayerWeights]:
        """Weights: kernels, matrices and biases of each layer."""
        pages = layer_weights(self._model).pages()
        return {f"page {number}": page for number, page in enumerate(pages, start=1)}

    @view("no images")
    def dead_units(self) -> Any:
        """Dead units: those that are never, rarely or always above 0, layer by layer."""
        return dead_units_while(self._model, self._observation.loss, len(self._observation.rows))

    @view("no images")
    def landscape(self) -> dict[str, Any]:
        """Loss landscape: a plane around the weights, and the line from the first snapshot."""

        def loss(model: nn.Module) -> Tensor:
            return self._observation.loss()

        records: dict[str, Any] = {}
        if len(self._states) > 1:
            first, last = min(self._states), max(self._states)
            records["line"] = landscape_line(
                self._model, loss, self._states[first], self._states[last],
                names=(f"step {first:,}", f"step {last:,}"),
            )  # fmt: skip
        records["plane"] = landscape_plane(self._model, loss, num=PLANE)
        return records

    @view("no images", "snapshots")
    def progression(self) -> Curves:
        """How far each layer's weights have moved from the first snapshot, over the steps."""
        return weight_movement(self._states)

    @functools.cached_property
    def _representations(self) -> dict[str, NDArray[np.float64]]:
        """Representations of all layers without parts, (N, D) each."""
        leaves = [n for n, module in self._model.named_modules() if not any(module.children())]
        observation = self._large_observation
        num = len(observation.rows)
        rows = represented_while(self._model, leaves, observation.loss, num)
        if not rows:
            raise NothingToShow("no layer has an output row for each sample")
        return rows

    @functools.cached_property
    def _large_observation(self) -> Observation:
        return self._observe(self._task.for_display().samples("test", NUM_REPRESENTED))

    @view("no images")
    def embedding(self) -> dict[str, Embedding]:
        """Embedding: samples as points, by principal components of the first and last layer."""
        names = list(self._representations)
        labels = np.where(self._large_observation.correct, "right", "wrong")
        return {
            name: embed_rows(self._representations[name], name, "pca", labels)
            for name in dict.fromkeys((names[0], names[-1]))
        }

    @view("no images", "few answers")
    def layer_probes(self) -> LayerProbes:
        """Linear probes by depth: how well a line reads the right answer from each layer."""
        targets = np.array([row.target for row in self._large_observation.rows])
        return probe_rows(self._representations, targets)
