"""Images that were found: by activation maximisation, in dreams, from representations."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from visualization.core.pixels import image_colors
from visualization.core.registry import caption, draw, text
from visualization.core.style import BAD, INK
from visualization.core.tiles import Tile, heading, heading_height, page, tiles
from visualization.core.words import evenly_spaced, share_of, wrap
from visualization.synthesis.dreams import Dream
from visualization.synthesis.inversion import Inversion, Solution
from visualization.synthesis.maximise import MaximisedImages

_COLUMNS = 8
_STAGES_SHOWN = 9  # layers, or stages, of a strip
_IMAGES_SHOWN = 64  # images of a grid
_ROWS_SHOWN = 8  # images of a strip, each in a row
_SIDE = 1.25  # inches of an image, with a margin
_LINE = 0.14  # of a line of text
_NARROW = 20  # letters that fit over an image
_WORDS = {
    "redirected": "silent at first", "real": "begun at a real image",
    "unchanged": "no better than the start",
}  # fmt: skip


def _grid(
    num: int, columns: int, head: str, over: int, under: int = 1
) -> tuple[Figure, list[list[Tile]]]:
    """Return a figure for images with lines of text over and under each, and their places."""
    rows, width = -(-num // columns), max(_SIDE * columns + 0.3, 4.2)
    high, top = _SIDE + _LINE * (over + under), heading_height(head, width)
    figure = Figure(figsize=(width, high * rows + top + 0.05))
    axes = page(figure)
    heading(axes, head)
    corner = ((width - _SIDE * columns) / 2 + 0.05, top + _LINE * over + 0.05)
    return figure, tiles(axes, rows, columns, corner=corner, pitch=(_SIDE, high), side=_SIDE - 0.1)


def _columns(num: int) -> int:
    """Return how many images are beside each other, so that the last row is hardly shorter."""
    return -(-num // -(-num // _COLUMNS))


def _image(
    tile: Tile, image: Tensor, title: str, below: str, limits: tuple[float, float],
    color: str = INK,
) -> None:  # fmt: skip
    """Draw an image (C, H, W) with words over and under it; one that is NaN is crossed out."""
    if image.isnan().any():
        draw_missing(tile)
    else:
        tile.picture(image_colors(image.float().cpu().numpy(), limits))
    tile.over(_short(title))
    tile.under(below, fontsize=7, color=color)


def draw_missing(tile: Tile) -> None:
    """Draw that there is no image."""
    tile.picture(np.full((1, 1, 3), 0.9))
    right, bottom = tile.left + tile.side, tile.top + tile.side
    for ends in ([tile.top, bottom], [bottom, tile.top]):
        tile.axes.plot([tile.left, right], ends, color=BAD, linewidth=1)
    box = {"facecolor": "white", "edgecolor": "none", "pad": 2}
    tile.write("dead:\nno image", 0.5, 0.5, color=BAD, bbox=box)


def _short(name: str) -> str:
    return "\n".join(wrap(name, _NARROW, 2))


def rounded(value: float) -> str:
    """Return a number with three digits, small ones with two after the point."""
    return f"{value:.3g}" if abs(value) >= 0.01 else f"{value:.2f}"


@draw.register
def _(record: MaximisedImages) -> Figure:
    num = min(len(record.names), _IMAGES_SHOWN)
    compared = record.dataset_examples is not None
    heading_text = "under each image: its activation" + (" (best real image)" if compared else "")
    more = f"; {num} of {len(record.names)}" if num < len(record.names) else ""
    place, names = _split_common_layer(record.names[:num])
    under = 1 + any(map(_WORDS.get, record.verdicts[:num]))
    figure, rows = _grid(num, _columns(num), place + heading_text + more, _lines(names), under)
    grid = [tile for row in rows for tile in row]
    for index, tile in enumerate(grid[:num]):
        words, color = _reading(record, index)
        _image(tile, record.images[index], names[index], words, record.limits, color)
    return figure


def _split_common_layer(names: Sequence[str]) -> tuple[str, list[str]]:
    """Return the layer that all names begin with, as a heading's beginning, and the rest of each.

    >>> _split_common_layer(["stem.relu:0", "stem.relu:12"])
    ('stem.relu; ', ['0', '12'])
    """
    layers = {name.partition(":")[0] for name in names}
    if len(layers) > 1 or not all(":" in name for name in names):
        return "", list(names)
    return f"{layers.pop()}; ", [name.partition(":")[2] for name in names]


def _lines(names: Sequence[str]) -> int:
    """Return how many lines the longest of some titles takes."""
    return max(len(wrap(name, _NARROW - 2, 2)) for name in names)


def _reading(record: MaximisedImages, number: int) -> tuple[str, str]:
    """Return what is written under an image, red if a real one is better; and its colour."""
    words, color = rounded(record.values[number]), INK
    if record.dataset_examples is not None:
        words += f" ({rounded(record.dataset_examples.values[number])})"
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
            else f"{rounded(record.dataset_examples.values[number]):>12}"
        )
        numbers = f"{rounded(record.starts[number]):>9}{rounded(record.values[number]):>9}{real}"
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
    stages = [record.stages[number] for number in evenly_spaced(len(record.stages), _STAGES_SHOWN)]
    columns = 1 + len(stages)
    head = f"{record.names[0]}, made stronger" if len(record.names) == 1 else "made stronger"
    more = (share_of(len(record.stages), len(stages), "stages"),
            share_of(len(record.originals), num, "images"))  # fmt: skip
    head = "; ".join([head, *filter(None, more)])
    over = 1 if len(record.names) == 1 else _lines(record.names)
    figure, rows = _grid(num * columns, columns, head, over)
    for index, row in enumerate(rows):
        title = "original" if len(record.names) == 1 else record.names[index]
        _image(
            row[0],
            record.originals[index],
            title,
            rounded(record.starts[index]),
            record.limits,
        )
        for tile, stage in zip(row[1:], stages, strict=True):
            words = rounded(record.values[index]) if stage is record.images else ""
            size = f"at {stage.shape[2]}×{stage.shape[3]}"
            _image(tile, stage[index], size, words, record.limits)
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
    layers = evenly_spaced(len(record.layers), _STAGES_SHOWN)
    columns = 1 + len(layers)
    heading_text = "under each image: error of the activation | difference of the pixels"
    more = (share_of(len(record.layers), len(layers), "layers"),
            share_of(len(record.originals), num, "images"))  # fmt: skip
    heading_text = "; ".join([heading_text, *filter(None, more)])
    names = [record.layers[layer] or "output" for layer in layers]
    figure, rows = _grid(num * columns, columns, heading_text, _lines(names))
    for index, row in enumerate(rows):
        _image(row[0], record.originals[index], "original", "", record.limits)
        for layer, name, tile in zip(layers, names, row[1:], strict=True):
            error, difference = record.errors[layer, index], record.differences[layer, index]
            words = f"{error:.1%} | {difference:.0%}"
            _image(tile, record.images[layer, index], name, words, record.limits)
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
    num = min(len(result.names), _IMAGES_SHOWN if starts is None else _IMAGES_SHOWN // 2)
    each = 1 if starts is None else 2
    columns = min(num * each, _COLUMNS)
    over = _lines(result.names[:num])
    figure, rows = _grid(num * each, columns, "made to satisfy a demand", over)
    grid = [tile for row in rows for tile in row]
    for index in range(num):
        met = bool(record.satisfied[index])
        words = "met" if met else f"short by {record.shortfalls[index]:.2g}"
        if starts is not None:
            _image(grid[2 * index], starts[index], "start", "", result.limits)
        tile = grid[each * (index + 1) - 1]
        color = INK if met else BAD
        _image(tile, result.images[index], result.names[index], words, result.limits, color)
    return figure


@caption.register
def _(_: Solution) -> str:
    return "Images that were changed until the network gave what was demanded; red: it does not."
