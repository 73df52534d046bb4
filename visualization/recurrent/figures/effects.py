"""What units are for: ablation, patching, interventions; two networks beside each other."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from visualization.core.registry import caption, draw, text
from visualization.core.style import (
    COLORS,
    INK,
    MUTED,
    despine,
    printable,
)
from visualization.core.words import evenly_spaced, share_of, shorten, truncated_list
from visualization.recurrent.ablation import UnitRanking
from visualization.recurrent.intervention import ActivationPatching, Intervention
from visualization.recurrent.queries import Match, Matches

_GROUPS_SHOWN = 20
_LEAST_CHANGE = 0.02  # of the answers: the full colour means no less
_CODES_SHOWN = 24
_SCORES_SHOWN = 4
_PLACES_SHOWN, _WRITTEN_SHOWN = 16, 12  # of an answer
_CHANGES = 6  # of an intervention
_FULL = 99.0  # percentile of the changes at which colours are full: one of few samples is not it
_AROUND = 24  # characters at either side of a span that are drawn
_FOUND_SHOWN = 30


def _name(group: tuple[int, ...]) -> str:
    return "+".join(map(str, group)) if len(group) < 6 else f"{len(group)} units"


@draw.register
def _(record: UnitRanking) -> Figure:
    top = record.order[:_GROUPS_SHOWN]
    shown_scores = dict(list(record.change.items())[:_SCORES_SHOWN])
    figure = Figure(figsize=(9.0, 1.4 + 0.2 * len(top)), layout="constrained")
    grid = figure.subplots(1, len(shown_scores), squeeze=False, sharey=True)[0]
    for axes, (name, change) in zip(grid, shown_scores.items(), strict=True):
        ends = np.abs(np.stack([record.low[name], record.high[name]])[:, top] - change[top])
        axes.barh(range(len(top)), change[top], color=COLORS[0], height=0.65, xerr=ends,
                  error_kw={"elinewidth": 1, "ecolor": INK, "capsize": 2})  # fmt: skip
        axes.axvline(0, color=INK, linewidth=0.8)
        despine(axes, name)
        axes.set_xlabel(f"change from {record.baseline[name]:.4g}", fontsize=9)
        axes.grid(axis="x", color="#eeeeee")
        axes.set_axisbelow(True)
    grid[0].set_yticks(range(len(top)), [_name(record.groups[number]) for number in top])
    grid[0].set_ylabel(f"unit, held at {record.replacement}", fontsize=9)
    grid[0].invert_yaxis()
    first, none = next(iter(record.change)), int((record.share_changed == 0).sum())
    figure.suptitle(
        f"the {len(top)} that matter most, of {len(record.groups)}; {none} change no sample's "
        f"{first} ({record.num_samples:,} samples, {record.confidence:.0%} bootstrap intervals)",
        fontsize=9, color=MUTED,
    )  # fmt: skip
    return figure


@text.register
def _(record: UnitRanking) -> str:
    lines = [f"{'unit':>8}" + "".join(f"{name:>17} [interval]      " for name in record.change)]
    for number in record.order:
        cells = (
            f"{record.change[n][number]:>+9.4f} "
            f"[{record.low[n][number]:+.4f}, {record.high[n][number]:+.4f}]"
            for n in record.change
        )
        lines.append(f"{_name(record.groups[number]):>8}  {'  '.join(cells)}")
    return "\n".join(lines)


@draw.register
def _(record: ActivationPatching) -> Figure:
    top = np.argsort(-record.changed.sum(axis=1), kind="stable")[:_GROUPS_SHOWN]
    positions = evenly_spaced(len(record.positions), _PLACES_SHOWN)
    width = max(6.4, 1.2 + 0.64 * len(positions))
    figure = Figure(figsize=(width, 1.3 + 0.22 * len(top)), layout="constrained")
    grid = figure.subplots(1, 2, sharey=True)
    titles = ("changes the answer there", "makes it the other's")
    most = max(float(np.percentile(record.changed, _FULL)), _LEAST_CHANGE)
    digits = 0 if most >= 10 * _LEAST_CHANGE else 1
    for axes, title, values in zip(grid, titles, (record.changed, record.adopted), strict=True):
        axes.imshow(values[top][:, positions], aspect="auto", cmap="Oranges", vmin=0, vmax=most)
        for row, column in np.ndindex(len(top), len(positions)):
            value = values[top[row], positions[column]]
            color = "white" if value > 0.7 * most else INK
            shown_value = f"{100 * value:.{digits}f}"
            axes.text(column, row, shown_value, ha="center", va="center", fontsize=7, color=color,
                      in_layout=False)  # fmt: skip
        despine(axes, f"{title}, %")
        axes.set_xticks(
            range(len(positions)), [shorten(record.positions[number], 12) for number in positions]
        )
        some = share_of(len(record.positions), len(positions), "places")
        axes.set_xlabel(record.position_name + (some and f" ({some})"), fontsize=9)
    grid[0].set_yticks(range(len(top)), top)
    grid[0].set_ylabel(f"unit taken from another sample after step {record.time}", fontsize=9)
    return figure


@text.register
def _(record: ActivationPatching) -> str:
    whole = ", ".join(f"{100 * value:.0f} %" for value in record.full_state)
    order = np.argsort(-record.changed.sum(axis=1), kind="stable")
    rows = [
        f"{unit:>5}{_percent(record.changed[unit])} |{_percent(record.adopted[unit])}"
        for unit in order
    ]
    positions = "".join(f"{position:>7}" for position in record.positions)
    return "\n".join([
        f"all units together make the answer the other sample's: {whole} of the differing places",
        f"by {record.position_name}: left, % of the characters that change; right, % that become "
        "the other sample's",
        f" unit{positions} |{positions}", *rows,
    ])  # fmt: skip


def _percent(values: NDArray[Any]) -> str:
    return "".join(f"{100 * value:>7.1f}" for value in values)


@draw.register
def _(record: Intervention) -> Figure:
    num = record.probabilities.shape[1]
    positions = min(num, _WRITTEN_SHOWN)
    written = record.probabilities[:, :positions]
    likely = written.max(axis=(0, 1)).argsort()[::-1][:_CODES_SHOWN]
    codes = np.sort(likely)
    head = [
        shorten(record.question, 100),
        *truncated_list([shorten(c, 100) for c in record.changes], _CHANGES),
    ]
    height = 1.3 + 0.2 * len(codes) + 0.17 * len(head)
    figure = Figure(figsize=(max(5.6, 2.0 + 0.75 * positions), height), layout="constrained")
    grid = figure.subplots(1, 2, sharey=True)
    answers = (f"untouched: {record.before}", f"changed: {record.after}")
    some = f" (1–{positions} of {num})" if positions < num else ""
    for axes, title, odds in zip(grid, answers, written[..., codes], strict=True):
        axes.imshow(odds.T, aspect="auto", cmap="Blues", vmin=0, vmax=1)
        for position, code in enumerate(odds.argmax(axis=1)):
            axes.text(position, code, f"{odds[position, code]:.2f}", ha="center", va="center",
                      fontsize=7, color="white" if odds[position, code] > 0.6 else INK,
                      in_layout=False)  # fmt: skip
        despine(axes, title)
        axes.set_xticks(range(positions), range(1, positions + 1))
        axes.set_xlabel(f"position in the answer{some}", fontsize=9)
    grid[0].set_yticks(range(len(codes)), [printable(record.characters[code]) for code in codes])
    grid[0].set_ylabel("probability of each answer", fontsize=9)
    figure.suptitle("\n".join(head), fontsize=9, color=MUTED)
    return figure


@text.register
def _(record: Intervention) -> str:
    changes = "; ".join(record.changes)
    return f"{record.question} = {record.before}; with {changes}: {record.after}"


@draw.register
def _(record: Matches) -> Figure:
    matches = record.matches[:_FOUND_SHOWN]
    spans = [(record.start, record.stop), *((m.start, m.stop) for m in matches)]
    texts = record.texts or tuple(" " * stop for _, stop in spans)
    windows = [
        _window(start, stop, len(read)) for (start, stop), read in zip(spans, texts, strict=False)
    ]
    width = max(last - first for first, last in windows)
    more = share_of(len(record.matches), len(matches), "windows")
    head = "; ".join([_selection(record), *filter(None, [more])])
    inches = max(7.4, 4.2 + 0.14 * width)
    figure = Figure(figsize=(inches, 0.9 + 0.22 * len(spans)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(-1, width + 30), ylim=(len(spans) + 1.6, -1.2))
    axes.text(0, -0.4, shorten(head, 13 * inches), fontsize=9, color=INK, weight="bold")
    captions = ["selected", *(_match_words(match) for match in matches)]
    rows = zip(texts, spans, windows, captions, strict=False)
    for row, (read, (start, stop), (first, last), words) in enumerate(rows, start=1):
        ends = start_of(max(start, first) - first, width), start_of(min(stop, last) - first, width)
        axes.axhspan(row - 0.5, row + 0.5, *ends, color="#cfe8d8")
        for step, character in enumerate(read[first:last], start=first):
            color = INK if start <= step < stop else MUTED
            axes.text(step - first + 0.5, row, printable(character), fontsize=9, ha="center",
                      va="center", family="DejaVu Sans Mono", color=color,
                      parse_math=False)  # fmt: skip
        position = f"; steps {first}–{last - 1}" if last - first < len(read) else ""
        axes.text(width + 1, row, words + position, fontsize=8, va="center", color=MUTED)
    return figure


def _window(start: int, stop: int, num: int) -> tuple[int, int]:
    """Return the first step that is drawn around a span, and the one after the last."""
    first = max(0, start - _AROUND)
    return first, min(num, stop + _AROUND, first + 3 * _AROUND)


def start_of(step: int, width: int) -> float:
    """Return a step's left edge as a share of the width of a picture of matches."""
    return (step + 1) / (width + 31)


