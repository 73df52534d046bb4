"""Baselines from boxes: where the lines of a page run, of which a detector knows the rectangles.

Handwriting climbs, sinks and bends, so that a rectangle around a line also has much of its
neighbours. The slope of the writing is measured everywhere on the page first, by the direction in
which rows of ink are told apart best. Along that slope a baseline is where ink ends: above it there
is much, below it little. Of the curves through a box the one is taken that has most of it, and that
fits into the box.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.handwriting.page_format import Points

_UNIT = 5.0  # pixels of an x-height in the reduced image, in which lines are looked for
_X_HEIGHT = 3.0  # x-heights in the distance of two lines, about
_STEEPEST, _NUM_SLOPES = 0.2, 17  # slopes that are tried, from -0.2 to 0.2
_LONG = 9.0  # x-heights along a line within which it is straight
_SIGHT = (6.0, 12.0)  # x-heights, down and across, within which lines have one slope
_DOWN = 0.27  # line distances from the middle of a box to that of its baseline
_LOOSE = 0.25  # line distances by which it may well be elsewhere
_BEND = 0.3  # line distances by which a baseline departs from the slopes, at most
_REACH, _GAP = 1.0, 0.6  # line distances: from a box to letters of its line; between letters
_SAME_ROW = 0.6  # line distances between the middles of boxes beside each other, at most
_FAINT = 0.15  # times the usual ink of a line: with less there is no letter
_STIFF = 6.0  # cost of departing from the slope by one, relative to the sharpest edge of ink


class Writing(NamedTuple):
    """Where there may be baselines: a reduced image's edge of ink, and slope, at each pixel."""

    edge: NDArray[np.float32]  # (rows, columns): ink above less ink below, from 0 to 1
    slope: NDArray[np.float32]  # (rows, columns): rows down for each column to the right
    ink: NDArray[np.float32]  # (rows, columns): mean of an x-height in a square around
    reduction: float  # pixels of the page for one of these


def line_distance(boxes: NDArray[Any]) -> float:
    """Return the usual distance of a line's middle from that of the line below it, in pixels.

    Of boxes (n, 4); where no two are below one another, the usual height of a box.

    >>> line_distance(np.array([[0, 0, 99, 30], [0, 20, 99, 50], [0, 40, 99, 70]]))
    20.0
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    if not len(boxes):
        return 0.0
    height = float(np.median(boxes[:, 3] - boxes[:, 1]))
    middles = (boxes[:, 1] + boxes[:, 3]) / 2
    down = middles[None] - middles[:, None]
    common = np.minimum(boxes[:, None, 2], boxes[None, :, 2])
    common = common - np.maximum(boxes[:, None, 0], boxes[None, :, 0])
    width = boxes[:, 2] - boxes[:, 0]
    is_below = (common > 0.5 * np.minimum(width[:, None], width)) & (down > height / 5)
    nearest = np.where(is_below, down, np.inf).min(axis=1)
    nearest = nearest[np.isfinite(nearest)]
    return min(float(np.median(nearest)), height) if len(nearest) else height


def writing_of(darkness: NDArray[np.float32], distance: float) -> Writing:
    """Return where ink ends below lines, and how they slope.

    Args:
        darkness: of the page, 0 is paper (H, W).
        distance: of two lines, in pixels; see `line_distance`.
    """
    from scipy.ndimage import uniform_filter

    reduction = max(distance / _X_HEIGHT / _UNIT, 1.0)
    small = reduced(darkness, reduction)
    slopes = np.linspace(-_STEEPEST, _STEEPEST, _NUM_SLOPES)
    edges = np.stack([_edge(small, slope) for slope in slopes])
    slope = _local_slope(edges, slopes)
    at = np.interp(slope, slopes, np.arange(len(slopes)))
    low = np.minimum(at.astype(int), len(slopes) - 2)[None]
    share = (at - low[0]).astype(np.float32)
    below, above = (np.take_along_axis(edges, low + step, 0)[0] for step in (0, 1))
    edge = below + share * (above - below)
    ink: NDArray[np.float32] = uniform_filter(small, int(_UNIT), mode="constant")
    return Writing(edge / max(float(edge.max()), 1e-6), slope, ink, reduction)


def reduced(image: NDArray[np.float32], reduction: float) -> NDArray[np.float32]:
    """Return an image (H, W) made smaller, by averaging over areas."""
    from PIL import Image

    height, width = image.shape
    size = (max(1, round(width / reduction)), max(1, round(height / reduction)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def _edge(image: NDArray[np.float32], slope: float) -> NDArray[np.float32]:
    """Return how much more ink is in an x-height above each pixel than below it, along a slope."""
    from scipy.ndimage import uniform_filter1d

    rows, columns = image.shape
    shift = np.rint(slope * (np.arange(columns) - columns / 2)).astype(int)
    margin = int(np.abs(shift).max(initial=0)) + int(_UNIT) + 1
    padded = np.pad(image, ((margin, margin), (0, 0)))
    at = np.arange(rows + 2 * margin)[:, None] + shift
    level = np.take_along_axis(padded, np.clip(at, 0, len(padded) - 1), 0)
    level = uniform_filter1d(level, int(_LONG * _UNIT) | 1, axis=1, mode="constant")
    size = int(_UNIT)
    sums = np.cumsum(np.pad(level, ((size + 1, size), (0, 0))), axis=0)
    above, here, below = sums[: -2 * size], sums[size:-size], sums[2 * size :]
    edge = np.maximum(2 * here - above - below, 0)[: len(padded)] / size
    back = np.arange(margin, margin + rows)[:, None] - shift
    return np.take_along_axis(edge, back, 0).astype(np.float32)


def _local_slope(edges: NDArray[np.float32], slopes: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the slope at each pixel: that of the sharpest edges around, (rows, columns)."""
    from scipy.ndimage import gaussian_filter

    size = int(_UNIT)
    energy = np.stack([reduced(edge**2, size) for edge in edges])
    energy = gaussian_filter(energy, [0, *_SIGHT], mode="constant")
    weight = (energy - energy.mean(axis=0)).clip(0) ** 2
    total = weight.sum(axis=0)
    best = (weight * slopes[:, None, None]).sum(axis=0)
    wide = [3 * _SIGHT[0], _SIGHT[1]]  # where nothing is written, that of the nearest writing
    best, total = (gaussian_filter(array, wide, mode="constant") for array in (best, total))
    return _enlarged(best / np.maximum(total, 1e-12), edges.shape[1:])


