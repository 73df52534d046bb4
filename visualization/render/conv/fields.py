"""Pictures of receptive fields, and of the patches that excite feature maps."""

import math
from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from visualization.conv.fields.geometry import Hull
from visualization.conv.fields.patches import Activated, TopPatches
from visualization.conv.fields.receptive import FieldOverImage, ReceptiveField, ReceptiveFields
from visualization.render.captions import caption
from visualization.render.conv.patterns import (
    FRAME,
    PANEL,
    Picture,
    bar_of,
    headed,
    limits_of,
    name_of,
)
from visualization.render.core import COLORS, INK, MUTED, draw, text
from visualization.render.pictures import aspect_of, blank, excited, picture
from visualization.render.states import label, quiet

_SEEN = np.array([0.16, 0.44, 0.69])  # colour over the pixels of a field
_STRENGTH = 0.5  # its opacity where all channels are seen
_FRAMES = 3  # hulls of the most activated units that are drawn
_MAPS = 10  # rows of top patches that are drawn
_BESIDE = 9  # patches of a row
_SIDE = 0.85  # inches of a patch
_LINES = 20  # of a text


@draw.register
def _(record: ReceptiveField) -> Figure:
    return _alone(record, np.ones(record.mask.shape))


@draw.register
def _(record: FieldOverImage) -> Figure:
    return _alone(record.field, record.image)


def _alone(field: ReceptiveField, image: Picture) -> Figure:
    figure = Figure(figsize=(1.7 * PANEL, 1.75 * PANEL), layout="constrained")
    axes = figure.subplots()
    _shaded(axes, image, field.mask)
    _frames(axes, [field.hull], field.mask.shape)
    axes.set_title(_counted(field.mask), fontsize=8, color=INK)
    headed(figure, name_of(field.layer, field.unit))
    return figure


@draw.register
def _(record: ReceptiveFields) -> Figure:
    figure = Figure(figsize=(1.7 * PANEL, 1.85 * PANEL), layout="constrained")
    axes = figure.subplots()
    _shaded(axes, record.image, record.mask)
    boxes = [Hull((a, b), (c, d)) for a, b, c, d in record.hulls[:_FRAMES].tolist()]
    _frames(axes, boxes, record.mask.shape)
    num = len(record.rows)
    units = f"{num:,} activated unit{'s' * (num != 1)} see{'s' * (num == 1)}"
    best = f"\nframed: what the {len(boxes)} most activated see" if len(boxes) > 1 else ""
    axes.set_title(f"{units} {_counted(record.mask)}{best}", fontsize=8, color=INK)
    headed(figure, f"{record.layer or 'output'}, channel {record.channel}")
    return figure


def _counted(mask: NDArray[np.bool_]) -> str:
    pixels = mask.any(axis=0)
    return f"{int(pixels.sum()):,} of {pixels.size:,} pixels"


def _shaded(axes: Axes, image: Picture, mask: NDArray[np.bool_]) -> None:
    """Draw an image with a colour over the pixels of a mask, full where all channels are in it."""
    picture(axes, image, "", limits_of(image))
    share = mask.mean(axis=0)[..., None]
    colours = np.broadcast_to(_SEEN, (*mask.shape[1:], 3))
    axes.imshow(np.concatenate([colours, _STRENGTH * share], axis=-1), interpolation="nearest",
                aspect=aspect_of(share))  # fmt: skip


def _frames(axes: Axes, boxes: Iterable[Hull], shape: tuple[int, ...]) -> None:
    """Draw frames around hulls, and room for what of them is outside the image."""
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
    rows, columns = (min(a, b) for a, b in zip(record.image.shape, (_MAPS, _BESIDE), strict=True))
    height, width = record.inside.shape[2:]
    side = _SIDE * min(1.0, height / width), _SIDE * min(1.0, width / height)
    figure = Figure(
        figsize=(max(0.7 + (side[1] + 0.12) * columns, 4.2), 0.55 + (side[0] + 0.3) * rows),
        layout="constrained",
    )
    largest = float(np.nanmax(np.abs(record.value), initial=0.0)) or 1.0
    decimals = min(max(2 - math.floor(math.log10(largest)), 0), 6)  # the same for all
    limits = limits_of(record.patches[:rows, :columns])
    for number, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        row, rank = divmod(number, columns)
        if record.image[row, rank] >= 0:
            _patch(axes, record.patches[row, rank], record.inside[row, rank], limits)
            value = f"{record.value[row, rank]:.{decimals}f}"
            axes.set_xlabel(value, fontsize=7, color=INK, labelpad=1.5)
        elif rank:
            blank([axes])
        else:
            picture(axes, np.ones((1, 1, 1)))
            axes.text(0, 0, f"never above\n{record.threshold:g}", fontsize=7, color=MUTED,
                      ha="center", va="center")  # fmt: skip
        if rank == 0:
            axes.set_ylabel(f"{record.channels[row]}", fontsize=9, color=INK, rotation=0,
                            ha="right", va="center")  # fmt: skip
    headed(figure, _heading(record, rows))
    return figure


def _patch(
    axes: Axes, patch: Picture, inside: NDArray[np.bool_], limits: tuple[float, float]
) -> None:
    """Draw a patch, hatched where it is none of the image."""
    picture(axes, patch, "", limits).set_alpha(inside.astype(float))
    if not inside.all():
        height, width = inside.shape
        outside(axes, [(-0.5, height - 0.5), (-0.5, width - 0.5)])


def _heading(record: TopPatches, rows: int) -> str:
    num = len(record.channels)
    maps = f"{rows} of {num} maps" if rows < num else f"{num} map{'s' * (num != 1)}"
    return f"{record.layer or 'output'}: what excites {maps} most in {record.num_images:,} images"


@draw.register
def _(record: Activated) -> Figure:
    figure = Figure(figsize=(3.2 * PANEL, 1.5 * PANEL), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
    size = len(record.hulls.row_first), len(record.hulls.column_first)
    counts = np.zeros(size)
    np.add.at(counts, (record.row, record.column), 1)
    shown = excited(left, counts / record.num_images, "share of images, place by place")
    bar_of(figure, shown, left)
    right.hist(record.value, bins=40, color=COLORS[0])
    quiet(right)
    label(right, "activation", "how often")
    share = record.num_activated / record.num_units
    kept = len(record.value)
    some = f"; drawn: the best {kept:,}" if kept < record.num_activated else ""
    headed(
        figure,
        f"{record.layer or 'output'}, channel {record.channel}: above {record.threshold:.3g} in "
        f"{record.num_activated:,} places ({share:.1%}){some}",
    )
    return figure


@text.register
def _(record: ReceptiveField) -> str:
    (a, b), (c, d) = record.hull
    of = record.mask.size
    return (
        f"{name_of(record.layer, record.unit)}: {record.num_numbers:,} of {of:,} numbers "
        f"({_counted(record.mask)}); hull: rows {a} to {b}, columns {c} to {d}"
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
        place = f"{record.image[row, 0]:>8} {record.row[row, 0]:>4} {record.column[row, 0]:>7}"
        lines.append(f"{number:>5}  {place} {record.value[row, 0]:>11.4g}")
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
def _(record: Activated) -> str:
    return "Where in its map a channel is activated, and how strongly, over all images."
