"""Figures of circuits: attribution of logits, spectra, progress measures, ablations, swaps."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from visualization.circuits.fourier import FrequencySpectra
from visualization.circuits.frequency_ablation import FrequencyAblation
from visualization.circuits.interchange import InterchangeInterventions
from visualization.circuits.logit_attribution import LogitAttribution
from visualization.circuits.progress import ProgressMeasures
from visualization.core.registry import caption, draw, text
from visualization.core.style import (
    COLORS,
    DIVERGING,
    INK,
    MUTED,
    axis_labels,
    despine,
    printable,
)
from visualization.core.words import evenly_spaced, legend, share_of, shorten, truncated_list

_PARTS, _PLACES, _SAMPLES, _SINGLE = 40, 10, 2, 12  # drawn of an attribution of logits
_NAME = 24  # letters
_BINS = [part / 20 for part in range(21)]
_MOST = 60  # names of a list
_ROUNDS = 8  # panels of interchange interventions
_LOWEST = 1e-9  # nats: losses below are drawn there
Grid = NDArray[np.float64]


@draw.register
def _(record: LogitAttribution) -> Figure:
    num, places = record.values.shape[0], min(record.values.shape[1], _PLACES)
    count = min(len(record.parts), _PARTS)
    panels = _panels(record, places)
    widths = [max(len(ticks), 3) for _, ticks, _ in panels]
    size = (2.6 + 0.34 * sum(widths) + 0.3 * len(widths), 1.6 + 0.22 * count)
    figure = Figure(figsize=(max(size[0], 5.0), size[1]), layout="constrained")
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False, width_ratios=widths)[0]
    largest = max(float(np.abs(values[:count]).max()) for _, _, values in panels) or 1.0
    for axes, (title, ticks, values) in zip(grid, panels, strict=True):
        image = axes.imshow(values[:count], cmap=DIVERGING, vmin=-largest, vmax=largest,
                            aspect="auto", interpolation="nearest")  # fmt: skip
        despine(axes, title)
        axes.title.set_fontsize(9)
        turned = 90 if max(map(len, ticks), default=0) > 2 else 0
        axes.set_xticks(range(len(ticks)), ticks, fontsize=8, rotation=turned, parse_math=False)
        axes.set_yticks(range(count), [shorten(name, _NAME) for name in record.parts[:count]],
                        fontsize=8, parse_math=False)  # fmt: skip
        axes.tick_params(length=0)
    bar = figure.colorbar(image, ax=list(grid), pad=0.01, fraction=0.05)
    bar.set_label("added to the logit", fontsize=8, color=MUTED)
    bar.ax.tick_params(labelsize=7)
    more = (
        share_of(len(record.parts), count, "parts"),
        share_of(record.values.shape[1], places, "characters"),
    )
    words = [f"mean of {num:,} answers, and single ones", *filter(None, more)]
    figure.supxlabel("; ".join(words), fontsize=9, color=INK)
    return figure


def _panels(record: LogitAttribution, places: int) -> list[tuple[str, list[str], Grid]]:
    """Return title, names of the columns and values (M, columns) of each heat map."""
    mean = record.values[:, :places].mean(axis=0).T
    if places == 1:
        chosen = record.values[:_SINGLE, 0].T
        labels = [shorten(label, 12) for label in record.labels[:_SINGLE]]
        return [("mean", [""], mean), ("answers", labels, chosen)]
    panels = [("mean, by place", [str(place) for place in range(1, places + 1)], mean)]
    for sample in range(min(_SAMPLES, len(record.labels))):
        ticks = [printable(character) for character in record.written[sample, :places]]
        title = shorten(record.labels[sample], 2 * places + 6)
        panels.append((title, ticks, record.values[sample, :places].T))
    return panels


@text.register
def _(record: LogitAttribution) -> str:
    mean, overall = record.values.mean(axis=0), record.logits.mean(axis=0)
    shown = range(min(mean.shape[0], _PLACES))
    head = f"{'part':<26}" + "".join(f"{f'place {place + 1}':>10}" for place in shown)
    rows = [
        f"{shorten(name, 25):<26}" + "".join(f"{mean[place, at]:>10.2f}" for place in shown)
        for at, name in enumerate(record.parts)
    ]
    last = f"{'sum: the logit':<26}" + "".join(f"{overall[place]:>10.2f}" for place in shown)
    return "\n".join([
        "mean addition to the logit of the character written, minus the mean over all characters",
        head, *truncated_list(rows, _MOST), last,
    ])  # fmt: skip


@caption.register
def _(record: LogitAttribution) -> str:
    return (
        "What each part adds to the logit of the character that was written, minus the mean over "
        "all characters; with the scale of the final norm held, the terms of a column sum to it."
    )


@draw.register
def _(record: FrequencySpectra) -> Figure:
    figure = Figure(figsize=(8.4, 6.6), layout="constrained")
    norms, shares, neurons = figure.subplots(3, 1)
    count = len(record.logit_shares)
    frequencies = np.arange(1, count + 1)
    keys = np.isin(frequencies, record.key_frequencies)
    flat = float((record.embedding_norms**2).mean()) ** 0.5
    for axes, heights, level, name in (
        (norms, record.embedding_norms, flat, "norm"),
        (shares, record.logit_shares, 1 / count, "share of the variance"),
    ):
        for chosen, color, label in ((keys, COLORS[1], "key"), (~keys, COLORS[0], "other")):
            axes.bar(frequencies[chosen], heights[chosen], color=color, label=label)
        axes.axhline(level, color=MUTED, linewidth=1, linestyle="--", label="flat spectrum")
        axis_labels(axes, "frequency k", name)
        legend(axes)
    shares.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    despine(norms, f"embedding of the numbers modulo {record.modulus}; Gini {record.gini:.2f}")
    total = record.logit_shares[keys].sum()
    despine(shares, f"logits along cos and sin w(a + b); key frequencies: {total:.1%} in all")
    _draw_neurons(neurons, record)
    return figure


def _draw_neurons(axes: Axes, record: FrequencySpectra) -> None:
    varies = record.neuron_frequencies > 0
    of_key = np.isin(record.neuron_frequencies, record.key_frequencies)
    groups = [record.neuron_shares[varies & chosen] for chosen in (of_key, ~of_key)]
    axes.hist(groups, _BINS, stacked=True, color=[COLORS[1], COLORS[0]], edgecolor="white",
              label=["best is key", "best is another"])  # fmt: skip
    axes.set_xlim(0, 1)
    constant = int((~varies).sum())
    words = f"; {constant:,} are constant" if constant else ""
    despine(axes, f"{int(varies.sum()):,} neurons{words}")
    axis_labels(axes, "share of a neuron's variance that its best frequency explains", "neurons")
    legend(axes)


@text.register
def _(record: FrequencySpectra) -> str:
    rows = [
        f"{k:>9}{record.embedding_norms[k - 1]:>11.3f}{record.logit_shares[k - 1]:>10.2%}"
        f"{int((record.neuron_frequencies == k).sum()):>9}"
        f"{'  key' if k in record.key_frequencies else ''}"
        for k in range(1, len(record.logit_shares) + 1)
    ]
    shares = record.neuron_shares[record.neuron_frequencies > 0]
    mean = f"{shares.mean():.1%}" if len(shares) else "–"
    return "\n".join([
        f"modulo {record.modulus}; Gini coefficient of the norms {record.gini:.3f}; a neuron's "
        f"best frequency explains {mean} of its variance on average",
        f"{'frequency':>9}{'embedding':>11}{'logits':>10}{'neurons':>9}", *rows,
    ])  # fmt: skip


@caption.register
def _(record: FrequencySpectra) -> str:
    return (
        "How strong each frequency 2πk/p is in the embedding, in the logits and in the neurons. "
        "Key are those with more of the logits' variance than all would have of a flat spectrum."
    )


@draw.register
def _(record: ProgressMeasures) -> Figure:
    figure = Figure(figsize=(11.5, 5.6), layout="constrained")
    grid = figure.subplots(2, 3)
    chance = 1 / record.modulus
    panels = {
        "accuracy": {"training": record.train_accuracy, "withheld": record.test_accuracy},
        "loss (nats)": {"training": record.train_loss, "withheld": record.test_loss},
        "loss with key frequencies (nats)": {
            "restricted, withheld": record.restricted_loss,
            "excluded, training": record.excluded_loss,
        },
        "share of the logits' variance in them": {"": record.key_share},
        "Gini of the embedding's frequencies": {"": record.gini},
        "sum of squared weights": {"": record.squared_weights},
    }
    for axes, (title, series) in zip(grid.flat, panels.items(), strict=True):
        for color, (label, values) in zip(COLORS, series.items(), strict=False):
            shown = np.maximum(values, _LOWEST) if "loss" in title else values
            axes.plot(record.steps, shown, color=color, label=label, linewidth=1.5,
                      marker="o", markersize=2)  # fmt: skip
        despine(axes, title)
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(0, None)
        axis_labels(axes, "step", "")
        axes.grid(axis="y", color="#eeeeee")
        if "loss" in title:
            axes.set_yscale("log")
        level = {"accuracy": chance}.get(title, math.log(record.modulus) if "loss" in title else 0)
        if level:
            axes.axhline(level, color=MUTED, linewidth=1, linestyle="--", label="chance")
            legend(axes)
        else:
            axes.set_ylim(0, None)
    return figure


@text.register
def _(record: ProgressMeasures) -> str:
    head = ("step", "training", "withheld", "accuracy", "only keys", "without", "Gini", "weights²")
    columns = (record.train_loss, record.test_loss, record.test_accuracy, record.restricted_loss,
               record.excluded_loss, record.gini, record.squared_weights)  # fmt: skip
    rows = [
        f"{step:>8,}" + "".join(f"{values[at]:>11.4g}" for values in columns)
        for at, step in enumerate(record.steps.tolist())
    ]
    keys = ", ".join(map(str, record.key_frequencies)) or "none"
    heading = f"{head[0]:>8}" + "".join(f"{name:>11}" for name in head[1:])
    return "\n".join([f"key frequencies: {keys}; losses in nats", heading,
                      *truncated_list(rows, _MOST)])  # fmt: skip


@caption.register
def _(record: ProgressMeasures) -> str:
    return (
        "The training pairs are learned by heart first. While the withheld loss is still high, the "
        "loss from the key frequencies alone falls; without them, it rises."
    )


@draw.register
def _(record: FrequencyAblation) -> Figure:
    figure = Figure(figsize=(9.0, 2.7), layout="constrained")
    grid = figure.subplots(1, 2, sharey=True)
    names = [*record.loss, _random_name(record)]
    panels = (
        ("accuracy", record.accuracy, record.random_accuracy, 1 / record.modulus),
        ("loss (nats)", record.loss, record.random_loss, math.log(record.modulus)),
    )
    for axes, (title, values, random, chance) in zip(grid, panels, strict=True):
        points = np.maximum([*values.values(), random.mean()], _LOWEST)
        colors = [COLORS[1] if name == "only key" else COLORS[0] for name in names]
        axes.axvline(chance, color=MUTED, linewidth=1, linestyle="--", label="chance")
        axes.scatter(points, range(len(names)), c=colors, s=45, zorder=3)
        axes.scatter(np.maximum(random, _LOWEST), np.full(len(random), len(names) - 1.0),
                     color=COLORS[0], s=14, alpha=0.35, linewidths=0)  # fmt: skip
        despine(axes, title)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.grid(axis="x", color="#eeeeee")
    grid[0].set_xlim(-0.03, 1.03)
    grid[1].set_xscale("log")
    grid[0].set_ylim(len(names) - 0.4, -0.6)
    legend(grid[0])
    return figure


def _random_name(record: FrequencyAblation) -> str:
    return f"only {len(record.key_frequencies)} others, {len(record.random_loss)} draws"


@text.register
def _(record: FrequencyAblation) -> str:
    keys = ", ".join(map(str, record.key_frequencies)) or "none"
    rows = [
        f"{name:<26}{record.accuracy[name]:>10.2%}{loss:>14.4g}"
        for name, loss in record.loss.items()
    ]
    mean = f"{record.random_accuracy.mean():>10.2%}{record.random_loss.mean():>14.4g}"
    spread = f"{record.random_accuracy.min():.2%} to {record.random_accuracy.max():.2%}"
    return "\n".join([
        f"frequencies kept in the {record.place}; key: {keys}",
        f"{'kept':<26}{'accuracy':>10}{'loss (nats)':>14}", *rows,
        f"{_random_name(record):<26}{mean}  (mean; accuracy {spread})",
        f"{'chance':<26}{1 / record.modulus:>10.2%}{math.log(record.modulus):>14.4g}",
    ])  # fmt: skip


@caption.register
def _(record: FrequencyAblation) -> str:
    return (
        f"What is answered when only some frequencies are kept in the {record.place}: the key "
        "ones, all but these, and as many others at random (small dots: single draws)."
    )


@draw.register
def _(record: InterchangeInterventions) -> Figure:
    shown = evenly_spaced(len(record.rounds), _ROUNDS)
    columns = min(4, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(max(0.6 + 2.5 * columns, 4.4), 0.6 + 2.6 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    both = np.concatenate([record.network[shown].ravel(), record.algorithm[shown].ravel()])
    most = float(np.abs(both[np.isfinite(both)]).max(initial=0.0)) or 1.0
    for axes in grid.flat[len(shown) :]:
        axes.set_axis_off()
    for axes, each in zip(grid.flat, shown, strict=False):
        axes.plot([-most, most], [-most, most], color=MUTED, linewidth=1, linestyle="--")
        axes.scatter(record.algorithm[each], record.network[each], s=11, alpha=0.4,
                     color=COLORS[0], linewidths=0)  # fmt: skip
        numbers = f"R² {record.r2[each]:.2f}, slope {record.slopes[each]:.2f}"
        despine(axes, f"after round {record.rounds[each]}\n{numbers}")
        axes.grid(color="#eeeeee")
    more = share_of(len(record.rounds), len(shown), "rounds")
    words = ["change of the algorithm's answer", *filter(None, [more])]
    figure.supxlabel("; ".join(words), fontsize=9)
    figure.supylabel("change of the network's", fontsize=9)
    return figure


@text.register
def _(record: InterchangeInterventions) -> str:
    head = (
        f"{'after':<10}{'swaps':>8}{'R²':>8}{'slope':>8}  mean |change| where the algorithm's is 0"
    )
    num = (~np.isnan(record.network + record.algorithm)).sum(axis=1)
    measures = zip(record.rounds, num, record.r2, record.slopes, record.side_effects, strict=True)
    rows = [
        f"{f'round {number}':<10}{count:>8,}{r2:>8.2f}{slope:>8.2f}  {still:.3g}"
        for number, count, r2, slope, still in measures
    ]
    return "\n".join([head, *truncated_list(rows, _MOST)])


@caption.register
def _(record: InterchangeInterventions) -> str:
    return (
        "The state of one object is replaced by another's: the change of the network's answer, "
        "beside that of the algorithm with the same value replaced. Dashed: both are equal."
    )
