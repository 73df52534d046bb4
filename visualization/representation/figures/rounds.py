"""Figures of probes by round of a graph network."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from visualization.core.registry import caption, draw, text
from visualization.core.style import INK, axis_labels, despine
from visualization.core.words import evenly_spaced, share_of
from visualization.representation.round_probes import RoundProbes

_MOST = 8  # rounds, and steps


def _panels(record: RoundProbes) -> dict[str, NDArray[np.float64]]:
    """Return the scores by title of their panel."""
    bare = {} if record.untrained is None else {"untrained": record.untrained}
    return {"this network": record.scores, **bare, "targets shuffled": record.controls}


@draw.register
def _(record: RoundProbes) -> Figure:
    panels = _panels(record)
    num_rounds, num_steps = record.scores.shape
    rounds, steps = evenly_spaced(num_rounds, _MOST), evenly_spaced(num_steps, _MOST)
    size = (1.6 + len(panels) * (0.7 + 0.38 * max(len(steps), 4)), 1.6 + 0.36 * len(rounds))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, scores) in zip(grid, panels.items(), strict=True):
        image = axes.imshow(np.clip(scores[np.ix_(rounds, steps)], 0, 1), aspect="auto",
                            cmap="Greens", vmin=0, vmax=1)  # fmt: skip
        _write(axes, scores[np.ix_(rounds, steps)])
        for row, column in np.argwhere(rounds[:, None] == steps + 1):
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=INK))
        despine(axes, title)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        axes.set_xticks(range(len(steps)), [str(step + 1) for step in steps])
    grid[0].set_yticks(range(len(rounds)), list(map(str, rounds)))
    axis_labels(grid[0], "", "after round of messages")
    parts = share_of(num_rounds, len(rounds), "rounds"), share_of(num_steps, len(steps), "steps")
    figure.supxlabel("; ".join(["steps of the algorithm", *filter(None, parts)]), fontsize=9)
    bar = figure.colorbar(image, ax=list(grid), pad=0.01)
    bar.set_label("R², withheld graphs", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


def _write(axes: Axes, scores: NDArray[np.float64]) -> None:
    for row, column in np.argwhere(~np.isnan(scores)):
        value = scores[row, column]
        words = "<0" if value < -0.005 else f"{abs(value):.2f}".removeprefix("0")
        color = "white" if value > 0.6 else INK
        axes.text(column, row, words, ha="center", va="center", fontsize=7.5, color=color,
                  in_layout=False)  # fmt: skip


@text.register
def _(record: RoundProbes) -> str:
    rounds, steps = (evenly_spaced(num, _MOST) for num in record.scores.shape)
    head = f"{'after':<10}" + "".join(f"{f'step {step + 1}':>10}" for step in steps)
    lines = []
    for title, scores in _panels(record).items():
        lines += [f"R² of linear probes, {title}", head]
        lines += [
            f"{f'round {each}':<10}" + "".join(f"{scores[each, step]:>10.2f}" for step in steps)
            for each in rounds
        ]
    return "\n".join(lines)


@caption.register
def _(record: RoundProbes) -> str:
    return (
        "How well a line reads what the algorithm knows after so many steps off the states after "
        "each round. Framed: as many rounds as steps. Shuffled: among objects of the same kind."
    )
