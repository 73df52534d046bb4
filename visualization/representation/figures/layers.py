"""Figures of layers: probes, embeddings, neighbours."""

import functools
import re
from typing import Any

import attrs
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from visualization.core.legible import SPARE
from visualization.core.pictures import display_range
from visualization.core.pixels import image_colors
from visualization.core.registry import caption, draw, text
from visualization.core.style import (
    BAD,
    COLORS,
    GOOD,
    INK,
    MUTED,
    axis_labels,
    despine,
    palette,
)
from visualization.core.tiles import heading, heading_height, page, tiles
from visualization.core.words import display_width, evenly_spaced, layer_title, share_of, shorten
from visualization.representation.embeddings import Embedding, Neighbours
from visualization.representation.layer_probes import LayerProbes
from visualization.representation.probes import FEWEST_ROWS, ProbeTable

_PROBED, _PROBED_STEPS = 40, 24  # quantities and steps of a table of probes

_QUERIES_SHOWN = 8
_NEIGHBOURS_SHOWN = 10
_LONGEST = 14  # characters of a class


def _class_name(name: Any, classes: tuple[str, ...]) -> str:
    return shorten(classes[int(name)] if classes else str(name), _LONGEST)


@draw.register
def _(record: Neighbours) -> Figure:
    rows = min(len(record.queries), _QUERIES_SHOWN)
    columns = min(record.indices.shape[1], _NEIGHBOURS_SHOWN)
    heading_words = (
        f"left: the image; then the nearest of {record.num_images:,} in "
        f"{layer_title(record.layer)}, with the {record.metric} distance"
    )
    width = max(0.5 + 0.95 * (columns + 1), 4.2)
    top, left = heading_height(heading_words, width), (width - 0.95 * (columns + 1)) / 2
    figure = Figure(figsize=(width, top + 0.1 + 1.18 * rows))
    axes = page(figure)
    heading(axes, heading_words)
    place = functools.partial(tiles, axes, rows, pitch=(0.95, 1.18), side=0.85)
    own_places = place(1, corner=(left - 0.05, top + 0.33))
    grid = place(columns, corner=(left + 1.05, top + 0.33))
    limits = display_range(record.queries.numpy())
    for row in range(rows):
        own = None if record.query_labels is None else record.query_labels[row]
        own_places[row][0].picture(image_colors(record.queries[row].numpy(), limits))
        own_places[row][0].over("" if own is None else _class_name(own, record.classes))
        for column in range(columns):
            tile, name = grid[row][column], f"{record.distances[row, column]:.2g}"
            if record.labels is not None:
                label_shown = _class_name(record.labels[row, column], record.classes)
                apart = "  " if display_width(label_shown) < _LONGEST // 2 else "\n"
                name = f"{label_shown}{apart}({name})"
            tile.picture(image_colors(record.images[row, column].numpy(), limits))
            color = INK
            if own is not None and record.labels is not None:
                color = GOOD if record.labels[row, column] == own else BAD
            tile.over(name, color=color)
    return figure


@text.register
def _(record: Neighbours) -> str:
    lines = [
        f"nearest of {record.num_images:,} images in {layer_title(record.layer)}, {record.metric}"
    ]
    for row, numbers in enumerate(record.indices):
        neighbours = (
            f"{number} ({_label_words(record, row, column)}{record.distances[row, column]:.3g})"
            for column, number in enumerate(numbers)
        )
        own = "" if record.query_labels is None else f" ({record.query_labels[row]})"
        lines.append(f"{row}{own}: " + ", ".join(neighbours))
    return "\n".join(lines)


def _label_words(record: Neighbours, row: int, column: int) -> str:
    return "" if record.labels is None else f"{record.labels[row, column]}, "


@caption.register
def _(record: Neighbours) -> str:
    return (
        "The images that the layer represents most nearly as it does the one at the left, nearest "
        "first; green: the same label."
    )


