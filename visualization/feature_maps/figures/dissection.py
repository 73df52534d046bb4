"""What a layer holds alike, which concepts its units detect, and what can be read off it."""

import itertools

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from visualization.core.pictures import aspect_of, display_range, hide_axes
from visualization.core.registry import caption, draw, text
from visualization.core.style import INK, MUTED, axis_labels, despine, palette
from visualization.core.tiles import tiles
from visualization.core.words import layer_title, share_of, shorten, wrap
from visualization.feature_maps.dissection import Dissection, Example
from visualization.feature_maps.scan_concepts import ConceptMasks

_SCANS_SHOWN = 6
_UNITS_SHOWN = 20
_CONCEPTS_SHOWN = 16
_REGION, _MASK, _BOTH = (0.95, 0.55, 0.1), (0.2, 0.5, 0.95), (0.25, 0.85, 0.35)


def _overlay(example: Example, number: int) -> NDArray[np.float64]:
    """Return an image, dimmed, with the unit's region and the concept's mask coloured (H, W, 3)."""
    image, region, mask = (
        part[number] for part in (example.images, example.regions, example.masks)
    )
    low, high = display_range(example.images)
    grey = (np.clip(image, low, high).mean(axis=0) - low) / ((high - low) or 1.0)
    rows, columns = (
        np.arange(size) * old // size for size, old in zip(region.shape, grey.shape, strict=True)
    )
    colors = np.repeat(0.55 * grey[np.ix_(rows, columns)][..., None], 3, axis=-1)
    for where, color in (
        (region & ~mask, _REGION),
        (mask & ~region, _MASK),
        (region & mask, _BOTH),
    ):
        colors[where] = 0.35 * colors[where] / 0.55 + 0.65 * np.array(color)
    return np.asarray(colors)


@draw.register
def _(record: Dissection) -> Figure:
    order = np.argsort(-record.best_iou, kind="stable")[:_UNITS_SHOWN]
    rows = max(len(record.examples), 1)
    size = (10.0, max(1.6 + 0.24 * len(order), 1.2 + 0.95 * rows))
    figure = Figure(figsize=size, layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(1.25, 1))[0]
    _bars(left.subplots(), record, order)
    _overlays(right, record, rows)
    total = len(record.iou)
    kind = "a detector" if record.detectors.sum() == 1 else "detectors"
    figure.suptitle(
        f"{layer_title(record.layer)}: {record.detectors.sum()} of {total} units are {kind}, of "
        f"{record.num_unique} concepts (IoU at least {record.least:g} above chance); the units' "
        f"top {100 * record.quantile:g} %", fontsize=9, color=MUTED,
    )  # fmt: skip
    return figure


def _bars(axes: Axes, record: Dissection, order: NDArray[np.int64]) -> None:
    concepts = list(dict.fromkeys(record.best[order].tolist()))
    colors = dict(zip(concepts, palette(len(concepts)), strict=True))
    rows = np.arange(len(order))
    values, chance = record.best_iou[order], record.best_chance[order]
    axes.barh(
        rows, values, color=[colors[concept] for concept in record.best[order].tolist()], height=0.7
    )
    axes.vlines(chance, rows - 0.42, rows + 0.42, color=INK, linewidth=1.4)
    for row, unit in enumerate(order):
        weight = "bold" if record.detectors[unit] else "normal"
        end = max(values[row], chance[row])
        axes.annotate(shorten(record.concepts[record.best[unit]], 18), (end, row), (5, 0),
                      fontsize=8, textcoords="offset points", va="center",
                      weight=weight)  # fmt: skip
    axes.set_yticks(rows, order)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.6 * max(float(values.max()), float(chance.max()), 1e-3))
    despine(axes, "the concept that each unit covers best")
    axis_labels(axes, "IoU with its masks (black: with the masks of other images)", "unit")


def _overlays(figure: SubFigure, record: Dissection, rows: int) -> None:
    columns = max((len(example.numbers) for example in record.examples), default=1)
    axes = figure.subplots()
    axes.set(xlim=(0, columns), ylim=(1.25 * rows, 0), aspect="equal")
    axes.set_axis_off()
    grid = tiles(axes, rows, columns, corner=(0.03, 0.27), pitch=(1.0, 1.25), side=0.94)
    for line, example in zip(grid, record.examples, strict=False):
        for column, tile in enumerate(line[: len(example.numbers)]):
            tile.picture(_overlay(example, column))
        name = f"{example.unit}: {shorten(record.concepts[example.concept])}"
        line[0].write(name, 0.0, -0.05, ha="left", va="bottom", room=3.5)
    colors = {"unit only": _REGION, "concept only": _MASK, "both": _BOTH}
    figure.legend(handles=[Patch(color=color, label=name) for name, color in colors.items()],
                  loc="outside lower center", ncols=3, fontsize=8, frameon=False)  # fmt: skip


@text.register
def _(record: Dissection) -> str:
    head = f"{'unit':>5}  {'best concept':<20}{'IoU':>7}{'chance':>8}{'at most':>9}"
    lines = [
        f"{unit:>5}  {record.concepts[record.best[unit]]:<20}{record.best_iou[unit]:>7.3f}"
        f"{record.best_chance[unit]:>8.3f}{record.ceilings[unit, record.best[unit]]:>9.3f}"
        f"{'  detector' if record.detectors[unit] else ''}"
        for unit in np.argsort(-record.best_iou, kind="stable")
    ]
    exact = "exact" if record.share_read == 1 else f"from {record.share_read:.1%} of the values"
    last = f"{record.num_images:,} images; thresholds {exact}; maps laid {record.placement}"
    return "\n".join([head, *lines, last])


@caption.register
def _(record: Dissection) -> str:
    return (
        "How well the places where a unit is high are those of a concept (intersection over union "
        "of pixels); right: the images that excite the best units most."
    )


@draw.register
def _(record: ConceptMasks) -> Figure:
    rows = min(len(record.images), _SCANS_SHOWN)
    columns = min(len(record.names), _CONCEPTS_SHOWN)
    figure = Figure(figsize=(0.72 * columns + 0.72, 0.72 * rows + 1.0), layout="constrained")
    if more := share_of(len(record.names), columns, "concepts"):
        figure.supxlabel(more, fontsize=9, color=MUTED)
    grid = figure.subplots(rows, columns + 1, squeeze=False)
    hide_axes(list(grid.flat))
    for row, column in itertools.product(range(rows), range(columns + 1)):
        grey = np.repeat(record.images[row, 0][..., None], 3, axis=-1)
        if column:
            where = record.masks[row, column - 1]
            grey = 0.55 * grey
            grey[where] = 0.64 * grey[where] + 0.65 * np.array(_MASK)
        grid[row, column].imshow(np.clip(grey, 0, 1), interpolation="nearest",
                                 aspect=aspect_of(grey))  # fmt: skip
    for axes, name in zip(grid[0, 1:], record.names, strict=False):
        axes.set_title("\n".join(wrap(name, 10, 2)), fontsize=8, color=INK)
    return figure


@caption.register
def _(record: ConceptMasks) -> str:
    return "Scans, and where in each of them each concept is (blue)."
