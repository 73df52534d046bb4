"""Parameters: kernels and matrices as pictures, vectors as bars, histograms, norms of filters."""

import math

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from visualization.core.pictures import hide_axes
from visualization.core.registry import caption, draw, text
from visualization.core.style import BAD, COLORS, DIVERGING, INK, MUTED
from visualization.core.words import shorten
from visualization.model.figures.layers import mosaic
from visualization.model.weights import PAGE, LayerWeights, ParameterValues

_HEIGHT = 1.75  # inches of a layer
_BETWEEN = "#606060"  # kernels: their zeros are lighter
_CELL, _GAP = 6, 2  # pixels of a number of a kernel, and between kernels
_ROWS = 12  # of a picture


@draw.register
def _(record: LayerWeights) -> Figure:
    each = [_rows(layer) for layer in record.layers[:PAGE]]
    num = max(1, int((np.cumsum([len(pairs) for pairs in each]) <= _ROWS).sum()))
    rows = [pair for pairs in each[:num] for pair in pairs][:_ROWS]
    height = _HEIGHT * len(rows) + 0.35
    figure = Figure(figsize=(11.0, height))  # laid out by hand: in a third of the time
    grid = figure.subplots(
        len(rows), 4, squeeze=False, gridspec_kw={
            "width_ratios": (2.6, 1.5, 1.5, 1.5), "left": 0.045, "right": 0.99, "wspace": 0.2,
            "top": 1 - 0.75 / height, "bottom": 0.3 / height, "hspace": 0.72,
        },
    )  # fmt: skip
    for axes, (first, second) in zip(grid, rows, strict=True):
        _draw_values(axes[0], first)
        if second is None:
            hide_axes([axes[1]])
        else:
            _bars(axes[1], second)
        _distribution(axes[2], first)
        _norms(axes[3], first)
    title = f"layers {record.first + 1} to {record.first + num} of {record.num_all} with parameters"
    more = f"; pages({num if num < PAGE else ''}) has the others" if num < record.num_all else ""
    figure.text(
        0.5, 1 - 0.06 / height, title + more, fontsize=9, color=MUTED, ha="center", va="top"
    )
    return figure


def _rows(
    layer: tuple[ParameterValues, ...],
) -> list[tuple[ParameterValues, ParameterValues | None]]:
    """Return the tensors of a layer in pairs that share a row: a weight, and its bias or shift."""
    weights = [each for each in layer if each.role != "vector"]
    vectors = [each for each in layer if each.role == "vector"]
    if not weights:
        weights, vectors = vectors[:1], vectors[1:]
    rows: list[tuple[ParameterValues, ParameterValues | None]] = [
        (weight, vectors[number] if number < len(vectors) else None)
        for number, weight in enumerate(weights)
    ]
    return rows + [(vector, None) for vector in vectors[len(weights) :]]


def _draw_values(axes: Axes, values: ParameterValues) -> None:
    """Draw a tensor as what it is."""
    if values.role == "vector":
        _bars(axes, values)
        return
    if values.role == "matrix":
        size = float(np.nanmax(np.abs(values.shown), initial=0.0)) or 1.0
        axes.imshow(values.shown, cmap=DIVERGING, vmin=-size, vmax=size, aspect="auto",
                    interpolation="nearest")  # fmt: skip
    elif values.shown.shape[1] == 3 and values.shown.shape[2] > 1:
        axes.imshow(_as_colors(values.shown), interpolation="nearest")
    else:
        _kernels(axes, values.shown)
    axes.set_anchor("W")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color(MUTED)
    axes.spines[:].set_linewidth(0.5)
    _title(axes, values, _selection_words(values))


def _kernels(axes: Axes, kernels: NDArray[np.floating]) -> None:
    """Draw kernels (F, I, h, w): a row for each filter, or all in a few rows if I is 1."""
    size = float(np.nanmax(np.abs(kernels), initial=0.0)) or 1.0
    colors = matplotlib.colormaps[DIVERGING].with_extremes(bad=_BETWEEN)
    if kernels.shape[1] == 1:
        kernels = _wrap_rows(kernels[:, 0])
    elif _is_transposed(kernels):
        kernels = kernels.swapaxes(0, 1)
    axes.imshow(_mosaic(kernels), cmap=colors, vmin=-size, vmax=size, interpolation="nearest")


def _is_transposed(kernels: NDArray[np.floating]) -> bool:
    """Tell whether there is a column for each filter, since there are more of them than inputs."""
    return bool(len(kernels) > kernels.shape[1])


