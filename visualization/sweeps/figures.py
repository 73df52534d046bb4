"""Figures, text and captions of the trials of a sweep."""

import math
import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from visualization.core.registry import caption, draw, text
from visualization.core.style import BAD, COLORS, INK, MUTED, axis_labels, despine
from visualization.core.words import share_of, shorten
from visualization.sweeps.sample_complexity import SampleComplexity
from visualization.sweeps.trials import ParallelCoordinates, SettingAxis, Slices, TrialScores

_AXES = 7  # of parallel coordinates
_PANELS = 9  # of slices
_LABELS = 6  # places of an axis that are named
_LETTERS = 16  # of a label
_MARKERS = "osD^vP*X"  # beside colours


@draw.register
def _(record: TrialScores) -> Figure:
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.subplots()
    numbers = np.arange(1.0, len(record.scores) + 1)
    axes.step(numbers, record.best_so_far, where="post", color=COLORS[1], label="best so far")
    _draw_scores(axes, numbers, record)
    despine(axes)
    axis_labels(axes, "trial", record.score_name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color="#eeeeee")
    axes.legend(fontsize=8, frameon=False, loc="best")
    return figure


@draw.register
def _(record: Slices) -> Figure:
    shown = record.axes[:_PANELS]
    columns = min(3, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(max(3.1 * columns, 4.0), 2.6 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes, axis in zip(panels.flat, shown, strict=False):
        _draw_scores(axes, axis.positions, record.trials)
        despine(axes)
        axis_labels(axes, shorten(axis.name, 30), "")
        axes.grid(axis="y", color="#eeeeee")
        if axis.is_log:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=_subs(axis)))
            axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        if axis.labels:
            places = _few_places(len(axis.labels))
            axes.set_xticks(places, [shorten(axis.labels[i], _LETTERS) for i in places],
                            parse_math=False)  # fmt: skip
            axes.set_xlim(-0.5, len(axis.labels) - 0.5)
    for axes in panels.flat[len(shown) :]:
        axes.set_axis_off()
    figure.supylabel(record.trials.score_name, fontsize=9)
    if not record.trials.is_done.all():
        panels[0, 0].legend(fontsize=8, frameon=False, loc="best")
    if more := share_of(len(record.axes), len(shown), "settings"):
        figure.suptitle(more, fontsize=9, color=MUTED)
    return figure


@draw.register
def _(record: ParallelCoordinates) -> Figure:
    shown = record.axes[: _AXES - 1]
    trials = record.trials
    score = SettingAxis(name=trials.score_name, positions=trials.scores)
    lines = np.stack([_heights(axis) for axis in (*shown, score)], axis=1)  # (N, axes)
    figure = Figure(figsize=(max(5.0, 1.5 * (len(shown) + 2)), 3.6), layout="constrained")
    axes = figure.subplots()
    colors = _score_colors(trials)
    order = np.argsort(trials.scores if trials.is_higher_better else -trials.scores)
    segments = [np.column_stack([np.arange(lines.shape[1]), lines[i]]) for i in order]
    drawn = [segment[np.isfinite(segment[:, 1])] for segment in segments]
    axes.add_collection(LineCollection(drawn, colors=colors.to_rgba(trials.scores[order]),
                                       linewidths=1.2, alpha=0.8))  # fmt: skip
    best = drawn[list(order).index(trials.best)]
    axes.plot(*best.T, color=COLORS[1], linewidth=2.6, label="best")
    for place, axis in enumerate((*shown, score)):
        _draw_axis(axes, place, axis)
    axes.set(xlim=(-0.6, len(shown) + 0.6), ylim=(-0.08, 1.2))
    axes.set_axis_off()
    axes.legend(fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0, -0.1))
    if more := share_of(len(record.axes), len(shown), "settings"):
        figure.suptitle(more, fontsize=9, color=MUTED)
    return figure


