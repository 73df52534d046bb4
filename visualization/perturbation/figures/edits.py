"""Pictures of what edits do: cutting and pasting, changing an image, changing a map."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from visualization.core.pictures import (
    PANEL,
    Picture,
    bounding_box,
    color_bar,
    display_range,
    draw_activation,
    draw_frame,
    draw_framed_image,
    draw_image,
    draw_signed,
    figure_title,
)
from visualization.core.registry import caption, draw, text
from visualization.core.style import COLORS, INK, MUTED, axis_labels, despine
from visualization.core.words import shorten, unit_title
from visualization.feature_maps.fields.geometry import FieldBox
from visualization.perturbation.paste import Composite, Crop, FieldTransplant
from visualization.perturbation.response import Answers, ChannelAblation, Response

_ROWS = 8  # channels of a response that are drawn
_BARS = 12  # answers that are drawn
_ANSWERS, _TALL = 3.2, 3.8  # inches that they take
_LONGEST = 20  # characters of a class


@draw.register
def _(record: Crop) -> Figure:
    figure = Figure(figsize=(1.2 * PANEL, 1.2 * PANEL), layout="constrained")
    axes = figure.subplots()
    draw_image(
        axes, record.pixels, f"cut at row, column {record.origin}", display_range(record.pixels)
    )
    return figure


@draw.register
def _(record: Composite) -> Figure:
    figure = Figure(figsize=(1.2 * PANEL, 1.2 * PANEL), layout="constrained")
    draw_framed_image(
        figure.subplots(), record.image, np.asarray(record.mask.any(axis=0)), "composite"
    )
    return figure


@draw.register
def _(record: FieldTransplant) -> Figure:
    figure = Figure(figsize=(3.6 * PANEL, 2.7 * PANEL), layout="constrained")
    above, below = figure.subplots(2, 3)
    images = {"source": record.source, "target": record.target, "composite": record.composite}
    limits = display_range(*images.values())
    masks = [record.copied, record.pasted, record.pasted]
    boxes = [record.boxes[0], record.boxes[1], record.boxes[1]]
    for axes, (title, image), mask, box in zip(above, images.items(), masks, boxes, strict=True):
        draw_image(axes, image, title, limits)
        if mask.any():
            draw_frame(axes, *bounding_box(np.asarray(mask.any(axis=0))))
        _draw_field_frame(axes, box)
    values = (record.source_activation, record.target_activation, record.composite_activation)
    units = (record.unit, record.target_unit, record.target_unit)
    size = max(float(np.abs(each).max()) for each in record.maps)
    has_signs = any(float(each.min()) < 0 for each in record.maps)
    for axes, each, unit, value in zip(below, record.maps, units, values, strict=True):
        map_image = (draw_signed if has_signs else draw_activation)(
            axes, each, f"({unit[1]}, {unit[2]}): {value:.4g}", size
        )
        draw_frame(axes, unit[1:2] * 2, unit[2:3] * 2)
    color_bar(figure, map_image, below[-1])
    figure_title(figure, f"{unit_title(record.layer, record.unit)}\n{_verdict(record)}")
    return figure


def _draw_field_frame(axes: Axes, box: FieldBox) -> None:
    """Draw a dashed frame around what a unit sees; beyond the border it is cut."""
    corner = (box.columns[0] - 0.5, box.rows[0] - 0.5)
    sides = box.columns[1] - box.columns[0] + 1, box.rows[1] - box.rows[0] + 1
    axes.add_patch(
        Rectangle(corner, *sides, fill=False, edgecolor=COLORS[0], linewidth=1, linestyle="--")
    )


def _verdict(record: FieldTransplant) -> str:
    rows, columns = record.offset
    way = f"moved {abs(rows)} {'down' if rows >= 0 else 'up'}, "
    way += f"{abs(columns)} {'right' if columns >= 0 else 'left'}"
    lost = f"; {record.num_lost} pixels of it lie beyond a border" if record.num_lost else ""
    same = "the unit sees the same" if record.exact else "the unit does not see just the same"
    return f"{way}{lost}: {same}"


@draw.register
def _(record: Response) -> Figure:
    if record.before.shape[1:] == (1, 1):
        return _vector_response(record)
    num = min(_ROWS, len(record.channels))
    with_answers = record.answers is not None and record.answers.are_classes
    height = 1.0 + 0.62 * PANEL * (num + 1)
    widths = (0.6 + 3 * 0.72 * PANEL, *((_ANSWERS,) if with_answers else ()))
    figure = Figure(figsize=(sum(widths), height), layout="constrained")
    parts = figure.subfigures(1, 2 if with_answers else 1, squeeze=False, width_ratios=widths)[0]
    grid = parts[0].subplots(num + 1, 3)
    _inputs(list(grid[0]), record)
    size = float(np.abs(record.difference[:num]).max())
    for row, channel in enumerate(record.channels[:num]):
        image = _response_row(grid[row + 1], record, row, channel, size)
    bar = parts[0].colorbar(image, ax=grid, location="bottom", pad=0.01, fraction=0.02, aspect=40)
    bar.ax.tick_params(labelsize=7)
    bar.set_label("difference of the channels", fontsize=8, color=MUTED)
    if with_answers and record.answers is not None:
        share = min(_TALL / height, 1.0)
        top = parts[1].subfigures(2, 1, height_ratios=(share, 1 - share + 1e-3))[0]
        _answers(top.subplots(), record.answers)
    figure_title(figure, f"{record.layer or 'output'}: {record.edit}")
    return figure


def _inputs(grid: Sequence[Axes], record: Response) -> None:
    limits = display_range(record.original, record.modified)
    draw_image(grid[0], record.original, "original", limits)
    draw_image(grid[1], record.modified, "modified", limits)
    draw_signed(grid[2], (record.modified - record.original).mean(axis=0), "difference")
    grid[0].set_ylabel("image", fontsize=8, color=INK)


def _response_row(
    grid: Sequence[Axes], record: Response, row: int, channel: int, size: float
) -> AxesImage:
    """Draw one channel's maps, before and after on one scale, and the difference on that of all."""
    before, after = record.before[row], record.after[row]
    most = float(max(np.abs(before).max(), np.abs(after).max()))
    show = draw_signed if min(before.min(), after.min()) < 0 else draw_activation
    show(grid[0], before, "", most)
    show(grid[1], after, "", most)
    grid[0].set_ylabel(f"channel {channel}", fontsize=8, color=INK)
    return draw_signed(grid[2], record.difference[row], "", size)


