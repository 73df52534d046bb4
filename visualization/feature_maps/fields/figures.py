"""Pictures of receptive fields, and of the patches that excite feature maps."""

import math
from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from visualization.core.pictures import (
    FRAME,
    PANEL,
    SHADES,
    Picture,
    aspect_of,
    color_bar,
    display_range,
    draw_activation,
    draw_image,
    figure_title,
    shades,
)
from visualization.core.registry import caption, draw, text
from visualization.core.style import COLORS, INK, MUTED, axis_labels, despine
from visualization.core.words import unit_title
from visualization.feature_maps.fields.geometry import FieldBox
from visualization.feature_maps.fields.patches import ActivatingPositions, TopPatches
from visualization.feature_maps.fields.receptive import (
    FieldOverImage,
    ReceptiveField,
    ReceptiveFields,
)

_FIELD_COLOR = np.array([0.16, 0.44, 0.69])  # colour over the pixels of a field
_FIELD_OPACITY = 0.5  # its opacity where all channels are seen
_FRAMES = 3  # boxes of the most activated units that are drawn
_MAPS = 10  # rows of top patches that are drawn
_PATCHES = 9  # patches of a row
_SIDE = 0.85  # inches of a patch
_LINES = 20  # of a text


@draw.register
def _(record: ReceptiveField) -> Figure:
    return _field_figure(record, np.ones(record.mask.shape))


@draw.register
def _(record: FieldOverImage) -> Figure:
    return _field_figure(record.field, record.image)


def _field_figure(field: ReceptiveField, image: Picture) -> Figure:
    figure = Figure(figsize=(1.7 * PANEL, 1.75 * PANEL), layout="constrained")
    axes = figure.subplots()
    _draw_field(axes, image, field.mask)
    _frames(axes, [field.bounding_box], field.mask.shape)
    axes.set_title(_num_pixels(field.mask), fontsize=8, color=INK)
    figure_title(figure, unit_title(field.layer, field.unit))
    return figure


@draw.register
def _(record: ReceptiveFields) -> Figure:
    figure = Figure(figsize=(1.7 * PANEL, 1.85 * PANEL), layout="constrained")
    axes = figure.subplots()
    _draw_field(axes, record.image, record.mask)
    boxes = [FieldBox((a, b), (c, d)) for a, b, c, d in record.boxes[:_FRAMES].tolist()]
    _frames(axes, boxes, record.mask.shape)
    num = len(record.rows)
    units = f"{num:,} activated unit{'s' * (num != 1)} see{'s' * (num == 1)}"
    best = f"\nframed: what the {len(boxes)} most activated see" if len(boxes) > 1 else ""
    axes.set_title(f"{units} {_num_pixels(record.mask)}{best}", fontsize=8, color=INK)
    figure_title(figure, f"{record.layer or 'output'}, channel {record.channel}")
    return figure


def _num_pixels(mask: NDArray[np.bool_]) -> str:
    pixels = mask.any(axis=0)
    return f"{int(pixels.sum()):,} of {pixels.size:,} pixels"


def _draw_field(axes: Axes, image: Picture, mask: NDArray[np.bool_]) -> None:
    """Draw an image with a colour over the pixels of a mask, full where all channels are in it."""
    draw_image(axes, image, "", display_range(image))
    share = mask.mean(axis=0)[..., None]
    colours = np.broadcast_to(_FIELD_COLOR, (*mask.shape[1:], 3))
    axes.imshow(np.concatenate([colours, _FIELD_OPACITY * share], axis=-1), interpolation="nearest",
                aspect=aspect_of(share))  # fmt: skip


