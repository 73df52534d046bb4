"""The doctor's summary as a table, and each finding with its evidence."""

import itertools
import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from visualization.core.registry import caption, draw, text
from visualization.core.style import BAD, COLORS, GOOD, INK, MUTED, axis_labels, despine
from visualization.core.words import legend, shorten, wrap
from visualization.diagnosis import Diagnosis, Evidence, Finding, Panel, RateTest
from visualization.diagnosis.findings import Verdict
from visualization.diagnosis.steps import rate_panel

_COLORS: dict[Verdict, str] = {
    "fine": GOOD, "problem": BAD, "symptom": COLORS[1], "unknown": MUTED,
}  # fmt: skip
_MARKS: dict[Verdict, str] = {"fine": "✓", "problem": "✗", "symptom": "↑", "unknown": "?"}
_LINE = 0.21  # inches
_BESIDE = 3  # panels of a row
_WIDE = 74  # characters of the last column
_TITLE = 112  # characters of a headline
_WIDTHS = (0.012, 0.40, 0.495)  # where mark, verdict and figure begin


def _measurement_words(finding: Finding) -> str:
    """Return the words of the last column: what explains a symptom comes first."""
    figure = finding.answer.measurement
    return f"because: {finding.cause}; {figure}" if finding.cause else figure


@draw.register
def _(record: Diagnosis) -> Figure:
    rows = [(finding, wrap(_measurement_words(finding), _WIDE, 6)) for finding in record.findings]
    title = [line for one in _headlines(record) for line in wrap(one, _TITLE, 3)]
    num_lines = 1.2 * len(title) + sum(max(1, len(lines)) + 0.35 for _, lines in rows)
    height = 0.5 + _LINE * num_lines
    figure = Figure(figsize=(11.5, height))
    y = 1 - 0.25 / height
    for line in title:
        figure.text(
            _WIDTHS[0], y, line, fontsize=11, weight="bold", color=INK, va="center",
            parse_math=False,
        )  # fmt: skip
        y -= 1.2 * _LINE / height
    y -= 0.15 / height
    for finding, lines in rows:
        color = _COLORS[finding.verdict]
        weight = "bold" if finding.verdict == "problem" else "normal"
        style: dict[str, Any] = {"fontsize": 9, "va": "center"}
        figure.text(_WIDTHS[0], y, shorten(finding.question, 56), color=INK, weight=weight, **style)
        verdict = finding.verdict
        figure.text(_WIDTHS[1], y, verdict, color=color, weight=weight, **style)
        for line in lines:
            figure.text(_WIDTHS[2], y, line, color=INK, **style)
            y -= _LINE / height
        y -= 0.35 * _LINE / height
    return figure


def _headlines(record: Diagnosis) -> list[str]:
    return [f"{record.title}: {record.headline}", *filter(None, [record.shortened])]


@draw.register
def _(record: Finding) -> Figure:
    if record.answer.evidence is not None:
        return draw(record.answer.evidence)
    lines = wrap(record.explanation, 80)
    figure = Figure(figsize=(6.4, 0.5 + 0.16 * len(lines)))
    words = "\n".join(lines)
    figure.text(0.02, 0.5, words, fontsize=9, color=INK, va="center", parse_math=False)
    return figure


@draw.register
def _(record: Evidence) -> Figure:
    columns = min(_BESIDE, len(record.panels))
    rows = -(-len(record.panels) // columns)
    figure = Figure(figsize=(4.6 * columns, 2.9 * rows), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, panel in zip(grid, record.panels, strict=False):
        _draw_panel(axes, panel)
    for axes in grid[len(record.panels) :]:
        axes.set_axis_off()
    return figure


@draw.register
def _(record: RateTest) -> Figure:
    return draw(Evidence((rate_panel(record),)))


def _draw_panel(axes: Axes, panel: Panel) -> None:
    colors = itertools.cycle(COLORS)
    for color, (label, (x, y)) in zip(colors, panel.lines.items(), strict=False):
        marker = "o" if len(x) <= 12 else ""
        axes.plot(x, y, color=color, label=label, linewidth=1.5, marker=marker, markersize=3)
    for label, level in panel.levels.items():
        axes.axhline(level, color=MUTED, linewidth=1, linestyle="--", label=label)
    styles = itertools.cycle((":", "-."))
    for style, (label, x_marked) in zip(styles, panel.marks.items(), strict=False):
        axes.axvline(x_marked, color=INK, linewidth=1.2, linestyle=style, label=label)
    despine(axes, panel.title)
    axis_labels(axes, *panel.names)
    if "x" in panel.logarithmic:
        axes.set_xscale("log")
    _scale(axes, panel)
    axes.grid(axis="y", color="#eeeeee")
    if len(panel.lines) + len(panel.levels) + len(panel.marks) > 1:
        legend(axes)


def _scale(axes: Axes, panel: Panel) -> None:
    """Make y logarithmic if it spans a factor of 10; else begin it at 0, so that noise is small."""
    values = [float(y) for _, line in panel.lines.values() for y in line] + [*panel.levels.values()]
    finite = [value for value in values if math.isfinite(value)]
    lowest, highest = min(finite, default=0.0), max(finite, default=1.0)
    if "y" in panel.logarithmic and lowest > 0 and highest > 10 * lowest:
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
    elif lowest >= 0:
        axes.set_ylim(0, 1.05 * max(highest, panel.top or 0.0) or 1.0)


@text.register
def _(record: Diagnosis) -> str:
    width = max(len(finding.question) for finding in record.findings)
    lines = [
        f"{_MARKS[finding.verdict]} {finding.question:<{width}}  {finding.verdict:<7}  "
        f"{_measurement_words(finding)}"
        for finding in record.findings
    ]
    advice_lines = [
        f"{finding.name}: try {'; '.join(finding.advice)}"
        for finding in record.problems if finding.advice
    ]  # fmt: skip
    return "\n".join(
        [*_headlines(record), "", *lines, *([""] if advice_lines else []), *advice_lines]
    )


@text.register
def _(record: Finding) -> str:
    advice = [f"  try {one}" for one in record.advice]
    return "\n".join([f"{record.verdict}: {record.explanation}", *advice])


@text.register
def _(record: RateTest) -> str:
    suggestion = "none: the loss falls at no rate"
    if record.suggestion is not None:
        suggestion = f"--set learning_rate={record.suggestion:.2g}"
    ended = "never" if record.diverged_at is None else f"at {record.diverged_at:.2g}"
    return (
        f"suggested: {suggestion}\nlowest loss at {record.best:.2g}; "
        f"four times its first level: {ended}"
    )


@caption.register
def _(record: Diagnosis) -> str:
    return (
        "One line for each question. A symptom follows from another finding and is counted as no "
        "second problem."
    )


@caption.register
def _(record: Finding) -> str:
    advice = f" Try: {'; '.join(record.advice)}." if record.advice else ""
    return f"{record.verdict.capitalize()}. {record.explanation}{advice}"


@caption.register
def _(record: RateTest) -> str:
    return (
        "The learning rate rises at every step. Take the rate at which the loss falls most "
        "steeply; at the lowest point it is about to rise."
    )
