"""Reliability diagrams: shares right over confidences, before and after temperature scaling."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from visualization.calibration.reliability import Reliability, ReliabilityDiagram
from visualization.core.registry import caption, draw, text
from visualization.core.style import BAD, COLORS, MUTED, axis_labels, despine


@draw.register
def _(record: ReliabilityDiagram) -> Figure:
    figure = Figure(figsize=(9, 5), layout="constrained")
    grid = figure.subplots(2, 2, height_ratios=(3, 1), sharex=True, squeeze=False)
    panels = zip(("before", "after"), (record.before, record.after), record.temperatures,
                 strict=True)  # fmt: skip
    for column, (when, found, temperature) in enumerate(panels):
        title = f"{when}: temperature {temperature:.2f}, ECE {found.ece:.3f}"
        _draw_shares(grid[0, column], found, title)
        _draw_counts(grid[1, column], found, record.name)
    figure.suptitle(
        f"{record.name}; the temperature was fitted on {record.fitted_on}", fontsize=9, color=MUTED
    )
    return figure


def _draw_shares(axes: Axes, found: Reliability, title: str) -> None:
    despine(axes, title)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--", label="calibrated")
    seen = found.counts > 0
    x, y = found.confidence[seen], found.accuracy[seen]
    reach = np.maximum([y - found.low[seen], found.high[seen] - y], 0)
    axes.vlines(x, np.minimum(x, y), np.maximum(x, y), color=BAD, linewidth=4, alpha=0.35)
    axes.errorbar(
        x, y, reach, color=COLORS[0], fmt="o", markersize=4, linewidth=1, capsize=2,
        label="share right, 95 %",
    )  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    axes.set_ylabel("share right", fontsize=9)


def _draw_counts(axes: Axes, found: Reliability, name: str) -> None:
    despine(axes)
    axes.bar(found.edges[:-1], found.counts, np.diff(found.edges), align="edge", color=COLORS[0],
             alpha=0.6, edgecolor="white")  # fmt: skip
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(0, None)
    axes_name = f"confidence; mean {found.mean_confidence:.3f}, right {found.mean_accuracy:.3f}"
    axis_labels(axes, axes_name, name)


@text.register
def _(record: ReliabilityDiagram) -> str:
    lines = [f"{record.name}; temperature fitted on {record.fitted_on}"]
    panels = zip((record.before, record.after), record.temperatures, strict=True)
    for found, temperature in panels:
        lines += [
            "",
            f"temperature {temperature:.3f}: ECE {found.ece:.4f} (calibrated: up to "
            f"{found.chance:.4f}), confidence {found.mean_confidence:.4f}, right "
            f"{found.mean_accuracy:.4f}",
            f"{'confidence':<14}{'number':>8}{'mean':>8}{'right':>8}   95 %",
        ]
        for at in np.flatnonzero(found.counts):
            low, high = found.edges[at : at + 2]
            lines.append(
                f"{f'{low:.1f} to {high:.1f}':<14}{found.counts[at]:>8,}"
                f"{found.confidence[at]:>8.3f}{found.accuracy[at]:>8.3f}   "
                f"{found.low[at]:.3f} to {found.high[at]:.3f}"
            )
    return "\n".join(lines)


@caption.register
def _(record: ReliabilityDiagram) -> str:
    chance = record.after.chance
    return (
        f"How often {record.name} are right that the agent is so sure of, with 95 % intervals: "
        "calibrated ones are on the broken line, and red is the distance from it. ECE is the mean "
        f"distance; calibrated confidences have up to {chance:.3f} by chance (95 %)."
    )
