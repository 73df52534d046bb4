"""Top-activating patches of feature maps, and all activating positions.

N images (channels, height, width); C feature maps of a layer; k patches of h × w pixels.
"""

from collections.abc import Sequence
from typing import Any, Literal

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import nn

from visualization.core.earlier_names import renamed_arguments
from visualization.core.errors import check_count, value_error
from visualization.core.inputs import (
    Images,
    as_tensor,
    inspection_mode,
    optional_layer_name,
    select_channels,
)
from visualization.core.records import brief_repr
from visualization.core.tracing import NamedLayer
from visualization.feature_maps.fields.crops import Patches, at_least_float32, crop_fields
from visualization.feature_maps.fields.geometry import FieldBoxes
from visualization.feature_maps.fields.ranking import Ints, RankedPositions, Ranking, TopK
from visualization.feature_maps.fields.stream import ActivationBatch, ActivationStream, Data


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class TopPatches:
    """Top-activating patches: the k of each of C feature maps, the most exciting first.

    Attributes:
        layer: dotted name; None: the model's output.
        channels: number of each map (C,).
        image: index of the image in the data, or its own id (C, k); −1: there are no more.
        row: of the unit in its map (C, k); −1 likewise, 0 of an output without places.
        column: (C, k).
        value: activation of the unit (C, k); NaN likewise.
        patches: what the unit's box shows of the image (C, k, channels, h, w), outside it 0, or
            its other side if that is read; the whole image where boxes are no smaller.
        inside: which pixels of a patch are within image and box (C, k, h, w).
        threshold: only more than this counts as activated.
        num_images: how many images there were.
    """

    layer: str | None
    channels: Ints
    image: Ints
    row: Ints
    column: Ints
    value: NDArray[np.floating]
    patches: NDArray[np.floating]
    inside: NDArray[np.bool_]
    threshold: float
    num_images: int


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class ActivatingPositions:
    """Activating positions of a feature map over a data set, the most activated first.

    Attributes:
        layer: dotted name; None: the model's output.
        channel: number of the map.
        threshold: only more than this counts as activated.
        image: index of the image in the data, or its own id (N,).
        index: index of the image in the data (N,).
        row: of the unit in its map (N,).
        column: (N,).
        value: activation (N,).
        num_activated: how many there are; more than N if a limit left some out.
        num_units: units of the map in all images.
        num_images: how many images there were.
        boxes: what each place of the layer sees.
    """

    layer: str | None
    channel: int
    threshold: float
    image: Ints
    index: Ints
    row: Ints
    column: Ints
    value: NDArray[np.floating]
    num_activated: int
    num_units: int
    num_images: int
    boxes: FieldBoxes

    def patches(self, images: Images, num: int | None = None) -> Patches:
        """Cut out what the first `num` units see (num, channels, h, w); None: all.

        Args:
            images: the data that was searched, as an array or a tensor.
            num: how many.
        """
        index, which = np.unique(self.index[:num], return_inverse=True)
        tensor = as_tensor(images[index], "images")
        return crop_fields(tensor, which, self.boxes, self.row[:num], self.column[:num])


@renamed_arguments(apart="min_distance")
def top_patches(
    model: nn.Module,
    layer: NamedLayer | None,
    images: Data,
    channels: Sequence[int] | None = None,
    k: int = 9,
    per_image: int | None = 1,
    *,
    min_distance: int | Literal["field"] | None = None,
    threshold: float = 0.0,
    ids: ArrayLike | None = None,
    batch_size: int = 64,
) -> TopPatches:
    """Top-activating patches of each feature map, in one pass over any number of images.

    A pass goes no further than the layer. Kept are few more than the k best places of each map so
    far and, of an iterable, their images: some C · k. A result holds C · k patches.

    Exact, and ordered by activation, then by the image's place in the data (or its id: then the
    order of the data plays no part either), then by place in the map. However the data comes, it
    runs in batches of a multiple of 16 images, the last filled up: kernels for fewer images round
    otherwise, and what is equal would no longer be.

    Args:
        model: any module; it runs in evaluation mode.
        layer: dotted name, `relu@1` for the second call; None: the model's output. It outputs
            feature maps (B, C, H, W), or vectors (B, C), whose patch is all that they see.
        images: an array or tensor (N, channels, height, width), or an iterable of batches, such as
            a loader; of tuples the first part is taken.
        channels: numbers of the maps; None: all of them.
        k: how many for each map.
        per_image: the most that one image may give; None: any number.
        min_distance: units between two of one image: one is at least so many rows or so many
            columns from the other; `field`: so far that their boxes share no pixel, unless it is
            round a border; None: any distance.
        threshold: only more than this counts, so that the zeros of a ReLU are not activated. Of a
            layer that outputs negative numbers `-math.inf` lets all count.
        ids: a whole number for each image, all different; None: their places in the data.
        batch_size: of an array.

    Raises:
        ValueError: names the argument that is not accepted, and what is.
    """
    layer = optional_layer_name(model, layer)
    check_count(k, "k")
    check_count(per_image, "per_image")
    check_count(batch_size, "batch_size")
    with inspection_mode(model):
        stream = ActivationStream(model, layer, images, ids, batch_size)
        numbers = select_channels(channels, stream.num_channels)
        distance = _distance(min_distance, stream.boxes)
        ordered = ids is None
        ranking = Ranking(numbers, k, per_image, distance, threshold, ordered, stream.dtype)

        def take(batch: ActivationBatch) -> None:
            ranking.add(batch.maps, batch.ids, batch.first)
            stream.keep(ranking.candidates, batch)

        stream.each(take)
        return _crop_patches(layer, numbers, k, threshold, stream, ranking.best)