def _frames(axes: Axes, boxes: Iterable[FieldBox], shape: tuple[int, ...]) -> None:
    """Draw frames around boxes, and room for what of them is outside the image."""
    height, width = shape[1:]
    ends = [(-0.5, height - 0.5), (-0.5, width - 0.5)]
    for number, (rows, columns) in enumerate(boxes):
        sides = columns[1] - columns[0] + 1, rows[1] - rows[0] + 1
        corner = (columns[0] - 0.5, rows[0] - 0.5)
        style = "solid" if number == 0 else "dashed"
        axes.add_patch(Rectangle(corner, *sides, fill=False, edgecolor=FRAME, linestyle=style,
                                 linewidth=1.6 if number == 0 else 1.0))  # fmt: skip
        ends = [
            (min(low, first - 1), max(high, last + 1))
            for (low, high), (first, last) in zip(ends, (rows, columns), strict=True)
        ]
    border = Rectangle((-0.5, -0.5), width, height, fill=False, edgecolor=MUTED, linewidth=0.8,
                       clip_on=False)  # fmt: skip
    axes.add_patch(border)
    axes.set_ylim(ends[0][1], ends[0][0])
    axes.set_xlim(*ends[1])
    outside(axes, ends)
    for spine in axes.spines.values():
        spine.set_visible(False)


def outside(axes: Axes, ends: list[tuple[float, float]]) -> None:
    """Hatch the ground of a picture between its ends, rows and columns: there is no image."""
    (top, bottom), (left, right) = ends
    axes.add_patch(Rectangle(
        (left, top), right - left, bottom - top, facecolor="#f4f4f4", edgecolor="#bdbdbd",
        hatch="//////", linewidth=0, zorder=-1,
    ))  # fmt: skip


@draw.register
def _(record: TopPatches) -> Figure:
    rows, columns = (min(a, b) for a, b in zip(record.image.shape, (_MAPS, _PATCHES), strict=True))
    high, wide = (_SIDE * min(1.0, ratio) for ratio in _ratios(record))
    size = (wide + 0.12) * columns, (high + 0.3) * rows  # inches
    figure = Figure(figsize=(max(0.7 + size[0], 4.2), 0.55 + size[1]), layout="constrained")
    axes = figure.subplots()  # one for all: as many as there are patches would take seconds
    limits = display_range(record.patches[:rows, :columns])
    largest = float(np.nanmax(np.abs(record.value), initial=0.0)) or 1.0
    decimals = min(max(2 - math.floor(math.log10(largest)), 0), 6)  # the same for all
    for row, rank in np.ndindex(rows, columns):
        left, top = rank * (wide + 0.12), row * (high + 0.3)
        box = (left, left + wide, top + high, top)
        if record.image[row, rank] >= 0:
            _patch(axes, record.patches[row, rank], record.inside[row, rank], limits, box)
            value = f"{record.value[row, rank]:.{decimals}f}"
            _write_note(axes, left + wide / 2, top + high + 0.02, value, va="top", color=INK)
        elif not rank:
            _draw_box(axes, box)
            words = f"never above\n{record.threshold:g}"
            _write_note(axes, left + wide / 2, top + high / 2, words, va="center", color=MUTED)
    axes.set_yticks([row * (high + 0.3) + high / 2 for row in range(rows)],
                    [f"{channel}" for channel in record.channels[:rows]])  # fmt: skip
    axes.set_xticks([])
    axes.tick_params(length=0, labelsize=9, labelcolor=INK)
    axes.spines[:].set_visible(False)
    axes.set(xlim=(-0.02, size[0]), ylim=(size[1], -0.02), aspect="equal", anchor="W")
    for part in (*axes.texts, *axes.patches):
        part.set_in_layout(False)  # they are within: to measure them takes longer than to draw
    figure_title(figure, _heading(record, rows))
    return figure


def _ratios(record: TopPatches) -> tuple[float, float]:
    """Return the height of patches by their width, and the width by the height; no hairlines."""
    height, width = record.inside.shape[2:]
    ratio = aspect_of(record.inside[0, 0]) * height / width
    return ratio, 1 / ratio


def _write_note(axes: Axes, x: float, y: float, words: str, *, va: str, color: str) -> None:
    axes.text(x, y, words, fontsize=7, ha="center", va=va, color=color)


