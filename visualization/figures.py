"""Curves, tables, bars and terminals."""

import itertools
import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from visualization.core.registry import draw, text
from visualization.core.style import BAD, COLORS, GOOD, INK, MUTED, axis_labels, despine
from visualization.core.words import display_width, legend, share_of, shorten, truncated_list
from visualization.records import (
    AnsweredQuestion,
    AnswerTable,
    Bars,
    Curves,
    Scatter,
    Table,
    Transcript,
)

_FEW = 12  # points of a curve that are each marked
_PANELS = 12  # of curves
_ROWS = 48  # of a table, or bars beneath each other
_CELL, _COLUMNS, _LINES = 32, 150, 100  # letters of a cell and of a line, and lines
_LETTER = 0.086  # inches, as answers are written


@draw.register
def _(record: Curves) -> Figure:
    names = dict(list(record.panels.items())[:_PANELS])
    columns = min(2, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(4.0 * columns, 2.4 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for (title, series), axes in zip(names.items(), panels, strict=False):
        colors = itertools.cycle(COLORS)
        for color, (label, (steps, values)) in zip(colors, series.items(), strict=False):
            style = {"marker": "o", "markersize": 3.5} if len(steps) <= _FEW else {}
            axes.plot(steps, values, color=color, label=label, linewidth=1.5, **style)
        despine(axes, title)
        axis_labels(axes, record.x_name, "")
        if title in record.logarithmic:
            axes.set_yscale("log")
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(axis="y", color="#eeeeee")
        if len(series) > 1:
            legend(axes)
    for axes in panels:
        axes.set_axis_off()
    if more := share_of(len(record.panels), len(names), "panels"):
        figure.suptitle(more, fontsize=9, color=MUTED)
    return figure


def _short(row: AnsweredQuestion, most: int = 24) -> str:
    """Return a question, or a long one in few words: its own, or its beginning and length."""
    if row.short_question or len(row.question) <= most:
        return row.short_question or row.question
    return f"{row.question[:10]}… ({len(row.question):,} long)"


def _cells(record: AnswerTable) -> list[tuple[str, str, str]]:
    """Return question, answer and right answer of each row as they are drawn."""
    return [
        (shorten(_short(row), _CELL), shorten(_visible(row.answer), _CELL),
         shorten(_visible(row.target), _CELL))
        for row in record.rows[:_ROWS]
    ]  # fmt: skip


def _visible(answer: str) -> str:
    """Return an answer of which a space at either end can be seen."""
    inner = answer.strip(" ")
    before = len(answer) - len(answer.lstrip(" ")) if inner else len(answer)
    after = len(answer) - before - len(inner)
    return "␣" * before + inner + "␣" * after


@draw.register
def _(record: AnswerTable) -> Figure:
    cells = _cells(record)
    lines, names = max(1, len(cells)), ("question", "answer", "right answer")
    widths = [max(14, *(display_width(row[column]) + 2 for row in cells), 0) for column in range(3)]
    width = max(5.0, 0.4 + _LETTER * sum(widths))
    figure = Figure(figsize=(width, 0.7 + 0.26 * lines))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(lines + 1.9, -0.4)
    more = share_of(len(record.rows), len(cells), "rows")
    title = shorten(record.title + (f"; {more}" if more else ""), width / 0.1)
    axes.text(0.2, 0.2, title, fontsize=11, color=INK, weight="bold", va="center")
    ends = width - 0.3 - _LETTER * (sum(widths) - np.cumsum(widths))
    for label, x in zip(names, ends, strict=True):
        axes.text(x, 1.2, label, fontsize=9, color=MUTED, ha="right", va="center")
    style: dict[str, Any] = {"fontsize": 10, "family": "monospace", "ha": "right", "va": "center",
                             "parse_math": False}  # fmt: skip
    for line, (row, cell) in enumerate(zip(record.rows, cells, strict=False), start=2):
        colors = INK, GOOD if row.correct else BAD, MUTED
        for x, words, color in zip(ends, cell, colors, strict=True):
            axes.text(x, line, words, color=color, **style)
        axes.text(ends[1] + 0.08, line, "" if row.correct else "✗", color=BAD, fontsize=10,
                  va="center")  # fmt: skip
    return figure


@draw.register
def _(record: Bars) -> Figure:
    names = _largest(record)
    figure = Figure(figsize=(8.0, 0.9 + 0.34 * len(names)), layout="constrained")
    grid = figure.subplots(1, len(record.panels), squeeze=False, sharey=True)[0]
    rows = range(len(names))
    for axes, (title, values) in zip(grid, record.panels.items(), strict=True):
        colors = [COLORS[1] if name in record.marked else COLORS[0] for name in names]
        lengths = [values.get(name, 0.0) for name in names]
        bars = axes.barh(rows, lengths, color=colors, height=0.62)
        axes.bar_label(bars, [f"{value:,.{record.digits}f}" for value in lengths], padding=3,
                       fontsize=8)  # fmt: skip
        axes.set_xlim(0, 1.5 * (max(lengths, default=0) or 1))
        axes.set_title(title, fontsize=10, color=INK, loc="left")
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.tick_params(axis="x", bottom=False, labelbottom=False)
        axes.tick_params(axis="y", labelsize=8)
        axes.set_yticks(rows, [shorten(name, 34) for name in names], parse_math=False)
    grid[0].set_ylim(len(names) - 0.4, -0.6)
    count = max(len(values) for values in record.panels.values())
    if more := share_of(count, len(names), "rows, those with the longest bars"):
        figure.supxlabel(more, fontsize=9, color=MUTED)
    return figure


def _largest(record: Bars) -> list[str]:
    """Return the names in their order, of very many those with the longest bar in any panel."""
    names = list(dict.fromkeys(name for values in record.panels.values() for name in values))
    longest = dict.fromkeys(names, 0.0)
    for values in record.panels.values():
        most = max(values.values(), default=0) or 1
        for name, value in values.items():
            longest[name] = max(longest[name], value / most)
    longest_names = sorted(names, key=lambda name: -longest[name])[:_ROWS]
    return [name for name in names if name in longest_names]


@draw.register
def _(record: Scatter) -> Figure:
    figure = Figure(figsize=(5.2, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.scatter(record.x, record.y, s=9, alpha=0.35, color=COLORS[0], linewidths=0)
    despine(axes, record.title)
    axis_labels(axes, *record.names)
    axes.grid(color="#eeeeee")
    return figure


@draw.register
def _(record: Transcript) -> Figure:
    lines = [
        shorten(line, _COLUMNS) for line in truncated_list(record.text.splitlines() or [""], _LINES)
    ]
    width = max(12, *map(display_width, lines))
    figure = Figure(figsize=(0.2 + 0.082 * width, 0.3 + 0.17 * len(lines)), facecolor="#1d1f21")
    figure.text(
        0.1 / figure.get_figwidth(), 1 - 0.15 / figure.get_figheight(), "\n".join(lines),
        family="monospace", fontsize=9.5, color="#e8e8e8", va="top", linespacing=1.25,
        parse_math=False,
    )  # fmt: skip
    return figure


def _widths(record: Table) -> list[int]:
    return [max(map(len, column)) for column in zip(record.columns, *record.rows, strict=True)]


@draw.register
def _(record: Table) -> Figure:
    rows = [
        [shorten(cell, _CELL) for cell in row] for row in (record.columns, *record.rows[:_ROWS])
    ]
    widths = [max(map(display_width, column)) + 2 for column in zip(*rows, strict=True)]
    columns = max(1, int(np.searchsorted(np.cumsum(widths), _COLUMNS, side="right")))
    wide = max(sum(widths[:columns]) + 2, 30)
    height = 0.8 + 0.26 * (len(rows) - 1)
    figure = Figure(figsize=(0.085 * wide + 0.1, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, wide)
    axes.set_ylim(len(rows) + 0.9, -0.4)
    parts = (share_of(len(record.rows), len(rows) - 1, "rows"),
             share_of(len(record.columns), columns, "columns"))  # fmt: skip
    title = shorten("; ".join([record.title, *filter(None, parts)]), 0.75 * wide)
    axes.text(2, 0.2, title, fontsize=11, color=INK, weight="bold", va="center", parse_math=False)
    ends = 1 + np.cumsum(widths[:columns])
    for line, row in enumerate(rows, start=1):
        style: dict[str, Any] = {"fontsize": 9.5, "color": INK} if line > 1 else {
            "fontsize": 9, "color": MUTED}  # fmt: skip
        for end, cell in zip(ends, row, strict=False):
            axes.text(end, line + 0.2 * (line == 1), cell, ha="right", va="center",
                      parse_math=False, **style)  # fmt: skip
    return figure


@text.register
def _(record: Table) -> str:
    widths = _widths(record)
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in (record.columns, *record.rows)
    ]
    return "\n".join([record.title, *lines])


@text.register
def _(record: Transcript) -> str:
    return record.text


@text.register
def _(record: AnswerTable) -> str:
    head = ("question", "answer", "target", "")
    rows = [
        head,
        *(
            (_short(row), _visible(row.answer), _visible(row.target), "" if row.correct else "✗")
            for row in record.rows
        ),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = (
        "  ".join(cell.rjust(width) for cell, width in zip(row[:3], widths, strict=True))
        + (f"  {row[3]}" if row[3] else "")
        for row in rows
    )
    return "\n".join([record.title, *lines])