def _mosaic(kernels: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return kernels (R, C, h, w) as one picture with thin lines of NaN between."""
    return mosaic(kernels.repeat(_CELL, axis=2).repeat(_CELL, axis=3), _GAP, _GAP)


def _wrap_rows(kernels: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return kernels (F, …) in rows (R, C, …), the last filled up with NaN if need be."""
    num = len(kernels)
    wide = range(max(1, math.ceil(math.sqrt(2 * num))), math.ceil(math.sqrt(6 * num)) + 1)
    columns = min(wide, key=lambda number: (-num % number, abs(number - math.sqrt(3 * num))))
    filled = np.pad(kernels, ((0, -num % columns), (0, 0), (0, 0)), constant_values=np.nan)
    return filled.reshape(-1, columns, *kernels.shape[1:])


def _as_colors(kernels: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return kernels (F, 3, h, w) as one picture in colours, of which middle grey is 0."""
    size = float(np.nanmax(np.abs(kernels), initial=0.0)) or 1.0
    scaled = 0.5 + 0.5 * kernels / size
    parts = [_mosaic(_wrap_rows(scaled[:, color])) for color in range(3)]
    return np.nan_to_num(np.stack(parts, axis=-1), nan=1.0)


def _bars(axes: Axes, values: ParameterValues) -> None:
    """Draw a vector: a bar for each number, side by side."""
    numbers = values.shown
    axes.stairs(numbers, np.arange(len(numbers) + 1) - 0.5, fill=True, color=COLORS[0])
    axes.axhline(0, color=INK, linewidth=0.6)
    axes.set_xlim(-0.7, len(numbers) - 0.3)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=6.5)
    _title(axes, values, "")


def _distribution(axes: Axes, values: ParameterValues) -> None:
    axes.stairs(values.counts, values.edges, fill=True, color=COLORS[0])
    if values.edges[0] <= 0 <= values.edges[-1]:
        axes.axvline(0, color=INK, linewidth=0.6)
    axes.set_yticks([])
    axes.tick_params(labelsize=6.5)
    axes.spines[["top", "right", "left"]].set_visible(False)
    title = f"mean {values.mean:.2g}, deviation {values.deviation:.2g}"
    if values.num_undefined:
        title = f"{values.num_undefined:,} are NaN or inf"
    axes.set_title(title, fontsize=7.5, color=BAD if values.num_undefined else INK, loc="left")


def _norms(axes: Axes, values: ParameterValues) -> None:
    """Draw the norms of the filters, the largest first."""
    if not len(values.norms):
        hide_axes([axes])
        return
    sizes = -np.sort(-values.norms)
    axes.stairs(sizes, np.arange(len(sizes) + 1.0), fill=True, color=COLORS[1])
    axes.set_xlim(0, len(sizes))
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=6.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(
        f"norms of {len(sizes)} {_row_name(values)}, sorted", fontsize=7.5, color=INK, loc="left"
    )


def _row_name(values: ParameterValues) -> str:
    return "filters" if values.role == "kernels" else "rows"


def _title(axes: Axes, values: ParameterValues, description: str) -> None:
    shape = " × ".join(map(str, values.shape)) or "1"
    words = f"{values.kind}, {shape}{f': {description}' if description else ''}"
    axes.set_title(f"{_short(values.name)}\n{words}", fontsize=7.5, color=INK, loc="left",
                   parse_math=False)  # fmt: skip


def _short(name: str, most: int = 38) -> str:
    return shorten(name, most)


def _selection_words(values: ParameterValues) -> str:
    """Return which part of a tensor is drawn."""
    rows, columns = len(values.filters), len(values.inputs)
    if values.role == "kernels" and values.num_inputs in (1, 3):
        return f"{rows} of {values.num_filters} filters" if rows < values.num_filters else "all"
    down, across = "↓", "→"
    is_kernel = values.role == "kernels"
    if is_kernel and _is_transposed(values.shown):
        down, across = across, down
    parts = [
        f"{num_shown} of {num} {word}" if num_shown < num else f"all {num} {word}"
        for num_shown, num, word in (
            (rows, values.num_filters, f"{_row_name(values)} {down}"),
            (columns, values.num_inputs, f"{'inputs' if is_kernel else 'columns'} {across}"),
        )
    ]
    return ", ".join(parts)


@caption.register
def _(record: LayerWeights) -> str:
    return (
        "Each layer's parameters, red above 0 and blue below (kernels of three inputs: in colours, "
        "grey is 0); where not all are drawn, those of the largest norms are shown."
    )


@text.register
def _(record: LayerWeights) -> str:
    wide = max(len(_short(each.name)) for layer in record.layers for each in layer)
    head = (
        f"{'parameter':<{wide}}  {'kind':<18}{'shape':<18}{'mean':>10}{'deviation':>11}"
        f"{'norms of filters':>20}"
    )
    rows = [
        f"{_short(each.name):<{wide}}  {each.kind[:17]:<18}"
        f"{'×'.join(map(str, each.shape)):<18}{each.mean:>10.3g}{each.deviation:>11.3g}"
        f"{_range(each.norms):>20}"
        for layer in record.layers
        for each in layer
    ]
    return "\n".join([head, *rows])


def _range(norms: NDArray[np.float64]) -> str:
    return f"{norms.min():.3g} to {norms.max():.3g}" if len(norms) else "–"
