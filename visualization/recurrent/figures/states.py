"""What units hold: traces, overlays, gates, roles, probes and paths."""

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from visualization.core.legible import SPARE
from visualization.core.registry import caption, draw, text
from visualization.core.style import (
    COLORS,
    DIVERGING,
    INK,
    MUTED,
    SEQUENTIAL,
    axis_labels,
    despine,
    printable,
)
from visualization.core.words import evenly_spaced, share_of, shorten
from visualization.recurrent.cells import CellTrace
from visualization.recurrent.overlay import LayerHeatmap, UnitTextHeatmap
from visualization.recurrent.paths import StatePaths
from visualization.recurrent.roles import KINDS, UnitRoles
from visualization.recurrent.saturation import GateSaturation

NAMES = {
    "i": "input gate i", "f": "forget gate f", "o": "output gate o", "r": "reset gate r",
    "z": "update gate z", "g": "candidate g", "n": "candidate n", "c": "cell c", "h": "hidden h",
}  # fmt: skip
_ROWS_SHOWN = 24
_PARTS_SHOWN, _CHARACTERS = 4, 40  # layers of an overlay, and steps of all of them together
_IMAGE_ROWS = 4  # rows of an overlay that an image above it takes
_COLORED = 20  # categories of paths that have a colour of their own
_STEPS_SHOWN = 16  # numbers of steps under an axis that they share with characters


