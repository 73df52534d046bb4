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
from agents.core.inspection.views import Views, view
from visualization import NothingToShow, conv
from visualization.core.inputs import copy_model, inspection_mode

NUM_IMAGES = 1000  # of the test split, at most, among which patches are sought
NUM_LAYERS = 4  # that are looked at channel by channel
NUM_CHANNELS = 64  # of a layer that have a page of their own
NUM_SHOWN = 8  # images in rows of pictures
NUM_OFTEN = 200  # images of views that run the network often
STEPS = 192  # of the ascent to an image
_PLANE = 11  # places on each side of the landscape
_BLUR = 1.5  # pixels
_TOP = 0.02  # share of a channel's values that are its regions
_LARGEST = 0.3  # perturbation of a pixel, of the curve of robustness


class ImageViews(Views):
    """The inspections that need images; they share the images and what is found in them.

    The functions of `visualization` do the work; here they are asked of an agent's own images.
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
            raise NothingToShow("this agent sees no images")
        return part

    @functools.cached_property
    def _network(self) -> nn.Module:
        """The module from images to the raw output.

        With the channels last in memory, passes take two thirds of the time on a CPU.
        """
        return copy_model(self._image.model).to(memory_format=torch.channels_last)

    @functools.cached_property
    def _images(self) -> NDArray[np.float32]:
        return np.asarray(self._image.images.numpy(), np.float32)

    @functools.cached_property
    def _classes(self) -> tuple[str, ...]:
        """Names of the classes; none where the agent is no classifier."""
        return tuple(self._observation.classes[0]) if self._observation.classes else ()

    @functools.cached_property
    def _labels(self) -> NDArray[np.int64]:
        """The right class of each image, or, of other agents, 0."""
        known = self._observation.classes
        return np.zeros(len(self._images), np.int64) if known is None else known[1]

    @functools.cached_property
    def _known_labels(self) -> NDArray[np.int64] | None:
        return self._labels if self._classes else None

    @functools.cached_property
    def _layers(self) -> tuple[str, ...]:
        return conv.feature_layers(self._network, self._images[0], NUM_LAYERS)

    @functools.cached_property
    def _varied(self) -> NDArray[np.int64]:
        """Images that are shown: the first of each label in turn."""
        order = np.argsort(self._labels, kind="stable")
        rank = np.empty(len(order), np.int64)
        for label in np.unique(self._labels):
            held = order[self._labels[order] == label]
            rank[held] = np.arange(len(held))
        return np.lexsort((self._labels, rank))[:NUM_SHOWN]

    def _channels(self, layer: str) -> list[int]:
        with inspection_mode(self._network), torch.no_grad():
            output = conv.activation(self._network, self._first, layer)
        return list(range(min(output.shape[1], NUM_CHANNELS)))

    @property
    def _first(self) -> Tensor:
        return conv.as_images(self._images[:1], self._network)

    @view("images")
    def layers(self) -> dict[str, conv.LayerActivations]:
        """Feature maps of some images, and how the values of each layer are spread."""
        record = conv.layer_activations(self._network, self._images[self._varied])
        return {f"page {number}": page for number, page in enumerate(record.pages(), start=1)}

    @view("images")
    def dead_units(self) -> Any:
        """Channels that never speak, always or rarely."""
        return conv.dead_units(self._network, self._images)

    @functools.cached_property
    def _top(self) -> dict[str, conv.TopPatches]:
        return {
            layer: conv.top_patches(self._network, layer, self._images, self._channels(layer))
            for layer in self._layers
        }

    @view("images")
    def patches(self) -> dict[str, conv.TopPatches]:
        """What excites each channel most."""
        return self._top

    def _strongest(self, layer: str) -> tuple[tuple[int, int, int], NDArray[np.float32]]:
        """Return the unit that is excited most of all channels' units, and the image that does it.

        Each channel's values are taken relative to its mean best ones, so that no channel wins by
        its scale alone.
        """
        top = self._top[layer]
        best = np.where(top.image >= 0, top.value, 0)
        row = int((best[:, 0] / (best.mean(axis=1) + 1e-12)).argmax())
        unit = (int(top.channels[row]), int(top.row[row, 0]), int(top.column[row, 0]))
        return unit, self._images[max(int(top.image[row, 0]), 0)]

    @functools.cached_property
    def _live(self) -> tuple[str, ...]:
        """The layers of which some channel is excited by some image.

        Raises:
            NothingToShow: there is none.
        """
        live = tuple(layer for layer in self._layers if (self._top[layer].image >= 0).any())
        if not live:
            raise NothingToShow("model: no image excites any channel of its layers")
        return live

    @view("images")
    def fields(self) -> dict[str, Any]:
        """What a channel of each layer sees where it is at least half as excited as ever."""

        def look(layer: str) -> Any:
            (channel, _, _), image = self._strongest(layer)
            half = float(self._top[layer].value[self._channels(layer).index(channel), 0]) / 2
            return conv.receptive_fields(self._network, layer, channel, image, half)

        return {layer: look(layer) for layer in self._live}

    @view("images")
    def patterns(self) -> dict[str, Any]:
        """Which pattern in its patch excites a unit of each layer."""
        return {
            layer: conv.unit_pattern(self._network, layer, *self._strongest(layer))
            for layer in self._live
        }

    @view("images")
    def perturbations(self) -> Any:
        """How the unit of the last layer answers to noise, blur and other changes."""
        layer = self._live[-1]
        unit, image = self._strongest(layer)
        names = ("noise", "blur", "rotate", "shift", "contrast", "erase")
        return conv.sweep_perturbation(self._network, layer, unit, image, names)

    @view("images")
    def paste(self) -> Any:
        """What a unit of the second layer sees, pasted into another image."""
        layer = self._live[min(1, len(self._live) - 1)]
        unit, image = self._strongest(layer)
        others = self._varied[self._labels[self._varied] != self._labels[self._varied[0]]]
        target = self._images[others[0] if len(others) else 0]
        return conv.transplant_field(self._network, layer, unit, image, target)

    @view("images")
    def response(self) -> Any:
        """How the channels of the first layer answer when an image is blurred."""
        image = self._images[self._varied[0]]
        return conv.compare_response(
            self._network, self._layers[0], image, ("blur", _BLUR), classes=self._classes
        )

    @view("classes")
    def map_edit(self) -> Any:
        """What is answered when the strongest channel of the last layer is silenced."""
        layer = self._live[-1]
        (channel, _, _), image = self._strongest(layer)
        return conv.ablate_channels(self._network, layer, image, [channel], classes=self._classes)

    @functools.cached_property
    def _found(self) -> dict[str, conv.MaximisedImages]:
        return {
            layer: conv.maximise(
                self._network, conv.channel(layer, self._channels(layer)), steps=STEPS,
                reference=self._images,
            )
            for layer in self._layers
        }  # fmt: skip

    @view("images")
    def maximised(self) -> dict[str, conv.MaximisedImages]:
        """Images that were found to excite each channel, and each label's logit."""
        if not self._classes:
            return self._found
        logits = conv.maximise(
            self._network, conv.logit(range(len(self._classes))), steps=3 * STEPS,
            reference=self._images,
        )  # fmt: skip
        return {**self._found, "labels": logits}

    @view("images")
    def inversion(self) -> Any:
        """What each layer still knows of an image."""
        return conv.invert(self._network, list(self._live), self._images[self._varied[0]])

    @view("images")
    def dream(self) -> Any:
        """An image in which all that the middle layer sees is made more of."""
        layer = self._layers[len(self._layers) // 2]
        return conv.dream(self._network, self._images[self._varied[0]], layer)

    @property
    def _shown(self) -> NDArray[np.float32]:
        """The images that are shown and explained, each with what the network answers to it."""
        shown: NDArray[np.float32] = self._images[self._varied]
        return shown

    @functools.cached_property
    def _explained(self) -> conv.Attributions:
        return conv.attributions(self._network, self._shown, labels=self._classes)

    @view("targets")
    def attribution(self) -> conv.Attributions | dict[str, conv.Attributions]:
        """Attribution: the pixels that each target rests on, by each method."""
        if self._classes:
            return self._explained
        numbers = [int(index) for index in self._varied]
        return {
            name: explain(self._network, self._images, numbers, name, target)
            for name, target in self._observation.targets.items()
        }

    @view("classes")
    def faithfulness(self) -> Any:
        """Which method's pixels the answer really hangs on."""
        return conv.faithfulness(self._network, self._shown, self._explained.maps)

    @view("classes")
    def sanity(self) -> Any:
        """Which method's maps change when the weights are drawn anew."""
        return conv.randomisation_check(self._network, self._shown)

    @view("classes")
    def attack(self) -> Any:
        """The least changes found that make other labels of images."""
        images, labels = self._shown, self._labels[self._varied]
        return conv.minimal_perturbation(self._network, images, labels, classes=self._classes)

    @view("classes")
    def robustness(self) -> Any:
        """How many answers stay right when every pixel may change by so much."""
        images, labels = self._images[:NUM_OFTEN], self._labels[:NUM_OFTEN]
        sizes = np.linspace(0, _LARGEST, 7)
        return conv.robustness_curve(self._network, images, labels, sizes.tolist(), steps=20)

    @view("images")
    def neighbours(self) -> Any:
        """The images that the last layer takes for most alike."""
        return conv.nearest_neighbours(
            self._network, self._layers[-1], self._images[self._varied], self._images,
            k=min(NUM_SHOWN, len(self._images) - 1), spatial="mean",
            exclude_self=True, labels=self._known_labels,
            query_labels=None if self._known_labels is None else self._labels[self._varied],
            classes=self._classes,
        )  # fmt: skip

    @view("images")
    def embedding(self) -> dict[str, conv.Embedding]:
        """The images as points, by what the first and the last layer make of them."""

        def points(layer: str, method: Literal["pca", "tsne"]) -> conv.Embedding:
            return conv.embed(
                self._network, layer, self._images, method, self._known_labels,
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
        """How well a line can tell the labels, layer by layer."""
        layers = conv.feature_layers(self._network, self._images[0], 2 * NUM_LAYERS)
        return conv.probe_layers(
            self._network, layers, self._images, self._labels, untrained=self._untrained()
        )

    def _untrained(self) -> nn.Module | None:
        """Return the network as it was before its first step, if that was kept."""
        if 0 not in self._states:
            return None
        model = copy.deepcopy(self._network)
        model.load_state_dict(self._states[0])
        return model

    @view("scans")
    def dissection(self) -> dict[str, Any]:
        """Which strokes, ends and holes a channel's map lies on."""
        concepts = conv.scan_concepts(self._images)

        def look(layer: str) -> Any:
            return conv.dissect(
                self._network, layer, concepts.images, concepts.masks, concepts.names, _TOP
            )

        return {layer: look(layer) for layer in self._layers}

    @view("images")
    def landscape(self) -> dict[str, Any]:
        """The loss around the weights, and on the way that they came."""
        loss: Callable[[nn.Module], Any] = lambda _: self._few.loss()  # noqa: E731 - one of two
        if self._classes:
            loss = conv.classification_loss(self._images[:NUM_OFTEN], self._labels[:NUM_OFTEN])
        states = self._states
        records: dict[str, Any] = {}
        if len(states) > 1:
            first, last = min(states), max(states)
            records["line"] = conv.landscape_line(
                self._network, loss, states[first], states[last],
                names=(f"step {first:,}", f"step {last:,}"),
            )  # fmt: skip
        records["plane"] = conv.landscape_plane(self._network, loss, num=_PLANE)
        return records

    @functools.cached_property
    def _few(self) -> Observation:
        return self._observe(self._task.samples("test", NUM_OFTEN))

    @functools.cached_property
    def _came_about(self) -> dict[str, conv.Progression]:
        return {
            layer: conv.progression(
                self._network, self._states, layer, self._images[self._group],
                channels=self._channels(layer),
            )
            for layer in self._layers
        }  # fmt: skip

    @property
    def _group(self) -> NDArray[np.int64]:
        """The fixed group of images that every copy of the weights sees: the varied ones first."""
        rest = np.setdiff1d(np.arange(len(self._images)), self._varied)
        return np.concatenate([self._varied, rest])[:256]

    @view("images", "snapshots")
    def progression(self) -> dict[str, conv.Progression]:
        """How each channel's maps came about."""
        return self._came_about

    @view("images")
    def units(self) -> dict[str, conv.UnitSheets]:
        """All that is known of each channel, on a page of its own."""
        return {layer: self._sheets(layer) for layer in self._layers}

    def _sheets(self, layer: str) -> conv.UnitSheets:
        found = self._found[layer]
        rows = self._observation.rows
        return conv.unit_sheets(
            self._network, layer, self._images,
            patches=self._top[layer],
            names=[f"{row.question}: {row.target}" for row in rows],
            labels=[row.target for row in rows],
            maximised=found,
            progression=self._came_about[layer] if self._states else None,
        )  # fmt: skip
