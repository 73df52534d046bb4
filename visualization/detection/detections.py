"""Detections over images: right boxes and found ones, and which of them belong together."""

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from visualization.core.records import brief_repr

OVERLAP = 0.5  # from which on a found box is a right one


@attrs.frozen(eq=False, kw_only=True, field_transformer=brief_repr)
class BoxRows:
    """Boxes of an image, the surest first.

    Attributes:
        corners: left, top, right and bottom in pixels (n, 4).
        kinds: positions in the names of kinds (n,).
        scores: from 0 to 1 (n,).
        matched: whether a right box is found, or a found one is right (n,).
    """

    corners: NDArray[np.float32]
    kinds: NDArray[np.int64]
    scores: NDArray[np.float32]
    matched: NDArray[np.bool_]


@attrs.frozen(eq=False, kw_only=True, field_transformer=brief_repr)
class Detections:
    """Right and found boxes of N images.

    Attributes:
        images: (N, C, H, W), from 0 to 1.
        names: of the images (N,).
        kinds: names of the kinds of boxes.
        right: the boxes that are there, of each image (N,).
        found: the boxes that are found, of each image (N,).
        is_ink: whether 1 is ink on paper, which is drawn dark.
    """

    images: NDArray[np.float32]
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    right: tuple[BoxRows, ...]
    found: tuple[BoxRows, ...]
    is_ink: bool

    def counts(self, number: int) -> tuple[int, int, int]:
        """Return how many right boxes an image has, how many of them are found, and wrong ones."""
        right, found = self.right[number].matched, self.found[number].matched
        return len(right), int(right.sum()), int((~found).sum())


def detections(
    images: NDArray[np.float32],
    names: Sequence[str],
    kinds: Sequence[str],
    right: Sequence[Any],
    found: Sequence[Any],
    *,
    min_score: float = 0.5,
    is_ink: bool = False,
) -> Detections:
    """Return which boxes of images were found.

    As COCO matches them: the surest box first, each takes the right box of its kind that it
    overlaps most, by an IoU of 0.5 at least, and that no surer one has taken.

    Args:
        images: (N, C, H, W), from 0 to 1.
        names: of the images.
        kinds: names of the kinds of boxes.
        right: of each image `boxes` (n, 4), `kinds` (n,) and `scores` (n,).
        found: the same.
        min_score: found boxes that are less sure are left out.
        is_ink: whether 1 is ink on paper.
    """
    pairs = [_matched(*pair, min_score) for pair in zip(right, found, strict=True)]
    return Detections(
        images=np.asarray(images), names=tuple(names), kinds=tuple(kinds), is_ink=is_ink,
        right=tuple(pair[0] for pair in pairs), found=tuple(pair[1] for pair in pairs),
    )  # fmt: skip


def _matched(right: Any, found: Any, min_score: float) -> tuple[BoxRows, BoxRows]:
    """Return right and found boxes of one image with what belongs together."""
    from torchvision.ops import box_iou  # two seconds, which reports of other agents do without

    there, seen = _rows(right, 0.0), _rows(found, min_score)
    overlaps = box_iou(torch.as_tensor(seen.corners), torch.as_tensor(there.corners)).numpy()
    overlaps = np.where(seen.kinds[:, None] == there.kinds, overlaps, 0.0)
    for number, row in enumerate(overlaps):
        free = np.where(there.matched, 0.0, row)
        if free.max(initial=0.0) >= OVERLAP:
            there.matched[free.argmax()] = seen.matched[number] = True
    return there, seen


def _rows(boxes: Any, min_score: float) -> BoxRows:
    scores = np.asarray(boxes.scores, np.float32)
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= min_score]
    return BoxRows(
        corners=np.asarray(boxes.boxes, np.float32).reshape(-1, 4)[order],
        kinds=np.asarray(boxes.kinds, np.int64)[order],
        scores=scores[order],
        matched=np.zeros(len(order), bool),
    )
