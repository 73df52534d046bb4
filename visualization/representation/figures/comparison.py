"""Figures of two agents or networks beside each other."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from visualization.core.registry import caption, draw, text
from visualization.core.style import (
    BAD,
    COLORS,
    DIVERGING,
    GOOD,
    MUTED,
    axis_labels,
    despine,
)
from visualization.core.words import shorten
from visualization.representation.comparison import (
    OUTCOMES,
    AnswerAgreement,
    GroupAccuracy,
    UnitMatch,
)

_GROUPS_NAMED = 10  # under an axis, of a quantity with many values
_QUANTITIES_SHOWN = 8

_LONGEST = 20  # characters of an example beside a bar


@draw.register
def _(record: AnswerAgreement) -> Figure:
    titles = list(record.groups)[:_QUANTITIES_SHOWN]
    figure = Figure(figsize=(9.0, 2.4 + 2.3 * (-(-len(titles) // 2))), layout="constrained")
    figures = figure.subfigures(1 + -(-len(titles) // 2), 1, squeeze=False)[:, 0]
    _corners(figures[0].subplots(), record)
    for row, first in enumerate(range(0, len(titles), 2), start=1):
        panels = figures[row].subplots(1, 2)
        for axes, title in zip(panels, titles[first : first + 2], strict=False):
            _shares(axes, title, record.groups[title], record.names)
        if first + 1 == len(titles):
            panels[1].set_axis_off()
    return figure


def _corners(axes: Axes, record: AnswerAgreement) -> None:
    a, b = (shorten(name, 30) for name in record.names)
    words = ("both right", f"only {a}", f"only {b}", "neither")
    colors = (GOOD, COLORS[0], COLORS[1], BAD)
    counts = [record.counts[name] for name in OUTCOMES]
    bars = axes.barh(words, counts, color=colors, height=0.4)
    axes.bar_label(bars, [f"{count:,}" for count in counts], padding=3, fontsize=9)
    axes.set(ylim=(3.7, -0.5), xlim=(0, 1.12 * max(counts)))
    for row, name in enumerate(OUTCOMES):
        examples = [example for example in record.examples(name, 4) if len(example) <= _LONGEST]
        if examples:
            axes.text(
                0.99, row + 0.4, f"such as {',  '.join(examples)}", fontsize=7, color=MUTED,
                ha="right", va="center", transform=axes.get_yaxis_transform(), parse_math=False,
                in_layout=False,
            )  # fmt: skip
    verdict = "no difference is shown" if record.p_value > 0.05 else "they differ"
    despine(axes, f"{sum(counts):,} questions; McNemar {_p(record)}: {verdict}")
    axes.set_xlabel("questions", fontsize=9)


def _p(record: AnswerAgreement) -> str:
    return f"p = {record.p_value:.2g}" if record.p_value > 0 else "p < 1e-300"


def _shares(
    axes: Axes, title: str, groups: tuple[GroupAccuracy, ...], names: tuple[str, str]
) -> None:
    """Draw the shares right of each value, with 95 % intervals (Wilson 1927)."""
    x = np.arange(len(groups))
    num = np.array([group.num_samples for group in groups])
    for shift, name, right, color in (
        (-0.12, names[0], np.array([group.right_a for group in groups]), COLORS[0]),
        (0.12, names[1], np.array([group.right_b for group in groups]), COLORS[1]),
    ):
        middle = (right + 1.92 / num) / (1 + 3.84 / num)
        reach = 1.96 * np.sqrt(right * (1 - right) / num + 0.96 / num**2) / (1 + 3.84 / num)
        ends = 100 * np.clip([right - (middle - reach), middle + reach - right], 0, None)
        axes.errorbar(x + shift, 100 * right, ends, fmt="o", markersize=4, capsize=2, color=color,
                      label=shorten(name), elinewidth=1)  # fmt: skip
    each = -(-len(groups) // _GROUPS_NAMED)
    tick_labels = [
        f"{shorten(group.value, 10)}\n({group.num_samples:,})" for group in groups[::each]
    ]
    axes.set_xticks(x[::each], tick_labels)
    despine(axes, "")
    axes.grid(axis="y", color="#eeeeee")
    axes.set_xlim(-0.5, len(groups) - 0.5)
    axis_labels(axes, f"{shorten(title)} (questions)", "right, %")
    axes.legend(fontsize=7, frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1))


@text.register
def _(record: AnswerAgreement) -> str:
    a, b = record.names
    words = {"both": "both right", "only_a": f"only {a}", "only_b": f"only {b}"}
    lines = [f"{words.get(name, name)}: {count:,}" for name, count in record.counts.items()]
    lines.append(f"McNemar's exact test: {_p(record)}")
    for corner in OUTCOMES:
        neighbours = record.examples(corner, 12)
        if neighbours:
            lines.append(f"{words.get(corner, corner)}: " + ", ".join(neighbours))
    for title, groups in record.groups.items():
        lines.append(f"{title:<30}{'questions':>10}{a:>16}{b:>16}")
        lines += [
            f"{group.value:>30}{group.num_samples:>10,}{group.right_a:>16.4f}{group.right_b:>16.4f}"
            for group in groups
        ]
    return "\n".join(lines)


@draw.register
def _(record: UnitMatch) -> Figure:
    figure = Figure(figsize=(8.6, 3.9), layout="constrained")
    heat, curve = figure.subplots(1, 2)
    matrix: NDArray[Any] = record.correlations[record.pairs[:, 0]][:, record.pairs[:, 1]]
    image = heat.imshow(matrix, cmap=DIVERGING, vmin=-1, vmax=1, interpolation="nearest")
    figure.colorbar(image, ax=heat, pad=0.02).ax.tick_params(labelsize=7)
    despine(heat, "correlation of the units, matched pairs on the diagonal")
    axis_labels(heat, f"units of {record.names[1]}", f"units of {record.names[0]}")
    heat.set_xticks([])
    heat.set_yticks([])
    curve.plot(range(1, len(matrix) + 1), record.matched, color=COLORS[0], label="matched units")
    curve.plot(range(1, len(matrix) + 1), record.chance, color=MUTED, label="samples shuffled")
    despine(curve, "how alike the matched units are")
    axis_labels(curve, "pair, the most alike first", "|correlation|")
    curve.set_ylim(0, 1.03)
    curve.legend(fontsize=8, frameon=False)
    return figure


@text.register
def _(record: UnitMatch) -> str:
    pairs = zip(record.pairs, record.matched, strict=True)
    lines = (f"{a:>4} {b:>4} {record.correlations[a, b]:>+7.3f}" for (a, b), _ in pairs)
    return "\n".join([f"unit of {record.names[0]}, unit of {record.names[1]}, correlation", *lines])


@caption.register
def _(record: AnswerAgreement) -> str:
    return "The same questions answered by both."


@caption.register
def _(record: UnitMatch) -> str:
    return (
        "Each unit of one network beside the unit of the other that does most nearly the "
        "same; grey: what shuffled samples give."
    )
