"""The channels of a layer at a glance."""

import numpy as np
from matplotlib.figure import Figure

from visualization.core.pictures import display_range
from visualization.core.pixels import image_colors
from visualization.core.registry import caption, draw, text
from visualization.core.style import BAD, MUTED
from visualization.core.tiles import page, tiles
from visualization.feature_maps.sheets import UnitSheets

_CHANNELS = 32
_COLUMNS = 8


@draw.register
def _(record: UnitSheets) -> Figure:
    channels = record.patches.channels[:_CHANNELS]
    columns = min(_COLUMNS, len(channels))
    rows = -(-len(channels) // columns)
    width = max(1.0 * columns, 2.0)
    figure = Figure(figsize=(width, 0.25 + 1.15 * rows))
    corner = ((width - columns) / 2 + 0.04, 0.25)
    grid = tiles(page(figure), rows, columns, corner=corner, pitch=(1.0, 1.15), side=0.92)
    places = [tile for line in grid for tile in line]
    for row, (channel, tile) in enumerate(zip(channels, places, strict=False)):
        tile.picture(thumbnail(record, row))
        dead = is_dead(record, row)
        tile.over(f"{channel}{' dead' if dead else ''}", color=BAD if dead else MUTED)
    return figure


def thumbnail(record: UnitSheets, row: int) -> np.ndarray:
    """Return a thumbnail of a channel as colours: the image found for it, or its best patch."""
    limits = display_range(record.patches.patches)
    if record.maximised is not None and is_found(record, row):
        return image_colors(record.maximised[row], limits)
    patches = record.patches
    return image_colors(patches.patches[row, 0], limits, patches.inside[row, 0])


def is_dead(record: UnitSheets, row: int) -> bool:
    """Tell whether a channel is above 0 for no image, which is what `dead_units` calls dead."""
    return not (record.peaks[:, row] > 0).any()


def is_found(record: UnitSheets, row: int) -> bool:
    """Tell whether an image was found for a channel."""
    return record.reached is not None and bool(np.isfinite(record.reached[row]))


@text.register
def _(record: UnitSheets) -> str:
    channels = record.patches.channels.tolist()
    dead = [channel for row, channel in enumerate(channels) if is_dead(record, row)]
    summary = f"dead: {', '.join(map(str, dead))}" if dead else "none is dead"
    return f"{record.peaks.shape[1]} channels of {record.layer}, {summary}"


@caption.register
def _(record: UnitSheets) -> str:
    return (
        f"Each channel of {record.layer}: the image found for it, or its best patch. A channel has "
        "a page of its own: its patches, weights, and how it came about."
    )