def _crop_patches(
    layer: str | None,
    channels: list[int],
    k: int,
    threshold: float,
    stream: ActivationStream,
    best: RankedPositions,
) -> TopPatches:
    """Return the best places with their patches."""
    row, column = stream.rows_and_columns(best.place)
    position, which = np.unique(best.position, return_inverse=True)
    patches = crop_fields(stream.images_at(position), which, stream.boxes, row, column)
    index, shape = (best.channel, best.rank), (len(channels), k)
    return TopPatches(
        layer=layer, channels=np.array(channels), image=_scatter(best.image, index, shape, -1),
        row=_scatter(row, index, shape, -1), column=_scatter(column, index, shape, -1),
        value=_scatter(best.value, index, shape, np.nan),
        patches=_scatter(patches.pixels, index, shape, 0),
        inside=_scatter(patches.inside, index, shape, False), threshold=threshold,
        num_images=stream.num_images,
    )  # fmt: skip


def _scatter(
    values: NDArray[Any], index: tuple[Ints, Ints], shape: tuple[int, int], empty: float
) -> NDArray[Any]:
    """Return values (N, …) each at its channel and rank (C, k, …), and elsewhere what is empty."""
    table = np.full((*shape, *values.shape[1:]), empty, values.dtype)
    table[index] = values
    return table


def activating_positions(
    model: nn.Module,
    layer: NamedLayer | None,
    channel: int,
    images: Data,
    threshold: float = 0.0,
    *,
    limit: int | None = None,
    ids: ArrayLike | None = None,
    batch_size: int = 64,
) -> ActivatingPositions:
    """Activating positions: every place of a feature map that is activated over a data set.

    Args:
        model: any module; it runs in evaluation mode.
        layer: dotted name, `relu@1` for the second call; None: the model's output.
        channel: number of the map.
        images: an array or tensor (N, channels, height, width), or an iterable of batches.
        threshold: more than this is activated; `-math.inf` takes all.
        limit: keep the best so many, in bounded memory; None: all.
        ids: a whole number for each image, all different; None: their places in the data.
        batch_size: of an array.

    Raises:
        ValueError: names the argument that is not accepted, and what is.
    """
    layer = optional_layer_name(model, layer)
    check_count(limit, "limit")
    check_count(batch_size, "batch_size")
    with inspection_mode(model):
        stream = ActivationStream(model, layer, images, ids, batch_size)
        select_channels([channel], stream.num_channels)
        top_k = TopK(limit)
        stream.each(lambda batch: top_k.add(_positions_above(batch, channel, threshold)))
    best = top_k.best()
    row, column = stream.rows_and_columns(best.place)
    num_units = stream.num_images * stream.map_size[0] * stream.map_size[1]
    return ActivatingPositions(
        layer=layer, channel=channel, threshold=threshold, image=best.image, index=best.position,
        row=row, column=column, value=best.value, num_activated=top_k.num_found,
        num_units=num_units, num_images=stream.num_images, boxes=stream.boxes,
    )  # fmt: skip


def _distance(min_distance: int | str | None, boxes: FieldBoxes) -> tuple[int, int] | None:
    """Return the rows, or else columns, that must lie between two places."""
    if min_distance is None:
        return None
    if min_distance == "field":
        rows = _clear_distance(boxes.row_first, boxes.row_last)
        return rows, _clear_distance(boxes.column_first, boxes.column_last)
    if isinstance(min_distance, str) or min_distance < 1:
        accepted = "a number of units from 1 on, field, or None"
        raise value_error("min_distance", repr(min_distance), accepted)
    return min_distance, min_distance


def _clear_distance(first: Ints, last: Ints) -> int:
    """Return the least distance of places at which no two boxes share a pixel."""
    return next((by for by in range(1, len(first)) if (first[by:] > last[:-by]).all()), len(first))


def _positions_above(batch: ActivationBatch, channel: int, threshold: float) -> RankedPositions:
    """Return the activated places of one channel in a batch."""
    maps = at_least_float32(batch.maps[:, channel].flatten(1))
    hits = maps > threshold
    image, position = hits.nonzero().cpu().numpy().T
    return RankedPositions(
        np.zeros_like(image),
        maps[hits].cpu().numpy(),
        batch.ids[image],
        batch.first + image,
        position,
    )
