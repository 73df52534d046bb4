"""What a layer holds alike, which concepts its units detect, and what can be read off it."""

import itertools
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from visualization.core.captions import caption
from visualization.core.legible import SPARE
from visualization.core.pictures import aspect_of, blank, picture
from visualization.core.registry import BAD, COLORS, GOOD, INK, MUTED, draw, text
from visualization.core.words import breadth, brief, share_of, wrapped
from visualization.feature_maps.dissection import Dissection, Example
from visualization.feature_maps.scan_concepts import ConceptMasks
from visualization.recurrent.figures.states import label, quiet
from visualization.representation.embeddings import Embedding, Neighbours
from visualization.representation.layer_probes import LayerProbes

_QUERIES_SHOWN = 8
_NEIGHBOURS_SHOWN = 10
_SCANS_SHOWN = 6
_UNITS_SHOWN = 20
_LONGEST = 14  # characters of a class
_CONCEPTS_SHOWN = 16
_REGION, _MASK, _BOTH = (0.95, 0.55, 0.1), (0.2, 0.5, 0.95), (0.25, 0.85, 0.35)


def _shown(name: Any, classes: tuple[str, ...]) -> str:
    return brief(classes[int(name)] if classes else str(name), _LONGEST)


def _layer(name: str | None) -> str:
    return f"layer {brief(name, 40)}" if name else "the output"


def _limits(images: NDArray[np.floating]) -> tuple[float, float]:
    """Return 0 and 1 for images within them, else the extremes that there are."""
    low, high = float(images.min()), float(images.max())
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


@draw.register
def _(record: Neighbours) -> Figure:
    rows = min(len(record.queries), _QUERIES_SHOWN)
    columns = min(record.indices.shape[1], _NEIGHBOURS_SHOWN)
    size = (0.5 + 0.95 * (columns + 1), 0.6 + 1.12 * rows)
    figure = Figure(figsize=size, layout="constrained")
    widths = [1, 0.12, *[1] * columns]
    grid = figure.subplots(rows, columns + 2, squeeze=False, width_ratios=widths)
    limits = _limits(record.queries.numpy())
    for row in range(rows):
        own = None if record.query_labels is None else record.query_labels[row]
        title = "" if own is None else _shown(own, record.classes)
        picture(grid[row, 0], record.queries[row].numpy(), title, limits)
        blank([grid[row, 1]])
        for column in range(columns):
            axes, name = grid[row, column + 2], f"{record.distances[row, column]:.2g}"
            if record.labels is not None:
                label_shown = _shown(record.labels[row, column], record.classes)
                apart = "  " if breadth(label_shown) < _LONGEST // 2 else "\n"
                name = f"{label_shown}{apart}({name})"
            picture(axes, record.images[row, column].numpy(), name, limits)
            if own is not None and record.labels is not None:
                axes.title.set_color(GOOD if record.labels[row, column] == own else BAD)
    figure.suptitle(
        f"left: the image; then the nearest of {record.num_images:,} in {_layer(record.layer)}, "
        f"with the {record.metric} distance", fontsize=9, color=MUTED,
    )  # fmt: skip
    return figure


@text.register
def _(record: Neighbours) -> str:
    lines = [f"nearest of {record.num_images:,} images in {_layer(record.layer)}, {record.metric}"]
    for row, numbers in enumerate(record.indices):
        found = (
            f"{number} ({_named(record, row, column)}{record.distances[row, column]:.3g})"
            for column, number in enumerate(numbers)
        )
        own = "" if record.query_labels is None else f" ({record.query_labels[row]})"
        lines.append(f"{row}{own}: " + ", ".join(found))
    return "\n".join(lines)


def _named(record: Neighbours, row: int, column: int) -> str:
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
        known, codes = np.unique(record.labels, return_inverse=True)
        colors = _palette(len(known))
        order = np.random.default_rng(0).permutation(len(x))  # so that no class lies over all
        axes.scatter(x[order], y[order], s=10, alpha=0.6, c=colors[codes[order]], linewidths=0)
        for code, name in enumerate(known):
            middle = np.median(record.points[codes == code], axis=0)
            axes.annotate(_shown(name, record.classes), middle, ha="center", va="center", gid=SPARE,
                          fontsize=13, weight="bold", color=0.75 * colors[code],
                          path_effects=[withStroke(linewidth=3, foreground="white")])  # fmt: skip
    what = "principal components" if record.method == "pca" else "t-SNE"
    quiet(axes, f"{len(x):,} images in {_layer(record.layer)} ({record.num_features:,} numbers),\n"
          f"{what}")  # fmt: skip
    if record.explained is None:
        axes.set(xticks=[], yticks=[])
        label(axes, "near: alike; the distance of groups says little", "")
    else:
        names = (f"{n}, {100 * s:.0f} % of the variance" for n, s in
                 zip(("first", "second"), record.explained, strict=True))  # fmt: skip
        label(axes, *names)
    return figure


