"""Lines of text from the boxes that a detector finds: baselines, outlines, regions, reading order.

So that `tasks.handwriting.cutting` cuts them as it does lines of PAGE XML.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.handwriting.baselines import find_baselines, line_distance, writing_of
from tasks.handwriting.layout import regions
from tasks.handwriting.line_image import remove_light
from tasks.handwriting.outlines import outlines
from tasks.handwriting.page_format import Points, TextLine

_WINDOW = 3.0  # line distances: in that neighbourhood there is paper
_SAME = 0.35  # line distances between two baselines of one line, at most
_COMMON = 0.5  # of the shorter one's length, along which they are compared
_LEAST = 4.0  # pixels: a box that is lower or narrower is none


class FoundLines(NamedTuple):
    """Lines of a page, in reading order and without texts, and the numbers of each region's."""

    lines: list[TextLine]
    regions: list[list[int]]


def lines_from_boxes(
    grey: NDArray[np.uint8], boxes: NDArray[Any], scores: NDArray[Any] | None = None
) -> FoundLines:
    """Return the lines that are in boxes (n, 4) on a page (H, W) of dark ink.

    Each has a baseline that follows the ink, and a polygon that leaves its neighbours out. Of two
    boxes around one line, that with the lower score (n,) is left out.
    """
    height, width = grey.shape
    boxes = np.clip(np.asarray(boxes, np.float64).reshape(-1, 4), 0, [width, height] * 2)
    scores = np.ones(len(boxes)) if scores is None else np.asarray(scores, np.float64)
    keep = ((boxes[:, 2:] - boxes[:, :2]) >= _LEAST).all(axis=1)
    boxes, scores = boxes[keep], scores[keep]
    if not len(boxes):
        return FoundLines([], [])
    distance = line_distance(boxes)
    darkness = remove_light(grey, _WINDOW * distance)
    baselines = find_baselines(writing_of(darkness, distance), boxes, distance)
    chosen = without_doubles(baselines, scores, _SAME * distance)
    baselines = [baselines[at] for at in chosen]
    polygons = outlines(darkness, baselines, distance)
    spans = np.array([_span(line, distance) for line in baselines])
    groups = regions(spans, distance)
    lines, numbers = list[TextLine](), list[list[int]]()
    for group in groups:
        numbers.append([*range(len(lines), len(lines) + len(group))])
        for at in group.tolist():
            name = f"line_{len(lines) + 1}"
            lines.append(TextLine(name, polygons[at], baselines[at], "", float(scores[chosen[at]])))
    return FoundLines(lines, numbers)


def without_doubles(
    baselines: Sequence[Points], scores: NDArray[np.float64], near: float
) -> list[int]:
    """Return the numbers of different lines: of those that are the same, the surest.

    Two are the same that are `near` pixels from one another over half of the shorter one's length.
    """
    kept: list[int] = []
    for at in np.argsort(-scores, kind="stable").tolist():
        if not any(_are_same(baselines[at], baselines[other], near) for other in kept):
            kept.append(at)
    return sorted(kept)


def _are_same(one: Points, other: Points, near: float) -> bool:
    left, right = max(one[0, 0], other[0, 0]), min(one[-1, 0], other[-1, 0])
    shorter = min(np.ptp(one[:, 0]), np.ptp(other[:, 0]))
    if right - left < _COMMON * shorter:
        return False
    return mean_distance(one, other) < near


def mean_distance(one: Points, other: Points) -> float:
    """Return the mean vertical distance of two baselines over the columns that both have.

    >>> mean_distance(np.array([[0, 5], [10, 5]]), np.array([[5, 5], [25, 9]]))
    0.5
    """
    x = np.linspace(max(one[0, 0], other[0, 0]), min(one[-1, 0], other[-1, 0]), 33)
    heights = [np.interp(x, line[:, 0], line[:, 1]) for line in (one, other)]
    return float(np.abs(heights[0] - heights[1]).mean())


def _span(baseline: Points, distance: float) -> NDArray[np.float64]:
    """Return a box around a baseline, from which the order of lines is told."""
    middle = float(baseline[:, 1].mean()) - distance / 4
    left, right = baseline[0, 0], baseline[-1, 0]
    return np.array([left, middle - distance / 2, right, middle + distance / 2])