def _selection(record: Matches) -> str:
    return (
        f"{len(record.units)} units are on (≥ {record.threshold}) over the marked steps; "
        f"so they are over {record.num_all:,} other windows"
    )


def _match_words(match: Match) -> str:
    return f"{len(match.shared)} shared, {match.num_on} on, for {match.run} steps"


@text.register
def _(record: Matches) -> str:
    units = ", ".join(map(str, record.units))
    span = f"sample {record.sample}, steps {record.start} to {record.stop - 1}"
    lines = [f"{_selection(record)}: {span}: {units}"]
    for match in record.matches:
        shared = ", ".join(map(str, match.shared))
        where = f"sample {match.sample}, steps {match.start} to {match.stop - 1}"
        lines.append(f"{where}: {_match_words(match)}: {shared}")
    return "\n".join(lines)


@caption.register
def _(record: UnitRanking) -> str:
    return "How much the scores change when one unit is switched off throughout."


@caption.register
def _(record: ActivationPatching) -> str:
    return (
        "One unit is given the state that it has in another sample, and the rest stays: what "
        "changes is what that unit carries."
    )


@caption.register
def _(record: Intervention) -> str:
    return "The same question answered twice: untouched, and with states changed."


@caption.register
def _(record: Matches) -> str:
    return (
        "Green: the characters over which the units were selected, and the windows that share "
        "most of them."
    )
