"""Automata: states as circles with labelled arrows between them, or as a table if they are many."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch
from matplotlib.path import Path
from numpy.typing import NDArray

from visualization.core.registry import caption, draw, text
from visualization.core.style import COLORS, INK, MUTED
from visualization.core.words import display_width, share_of, shorten
from visualization.recurrent.machine import Automaton

_MOST_CIRCLES, _MOST_ARROWS = 24, 60  # beyond these, arrows hide each other
_MOST_ROWS, _MOST_SYMBOLS = 80, 24  # of a table
_RADIUS = 0.36  # of a state's circle; neighbours' centres are 1.5 apart
_SPACING = 1.5
Point = NDArray[np.float64]


@draw.register
def _(record: Automaton) -> Figure:
    edges = _edges(record)
    if record.num_states > _MOST_CIRCLES or len(edges) > _MOST_ARROWS:
        return _table(record)
    centres = _places(record)
    margin = _RADIUS + 0.8  # room for loops and for the arrow that leads in
    low, high = centres.min(axis=0) - margin, centres.max(axis=0) + margin
    if record.num_states < 3:
        low[1] += 0.4  # nothing hangs below a row
    width, height = 0.95 * (high - low)
    figure = Figure(figsize=(max(width, 4.8), height + 0.3))
    axes = figure.add_axes((0, 0, 1, height / (height + 0.3)))
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    _head(figure, record)
    _draw_states(axes, record, centres)
    for (state, following), symbols in edges.items():
        label = _join_symbols(symbols, record.alphabet)
        if state == following:
            _draw_loop(axes, centres[state], _loop_direction(centres, state), label)
        else:
            _draw_edge(axes, centres, state, following, (following, state) in edges, label)
    return figure


@text.register
def _(record: Automaton) -> str:
    head = ["state", "output", *map(_symbol, record.alphabet)]
    rows = [
        [f"{'→' if state == record.initial else ' '} {state}", output, *map(str, following)]
        for state, (output, following) in enumerate(
            zip(record.outputs, record.transitions.tolist(), strict=True)
        )
    ]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = (
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in [head, *rows]
    )
    return "\n".join([_title(record), *lines])


def _head(figure: Figure, record: Automaton, part_drawn: str = "") -> None:
    top = 1 - 0.22 / figure.get_figheight()
    words = "; drawn: ".join(filter(None, [_title(record), part_drawn]))
    figure.text(0.02, top, words, fontsize=10, color=INK, va="center", parse_math=False)


def _title(record: Automaton) -> str:
    # Cut off, not rounded: 100 % is said of perfect agreement only.
    percent = math.floor(1e4 * record.agreement) / 100
    states = "1 state" if record.num_states == 1 else f"{record.num_states} states"
    return f"{states}, agreement {percent:g} % on {record.num_held_out:,} held-out steps"


def _symbol(symbol: str) -> str:
    return {" ": "␣", "\n": "⏎", "\t": "⇥"}.get(symbol, symbol)


def _join_symbols(symbols: Sequence[int], alphabet: Sequence[str]) -> str:
    """Return the names of symbols as `0,1`, three or more neighbours in the alphabet as `0–9`."""
    if len(symbols) == len(alphabet) > 3:
        return "any"
    parts: list[str] = []
    for _, group in itertools.groupby(enumerate(symbols), key=lambda pair: pair[1] - pair[0]):
        names = [shorten(_symbol(alphabet[symbol]), 8) for _, symbol in group]
        parts.extend([f"{names[0]}–{names[-1]}"] if len(names) > 2 else names)
    return shorten(",".join(parts), 20)


def _edges(record: Automaton) -> dict[tuple[int, int], list[int]]:
    """Return the symbols that lead from one state to another, for each such pair."""
    edges: dict[tuple[int, int], list[int]] = {}
    for (state, symbol), following in np.ndenumerate(record.transitions):
        edges.setdefault((state, int(following)), []).append(symbol)
    return edges


def _colors(record: Automaton) -> dict[str, str]:
    return dict(zip(dict.fromkeys(record.outputs), itertools.cycle(COLORS), strict=False))


def _places(record: Automaton) -> Point:
    """Return the centres (state, 2): a row of two, else a circle, clockwise from the left."""
    count = record.num_states
    if count < 3:
        return np.stack([_SPACING * 1.2 * np.arange(count), np.zeros(count)], axis=1)
    angles = math.pi - 2 * math.pi * np.arange(count) / count
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    ring *= max(1.05, _SPACING / (2 * math.sin(math.pi / count)))
    return ring[_seats(record, ring)]


def _seats(record: Automaton, ring: Point) -> list[int]:
    """Return the place on the ring of each state: two change as long as arrows become shorter."""
    pairs = np.asarray([edge for edge in _edges(record) if edge[0] != edge[1]]).reshape(-1, 2)
    seats = np.arange(len(ring))

    def length(seats: NDArray[np.int64]) -> float:
        ends = ring[seats[pairs]]
        return float(np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1).sum())

    movable = [state for state in range(len(ring)) if state != record.initial]
    seats[[0, record.initial]] = seats[[record.initial, 0]]
    shorter = True
    while shorter:
        shorter = False
        for a, b in itertools.combinations(movable, 2):
            changed = seats.copy()
            changed[[a, b]] = seats[[b, a]]
            if length(changed) < length(seats) - 1e-9:
                seats, shorter = changed, True
    return seats.tolist()


def _draw_states(axes: Axes, record: Automaton, centres: Point) -> None:
    colors = _colors(record)
    for state, (centre, output) in enumerate(zip(centres, record.outputs, strict=True)):
        color = colors[output]
        pale = 0.82 + 0.18 * np.asarray(to_rgb(color))
        circle = Circle((centre[0], centre[1]), _RADIUS, facecolor=pale, edgecolor=color, lw=1.8)
        axes.add_patch(circle).set_zorder(3)
        words = shorten(output, 12)
        _write(axes, centre, words, fontsize=min(9.0, 54 / max(1, display_width(words))))
        _write(axes, centre - (0, 0.2), str(state), fontsize=7, color="#6a6a6a")
    from_left = np.array([-1.0, 0.0])
    if record.num_states > 2 and record.initial in record.transitions[record.initial]:
        from_left = np.array([-0.5, -0.87])  # its loop is on the left
    centre = centres[record.initial]
    _arrow(axes, Path([centre + (_RADIUS + 0.6) * from_left, centre + _RADIUS * from_left]))


def _draw_edge(
    axes: Axes, centres: Point, state: int, following: int, has_way_back: bool, label: str
) -> None:
    """Draw an arrow between two states, on the left of its way if there is one back."""
    start, end = centres[state], centres[following]
    way = (end - start) / np.linalg.norm(end - start)
    left = np.array([-way[1], way[0]])
    middle = (start + end) / 2
    if np.linalg.norm(end - start) < 1.3 * _nearest(centres):
        control = middle + 0.45 * left
        share = 0.5
    else:
        # A chord that would cut the circles that it passes is bent towards the centre.
        inwards = centres.mean(axis=0) - middle
        depth = float(np.linalg.norm(inwards))
        sagitta = float(np.linalg.norm(centres[0] - centres.mean(axis=0))) - depth
        bend = 2 * max(0.0, _RADIUS + 0.4 - sagitta) * inwards / max(depth, 1e-9)
        control = middle + bend + (0.3 * left if has_way_back else 0.0)
        share = 0.36  # many chords cross in the middle
    leave, arrive = _on_circle(start, control), _on_circle(end, control)
    _arrow(axes, Path([leave, control, arrive], [Path.MOVETO, Path.CURVE3, Path.CURVE3]))
    _label(
        axes,
        (1 - share) ** 2 * leave + 2 * share * (1 - share) * control + share**2 * arrive,
        label,
    )


def _nearest(centres: Point) -> float:
    """Return the distance of the first two places that are next to each other."""
    return float(np.linalg.norm(centres[1:] - centres[0], axis=1).min())


def _draw_loop(axes: Axes, centre: Point, direction: Point, label: str) -> None:
    side = np.array([-direction[1], direction[0]])
    spread = [0.85 * direction + 0.5 * sign * side for sign in (-1, 1)]
    leave, arrive = (centre + _RADIUS * way / np.linalg.norm(way) for way in spread)
    controls = [centre + 2.6 * _RADIUS * way / np.linalg.norm(way) for way in spread]
    curve = [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
    _arrow(axes, Path([leave, *controls, arrive], curve))
    _label(axes, (leave + 3 * controls[0] + 3 * controls[1] + arrive) / 8, label)


def _loop_direction(centres: Point, state: int) -> Point:
    """Return the direction of a state's loop: away from the others, or upwards in a row."""
    away = centres[state] - centres.mean(axis=0)
    if len(centres) < 3:
        return np.array([0.0, 1.0])
    direction: Point = away / np.linalg.norm(away)
    return direction