@draw.register
def _(record: CellTrace) -> Figure:
    quantities = record.quantities()
    columns = min(3, len(quantities))
    rows = -(-len(quantities) // columns)
    figure = Figure(figsize=(2.9 * columns, 2.6 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, (name, values) in zip(panels, quantities.items(), strict=False):
        first = values[0].float().cpu().numpy().T
        is_gate = name in "iforz"
        size = 1.0 if is_gate else float(np.abs(first).max()) or 1.0
        image = axes.imshow(
            first, aspect="auto", interpolation="auto", vmin=0.0 if is_gate else -size,
            vmax=size, cmap=SEQUENTIAL if is_gate else DIVERGING,
        )  # fmt: skip
        despine(axes, NAMES[name])
        axis_labels(axes, "time step", "unit")
        figure.colorbar(image, ax=axes, pad=0.02).ax.tick_params(labelsize=7)
    for axes in panels[len(quantities) :]:
        axes.set_axis_off()
    figure.suptitle(f"sample 0, {record.layer_name(0)}", fontsize=9, color=MUTED)
    return figure


@draw.register
def _(record: UnitTextHeatmap) -> Figure:
    parts = record.layers[:_PARTS_SHOWN]
    most = max(_CHARACTERS // len(parts), 1)
    sizes = [min(part.input_symbols.shape[1], most) for part in parts]
    width = max(4.8, 1.0 + 0.3 * len(parts) + min(0.36 * sum(sizes), 11.5))
    high = _IMAGE_ROWS if record.images is not None else 0
    figure = Figure(figsize=(width, 1.1 + 0.2 * (_ROWS_SHOWN + high)), layout="constrained")
    ratios = [high, _ROWS_SHOWN] if high else [1]
    grid = figure.subplots(
        len(ratios), len(sizes), squeeze=False, width_ratios=sizes, height_ratios=ratios
    )
    for above, axes, part, size in zip(grid[0], grid[-1], parts, sizes, strict=True):
        _characters(axes, part, size)
        if record.images is not None:
            _columns(above, record.images[0], size, part.input_symbols.shape[1])
    more = share_of(len(record.layers), len(parts), "layers")
    words = f"{shorten(record.labels[0], 60)}: the cells that vary most{more and f'; {more}'}"
    figure.suptitle(words, fontsize=10, color=INK)
    return figure


def _columns(axes: Axes, image: NDArray[np.float32], size: int, num_steps: int) -> None:
    """Draw the part of an image that the first steps read, each above its characters."""
    width = round(image.shape[1] * size / num_steps)
    extent = (-0.5, size - 0.5, 0, 1)
    axes.imshow(1 - image[:, :width], cmap="gray", vmin=0, vmax=1, aspect="auto", extent=extent)
    axes.set_axis_off()


def _characters(axes: Axes, part: LayerHeatmap, size: int) -> None:
    """Draw the first sample: a line of characters for each unit, coloured by its value."""
    name, whole = next(iter(part.quantities.items()))
    values = whole[:, :size]
    spread = values.reshape(-1, values.shape[-1]).std(axis=0)
    units = np.sort(np.argsort(-spread, kind="stable")[:_ROWS_SHOWN])
    first = np.tanh(values[0][:, units].T) if name == "c" else values[0][:, units].T
    axes.imshow(first, aspect="auto", cmap=DIVERGING, vmin=-1, vmax=1, alpha=0.85)
    has_reads = part.output_symbols is None or (part.input_symbols != "").any()
    characters = (
        part.input_symbols if has_reads or part.output_symbols is None else part.output_symbols
    )[0, :size]
    for step, character in enumerate(characters):
        for row in range(len(units)):
            color = "white" if abs(first[row, step]) > 0.75 else INK
            axes.text(step, row, printable(character), fontsize=7, color=color, ha="center",
                      va="center", family="DejaVu Sans Mono", parse_math=False,
                      in_layout=False)  # fmt: skip
    axes.set_yticks(range(len(units)), [str(unit) for unit in units])
    axes.set_xticks([])
    steps = f"; steps 1–{size} of {whole.shape[1]:,}" if size < whole.shape[1] else ""
    despine(axes, f"{shorten(part.name)}, {'tanh(c)' if name == 'c' else name}{steps}")
    axes.tick_params(labelsize=7, length=0)
    axis_labels(axes, "character read →", "unit")
    if part.output_symbols is not None:
        axes.set_xticks(range(size), [printable(c) for c in part.output_symbols[0, :size]])
        axes.set_xlabel("above: read; here: written", fontsize=8)


@draw.register
def _(record: GateSaturation) -> Figure:
    count = len(record.left)
    figure = Figure(figsize=(2.9 * count, 3.2), layout="constrained")
    grid = figure.subplots(1, count, squeeze=False)[0]
    for axes, (name, left) in zip(grid, record.left.items(), strict=True):
        axes.plot([0, 1], [1, 0], color="#dddddd", linewidth=1, zorder=0)
        axes.scatter(left, record.right[name], s=26, alpha=0.45, color=COLORS[0], linewidths=0)
        despine(axes, NAMES[name])
        axis_labels(axes, f"share of time below {record.low}", f"share of time above {record.high}")
        axes.set(xlim=(-0.04, 1.04), ylim=(-0.04, 1.04), aspect="equal")
    return figure


@text.register
def _(record: GateSaturation) -> str:
    gates = list(record.left)
    head = "unit" + "".join(f"  {gate} < {record.low}  {gate} > {record.high}" for gate in gates)
    lines = [
        f"{unit:>4}"
        + "".join(f"{record.left[g][unit]:>9.2f}{record.right[g][unit]:>9.2f}" for g in gates)
        for unit in range(len(record.left[gates[0]]))
    ]
    return "\n".join(["share of the steps at which each gate is shut, and open", head, *lines])


@draw.register
def _(record: UnitRoles) -> Figure:
    figure = Figure(figsize=(9.0, 4.6), layout="constrained")
    wide = np.clip(0.055 * len(record.symbols), 0.15, 1.3)  # so that characters have room
    widths = (1, np.clip(0.045 * len(record.by_position), 0.3, max(0.5, 1.6 - wide)), wide)
    plane, positions, symbols = figure.subplots(1, 3, width_ratios=widths)
    plane.plot([0, 1], [1, 0], color="#dddddd", linewidth=1, zorder=0)
    for kind, color in zip(KINDS[:3], COLORS, strict=False):
        mask = np.array(record.kinds) == kind
        x, y = record.shares[mask, 0], record.shares[mask, 1]
        label = f"{kind}: {mask.sum()}"
        plane.scatter(x, y, s=28, alpha=0.6, color=color, label=label, linewidths=0)
    for unit in _extremes(record):
        plane.annotate(str(unit), record.shares[unit, :2], (3, 3), textcoords="offset points",
                       fontsize=7, color=MUTED, gid=SPARE)  # fmt: skip
    despine(plane, f"what explains a unit ({record.count('constant')} hardly vary)")
    axis_labels(plane, "share of variance: position", "share of variance: character")
    plane.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    plane.legend(fontsize=8, frameon=False, loc="upper right")
    order = record.order if len(record.order) else np.arange(1)
    profile = np.concatenate([record.by_position, record.by_symbol])[:, order].T
    profile = (profile - profile.mean(1, keepdims=True)) / np.maximum(profile.std(1), 1e-9)[:, None]
    steps = len(record.by_position)
    names = [str(t) for t in range(steps)], [printable(s) for s in record.symbols]
    halves = (profile[:, :steps], profile[:, steps:])
    for axes, values, ticks in zip((positions, symbols), halves, names, strict=True):
        image = axes.imshow(values, aspect="auto", cmap=DIVERGING, vmin=-2.5, vmax=2.5,
                            interpolation="auto")  # fmt: skip
        numbers = evenly_spaced(len(ticks), _STEPS_SHOWN if axes is positions else len(ticks))
        axes.set_xticks(
            numbers, [ticks[number] for number in numbers], fontsize=7, parse_math=False
        )
        axes.set_yticks([])
    every = max(1, len(order) // 24)
    positions.set_yticks(range(0, len(order), every), order[::every], fontsize=6)
    despine(positions, "mean activity, in the unit's own deviations")
    positions.tick_params(axis="y", labelsize=6)
    axis_labels(positions, "position", "unit, like beside like")
    axis_labels(symbols, "character", "")
    figure.colorbar(image, ax=symbols, pad=0.01).ax.tick_params(labelsize=7)
    return figure


def _extremes(record: UnitRoles, num: int = 4) -> list[int]:
    """Return the units that position or character explains best."""
    varies = np.array([kind != "constant" for kind in record.kinds])
    shares = np.where(varies[:, None], record.shares[:, :2], -1.0)
    return sorted({int(unit) for column in shares.T for unit in np.argsort(-column)[:num]})


@text.register
def _(record: UnitRoles) -> str:
    head = f"{'unit':>4}  {'kind':<9}{'position':>9}{'character':>10}{'rest':>6}{'deviation':>11}"
    lines = [
        f"{unit:>4}  {kind:<9}{s[0]:>9.2f}{s[1]:>10.2f}{s[2]:>6.2f}{deviation:>11.3f}"
        for unit, (kind, s, deviation) in enumerate(
            zip(record.kinds, record.shares, record.deviations, strict=True)
        )
    ]
    return "\n".join([head, *lines])


@draw.register
def _(record: StatePaths) -> Figure:
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.subplots()
    x = record.points[..., 0]
    steps = np.broadcast_to(np.arange(x.shape[1]), x.shape)
    y = record.points[..., 1] if record.points.shape[2] > 1 else steps
    for sample in range(min(len(x), 12)):
        axes.plot(x[sample], y[sample], color="#cccccc", linewidth=0.6, zorder=0)
    colors = record.colors
    is_number = colors.dtype.kind == "f"
    defined = ~np.isnan(colors) if is_number else colors >= 0
    axes.scatter(x[~defined], y[~defined], s=5, color="#e4e4e4", linewidths=0)
    if is_number:
        points = axes.scatter(x[defined], y[defined], s=7, c=colors[defined], cmap="viridis")
        figure.colorbar(points, ax=axes, pad=0.01).set_label(record.quantity, fontsize=9)
    else:
        _by_category(axes, x, y, colors)
        if defined.any():
            axes.legend(
                title=shorten(record.quantity), fontsize=8, title_fontsize=8, frameon=False,
                markerscale=2.5, loc="center left", bbox_to_anchor=(1.0, 0.5),
            )  # fmt: skip
    despine(axes, f"paths of {len(x)} samples through the states, by {record.quantity}")
    names = [f"component {k + 1} ({s:.0%} of the variance)" for k, s in enumerate(record.explained)]
    axis_labels(axes, *[*names, "time step"][:2])
    return figure


def _by_category(axes: Axes, x: NDArray[Any], y: NDArray[Any], colors: NDArray[Any]) -> None:
    values, counts = np.unique(colors[colors >= 0], return_counts=True)
    categories = np.sort(values[np.argsort(-counts, kind="stable")[:_COLORED]])
    if len(categories) < len(values):
        mask = (colors >= 0) & ~np.isin(colors, categories)
        others = f"{len(values) - len(categories)} others"
        axes.scatter(x[mask], y[mask], s=5, color=MUTED, label=others, linewidths=0)
    palette = COLORS if len(categories) <= len(COLORS) else colormaps["tab20"].colors  # type: ignore[attr-defined]
    for color, value in zip(palette, categories, strict=False):
        mask = colors == value
        axes.scatter(x[mask], y[mask], s=7, color=color, label=str(value), linewidths=0, alpha=0.7)


@caption.register
def _(record: UnitTextHeatmap) -> str:
    return (
        "What each unit does at each character. Point at a character to see all units, pick a "
        "unit to see it over many samples, drag over characters to find where the same units "
        "are on."
    )


@caption.register
def _(record: UnitRoles) -> str:
    return (
        "Does a unit follow the place in the text (a counter), the character (a detector), or "
        "neither? Right: each unit's mean at each place and character, like beside like."
    )


@caption.register
def _(record: GateSaturation) -> str:
    return (
        "A dot is a unit. Bottom right: its gate is always shut; top left: always open; near "
        "the origin: it works in between."
    )


@caption.register
def _(record: StatePaths) -> str:
    return "A dot is the state after one step; grey lines follow single samples."
