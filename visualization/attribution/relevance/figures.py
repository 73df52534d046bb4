"""Relevance: maps of single channels beside the whole one, and what layers absorb."""

import numpy as np
from matplotlib.figure import Figure

from visualization.attribution.relevance.balance import RelevanceBalance
from visualization.attribution.relevance.channels import ChannelRelevance
from visualization.core.pictures import display_range
from visualization.core.pixels import image_colors, map_colors
from visualization.core.registry import caption, draw, text
from visualization.core.style import COLORS, MUTED, axis_labels, despine
from visualization.core.tiles import heading, page, tiles
from visualization.core.words import layer_title, share_of, shorten

_ROWS, _COLUMNS = 8, 8  # images, and channels of each, that are drawn
_LABEL, _PITCH, _HIGH = 1.05, 1.0, 1.16  # inches
_LAYERS = 24  # bars
_LEAST = 5e-4  # share of the scores from which a layer has a bar
_PERCENTILE = 99.5  # of the maps of an image, at which colours are full


@draw.register
def _(record: ChannelRelevance) -> Figure:
    rows, num = min(_ROWS, len(record.images)), min(_COLUMNS, record.channels.shape[1])
    width = _LABEL + (2 + num) * _PITCH
    figure = Figure(figsize=(width, 0.5 + rows * _HIGH))
    axes = page(figure)
    parts = (
        f"channels of {layer_title(record.layer)} and their share of its relevance",
        share_of(len(record.images), rows, "images"),
        share_of(record.channels.shape[1], num, "channels"),
    )
    heading(axes, "; ".join(filter(None, parts)))
    grid = tiles(axes, rows, 2 + num, corner=(_LABEL, 0.5), pitch=(_PITCH, _HIGH), side=0.92)
    grid[0][0].over("image")
    for row, line in enumerate(grid):
        image = record.images[row]
        line[0].picture(image_colors(image, display_range(image)))
        words = f"{shorten(record.targets[row], 14)}\nscore {record.scores[row]:.3g}"
        line[0].write(words, -0.06, 0.5, ha="right", room=_LABEL - 0.1)
        line[1].picture(map_colors(record.total[row], _full(record.total[row]), signs=True))
        line[1].over("all")
        full = _full(record.maps[row])
        for place, channel in enumerate(record.channels[row, :num].tolist()):
            tile = line[2 + place]
            tile.picture(map_colors(record.maps[row, place], full, signs=True))
            tile.over(f"{channel}: {_share(record, row, channel)}")
    return figure


def _full(values: np.ndarray) -> float:
    return float(np.percentile(np.abs(values), _PERCENTILE)) or float(np.abs(values).max())


def _share(record: ChannelRelevance, row: int, channel: int) -> str:
    """Return a channel's share of the relevance of its layer, in per cent."""
    whole = record.relevance[row].sum()
    if not whole:
        return "–"
    return f"{100 * record.relevance[row, channel] / whole:.0f} %".replace("-", "−")


@caption.register
def _(record: ChannelRelevance) -> str:
    return (
        "Which channels carry the score, and the pixels by way of which they do: red adds to it, "
        "blue takes from it. The maps of an image's channels have one scale; all of them sum to "
        "that beside the image."
    )


@text.register
def _(record: ChannelRelevance) -> str:
    lines = [
        f"{target}, {score:.4g}: "
        + ", ".join(f"{channel} ({_share(record, row, channel)})" for channel in channels)
        for row, (target, score, channels) in enumerate(
            zip(record.targets, record.scores, record.channels.tolist(), strict=True)
        )
    ]
    return "\n".join([f"channels of {record.layer} with the largest relevance", *lines])


@draw.register
def _(record: RelevanceBalance) -> Figure:
    whole = float(record.scores.sum()) or 1.0
    parts = {"pixels": float(record.relevance.sum())}
    others = {name or "the model itself": amount for name, amount in record.absorbed.items()}
    others["constants"] = record.elsewhere
    parts |= {name: amount for name, amount in others.items() if abs(amount / whole) >= _LEAST}
    names = sorted(parts, key=lambda name: -abs(parts[name]))[:_LAYERS]
    figure = Figure(figsize=(7.2, 0.9 + 0.26 * len(names)), layout="constrained")
    axes = figure.subplots()
    shares = [100 * parts[name] / whole for name in names]
    colors = [COLORS[2] if name == "pixels" else COLORS[0] for name in names]
    bars = axes.barh(range(len(names)), shares, color=colors, height=0.66)
    words = [f"{share:.1f} %".replace("-", "−") for share in shares]
    axes.bar_label(bars, words, padding=3, fontsize=8)
    axes.set_yticks(range(len(names)), [shorten(name, 40) for name in names], parse_math=False)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    despine(axes, "where relevance ends")
    of = f"share of the scores of {len(record.scores)} images, per cent"
    axis_labels(axes, "; ".join(filter(None, [of, share_of(len(parts), len(names), "parts")])), "")
    return figure


@caption.register
def _(record: RelevanceBalance) -> str:
    return (
        "Relevance that reaches the pixels, and what biases and stabilisers of layers absorb, if "
        "it is 0.05 % or more."
    )


@text.register
def _(record: RelevanceBalance) -> str:
    lines = [f"{'scores':<32}{record.scores.sum():>12.4g}"]
    lines.append(f"{'pixels':<32}{record.relevance.sum():>12.4g}")
    lines += [f"{name or 'the model itself':<32}{value:>12.4g}"
              for name, value in record.absorbed.items()]  # fmt: skip
    return "\n".join([*lines, f"{'constants':<32}{record.elsewhere:>12.4g}"])
