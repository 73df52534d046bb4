"""Activation atlas: the images of cells where the cells are."""

from matplotlib.figure import Figure

from visualization.core.pixels import image_colors
from visualization.core.registry import caption, draw, text
from visualization.core.style import BAD, INK, MUTED
from visualization.core.tiles import heading, heading_height, page, tiles
from visualization.core.words import layer_title, shorten
from visualization.synthesis.atlas import ActivationAtlas
from visualization.synthesis.figures.found import draw_missing

_GRID_SHOWN = 14  # rows and columns of cells
_SIDE, _PITCH = 0.76, (0.86, 1.06)  # inches
_LETTERS = 9  # of a class over an image


def _name(record: ActivationAtlas, cell: int) -> str:
    """Return the class that is attributed to a cell, or else its most frequent label, or nothing.

    They have the names of classes, if there are some.
    """
    attributed = record.attributed
    if attributed is not None:
        return _class_name(record, attributed[cell])
    return "" if record.labels is None else _class_name(record, record.labels[cell])


def _class_name(record: ActivationAtlas, label: object) -> str:
    return record.classes[int(str(label))] if record.classes else str(label)


def _agrees(record: ActivationAtlas, cell: int) -> bool:
    """Tell whether nothing contradicts the name of a cell: its most frequent label, if any."""
    return record.labels is None or _name(record, cell) == _class_name(record, record.labels[cell])


def _heading(record: ActivationAtlas) -> str:
    num, total = len(record.cells), int((record.counts > 0).sum())
    method = "t-SNE" if record.method == "tsne" else "PCA"
    over = "" if record.attribution is None else "over: the class that these raise most; "
    return (
        f"{method} of {len(record.points):,} activations in {layer_title(record.layer)}; "
        f"{num} of {total} cells have {record.least} or more; {over}under: how many"
    )


@draw.register
def _(record: ActivationAtlas) -> Figure:
    grid = len(record.counts)
    shown = min(grid, _GRID_SHOWN)
    words = _heading(record) + (f"; {shown} of {grid} rows and columns" if shown < grid else "")
    width = max(_PITCH[0] * shown + 0.15, 5.8)
    top = heading_height(words, width)
    figure = Figure(figsize=(width, top + 0.2 + _PITCH[1] * shown))
    axes = page(figure)
    heading(axes, words)
    corner = ((width - _PITCH[0] * shown) / 2 + 0.05, top + 0.18)
    places = tiles(axes, shown, shown, corner=corner, pitch=_PITCH, side=_SIDE)
    for cell, (row, column) in enumerate(record.cells):
        if max(row, column) >= shown:
            continue
        tile, image = places[row][column], record.images[cell]
        if image.isnan().any():
            draw_missing(tile)
        else:
            tile.picture(image_colors(image.float().numpy(), record.maximised.limits))
        color = INK if _agrees(record, cell) else BAD
        tile.over(shorten(_name(record, cell), _LETTERS), color=color, weight="bold")
        tile.under(str(record.counts[row, column]), fontsize=6, color=MUTED)
    return figure


@text.register
def _(record: ActivationAtlas) -> str:
    lines = [_heading(record), f"{'cell':>8}{'number':>8}{'class':>12}{'label':>12}{'share':>7}"]
    for cell, (row, column) in enumerate(record.cells):
        number = int(record.counts[row, column])
        label, share = "", ""
        if record.labels is not None and record.label_shares is not None:
            label = _class_name(record, record.labels[cell])
            share = f"{record.label_shares[cell]:.0%}"
        name = "" if record.attribution is None else _name(record, cell)
        words = f"{shorten(name, 11):>12}{shorten(label, 11):>12}{share:>7}"
        lines.append(f"{f'{row}, {column}':>8}{number:>8}{words}")
    return "\n".join(lines)


@caption.register
def _(record: ActivationAtlas) -> str:
    words = (
        "Activations of a layer as it arranges them: near cells hold similar ones. Each image "
        "excites the layer in the direction of its cell's mean. "
    )
    if record.attribution is None:
        return words
    named = "The class is that whose logit these activations raise most, to first order"
    return words + named + ("." if record.labels is None else "; red: most of them are of another.")
