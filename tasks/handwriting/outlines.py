"""Outlines of lines: polygons around the ink that belongs to a baseline, and not to its neighbours.

Above and below a baseline a seam goes from left to right where there is the least ink, rather near
than far (dynamic programming, as in seam carving): around letters that reach up, and between those
that hang down from the line above. It ends before the neighbouring lines' own letters.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.handwriting.page_format import Points

_PER_LINE = 20  # rows of the strip in which a seam is looked for, in a line distance
_STEP = 0.2  # line distances from corner to corner of an outline
_INK = 98  # percentile of the darkness that is all ink
_NEAR_ABOVE, _FAR_ABOVE = 0.6, 1.2  # line distances over the baseline between which the seam goes
_NEAR_BELOW, _FAR_BELOW = 0.2, 0.6  # and under it
_SMALL = 0.45  # line distances over a baseline that its small letters take
_SPARE = 0.05  # line distances that are left to the line above, below its baseline
_FAR_COST = (0.03, 0.2)  # of a line distance, above and below, where ink costs 1
_CLIMB_COST = 0.005  # of each row, from corner to corner
_STEEP = 4  # rows from corner to corner, at most


def outlines(
    darkness: NDArray[np.float32], baselines: Sequence[Points], distance: float
) -> list[Points]:
    """Return the polygon (n, 2) of each baseline, within the page.

    Args:
        darkness: of the page, 0 is paper (H, W).
        baselines: of its lines, each from the left to the right.
        distance: of two lines, in pixels.
    """
    ink = _blurred(darkness, distance)
    step = max(_STEP * distance, 1.0)
    found = []
    for number, line in enumerate(baselines):
        num = max(2, round(float(np.ptp(line[:, 0])) / step) + 1)
        x = np.linspace(line[0, 0], line[-1, 0], num)
        y = np.interp(x, line[:, 0], line[:, 1])
        others = [other for at, other in enumerate(baselines) if at != number]
        above, below = _neighbours(x, y, others, distance)
        top = y - distance * _seam(ink, x, y, above, distance, up=True)
        bottom = y + distance * _seam(ink, x, y, below, distance, up=False)
        polygon = np.r_[np.c_[x, top], np.c_[x, bottom][::-1]]
        found.append(np.clip(polygon, 0, np.array(ink.shape[::-1]) - 1))
    return found


def _blurred(darkness: NDArray[np.float32], distance: float) -> NDArray[np.float32]:
    """Return ink from 0 to 1, of which each pixel is the mean around it."""
    from scipy.ndimage import uniform_filter

    most = max(float(np.percentile(darkness[darkness > 0], _INK)) if darkness.any() else 1.0, 1e-3)
    size = [max(round(distance / _PER_LINE), 1), max(round(_STEP * distance), 1)]
    blurred: NDArray[np.float32] = uniform_filter(np.minimum(darkness / most, 1), size)
    return blurred


def _neighbours(
    x: NDArray[np.float64], y: NDArray[np.float64], others: Sequence[Points], distance: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how far the nearest baselines above and below are at each x, in line distances."""
    nothing = np.full((1, len(x)), np.inf)
    heights = [np.interp(x, o[:, 0], o[:, 1], left=np.nan, right=np.nan) for o in others]
    down = np.vstack([nothing, *(height - y for height in heights)]) / distance
    with np.errstate(invalid="ignore"):
        above = np.where(down < -_SMALL / 2, -down, np.inf).min(axis=0)
        below = np.where(down > _SMALL / 2, down, np.inf).min(axis=0)
    return above, below


def _seam(
    ink: NDArray[np.float32],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    neighbour: NDArray[np.float64],
    distance: float,
    *,
    up: bool,
) -> NDArray[np.float64]:
    """Return how far from the baseline the best seam is at each x, in line distances."""
    near, far = (_NEAR_ABOVE, _FAR_ABOVE) if up else (_NEAR_BELOW, _FAR_BELOW)
    away = np.arange(near, far + 1e-9, 1 / _PER_LINE)
    rows = y[:, None] + (-away if up else away) * distance
    inside = np.clip(np.rint(rows).astype(int), 0, len(ink) - 1)
    columns = np.clip(np.rint(x).astype(int), 0, ink.shape[1] - 1)
    last = np.maximum(neighbour - (_SPARE if up else _SMALL), near)
    cost = ink[inside, columns[:, None]] + _FAR_COST[0 if up else 1] * away
    cost = cost + 10.0 * (away > last[:, None] + 1e-9)
    return away[cheapest_path(cost, _STEEP, _CLIMB_COST)]


def cheapest_path(cost: NDArray[np.float64], steep: int, climb: float) -> NDArray[np.int64]:
    """Return the cheapest path (n,) through costs (n, choices), by dynamic programming.

    >>> cheapest_path(np.array([[0, 1, 9], [9, 9, 0], [0, 9, 9]]), 2, 0.1).tolist()
    [0, 2, 0]

    Args:
        cost: of each choice at each place.
        steep: how many choices further the next one is, at most.
        climb: cost of each choice further.
    """
    number = np.arange(cost.shape[1])
    moves = np.abs(number[:, None] - number)
    price = np.where(moves > steep, np.inf, climb * moves)
    total, came = cost[0].astype(float), np.zeros(cost.shape, int)
    for at in range(1, len(cost)):
        choices = total + price
        came[at] = choices.argmin(axis=1)
        total = choices.min(axis=1) + cost[at]
    path = [int(total.argmin())]
    for at in range(len(cost) - 1, 0, -1):
        path.append(int(came[at, path[-1]]))
    return np.array(path[::-1])
