"""Cutting lines out of a page: along the baseline, within the polygon, bent lines made straight.

The rows of a cut line follow its baseline, so that a bent or slanted line becomes straight. What is
outside of its polygon is paper. All lines of a page have one scale, from the heights of all its
polygons above and below their baselines, so that the same hand has the same size and the baseline
is always at the same height.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.handwriting.line_image import full_contrast, remove_light, resized
from tasks.handwriting.page_format import Points, TextLine

_SMOOTH = 1.0  # heights of a line: kinks of a baseline that are shorter are evened out
_MARGIN = 2.0  # pixels around a polygon that are kept
_ABOVE, _BELOW = 90, 97  # percentiles of the heights along a polygon, over and under its baseline
_ROOM = 1.1  # times the height of the median line: a cut line has that much room
_WINDOW = 2.0  # heights of a line: in that neighbourhood there is paper
_SIDE = 8.0  # pixels of a cut line between the corners of a box that is brought to the page
_MOST_POINTS = 8192  # of a polygon's sides that are measured, about
_LEAST = 3.0  # pixels: a polygon that is smaller, in height or width, is empty


class Extent(NamedTuple):
    """Heights in pixels that a cut line has above and below its baseline."""

    above: float
    below: float


class Frame(NamedTuple):
    """The curve of a line: points at steps of a pixel, and the upward normal at each (n, 2)."""

    points: Points
    normals: Points


class Straightened(NamedTuple):
    """A cut line on its page: the curve that its rows follow, and how many rows there are."""

    frame: Frame
    above: int  # rows over the baseline, in pixels of the page
    num_rows: int
    height: int  # of the cut line in pixels

    @property
    def width(self) -> int:
        """Width of the cut line in pixels."""
        return max(1, round(len(self.frame.points) * self.height / self.num_rows))

    def to_page(self, points: NDArray[Any]) -> Points:
        """Return where points (n, 2) of the cut line are on the page: the inverse of cutting.

        In the cut line x and y count from the left and upper edge of its first pixel; on the page,
        as PAGE XML has it, from the middle of its first pixel.
        """
        x, y = np.asarray(points, np.float64).reshape(-1, 2).T
        along = x * len(self.frame.points) / self.width - 0.5
        over = self.above + 0.5 - y * self.num_rows / self.height
        at = np.arange(len(self.frame.points))
        base, normals = (
            np.column_stack([np.interp(along, at, values[:, axis]) for axis in (0, 1)])
            for values in self.frame
        )
        return np.asarray(base + over[:, None] * normals)

    def box_to_page(self, box: Sequence[float] | NDArray[Any]) -> Points:
        """Return the polygon on the page of a box of the cut line: left, top, right, bottom.

        Its long sides follow the curve of the line.
        """
        left, top, right, bottom = box
        x = np.linspace(left, right, max(2, round((right - left) / _SIDE) + 1))
        upper, lower = ((np.column_stack([x, np.full(len(x), y)])) for y in (top, bottom))
        return self.to_page(np.concatenate([upper, lower[::-1]]))


def is_empty(polygon: Points) -> bool:
    """Return whether a polygon has no inside to speak of."""
    if len(polygon) < 3:
        return True
    return bool((np.ptp(polygon, axis=0) < _LEAST).any() or _area(polygon) < _LEAST**2)


def length_of(polyline: Points) -> float:
    """Return the length of a polyline, in pixels."""
    return float(np.hypot(*np.diff(polyline, axis=0).T).sum()) if len(polyline) else 0.0


def clipped(points: Points, height: int, width: int) -> tuple[Points, bool]:
    """Return points within an image, and whether some were outside of it."""
    inside = np.clip(points, 0, [max(width - 1, 0), max(height - 1, 0)])
    return inside, bool((np.abs(inside - points) > 1).any())


def cut_lines(
    grey: NDArray[np.uint8], lines: Sequence[TextLine], height: int
) -> list[NDArray[np.uint8]]:
    """Cut the lines of a page (H, W) as bytes (height, width) from 0, paper, to 255, ink.

    Each line has a polygon that is not empty and within the page. One without a baseline is
    straight.
    """
    straight, page = _straightened(lines, height)
    if not lines:
        return []
    darkness = remove_light(grey, _WINDOW * (page.above + page.below))
    return [_cut(darkness, line.polygon, own) for line, own in zip(lines, straight, strict=True)]


def straightened(lines: Sequence[TextLine], height: int) -> list[Straightened]:
    """Return where the pixels of the cut lines of a page are on it; see `cut_lines`."""
    return _straightened(lines, height)[0]


def _straightened(lines: Sequence[TextLine], height: int) -> tuple[list[Straightened], Extent]:
    if not lines:
        return [], Extent(0, 0)
    frames = [frame_of(line) for line in lines]
    extents = [_extent(frame, line.polygon) for frame, line in zip(frames, lines, strict=True)]
    page = page_extent(extents)
    above = int(np.ceil(page.above))
    num_rows = above + int(np.floor(page.below)) + 1
    return [Straightened(frame, above, num_rows, height) for frame in frames], page


def page_extent(extents: Sequence[Extent]) -> Extent:
    """Return the heights above and below the baseline that most lines of a page need."""
    above, below = np.median(np.array(extents), axis=0) * _ROOM
    return Extent(max(float(above), _LEAST) + _MARGIN, max(float(below), 0.0) + _MARGIN)


def frame_of(line: TextLine) -> Frame:
    """Return the curve of a line from end to end of its polygon, smooth, at steps of a pixel."""
    corners = line.baseline if len(line.baseline) > 1 else _straight_baseline(line.polygon)
    if corners[-1, 0] < corners[0, 0] and abs(np.ptp(corners[:, 0])) > np.ptp(corners[:, 1]):
        corners = corners[::-1]  # drawn from right to left
    steps = np.hypot(*np.diff(corners, axis=0).T)
    keep = np.r_[True, steps > 0]
    corners, along = corners[keep], np.r_[0.0, np.cumsum(steps[steps > 0])]
    if len(corners) < 2:
        corners, along = _straight_baseline(line.polygon), np.array([0.0, 1.0])
        along[1] = np.hypot(*(corners[1] - corners[0]))
    height = _area(line.polygon) / max(float(along[-1]), 1.0)
    first, last = _ends(corners, line.polygon, min(height, float(along[-1])))
    at = np.arange(np.floor(-first), np.ceil(along[-1] + last) + 1)
    points = _interpolated(at, along, corners)
    width = int(np.clip(round(_SMOOTH * height), 1, max(len(at) // 4, 1))) | 1
    smooth = _smoothed(points, width)
    tangents = np.gradient(smooth, axis=0) if len(smooth) > 1 else np.array([[1.0, 0.0]])
    tangents = _smoothed(tangents, width)
    tangents /= np.maximum(np.hypot(*tangents.T), 1e-9)[:, None]
    return Frame(smooth, np.column_stack([tangents[:, 1], -tangents[:, 0]]))


def _ends(corners: Points, polygon: Points, reach: float) -> tuple[float, float]:
    """Return how far the polygon goes beyond the first and the last point of the baseline."""
    beyond = []
    for end, inner in ((corners[0], corners[1]), (corners[-1], corners[-2])):
        direction = (end - inner) / max(float(np.hypot(*(end - inner))), 1e-9)
        beyond.append(float(np.clip(((polygon - end) @ direction).max(), 0, max(reach, 1.0) * 2)))
    return beyond[0], beyond[1]


def _interpolated(at: NDArray[np.float64], along: NDArray[np.float64], corners: Points) -> Points:
    """Return the points of a polyline at distances from its beginning, straight beyond its ends."""
    points = np.column_stack([np.interp(at, along, corners[:, axis]) for axis in (0, 1)])
    far = max(float(along[-1]) / 8, 1.0)  # the ends go on in the direction of their last eighth
    for end, near, outside in ((0, far, at < 0), (-1, along[-1] - far, at > along[-1])):
        inner = np.array([np.interp(near, along, corners[:, axis]) for axis in (0, 1)])
        direction = (corners[end] - inner) / max(float(np.hypot(*(corners[end] - inner))), 1e-9)
        distance = np.abs(at[outside] - (0 if end == 0 else along[-1]))
        points[outside] = corners[end] + distance[:, None] * direction
    return points


def _smoothed(values: Points, width: int) -> Points:
    """Return the moving average over an odd number of points; straight beyond the ends."""
    half = width // 2
    if half == 0:
        return values
    before = 2 * values[0] - values[half:0:-1]
    after = 2 * values[-1] - values[-2 : -half - 2 : -1]
    sums = np.cumsum(np.concatenate([np.zeros((1, 2)), before, values, after]), axis=0)
    return np.asarray((sums[width:] - sums[:-width]) / width)


def _straight_baseline(polygon: Points) -> Points:
    """Return a baseline for a polygon without one: straight, at a quarter of its height."""
    left, right = polygon[:, 0].min(), polygon[:, 0].max()
    columns = np.linspace(left, right, 32)[1:-1]
    middles, heights = [], []
    for column in columns:
        crossed = _crossings(polygon, column)
        if len(crossed) > 1:
            middles.append((column, (crossed[0] + crossed[-1]) / 2))
            heights.append(crossed[-1] - crossed[0])
    x, y = np.array(middles).T
    slope, offset = np.polyfit(x, y, 1) if len(x) > 1 and np.ptp(x) > 0 else (0.0, y[0])
    down = offset + float(np.median(heights)) / 4
    return np.array([[left, slope * left + down], [right, slope * right + down]])


def _crossings(polygon: Points, x: float) -> NDArray[np.float64]:
    """Return where the sides of a polygon cross a vertical, sorted."""
    begin, end = polygon, np.roll(polygon, -1, axis=0)
    crosses = (begin[:, 0] <= x) != (end[:, 0] <= x)
    begin, end = begin[crosses], end[crosses]
    share = (x - begin[:, 0]) / (end[:, 0] - begin[:, 0])
    return np.sort(begin[:, 1] + share * (end[:, 1] - begin[:, 1]))


def _extent(frame: Frame, polygon: Points) -> Extent:
    """Return how high the polygon is above and below its baseline, over most of its length."""
    step = max(1, len(frame.points) // 200)
    points, normals = frame.points[::step], frame.normals[::step]
    dense = _dense(polygon)
    dense = dense[:: max(1, len(dense) // _MOST_POINTS)]
    nearest = np.abs(dense[:, None, 0] - points[None, :, 0]).argmin(axis=1)
    heights = ((dense - points[nearest]) * normals[nearest]).sum(axis=1)
    up, down = heights[heights > 0], -heights[heights < 0]
    above = float(np.percentile(up, _ABOVE)) if len(up) else 0.0
    return Extent(above, float(np.percentile(down, _BELOW)) if len(down) else 0.0)


def _dense(polygon: Points) -> Points:
    """Return points along the sides of a polygon, a few pixels apart."""
    ends = np.roll(polygon, -1, axis=0)
    shares = np.linspace(0, 1, 8, endpoint=False)[:, None, None]
    return np.asarray((polygon + shares * (ends - polygon)).reshape(-1, 2))


def _area(polygon: Points) -> float:
    x, y = (polygon - polygon[0]).T  # the side back to the first corner adds nothing
    return float(abs(np.dot(x[:-1], y[1:]) - np.dot(y[:-1], x[1:])) / 2)


def _cut(darkness: NDArray[np.float32], polygon: Points, line: Straightened) -> NDArray[np.uint8]:
    """Return one line, straight, with its height."""
    rows = np.arange(line.above, line.above - line.num_rows, -1, dtype=np.float32)
    points, normals = (values.astype(np.float32) for values in line.frame)
    x = points[:, 0] + rows[:, None] * normals[:, 0]
    y = points[:, 1] + rows[:, None] * normals[:, 1]
    left, top = int(max(x.min(), 0)), int(max(y.min(), 0))
    window = darkness[top : max(int(y.max()) + 2, 0), left : max(int(x.max()) + 2, 0)]
    if not window.size:
        return np.zeros((line.height, 1), np.uint8)
    inside = _mask(window.shape, polygon - [left, top])
    ink = full_contrast(window, inside > 0.5) * inside
    pixels = _sampled(np.pad(ink, 1), x - (left - 1), y - (top - 1))
    return resized(np.rint(pixels * 255).astype(np.uint8), line.height)


def _sampled(pixels: NDArray[np.float32], x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float32]:
    """Return an image (H, W) at points, interpolated bilinearly; outside of it, at its border."""
    rows, columns = pixels.shape
    x, y = np.clip(x, 0, columns - 1.001), np.clip(y, 0, rows - 1.001)
    column, row = x.astype(np.int32), y.astype(np.int32)
    right, down = x - column, y - row
    at, flat = row * columns + column, pixels.ravel()
    upper = flat[at] + right * (flat[at + 1] - flat[at])
    at += columns
    lower = flat[at] + right * (flat[at + 1] - flat[at])
    sampled: NDArray[np.float32] = upper + down * (lower - upper)
    return sampled


def _mask(shape: tuple[int, ...], polygon: Points) -> NDArray[np.float32]:
    """Return 1 within a polygon and a margin around it, 0 outside, with a soft edge."""
    from PIL import Image, ImageDraw, ImageFilter

    mask = Image.new("L", (shape[1], shape[0]))
    draw = ImageDraw.Draw(mask)
    corners = [(float(x), float(y)) for x, y in polygon]
    draw.polygon(corners, fill=255)
    draw.line([*corners, corners[0]], fill=255, width=round(2 * _MARGIN))
    return np.asarray(mask.filter(ImageFilter.BoxBlur(1)), np.float32) / np.float32(255)
