"""Layer outputs: grids of feature maps, histograms, and the units that do little."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import NDArray

from visualization.core.pictures import EXCITED, SHADES, hide_axes
from visualization.core.registry import caption, draw, text
from visualization.core.style import BAD, COLORS, DIVERGING, INK, MUTED, axis_labels, despine
from visualization.core.words import share_of, shorten, wrap
from visualization.model.values import (
    DeadUnits,
    LayerActivations,
    LayerHistograms,
    LayerValues,
    UnitStates,
)

_LAYERS = 12  # of a picture of maps
_CHARTS = 24  # of a picture of histograms
_BARS = 64  # layers of a picture of dead units
_UNITS_NAMED = 20  # units of a vector that are each named
_UNITS_LISTED = 10  # numbers of units in a line
_MAP, _WORDS, _GAP = 0.62, 2.1, 0.34  # inches: a map's side, the words beside it, between layers
_HIGHEST = 19.0  # inches of all layers
_TITLE = "units that are never, rarely or always on"
_STATES = {
    "dead": BAD,
    "constant": "#8e5ea2",
    "rarely_active": COLORS[1],
    "always_active": "#b9cbe0",
}


@draw.register
def _(record: LayerActivations) -> Figure:
    if not len(record.images):  # none were asked for
        return draw(record.histograms)
    layers = record.layers[:_LAYERS]
    num = min(len(record.images), max(1, int((_HIGHEST / len(layers) - _GAP) / _MAP)))
    columns = max([4, *(len(layer.channels) for layer in layers if layer.maps.shape[1] > 1)])
    width = _WORDS + 0.1 + _MAP * (columns + 1.2)
    each = _MAP * num + _GAP
    figure = Figure(figsize=(width, each * len(layers) + 0.45))
    for row, layer in enumerate(layers):
        bottom = each * (len(layers) - 1 - row) + 0.05
        top = (bottom + _MAP * num) / figure.get_figheight()
        figure.text(0.08 / width, top, _layer_words(layer), fontsize=7.5, color=INK, va="top",
                    linespacing=1.4, parse_math=False)  # fmt: skip
        images = _place(figure, (_WORDS, bottom, _MAP, _MAP * num))
        _images(images, record.images[:num])
        num_drawn = min(len(layer.channels), columns) if layer.maps.shape[1] > 1 else columns
        maps = _place(figure, (_WORDS + 1.2 * _MAP, bottom, _MAP * num_drawn, _MAP * num))
        _maps(maps, layer, num)
    some = share_of(len(record.images), num, "images shown")
    words = _part(record, len(layers)) + (some and f"; {some}")
    figure.text(0.5, 1 - 0.06 / figure.get_figheight(), words, fontsize=9, color=MUTED,
                ha="center", va="top")  # fmt: skip
    return figure


def _place(figure: Figure, inches: tuple[float, float, float, float]) -> Axes:
    """Return axes at (left, bottom, width, height)."""
    width, height = figure.get_size_inches()
    left, bottom, wide, high = inches
    return figure.add_axes((left / width, bottom / height, wide / width, high / height))


def _images(axes: Axes, images: NDArray[np.floating]) -> None:
    """Draw images (I, C, H, W) one above the other: grey, or in colours if there are three."""
    low, high = float(images.min()), float(images.max())
    scaled = (images - low) / ((high - low) or 1.0)
    stacked = np.moveaxis(np.concatenate(list(scaled), axis=1), 0, -1)
    pixels = stacked if stacked.shape[-1] == 3 else stacked.mean(axis=-1)
    axes.imshow(pixels, cmap=SHADES, vmin=0, vmax=1, aspect="auto")
    hide_axes([axes])


def _maps(axes: Axes, layer: LayerValues, num: int) -> None:
    """Draw the maps of one layer side by side: a row for each image, a column for each channel."""
    maps = layer.maps[:num]  # (I, C, H, W)
    size = float(np.nanmax(np.abs(maps), initial=0.0)) or 1.0
    has_both = bool((layer.low < 0).any())
    colors = matplotlib.colormaps[DIVERGING if has_both else EXCITED].with_extremes(bad="white")
    wide, gap = maps.shape[3], max(1, round(0.07 * maps.shape[3]))
    if maps.shape[1] == 1:
        gap = 0
    pixels = mosaic(maps, gap if maps.shape[2] > 1 else 0, gap)
    axes.imshow(
        pixels, cmap=colors, vmin=-size if has_both else 0.0, vmax=size, aspect="auto",
        interpolation="nearest",
    )  # fmt: skip
    axes.spines[:].set_visible(False)
    axes.set_yticks([])
    axes.tick_params(labelsize=6.5, length=0, pad=1, labeltop=True, labelbottom=False, top=False)
    if maps.shape[1] > 1:
        centres = (np.arange(maps.shape[1]) * (wide + gap)) + (wide - 1) / 2
        axes.set_xticks(centres, [str(channel) for channel in layer.channels])
    else:
        labelled = range(wide) if wide <= _UNITS_NAMED else (0, wide - 1)
        axes.set_xticks(list(labelled), [str(unit) for unit in labelled])


def mosaic(maps: NDArray[np.floating], down: int, across: int) -> NDArray[np.floating]:
    """Return maps (I, C, H, W) as one array with gaps of NaN between rows and columns of maps."""
    sides = ((0, 0), (0, 0), (0, down), (0, across))
    padded = np.pad(maps.astype(np.float64), sides, constant_values=np.nan)
    joined = padded.transpose(0, 2, 1, 3).reshape(padded.shape[0] * padded.shape[2], -1)
    return joined[: joined.shape[0] - down or None, : joined.shape[1] - across or None]


def _layer_words(layer: LayerValues) -> str:
    """Return the words beside a layer's maps."""
    num, shape = len(layer.low), " × ".join(map(str, layer.shape)) or "1"
    share = f"{len(layer.channels)} of {num}" if len(layer.channels) < num else f"all {num}"
    lines = [
        _short(layer.name), f"{layer.kind}, {shape}", f"{share} units shown",
        f"{layer.zero_share:.0%} zeros, {len(layer.dead)} units dead",
    ]  # fmt: skip
    return "\n".join(lines)