@draw.register
def _(record: SampleComplexity) -> Figure:
    shown = dict(list(record.panels.items())[:_PANELS])
    columns = min(2, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(3.6 * columns + 0.4, 2.7 * rows + 0.5), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    handles: dict[str, Any] = {}
    for axes, (panel, curves) in zip(panels.flat, shown.items(), strict=False):
        for model, points in curves.items():
            number = record.models.index(model)
            color, marker = COLORS[number % len(COLORS)], _MARKERS[number % len(_MARKERS)]
            x = [point.num_samples for point in points]
            scores = np.array([(p.test, p.low, p.high, p.train) for p in points], float).T
            reach = np.nan_to_num(np.abs(scores[1:3] - scores[0]))
            handles[model] = axes.errorbar(
                x, scores[0], reach, marker=marker, color=color, markersize=4, linewidth=1.4,
                elinewidth=0.9,
            )  # fmt: skip
            axes.plot(x, scores[3], color=color, linewidth=0.9, linestyle=":")
        axes.set_xscale("log")
        sizes = sorted({point.num_samples for points in curves.values() for point in points})
        places = [sizes[place] for place in _few_places(len(sizes))]
        axes.set_xticks(places, [f"{size:,}" for size in places])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_title(shorten(panel, 40), fontsize=9, parse_math=False)
        despine(axes)
        axis_labels(axes, "training samples", shorten(record.score_name, 30))
        axes.grid(axis="y", color="#eeeeee")
    if panels[0, 0].get_ylim()[0] > 0:  # scores such as accuracy, of all panels
        panels[0, 0].set_ylim(bottom=0)
    for axes in panels.flat[len(shown) :]:
        axes.set_axis_off()
    names = [shorten(model, 30) for model in handles]
    beside = int(100 * figure.get_figwidth() / (7 * max(map(len, names)) + 45))
    figure.legend(list(handles.values()), names, loc="outside lower center", fontsize=8,
                  frameon=False, ncols=max(1, min(beside, len(names))))  # fmt: skip
    if more := share_of(len(record.panels), len(shown), "panels"):
        figure.suptitle(more, fontsize=9, color=MUTED)
    return figure


def _draw_axis(axes: Axes, place: int, axis: SettingAxis) -> None:
    """Draw one vertical axis with its name above and its labels at the left."""
    axes.vlines(place, 0, 1, color=INK, linewidth=0.8)
    name = "\n".join(textwrap.wrap(shorten(axis.name, 34), 17))
    axes.text(place, 1.06, name, fontsize=9, ha="center", va="bottom", color=INK,
              parse_math=False)  # fmt: skip
    for height, label in _ticks(axis):
        axes.text(
            place - 0.04, height, shorten(label, _LETTERS), fontsize=8, ha="right", va="center",
            color=MUTED, parse_math=False, bbox={"facecolor": "white", "edgecolor": "none",
                                                 "alpha": 0.75, "pad": 0.5},
        )  # fmt: skip


def _heights(axis: SettingAxis) -> NDArray[np.float64]:
    """Return where values are on an axis from 0 to 1."""
    low, high = _ends(axis)
    numbers = np.log(axis.positions) if axis.is_log else axis.positions
    if low == high:
        return np.where(np.isnan(numbers), np.nan, 0.5)
    heights: NDArray[np.float64] = (numbers - low) / (high - low)
    return heights


def _ends(axis: SettingAxis) -> tuple[float, float]:
    numbers = np.log(axis.positions) if axis.is_log else axis.positions
    if axis.labels:
        return 0.0, float(len(axis.labels) - 1)
    return float(np.nanmin(numbers)), float(np.nanmax(numbers))


def _ticks(axis: SettingAxis) -> list[tuple[float, str]]:
    low, high = _ends(axis)
    if axis.labels:
        width = max(high, 1.0)
        return [
            (place / width if high else 0.5, axis.labels[place])
            for place in _few_places(len(axis.labels))
        ]
    if low == high:
        return [(0.5, f"{math.exp(low) if axis.is_log else low:.3g}")]
    heights = np.linspace(0, 1, 4)
    numbers = low + heights * (high - low)
    shown = np.exp(numbers) if axis.is_log else numbers
    given = axis.positions[np.isfinite(axis.positions)]
    if (given == np.round(given)).all():
        shown = np.unique(np.round(shown))
        heights = ((np.log(shown) if axis.is_log else shown) - low) / (high - low)
    return [(float(h), f"{number:.3g}") for h, number in zip(heights, shown, strict=True)]


def _subs(axis: SettingAxis) -> tuple[float, ...]:
    """Return which multiples of powers of ten are named: more where there are few decades."""
    low, high = _ends(axis)
    return (1.0, 3.0) if high - low < math.log(1e3) else (1.0,)


def _few_places(num: int) -> list[int]:
    return sorted({round(place) for place in np.linspace(0, num - 1, min(num, _LABELS))})


def _score_colors(trials: TrialScores) -> ScalarMappable:
    low, high = float(trials.scores.min()), float(trials.scores.max())
    norm = Normalize(low, high if high > low else low + 1)
    return ScalarMappable(norm, "viridis_r" if trials.is_higher_better else "viridis")


def _draw_scores(axes: Axes, x: NDArray[np.float64], record: TrialScores) -> None:
    """Draw scores with their intervals; trials that ended early in another colour.

    The axis shows all scores; wide intervals of few seeds are cut.
    """
    done = record.is_done
    lowest, highest = float(record.scores.min()), float(record.scores.max())
    margin = 0.15 * ((highest - lowest) or abs(highest) or 1.0)
    axes.set_ylim(lowest - margin, highest + margin)
    for chosen, color, marker, label in (
        (done, COLORS[0], "o", "done"), (~done, BAD, "x", "pruned or diverged"),
    ):  # fmt: skip
        if not chosen.any():
            continue
        scores = record.scores[chosen]
        reach = np.stack([scores - record.low[chosen], record.high[chosen] - scores])
        axes.errorbar(
            x[chosen], scores, np.where(np.isfinite(reach), reach, 0), fmt=marker, color=color,
            markersize=4, linewidth=0, elinewidth=0.9, label=label,
        )  # fmt: skip


@text.register
def _(record: TrialScores) -> str:
    best = record.best
    return (
        f"{len(record.scores)} trials; best {record.score_name}: {record.scores[best]:.4g}, "
        f"trial {best + 1}"
    )


@caption.register
def _(record: TrialScores) -> str:
    return (
        f"Each dot is a trial, in the order of their beginning, and its score, of which "
        f"{_better(record)} is better; bars are 95 % intervals over its seeds, cut at the edge. "
        "The line is the best score of the done trials so far."
    )


@caption.register
def _(record: Slices) -> str:
    return (
        f"Each dot is a trial: its score, of which {_better(record.trials)} is better, against "
        "one setting, whatever the others are; a trial without the setting is left out. Bars are "
        "95 % intervals over its seeds, cut at the edge."
    )


@caption.register
def _(record: ParallelCoordinates) -> str:
    return (
        f"Each line is a trial: its settings, and at the right its score, of which "
        f"{_better(record.trials)} is better. Darker lines have better scores; a trial without a "
        "setting skips its axis."
    )


def _better(trials: TrialScores) -> str:
    """Return which scores are better."""
    return "higher" if trials.is_higher_better else "lower"


@text.register
def _(record: SampleComplexity) -> str:
    lines = []
    for panel, curves in record.panels.items():
        for model, points in curves.items():
            scores = ", ".join(f"{p.num_samples:,}: {p.test:.4g}" for p in points)
            lines.append(f"{panel}, {model}: {scores}")
    return "\n".join(lines)


@caption.register
def _(_: SampleComplexity) -> str:
    return (
        "Each line is a model: its score on unseen samples against the number of samples that it "
        "learned from; bars are 95 % intervals over seeds. Dotted: the score on the training "
        "samples."
    )
