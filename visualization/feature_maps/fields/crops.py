"""Crops of receptive fields: N patches (channels, h, w) of images (channels, H, W)."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visualization.feature_maps.fields.axes import Positions
from visualization.feature_maps.fields.geometry import FieldBoxes


class Patches(NamedTuple):
    """Patches (N, channels, h, w) and their pixels within image and box (N, h, w).

    What lies outside the image is 0.
    """

    pixels: NDArray[np.floating]
    inside: NDArray[np.bool_]


def at_least_float32(values: Tensor) -> Tensor:
    """Return numbers in a type that numpy has: at least 32 bits."""
    return values.float() if values.dtype.itemsize < 4 else values


def crop_fields(
    images: Tensor, which: Positions, boxes: FieldBoxes, rows: Positions, columns: Positions
) -> Patches:  # fmt: skip
    """Return what units see of images, in patches of the size of the largest box.

    Where boxes are as high or wide as the image, a patch has all of the image's rows or columns.
    Where they continue at its other side, so do patches.

    Args:
        images: (M, channels, H, W).
        which: the image of each unit (N,).
        boxes: of the layer's places.
        rows: of the units (N,).
        columns: of the units (N,).
    """
    corners = boxes.at_positions(rows, columns)
    down, across = (
        _Frame.around(first, last, size, limit, boxes.wraps)
        for (first, last), size, limit in zip(
            (corners.T[:2], corners.T[2:]), boxes.size, boxes.image_size, strict=True
        )
    )
    row, column = (torch.from_numpy(frame.positions) for frame in (down, across))
    image_index = torch.from_numpy(which)[:, None, None]
    pixels = images[image_index, :, row[:, :, None], column[:, None]].movedim(-1, 1)
    within = torch.from_numpy(down.in_image[:, :, None] & across.in_image[:, None])
    visible = pixels.where(within[:, None].to(pixels.device), torch.zeros_like(pixels))
    return Patches(
        at_least_float32(visible).cpu().numpy(),
        down.in_field[:, :, None] & across.in_field[:, None],
    )


class _Frame(NamedTuple):
    """What patches show along one axis, each an array (N, h)."""

    positions: Positions  # of the image; where there is none, the one at the border
    in_image: NDArray[np.bool_]  # the image has such a place
    in_field: NDArray[np.bool_]  # and it is in the hull

    @staticmethod
    def around(first: Positions, last: Positions, size: int, limit: int, wraps: bool) -> "_Frame":
        """Return frames of the same size that begin with the boxes, or with the image."""
        begin = first if size < limit else np.zeros_like(first)
        positions = begin[:, None] + np.arange(max(min(size, limit), 1))
        in_image = (positions >= 0) & (positions < limit)
        if wraps:
            in_field = (positions - first[:, None]) % limit <= (last - first)[:, None]
            return _Frame(positions % limit, in_image | in_field, in_field)
        in_field = (positions >= first[:, None]) & (positions <= last[:, None])
        return _Frame(positions.clip(0, limit - 1), in_image, in_image & in_field)
