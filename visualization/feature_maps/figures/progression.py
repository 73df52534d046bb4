"""How feature maps came about: a strip of snapshots, and an animation."""

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from visualization.core.pictures import (
    display_range,
    draw_activation,
    draw_image,
    draw_signed,
    hide_axes,
)
from visualization.core.registry import caption, draw, png
from visualization.core.style import INK, MUTED
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
    figure = Figure(figsize=(0.9 + 0.78 * columns, 0.75 + 0.82 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    hide_axes(grid[0])
    draw_image(grid[0, 0], record.images[0], "image", display_range(record.images))
    for column, snapshot in enumerate(steps, start=1):
        grid[0, column].text(0.5, 0.1, f"step\n{record.steps[snapshot]:,}", ha="center", fontsize=8,
                             color=INK, transform=grid[0, column].transAxes)  # fmt: skip
    for line, channel in zip(grid[1:], channels, strict=True):
        hide_axes(line[:1])
        line[0].text(0.95, 0.5, f"channel\n{record.channels[channel]}", ha="right", va="center",
                     fontsize=8, color=MUTED, transform=line[0].transAxes)  # fmt: skip
        size = float(np.abs(record.maps[:, 0, channel]).max()) or 1.0
        for column, snapshot in enumerate(steps, start=1):
            _map(line[column], record.maps[snapshot, 0, channel], size)
    return figure


def _map(axes: Axes, values: NDArray[np.floating], size: float) -> None:
    show = draw_signed if values.min() < 0 else draw_activation
    show(axes, values, size=size)


@caption.register
def _(record: Progression) -> str:
    return (
        f"What channels of {record.layer} answer to one image while the network learns: a row is a "
        "channel, its brightest shade the same in all columns."
    )


def animation(record: Progression, dpi: int = 90) -> bytes:
    """Return a GIF with a frame for each snapshot: all channels' maps for the first image."""
    frames = [_frame(record, snapshot, dpi) for snapshot in range(len(record.steps))]
    buffer = io.BytesIO()
    times = [_FRAME] * (len(frames) - 1) + [_LAST]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0)
    return buffer.getvalue()


def _frame(record: Progression, snapshot: int, dpi: int) -> Image.Image:
    channels = most_changed(record, _MAPS)
    columns = min(8, len(channels) + 1)
    rows = -(-(len(channels) + 1) // columns)
    figure = Figure(figsize=(0.75 * columns, 0.4 + 0.85 * rows), dpi=dpi)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    figure.subplots_adjust(0.01, 0.01, 0.99, 1 - 0.55 / figure.get_figheight(), 0.05, 0.25)
    draw_image(grid[0], record.images[0], "image", display_range(record.images))
    for axes, channel in zip(grid[1:], channels, strict=False):
        values = record.maps[:, 0, channel]
        _map(axes, values[snapshot], float(np.abs(values).max()) or 1.0)
        axes.set_title(str(record.channels[channel]), fontsize=7, color=MUTED, pad=2)
    hide_axes(grid[len(channels) + 1 :])
    title = f"{record.layer}, step {record.steps[snapshot]:,}"
    figure.suptitle(title, fontsize=9, color=INK, x=0.02, ha="left")
    return Image.open(io.BytesIO(png(figure, dpi))).convert("RGB").quantize(64)
