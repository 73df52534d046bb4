"""Activation stream: a data set through a model as far as a layer, batch by batch."""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from visualization.core.errors import argument_error, value_error
from visualization.core.inputs import (
    Images,
    activation,
    as_tensor,
    batches,
    check_tensor,
    device_and_dtype,
    numbered_call,
)
from visualization.core.layout import intercept_maps
from visualization.feature_maps.fields.axes import Positions
from visualization.feature_maps.fields.geometry import field_boxes_of_graph
from visualization.feature_maps.fields.graph import map_size, trace_graph

Data = Images | Iterable[Any]
_EVEN = 16  # kernels for fewer images round otherwise, and then ties depend on the batch
_PIECE = 2**20  # numbers of an array that are looked through at once


class ActivationBatch(NamedTuple):
    """A batch of images (B, channels, height, width) and a layer's maps of them (B, C, H, W)."""

    images: Tensor
    maps: Tensor
    ids: NDArray[np.int64]  # what the images are known by (B,)
    first: int  # index of the first of them in the data


class ActivationStream:
    """Activation stream: the batches of a data set with a layer's maps, to be gone over once.

    The first is run when the stream is made, to know what the layer sees and outputs. A vector
    (B, C) counts as maps of one place.
    """

    def __init__(
        self, model: nn.Module, layer: str | None, images: Data, ids: ArrayLike | None,
        batch_size: int,
    ) -> None:  # fmt: skip
        self._array = images if isinstance(images, (Tensor, np.ndarray)) else None
        if self._array is not None and self._array.ndim != 4:
            accepted = "(images, channels, height, width), or an iterable of such batches"
            raise value_error("images", f"shape {tuple(self._array.shape)}", accepted)
        self._size = -(-batch_size // _EVEN) * _EVEN
        stream = batches(images, model, self._piece())
        first = next(stream, None)
        if first is None:
            raise argument_error("images", "there are none", "one or more")
        graph = trace_graph(model, layer, first.shape[1:])
        self.map_size = map_size(graph, layer)
        self.boxes = field_boxes_of_graph(model, layer, graph)
        self.dtype = graph.output.dtype
        self.num_channels = graph.output.shape[1]
        self.num_images = 0
        self._outputs_kept: dict[int, Tensor] = {}
        self._image_shape = first.shape[1:]
        self._model, self._layer = model, layer
        self._stream = itertools.chain([first], stream)
        self._ids = None if ids is None else _whole_numbers(ids)

    def rows_and_columns(self, positions: Positions) -> tuple[Positions, Positions]:
        """Return row and column of places in a map, which are counted in reading order."""
        return positions // self.map_size[1], positions % self.map_size[1]

    def each(self, take: Callable[[ActivationBatch], None]) -> None:
        """Run the model on each batch in turn, no further than the layer, and hand over its maps.

        They are let go before the next batch, whose maps then take their place in memory.
        """
        if self._array is None:
            for images in self._even():
                with self._watched() as outputs:
                    self._run_batch(images, outputs, take)
        else:
            with self._watched() as outputs:  # once: nobody else can use the model in between
                for images in self._even():
                    self._run_batch(images, outputs, take)
        if self._ids is not None and len(self._ids) != self.num_images:
            raise self._wrong_ids(f"{self.num_images}")

    def _piece(self) -> int:
        """Return how many images of an array are looked through at once: whole batches."""
        if self._array is None or not len(self._array):
            return self._size
        return self._size * max(1, _PIECE // (self._size * math.prod(self._array.shape[1:]) or 1))

    def _even(self) -> Iterator[Tensor]:
        """Yield batches of one size, however the data comes; the last has less."""
        waiting: list[Tensor] = []
        for images in self._stream:
            if images.shape[1:] != self._image_shape:
                shapes = f"{tuple(images.shape[1:])} after others of {tuple(self._image_shape)}"
                raise argument_error("images", f"one of shape {shapes}", "all of one shape")
            waiting.append(images)
            if sum(map(len, waiting)) >= self._size:
                joined = torch.cat(waiting) if len(waiting) > 1 else images
                whole = len(joined) // self._size * self._size
                yield from torch.split(joined[:whole], self._size)
                waiting = [joined[whole:]] if whole < len(joined) else []
        if waiting:
            yield torch.cat(waiting)

    @contextlib.contextmanager
    def _watched(self) -> Iterator[list[Any]]:
        """Collect the layer's outputs in a list, and end each pass there."""
        outputs: list[Any] = []
        taps = {numbered_call(self._model, self._layer): outputs.append} if self._layer else {}
        with intercept_maps(self._model, taps, stop=bool(taps)):
            yield outputs

    def _run_batch(
        self, images: Tensor, outputs: list[Any], take: Callable[[ActivationBatch], None]
    ) -> None:
        first = self.num_images
        self.num_images += len(images)
        filled = images[-1:].expand(-len(images) % _EVEN, -1, -1, -1)  # up to an even number
        whole = torch.cat([images, filled]) if len(filled) else images
        with torch.no_grad():
            output = self._model(whole) if self._layer else activation(self._model, whole)
        layer_output = outputs.pop() if self._layer else output
        maps = check_tensor(layer_output, repr(self._layer or "the model"))[: len(images)]
        maps = maps if maps.ndim == 4 else maps[:, :, None, None]
        take(ActivationBatch(images, maps, self._known_ids(first, self.num_images), first))

    def keep(self, candidates: Callable[[], Positions], batch: ActivationBatch) -> None:
        """Keep the candidate images, by their index in the data, and no others.

        Of an array none needs to be kept.
        """
        if self._array is not None:
            return
        positions = np.unique(candidates())
        if len(positions) and positions[-1] >= batch.first:
            self._outputs_kept = {
                position: batch.images[position - batch.first].clone()
                if position >= batch.first
                else self._outputs_kept[position]
                for position in positions.tolist()
            }

    def images_at(self, index: Positions) -> Tensor:
        """Return images, by their index in the data; of an iterable those that were kept."""
        if self._array is not None:
            device, dtype = device_and_dtype(self._model)
            return as_tensor(self._array[index], "images").to(device, dtype)
        none = torch.empty(0, *self._image_shape)
        return (
            torch.stack([self._outputs_kept[position] for position in index.tolist()])
            if len(index)
            else none
        )

    def _known_ids(self, first: int, end: int) -> NDArray[np.int64]:
        if self._ids is None:
            return np.arange(first, end)
        if end > len(self._ids):
            raise self._wrong_ids(f"{end} or more")
        return self._ids[first:end]

    def _wrong_ids(self, images: str) -> ValueError:
        assert self._ids is not None
        return argument_error("ids", f"{len(self._ids)} for {images} images", "one for each")


def _whole_numbers(ids: ArrayLike) -> NDArray[np.int64]:
    numbers = np.asarray(ids)
    if (
        numbers.ndim != 1
        or numbers.dtype.kind not in "iu"
        or len(np.unique(numbers)) != len(numbers)
    ):
        accepted = "a whole number for each image, all different"
        problem = f"{numbers.dtype} of shape {numbers.shape}, {numbers.size} numbers"
        raise argument_error("ids", f"{problem}, are not accepted", accepted)
    return numbers.astype(np.int64)
