"""Attributions: maps beside their images, curves of faithfulness, and what randomisation leaves."""

import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from visualization.attribution.faithfulness import RANDOM, Faithfulness
from visualization.attribution.methods import Attributions
from visualization.attribution.sanity import SanityCheck
from visualization.core.pictures import display_range
from visualization.core.pixels import image_colors, map_colors
from visualization.core.registry import caption, draw, text
from visualization.core.style import COLORS, MUTED, axis_labels, despine
from visualization.core.tiles import Tile, heading, page, tiles
from visualization.core.words import display_width, legend, share_of, shorten, wrap

TITLES: Mapping[str, str] = {
    "saliency": "gradient", "input_x_gradient": "gradient × input", "smooth_grad": "SmoothGrad",
    "integrated_gradients": "integrated\ngradients", "guided_backprop": "guided\nbackprop",
    "deconvnet": "deconvnet", "grad_cam": "Grad-CAM", "grad_cam_plus_plus": "Grad-CAM++",
    "layer_cam": "LayerCAM", "score_cam": "Score-CAM", "guided_grad_cam": "guided\nGrad-CAM",
    "lrp_epsilon_plus": "LRP ε, z⁺", "lrp_epsilon_gamma_box": "LRP ε, γ, box",
    "lrp_epsilon_alpha2_beta1": "LRP ε, α2β1", "rise": "RISE",
}  # fmt: skip
_ROWS = 8  # images that are drawn, half as many if the methods need two bands
_COLUMNS = 8  # methods in a band
_BANDS = 2
_METHODS = 10  # of which maps are drawn beneath each other
_LABEL, _PITCH = 1.05, 0.95  # inches of what an image is called, and of a tile
_NARROW = 20  # letters of a method's name
_CURVES = 18  # methods of which curves are named
_STAGES = 8  # stages of randomisation of which maps are drawn
_LINES = ("-", "--", ":")  # styles, once the colours are used up
_PERCENTILE = 99.5  # of a map, at which its colours are full: single pixels must not hide it


def _title(name: str) -> str:
    return TITLES.get(name, name)


def _line(name: str) -> str:
    """Return a method's name on one line."""
    return _title(name).replace("\n", " ")


def _map(tile: Tile, values: NDArray[np.float64]) -> None:
    """Draw a map with its signs, in its own scale."""
    full = float(np.percentile(np.abs(values), _PERCENTILE)) or float(np.abs(values).max())
    tile.picture(map_colors(values, full, signs=True))
    if not values.any():
        tile.write("all 0", 0.5, 0.5, color=MUTED)