def _draw_box(axes: Axes, box: tuple[float, float, float, float]) -> None:
    left, right, bottom, top = box
    axes.add_patch(Rectangle(
        (left, top), right - left, bottom - top, fill=False, edgecolor=MUTED, linewidth=0.5
    ))  # fmt: skip


def _patch(
    axes: Axes, patch: Picture, inside: NDArray[np.bool_], limits: tuple[float, float],
    box: tuple[float, float, float, float],
) -> None:  # fmt: skip
    """Draw a patch in a box (left, right, bottom, top), hatched where it is none of the image."""
    axes.imshow(shades(patch, limits), cmap=SHADES, vmin=0, vmax=1, interpolation="nearest",
                extent=box, alpha=inside.astype(float))  # fmt: skip
    _draw_box(axes, box)
    if not inside.all():
        left, right, bottom, top = box
        outside(axes, [(top, bottom), (left, right)])


def _heading(record: TopPatches, rows: int) -> str:
    num = len(record.channels)
    maps = f"{rows} of {num} maps" if rows < num else f"{num} map{'s' * (num != 1)}"
    return f"{record.layer or 'output'}: what excites {maps} most in {record.num_images:,} images"


@draw.register
def _(record: ActivatingPositions) -> Figure:
    figure = Figure(figsize=(3.2 * PANEL, 1.5 * PANEL), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
    size = len(record.boxes.row_first), len(record.boxes.column_first)
    counts = np.zeros(size)
    np.add.at(counts, (record.row, record.column), 1)
    image = draw_activation(left, counts / record.num_images, "share of images, place by place")
    color_bar(figure, image, left)
    right.hist(record.value, bins=40, color=COLORS[0])
    despine(right)
    axis_labels(right, "activation", "how often")
    share = record.num_activated / record.num_units
    num_kept = len(record.value)
    some = f"; drawn: the best {num_kept:,}" if num_kept < record.num_activated else ""
    figure_title(
        figure,
        f"{record.layer or 'output'}, channel {record.channel}: above {record.threshold:.3g} in "
        f"{record.num_activated:,} places ({share:.1%}){some}",
    )
    return figure


@text.register
def _(record: ReceptiveField) -> str:
    (a, b), (c, d) = record.bounding_box
    of = record.mask.size
    return (
        f"{unit_title(record.layer, record.unit)}: {record.num_numbers:,} of {of:,} numbers "
        f"({_num_pixels(record.mask)}); hull: rows {a} to {b}, columns {c} to {d}"
    )


@text.register
def _(record: FieldOverImage) -> str:
    return text(record.field)


@text.register
def _(record: TopPatches) -> str:
    lines = [f"{'map':>5}  {'image':>8} {'row':>4} {'column':>7} {'activation':>11}"]
    for row, number in enumerate(record.channels[:_LINES]):
        if record.image[row, 0] < 0:
            lines.append(f"{number:>5}  never above {record.threshold:g}")
            continue
        position = f"{record.image[row, 0]:>8} {record.row[row, 0]:>4} {record.column[row, 0]:>7}"
        lines.append(f"{number:>5}  {position} {record.value[row, 0]:>11.4g}")
    more = len(record.channels) - _LINES
    return "\n".join([*lines, *([f"… and {more} more"] if more > 0 else [])])


@caption.register
def _(record: ReceptiveField) -> str:
    return (
        "Blue: the pixels that can change the unit, and no others can. Frame: the box that its "
        "layers span; hatched: padding beyond the image."
    )


@caption.register
def _(record: FieldOverImage) -> str:
    return caption(record.field)


@caption.register
def _(record: ReceptiveFields) -> str:
    return "Blue: the pixels that can change any activated unit of this channel on this image."


@caption.register
def _(record: TopPatches) -> str:
    return (
        "A row for each map, named by its number: the patches that excite it most, the most "
        "exciting first, with the activation under each. Hatched: outside the image."
    )


@caption.register
def _(record: ActivatingPositions) -> str:
    return "Where in its map a channel is activated, and how strongly, over all images."
