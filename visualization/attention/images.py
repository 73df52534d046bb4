"""Attention over images: where a model looks in an image while it writes a text."""

import attrs
import numpy as np
from numpy.typing import NDArray

from visualization.core.errors import argument_error
from visualization.core.records import brief_repr


@attrs.frozen(eq=False, kw_only=True, field_transformer=brief_repr)
class ImageAttention:
    """Attention maps of N images, one for each of A characters that are written.

    Attributes:
        images: (N, C, H, W), from 0 to 1.
        written: the text that is written of each image (N,), of at most A characters.
        maps: weights over the places of the image (N, A, h, w), which sum to 1 over the places; a
            place covers H / h by W / w pixels.

    Raises:
        ValueError: names the fields whose sizes do not fit.
    """

    images: NDArray[np.float32]
    written: tuple[str, ...]
    maps: NDArray[np.float32]

    def __attrs_post_init__(self) -> None:
        """Refuse sizes that do not fit."""
        num = len(self.images)
        if (
            self.images.ndim != 4
            or self.maps.ndim != 4
            or {len(self.maps), len(self.written)} != {num}
        ):
            sizes = f"{self.images.shape}, {len(self.written)} and {self.maps.shape}"
            accepted = "(N, C, H, W), N texts and (N, A, h, w)"
            raise argument_error("images, written, maps", sizes, accepted)
