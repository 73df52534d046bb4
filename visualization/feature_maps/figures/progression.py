"""How feature maps came about: a strip of snapshots, and an animation."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from visualization.core.legible import legible
from visualization.core.pictures import display_range
from visualization.core.pixels import image_colors, map_colors
from visualization.core.registry import caption, draw
from visualization.core.style import INK, MUTED
from visualization.core.tiles import heading, page, tiles
from visualization.core.words import shorten
from visualization.feature_maps.progression import Progression

_CHANNELS = 8  # of a strip
_STEPS = 12
_MAPS = 32  # of an animation
_FRAME = 500  # milliseconds
_LAST = 2500


def most_changed(record: Progression, num: int) -> NDArray[np.int64]:
    """Return the places of the channels whose maps are strongest at the end, in their order."""
    strength = np.abs(record.maps[-1]).max(axis=(0, 2, 3))
    return np.sort(np.argsort(-strength, kind="stable")[:num])


@draw.register
def _(record: Progression) -> Figure:
    channels = most_changed(record, _CHANNELS)
    steps = np.unique(np.linspace(0, len(record.steps) - 1, _STEPS).round().astype(int))
    rows, columns = len(channels) + 1, len(steps) + 1
    figure = Figure(figsize=(0.9 + 0.78 * columns, 0.75 + 0.82 * rows))
    pitch = (0.86, 0.86)
    corner = (figure.get_figwidth() - pitch[0] * columns) / 2, 0.25
    grid = tiles(page(figure), rows, columns, corner=corner, pitch=pitch, side=0.78)
    grid[0][0].picture(image_colors(record.images[0], display_range(record.images)))
    grid[0][0].over("image")
    for tile, index in zip(grid[0][1:], steps, strict=True):
        tile.write(f"step\n{record.steps[index]:,}", 0.5, 0.9, va="bottom")
    for line, channel in zip(grid[1:], channels, strict=True):
        colors = _colors(record, channel)
        line[0].write(f"channel\n{record.channels[channel]}", 0.95, 0.5, ha="right", color=MUTED)
        for tile, index in zip(line[1:], steps, strict=True):
            tile.picture(colors[index])
    return figure


def _colors(record: Progression, channel: int) -> list[NDArray[np.floating]]:
    """Return a channel's maps for the first image as colours, which mean the same in all copies."""
    maps = record.maps[:, 0, channel]
    size = float(np.abs(maps).max()) or 1.0
    return [map_colors(values, size) for values in maps]


@caption.register
def _(record: Progression) -> str:
    return (
        f"What channels of {record.layer} answer to one image while the network learns: a row is a "
        "channel, its brightest shade the same in all columns."
    )


def animation(record: Progression, dpi: int = 90) -> bytes:
    """Return a GIF with a frame for each snapshot: all channels' maps for the first image."""
    channels_shown = most_changed(record, _MAPS)
    columns = min(8, len(channels_shown) + 1)
    rows = -(-(len(channels_shown) + 1) // columns)
    figure = Figure(figsize=(0.75 * columns, 0.4 + 0.85 * rows), dpi=dpi)
    axes = page(figure)
    places = tiles(axes, rows, columns, corner=(0.04, 0.5), pitch=(0.75, 0.84), side=0.67)
    first, *others = [tile for row in places for tile in row]
    first.picture(image_colors(record.images[0], display_range(record.images)))
    first.over("image")
    moving = []
    for tile, channel in zip(others, channels_shown, strict=False):
        colors = _colors(record, channel)
        tile.over(str(record.channels[channel]), fontsize=7, color=MUTED)
        moving.append((tile.picture(colors[0]).get_extent(), colors))
    name = shorten(record.layer, 8 * figure.get_figwidth())
    title = heading(axes, name, color=INK, animated=True)
    legible(figure)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call] # all but the title
    still = canvas.copy_from_bbox(figure.bbox)  # type: ignore[no-untyped-call]
    frames = []
    for index, step in enumerate(record.steps):
        canvas.restore_region(still)  # type: ignore[no-untyped-call]
        title.set_text(f"{name}, step {step:,}")
        axes.draw_artist(title)
        pixels = np.array(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]
        for extent, colors in moving:
            _paste(pixels, colors[index], [round(dpi * end) for end in extent])
        frames.append(Image.fromarray(pixels).quantize(64))
    buffer = io.BytesIO()
    times = [_FRAME] * (len(frames) - 1) + [_LAST]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0)
    return buffer.getvalue()


def _paste(pixels: NDArray[np.uint8], colors: NDArray[np.floating], ends: Sequence[int]) -> None:
    """Put a picture among pixels, into the frame at its ends (left, right, bottom, top)."""
    left, right, bottom, top = ends
    rows, columns = (
        np.arange(1, wide) * num // wide
        for wide, num in zip((bottom - top, right - left), colors.shape, strict=False)
    )
    enlarged = (255 * colors).astype(np.uint8)[rows[:, None], columns]
    pixels[top + 1 : bottom, left + 1 : right] = enlarged