@draw.register
def _(record: Attributions) -> Figure:
    names = list(record.maps)[: _BANDS * _COLUMNS]
    bands = [names[first : first + _COLUMNS] for first in range(0, len(names), _COLUMNS)]
    rows = min(_ROWS // max(1, len(bands)), len(record.images))
    heading_words = "; ".join(filter(None, (
        share_of(len(record.images), rows, "images"),
        share_of(len(record.maps), len(names), "methods"),
    )))  # fmt: skip
    columns = 1 + max(map(len, bands), default=0)
    width, top = _LABEL + columns * _PITCH, 0.22 if heading_words else 0.0
    band_height = 0.38 + rows * _PITCH
    figure = Figure(figsize=(width, top + len(bands) * band_height + 0.03))
    axes = page(figure)
    if heading_words:
        heading(axes, heading_words)
    for number, band in enumerate(bands):
        corner = (_LABEL, top + number * band_height + 0.36)
        grid = tiles(axes, rows, columns, corner=corner, pitch=(_PITCH, _PITCH), side=_PITCH - 0.08)
        grid[0][0].over("image")
        for tile, name in zip(grid[0][1:], band, strict=False):
            tile.over(_title(name))
        for row, line in enumerate(grid):
            _explained(line, record, row, band)
    return figure


def _explained(line: Sequence[Tile], record: Attributions, row: int, names: list[str]) -> None:
    """Draw an image and its maps beside each other."""
    image = record.images[row]
    line[0].picture(image_colors(image, display_range(image)))
    words = f"{shorten(record.targets[row], 14)}\nscore {record.scores[row]:.3g}"
    line[0].write(words, -0.06, 0.5, ha="right", room=_LABEL - 0.1)
    for tile, name in zip(line[1:], names, strict=False):
        _map(tile, record.maps[name][row])


@caption.register
def _(record: Attributions) -> str:
    return (
        "What speaks for the answer named at the left (red) and against it (blue), by each method; "
        "each map in its own scale. SmoothGrad is of the gradient, RISE is less its mean."
    )


@text.register
def _(record: Attributions) -> str:
    width = max(map(len, record.targets), default=0)
    lines = [
        f"{target:>{width}}  {value:>10.4g}"
        for target, value in zip(record.targets, record.scores, strict=True)
    ]
    return "\n".join([f"explained by {', '.join(record.maps)}: target, score", *lines])


@draw.register
def _(record: Faithfulness) -> Figure:
    figure = Figure(figsize=(9.2, 5.0), layout="constrained")
    lines = -(-min(len(record.deletion), _CURVES) // _legend_columns(record.deletion))
    figure.set_figheight(4.3 + 0.2 * max(4, lines))
    left, right = figure.subplots(1, 2, sharey=True)
    down, up = record.deletion_area(), record.insertion_area()
    _curves(left, record.shares, record.deletion, down, lowest=True)
    _curves(right, record.shares, record.insertion, up, lowest=False)
    num = len(next(iter(record.deletion.values())))
    despine(left, f"pixels become {record.fills[0]}: low is faithful")
    despine(right, f"pixels enter {record.fills[1]}: high is faithful")
    axis_labels(left, "share of pixels deleted", f"{record.quantity}, mean of {num} images")
    axis_labels(right, "share of pixels inserted", "")
    return figure


def _curves(
    axes: Axes, shares: NDArray[np.float64], curves: Mapping[str, NDArray[np.float64]],
    areas: Mapping[str, NDArray[np.float64]], *, lowest: bool,
) -> None:  # fmt: skip
    """Draw the mean curve of each method, in a colour of its own; the legend has the best first."""
    styles = dict(zip((n for n in curves if n != RANDOM), _styles(), strict=False))
    order = sorted(curves, key=lambda name: areas[name].mean() * (1 if lowest else -1))
    for name in order:
        color, style = styles.get(name, (MUTED, "--"))
        width = 2.4 if name == RANDOM else 1.4
        axes.plot(shares, curves[name].mean(axis=0), style, color=color, linewidth=width,
                  label=f"{areas[name].mean():.3f}  {shorten(_line(name), 22)}")  # fmt: skip
    axes.set_xlim(0, 1)
    axes.grid(axis="y", color="#eeeeee")
    legend(
        axes, _CURVES, title="area under the curve, the most faithful first", title_fontsize=8,
        ncols=_legend_columns(curves), loc="upper center", bbox_to_anchor=(0.5, -0.14),
    )  # fmt: skip


def _legend_columns(names: Iterable[str]) -> int:
    """Return how many of the methods' names have room beside each other in a legend."""
    return 1 if max(display_width(_line(name)) for name in names) > _NARROW else 2


def _styles() -> list[tuple[str, str]]:
    return [(color, line) for line, color in itertools.product(_LINES, COLORS)]


@caption.register
def _(record: Faithfulness) -> str:
    return (
        "The score while pixels are deleted from the image, or inserted into a blank, those that a "
        "method rates highest first. A line beside that of random orders (grey) explains nothing."
    )


@text.register
def _(record: Faithfulness) -> str:
    down, up = record.deletion_area(), record.insertion_area()
    lines = [
        f"{_line(name):<24}{_mean(down[name]):>18}{_mean(up[name]):>18}"
        for name in sorted(down, key=lambda name: -(up[name] - down[name]).mean())
    ]
    num = len(next(iter(down.values())))
    heading = (
        f"area under the curve of the {record.quantity}: mean of {num} images ± standard error"
    )
    return "\n".join([heading, f"{'method':<24}{'deletion':>18}{'insertion':>18}", *lines])


def _mean(values: NDArray[np.float64]) -> str:
    """Return a mean with its standard error, if there are two numbers or more."""
    if len(values) < 2:
        return f"{values.mean():.3f}"
    return f"{values.mean():.3f} ± {values.std(ddof=1) / len(values) ** 0.5:.3f}"


@draw.register
def _(record: SanityCheck) -> Figure:
    stages = _stages(len(record.layers))
    maps_by_name = dict(list(record.maps.items())[:_METHODS])
    width = max(9.2, _LABEL + _PITCH * len(stages))
    maps_height = 0.55 + _PITCH * len(maps_by_name)
    figure = Figure(figsize=(width, 3.6 + maps_height), layout="constrained")
    halves = figure.subfigures(2, 1, squeeze=False, height_ratios=(3.6, maps_height))
    upper, lower = halves[:, 0]
    left, right = upper.subplots(1, 2, sharey=True)
    _lines(left, record, record.signed, "maps with their signs")
    _lines(right, record, record.absolute, "maps without their signs")
    left.set_ylim(min(-0.25, _least(record.signed), _least(record.absolute)) - 0.05, 1.05)
    left.set_ylabel("rank correlation", fontsize=9)
    lines, names = left.get_legend_handles_labels()
    upper.legend(lines, [shorten(name) for name in names], fontsize=8, frameon=False,
                 loc="outside right center")  # fmt: skip
    axes = lower.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(maps_height, 0))
    axes.set_axis_off()
    pitch = ((width - _LABEL) / len(stages), _PITCH)
    grid = tiles(axes, len(maps_by_name), len(stages), corner=(_LABEL, 0.5), pitch=pitch,
                 side=_PITCH - 0.08)  # fmt: skip
    for tile, stage in zip(grid[0], stages, strict=True):
        tile.over("\n".join(wrap(_breakable_name(_stage(record, stage)), 14, 3)))
    for line, (name, maps) in zip(grid, maps_by_name.items(), strict=True):
        line[0].write("\n".join(wrap(_line(name), 14, 3)), -0.06, 0.5, ha="right",
                      room=_LABEL - 0.1)  # fmt: skip
        for tile, stage in zip(line, stages, strict=True):
            _map(tile, maps[stage])
    return figure


def _breakable_name(name: str) -> str:
    """Return a layer's name that can be broken after its dots."""
    return name.replace(".", ". ")


def _stages(num: int) -> list[int]:
    """Return the stages of which maps are drawn, the first and the last among them."""
    return sorted({round(stage) for stage in np.linspace(0, num, min(_STAGES, num + 1))})


def _stage(record: SanityCheck, stage: int) -> str:
    """Return what a stage has lost."""
    if stage == 0:
        return "as learned"
    return record.layers[stage - 1] or "model"


def _lines(
    axes: Axes, record: SanityCheck, values: Mapping[str, NDArray[np.float64]], title: str
) -> None:
    """Draw the mean correlation by stage."""
    stages = range(len(record.layers) + 1)
    curves = list(values.items())[:_METHODS]
    for (name, correlations), (color, style) in zip(curves, _styles(), strict=False):
        axes.plot(stages, _mean_of_defined(correlations), style, marker="o", markersize=3,
                  color=color, linewidth=1.4, label=_line(name))  # fmt: skip
    axes.axhline(0, color="#dddddd", linewidth=1, zorder=0)
    names = [shorten(_stage(record, stage), 18) for stage in stages]
    each = -(-len(names) // 16)
    axes.set_xticks(stages[::each], names[::each], rotation=90)
    despine(axes, title)
    how = "random from the left up to here" if record.cascading else "random, this one alone"
    axis_labels(axes, how, "")


def _least(values: Mapping[str, NDArray[np.float64]]) -> float:
    """Return the least mean correlation of any stage and method."""
    means = (float(np.fmin.reduce(_mean_of_defined(each))) for each in values.values())
    return min(means, default=0.0)


def _mean_of_defined(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean by stage over images that have a map to compare with (L + 1,), or NaN."""
    defined = values[:, ~np.isnan(values[0])]
    return np.asarray(defined.mean(axis=1) if defined.size else values[:, 0])


@caption.register
def _(record: SanityCheck) -> str:
    how = "layer after layer, from the last," if record.cascading else "one layer at a time"
    return (
        f"How like the original maps are those of a copy of which {how} gets random weights. A "
        "line that stays up does not show what was learned; what is multiplied by the image keeps "
        "its blank pixels. Below: the maps of the first image."
    )


@text.register
def _(record: SanityCheck) -> str:
    names = [_stage(record, stage) for stage in range(len(record.layers) + 1)]
    width = max(map(len, names))
    head = " " * width + "".join(f"{_line(name):>24}" for name in record.signed)
    lines = [
        f"{name:<{width}}"
        + "".join(
            f"{_mean_of_defined(record.signed[method])[stage]:>+16.2f}"
            f"{_mean_of_defined(record.absolute[method])[stage]:>+8.2f}"
            for method in record.signed
        )
        for stage, name in enumerate(names)
    ]
    heading = "rank correlation with the maps as learned, mean of the images: with signs, without"
    return "\n".join([heading, head, *lines])
