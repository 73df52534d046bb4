"""Views of images and feature maps: patches, receptive fields, attribution, attacks, synthesis."""

import copy
import functools
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.core.inspection.explanation import explain
from agents.core.inspection.observation import ImagePart, Observation
from agents.core.inspection.samples import labels_in_turn
from agents.core.inspection.views import Views, view
from visualization import NothingToShow, conv
from visualization.core.fusing import fuse_batch_norm
from visualization.core.inputs import copy_model, inspection_mode

NUM_IMAGES = 1000  # of the test split, at most, in which patches are searched
NUM_LAYERS = 4  # that are inspected channel by channel
NUM_CHANNELS = 64  # of a layer with a page each
NUM_SHOWN = 8  # images in rows of pictures
NUM_SCATTERED = 500  # images that are points
NUM_OFTEN = 100  # images of views that run the network often
STEPS, RATE = 48, 0.5  # of activation maximisation
_PLANE = 11  # points on each side of the landscape
_BLUR = 1.5  # pixels
_TOP = 0.02  # share of a channel's values that are its regions
_MAX_PERTURBATION = 0.3  # of a pixel, in the robustness curve


class ImageViews(Views):
    """Views of images, which share images and results.

    The functions of `visualization` are applied to an agent's own images.
    """

    @functools.cached_property
    def _batch(self) -> Any:
        return self._task.samples("test", NUM_IMAGES)

    @functools.cached_property
    def _observation(self) -> Observation:
        return self._observe(self._batch)

    @property
    def _image(self) -> ImagePart:
        part = self._observation.image
        if part is None:
            raise NothingToShow("this agent has no images")
        return part

    @functools.cached_property
    def _every_layer(self) -> nn.Module:
        """The module from images to the raw output, with all its layers.

        In channels-last format, passes take two thirds of the time on a CPU.
        """
        return copy_model(self._image.model).to(memory_format=torch.channels_last)

    @functools.cached_property
    def _network(self) -> nn.Module:
        """The same, with batch normalisation folded into convolutions: faster, equal elsewhere."""
        return fuse_batch_norm(self._every_layer, keep=self._layers)

    @functools.cached_property
    def _images(self) -> NDArray[np.float32]:
        return np.asarray(self._image.images.numpy(), np.float32)

    @functools.cached_property
    def _classes(self) -> tuple[str, ...]:
        """Names of the classes; empty if the agent is not a classifier."""
        return tuple(self._observation.classes[0]) if self._observation.classes else ()

    @functools.cached_property
    def _labels(self) -> NDArray[np.int64]:
        """The right class of each image, or, of other agents, 0."""
        classes = self._observation.classes
        return np.zeros(len(self._images), np.int64) if classes is None else classes[1]

    @functools.cached_property
    def _class_labels(self) -> NDArray[np.int64] | None:
        return self._labels if self._classes else None

    @functools.cached_property
    def _layers(self) -> tuple[str, ...]:
        return conv.feature_layers(self._every_layer, self._images[0], NUM_LAYERS)

    @functools.cached_property
    def _shown_numbers(self) -> NDArray[np.int64]:
        """Numbers of the images that are shown."""
        return labels_in_turn(self._labels)[:NUM_SHOWN]

    def _channels(self, layer: str) -> list[int]:
        with inspection_mode(self._network), torch.no_grad():
            output = conv.activation(self._network, self._first, layer)
        return list(range(min(output.shape[1], NUM_CHANNELS)))

    @property
    def _first(self) -> Tensor:
        return conv.as_images(self._images[:1], self._network)

    @view("images")
    def layers(self) -> dict[str, conv.LayerActivations]:
        """Feature maps of some images, and the distribution of the values of each layer."""
        record = conv.layer_activations(self._every_layer, self._images[self._shown_numbers])
        return {f"page {number}": page for number, page in enumerate(record.pages(), start=1)}

    @view("images")
    def dead_units(self) -> Any:
        """Dead units: channels that are active never, rarely or always."""
        return conv.dead_units(self._every_layer, self._images)

    def prepare(self) -> None:
        """Compute observation, images and network, which most views share."""
        if self._observation.image is not None:
            self._labels, self._states, self._network  # noqa: B018 - computed once

    @view("images")
    def patches(self) -> dict[str, conv.TopPatches]:
        """Top patches: the patches with the highest activation of each channel."""
        return {
            layer: conv.top_patches(self._network, layer, self._images, self._channels(layer))
            for layer in self._layers
        }

    @property
    def _top(self) -> dict[str, conv.TopPatches]:
        return self.patches()

    def _strongest(self, layer: str) -> tuple[tuple[int, int, int], NDArray[np.float32]]:
        """Return the unit of the highest activation in a layer, and its image.

        Activations are relative to the mean of a channel's top patches, so that no channel is
        preferred by its scale alone.
        """
        top = self._top[layer]
        best = np.where(top.image >= 0, top.value, 0)
        row = int((best[:, 0] / (best.mean(axis=1) + 1e-12)).argmax())
        unit = (int(top.channels[row]), int(top.row[row, 0]), int(top.column[row, 0]))
        return unit, self._images[max(int(top.image[row, 0]), 0)]

    @functools.cached_property
    def _active_layers(self) -> tuple[str, ...]:
        """The layers with a channel that is active for some image.

        Raises:
            NothingToShow: there is none.
        """
        layers = tuple(layer for layer in self._layers if (self._top[layer].image >= 0).any())
        if not layers:
            raise NothingToShow("model: no image activates any channel of its layers")
        return layers

    @view("images", uses=("patches",))
    def fields(self) -> dict[str, Any]:
        """Receptive fields of a channel of each layer, where it has half of its top activation."""

        def look(layer: str) -> Any:
            (channel, _, _), image = self._strongest(layer)
            half = float(self._top[layer].value[self._channels(layer).index(channel), 0]) / 2
            return conv.receptive_fields(self._network, layer, channel, image, half)

        return {layer: look(layer) for layer in self._active_layers}

    @view("images", uses=("patches",))
    def patterns(self) -> dict[str, Any]:
        """Patterns: what in its patch activates a unit of each layer."""
        return {
            layer: conv.unit_pattern(self._network, layer, *self._strongest(layer))
            for layer in self._active_layers
        }

    @view("images", uses=("patches",))
    def perturbations(self) -> Any:
        """Perturbations: the response of a last-layer unit to noise, blur and other changes."""
        layer = self._active_layers[-1]
        unit, image = self._strongest(layer)
        names = ("noise", "blur", "rotate", "shift", "contrast", "erase")
        return conv.sweep_perturbation(self._network, layer, unit, image, names)

    @view("images", uses=("patches",))
    def paste(self) -> Any:
        """Transplants: the receptive field of a second-layer unit, pasted in another image."""
        layer = self._active_layers[min(1, len(self._active_layers) - 1)]
        unit, image = self._strongest(layer)
        others = self._shown_numbers[
            self._labels[self._shown_numbers] != self._labels[self._shown_numbers[0]]
        ]
        target = self._images[others[0] if len(others) else 0]
        return conv.transplant_field(self._network, layer, unit, image, target)

    @view("images")
    def response(self) -> Any:
        """Response of the channels of the first layer when an image is blurred."""
        image = self._images[self._shown_numbers[0]]
        return conv.compare_response(
            self._network, self._layers[0], image, ("blur", _BLUR), classes=self._classes
        )

    @view("classes", uses=("patches",))
    def map_edit(self) -> Any:
        """Channel ablation: the answer without the strongest channel of the last layer."""
        layer = self._active_layers[-1]
        (channel, _, _), image = self._strongest(layer)
        return conv.ablate_channels(self._network, layer, image, [channel], classes=self._classes)

    @view("images")
    def maximised(self) -> dict[str, conv.MaximisedImages]:
        """Activation maximisation: images for each channel, and for each label's logit."""
        images = {
            layer: conv.maximise(
                self._network, conv.channel(layer, self._channels(layer)), steps=STEPS, rate=RATE,
                reference=self._images,
            )
            for layer in self._layers
        }  # fmt: skip
        if not self._classes:
            return images
        logits = conv.maximise(
            self._network, conv.logit(range(len(self._classes))), steps=3 * STEPS, rate=RATE,
            reference=self._images,
        )  # fmt: skip
        return {**images, "labels": logits}

    @view("images", uses=("patches",))
    def inversion(self) -> Any:
        """Feature inversion: images with the same features as an image, layer by layer."""
        return conv.invert(
            self._network, list(self._active_layers), self._images[self._shown_numbers[0]]
        )

    @view("images")
    def dream(self) -> Any:
        """DeepDream: an image with larger activations of the middle layer."""
        layer = self._layers[len(self._layers) // 2]
        return conv.dream(self._network, self._images[self._shown_numbers[0]], layer)

    @property
    def _shown(self) -> NDArray[np.float32]:
        """The images that are shown and attributed."""
        shown: NDArray[np.float32] = self._images[self._shown_numbers]
        return shown

    @view("targets")
    def attribution(self) -> conv.Attributions | dict[str, conv.Attributions]:
        """Attribution: the pixels that each target rests on, by each method."""
        if self._classes:
            return conv.attributions(self._network, self._shown, labels=self._classes)
        numbers = [int(index) for index in self._shown_numbers]
        return {
            name: explain(self._network, self._images, numbers, name, target)
            for name, target in self._observation.targets.items()
        }

    @view("classes")
    def channel_relevance(self) -> conv.ChannelRelevance:
        """Relevance of channels: which of the last layer's carry each answer, and from where."""
        return conv.channel_relevance(
            self._network, self._shown, layer=self._layers[-1], labels=self._classes
        )

    @view("classes", uses=("attribution",))
    def faithfulness(self) -> Any:
        """Faithfulness of attributions: how the answer depends on each method's pixels."""
        attributions = self.attribution()
        assert isinstance(attributions, conv.Attributions)  # as of every classifier
        return conv.faithfulness(self._network, self._shown, attributions.maps)

    @view("classes")
    def sanity(self) -> Any:
        """Sanity check of attributions: which maps change when the weights are randomised."""
        return conv.randomisation_check(self._every_layer, self._shown[: NUM_SHOWN // 2])

    @view("classes")
    def attack(self) -> Any:
        """Adversarial examples: the smallest perturbations found that change labels."""
        numbers = self._shown_numbers[: NUM_SHOWN // 2]
        images, labels = self._images[numbers], self._labels[numbers]
        return conv.minimal_perturbation(self._network, images, labels, classes=self._classes)

    @view("classes")
    def robustness(self) -> Any:
        """Robustness curve: accuracy against the largest perturbation of a pixel."""
        images, labels = self._images[:NUM_OFTEN], self._labels[:NUM_OFTEN]
        sizes = np.linspace(0, _MAX_PERTURBATION, 7)
        return conv.robustness_curve(self._network, images, labels, sizes.tolist(), steps=20)

    @view("images")
    def neighbours(self) -> Any:
        """Nearest neighbours of images in the last layer."""
        return conv.nearest_neighbours(
            self._network, self._layers[-1], self._images[self._shown_numbers], self._images,
            k=min(NUM_SHOWN, len(self._images) - 1), spatial="mean",
            exclude_self=True, labels=self._class_labels,
            query_labels=None if self._class_labels is None else self._labels[self._shown_numbers],
            classes=self._classes,
        )  # fmt: skip

    @view("images")
    def embedding(self) -> dict[str, conv.Embedding]:
        """Embedding: images as points, by features of the first and the last layer."""
        labels = None if self._class_labels is None else self._class_labels[:NUM_SCATTERED]

        def points(layer: str, method: Literal["pca", "tsne"]) -> conv.Embedding:
            return conv.embed(
                self._network, layer, self._images[:NUM_SCATTERED], method, labels,
                spatial="mean", classes=self._classes,
            )  # fmt: skip

        first, last = self._layers[0], self._layers[-1]
        return {
            "components": points(last, "pca"),
            "first layer": points(first, "tsne"),
            "last layer": points(last, "tsne"),
        }

    @view("classes")
    def layer_probes(self) -> Any:
        """Linear probes of the labels, layer by layer."""
        layers = conv.feature_layers(self._every_layer, self._images[0], 2 * NUM_LAYERS)
        return conv.probe_layers(
            self._every_layer, layers, self._images, self._labels, untrained=self._untrained()
        )

    def _untrained(self) -> nn.Module | None:
        """Return the untrained network, if there is a snapshot of it."""
        if 0 not in self._states:
            return None
        model = copy.deepcopy(self._every_layer)
        model.load_state_dict(self._states[0])
        return model

    @view("scans")
    def dissection(self) -> dict[str, Any]:
        """Network dissection: strokes, ends and holes in the regions of each channel."""
        concepts = conv.scan_concepts(self._images)

        def look(layer: str) -> Any:
            return conv.dissect(
                self._network, layer, concepts.images, concepts.masks, concepts.names, _TOP
            )

        return {layer: look(layer) for layer in self._layers}

    @view("images")
    def landscape(self) -> dict[str, Any]:
        """Loss landscape: a plane around the weights, and the line from the first snapshot."""
        loss: Callable[[nn.Module], Any] = lambda _: self._few.loss()  # noqa: E731 - one of two
        if self._classes:
            loss = conv.classification_loss(self._images[:NUM_OFTEN], self._labels[:NUM_OFTEN])
        states = self._states
        records: dict[str, Any] = {}
        if len(states) > 1:
            first, last = min(states), max(states)
            records["line"] = conv.landscape_line(
                self._every_layer, loss, states[first], states[last],
                names=(f"step {first:,}", f"step {last:,}"),
            )  # fmt: skip
        records["plane"] = conv.landscape_plane(self._every_layer, loss, num=_PLANE)
        return records

    @functools.cached_property
    def _few(self) -> Observation:
        return self._observe(self._task.samples("test", NUM_OFTEN))

    @view("images", "snapshots")
    def progression(self) -> dict[str, conv.Progression]:
        """Progression of the maps of each channel through training."""
        return {
            layer: conv.progression(
                self._every_layer, self._states, layer, self._images[self._group],
                channels=self._channels(layer),
            )
            for layer in self._layers
        }  # fmt: skip

    @property
    def _group(self) -> NDArray[np.int64]:
        """Numbers of the images of all snapshots: those that are shown first."""
        rest = np.setdiff1d(np.arange(len(self._images)), self._shown_numbers)
        return np.concatenate([self._shown_numbers, rest])[:256]

    @view("images", uses=("patches", "maximised", "progression"))
    def units(self) -> dict[str, conv.UnitSheets]:
        """Unit pages: all results on each channel."""
        return {layer: self._sheets(layer) for layer in self._layers}

    def _sheets(self, layer: str) -> conv.UnitSheets:
        rows = self._observation.rows
        return conv.unit_sheets(
            self._network, layer, self._images,
            patches=self._top[layer],
            names=[f"{row.question}: {row.target}" for row in rows],
            labels=[row.target for row in rows],
            maximised=self.maximised()[layer],
            progression=self.progression()[layer] if self._states else None,
        )  # fmt: skip