def _enlarged(image: NDArray[np.floating], shape: tuple[int, ...]) -> NDArray[np.float32]:
    from PIL import Image

    how = Image.Resampling.BILINEAR
    size = shape[1], shape[0]
    return np.asarray(Image.fromarray(image.astype(np.float32)).resize(size, how))


def find_baselines(writing: Writing, boxes: NDArray[Any], distance: float) -> list[Points]:
    """Return the baseline of each box (n, 4) as points in pixels of the page.

    It begins and ends with the letters of its line, which may be up to a line distance outside of
    the box, but not in a box that is beside.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    sides = [_free_sides(box, boxes, distance) for box in boxes]
    return [
        _baseline(writing, box, *free, distance) for box, free in zip(boxes, sides, strict=True)
    ]


def _free_sides(
    box: NDArray[np.float64], boxes: NDArray[np.float64], distance: float
) -> tuple[float, float]:
    """Return how far a line may go to the left and right, at most halfway to a box in its row."""
    rows = (boxes[:, 1] + boxes[:, 3]) / 2
    beside = np.abs(rows - (box[1] + box[3]) / 2) < _SAME_ROW * distance
    middle, reach = (box[0] + box[2]) / 2, _REACH * distance
    before, after = beside & (boxes[:, 2] < middle), beside & (boxes[:, 0] > middle)
    left, right = boxes[before, 2].max(initial=-np.inf), boxes[after, 0].min(initial=np.inf)
    left, right = (
        max(box[0] - reach, (left + box[0]) / 2),
        min(box[2] + reach, (right + box[2]) / 2),
    )
    return min(float(left), box[0]), max(float(right), box[2])


def _baseline(
    writing: Writing, box: NDArray[np.float64], left: float, right: float, distance: float
) -> Points:
    """Return the points of one baseline, from the first to the last ink in and near its box."""
    rows, columns = writing.edge.shape
    _, top, _, bottom = box / writing.reduction
    sides = np.array([left, box[0], box[2], right]) / writing.reduction
    lowest, first, last, highest = np.clip(sides, 0, columns - 1).astype(int).tolist()
    space, step = distance / writing.reduction, int(_UNIT)
    x = first + step * np.arange(-((first - lowest) // step), (highest - first) // step + 1)
    in_box = (x >= first) & (x <= last)
    begins = np.arange(max(int(top), 0), max(min(int(np.ceil(bottom)), rows), int(top) + 1))
    curves = _along_slope(writing.slope, x, begins.astype(float), len(x) // 2)
    own = curves[:, in_box]
    middle = (own.min(axis=1) + own.max(axis=1)) / 2
    wanted = (top + bottom) / 2 + _DOWN * space
    score = _at(writing.edge, own, x[in_box]).mean(axis=1)
    score = score / max(score.max(), 1e-6)
    best = int((score - ((middle - wanted) / (_LOOSE * space)) ** 2 / 2).argmax())
    y = _followed(writing, x, curves[best], max(round(_BEND * space), 1))
    has_ink = _has_ink(_at(writing.ink, y - _UNIT / 2, x), in_box)
    begin = _end_of_ink(has_ink, int(in_box.argmax()), round(_GAP * space / step))
    end = _end_of_ink(has_ink[::-1], int(in_box[::-1].argmax()), round(_GAP * space / step))
    kept = slice(begin, max(len(x) - end, begin + 2))
    return np.column_stack([x + 0.5, y - 0.5])[kept] * writing.reduction


def _has_ink(ink: NDArray[np.float32], in_box: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return where there are letters: as much ink as a share of what is usual in the box."""
    return np.asarray(ink > _FAINT * np.percentile(ink[in_box], 75))