def _on_circle(centre: Point, towards: Point) -> Point:
    way = towards - centre
    point: Point = centre + _RADIUS * way / np.linalg.norm(way)
    return point


def _arrow(axes: Axes, path: Path) -> None:
    arrow = FancyArrowPatch(path=path, arrowstyle="-|>", mutation_scale=11, color=MUTED, lw=1.1)
    axes.add_patch(arrow).set_zorder(2)


def _label(axes: Axes, point: Point, label: str) -> None:
    box = {"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none"}
    _write(axes, point, label, fontsize=9, bbox=box, zorder=5)


def _write(axes: Axes, point: Point, words: str, **style: Any) -> None:
    style = {"color": INK, "ha": "center", "va": "center", "zorder": 4, **style}
    axes.text(float(point[0]), float(point[1]), words, parse_math=False, **style)


def _table(record: Automaton) -> Figure:
    """Return the transitions as a table whose cells have the colour of the output they lead to."""
    colors = _colors(record)
    pale = {output: 0.6 + 0.4 * np.asarray(to_rgb(color)) for output, color in colors.items()}
    of_state = np.asarray([pale[output] for output in record.outputs])
    transitions = record.transitions[:_MOST_ROWS, :_MOST_SYMBOLS]
    symbols = [shorten(_symbol(symbol), 14) for symbol in record.alphabet[: transitions.shape[1]]]
    cells = np.concatenate([of_state[: len(transitions), None], of_state[transitions]], axis=1)
    rows, columns = cells.shape[:2]
    head = 0.7 + 0.09 * max(0, max(map(display_width, symbols)) - 3)
    height = head + 0.3 + 0.2 * rows
    width = max(5.6, 1.2 + 0.42 * columns)
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes(
        (0.75 / width, 0.15 / height, 1 - 0.9 / width, 1 - (head + 0.15) / height)
    )
    axes.imshow(cells, aspect="auto")
    room = max(5, int(16 * (width - 0.9) / columns))  # letters of a cell
    for row, output in enumerate(record.outputs[:rows]):
        _write(axes, np.array([0, row]), shorten(output, room), fontsize=7)
    for (row, column), following in np.ndenumerate(transitions):
        _write(axes, np.array([column + 1, row]), str(following), fontsize=7)
    axes.set_yticks(range(rows), [str(state) for state in range(rows)])
    axes.hlines(np.arange(rows - 1) + 0.5, -0.5, columns - 0.5, color="white", lw=0.8)
    axes.vlines(np.arange(columns - 1) + 0.5, -0.5, rows - 0.5, color="white", lw=0.8)
    rotation = 90 if head > 0.7 else 0
    axes.set_xticks(range(columns), ["output", *symbols], rotation=rotation, parse_math=False)
    axes.set_ylabel("state", fontsize=8)
    axes.spines[:].set_visible(False)
    axes.tick_params(labelsize=8, length=0, labeltop=True, labelbottom=False)
    parts = (share_of(record.num_states, rows, "states"),
             share_of(len(record.alphabet), columns - 1, "symbols"))  # fmt: skip
    _head(figure, record, "; ".join(filter(None, parts)))
    return figure


@caption.register
def _(record: Automaton) -> str:
    return "The smallest machine that answers as the network does."
