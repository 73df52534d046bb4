"""Records of layer activations. U units."""

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from visualization.core.records import brief_repr

PAGE = 12  # layers of a picture


def in_pages(record: Any, num: int) -> tuple[Any, ...]:
    """Return a record of layers in parts of `num` layers."""
    starts = range(0, len(record.layers), num)
    return tuple(attrs.evolve(record, layers=record.layers[n : n + num], first=n) for n in starts)


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class LayerValues:
    """Output of one call of one layer over a data set.

    Attributes:
        name: dotted, with `@` and the number of the call if the layer runs several times.
        kind: of module, such as `ReLU`.
        shape: of its output for one image, such as (C, H, W).
        num_values: how many there were, NaN and inf left out.
        zero_share: share of them that are 0, in [0, 1].
        mean: of all values.
        deviation: their standard deviation.
        counts: how many lie in each bin.
        edges: the ends of the bins, one more.
        low: each unit's least value (U,).
        high: each unit's largest (U,).
        active_share: of each unit, the share of the images for which it is above 0 anywhere (U,).
        maps: of the images shown (I, C, H, W); of a vector (I, 1, 1, C).
        channels: those of the maps (C,): the ones that vary most over the images shown.
        num_undefined: how many values were NaN or inf.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    num_values: int
    zero_share: float
    mean: float
    deviation: float
    counts: NDArray[np.int64]
    edges: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    active_share: NDArray[np.float64]
    maps: NDArray[np.float32]
    channels: NDArray[np.int64]
    num_undefined: int

    @property
    def constant(self) -> NDArray[np.int64]:
        """Units that have one value throughout, which is above 0."""
        return np.flatnonzero((self.low == self.high) & (self.high > 0))

    @property
    def dead(self) -> NDArray[np.int64]:
        """Units that are never above 0."""
        return np.flatnonzero(self.high <= 0)

    @property
    def always_active(self) -> NDArray[np.int64]:
        """Units that vary and are above 0 at every place of every image."""
        return np.flatnonzero((self.low > 0) & (self.low < self.high))

    def rarely_active(self, share: float) -> NDArray[np.int64]:
        """Return the units above 0 on some images, but on fewer than a share of them."""
        return np.flatnonzero(
            (self.high > 0) & (self.low < self.high) & (self.active_share < share)
        )


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class LayerActivations:
    """Outputs of the layers of a network over a data set, in the order of their calls.

    Attributes:
        layers: each call of each layer.
        images: the images of which maps are kept (I, C, H, W).
        num_images: of the data set.
        skipped: layers whose output is not a single tensor of floating-point numbers.
        first: the number of the first layer here, from 0, when this is a page of a longer record.
        num_all: layers in all.
    """

    layers: tuple[LayerValues, ...]
    images: NDArray[np.float32]
    num_images: int
    skipped: tuple[str, ...]
    first: int
    num_all: int

    def __getitem__(self, name: str) -> LayerValues:
        """Return one layer by the name that it has here."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(f"{name!r} is not here; here: {', '.join(x.name for x in self.layers)}")

    def pages(self, num: int = PAGE) -> tuple["LayerActivations", ...]:
        """Return the same in parts of `num` layers, each of which fits a picture."""
        return in_pages(self, num)

    @property
    def histograms(self) -> "LayerHistograms":
        """The same layers, to be drawn as histograms."""
        return LayerHistograms(self.layers, self.num_images, self.first, self.num_all)


@attrs.frozen(eq=False, field_transformer=brief_repr)
class LayerHistograms:
    """How the values of layers are distributed over a data set; see `LayerActivations`."""

    layers: tuple[LayerValues, ...]
    num_images: int
    first: int
    num_all: int

    def pages(self, num: int = 2 * PAGE) -> tuple["LayerHistograms", ...]:
        """Return the same in parts of `num` layers, each of which fits a picture."""
        return in_pages(self, num)


@attrs.frozen(kw_only=True, eq=False)
class UnitStates:
    """Which units of one layer do little, by number; no unit is in two of the lists.

    A unit is a channel of a feature map or a place of a vector.
    """

    name: str
    kind: str
    num_units: int
    dead: NDArray[np.int64]  # never above 0
    constant: NDArray[np.int64]  # one value throughout, above 0
    rarely_active: NDArray[np.int64]  # above 0 on fewer than the share of the images
    always_active: NDArray[np.int64]  # varies, and is above 0 at every place of every image


@attrs.frozen(eq=False, field_transformer=brief_repr)
class DeadUnits:
    """The units of every layer that do little over a data set.

    Attributes:
        layers: each call of each layer, in order.
        num_images: of the data set.
        share: of the images, below which a unit is rarely on.
    """

    layers: tuple[UnitStates, ...]
    num_images: int
    share: float