def _short(name: str, most: int = 30) -> str:
    """Return a layer's name, a long one without its middle."""
    return shorten(name, most) if name else "the model itself"


def _over_images(num: int) -> str:
    return f"over {num:,} image{'s' * (num != 1)}"


def _part(record: LayerActivations | LayerHistograms, num: int) -> str:
    """Return which layers a picture shows, and of how many images."""
    of = _over_images(record.num_images)
    if num == record.num_all:
        return f"all {num} layers {of}"
    first, last = record.first + 1, record.first + num
    return f"layers {first} to {last} of {record.num_all} {of}; pages() has the others"


@caption.register
def _(record: LayerActivations) -> str:
    return (
        "What each layer outputs for the images at the left, by channel, those that vary most. "
        "Black is 0 and bright the most of the layer; with values of both signs white is 0, red "
        "above and blue below."
    )


@text.register
def _(record: LayerActivations) -> str:
    return text(record.histograms)


@draw.register
def _(record: LayerHistograms) -> Figure:
    layers = record.layers[:_CHARTS]
    columns = min(4, len(layers))
    rows = -(-len(layers) // columns)
    width, height = max(4.2, 2.9 * columns + 0.3), 1.75 * rows + 0.35
    figure = Figure(figsize=(width, height))  # laid out by hand: in a third of the time
    panels = list(
        figure.subplots(rows, columns, squeeze=False, gridspec_kw={
            "left": 0.85 / width, "right": 1 - 0.1 / width, "wspace": 0.22,
            "top": 1 - 0.75 / height, "bottom": 0.25 / height, "hspace": 0.6,
        }).flat
    )  # fmt: skip
    for axes, layer in zip(panels, layers, strict=False):
        _histogram(axes, layer)
    hide_axes(panels[len(layers) :])
    of = "\n".join(wrap("share of the values in a bin, zeros left out", 12 * height))
    figure.text(0.24 / width, 0.5, of, fontsize=9, color=INK, rotation=90, va="center",
                ha="center", rotation_mode="anchor")  # fmt: skip
    figure.text(0.5, 1 - 0.06 / height, _part(record, len(layers)), fontsize=9, color=MUTED,
                ha="center", va="top")  # fmt: skip
    return figure


def _histogram(axes: Axes, layer: LayerValues) -> None:
    """Draw how a layer's values other than 0 are distributed."""
    counts = layer.counts.copy()
    at_zero = np.searchsorted(layer.edges, 0.0, side="right") - 1
    if layer.zero_share:
        counts[at_zero] -= round(layer.zero_share * layer.num_values)
    shares = counts / max(layer.num_values, 1)
    if shares.any():
        floor = 0.4 * float(shares[shares > 0].min())
        axes.set_yscale("log")
        axes.stairs(np.maximum(shares, floor), layer.edges, fill=True, color=COLORS[0],
                    baseline=floor)  # fmt: skip
        axes.set_ylim(bottom=floor)
        axes.yaxis.set_major_locator(LogLocator(numticks=5))
        axes.yaxis.set_minor_locator(NullLocator())  # they would take most of the time
    axes.axvline(0, color=INK, linewidth=0.6)
    axes.set_title(f"{_short(layer.name, 26)}\n{layer.kind}, {layer.zero_share:.0%} zeros",
                   fontsize=7.5, color=INK, loc="left")  # fmt: skip
    axes.tick_params(labelsize=6.5)
    axes.spines[["top", "right"]].set_visible(False)


@caption.register
def _(record: LayerHistograms) -> str:
    return "How each layer's values are distributed over the data set, on a logarithmic scale."


@text.register
def _(record: LayerHistograms) -> str:
    wide = max([5, *(len(_short(layer.name)) for layer in record.layers)])
    head = (
        f"{'layer':<{wide}}  {'kind':<18}{'output':<16}{'zeros':>7}{'mean':>10}{'deviation':>11}"
        f"{'least':>10}{'largest':>10}{'dead':>6}"
    )
    rows = [
        f"{_short(layer.name):<{wide}}  {layer.kind[:17]:<18}{_shape(layer.shape):<16}"
        f"{layer.zero_share:>7.1%}{layer.mean:>10.3g}{layer.deviation:>11.3g}"
        f"{layer.low.min():>10.3g}{layer.high.max():>10.3g}{len(layer.dead):>6}"
        for layer in record.layers
    ]
    return "\n".join([_over_images(record.num_images), head, *rows])


def _shape(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "1"


@draw.register
def _(record: DeadUnits) -> Figure:
    layers = record.layers[:_BARS]
    figure = Figure(figsize=(8.0, 1.4 + 0.21 * len(layers)), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(layers))
    names = _words(record.share)
    for state, color in _STATES.items():
        shares = [100 * len(getattr(row, state)) / row.num_units for row in layers]
        axes.barh(range(len(layers)), shares, left=left, color=color, height=0.7,
                  label=names[state])  # fmt: skip
        left += shares
    for row, layer in enumerate(layers):
        if len(layer.dead):
            axes.text(left[row] + 0.8, row, f"{len(layer.dead)} of {layer.num_units} dead",
                      fontsize=7, color=BAD, va="center")  # fmt: skip
    axes.set_yticks(
        range(len(layers)), [f"{_short(row.name)} ({row.kind})" for row in layers], fontsize=7.5,
        parse_math=False,
    )  # fmt: skip
    axes.set(xlim=(0, 118), ylim=(len(layers) - 0.4, -0.6), xticks=range(0, 101, 20))
    left_out = len(record.layers) - len(layers)
    more = f"; {left_out} more layers are not drawn" if left_out else ""
    despine(axes, f"{_TITLE} {_over_images(record.num_images)}{more}")
    axis_labels(axes, "share of the layer's units, %", "")
    axes.grid(axis="x", color="#eeeeee")
    axes.set_axisbelow(True)
    figure.legend(fontsize=7.5, frameon=False, ncols=2, loc="outside lower right")
    return figure


def _words(share: float) -> dict[str, str]:
    """Return what each state of a unit is called."""
    return {
        "dead": "never above 0",
        "constant": "one value throughout",
        "rarely_active": f"above 0 on fewer than {100 * share:g} % of the images",
        "always_active": "above 0 everywhere",
    }


@caption.register
def _(record: DeadUnits) -> str:
    return (
        "Of each layer, the share of units that tell little apart. Where a rectifier follows, a "
        "unit that is never above 0 has neither effect nor gradient, and one that is above 0 "
        "everywhere is linear."
    )


@text.register
def _(record: DeadUnits) -> str:
    lines = [f"{_TITLE} {_over_images(record.num_images)}"]
    names = _words(record.share)
    for row in record.layers:
        units_by_state = {state: getattr(row, state) for state in _STATES}
        states = [
            f"  {names[state]}: {_numbers(units)}"
            for state, units in units_by_state.items() if len(units)
        ]  # fmt: skip
        if states:
            lines += [f"{_short(row.name)} ({row.kind}, {row.num_units} units)", *states]
    quiet_layers = sum(not _has_affected(row) for row in record.layers)
    return "\n".join([*lines, f"{quiet_layers} of {len(record.layers)} layers have no such units"])


def _has_affected(row: UnitStates) -> bool:
    return any(len(getattr(row, state)) for state in _STATES)


def _numbers(units: NDArray[np.int64]) -> str:
    listed = ", ".join(map(str, units[:_UNITS_LISTED]))
    return f"{listed}, … ({len(units)} in all)" if len(units) > _UNITS_LISTED else listed
