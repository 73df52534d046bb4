"""Concept masks of scans: strokes by direction, edges, ends, junctions, holes.

N scans of H rows and W columns, bright ink on dark paper.
"""

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from visualization.core.arrays import to_numpy
from visualization.core.errors import argument_error, check_share, value_error
from visualization.core.inputs import as_tensor
from visualization.core.records import brief_repr

Mask = NDArray[np.bool_]
CONCEPTS = (
    "ink", "vertical stroke", "horizontal stroke", "rising stroke", "falling stroke", "left edge",
    "right edge", "upper edge", "lower edge", "stroke end", "junction", "hole", "upper half",
    "lower half",
)  # fmt: skip
_COHERENT = 0.5  # of a stroke's direction, in [0, 1]
_STEEP = 0.3  # of the steepest edge of a scan
_SIZE = 14  # rows and columns of a scan for each pixel of an end's reach


@attrs.frozen(eq=False, field_transformer=brief_repr)
class ConceptMasks:
    """Where K concepts are in N images.

    Attributes:
        names: of the concepts (K,).
        masks: (N, K, H, W).
        images: (N, 1, H, W), in [0, 1].
    """

    names: tuple[str, ...]
    masks: Mask
    images: NDArray[np.float32]


def scan_concepts(images: ArrayLike | Tensor, *, ink: float = 0.5) -> ConceptMasks:
    r"""Concept masks of scans of bright ink on dark paper.

    - `ink`: at least as bright as `ink`; `upper half` and `lower half` of it by its place.
    - `vertical`, `horizontal`, `rising` (/) and `falling` (\) `stroke`: ink whose direction is
      within 22.5° of that, by the structure tensor (Förstner & Gülch 1987), where it has one.
    - `left`, `right`, `upper` and `lower edge`: where brightness rises steeply into the ink from
      that side, within 45°.
    - `stroke end` and `junction`: ink near the ends and the branchings of its skeleton (Zhang &
      Suen 1984).
    - `hole`: paper that ink encloses, also where it only touches at corners.

    Args:
        images: (N, 1, H, W), (N, H, W) or one (H, W), in [0, 1].
        ink: least brightness of ink, above 0, up to 1.

    Raises:
        ValueError: another shape, values outside of [0, 1], or an `ink` that is out of range.
    """
    scans = _as_scans(images)
    check_share(ink, "ink", whole=True)
    inked: Mask = scans >= ink
    upper = np.arange(scans.shape[1]) < scans.shape[1] / 2
    masks = [
        inked, *_strokes(scans, inked), *_edges(scans), *_ends_and_junctions(inked), _holes(inked),
        inked & upper[:, None], inked & ~upper[:, None],
    ]  # fmt: skip
    return ConceptMasks(CONCEPTS, np.stack(masks, axis=1), scans[:, None])


def _as_scans(images: ArrayLike | Tensor) -> NDArray[np.float32]:
    array = to_numpy(as_tensor(images, "images"))
    scans = array[:, 0] if array.ndim == 4 and array.shape[1] == 1 else array
    scans = scans[None] if scans.ndim == 2 else scans
    if scans.ndim != 3 or 0 in scans.shape:
        accepted = "(scans, 1, height, width), (scans, height, width), (height, width)"
        raise value_error("images", f"shape {array.shape}", accepted)
    if not ((scans >= 0) & (scans <= 1)).all():
        extent = f"values from {scans.min()} to {scans.max()}"
        raise argument_error("images", f"{extent} are not accepted", "0, paper, to 1, ink")
    return scans.astype(np.float32)


def _gradient(scans: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return by how much brightness rises to the right and downwards, slightly smoothed."""
    from scipy.ndimage import gaussian_filter

    along = [
        gaussian_filter(scans, (0, 0.7, 0.7), order=order, mode="constant")
        for order in ((0, 0, 1), (0, 1, 0))
    ]
    return along[0], along[1]


def _strokes(scans: NDArray[np.float32], inked: Mask) -> list[Mask]:
    """Return vertical, horizontal, rising and falling strokes."""
    from scipy.ndimage import gaussian_filter

    right, down = _gradient(scans)
    products = (right * right, down * down, right * down)
    xx, yy, xy = (gaussian_filter(part, (0, 1.0, 1.0), mode="constant") for part in products)
    across = np.arctan2(2 * xy, xx - yy) / 2  # the direction across the stroke; downwards is + 90°
    spread = np.hypot(xx - yy, 2 * xy)
    has_one = inked & (spread >= _COHERENT * (xx + yy)) & (spread > 1e-6)
    octant = np.rint(across / (np.pi / 4)).astype(int) % 4
    return [has_one & (octant == number) for number in (0, 2, 1, 3)]


def _edges(scans: NDArray[np.float32]) -> list[Mask]:
    """Return left, right, upper and lower edges."""
    right, down = _gradient(scans)
    length = np.hypot(right, down)
    steep = (length > 1e-6) & (length >= _STEEP * length.max(axis=(1, 2), keepdims=True))
    sideways = np.abs(right) >= np.abs(down)
    return [
        steep & sideways & (right > 0),
        steep & sideways & (right < 0),
        steep & ~sideways & (down > 0),
        steep & ~sideways & (down < 0),
    ]


def _ends_and_junctions(inked: Mask) -> list[Mask]:
    """Return ink near the ends, and near the branchings, of the skeleton."""
    from scipy.ndimage import binary_dilation

    skeleton = skeletonize(inked)
    _, runs = _neighbour_counts(skeleton)
    reach = max(1, round(min(inked.shape[1:]) / _SIZE))
    offsets = np.arange(-reach, reach + 1)
    disc = (offsets[:, None] ** 2 + offsets**2 <= reach**2 + 1)[None]
    ends, branchings = skeleton & (runs == 1), skeleton & (runs >= 3)
    return [inked & binary_dilation(points, disc) for points in (ends, branchings)]


def _holes(inked: Mask) -> Mask:
    from scipy.ndimage import binary_fill_holes, generate_binary_structure

    sides = np.zeros((3, 3, 3), bool)
    sides[1] = generate_binary_structure(2, 1)  # paper spreads to four sides, within its scan
    filled: Mask = binary_fill_holes(inked, sides)
    return filled & ~inked


def _neighbours(inked: Mask) -> list[Mask]:
    """Return the eight neighbours of each pixel, clockwise from the one above."""
    _, rows, columns = inked.shape
    wide = np.pad(inked, ((0, 0), (1, 1), (1, 1)))
    moves = ((0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0), (0, 0))
    return [wide[:, down : down + rows, right : right + columns] for down, right in moves]


def _neighbour_counts(inked: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many neighbours of each pixel are ink, and in how many runs around it."""
    ring = np.stack(_neighbours(inked))
    begins = ~ring & np.roll(ring, -1, axis=0)
    return ring.sum(axis=0), begins.sum(axis=0)


def skeletonize(inked: Mask) -> Mask:
    """Return the skeletons of masks (N, H, W), one pixel wide (Zhang & Suen 1984), all at once."""
    skeleton = inked.copy()
    while True:
        before = int(skeleton.sum())
        for is_first in (True, False):
            num, runs = _neighbour_counts(skeleton)
            above, _, right, _, below, _, left, _ = _neighbours(skeleton)
            blocked = (
                (above & right & below) | (right & below & left)
                if is_first
                else (above & right & left) | (above & below & left)
            )
            skeleton = skeleton & ~((num >= 2) & (num <= 6) & (runs == 1) & ~blocked)
        if int(skeleton.sum()) == before:
            return skeleton
