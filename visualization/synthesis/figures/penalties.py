"""Class images, a row for each penalty."""

import numpy as np
from matplotlib.figure import Figure

from visualization.core.pixels import image_colors
from visualization.core.registry import caption, draw, text
from visualization.core.style import BAD, INK, MUTED
from visualization.core.tiles import Tile, heading, heading_height, page, tiles
from visualization.core.words import evenly_spaced, share_of, shorten
from visualization.synthesis.figures.found import draw_missing, rounded
from visualization.synthesis.penalties import NO_PENALTY, PenaltyComparison

_CLASSES_SHOWN, _ROWS_SHOWN = 10, 16
_SIDE, _PITCH = 0.86, (0.96, 1.2)  # inches
_NAMES = 1.05  # inches left of the pictures
_LETTERS = 12  # of a class over its column


@draw.register
def _(record: PenaltyComparison) -> Figure:
    columns = evenly_spaced(len(record.classes), _CLASSES_SHOWN)
    rows = evenly_spaced(len(record.rows), _ROWS_SHOWN)
    words = "under each image: logit, probability of the class | total variation"
    more = (share_of(len(record.classes), len(columns), "classes"),
            share_of(len(record.rows), len(rows), "rows"))  # fmt: skip
    words = "; ".join([words, *filter(None, more)])
    width = max(_NAMES + _PITCH[0] * len(columns) + 0.1, 4.2)
    top = heading_height(words, width)
    figure = Figure(figsize=(width, top + 0.25 + _PITCH[1] * len(rows)))
    axes = page(figure)
    heading(axes, words)
    places = tiles(
        axes, len(rows), len(columns), corner=(_NAMES, top + 0.22), pitch=_PITCH, side=_SIDE
    )
    for row, line in zip(rows, places, strict=True):
        _write_penalty(line[0], record, row)
        for column, tile in zip(columns, line, strict=True):
            _draw_image(tile, record, row, column)
    for column, tile in zip(columns, places[0], strict=True):
        tile.over(shorten(record.class_names[column], _LETTERS), weight="bold")
    return figure


def _write_penalty(tile: Tile, record: PenaltyComparison, row: int) -> None:
    """Write the name of a row at the left of its first picture."""
    across = -(_NAMES / 2) / _SIDE
    style = {"room": _NAMES - 0.1}
    if record.rows[row] == NO_PENALTY:
        tile.write("no penalty", across, 0.5, **style)
        return
    tile.write(shorten(record.rows[row], 10), across, 0.3, weight="bold", **style)
    tile.write(f"× {rounded(record.strengths[row])}", across, 0.52, **style)
    tile.write(f"λ = {rounded(record.weights[row])}", across, 0.72, fontsize=7, color=MUTED,
               **style)  # fmt: skip


def _draw_image(tile: Tile, record: PenaltyComparison, row: int, column: int) -> None:
    image = record.images[row, column].float().numpy()
    if np.isnan(image).any():
        draw_missing(tile)
        return
    tile.picture(image_colors(image, record.limits))
    share = record.probabilities[row, column]
    first = f"{rounded(record.logits[row, column])}, {100 * share:.0f} %"
    words = f"{first}\nTV {record.total_variation[row, column]:.3g}"
    tile.under(words, fontsize=7, color=INK if share > 0.5 else BAD)


@text.register
def _(record: PenaltyComparison) -> str:
    names = [name for name in record.sizes if name != "TV"]
    heads = ["logit", "prob.", *names, "TV"]
    lines = ["means over classes", f"{'penalty':<18}" + "".join(f"{head:>10}" for head in heads)]
    for row, (name, strength) in enumerate(zip(record.rows, record.strengths, strict=True)):
        words = name if name == NO_PENALTY else f"{name} × {strength:g}"
        values = [
            record.logits[row], record.probabilities[row],
            *(record.sizes[other][row] for other in names), record.total_variation[row],
        ]  # fmt: skip
        lines.append(f"{words:<18}" + "".join(f"{np.nanmean(v):>10.4g}" for v in values))
    return "\n".join(lines)


@caption.register
def _(_: PenaltyComparison) -> str:
    return (
        "Each image raises the logit of its class from a grey page on, less a penalty: L1 leaves "
        "few pixels with ink, L2 makes all of them pale, total variation (TV) makes them smooth; "
        "further down in a group the penalty is stronger; red: the class is no longer answered "
        "with more than 50 %."
    )