@draw.register
def _(record: Embedding) -> Figure:
    figure = Figure(figsize=(6.0, 5.4), layout="constrained")
    axes = figure.subplots()
    x, y = record.points.T
    if record.labels is None:
        axes.scatter(x, y, s=10, alpha=0.5, color=COLORS[0], linewidths=0)
    else:
        label_values, codes = np.unique(record.labels, return_inverse=True)
        colors = palette(len(label_values))
        order = np.random.default_rng(0).permutation(len(x))  # so that no class lies over all
        axes.scatter(x[order], y[order], s=10, alpha=0.6, c=colors[codes[order]], linewidths=0)
        for code, name in enumerate(label_values):
            middle = np.median(record.points[codes == code], axis=0)
            axes.annotate(_class_name(name, record.classes), middle, ha="center", va="center",
                          gid=SPARE, fontsize=13, weight="bold", color=0.75 * colors[code],
                          path_effects=[withStroke(linewidth=3, foreground="white")])  # fmt: skip
    what = "principal components" if record.method == "pca" else "t-SNE"
    where = f"{layer_title(record.layer)} ({record.num_features:,} numbers)"
    despine(axes, f"{len(x):,} images in {where},\n{what}")
    if record.explained is None:
        axes.set(xticks=[], yticks=[])
        axis_labels(axes, "near: alike; the distance of groups says little", "")
    else:
        names = (f"{n}, {100 * s:.0f} % of the variance" for n, s in
                 zip(("first", "second"), record.explained, strict=True))  # fmt: skip
        axis_labels(axes, *names)
    return figure


@caption.register
def _(record: Embedding) -> str:
    return "A dot is an image, where the layer puts it; the names are at the medians of their dots."


@draw.register
def _(record: LayerProbes) -> Figure:
    num = len(record.layers)
    width = min(max(5.6, 1.8 + 0.62 * num), 12.0)
    names = [shorten(name, 20) for name in record.layers]
    is_long = max(map(display_width, names)) > 14 * width / (num + 2)
    figure = Figure(figsize=(width, 4.8 if is_long else 3.6), layout="constrained")
    axes = figure.subplots()
    series = [
        ("this network", record.accuracy, COLORS[0]),
        ("labels shuffled", record.control, MUTED),
    ]
    if record.untrained is not None:
        series.insert(1, ("untrained", record.untrained, COLORS[1]))
    for name, values, color in series:
        ends = _wilson(values, record.num_held_out)
        axes.errorbar(range(num), 100 * values, 100 * ends, fmt="o-", color=color, label=name,
                      markersize=4, linewidth=1.4, capsize=2, elinewidth=1)  # fmt: skip
    axes.set_xticks(range(num), names, rotation=90 if is_long else 0)
    most = f"the most frequent label alone: {100 * record.majority:.0f} %"
    despine(axes, f"linear probes on {record.num_held_out:,} withheld images; {most}")
    axis_labels(axes, "layer, in the order of the network →", "right, %")
    axes.set(ylim=(0, 103))
    axes.grid(axis="y", color="#eeeeee")
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def _wilson(share: NDArray[np.float64], num: int) -> NDArray[np.float64]:
    """Return how far the 95 % interval of a share of `num` reaches down and up (Wilson 1927)."""
    middle = (share + 1.92 / num) / (1 + 3.84 / num)
    reach = 1.96 * np.sqrt(share * (1 - share) / num + 0.96 / num**2) / (1 + 3.84 / num)
    return np.clip([share - (middle - reach), middle + reach - share], 0, None)


@text.register
def _(record: LayerProbes) -> str:
    width = max(map(len, record.layers)) + 2
    bare = record.untrained
    extra = "" if bare is None else f"{'untrained':>11}"
    lines = [f"{'layer':<{width}}{'numbers':>9}{'probe':>8}{'shuffled':>10}{extra}"]
    for layer, name in enumerate(record.layers):
        more = "" if bare is None else f"{bare[layer]:>11.3f}"
        lines.append(
            f"{name:<{width}}{record.num_features[layer]:>9,}{record.accuracy[layer]:>8.3f}"
            f"{record.control[layer]:>10.3f}{more}"
        )
    return "\n".join(lines)


