"""HTML pages of single channels, their gallery, and the progression animation."""

import base64
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import numpy as np
from numpy.typing import NDArray

from visualization.core.pictures import display_range
from visualization.core.pixels import data_uri, image_colors, map_colors
from visualization.core.registry import anchor, fragment, subpages
from visualization.feature_maps.figures.progression import animation
from visualization.feature_maps.figures.units import is_dead, is_found, thumbnail
from visualization.feature_maps.progression import Progression
from visualization.feature_maps.sheets import UnitSheets

_BINS = 24
_KERNELS = 12  # input channels of a kernel that are shown
_LABELS_NAMED = 20  # labels that have room for their names
_MAPS = 2  # images whose feature maps are shown through the training
_WIDTH, _HEIGHT, _LEFT_MARGIN = 406.0, 130.0, 30.0  # of a chart's bars, in units of its SVG
Parts = Mapping[str, Any]


def address(layer: str, channel: int) -> str:
    """Return where a channel's page lies, from the report's folder."""
    return f"units/{quote(layer, safe='@')}/{channel}.html"


@functools.cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True
    )


@fragment.register
def _(record: Progression) -> str:
    picture = base64.b64encode(animation(record)).decode()
    return f'<img alt="the maps through the training" src="data:image/gif;base64,{picture}">'


@fragment.register
def _(record: UnitSheets) -> str:
    units = [
        {
            "address": quote(address(record.layer, channel), safe="/@"),
            "channel": channel,
            "dead": is_dead(record, row),
            "picture": data_uri(thumbnail(record, row)),
            "words": f"{record.layer} / {channel}",
        }
        for row, channel in enumerate(record.patches.channels.tolist())
    ]
    return _templates().get_template("units.html.jinja").render(units=units)


@subpages.register
def _(record: UnitSheets, report: str) -> Iterator[tuple[str, str]]:
    channels = record.patches.channels.tolist()
    template = _templates().get_template("unit.html.jinja")
    for row, channel in enumerate(channels):
        page = template.render(
            layer=record.layer,
            channel=channel,
            report=f"../../{quote(report)}#{anchor(f'units/{record.layer}')}",
            before=channels[row - 1] if row else None,
            after=channels[row + 1] if row + 1 < len(channels) else None,
            patches=_patches(record, row),
            active=int((record.peaks[:, row] > 0).sum()),
            num_images=f"{len(record.peaks):,}",
            maximised=_maximised(record, row),
            kernels=_kernels(record, row),
            progression=_progression(record, row),
            charts=_charts(record, row),
        )
        yield address(record.layer, channel), page


def _patches(record: UnitSheets, row: int) -> list[Parts]:
    patches = record.patches
    return [
        {
            "picture": data_uri(
                image_colors(
                    patches.patches[row, rank],
                    display_range(record.patches.patches),
                    patches.inside[row, rank],
                )
            ),
            "value": f"{patches.value[row, rank]:.3g}",
            "name": record.names[patches.image[row, rank]],
        }
        for rank in range(patches.image.shape[1])
        if patches.image[row, rank] >= 0
    ]


def _maximised(record: UnitSheets, row: int) -> Parts | None:
    if record.maximised is None or record.reached is None or not is_found(record, row):
        return None
    best = "" if record.real is None else f"; for a real image {record.real[row]:.3g} at most"
    return {
        "picture": data_uri(
            image_colors(record.maximised[row], display_range(record.patches.patches))
        ),
        "words": f"The mean of its map is {record.reached[row]:.3g}{best}.",
    }


def _kernels(record: UnitSheets, row: int) -> Parts | None:
    if record.kernels is None:
        return None
    kernel = record.kernels[row]
    strength = np.sqrt((kernel**2).sum(axis=(1, 2)))
    strongest = np.sort(np.argsort(-strength, kind="stable")[:_KERNELS])
    size = float(np.abs(kernel).max())
    of = "each input channel" if len(kernel) > 1 else "the input channel"
    if len(kernel) > len(strongest):
        of = f"the {len(strongest)} strongest of {len(kernel)} input channels"
    bias = "" if record.biases is None else f" Bias {record.biases[row]:.3g}."
    return {
        "words": f"For {of}; red: more than 0, blue: less, full at {size:.2g}.{bias}",
        "pictures": [
            {"name": int(number), "picture": data_uri(map_colors(kernel[number], size, signs=True))}
            for number in strongest
        ],
    }


