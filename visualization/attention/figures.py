"""Maps of attention: heat maps from the characters written to the characters read."""

import itertools
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from visualization.attention.images import ImageAttention
from visualization.attention.maps import AttentionMaps
from visualization.attention.rollout import AttentionRollout
from visualization.core.registry import caption, draw, text
from visualization.core.style import INK, MUTED, SEQUENTIAL, axis_labels, despine, printable
from visualization.core.words import evenly_spaced, share_of, shorten

_SUMS_OF_ONE_MAP = 6
_SUMS_OF_SEVERAL = 3
_BESIDE = 4  # maps of one sample beside each other
_MAPS = 8
_WIDE, _HIGH = 48, 60  # characters beside and beneath each other, of all maps together
_PADDING = "\n"
_LAYERS, _ROLLED = 4, (16, 26)  # of a rollout: layers, and characters written and read
_IMAGES, _CHARACTERS = 8, 10  # of attention over images
_WIDEST, _PAGE = 4.0, 13.0  # times as wide as high, of an image; inches of all of a row


@draw.register
def _(record: AttentionMaps) -> Figure:
    count = min(len(record.names), _MAPS)
    num = min(_SUMS_OF_ONE_MAP if count == 1 else max(1, _MAPS // count), len(record.labels))
    num = num if count == 1 else min(num, _SUMS_OF_SEVERAL)
    columns = min(2, num) if count == 1 else min(_BESIDE, count)
    slots = 1 if count == 1 else -(-count // columns) * columns  # of a sample
    lines = -(-num * slots // columns)
    positions = _shown_positions(record, num)
    written, read = positions[0][: _HIGH // lines], positions[1][: _WIDE // columns]
    size = (
        max(4.2, 1.4 + columns * (0.7 + 0.2 * len(read))),
        0.9 + lines * (0.9 + 0.2 * len(written)),
    )
    figure = Figure(figsize=size, layout="constrained")
    grid = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes in grid:
        axes.set_axis_off()
    for sample, number in itertools.product(range(num), range(count)):
        axes = grid[sample * slots + number]
        axes.set_axis_on()
        image = _map(axes, record, number, sample, (written, read))
    how = [f"the question is {record.order}"] if record.order else []
    how += [share_of(len(record.names), count, "maps"),
            share_of(len(positions[0]), len(written), "characters written"),
            share_of(len(positions[1]), len(read), "characters read")]  # fmt: skip
    words = "; ".join(["read →", *filter(None, how)])
    figure.supxlabel(words, fontsize=9, color=INK)
    bar = figure.colorbar(image, ax=grid, pad=0.01, fraction=0.05)
    bar.set_label("share of the attention", fontsize=8, color=MUTED)
    bar.ax.tick_params(labelsize=7)
    return figure


def _shown_positions(
    record: AttentionMaps, num: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the places written and read that are drawn of the first samples.

    Left out is what is padding in all of them, but for the one next to an answer, which ends it,
    and what is looked at.
    """
    text = record.written[:num] != _PADDING
    wide = np.pad(text, ((0, 0), (1, 1)))
    written = (text | wide[:, 2:] | wide[:, :-2]).any(axis=0)
    looked_at = (record.weights[:, :num] > 0).any(axis=(0, 1, 2))
    read = (record.read[:num] != _PADDING).any(axis=0) | looked_at
    written_mask = written if written.any() else ~written  # an answer of padding alone
    return np.flatnonzero(written_mask), np.flatnonzero(read)


def _map(
    axes: Axes,
    record: AttentionMaps,
    number: int,
    sample: int,
    positions: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> AxesImage:
    """Draw one map of one sample, at the places written and read."""
    name = f"{shorten(record.names[number], 14)}: " if len(record.names) > 1 else ""
    verdict = "✓" if record.right[sample] else "✗"
    return _heat_map(
        axes, record.weights[number, sample][np.ix_(*positions)],
        f"{name}{_short(record.labels[sample])} {verdict}",
        record.written[sample, positions[0]], record.read[sample, positions[1]],
    )  # fmt: skip


def _heat_map(
    axes: Axes,
    weights: NDArray[np.float64],
    title: str,
    written: NDArray[np.str_],
    read: NDArray[np.str_],
    largest: float = 1.0,
    name: str = "written ↓",
) -> AxesImage:
    """Draw weights (written, read) with their characters beside them."""
    image = axes.imshow(
        weights, vmin=0, vmax=largest, cmap=SEQUENTIAL, interpolation="nearest", aspect="auto"
    )
    despine(axes, title)
    axes.title.set_fontsize(9)
    sides: tuple[tuple[Any, NDArray[np.str_]], ...] = (
        (axes.set_xticks, read),
        (axes.set_yticks, written),
    )
    for set_ticks, characters in sides:
        set_ticks(range(len(characters)), [printable(c) for c in characters], fontsize=9,
                  family="DejaVu Sans Mono", parse_math=False)  # fmt: skip
    axes.tick_params(length=0)
    cell = axes.get_subplotspec()
    axis_labels(axes, "", name if cell is not None and cell.is_first_col() else "")
    return image


def _short(words: str, most: int = 28) -> str:
    """Return a sum in words, its question cut so that the answer has room."""
    question, equals, answer = words.rpartition(" = ")
    room = max(most - len(equals + answer), 1)
    return (
        words if len(words) <= most else shorten(f"{question[: room - 1]}…{equals}{answer}", most)
    )


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
    heading = (
        "largest weight of a row, on average; share of the weight on characters read of the same"
    )
    return "\n".join([heading, head, *lines, *([chance] if quantities else [])])


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.2f}"


@caption.register
def _(record: AttentionMaps) -> str:
    return (
        "Rows: the characters as they are written; columns: those that were read. Darker: "
        "looked at more."
    )


@draw.register
def _(record: AttentionRollout) -> Figure:
    layers = evenly_spaced(len(record.layers), _LAYERS)
    sample = _longest(record)
    written, read = _text_places(record, sample)
    size = (1.6 + 2 * (0.7 + 0.2 * len(read)), 0.9 + len(layers) * (0.7 + 0.2 * len(written)))
    figure = Figure(figsize=(max(size[0], 5.0), size[1]), layout="constrained")
    grid = figure.subplots(len(layers), 2, squeeze=False)
    place = np.ix_(layers, np.array([sample]), written, read)
    largest = float(max(record.attention[place].max(), record.rollout[place].max()))
    for row, layer in zip(grid, layers, strict=True):
        name = shorten(record.layers[layer], 16)
        for axes, kind, weights in zip(
            row, ("alone", "rollout"), (record.attention, record.rollout), strict=True
        ):
            image = _heat_map(
                axes, weights[layer, sample][np.ix_(written, read)], f"{name}: {kind}",
                record.written[sample, written], record.read[sample, read], largest, "place ↓",
            )  # fmt: skip
    more = share_of(len(record.layers), len(layers), "layers")
    order = record.order and f"the question is {record.order}"
    words = [f"{_short(record.labels[sample])}; from →", order, more]
    figure.supxlabel("; ".join(filter(None, words)), fontsize=9, color=INK)
    bar = figure.colorbar(image, ax=list(grid.flat), pad=0.01, fraction=0.05)
    bar.set_label("share", fontsize=8, color=MUTED)
    bar.ax.tick_params(labelsize=7)
    return figure


def _longest(record: AttentionRollout) -> int:
    """Return the sample of which there is most to see."""
    return max(range(len(record.labels)), key=lambda sample: len(record.labels[sample]))


def _text_places(
    record: AttentionRollout, sample: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the places written and read of a sample that are drawn: not the padding.

    Of the padding next to what is written, which ends it, one is drawn; and what is taken in.
    """
    text = np.pad(record.written[sample] != _PADDING, 1)
    written = np.flatnonzero(text[1:-1] | text[:-2] | text[2:])
    written = (written if len(written) else np.arange(len(record.written[sample])))[: _ROLLED[0]]
    taken = (record.rollout[:, sample][:, written] > 0).any(axis=(0, 1))
    return written, np.flatnonzero(taken)[: _ROLLED[1]]


@text.register
def _(record: AttentionRollout) -> str:
    sample = _longest(record)
    characters = [printable(c) for c in record.read[sample]]
    lines = [f"{record.labels[sample]}: the three largest shares of each place after all layers"]
    for place, shares in enumerate(record.rollout[-1, sample]):
        order = np.argsort(-shares, kind="stable")[:3]
        words = ", ".join(f"{characters[at]} at {at} {shares[at]:.2f}" for at in order)
        lines.append(f"{printable(record.written[sample, place])}: {words}")
    return "\n".join(lines)


@caption.register
def _(record: AttentionRollout) -> str:
    return (
        "Left: a layer's attention, the mean of its heads. Right: rollout, the share of each "
        "character (columns) in each place (rows) after this layer and those before it."
    )


@draw.register
def _(record: ImageAttention) -> Figure:
    num = min(len(record.images), _IMAGES)
    texts = [text[:_CHARACTERS] for text in record.written[:num]]
    columns = max([1, *map(len, texts)])
    height, width = record.images.shape[2:]
    wide = min(max(width / height, 0.5), _WIDEST)
    side = min(1.1, _PAGE / (wide * columns))  # inches of an image's height
    size = (max(side * wide * columns, 2.0) + 0.4, (side + 0.15) * num + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(num, columns, squeeze=False)
    for row, words in enumerate(texts):
        image = record.images[row].mean(axis=0)
        for column, axes in enumerate(grid[row]):
            axes.set_axis_off()
            if column < len(words):
                look = record.maps[row, column]
                axes.imshow(image, cmap="gray_r", aspect="equal", extent=(0, width, height, 0))
                axes.imshow(
                    look, cmap="Oranges", alpha=0.6 * look / (look.max() or 1.0),
                    extent=(0, width, height, 0), interpolation="nearest",
                )  # fmt: skip
                axes.set_title(printable(words[column]), fontsize=10, color=INK)
    figure.suptitle("written character by character; orange: looked at", fontsize=9, color=MUTED)
    return figure


@caption.register
def _(record: ImageAttention) -> str:
    return "A row is an image; a column, a character that is written, and where the model looks."


@text.register
def _(record: ImageAttention) -> str:
    return "\n".join(record.written)