def _end_of_ink(has_ink: NDArray[np.bool_], side: int, gap: int) -> int:
    """Return where the letters of a line begin, near the side of its box.

    Outside of the box as far as there are letters with gaps of less than `gap`; where the box
    begins without any, within it.

    >>> _end_of_ink(np.array([True, False, False, True, False, True, True]), 5, 2)
    3
    >>> _end_of_ink(np.array([False, False, False, False, True, True]), 1, 2)
    3
    """
    if not has_ink[side:].any():
        return side
    found = side
    for at in range(side - 1, -1, -1):
        if found - at > gap:
            break
        found = at if has_ink[at] else found
    if found == side and not has_ink[side]:
        found = max(side, side + int(has_ink[side:].argmax()) - 1)
    return found


def _at(
    image: NDArray[np.float32], rows: NDArray[np.float64], columns: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return an image (H, W) at whole columns and rows in between, interpolated."""
    rows = np.clip(rows, 0, len(image) - 1)
    low = rows.astype(int)
    here = image[low, columns]
    next_one = image[np.minimum(low + 1, len(image) - 1), columns]
    return np.asarray(here + (rows - low) * (next_one - here), np.float32)


def _along_slope(
    slope: NDArray[np.float32], x: NDArray[np.int64], begins: NDArray[np.float64], start: int
) -> NDArray[np.float64]:
    """Return rows (n, len(x)) of curves along the slope that begin at `x[start]`."""
    curves = np.empty((len(begins), len(x)))
    curves[:, start] = begins
    for way, ends in ((1, range(start + 1, len(x))), (-1, range(start - 1, -1, -1))):
        for at in ends:
            before = curves[:, at - way]
            inside = np.clip(before.astype(int), 0, len(slope) - 1)
            curves[:, at] = before + (x[at] - x[at - way]) * slope[inside, x[at - way]]
    return curves


def _followed(
    writing: Writing, x: NDArray[np.int64], curve: NDArray[np.float64], most: int
) -> NDArray[np.float64]:
    """Return the rows of a curve that follows the edge of the ink, and the given one nearly.

    It is `most` rows from that at most.
    The best path by dynamic programming (Viterbi), over steps of an x-height.
    """
    offsets = np.arange(-most, most + 0.25, 0.5)
    gain = _at(writing.edge, curve[:, None] + offsets, x[:, None])
    bend = (offsets[:, None] - offsets) ** 2 * _STIFF / _UNIT**2
    total, came = gain[0], np.zeros(gain.shape, int)
    for number in range(1, len(x)):
        choices = total - bend
        came[number] = choices.argmax(axis=1)
        total = choices.max(axis=1) + gain[number]
    path = [int(total.argmax())]
    for number in range(len(x) - 1, 0, -1):
        path.append(int(came[number][path[-1]]))
    return np.asarray(curve + offsets[path[::-1]])