def _vector_response(record: Response) -> Figure:
    """Draw numbers before and after, where a layer outputs a vector."""
    num = min(2 * _BARS, len(record.channels))
    figure = Figure(figsize=(7.2, 0.9 + max(1.8, 0.3 * num)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 2))
    limits = display_range(record.original, record.modified)
    both = np.concatenate([record.original, record.modified], axis=1)
    draw_image(left, both, "original, modified", limits)
    names = [str(channel) for channel in record.channels[:num]]
    _pairs(right, names, record.before[:num, 0, 0], record.after[:num, 0, 0])
    axis_labels(right, "activation", "place")
    figure_title(figure, f"{record.layer or 'output'}: {record.edit}")
    return figure


def _pairs(axes: Axes, names: Sequence[str], before: Picture, after: Picture) -> None:
    """Draw two bars for each name."""
    positions = np.arange(len(names))
    axes.barh(positions - 0.19, before, 0.36, color=MUTED, label="before")
    axes.barh(positions + 0.19, after, 0.36, color=COLORS[0], label="after")
    axes.set_yticks(positions, names)
    axes.invert_yaxis()
    despine(axes)
    axes.legend(fontsize=7, frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1))


def _answers(axes: Axes, answers: Answers) -> None:
    """Draw the probabilities of the classes, or, of one number, the number."""
    if not answers.are_classes:
        before, after = np.atleast_1d(answers.before.mean()), np.atleast_1d(answers.after.mean())
        _pairs(axes, ["answer"], before, after)
        return
    before, after = answers.probabilities
    likely = np.sort(np.argsort(-np.maximum(before, after), kind="stable")[:_BARS])
    names = [shorten(answers.name(number), _LONGEST) for number in likely]
    _pairs(axes, names, before[likely], after[likely])
    axes.set_xlim(0, 1)
    axis_labels(axes, "probability", "class")


@draw.register
def _(record: ChannelAblation) -> Figure:
    figure = Figure(figsize=(6.4, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.8))
    draw_image(left, record.image, "image", display_range(record.image))
    _answers(right, record.answers)
    figure_title(figure, _change(record))
    return figure


def _change(record: ChannelAblation) -> str:
    channels = ", ".join(map(str, record.channels[:_ROWS]))
    more = f" and {len(record.channels) - _ROWS} more" if len(record.channels) > _ROWS else ""
    if record.scale == 0 and record.shift == 0:
        change = "switched off"
    else:
        change = f"× {record.scale:g} {'+' if record.shift >= 0 else '−'} {abs(record.shift):g}"
    return f"{record.layer}, channel {channels}{more}: {change}"


@text.register
def _(record: FieldTransplant) -> str:
    values = f"source {record.source_activation:.6g}, target before {record.target_activation:.6g}"
    equal = "equal" if record.is_equal else "not equal"
    return (
        f"{unit_title(record.layer, record.unit)}, "
        f"asked at ({record.target_unit[1]}, {record.target_unit[2]}); {_verdict(record)}\n"
        f"{values}, after {record.composite_activation:.6g}; source and after: {equal}"
    )


def _table(answers: Answers) -> list[str]:
    if not answers.are_classes:
        return []
    before, after = answers.probabilities
    names = [answers.name(number) for number in range(len(before))]
    width = max(6, *map(len, names))
    rows = [
        f"{name:>{width}}{p:>10.4f}{q:>10.4f}"
        for name, p, q in zip(names, before, after, strict=True)
    ]
    return [f"{'class':>{width}}{'before':>10}{'after':>10}", *rows]


@text.register
def _(record: Response) -> str:
    head = f"{record.layer or 'output'}: {record.edit}; mean change by channel"
    rows = [f"{channel:>6}{record.changes[channel]:>12.4g}" for channel in record.channels]
    return "\n".join([head, *rows, *(_table(record.answers) if record.answers else [])])


@text.register
def _(record: ChannelAblation) -> str:
    return "\n".join([_change(record), *_table(record.answers)])


@caption.register
def _(record: FieldTransplant) -> str:
    return (
        "The pixels in the orange frame are copied from source to target; dashed: what the unit "
        "sees. Below: the map of its channel, and the unit's activation."
    )


@caption.register
def _(record: Crop) -> str:
    return "Part of an image, cut out."


@caption.register
def _(record: Composite) -> str:
    return "What is in the frame comes from another image."


@caption.register
def _(record: Response) -> str:
    return (
        "A row is a channel, the most changed first: its map before and after the edit, and what "
        "the edit adds (red) or takes away (blue)."
    )


@caption.register
def _(record: ChannelAblation) -> str:
    return "What the model answers with the maps as they are, and with the channels changed."
