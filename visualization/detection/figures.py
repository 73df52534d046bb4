"""Detections: boxes over images, with kinds and scores; lines that were read on a page."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PatchCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from visualization.core.legible import SPARE
from visualization.core.pictures import aspect_of, shades
from visualization.core.registry import caption, draw, text
from visualization.core.style import BAD, COLORS, INK, MUTED
from visualization.core.words import share_of, shorten
from visualization.detection.detections import BoxRows, Detections
from visualization.detection.read_lines import ReadLines

_IMAGES, _COLUMNS = 6, 3
_SIDE = 4.2  # inches of an image with its title
_LABELS = 60  # words at boxes of an image
_RIGHT, _WRONG, _MISSED = COLORS[0], BAD, COLORS[1]
_NAME = 30  # letters of the name of an image, and of a kind of boxes
_KIND = 12
_TALLEST, _WIDEST = 15.0, 13.0  # inches of a page
_LISTED = 200  # lines of a page that are numbered
_LABEL_HEIGHT = 0.09  # inches of half a number with its frame
_SURE, _UNSURE = 0.9, 0.7  # confidences from which on a line is blue, and orange


@draw.register
def _(record: Detections) -> Figure:
    num = min(len(record.images), _IMAGES)
    columns = min(num, _COLUMNS)
    lines = -(-num // columns)
    size = (max(3.0, _SIDE * columns), (_SIDE + 0.3) * lines + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    grid = list(figure.subplots(lines, columns, squeeze=False).flat)
    for number, axes in enumerate(grid):
        axes.set_axis_off()
        if number < num:
            _draw_image(axes, record, number)
    words = "blue: found; red: found, but wrong; orange: missed"
    more = share_of(len(record.images), num, "images")
    figure.suptitle("; ".join(filter(None, [words, more])), fontsize=9, color=MUTED)
    return figure


def _draw_image(axes: Axes, record: Detections, number: int) -> None:
    pixels = shades(record.images[number], (0, 1))
    height, width = pixels.shape[:2]
    axes.imshow(
        1 - pixels if record.is_ink else pixels, cmap="gray", vmin=0, vmax=1,
        extent=(0, width, height, 0), aspect=aspect_of(pixels),
    )  # fmt: skip
    right, found = record.right[number], record.found[number]
    _frames(axes, right, ~right.matched, _MISSED)
    _frames(axes, found, found.matched, _RIGHT)
    _frames(axes, found, ~found.matched, _WRONG)
    for at in np.argsort(found.matched, kind="stable")[:_LABELS]:  # those that are wrong first
        kind = f"{shorten(record.kinds[found.kinds[at]], _KIND)} " if len(record.kinds) > 1 else ""
        left, top, end, _ = np.clip(found.corners[at], 0, [width, height, width, height])
        on_right = left > width / 2  # where words begin at the left, they would leave the page
        axes.text(
            end if on_right else left, top, f"{kind}{found.scores[at]:.2f}", fontsize=6, gid=SPARE,
            va="top" if top < height / 20 else "bottom", ha="right" if on_right else "left",
            color=_RIGHT if found.matched[at] else _WRONG, clip_on=True, parse_math=False,
        )  # fmt: skip
    num, hits, wrong = record.counts(number)
    name = shorten(record.names[number], _NAME)
    axes.set_title(f"{name}: {hits} of {num}, {wrong} wrong", fontsize=9, color=INK)


def _frames(axes: Axes, boxes: BoxRows, chosen: NDArray[np.bool_], color: str) -> None:
    """Draw a frame around each of the chosen boxes."""
    corners = boxes.corners[chosen].tolist()
    frames = [Rectangle((x, y), right - x, low - y) for x, y, right, low in corners]
    axes.add_collection(
        PatchCollection(frames, facecolor="none", edgecolor=color, linewidth=1.2), autolim=False
    )


@text.register
def _(record: Detections) -> str:
    rows = [(record.names[n], *record.counts(n)) for n in range(len(record.images))]
    wide = max(5, *(len(name) for name, *_ in rows))
    head = f"{'image':<{wide}}{'boxes':>8}{'found':>8}{'wrong':>8}"
    lines = [f"{name:<{wide}}{num:>8}{hits:>8}{wrong:>8}" for name, num, hits, wrong in rows]
    return "\n".join([head, *lines])


@caption.register
def _(record: Detections) -> str:
    return (
        "Boxes with their scores: blue where one of the right kind overlaps a right box by half, "
        "red where none does; orange: right boxes that are not found."
    )


@draw.register
def _(record: ReadLines) -> Figure:
    height, width = record.image.shape
    scale = min(_TALLEST / height, _WIDEST / width)
    size = max(2.0, width * scale), max(1.0, height * scale)
    figure = Figure(figsize=size)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.imshow(record.image, cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0))
    if not len(record.polygons):
        return figure
    colors = [_of_confidence(share) for share in record.confidence.tolist()]
    axes.add_collection(
        PolyCollection(record.polygons, facecolor=colors, edgecolor=colors, alpha=0.12),
        autolim=False,
    )
    axes.add_collection(LineCollection(record.baselines, colors=colors, linewidth=0.9), False)
    starts = np.array([line[0] for line in record.baselines])
    axes.plot(*starts.T, color=MUTED, linewidth=0.8, scalex=False, scaley=False)
    _number_lines(axes, starts[:_LISTED], colors, _LABEL_HEIGHT / scale)
    return figure


def _number_lines(
    axes: Axes, starts: NDArray[np.float64], colors: Sequence[str], half: float
) -> None:
    """Write the number of each line at its start (n, 2), where there is room for it.

    `half` is half the height of a number with its frame, in pixels of the image.
    """
    height, taken = axes.get_ylim()[0], np.zeros((0, 2))
    for number, start in enumerate(starts):
        label = f"{number + 1}"
        wide = half * (1 + 0.7 * len(label))
        at = np.array([max(start[0], wide), np.clip(start[1], half, height - half)])
        if (np.abs(taken - at) < [2 * wide, 2 * half]).all(axis=1).any():
            continue
        taken = np.vstack([taken, at])
        axes.text(
            float(at[0]), float(at[1]), label, fontsize=6, color="white", ha="right", va="center",
            gid=SPARE, clip_on=True,
            bbox={"boxstyle": "round,pad=0.15", "facecolor": colors[number], "linewidth": 0},
        )  # fmt: skip


def _of_confidence(share: float) -> str:
    """Return the colour of a line by its confidence."""
    return _RIGHT if share >= _SURE else _MISSED if share >= _UNSURE else _WRONG


@text.register
def _(record: ReadLines) -> str:
    rows = [
        f"{number:>4}{share:>12.2f}{line[0, 0]:>8.0f}{line[0, 1]:>8.0f}"
        for number, (share, line) in enumerate(
            zip(record.confidence.tolist(), record.baselines, strict=True), 1
        )
    ]
    return "\n".join([f"{'line':>4}{'confidence':>12}{'x':>8}{'y':>8}", *rows])


@caption.register
def _(record: ReadLines) -> str:
    return (
        "Lines in reading order, with outlines and baselines. By confidence: blue "
        f"{_SURE} or more, orange {_UNSURE} or more, red less."
    )
