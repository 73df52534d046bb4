"""Figures of transcription errors: a matrix of characters, bars of groups, the worst lines."""

import unicodedata

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rapidfuzz.distance import Levenshtein

from visualization.core.registry import caption, draw, text
from visualization.core.style import BAD, COLORS, INK, MUTED, SEQUENTIAL, axis_labels, despine
from visualization.core.words import evenly_spaced, share_of, shorten, wrap
from visualization.transcription.errors import (
    NOTHING,
    Confusions,
    ErrorRates,
    LineGroup,
    WorstLines,
)

_SYMBOLS = 24  # of the matrix
_COMMON = 20  # errors that are listed
_GROUPS = 30  # bars
_WIDE = 9.0  # inches of a picture of a line
_WORDS = 0.95  # inches of the words over it
_LETTERS = 110  # of a line under a picture


def symbol_name(symbol: str) -> str:
    """Return a character as it is printed: white space, marks and nothing by a name."""
    if symbol == NOTHING:
        return "nothing"
    if symbol == " ":
        return "space"
    if symbol.isspace() or unicodedata.category(symbol)[0] in "MC":
        return f"U+{ord(symbol):04X}"
    return symbol


@draw.register
def _(record: Confusions) -> Figure:
    num = min(len(record.symbols), _SYMBOLS)
    figure = Figure(figsize=(11, max(3.5, 0.27 * num + 1.6)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    wrong = (record.counts - np.diag(np.diag(record.counts)))[:num, :num]
    left.imshow(np.sqrt(wrong), cmap=SEQUENTIAL, aspect="auto", interpolation="nearest")
    for row, column in zip(*np.nonzero(wrong), strict=True):
        dark = wrong[row, column] > wrong.max() / 3
        left.text(column, row, f"{wrong[row, column]:,}", ha="center", va="center", fontsize=7,
                  color="white" if dark else INK)  # fmt: skip
    names = [symbol_name(symbol) for symbol in record.symbols[:num]]
    left.set_xticks(range(num), names, fontsize=8, parse_math=False)
    left.set_yticks(range(num), names, fontsize=8, parse_math=False)
    for label in left.get_xticklabels():
        label.set_rotation(90 if len(label.get_text()) > 1 else 0)  # so that none is left out
    axis_labels(left, "read", "right")
    more = share_of(len(record.symbols), num, "symbols, those with most errors")
    despine(left, more or f"{record.num_errors:,} errors")
    _draw_common(right, record)
    return figure


def _draw_common(axes: Axes, record: Confusions) -> None:
    common = record.most_common(_COMMON)
    counts = [count for *_, count, _ in common]
    axes.barh(range(len(common)), counts, color=COLORS[0], alpha=0.7)
    axes.set_yticks(
        range(len(common)), [f"{symbol_name(a)} → {symbol_name(b)}" for a, b, *_ in common],
        fontsize=8, parse_math=False,
    )  # fmt: skip
    for at, (*_, count, total) in enumerate(common):
        words = f" {count:,}" + (f" of {total:,}" if total else "")
        axes.text(count, at, words, va="center", fontsize=7, color=MUTED)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.35 * max(counts, default=1))
    despine(axes, "commonest errors: right → read")


@draw.register
def _(record: ErrorRates) -> Figure:
    chosen = [record.groups[at] for at in evenly_spaced(len(record.groups), _GROUPS)]
    figure = Figure(figsize=(9, max(2.2, 0.28 * len(chosen) + 1.2)), layout="constrained")
    axes = figure.subplots()
    rates = [min(1.0, group.error_rate) for group in chosen]
    margins = np.nan_to_num([group.margin for group in chosen])
    axes.barh(
        range(len(chosen)), rates, xerr=np.minimum(margins, 1), color=COLORS[0], alpha=0.7,
        ecolor=INK, capsize=2, error_kw={"linewidth": 1},
    )  # fmt: skip
    labels = [
        f"{shorten(group.name, 30)} ({group.num_lines:,} line{'s' * (group.num_lines != 1)})"
        for group in chosen
    ]
    axes.set_yticks(range(len(chosen)), labels, fontsize=8, parse_math=False)
    axes.axvline(record.total.error_rate, color=BAD, linewidth=1, linestyle="--")
    axes.invert_yaxis()
    axes.set_xlim(0, None)
    axis_labels(axes, f"character error rate; all lines: {record.total.error_rate:.2%}", "")
    more = share_of(len(record.groups), len(chosen), "groups")
    despine(axes, f"by {record.title}" + (f": {more}" if more else ""))
    return figure


@draw.register
def _(record: WorstLines) -> Figure:
    num = len(record.images)
    heights = [min(0.9, max(0.25, _WIDE * len(i) / i.shape[1])) for i in record.images]
    figure = Figure(figsize=(_WIDE + 0.4, sum(heights) + _WORDS * num + 0.4), layout="constrained")
    grid = figure.subplots(num, 1, height_ratios=heights, squeeze=False)[:, 0]
    for number, axes in enumerate(grid):
        image = record.images[number]
        axes.imshow(1 - image, cmap="gray", vmin=0, vmax=1, aspect="equal")
        axes.set_anchor("W")
        axes.set_axis_off()
        edits, target = record.num_edits[number], record.targets[number]
        counted = f"{edits} error{'s' * (edits != 1)} in {len(target)} characters"
        words = f"{shorten(record.names[number], 60)}: {counted}"
        right, read = marked(target, record.answers[number])
        lines = [words, *wrap(f"right: {right}", _LETTERS, 2), *wrap(f"read:  {read}", _LETTERS, 2)]
        axes.set_title("\n".join(lines), fontsize=8, loc="left", color=INK, parse_math=False)
    figure.suptitle(
        f"the worst of {record.num_wrong:,} lines with errors, of {record.num_lines:,}; "
        "[ ] around what differs",
        fontsize=9, color=MUTED,
    )  # fmt: skip
    return figure


def marked(target: str, answer: str) -> tuple[str, str]:
    """Return the right text and what was read, with brackets around what differs.

    >>> marked("sitting", "kitten")
    ('[s]itt[i]n[g]', '[k]itt[e]n[]')
    """
    right, read = "", ""
    for step in Levenshtein.opcodes(target, answer):
        a, b = target[step.src_start : step.src_end], answer[step.dest_start : step.dest_end]
        right += a if step.tag == "equal" else f"[{a}]"
        read += b if step.tag == "equal" else f"[{b}]"
    return right, read


@text.register
def _(record: Confusions) -> str:
    lines = [f"{'right':<10}{'read':<10}{'number':>8}{'of':>10}"]
    for right, read, count, total in record.most_common(_COMMON):
        of = f"{total:,}" if total else "–"
        lines.append(f"{symbol_name(right):<10}{symbol_name(read):<10}{count:>8,}{of:>10}")
    return "\n".join([*lines, f"{record.num_errors:,} errors in all"])


@text.register
def _(record: ErrorRates) -> str:
    head = f"{record.title:<32}{'lines':>7}{'characters':>12}{'errors':>8}{'CER':>9}{'±':>8}"
    return "\n".join([head, *map(_group_line, (*record.groups, record.total))])


def _group_line(group: LineGroup) -> str:
    margin = "–" if np.isnan(group.margin) else f"{group.margin:.2%}"
    return (
        f"{shorten(group.name, 31):<32}{group.num_lines:>7,}{group.num_characters:>12,}"
        f"{group.num_edits:>8,}{group.error_rate:>9.2%}{margin:>8}"
    )


@text.register
def _(record: WorstLines) -> str:
    lines = []
    for at, name in enumerate(record.names):
        right, read = marked(record.targets[at], record.answers[at])
        lines += [f"{name}: {record.num_edits[at]} errors", f"  right: {right}", f"  read:  {read}"]
    return "\n".join(lines)


@caption.register
def _(record: Confusions) -> str:
    return (
        "Which characters were read (columns) for which (rows), by aligning what was read with the "
        "right text; in the row of nothing what was inserted, in its column what was left out."
    )


@caption.register
def _(record: ErrorRates) -> str:
    return (
        "Errors over characters of each group of lines, with 95 % intervals over lines; the broken "
        "line is the error rate of all."
    )


@caption.register
def _(record: WorstLines) -> str:
    return "The lines with the most errors for their length, with the right text and what was read."
