"""Photographs of pages, normalised: uneven light removed, two pages split, slant turned straight.

A sheet is one page, upright, as grey values; it knows where its points are in the photograph, so
that what is found on it can be told in pixels of the file.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.core.images import has_light_paper
from tasks.handwriting.line_image import remove_light
from tasks.handwriting.page_format import Points

_LONGEST = 1000  # pixels of the longer side of the image in which slant and gutter are looked for
_WINDOW = 0.06  # of the longer side: in that neighbourhood there is paper
_NO_SKEW = 1e-3  # of grey values to the third power: there is no ink
_INK = 0.2  # darkness from which on a pixel is ink
_STEEPEST, _COARSE, _FINE = 12.0, 0.5, 0.1  # degrees
_STRAIGHT = 0.25  # degrees: a smaller slant is none
_WIDE = 1.1  # times as wide as high: there may be two pages
_MIDDLE = 0.3, 0.7  # shares of the width between which the gutter is
_GUTTER = 0.012  # share of the width that a gutter takes, at least
_FEW = 0.15  # times the usual strokes of a column: that many are in a gutter
_EDGES = 2.5  # strokes that are of a fold and the edge of a page
_PAPER = 75  # percentile of grey values that is paper
_HALF = 0.15  # share of all strokes that is on a page of two, at least


class Sheet(NamedTuple):
    """One page of a photograph."""

    grey: NDArray[np.uint8]  # (H, W), 0 is black
    matrix: NDArray[np.float64]  # (2, 3): from points of the sheet to points of the photograph

    def to_photograph(self, points: Points) -> Points:
        """Return points (n, 2) of the sheet as points of the photograph."""
        return np.asarray(points @ self.matrix[:, :2].T + self.matrix[:, 2])


def with_dark_ink(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a page (H, W) whose ink is darker than its paper; the inverse of one on dark paper.

    Ink is what is rare: of the departures from the mean around, the far ones are to its side. On a
    page without ink the paper is at the border.
    """
    from scipy.ndimage import uniform_filter

    small = _small(grey)[0].astype(np.float32)
    apart = small - uniform_filter(small, max(3, round(_WINDOW * max(small.shape))))
    skew = float((apart**3).mean())
    is_light = skew < 0 if abs(skew) > _NO_SKEW else has_light_paper(grey)
    return grey if is_light else 255 - grey


def sheets_of(grey: NDArray[np.uint8]) -> list[Sheet]:
    """Return the pages of a photograph (H, W), from the left to the right: one, or two.

    The photograph has dark ink; see `with_dark_ink`.
    """
    whole = Sheet(grey, np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    upright = _turned(whole)
    gutter = gutter_of(upright.grey)
    if gutter is None:
        return [upright]
    width = upright.grey.shape[1]
    parts = (_part(upright, 0, gutter), _part(upright, gutter, width))
    return [_turned(part) for part in parts]


def even_light(grey: NDArray[np.uint8], window: float | None = None) -> NDArray[np.float32]:
    """Return the darkness of a page relative to the paper around each pixel (H, W), 0 is paper."""
    return remove_light(grey, _WINDOW * max(grey.shape) if window is None else window)


def slant_of(grey: NDArray[np.uint8]) -> float:
    """Return the angle of the lines of a page in degrees; above 0, they sink to the right.

    That of the sharpest projection profile: rows of ink, summed along the angle, differ most from
    the rows beside them (Bloomberg, Kopec and Dasari 1995).
    """
    small, _ = _small(grey)
    y, x = np.nonzero(even_light(small) > _INK)
    if not len(y):
        return 0.0

    def sharpness(angle: float) -> float:
        rows = np.rint(y - np.tan(np.radians(angle)) * (x - small.shape[1] / 2)).astype(int)
        profile = np.bincount(rows - rows.min()).astype(float)
        return float((np.diff(profile) ** 2).sum())

    coarse = np.arange(-_STEEPEST, _STEEPEST + 1e-9, _COARSE)
    best = float(max(coarse, key=lambda angle: (sharpness(angle), -abs(angle))))
    fine = best + np.arange(-_COARSE, _COARSE + 1e-9, _FINE)
    return float(max(fine, key=lambda angle: (sharpness(angle), -abs(angle))))


def gutter_of(grey: NDArray[np.uint8]) -> int | None:
    """Return the column between two pages side by side; None: there is one page.

    It is in the middle of the widest strip with few strokes, where the page is wider than high. A
    stroke is where a column goes from paper to ink, so that the shadow of a fold is one.
    """
    from scipy.ndimage import uniform_filter1d

    small, scale = _small(grey)
    height, width = small.shape
    if width < _WIDE * height:
        return None
    ink = even_light(small) > _INK
    strokes = (ink[1:] & ~ink[:-1]).sum(axis=0).astype(float)
    if not strokes.any():
        return None
    size = max(1, round(_GUTTER * width / 2))
    smooth = uniform_filter1d(strokes, size, mode="nearest")
    usual = float(np.median(smooth[smooth > smooth.mean() / 2]))
    empty = smooth < max(_FEW * usual, min(_EDGES, usual / 2))
    low, high = (int(share * width) for share in _MIDDLE)
    edges = np.flatnonzero(np.diff(np.r_[0, empty[low:high].astype(int), 0]))
    runs = edges.reshape(-1, 2) + low
    runs = runs[np.diff(runs, axis=1)[:, 0] >= _GUTTER * width]
    if not len(runs):
        return None
    begin, end = runs[np.diff(runs, axis=1)[:, 0].argmax()]
    middle = (begin + end) // 2
    left = strokes[:middle].sum() / strokes.sum()
    return round(middle * scale) if _HALF <= left <= 1 - _HALF else None


def _small(grey: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
    """Return an image that is at most _LONGEST high and wide, and by how much it is smaller."""
    from PIL import Image

    scale = max(1.0, max(grey.shape) / _LONGEST)
    size = (max(1, round(grey.shape[1] / scale)), max(1, round(grey.shape[0] / scale)))
    return np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BOX)), scale


def _part(sheet: Sheet, left: int, right: int) -> Sheet:
    """Return the columns of a sheet from `left` to `right`."""
    matrix = sheet.matrix.copy()
    matrix[:, 2] += left * matrix[:, 0]
    return Sheet(sheet.grey[:, left:right], matrix)


def _turned(sheet: Sheet) -> Sheet:
    """Return a sheet whose lines are level."""
    from PIL import Image

    slant = slant_of(sheet.grey)
    if abs(slant) < _STRAIGHT:
        return sheet
    size = np.array(sheet.grey.shape[::-1])
    cos, sin = np.cos(np.radians(slant)), np.sin(np.radians(slant))
    turn = np.array([[cos, -sin], [sin, cos]])  # from the new sheet to this one
    wide, high = np.ceil(np.abs(turn) @ size).astype(int).tolist()
    shift = size / 2 - turn @ (wide / 2, high / 2)
    pixels = Image.fromarray(sheet.grey).transform(
        (wide, high), Image.Transform.AFFINE, np.column_stack([turn, shift]).ravel().tolist(),
        Image.Resampling.BILINEAR, fillcolor=int(np.percentile(sheet.grey, _PAPER)),
    )  # fmt: skip
    linear, offset = sheet.matrix[:, :2], sheet.matrix[:, 2]
    matrix = np.column_stack([linear @ turn, linear @ shift + offset])
    return Sheet(np.asarray(pixels), matrix)