def _progression(sheets: UnitSheets, row: int) -> Parts | None:
    """Return the table of a channel's best patch, maps and weights at each snapshot."""
    record, limits = sheets.progression, display_range(sheets.patches.patches)
    if record is None:
        return None
    best = [
        image_colors(snapshot.patches[row, 0], limits, snapshot.inside[row, 0])
        for snapshot in record.patches
    ]
    captions = [
        f"{snapshot.value[row, 0]:.2g}" if snapshot.image[row, 0] >= 0 else "silent"
        for snapshot in record.patches
    ]
    lines = [_line("best patch", best, captions)]
    for number in range(min(_MAPS, record.maps.shape[1])):
        maps = record.maps[:, number, row]
        size, signs = float(np.abs(maps).max()), bool(maps.min() < 0)
        colors = [map_colors(values, size, signs=signs) for values in maps]
        line = _line("its map for", colors)
        lines.append({**line, "picture": data_uri(image_colors(record.images[number], limits))})
    if record.kernels is not None and record.kernels.shape[-1] > 1:
        kernels = record.kernels[:, row]
        strongest = int(np.abs(kernels[-1]).sum(axis=(1, 2)).argmax())
        kernel = kernels[:, strongest]
        size = float(np.abs(kernel).max())
        name = "weights" if kernels.shape[1] == 1 else f"weights, input channel {strongest}"
        lines.append(_line(name, [map_colors(values, size, signs=True) for values in kernel]))
    return {
        "words": "Copies of the weights from before the first step to the last; shades mean the "
        "same along a row.",
        "steps": [f"{step:,}" for step in record.steps],
        "lines": lines,
    }


def _line(name: str, colors: Sequence[NDArray[np.floating]], words: Sequence[str] = ()) -> Parts:
    captions = words or [""] * len(colors)
    cells = [{"picture": data_uri(c), "words": w} for c, w in zip(colors, captions, strict=True)]
    return {"name": name, "cells": cells, "picture": ""}


def _charts(record: UnitSheets, row: int) -> list[Parts]:
    peaks = record.peaks[:, row]
    counts, edges = np.histogram(peaks, _BINS)
    words = [f"{a:.3g} to {b:.3g}: {n:,} images"
             for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True)]  # fmt: skip
    histogram = _chart(
        "How often it is excited", "Images by the largest value of its map.", counts, words
    )
    ends = [(0, edges[0]), (_BINS / 2, edges[_BINS // 2]), (_BINS, edges[-1])]
    histogram["marks"] = [
        {"x": _LEFT_MARGIN + _WIDTH * position / _BINS, "words": f"{value:.3g}"}
        for position, value in ends
    ]
    if not record.labels:
        return [histogram]
    kinds = sorted(set(record.labels))
    labels = np.array(record.labels)
    means = np.array([peaks[labels == kind].mean() for kind in kinds])
    captions = [f"{kind}: {mean:.3g}" for kind, mean in zip(kinds, means, strict=True)]
    chart = _chart(
        "Which labels excite it",
        "Mean of the largest values, by label.",
        np.maximum(means, 0),
        captions,
    )
    wide = _WIDTH / len(kinds)
    chart["marks"] = [
        {"x": _LEFT_MARGIN + wide * (position + 0.5), "words": kind}
        for position, kind in enumerate(kinds)
        if len(kinds) <= _LABELS_NAMED
    ]
    return [histogram, chart]


def _chart(title: str, words: str, values: NDArray[Any], captions: Sequence[str]) -> dict[str, Any]:
    """Return the bars of a small chart, the highest at its top."""
    highest = float(values.max()) or 1.0
    wide = _WIDTH / len(values)
    bars = [
        {
            "x": round(_LEFT_MARGIN + wide * position + 0.5, 1),
            "y": round(150 - _HEIGHT * value / highest, 1),
            "width": round(max(wide - 1, 0.8 * wide), 2),
            "height": round(_HEIGHT * value / highest, 1),
            "words": caption_of_bar,
        }
        for position, (value, caption_of_bar) in enumerate(
            zip(values.tolist(), captions, strict=True)
        )
    ]
    return {"title": title, "words": words, "bars": bars, "top": f"{highest:,.3g}", "marks": []}