@caption.register
def _(record: LayerProbes) -> str:
    return (
        "How many labels a line reads off each layer, on images withheld from it; grey: with "
        "shuffled labels. Bars: 95 % intervals."
    )


@draw.register
def _(whole: ProbeTable) -> Figure:
    record, steps = _thin_table(whole)
    rows, columns = record.scores.shape
    figure = Figure(
        figsize=(max(4.8, 2.6 + 0.46 * columns), 1.4 + 0.27 * rows), layout="constrained"
    )
    axes = figure.subplots()
    image = axes.imshow(record.gains, aspect="auto", cmap="Greens", vmin=0, vmax=1)
    for row, column in np.argwhere(~np.isnan(record.scores)):
        color = "white" if record.gains[row, column] > 0.6 else INK
        value = re.sub(r"^(-?)0\.", r"\1.", f"{record.scores[row, column]:.2f}")
        axes.text(column, row, value, ha="center", va="center", fontsize=7, color=color,
                  in_layout=False)  # fmt: skip
    axes.axvline(columns - 1.5, color="white", linewidth=4)
    names = [
        f"{shorten(name)} ({'right' if is_category else 'R²'})"
        for name, is_category in zip(record.quantities, record.categorical, strict=True)
    ]
    axes.set_yticks(range(rows), names, fontsize=8)
    axes.set_xticks(range(columns), [*map(str, steps[:-1]), "all"], fontsize=8)
    num, num_steps = len(whole.quantities), whole.scores.shape[1] - 1
    parts = share_of(num, rows, "quantities"), share_of(num_steps, columns - 1, "steps")
    remainder = "".join(f"; {each}" for each in parts if each)
    despine(axes, f"linear probes of the state, on withheld samples{remainder}")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xlabel("time step (empty: too few samples, or always the same)", fontsize=9)
    bar = figure.colorbar(image, ax=axes, pad=0.01)
    bar.set_label("share of what shuffled labels leave", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


def _thin_table(record: ProbeTable) -> tuple[ProbeTable, NDArray[np.int64]]:
    """Return a table of no more quantities and steps than fit, and its steps, all of them last."""
    last = record.scores.shape[1] - 1
    steps = np.append(evenly_spaced(last, _PROBED_STEPS), last)
    rows = slice(_PROBED)
    return attrs.evolve(
        record, quantities=record.quantities[rows], categorical=record.categorical[rows],
        scores=record.scores[rows, steps], controls=record.controls[rows, steps],
        correlations=record.correlations[rows, steps],
    ), steps  # fmt: skip


@text.register
def _(record: ProbeTable) -> str:
    lines = [f"{'quantity':<26}{'at best':>8}{'control':>9}  most correlated units (at step)"]
    for row, name in enumerate(record.quantities):
        if np.isnan(record.scores[row]).all():
            why = f"too few samples with a value ({FEWEST_ROWS} are needed), or always the same"
            lines.append(f"{name:<26}    {why}")
            continue
        best = int(np.nanargmax(record.scores[row]))
        units = ", ".join(
            f"{unit} {value:+.2f} ({'all' if step == record.scores.shape[1] - 1 else step})"
            for unit, step, value in record.best_units(name)
        )
        scores = f"{record.scores[row, best]:>8.2f}{record.controls[row, best]:>9.2f}"
        lines.append(f"{name:<26}{scores}  {units}")
    return "\n".join(lines)


@caption.register
def _(record: ProbeTable) -> str:
    return (
        "What can be read off the state with a line, and when. Dark: all that shuffled labels "
        "leave to find; pale: no more than chance."
    )
