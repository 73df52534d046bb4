"""Maps of attention: heat maps from the characters written to the characters read."""

import numpy as np
from matplotlib.figure import Figure

from visualization.attention import AttentionMaps
from visualization.render.core import INK, MUTED, draw, text
from visualization.render.states import SEQUENTIAL, label, quiet, shown

_SUMS_OF_ONE_MAP = 6
_SUMS_OF_SEVERAL = 3
_LONGEST = 40  # characters of a side that are drawn


@draw.register
def _(record: AttentionMaps) -> Figure:
    count = len(record.names)
    if count == 1:
        num = min(_SUMS_OF_ONE_MAP, len(record.labels))
        columns = min(2, num)
        panels = [(0, sample) for sample in range(num)]
    else:
        num, columns = min(_SUMS_OF_SEVERAL, len(record.labels)), count
        panels = [(number, sample) for sample in range(num) for number in range(count)]
    lines = -(-len(panels) // columns)
    written, read = (min(side.shape[1], _LONGEST) for side in (record.written, record.read))
    size = (1.4 + columns * (0.7 + 0.2 * read), 0.9 + lines * (0.9 + 0.2 * written))
    figure = Figure(figsize=size, layout="constrained")
    grid = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes, (number, sample) in zip(grid, panels, strict=False):
        image = axes.imshow(
            record.weights[number, sample, :written, :read], vmin=0, vmax=1, cmap=SEQUENTIAL,
            interpolation="nearest", aspect="auto",
        )  # fmt: skip
        name = "" if count == 1 else f"{record.names[number]}: "
        quiet(axes, f"{name}{_short(record.labels[sample])}")
        axes.title.set_fontsize(9)
        for set_ticks, characters in (
            (axes.set_xticks, record.read[sample, :read]),
            (axes.set_yticks, record.written[sample, :written]),
        ):
            set_ticks(range(len(characters)), [shown(c) for c in characters], fontsize=9,
                      family="DejaVu Sans Mono", parse_math=False)  # fmt: skip
        axes.tick_params(length=0)
        label(axes, "", "written ↓" if axes.get_subplotspec().is_first_col() else "")
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    how = f"; the question is {record.order}" if record.order else ""
    figure.supxlabel(f"read →{how}", fontsize=9, color=INK)
    bar = figure.colorbar(image, ax=grid, pad=0.01, fraction=0.05)
    bar.set_label("share of the attention", fontsize=8, color=MUTED)
    bar.ax.tick_params(labelsize=7)
    return figure


def _short(words: str, most: int = 28) -> str:
    return words if len(words) <= most else words[: most - 1] + "…"


@text.register
def _(record: AttentionMaps) -> str:
    quantities = list(record.shares)
    head = f"{'map':<12}{'largest':>9}" + "".join(f"{f'same {q}':>16}" for q in quantities)
    lines = [
        f"{name:<12}{record.largest[number]:>9.2f}"
        + "".join(f"{_number(record.shares[q][number]):>16}" for q in quantities)
        for number, name in enumerate(record.names)
    ]
    chance = f"{'by chance':<21}" + "".join(
        f"{_number(record.by_chance[q]):>16}" for q in quantities
    )
    told = "largest weight of a row, on average; share of the weight on characters read of the same"
    return "\n".join([told, head, *lines, *([chance] if quantities else [])])


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.2f}"
