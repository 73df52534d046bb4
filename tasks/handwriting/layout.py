"""Layout of a page: columns and regions of lines, and the order in which they are read."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.handwriting.boxes import reading_order

_CORE = 0.3  # line distances over and under the middle of a box that count as its line
_NARROW = 0.03  # of a box's width, at either side, that may reach into the next column
_APART = 2.5  # line distances between the middles of two lines in one region, at most


def regions(boxes: NDArray[Any], distance: float) -> list[NDArray[np.int64]]:
    """Return the regions of a page in reading order, each the numbers of its lines in order.

    Columns beside one another are read from the left to the right, each from its top; a line that
    spans several, such as a heading, is read before those below it (recursive XY-cut). Within a
    column a region ends where more than a line is left out.

    >>> regions(np.array([[50, 0, 90, 9], [0, 0, 40, 9], [0, 10, 40, 19]]), 10.0)
    [array([1, 2]), array([0])]

    Args:
        boxes: of the lines (n, 4): left, top, right, bottom in pixels.
        distance: of two lines, in pixels.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    middle = (boxes[:, 1] + boxes[:, 3]) / 2
    narrow = _NARROW * (boxes[:, 2] - boxes[:, 0])
    cores = np.column_stack([
        boxes[:, 0] + narrow, middle - _CORE * distance,
        boxes[:, 2] - narrow, middle + _CORE * distance,
    ])  # fmt: skip
    if not len(boxes):
        return []
    return _cut(cores, np.arange(len(boxes)), _APART * distance)


def _cut(
    cores: NDArray[np.float64], lines: NDArray[np.int64], apart: float
) -> list[NDArray[np.int64]]:
    """Return the regions of some lines: of columns, of what is over and under them, or as one."""
    columns = _columns(cores, lines)
    if len(columns) > 1:
        return [region for column in columns for region in _cut(cores, column, apart)]
    bands = _bands(cores, lines)
    if len(bands) > 1:
        return [region for band in bands for region in _cut(cores, band, apart)]
    return _paragraphs(cores, lines, apart)


def _bands(cores: NDArray[np.float64], lines: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return lines in bands from the top: those that have columns together, and the others.

    A single row of several boxes is no band of columns, but a line in pieces.
    """
    ends = _gaps(cores[lines, 1], cores[lines, 3])
    number = np.searchsorted(ends, cores[lines, 1], side="right")
    bands: list[NDArray[np.int64]] = []
    for row in (lines[number == at] for at in range(len(ends) + 1)):
        if bands:
            together = np.concatenate([bands[-1], row])
            in_columns = [len(_columns(cores, part)) > 1 for part in (bands[-1], row, together)]
            if len(set(in_columns)) == 1:
                bands[-1] = together
                continue
        bands.append(row)
    merged = bands[:1]
    for band in bands[1:]:
        if any(_has_columns(cores, part) for part in (merged[-1], band)):
            merged.append(band)
        else:
            merged[-1] = np.concatenate([merged[-1], band])
    return merged


def _has_columns(cores: NDArray[np.float64], lines: NDArray[np.int64]) -> bool:
    """Return whether lines are in several columns, of which one has several lines."""
    columns = _columns(cores, lines)
    return len(columns) > 1 and max(len(column) for column in columns) > 1


def _paragraphs(
    cores: NDArray[np.float64], lines: NDArray[np.int64], apart: float
) -> list[NDArray[np.int64]]:
    """Return the lines of one column in order, in pieces that are apart."""
    ordered = lines[reading_order(cores[lines])]
    middles = cores[ordered][:, [1, 3]].mean(axis=1)
    return np.split(ordered, np.flatnonzero(np.diff(middles) > apart) + 1)


def _columns(cores: NDArray[np.float64], lines: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return lines by column, from the left; those with no others beside them are no column."""
    ends = _gaps(cores[lines, 0], cores[lines, 2])
    number = np.searchsorted(ends, cores[lines, 0], side="right")
    found = [lines[number == at] for at in range(len(ends) + 1)]
    merged: list[NDArray[np.int64]] = []
    for column in filter(len, found):
        if merged and not _are_beside(cores[merged[-1]], cores[column]):
            merged[-1] = np.concatenate([merged[-1], column])
        else:
            merged.append(column)
    return merged


def _are_beside(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Return whether of the group with fewer lines half has a line of the other one beside it."""
    common = np.minimum(one[:, None, 3], other[:, 3]) - np.maximum(one[:, None, 1], other[:, 1])
    fewer = 1 if len(one) <= len(other) else 0
    return bool((common > 0).any(axis=fewer).mean() >= 0.5)


def _gaps(begins: NDArray[np.float64], ends: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where a group of intervals begins that no interval before it reaches."""
    order = np.argsort(begins)
    reached = np.maximum.accumulate(ends[order])
    begins = begins[order]
    return np.asarray(begins[1:][begins[1:] > reached[:-1]])
