"""Upsampling of maps to the size of a mask, centred on receptive fields."""

from typing import NamedTuple

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.feature_maps.fields.geometry import field_boxes


class _Between(NamedTuple):
    """Which two places of a map each pixel lies between, and how far on the way (P,)."""

    before: Tensor
    after: Tensor
    share: Tensor
    is_covered: Tensor  # whether the pixel is within half a step of a place
    is_same: bool  # whether each pixel is at the place of its number

    def of(self, maps: Tensor, axis: int) -> Tensor:
        if self.is_same:
            return maps
        shape = [1] * maps.ndim
        shape[axis] = -1
        first, second = maps.index_select(axis, self.before), maps.index_select(axis, self.after)
        # Not a weighted sum of both, which may differ by a rounding error where they are equal.
        return second.sub_(first).mul_(self.share.view(shape)).add_(first)


@attrs.frozen
class Upsampling:
    """Bilinear interpolation from a layer's places to the pixels of a mask.

    `kind` is `centred` if values are at the centres of their receptive fields, else `even`.
    Beyond the outermost centres the map continues for half a step; what is farther out, as at the
    borders of layers without padding, no place covers: there it is −inf.
    """

    kind: str
    rows: _Between
    columns: _Between

    def __call__(self, maps: Tensor) -> Tensor:
        """Return maps (…, h, w) as (…, H, W)."""
        axis = maps.ndim - 2
        # Rows last: whole ones are copied, where columns are gathered number by number.
        enlarged = self.rows.of(self.columns.of(maps.contiguous(), axis + 1), axis)
        is_covered = self.rows.is_covered[:, None] & self.columns.is_covered
        return enlarged.masked_fill(~is_covered, -torch.inf)


def upsampling(
    model: nn.Module,
    layer: str | None,
    image_shape: tuple[int, ...],
    maps: Tensor,
    mask_size: tuple[int, int],
) -> Upsampling:
    """Return how maps (B, U, h, w) of a layer are laid over masks of a size.

    Args:
        model: any module.
        layer: dotted name; None: the model's output.
        image_shape: of one image, (C, H, W).
        maps: some of the layer, on its device.
        mask_size: height and width.
    """
    boxes = field_boxes(model, layer, image_shape)
    centres = [
        (boxes.row_first + boxes.row_last) / 2,
        (boxes.column_first + boxes.column_last) / 2,
    ]
    sizes, image_size = tuple(maps.shape[2:]), tuple(image_shape[1:])
    is_centred = all(
        len(positions) == size > 1 and (np.diff(positions) > 0).all()
        for positions, size in zip(centres, sizes, strict=True)
    )
    if not is_centred:
        centres = [_spread(a, b) for a, b in zip(sizes, image_size, strict=True)]
    pixels = (_spread(a, b) for a, b in zip(mask_size, image_size, strict=True))
    rows, columns = (_between(a, b, maps) for a, b in zip(centres, pixels, strict=True))
    return Upsampling("centred" if is_centred else "even", rows, columns)


def _spread(num: int, size: int) -> NDArray[np.float64]:
    """Return the centres of `num` equal parts of a side of `size` pixels, pixel 0 being at 0."""
    return (np.arange(num) + 0.5) * size / num - 0.5


def _between(centres: NDArray[np.float64], pixels: NDArray[np.float64], like: Tensor) -> _Between:
    after = np.searchsorted(centres, pixels, side="right").clip(max=len(centres) - 1)
    before = (after - 1).clip(min=0)
    gap = np.where(after > before, centres[after] - centres[before], 1.0)
    share = ((pixels - centres[before]) / gap).clip(0.0, 1.0)
    steps = np.diff(centres) if len(centres) > 1 else np.full(1, np.inf)
    whole = np.rint(pixels)  # the pixel of the image, where the mask has more of them
    is_covered = (whole >= centres[0] - steps[0] / 2) & (whole <= centres[-1] + steps[-1] / 2)
    first, second, covered = (
        torch.as_tensor(part, device=like.device) for part in (before, after, is_covered)
    )
    weight = torch.as_tensor(share, dtype=like.dtype, device=like.device)
    is_same = len(pixels) == len(centres) and bool((before + share == np.arange(len(pixels))).all())
    return _Between(first, second, weight, covered, is_same)
