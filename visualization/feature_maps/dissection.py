"""Network dissection: which labelled concepts the units of a layer detect.

Bau et al. 2017 (1704.05796). N images, U units (channels) with maps of h rows and w columns, K
concepts with masks of H rows and W columns.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.core.errors import argument_error, check_count, check_share
from visualization.core.inputs import Images, activation, inspection_mode, optional_layer_name
from visualization.core.records import brief_repr
from visualization.core.tracing import NamedLayer
from visualization.feature_maps.masked_images import MaskedBatch, MaskedImages, Masks, masked_images
from visualization.feature_maps.quantiles import TopKImages, UpperQuantile
from visualization.feature_maps.upsampling import Upsampling, upsampling

_BUDGET = 2**24  # numbers of enlarged maps that are held at a time
_UNITS_SHOWN = 6


@attrs.frozen(kw_only=True, eq=False)
class Example:
    """Images with the highest activation of a unit, its region and its concept.

    Attributes:
        unit: number of the channel.
        concept: number of the concept.
        numbers: of the images, the most exciting first (E,).
        images: (E, C, h, w) as they were given.
        regions: where the unit is above its threshold (E, H, W).
        masks: where the concept is (E, H, W).
    """

    unit: int
    concept: int
    numbers: tuple[int, ...]
    images: NDArray[np.float32]
    regions: NDArray[np.bool_]
    masks: NDArray[np.bool_]


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class Dissection:
    """Network dissection: IoU of U units of a layer with K concepts, over N images.

    Attributes:
        layer: its name; None: the model's output.
        concepts: names (K,).
        iou: pixels in both region and mask, over all images, by pixels in either (U, K).
        chance: the same with the masks of other images (U, K): what place and size alone give.
        thresholds: above which a unit's region is (U,).
        unit_shares: share of all pixels in each unit's region (U,).
        concept_shares: share of all pixels in each concept's masks (K,).
        quantile: share of a unit's values that its threshold leaves above.
        least: IoU above chance that makes a unit a detector.
        placement: how maps are laid over masks: `centred` puts each value at the centre of its
            receptive field, as in the paper, and no region reaches farther than half a step
            beyond the outermost; `even` spreads them evenly, where centres do not rise from place
            to place, as behind an operation on the whole map.
        share_read: share of the values that the thresholds are from; 1: exact.
        num_images: N.
        examples: of the units that cover their concept best.
    """

    layer: str | None
    concepts: tuple[str, ...]
    iou: NDArray[np.float64]
    chance: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    unit_shares: NDArray[np.float64]
    concept_shares: NDArray[np.float64]
    quantile: float
    least: float
    placement: str
    share_read: float
    num_images: int
    examples: tuple[Example, ...]

    @property
    def best(self) -> NDArray[np.int64]:
        """The concept that each unit covers best (U,)."""
        return np.asarray(self.iou.argmax(axis=1))

    @property
    def best_iou(self) -> NDArray[np.float64]:
        """Its IoU (U,)."""
        return self._of_best(self.iou)

    @property
    def best_chance(self) -> NDArray[np.float64]:
        """The IoU of that concept by chance (U,)."""
        return self._of_best(self.chance)

    @property
    def ceilings(self) -> NDArray[np.float64]:
        """The largest IoU that the sizes of regions and masks allow (U, K)."""
        units, concepts = self.unit_shares[:, None], self.concept_shares
        larger = np.maximum(units, concepts)
        return np.minimum(units, concepts) / np.where(larger > 0, larger, 1.0)

    @property
    def detectors(self) -> NDArray[np.bool_]:
        """Whether each unit covers its best concept by `least` more than chance does (U,)."""
        return self.best_iou - self.best_chance >= self.least

    @property
    def num_unique(self) -> int:
        """How many concepts have a detector."""
        return len(np.unique(self.best[self.detectors]))

    def _of_best(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values[np.arange(len(values)), self.best]


def dissect(
    model: nn.Module,
    layer: NamedLayer | None,
    images: Images | Iterable[Any],
    masks: Masks,
    concepts: Sequence[str],
    quantile: float = 0.005,
    *,
    least: float = 0.04,
    num_examples: int = 4,
    seed: int = 0,
    batch_size: int = 64,
) -> Dissection:
    """Network dissection: IoU of the places where a unit is high with those of a concept.

    A unit's threshold T is such that the share `quantile` of its values, at all places of all
    images, is T or more. Its maps are enlarged bilinearly to the size of the masks; where they
    reach T is its region. If T is also its lowest value, as of a ReLU unit that is seldom on, the
    region is where it is above that. IoU sums pixels over all images (equation 1 of the paper).

    IoU cannot exceed min / max of the shares of pixels that region and concept have (`ceilings`):
    of concepts that cover a tenth of the pixels the paper's 0.005 allows 0.05, so give a quantile
    near the concepts' share. Chance is measured with masks of other images: of an array the images
    are permuted, of batches each image has the mask of the one before.

    The data are read twice, and the images of the examples once more. Kept are the highest values
    of each unit, the share `quantile` of its maps, so that T is exact; if that were more than 2²⁵
    numbers, T is from as many places as fit, drawn evenly (`share_read`).

    Args:
        model: any module.
        layer: dotted name of a layer that outputs maps (B, U, h, w).
        images: an array (N, C, H, W), or an iterable of batches that can be read several times.
        masks: an array (N, K, H, W) of booleans, not necessarily of the images' size; a function of
            a batch of images that returns such an array; or an iterable of batches, in step.
        concepts: names of the K concepts.
        quantile: above 0, below 1.
        least: IoU above chance that makes a unit a detector; the paper has 0.04, above 0.
        num_examples: images of each unit that is shown.
        seed: of the permutation.
        batch_size: images at a time, of an array.

    Raises:
        ValueError: names the argument that does not fit.
    """
    check_count(batch_size, "batch_size")
    check_count(num_examples, "num_examples")
    check_share(quantile, "quantile")
    with inspection_mode(model), torch.no_grad():
        data = masked_images(model, images, masks, concepts, batch_size, seed)
        layer = optional_layer_name(model, layer)
        reading = _first_reading(model, layer, data, quantile, num_examples)
        overlap = _second_reading(reading, data)
        return _as_dissection(reading, overlap, data, concepts, quantile, least)


def _as_dissection(
    reading: "_FirstReading", overlap: "_Overlap", data: MaskedImages, concepts: Sequence[str],
    quantile: float, least: float,
) -> Dissection:  # fmt: skip
    iou, chance = overlap.ious()
    return Dissection(
        layer=reading.layer, concepts=tuple(concepts), iou=iou, chance=chance,
        thresholds=reading.top.thresholds.cpu().double().numpy(),
        unit_shares=overlap.units / overlap.num_pixels,
        concept_shares=overlap.masks[0] / overlap.num_pixels, quantile=quantile, least=least,
        placement=reading.upsample.kind, share_read=reading.top.share_read,
        num_images=data.num_images, examples=_examples(reading, data, iou),
    )  # fmt: skip


@attrs.frozen(eq=False)
class _FirstReading:
    """What the first reading finds: thresholds, exciting images, and how maps lie over masks."""

    model: nn.Module
    layer: str | None
    top: UpperQuantile
    highest: TopKImages
    upsample: Upsampling

    def regions(self, maps: Tensor, units: slice) -> Tensor:
        """Return the regions of some units (B, u, H, W), of the maps of all (B, U, h, w)."""
        return self.top.regions(self.upsample(maps[:, units]), units)


def _maps(model: nn.Module, layer: str | None, images: Tensor) -> Tensor:
    """Return a layer's maps (B, U, h, w)."""
    maps = activation(model, images.clone(), layer)  # a copy, for models that work in place
    if maps.ndim != 4:
        problem = f"{layer or 'the model'!r} outputs {tuple(maps.shape)}"
        raise argument_error("layer", problem, "layers of maps (images, units, rows, columns)")
    return maps