def _palette(num: int) -> NDArray[np.float64]:
    """Return colours (num, 3), as unlike as so many can be."""
    if num <= 10:
        return np.array(colormaps["tab10"].colors)[:num]  # type: ignore[attr-defined]
    return np.asarray(colormaps["turbo"](np.linspace(0.03, 0.97, num)))[:, :3]


@caption.register
def _(record: Embedding) -> str:
    return (
        "A dot is an image, where the layer puts it; the names stand at the medians of their dots."
    )


def _overlaid(example: Example, at: int) -> NDArray[np.float64]:
    """Return an image, dimmed, with the unit's region and the concept's mask coloured (H, W, 3)."""
    image, region, mask = (part[at] for part in (example.images, example.regions, example.masks))
    low, high = _limits(example.images)
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
        f"{_layer(record.layer)}: {record.detectors.sum()} of {total} units are {kind}, of "
        f"{record.num_unique} concepts (IoU at least {record.least:g} above chance); the units' "
        f"top {100 * record.quantile:g} %", fontsize=9, color=MUTED,
    )  # fmt: skip
    return figure


def _bars(axes: Axes, record: Dissection, order: NDArray[np.int64]) -> None:
    known = list(dict.fromkeys(record.best[order].tolist()))
    colors = dict(zip(known, _palette(len(known)), strict=True))
    rows = np.arange(len(order))
    values, chance = record.best_iou[order], record.best_chance[order]
    axes.barh(rows, values, color=[colors[at] for at in record.best[order].tolist()], height=0.7)
    axes.vlines(chance, rows - 0.42, rows + 0.42, color=INK, linewidth=1.4)
    for row, unit in enumerate(order):
        weight = "bold" if record.detectors[unit] else "normal"
        end = max(values[row], chance[row])
        axes.annotate(brief(record.concepts[record.best[unit]], 18), (end, row), (5, 0), fontsize=8,
                      textcoords="offset points", va="center", weight=weight)  # fmt: skip
    axes.set_yticks(rows, order)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.6 * max(float(values.max()), float(chance.max()), 1e-3))
    quiet(axes, "the concept that each unit covers best")
    label(axes, "IoU with its masks (black: with the masks of other images)", "unit")


def _overlays(figure: SubFigure, record: Dissection, rows: int) -> None:
    columns = max((len(example.numbers) for example in record.examples), default=1)
    grid = figure.subplots(rows, columns, squeeze=False)
    blank(list(grid.flat))
    for row, example in enumerate(record.examples):
        for column in range(len(example.numbers)):
            colored = _overlaid(example, column)
            grid[row, column].imshow(colored, interpolation="nearest", aspect=aspect_of(colored))
        name = f"{example.unit}: {brief(record.concepts[example.concept])}"
        grid[row, 0].set_title(name, fontsize=8, color=INK, loc="left")
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
    blank(list(grid.flat))
    for row, column in itertools.product(range(rows), range(columns + 1)):
        grey = np.repeat(record.images[row, 0][..., None], 3, axis=-1)
        if column:
            where = record.masks[row, column - 1]
            grey = 0.55 * grey
            grey[where] = 0.64 * grey[where] + 0.65 * np.array(_MASK)
        grid[row, column].imshow(np.clip(grey, 0, 1), interpolation="nearest",
                                 aspect=aspect_of(grey))  # fmt: skip
    for axes, name in zip(grid[0, 1:], record.names, strict=False):
        axes.set_title("\n".join(wrapped(name, 10, 2)), fontsize=8, color=INK)
    return figure


@caption.register
def _(record: ConceptMasks) -> str:
    return "Scans, and where in each of them each concept is (blue)."


@draw.register
def _(record: LayerProbes) -> Figure:
    num = len(record.layers)
    width = min(max(5.6, 1.8 + 0.62 * num), 12.0)
    names = [brief(name, 20) for name in record.layers]
    is_long = max(map(breadth, names)) > 14 * width / (num + 2)
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
    quiet(axes, f"linear probes on {record.num_held_out:,} withheld images; {most}")
    label(axes, "layer, in the order of the network →", "right, %")
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
    for at, name in enumerate(record.layers):
        more = "" if bare is None else f"{bare[at]:>11.3f}"
        lines.append(
            f"{name:<{width}}{record.num_features[at]:>9,}{record.accuracy[at]:>8.3f}"
            f"{record.control[at]:>10.3f}{more}"
        )
    return "\n".join(lines)


@caption.register
def _(record: LayerProbes) -> str:
    return (
        "How many labels a line reads off each layer, on images withheld from it; grey: with "
        "shuffled labels. Bars: 95 % intervals."
    )
