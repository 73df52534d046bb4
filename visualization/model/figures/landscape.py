"""The loss over a model's parameters: curves along a line, contours on a plane."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from visualization.core.registry import caption, draw, text
from visualization.core.style import BAD, COLORS, INK, MUTED, axis_labels, despine
from visualization.core.words import shorten
from visualization.model.landscape import LandscapeLine, LandscapePlane

_QUANTITIES_SHOWN = 3  # quantities beside each other
_LEVELS = 18
_LOG_RATIO = 20.0  # ratio of the largest to the least from which on a scale is logarithmic


@draw.register
def _(record: LandscapeLine) -> Figure:
    values_by_name = list(record.values.items())[:_QUANTITIES_SHOWN]
    figure = Figure(figsize=(4.4 * len(values_by_name) + 0.4, 3.4), layout="constrained")
    for axes, (name, values) in zip(
        figure.subplots(1, len(values_by_name), squeeze=False)[0], values_by_name, strict=True
    ):
        axes.plot(record.alphas, values, color=COLORS[0], linewidth=1.5, marker="o", markersize=2.5)
        for alpha, end, color in zip((0.0, 1.0), record.names, (COLORS[2], COLORS[1]), strict=True):
            axes.axvline(alpha, color=color, linewidth=1, linestyle="--")
            row = record.alphas == alpha
            axes.plot(record.alphas[row], values[row], "o", color=color, markersize=6,
                      label=shorten(end))  # fmt: skip
        if _is_wide(values):
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        despine(axes, name)
        axis_labels(axes, "α: the parameters are (1 − α)·a + α·b", "")
        axes.grid(color="#eeeeee")
        axes.legend(fontsize=8, frameon=False)
    figure.suptitle(_summary(record), fontsize=9, color=MUTED)
    return figure


def _summary(record: LandscapeLine) -> str:
    a, b = (shorten(name) for name in record.names)
    description = (
        f"a: {a}, b: {b}; barrier {record.barrier:.3g} above the straight line between their losses"
    )
    return description + _statistics(record)


@text.register
def _(record: LandscapeLine) -> str:
    names = list(record.values)
    rows = [
        f"{alpha:>8.3f}" + "".join(f"{record.values[name][row]:>14.5g}" for name in names)
        for row, alpha in enumerate(record.alphas)
    ]
    head = f"{'alpha':>8}" + "".join(f"{name:>14}" for name in names)
    return "\n".join([_summary(record), head, *rows])


@caption.register
def _(record: LandscapeLine) -> str:
    return (
        "The loss while the parameters go in a straight line from one state to the other and on: "
        "a hump between the two means that they lie in different valleys."
    )


@draw.register
def _(record: LandscapePlane) -> Figure:
    values_by_name = list(record.values.items())[:_QUANTITIES_SHOWN]
    figure = Figure(figsize=(min(5.2 * len(values_by_name), 14.0), 5.0), layout="constrained")
    for axes, (name, values) in zip(
        figure.subplots(1, len(values_by_name), squeeze=False)[0], values_by_name, strict=True
    ):
        _contours(figure, axes, record, values)
        _marks(axes, record)
        despine(axes, f"{name}; of the model itself {record.center[name]:.4g}")
        axis_labels(axes, "first direction", "second direction")
        axes.set_aspect("equal")
    figure.suptitle(_words(record), fontsize=9, color=MUTED)
    figure.axes[0].legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.13), ncols=3,
                          frameon=False)  # fmt: skip
    return figure


def _contours(
    figure: Figure, axes: Axes, record: LandscapePlane, values: NDArray[np.float64]
) -> None:
    """Fill the plane between lines of equal values."""
    finite = np.ma.masked_invalid(values)
    low, high = float(finite.min()), float(finite.max())
    high = high if high > low else low + 1.0
    wide = _is_wide(values)
    levels = np.geomspace(low, high, _LEVELS) if wide else np.linspace(low, high, _LEVELS)
    norm = LogNorm(low, high) if wide else Normalize(low, high)
    filled = axes.contourf(record.x, record.y, finite, levels, cmap="viridis", norm=norm)
    axes.contour(record.x, record.y, finite, levels, colors="white", linewidths=0.4, alpha=0.6)
    ticks = LogLocator(subs=(1, 2, 5)) if wide else MaxNLocator(8)
    bar = figure.colorbar(filled, ax=axes, fraction=0.046, pad=0.02, ticks=ticks, format="%.3g")
    bar.ax.tick_params(labelsize=7)
    bar.ax.minorticks_off()


def _marks(axes: Axes, record: LandscapePlane) -> None:
    """Mark the model, the least loss of the plane, and the way of checkpoints."""
    style: dict[str, Any] = {
        "linestyle": "none", "markeredgecolor": "white", "markeredgewidth": 0.8, "clip_on": False,
    }  # fmt: skip
    if record.trajectory is not None:
        x, y = record.trajectory.T
        axes.plot(x, y, color="white", linewidth=1.0)
        axes.plot(x, y, marker="o", color=COLORS[1], markersize=4.5, label="checkpoints", **style)
        dark = [withStroke(linewidth=2, foreground=INK)]  # to be read on any of the colours
        axes.annotate("first", (x[0], y[0]), (6, -11), textcoords="offset points", fontsize=8,
                      color="white", path_effects=dark)  # fmt: skip
    axes.plot(0, 0, marker="o", color=INK, markersize=7, label="the model", **style)
    axes.plot(*record.minimum, marker="*", color=BAD, markersize=13, label="least loss", **style)


def _is_wide(values: NDArray[np.float64]) -> bool:
    """Tell whether values, all above 0, spread so far that a logarithmic scale shows more."""
    finite = values[np.isfinite(values)]
    return bool(finite.size and finite.min() > 0 and finite.max() > _LOG_RATIO * finite.min())


def _words(record: LandscapePlane) -> str:
    description = record.directions
    if record.residual is not None:
        description += (
            f"; of the first checkpoint's distance {record.residual[0]:.0%} is off the plane"
        )
    return description + _statistics(record)


def _statistics(record: LandscapeLine | LandscapePlane) -> str:
    return f"; BatchNorm's statistics: {record.statistics}" if record.statistics else ""


@text.register
def _(record: LandscapePlane) -> str:
    x, y = record.minimum
    lines = [f"{_words(record)}; least loss {np.nanmin(record.loss):.5g} at ({x:.3g}, {y:.3g})"]
    lines += [_range(name, values, record.center) for name, values in record.values.items()]
    if record.trajectory is not None and record.residual is not None:
        lines.append(f"{'checkpoint':>10}{'x':>10}{'y':>10}  off the plane")
        lines += [
            f"{row:>10}{point[0]:>10.4g}{point[1]:>10.4g}{share:>15.0%}"
            for row, (point, share) in enumerate(
                zip(record.trajectory, record.residual, strict=True)
            )
        ]
    return "\n".join(lines)


def _range(name: str, values: NDArray[np.float64], center: Mapping[str, float]) -> str:
    low, high = np.nanmin(values), np.nanmax(values)
    return f"{name}: {low:.5g} to {high:.5g}; of the model itself {center[name]:.5g}"


@caption.register
def _(record: LandscapePlane) -> str:
    return (
        "The loss on a plane through the model, which is at (0, 0): close contours are steep, and "
        "a wide basin around the model is flat."
    )
