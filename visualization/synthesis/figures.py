"""Images that were found: by activation maximisation, in dreams, from representations."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from visualization.core.pictures import draw_image, hide_axes
from visualization.core.registry import caption, draw, text
from visualization.core.style import BAD, INK, MUTED
from visualization.core.words import evenly_spaced, share_of, wrap
from visualization.synthesis.dreams import Dream
from visualization.synthesis.inversion import Inversion, Solution
from visualization.synthesis.maximise import MaximisedImages

_COLUMNS = 8
_BESIDE = 9  # layers, or stages, of a strip
_SHOWN = 64  # images of a grid
_ROWS_SHOWN = 8  # images of a strip, each in a row
_SIDE = 1.25  # inches of an image
_NARROW = 20  # letters that fit over an image
_WORDS = {
    "redirected": "silent at first", "real": "begun at a real image",
    "unchanged": "no better than the start",
}  # fmt: skip


def _grid(num: int, columns: int, heading: str, lines: float) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure of images with lines of text at each, and a row of axes for each row."""
    rows = -(-num // columns)
    size = (_SIDE * columns + 0.3, (_SIDE + 0.14 * lines) * rows + 0.4)
    figure = Figure(figsize=(max(size[0], 4.2), size[1]), layout="constrained")
    figure.suptitle(heading, fontsize=9, color=MUTED)
    return figure, [list(row) for row in figure.subplots(rows, columns, squeeze=False)]


def _columns(num: int) -> int:
    """Return how many images are beside each other, so that the last row is hardly shorter."""
    return -(-num // -(-num // _COLUMNS))


def _image(
    axes: Axes, image: Tensor, title: str, below: str, limits: tuple[float, float],
    color: str = INK,
) -> None:  # fmt: skip
    """Draw an image (C, H, W) with words over and under it; one that is NaN is crossed out."""
    if image.isnan().any():
        _crossed(axes, title)
    else:
        draw_image(axes, image.float().cpu().numpy(), _short(title), limits)
    axes.set_xlabel(below, fontsize=7, color=color, labelpad=2)


def _crossed(axes: Axes, title: str) -> None:
    """Draw that there is no image."""
    draw_image(axes, np.full((1, 1, 1), 0.9), _short(title))
    for line in ([0, 1], [1, 0]):
        axes.plot([0, 1], line, color=BAD, linewidth=1, transform=axes.transAxes)
    axes.text(
        0.5, 0.5, "dead:\nno image", ha="center", va="center", fontsize=8, color=BAD,
        transform=axes.transAxes, bbox={"facecolor": "white", "edgecolor": "none", "pad": 2},
    )  # fmt: skip


def _short(name: str) -> str:
    return "\n".join(wrap(name, _NARROW, 2))


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) >= 0.01 else f"{value:.2f}"


@draw.register
def _(record: MaximisedImages) -> Figure:
    num = min(len(record.names), _SHOWN)
    compared = record.dataset_examples is not None
    heading_text = "under each image: its activation" + (" (best real image)" if compared else "")
    more = f"; {num} of {len(record.names)}" if num < len(record.names) else ""
    layer_heading, names = _shared(record.names[:num])
    lines = 2 + max(map(_lines, names)) + any(map(_WORDS.get, record.verdicts[:num]))
    figure, rows = _grid(num, _columns(num), layer_heading + heading_text + more, lines)
    grid = [axes for row in rows for axes in row]
    for number, axes in enumerate(grid[:num]):
        words, color = _reading(record, number)
        _image(axes, record.images[number], names[number], words, record.limits, color)
    hide_axes(grid[num:])
    return figure


def _shared(names: Sequence[str]) -> tuple[str, list[str]]:
    """Return the layer that all names begin with, as a heading's beginning, and the rest of each.

    >>> _shared(["stem.relu:0", "stem.relu:12"])
    ('stem.relu; ', ['0', '12'])
    """
    layers = {name.partition(":")[0] for name in names}
    if len(layers) > 1 or not all(":" in name for name in names):
        return "", list(names)
    return f"{layers.pop()}; ", [name.partition(":")[2] for name in names]


def _lines(name: str) -> int:
    return _short(name).count("\n")


def _reading(record: MaximisedImages, number: int) -> tuple[str, str]:
    """Return what is written under an image, red if a real one is better; and its colour."""
    words, color = _number(record.values[number]), INK
    if record.dataset_examples is not None:
        words += f" ({_number(record.dataset_examples.values[number])})"
        color = BAD if record.dataset_examples.values[number] > record.values[number] else INK
    noted = _WORDS.get(record.verdicts[number])
    return (f"{words}\n{noted}" if noted else words), color


@text.register
def _(record: MaximisedImages) -> str:
    lines = []
    for number, name in enumerate(record.names):
        real = (
            ""
            if record.dataset_examples is None
            else f"{_number(record.dataset_examples.values[number]):>12}"
        )
        numbers = f"{_number(record.starts[number]):>9}{_number(record.values[number]):>9}{real}"
        lines.append(f"{name[:40]:<40}{numbers}  {record.verdicts[number]}")
    head = f"{'':<40}{'start':>9}{'found':>9}" + (
        f"{'best real':>12}" if record.dataset_examples else ""
    )
    dead = [number for number, verdict in enumerate(record.verdicts) if verdict == "dead"]
    return "\n".join([head, *lines, *(record.sentence(number) for number in dead)])


@caption.register
def _(record: MaximisedImages) -> str:
    words = "Each image was made to excite one thing as much as it can. Under it: the activation"
    if record.dataset_examples is None:
        return words + "."
    return words + ", and in brackets that of the best real image; red: the real one is better."


@draw.register
def _(record: Dream) -> Figure:
    num = min(len(record.originals), _ROWS_SHOWN)
    stages = [record.stages[number] for number in evenly_spaced(len(record.stages), _BESIDE)]
    columns = 1 + len(stages)
    heading = f"{record.names[0]}, made stronger" if len(record.names) == 1 else "made stronger"
    more = (share_of(len(record.stages), len(stages), "stages"),
            share_of(len(record.originals), num, "images"))  # fmt: skip
    heading = "; ".join([heading, *filter(None, more)])
    figure, rows = _grid(num * columns, columns, heading, 2)
    for number, row in enumerate(rows):
        title = "original" if len(record.names) == 1 else record.names[number]
        _image(
            row[0], record.originals[number], title, _number(record.starts[number]), record.limits
        )
        for axes, stage in zip(row[1:], stages, strict=True):
            words = _number(record.values[number]) if stage is record.images else ""
            size = f"at {stage.shape[2]}×{stage.shape[3]}"
            _image(axes, stage[number], size, words, record.limits)
    return figure


@caption.register
def _(_: Dream) -> str:
    return (
        "What the network sees in an image, made stronger in small copies first, then in larger "
        "ones. Numbers: how strong it is at first, and at last."
    )


@draw.register
def _(record: Inversion) -> Figure:
    num = min(len(record.originals), _ROWS_SHOWN)
    layers = evenly_spaced(len(record.layers), _BESIDE)
    columns = 1 + len(layers)
    heading_text = "under each image: error of the activation | difference of the pixels"
    more = (share_of(len(record.layers), len(layers), "layers"),
            share_of(len(record.originals), num, "images"))  # fmt: skip
    heading_text = "; ".join([heading_text, *filter(None, more)])
    figure, rows = _grid(num * columns, columns, heading_text, 2)
    for number, row in enumerate(rows):
        _image(row[0], record.originals[number], "original", "", record.limits)
        for layer, axes in zip(layers, row[1:], strict=True):
            error, difference = record.errors[layer, number], record.differences[layer, number]
            words = f"{error:.1%} | {difference:.0%}"
            name = record.layers[layer] or "output"
            _image(axes, record.images[layer, number], name, words, record.limits)
    return figure


@text.register
def _(record: Inversion) -> str:
    lines = [f"{'layer':<24}{'activation differs':>20}{'pixels differ':>16}"]
    for layer, errors, pixels in zip(record.layers, record.errors, record.differences, strict=True):
        lines.append(f"{layer or 'output':<24}{errors.mean():>20.1%}{pixels.mean():>16.1%}")
    return "\n".join(lines)


@caption.register
def _(_: Inversion) -> str:
    return (
        "Images that a layer hardly tells from the original: what they show differently, the "
        "layer has not kept. The error is relative; the difference a share of black to white."
    )


@draw.register
def _(record: Solution) -> Figure:
    result, starts = record.result, record.originals
    num = min(len(result.names), _SHOWN if starts is None else _SHOWN // 2)
    each = 1 if starts is None else 2
    columns = min(num * each, _COLUMNS)
    lines = 2 + max(map(_lines, result.names[:num]))
    figure, rows = _grid(num * each, columns, "made to satisfy a demand", lines)
    grid = [axes for row in rows for axes in row]
    for number in range(num):
        met = bool(record.satisfied[number])
        words = "met" if met else f"short by {record.shortfalls[number]:.2g}"
        if starts is not None:
            _image(grid[2 * number], starts[number], "start", "", result.limits)
        axes = grid[each * (number + 1) - 1]
        _image(
            axes,
            result.images[number],
            result.names[number],
            words,
            result.limits,
            INK if met else BAD,
        )
    hide_axes(grid[num * each :])
    return figure


@caption.register
def _(_: Solution) -> str:
    return "Images that were changed until the network gave what was demanded; red: it does not."
