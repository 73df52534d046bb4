"""Pictures of what a unit needs: covering, gradients, minimal patches, and rising perturbations."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from visualization.core.pictures import (
    FRAME,
    PANEL,
    Picture,
    aspect_of,
    color_bar,
    display_range,
    draw_framed_image,
    draw_image,
    draw_signed,
    figure_title,
)
from visualization.core.registry import caption, draw, text
from visualization.core.style import COLORS, INK, MUTED, axis_labels, despine
from visualization.core.words import unit_title
from visualization.perturbation.minimal import MinimalPatch
from visualization.perturbation.pattern import (
    Occlusion,
    PerturbationSweep,
    PixelGradient,
    UnitPattern,
)
from visualization.perturbation.perturbations import find_perturbation
from visualization.perturbation.units import UnitRecord

_OUTSIDE = "#e9e9e9"  # where a map says nothing
_VEIL = (0.42, 0.55, 0.72, 0.85)  # over pixels that are replaced
_THUMBNAILS = 6  # under a curve


def _activation_of(record: UnitRecord) -> str:
    return f"{unit_title(record.layer, record.unit)}: {record.activation:.3g}"


def _draw_drop(figure: Figure, axes: Axes, record: Occlusion) -> None:
    values = record.drop[record.field]
    size = float(np.abs(values).max()) if values.size else 1.0
    axes.set_facecolor(_OUTSIDE)
    sides = " × ".join(map(str, record.window))
    image = draw_signed(axes, record.drop, f"lost when {sides} is covered", size)
    color_bar(figure, image, axes)


def _draw_gradient(figure: Figure, axes: Axes, record: PixelGradient) -> None:
    title = "gradient" if not record.is_dead else "gradient: 0 everywhere"
    color_bar(figure, draw_signed(axes, record.gradient.sum(axis=0), title), axes)


def _draw_patch(axes: Axes, record: MinimalPatch) -> None:
    """Draw an image with a veil over all that is replaced."""
    draw_image(axes, record.image, "", display_range(record.image))
    veil = np.broadcast_to(np.array(_VEIL), (*record.mask.shape, 4)).copy()
    veil[record.mask] = 0
    axes.imshow(veil, interpolation="nearest", aspect=aspect_of(veil))
    share = record.kept / record.activation
    num = int(record.mask.sum())
    axes.set_title(f"{num} pixel{'s' * (num != 1)} keep {share:.0%}", fontsize=8, color=INK)


def _draw_curve(axes: Axes, record: MinimalPatch) -> None:
    axes.plot(record.sizes, record.curve, color=COLORS[0], linewidth=1.4)
    axes.axhline(record.keep * record.activation, color=MUTED, linewidth=0.8, linestyle=":")
    axes.plot([record.mask.sum()], [record.kept], "o", color=FRAME, markersize=5)
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(0, record.sizes[0])
    ticks = [0, *(10**power for power in range(6) if 10**power <= record.sizes[0])]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.xaxis.minorticks_off()
    despine(axes)
    axes.tick_params(labelsize=7)
    axes.set_xlabel("pixels kept", fontsize=8)
    axes.set_title(f"activation ({record.keep:.0%} dotted)", fontsize=8, color=INK)


@draw.register
def _(record: Occlusion) -> Figure:
    figure = Figure(figsize=(2.4 * PANEL, 1.25 * PANEL), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_framed_image(left, record.image, record.field, "what it sees")
    _draw_drop(figure, right, record)
    figure_title(figure, _activation_of(record))
    return figure


@draw.register
def _(record: PixelGradient) -> Figure:
    figure = Figure(figsize=(2.4 * PANEL, 1.25 * PANEL), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_image(left, record.image, "image", display_range(record.image))
    _draw_gradient(figure, right, record)
    figure_title(figure, _activation_of(record))
    return figure


@draw.register
def _(record: MinimalPatch) -> Figure:
    figure = Figure(figsize=(3.6 * PANEL, 1.25 * PANEL), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.2))
    draw_framed_image(left, record.image, record.field, "what it sees")
    _draw_patch(middle, record)
    _draw_curve(right, record)
    figure_title(figure, _activation_of(record))
    return figure


@draw.register
def _(record: UnitPattern) -> Figure:
    patch = record.patch
    num = 3 if patch is None else 5
    figure = Figure(figsize=(1.05 * num * PANEL, 1.3 * PANEL), layout="constrained")
    grid = figure.subplots(1, num)
    occlusion = record.occlusion
    draw_framed_image(grid[0], occlusion.image, occlusion.field, "what it sees")
    _draw_drop(figure, grid[1], occlusion)
    _draw_gradient(figure, grid[2], record.gradient)
    if patch is not None:
        _draw_patch(grid[3], patch)
        _draw_curve(grid[4], patch)
    figure_title(figure, _activation_of(occlusion))
    return figure


@draw.register
def _(record: PerturbationSweep) -> Figure:
    names = list(record.strengths)
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(3.5 * columns, 0.3 + 2.9 * lines), layout="constrained")
    ends = [values for name in names for values in record.extent(name)]
    low, high = (
        float(end(np.concatenate([*ends, [record.activation]]))) for end in (np.min, np.max)
    )
    parts = figure.subfigures(lines, columns, squeeze=False).flat
    for name, part in zip(names, parts, strict=False):
        curve, strip = part.subplots(2, 1, height_ratios=(3, 1))
        _draw_sweep(curve, record, name)
        curve.set_ylim(low - 0.05 * (high - low or 1), high + 0.05 * (high - low or 1))
        _thumbnails(strip, record.shown[name], display_range(record.image))
    figure_title(figure, f"{_activation_of(record)} undisturbed")
    return figure


def _draw_sweep(axes: Axes, record: PerturbationSweep, name: str) -> None:
    strengths, (least, most) = record.strengths[name], record.extent(name)
    style: dict[str, Any] = {"marker": "o", "markersize": 3} if len(strengths) < 2 else {}
    axes.fill_between(strengths, least, most, color=COLORS[0], alpha=0.2, linewidth=0)
    axes.plot(strengths, record.mean(name), color=COLORS[0], linewidth=1.5, **style)
    axes.axhline(record.activation, color=MUTED, linewidth=0.8, linestyle=":")
    despine(axes, name)
    axes.tick_params(labelsize=7)
    axis_labels(axes, find_perturbation(name).unit, "activation")


def _thumbnails(axes: Axes, images: Picture, limits: tuple[float, float]) -> None:
    """Draw some of the images (S, C, H, W) in a strip, from the first to the last."""
    numbers = np.unique(np.linspace(0, len(images) - 1, _THUMBNAILS).round().astype(int))
    gap = max(1, images.shape[3] // 12)
    padded = np.pad(images[numbers], ((0, 0), (0, 0), (0, 0), (0, gap)), constant_values=limits[1])
    strip = np.concatenate(list(padded), axis=2)[:, :, :-gap]
    draw_image(axes, strip, "", limits)
    axes.set_axis_off()


@text.register
def _(record: MinimalPatch) -> str:
    return (
        f"{unit_title(record.layer, record.unit)}: {int(record.mask.sum()):,} of "
        f"{int(record.field.sum()):,} pixels keep {record.kept:.4g} of {record.activation:.4g}"
    )


@text.register
def _(record: PerturbationSweep) -> str:
    lines = [f"{unit_title(record.layer, record.unit)}: {record.activation:.4g} undisturbed"]
    for name, strengths in record.strengths.items():
        lines.append(f"{name} ({find_perturbation(name).unit}): mean, smallest, largest")
        rows = zip(strengths, record.mean(name), *record.extent(name), strict=True)
        lines += [
            f"{strength:>9.3g}{mean:>12.4g}{low:>12.4g}{high:>12.4g}"
            for strength, mean, low, high in rows
        ]
    return "\n".join(lines)


@caption.register
def _(record: Occlusion) -> str:
    return (
        "Red: the unit loses activation when this is covered; blue: covering it excites the unit; "
        "grey: the unit does not see it."
    )


@caption.register
def _(record: PixelGradient) -> str:
    return "Red: a brighter pixel here would excite the unit more; blue: less. Channels are summed."


@caption.register
def _(record: MinimalPatch) -> str:
    return (
        "The few pixels that keep most of the activation when all others are replaced: without any "
        "one of them (or square of them) less remains than was asked for."
    )


@caption.register
def _(record: UnitPattern) -> str:
    return (
        "What one unit needs of the image in its frame. Red: what it loses when that is covered, "
        "and where a brighter pixel would excite it; veiled: pixels that can go."
    )


@caption.register
def _(record: PerturbationSweep) -> str:
    return (
        "The unit's activation as the image is disturbed more and more; band: smallest to largest "
        "of the draws; dotted: undisturbed. Below: what the image then looks like."
    )