def _first_reading(
    model: nn.Module, layer: str | None, data: MaskedImages, quantile: float, num_examples: int
) -> _FirstReading:
    top, highest, maps = None, None, None
    for batch in data:
        maps = _maps(model, layer, batch.images)
        top = top or UpperQuantile(quantile, data.num_images * maps[0, 0].numel(), maps)
        highest = highest or TopKImages(num_examples, maps)
        top.update(maps)
        highest.update(maps)
    assert top is not None
    assert highest is not None
    assert maps is not None
    upsample = upsampling(model, layer, data.image_shape, maps, data.mask_shape)
    return _FirstReading(model, layer, top, highest, upsample)


class _Overlap:
    """Counts of pixels in regions of U units and masks of K concepts."""

    def __init__(self, num_units: int, num_concepts: int) -> None:
        self.both = np.zeros((2, num_units, num_concepts))  # with masks, with those of others
        self.units = np.zeros(num_units)
        self.masks = np.zeros((2, num_concepts))
        self.num_pixels = 0

    def add(self, batch: MaskedBatch, maps: Tensor, reading: _FirstReading) -> None:
        """Count a batch, of some units at a time; in float32 such counts are exact."""
        labelled = torch.cat([batch.masks, batch.others], dim=1).transpose(0, 1).flatten(1).float()
        num_pixels, num_units = labelled.shape[1], maps.shape[1]
        self.masks += labelled.sum(dim=1).cpu().numpy().reshape(2, -1)
        self.num_pixels += num_pixels
        num_together = max(1, _BUDGET // num_pixels)
        for first in range(0, num_units, num_together):
            units = slice(first, first + num_together)
            regions = reading.regions(maps, units).transpose(0, 1).flatten(1).float()
            both = (regions @ labelled.T).cpu().numpy().reshape(len(regions), 2, -1)
            self.both[:, units] += both.swapaxes(0, 1)
            self.units[units] += regions.sum(dim=1).cpu().numpy()

    def ious(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return IoU with the masks, and with those of other images (U, K)."""
        either = self.units[:, None] + self.masks[:, None] - self.both
        own, others = self.both / np.where(either > 0, either, 1.0)
        return own, others


def _second_reading(reading: _FirstReading, data: MaskedImages) -> _Overlap:
    overlap = _Overlap(len(reading.top.thresholds), data.num_concepts)
    num_together = max(1, _BUDGET // (2 * data.num_concepts * math.prod(data.mask_shape)))
    for batch in data:
        maps = _maps(reading.model, reading.layer, batch.images)
        for first in range(0, len(maps), num_together):
            rows = slice(first, first + num_together)
            overlap.add(MaskedBatch(*(part[rows] for part in batch)), maps[rows], reading)
    return overlap


def _examples(
    reading: _FirstReading, data: MaskedImages, iou: NDArray[np.float64]
) -> tuple[Example, ...]:
    """Return the exciting images of the units that cover their concept best."""
    best = iou.max(axis=1)
    units = [int(unit) for unit in np.argsort(-best, kind="stable")[:_UNITS_SHOWN] if best[unit]]
    numbers = {unit: reading.highest.numbers[unit].tolist() for unit in units}
    images_with_masks = _images_with_masks(
        data, {number for each in numbers.values() for number in each}
    )

    def example(unit: int) -> Example:
        concept, only = int(iou[unit].argmax()), slice(unit, unit + 1)
        pairs = [images_with_masks[number] for number in numbers[unit]]
        images, masks = torch.stack([a for a, _ in pairs]), torch.stack([b for _, b in pairs])
        regions = reading.regions(_maps(reading.model, reading.layer, images), only)[:, 0]
        return Example(
            unit=unit, concept=concept, numbers=tuple(numbers[unit]),
            images=images.float().cpu().numpy(), regions=regions.cpu().numpy(),
            masks=masks[:, concept].cpu().numpy(),
        )  # fmt: skip

    return tuple(map(example, units))


def _images_with_masks(data: MaskedImages, numbers: set[int]) -> dict[int, tuple[Tensor, Tensor]]:
    """Return some of the images with their masks, by number."""
    by_number: dict[int, tuple[Tensor, Tensor]] = {}
    first = 0
    for batch in data:
        for number in numbers & set(range(first, first + len(batch.images))):
            by_number[number] = (batch.images[number - first], batch.masks[number - first])
        first += len(batch.images)
        if len(by_number) == len(numbers):
            break
    return by_number
