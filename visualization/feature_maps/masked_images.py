"""Re-iterable batches of images, their concept masks, and masks of other images.

N images (C, h, w), B in a batch; K concepts with masks (H, W).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.core.arrays import derangement
from visualization.core.errors import argument_error, value_error
from visualization.core.inputs import Images, as_tensor, batches

Masks = Tensor | NDArray[Any] | Callable[[Tensor], Any] | Iterable[Any]


class MaskedBatch(NamedTuple):
    """B images with their masks, and with the masks of others in the place of their own."""

    images: Tensor  # (B, C, h, w)
    masks: Tensor  # (B, K, H, W)
    others: Tensor  # (B, K, H, W)


@attrs.frozen(kw_only=True, eq=False)
class MaskedImages:
    """Images and masks, which can be read again and again."""

    model: nn.Module
    images: Images | Iterable[Any]
    masks: Masks
    num_concepts: int
    batch_size: int
    order: Tensor | None  # whose masks replace each image's own (N,); None: the one before's
    num_images: int
    image_shape: tuple[int, ...]  # (C, h, w)
    mask_shape: tuple[int, int]

    def __iter__(self) -> Iterator[MaskedBatch]:
        """Yield batches in order."""
        first, last = 0, None
        for images, masks_of_batch in _pairs(self.model, self.images, self.masks, self.batch_size):
            masks = _as_masks(masks_of_batch, len(images), self.num_concepts).to(images.device)
            if self.order is None:
                before = masks[-1:] if last is None else last
                last, others = masks[-1:], torch.cat([before, masks[:-1]])
            else:
                numbers = self.order[first : first + len(images)]
                others = _as_masks(_masks_at(self.masks, numbers), len(images), self.num_concepts)
            yield MaskedBatch(images, masks, others.to(images.device))
            first += len(images)


def masked_images(
    model: nn.Module,
    images: Images | Iterable[Any],
    masks: Masks,
    concepts: Sequence[str],
    batch_size: int,
    seed: int,
) -> MaskedImages:
    """Count the images and look at the first; see `dissect`.

    Raises:
        ValueError: fewer than two images; masks that do not go with them; what is read only once.
    """
    for name, argument in (("images", images), ("masks", masks)):
        if isinstance(argument, Iterator):
            kind = type(argument).__name__
            accepted = "an array, or what can be read several times, such as a loader"
            raise argument_error(name, f"a {kind} can be read only once", accepted)
    if isinstance(concepts, str) or not concepts or len(set(concepts)) < len(concepts):
        raise value_error("concepts", repr(concepts), "different names")
    pairs = _pairs(model, images, masks, batch_size)
    shapes = [(len(batch), batch.shape[1:]) for batch in batches(images, model, batch_size)]
    if (num := sum(count for count, _ in shapes)) < 2:
        raise argument_error("images", f"{num} are not accepted", "two or more")
    _, first_masks = next(pairs)
    first = _as_masks(first_masks, shapes[0][0], len(concepts))
    order = None
    if isinstance(images, (Tensor, np.ndarray)) and isinstance(masks, (Tensor, np.ndarray)):
        if len(masks) != num:
            raise argument_error("masks", f"{len(masks)} do not go with {num} images", num)
        order = torch.as_tensor(derangement(num, seed))
    return MaskedImages(
        model=model, images=images, masks=masks, num_concepts=len(concepts), batch_size=batch_size,
        order=order, num_images=num, image_shape=tuple(shapes[0][1]),
        mask_shape=(first.shape[2], first.shape[3]),
    )  # fmt: skip


def _pairs(
    model: nn.Module, images: Images | Iterable[Any], masks: Masks, batch_size: int
) -> Iterator[tuple[Tensor, Any]]:
    """Yield batches of images, each with what gives its masks."""
    read = batches(images, model, batch_size)
    if isinstance(masks, (Tensor, np.ndarray)):
        first = 0
        for batch in read:
            yield batch, masks[first : first + len(batch)]
            first += len(batch)
    elif callable(masks):
        for batch in read:
            yield batch, masks(batch)
    else:
        try:
            yield from zip(read, masks, strict=True)
        except ValueError as error:
            if "zip()" not in str(error):
                raise
            raise argument_error(
                "masks", f"{error}", "as many batches of masks as of images"
            ) from error


def _masks_at(masks: Masks, numbers: Tensor) -> Any:
    assert isinstance(masks, (Tensor, np.ndarray))
    return masks[numbers.to(masks.device)] if isinstance(masks, Tensor) else masks[numbers.numpy()]


def _as_masks(masks: Any, num: int, num_concepts: int) -> Tensor:
    """Return masks (B, K, H, W) of booleans."""
    tensor = as_tensor(masks, "masks")
    if tensor.ndim != 4 or tensor.shape[:2] != (num, num_concepts) or 0 in tensor.shape:
        problem = f"shape {tuple(tensor.shape)} does not go with {num} images"
        raise argument_error("masks", problem, f"({num}, {num_concepts} concepts, height, width)")
    if tensor.is_floating_point() or tensor.is_complex():
        raise value_error("masks", tensor.dtype, "booleans")
    return tensor.bool()
