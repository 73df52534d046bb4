"""Curves, tables, bars and terminals."""

import itertools
import math
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from visualization.answers import Answered, AnswerTable
from visualization.bars import Bars
from visualization.cost import CostTable, LayerCost
from visualization.curves import Curves
from visualization.render.core import BAD, COLORS, GOOD, INK, MUTED, draw, text
from visualization.scatter import Scatter
from visualization.table import Table
from visualization.transcript import Transcript

_FEW = 12  # points of a curve that are each marked


@draw.register
def _(record: Curves) -> Figure:
    columns = min(2, len(record.panels))
    rows = math.ceil(len(record.panels) / columns)
    figure = Figure(figsize=(4.0 * columns, 2.4 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for (title, series), axes in zip(record.panels.items(), panels, strict=False):
        colors = itertools.cycle(COLORS)
        for color, (label, (steps, values)) in zip(colors, series.items(), strict=False):
            style = {"marker": "o", "markersize": 3.5} if len(steps) <= _FEW else {}
            axes.plot(steps, values, color=color, label=label, linewidth=1.5, **style)
        axes.set_title(title, fontsize=10, color=INK, loc="left")
        axes.set_xlabel(record.x_name, fontsize=9)
        if title in record.logarithmic:
            axes.set_yscale("log")
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#eeeeee")
        if len(series) > 1:
            axes.legend(fontsize=8, frameon=False)
    for axes in panels:
        axes.set_axis_off()
    return figure


def _short(row: Answered, most: int = 24) -> str:
    """Return a question, or a long one in few words: its own, or its beginning and length."""
    if row.brief or len(row.question) <= most:
        return row.brief or row.question
    return f"{row.question[:10]}… ({len(row.question):,} long)"


def _visible(answer: str) -> str:
    """Return an answer of which a space at either end can be seen."""
    inner = answer.strip(" ")
    before = len(answer) - len(answer.lstrip(" ")) if inner else len(answer)
    after = len(answer) - before - len(inner)
    return "␣" * before + inner + "␣" * after


@draw.register
def _(record: AnswerTable) -> Figure:
    lines = max(1, len(record.rows))
    figure = Figure(figsize=(5.0, 0.7 + 0.26 * lines))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(lines + 1.9, -0.4)
    axes.text(0.04, 0.2, record.title, fontsize=11, color=INK, weight="bold", va="center")
    columns = {"question": 0.42, "answer": 0.66, "right answer": 0.92}
    for label, x in columns.items():
        axes.text(x, 1.2, label, fontsize=9, color=MUTED, ha="right", va="center")
    for line, row in enumerate(record.rows, start=2):
        answer, target, right = _visible(row.answer), _visible(row.target), row.right
        style: dict[str, Any] = {
            "fontsize": 10,
            "family": "monospace",
            "ha": "right",
            "va": "center",
        }
        axes.text(columns["question"], line, _short(row), color=INK, **style)
        axes.text(columns["answer"], line, answer, color=GOOD if right else BAD, **style)
        axes.text(columns["right answer"], line, target, color=MUTED, **style)
        axes.text(0.70, line, "" if right else "✗", color=BAD, fontsize=10, va="center")
    return figure


@draw.register
def _(record: Bars) -> Figure:
    count = max(len(values) for values in record.panels.values())
    figure = Figure(figsize=(8.0, 0.7 + 0.34 * count), layout="constrained")
    grid = figure.subplots(1, len(record.panels), squeeze=False, sharey=True)[0]
    for axes, (title, values) in zip(grid, record.panels.items(), strict=True):
        colors = [COLORS[1] if name in record.marked else COLORS[0] for name in values]
        bars = axes.barh(list(values), list(values.values()), color=colors, height=0.62)
        shown = [f"{value:,.{record.digits}f}" for value in values.values()]
        axes.bar_label(bars, shown, padding=3, fontsize=8)
        axes.set_xlim(0, 1.25 * (max(values.values(), default=0) or 1))
        axes.set_title(title, fontsize=10, color=INK, loc="left")
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.tick_params(axis="x", bottom=False, labelbottom=False)
        axes.tick_params(axis="y", labelsize=8)
    grid[0].invert_yaxis()
    return figure


@draw.register
def _(record: Scatter) -> Figure:
    figure = Figure(figsize=(5.2, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.scatter(record.x, record.y, s=9, alpha=0.35, color=COLORS[0], linewidths=0)
    axes.set_title(record.title, fontsize=10, color=INK, loc="left")
    axes.set_xlabel(record.names[0], fontsize=9)
    axes.set_ylabel(record.names[1], fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#eeeeee")
    return figure


@draw.register
def _(record: Transcript) -> Figure:
    lines = record.text.splitlines()
    width = max(map(len, lines))
    figure = Figure(figsize=(0.2 + 0.082 * width, 0.3 + 0.17 * len(lines)), facecolor="#1d1f21")
    figure.text(
        0.1 / figure.get_figwidth(), 1 - 0.15 / figure.get_figheight(), record.text,
        family="monospace", fontsize=9.5, color="#e8e8e8", va="top", linespacing=1.25,
        parse_math=False,
    )  # fmt: skip
    return figure


def _widths(record: Table) -> list[int]:
    return [max(map(len, column)) for column in zip(record.columns, *record.rows, strict=True)]


@draw.register
def _(record: Table) -> Figure:
    widths = _widths(record)
    figure = Figure(figsize=(0.3 + 0.085 * (sum(widths) + 2 * len(widths)),
                             0.8 + 0.26 * len(record.rows)))  # fmt: skip
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, sum(widths) + 2 * len(widths) + 2)
    axes.set_ylim(len(record.rows) + 1.9, -0.4)
    axes.text(2, 0.2, record.title, fontsize=11, color=INK, weight="bold", va="center")
    end = 1
    for column, width in enumerate(widths):
        end += width + 2
        axes.text(
            end, 1.2, record.columns[column], fontsize=9, color=MUTED, ha="right", va="center"
        )
        for line, row in enumerate(record.rows, start=2):
            axes.text(end, line, row[column], fontsize=9.5, color=INK, ha="right", va="center")
    return figure


@text.register
def _(record: Table) -> str:
    widths = _widths(record)
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in (record.columns, *record.rows)
    ]
    return "\n".join([record.title, *lines])


@draw.register
def _(record: CostTable) -> Figure:
    names = {layer: f"{layer.name or 'the model'} ({layer.kind})" for layer in record.layers}
    parameters = f"parameters: {record.num_parameters:,}"
    products = f"multiply-adds a sample: {record.multiply_adds / record.num_samples:,.0f}"
    counts = {name: float(layer.num_parameters) for layer, name in names.items()}
    costs = {name: (layer.multiply_adds or 0) / record.num_samples for layer, name in names.items()}
    return draw(Bars({parameters: counts, products: costs}))


@text.register
def _(record: Transcript) -> str:
    return record.text


@text.register
def _(record: AnswerTable) -> str:
    head = ("question", "answer", "target", "")
    rows = [
        head,
        *(
            (_short(row), _visible(row.answer), _visible(row.target), "" if row.right else "✗")
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


def _per_sample(layer: LayerCost, table: CostTable) -> str:
    if layer.multiply_adds is None:
        return "not counted"
    return f"{layer.multiply_adds / table.num_samples:,.0f}"


@text.register
def _(record: CostTable) -> str:
    names = [layer.name or "the model" for layer in record.layers]
    wide = max([14, *map(len, names)]) + 2
    head = (
        f"{'layer':<{wide}}{'kind':<19}{'output':<18}{'calls':>6}{'parameters':>12}"
        f"{'MACs/sample':>16}{'output bytes/sample':>21}"
    )
    rows = [
        f"{name:<{wide}}{layer.kind[:17]:<19}{layer.output_shape!s:<18}{layer.calls:>6}"
        f"{layer.num_parameters:>12,}{_per_sample(layer, record):>16}"
        f"{layer.output_bytes / record.num_samples:>21,.0f}"
        for name, layer in zip(names, record.layers, strict=True)
    ]
    total = (
        f"{'all':<{wide + 43}}{record.num_parameters:>12,}"
        f"{record.multiply_adds / record.num_samples:>16,.0f}"
    )
    return "\n".join([head, *rows, total])
