"""What an answer depends on: characters of the question, and paths through gates."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from visualization.core.registry import caption, draw, text
from visualization.core.style import COLORS, DIVERGING, INK, MUTED, axis_labels, despine, printable
from visualization.core.words import evenly_spaced, legend, share_of, shorten
from visualization.recurrent.attribution import OCCLUSION, RANDOM, QuestionRelevance
from visualization.recurrent.figures.states import NAMES
from visualization.recurrent.gate_paths import GatePaths

_QUESTIONS, _ANSWERS = 3, 7  # of a figure
_WIDTH, _LETTERS = 12.0, 5  # inches for characters, and letters of each
_STEPS = 20  # of gate paths


def _last(num: int, most: int) -> slice:
    """Return the last places: what is read last is mostly what matters where not all has room."""
    return slice(max(0, num - most), num)


@draw.register
def _(record: QuestionRelevance) -> Figure:
    num = min(len(record.symbols), _QUESTIONS)
    letters = min(max(map(len, record.symbols[:num].flat)), _LETTERS)
    inches = max(0.19, 0.11 * letters) * len(record.relevance)  # of a character in all blocks
    steps = _last(record.symbols.shape[1], int(_WIDTH / inches) - 1)
    answers = slice(0, _ANSWERS)
    num_steps, num_answers = record.symbols[0, steps].size, record.answers[0, answers].size
    width = max(9.0, 1.6 + inches * (num_steps + 1))
    heights = [0.45 + 0.22 * (num_answers + 1)] * num + [2.6]
    figure = Figure(figsize=(width, 0.5 + sum(heights)), layout="constrained")
    grid = figure.add_gridspec(num + 1, 3, height_ratios=heights, width_ratios=[1.6, 1, 1])
    for sample in range(num):
        _characters(figure.add_subplot(grid[sample, :]), record, sample, answers, steps)
    _deletion_curves(figure.add_subplot(grid[num, 0]), record)
    correlations = record.correlation() if OCCLUSION in record.relevance else {}
    _bars(figure.add_subplot(grid[num, 1]), correlations, "correlation with occlusion")
    right = figure.add_subplot(grid[num, 2])
    _bars(right, record.incompleteness(), "missing relevance")
    right.set_xlabel(shorten(record.quantity), fontsize=9)
    some = share_of(record.symbols.shape[1], num_steps, "characters (the last)")
    more = share_of(record.answers.shape[1], num_answers, "answers")
    figure.suptitle("; ".join([
        "red: for the character of the answer at the left; blue: against it; each block is in "
        "shares of its largest value", *filter(None, [some, more]),
    ]), fontsize=9, color=MUTED)  # fmt: skip
    return figure


def _characters(
    axes: Axes, record: QuestionRelevance, sample: int, answers: slice, steps: slice
) -> None:
    """Draw the relevances (K, T) of one question by all methods, side by side."""
    blocks = [values[sample, answers, steps] for values in record.relevance.values()]
    gap = np.full((len(blocks[0]), 1), np.nan)
    columns = [part for b in blocks for part in (b / (np.abs(b).max() or 1.0), gap)][:-1]
    axes.imshow(np.concatenate(columns, axis=1), aspect="auto", cmap=DIVERGING, vmin=-1, vmax=1)
    num = blocks[0].shape[1]
    starts = [number * (num + 1) for number in range(len(blocks))]
    if sample == 0:
        above = axes.secondary_xaxis("top")
        above.set_xticks([s + num / 2 - 0.5 for s in starts], list(record.relevance))
        above.tick_params(labelsize=9, length=0)
        above.spines[:].set_visible(False)
    axes.set_ylim(len(blocks[0]) + 0.4, -0.5)  # with a row of the characters below
    axes.set_xticks([])
    for step, character in enumerate(record.symbols[sample, steps]):
        for start in starts:  # ticks would take four times as long to draw
            axes.text(start + step, len(blocks[0]), shorten(printable(character), _LETTERS),
                      fontsize=8, color=INK, ha="center", va="center", parse_math=False,
                      in_layout=False)  # fmt: skip
    written = [shorten(printable(answer), 12) for answer in record.answers[sample, answers]]
    axes.set_yticks(range(len(written)), written)
    axes.set_ylabel("answer", fontsize=9)
    axes.tick_params(labelsize=8, length=0)
    axes.spines[:].set_visible(False)


def _deletion_curves(axes: Axes, record: QuestionRelevance) -> None:
    """Draw the mean score with more and more of the characters deleted."""
    areas = record.deletion_area()
    for number, (name, curves) in enumerate(record.deletion.items()):
        is_random = name == RANDOM
        axes.plot(
            record.deleted, curves.mean(axis=(0, 1)), label=f"{name}: {areas[name]:.2f}",
            color=MUTED if is_random else COLORS[number % len(COLORS)],
            linestyle="--" if is_random else "-", marker=".",
        )  # fmt: skip
    despine(axes, "score without the most relevant (area)")
    axis_labels(axes, "characters deleted", f"{shorten(record.quantity)}, mean")
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, top + 0.4 * (top - bottom))  # room for the names
    legend(axes, loc="upper right")


def _bars(axes: Axes, values: dict[str, float], title: str) -> None:
    names = list(values)
    numbers = [values[name] for name in names]
    axes.barh(range(len(names)), np.nan_to_num(numbers), color=COLORS[: len(names)], height=0.6)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    despine(axes, title)
    axes.set_xlim(min(0.0, *np.nan_to_num(numbers), 0.0), 1.35 * max(*np.nan_to_num(numbers), 1e-9))
    for row, number in enumerate(numbers):
        axes.text(max(number, 0.0), row, f" {number:.2g}", va="center", fontsize=8, color=INK,
                  in_layout=False)  # fmt: skip


@text.register
def _(record: QuestionRelevance) -> str:
    areas, gaps = record.deletion_area(), record.incompleteness()
    correlations = record.correlation() if OCCLUSION in record.relevance else {}
    lines = [f"{'':>22}{'deletion area':>15}{'correlation':>13}{'missing':>10}"]
    for name, area in areas.items():
        cells = [f"{correlations[name]:.3f}" if name in correlations else "",
                 f"{gaps[name]:.3g}" if name in gaps else ""]  # fmt: skip
        lines.append(f"{name:>22}{area:>15.3f}{cells[0]:>13}{cells[1]:>10}")
    lines.append(f"of {record.quantity}, {record.scores.mean():.3f} on average, "
                 f"{record.baseline_scores.mean():.3f} if nothing is read")  # fmt: skip
    if record.propagation is not None:
        parts = record.propagation
        shares = {"question": parts.steps.sum(axis=2), "what else is read": parts.others,
                  "biases": parts.biases, "lost": parts.rest}  # fmt: skip
        lines.append("LRP: " + ", ".join(f"{n} {v.mean():+.3f}" for n, v in shares.items()))
    return "\n".join(lines)


@draw.register
def _(record: GatePaths) -> Figure:
    steps = _shown_steps(record)
    shares = 100 * record.shares()[:, steps]
    width = max(7.4, 3.6 + 0.52 * len(steps))
    figure = Figure(figsize=(width, 1.5 + 0.46 * len(record.gates)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[width - 3.4, 1.9], sharey=True)
    size = max(float(np.nanmax(np.abs(shares), initial=0.0)), 1e-9)
    left.imshow(np.nan_to_num(shares), aspect="auto", cmap=DIVERGING, vmin=-size, vmax=size)
    for row, column in np.ndindex(*shares.shape):
        value = shares[row, column]
        if abs(value) >= 0.5:
            color = "white" if abs(value) > 0.6 * size else INK
            left.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8,
                      color=color, in_layout=False)  # fmt: skip
    left.set_xticks(range(len(steps)), [_step_name(record, step) for step in steps])
    left.set_yticks(range(len(record.gates)), [NAMES[gate] for gate in record.gates])
    despine(left, "one gate at one step, % of the whole effect")
    axis_labels(left, _steps_name(record, len(steps)), "")
    whole = 100 * np.nan_to_num(record.gate_shares())
    right.barh(range(len(whole)), whole, color=COLORS[0], height=0.6)
    right.axvline(0, color=INK, linewidth=0.8)
    right.set_xlim(min(-5.0, 1.3 * whole.min()), max(5.0, 1.35 * whole.max()))
    for row, value in enumerate(whole):
        right.text(max(value, 0), row, f" {value:.0f}", va="center", fontsize=8, color=INK,
                   in_layout=False)  # fmt: skip
    despine(right, "at all steps, %")
    figure.suptitle(_summary(record), fontsize=9, color=MUTED)
    return figure


def _shown_steps(record: GatePaths) -> NDArray[np.int64]:
    """Return the steps that are drawn: from the first that is changed, or from the last before."""
    num = record.symbols.shape[1]
    is_changed = (record.changed != "").any(axis=0)
    if num <= _STEPS or not is_changed.any():
        return evenly_spaced(num, _STEPS)
    first = min(int(is_changed.argmax()), num - _STEPS)
    return np.arange(first, first + _STEPS)


def _step_name(record: GatePaths, step: int) -> str:
    """Return the number of a step, with what the first question reads there, and reads instead."""
    symbol, other = record.symbols[0, step], record.changed[0, step]
    name = shorten(printable(symbol), 4)
    return f"{step}\n{name}→{shorten(printable(other), 4)}" if other else f"{step}\n{name}"


def _steps_name(record: GatePaths, num_shown: int) -> str:
    some = share_of(record.symbols.shape[1], num_shown, "steps")
    return "step, and what the first question reads" + (some and f" ({some})")


def _summary(record: GatePaths) -> str:
    which = "" if record.units is None else f" of {len(record.units)} units"
    sender = (
        "" if record.sender == "both" and not which else f"; {record.sender}{which} alone sends"
    )
    size, share = np.abs(record.total_effect).mean(), record.joint_share()
    joint = "the scores do not change" if np.isnan(share) else f"all gates at all steps {share:.0%}"
    whole = f"whole effect {size:.3g} of {shorten(record.quantity)}"
    return f"{len(record.symbols)} changed questions; {whole}; {joint}{sender}"


@text.register
def _(record: GatePaths) -> str:
    steps = _shown_steps(record)
    names: Sequence[str] = [_step_name(record, step).replace("\n", " ") for step in steps]
    lines = [_summary(record), f"{'':>14}" + "".join(f"{n:>8}" for n in names) + f"{'all':>8}"]
    rows = zip(record.gates, 100 * record.shares()[:, steps], record.gate_shares(), strict=True)
    for gate, shares, whole in rows:
        cells = "".join(f"{share:>8.1f}" for share in shares)
        lines.append(f"{NAMES[gate]:>14}{cells}{100 * whole:>8.1f}")
    return "\n".join(lines)


@caption.register
def _(record: QuestionRelevance) -> str:
    return (
        "How much each character of the question speaks for or against each character of the "
        "answer, by several methods; below, how faithful these are to the network."
    )


@caption.register
def _(record: GatePaths) -> str:
    return (
        "One character of the question is changed, and one gate at one step sees it, while all "
        "other gates are as before: the share of the whole effect that goes this way."
    )
