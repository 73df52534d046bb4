"""Text that fits a figure: widths, shortening, wrapping, legends."""

import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

Measure = Callable[[str], float]  # how wide a text is
_LEGEND_ENTRIES = 8  # names of a legend
_NAME_WIDTH = 26  # letters of a name
_MANY = 5000  # points among which it takes long to look for a place


def display_width(words: str) -> float:
    """Return how many letters wide a text is: one of Chinese, Japanese or Korean counts double."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in words)


def shorten(name: str, most: float = _NAME_WIDTH, size: Measure = display_width) -> str:
    """Shorten a name to so many letters, by its middle.

    >>> shorten("features.stage_four.block.convolution", 20)
    'features.s…nvolution'
    """
    if size(name) <= most:
        return name
    half = (most - size("…")) / 2
    return f"{_prefix(name, half + 0.5, size)}…{_prefix(name[::-1], half, size)[::-1]}"


def _prefix(words: str, most: float, size: Measure) -> str:
    """Return the letters that a text begins with, as many as have room."""
    ends = np.cumsum([size(letter) for letter in words])
    return words[: int(np.searchsorted(ends, most, side="right"))]


def wrap(words: str, most: float, lines: int = 99, size: Measure = display_width) -> list[str]:
    """Wrap a text in lines of so many letters; what does not fit ends in `…`.

    >>> wrap("one two three four", 9, lines=2)
    ['one two', 'three …']
    """
    wrapped = [""]
    for word in words.split():
        longer = f"{wrapped[-1]} {word}".strip()
        if size(longer) <= most or not wrapped[-1]:
            wrapped[-1] = shorten(longer, most, size)
        elif len(wrapped) == lines:
            wrapped[-1] = _prefix(wrapped[-1], most - size(" …"), size) + " …"
            break
        else:
            wrapped.append(shorten(word, most, size))
    return wrapped


def evenly_spaced(num: int, most: int) -> NDArray[np.int64]:
    """At most so many of `num` numbers from 0 on, evenly spaced, the first and the last too.

    >>> evenly_spaced(5, 9), evenly_spaced(1001, 3)
    (array([0, 1, 2, 3, 4]), array([   0,  500, 1000]))
    """
    return np.unique(np.linspace(0, num - 1, min(num, most)).round().astype(np.int64))


def share_of(num: int, num_shown: int, what: str) -> str:
    """Return how many of so many things are drawn, "" if it is all of them.

    >>> share_of(5000, 24, "steps"), share_of(24, 24, "steps")
    ('24 of 5,000 steps', '')
    """
    return f"{num_shown:,} of {num:,} {what}" if num_shown < num else ""


def legend(axes: Axes, most: int = _LEGEND_ENTRIES, **style: Any) -> None:
    """Legend of the first lines, which says how many more there are."""
    handles, labels = axes.get_legend_handles_labels()
    names = [shorten(name) for name in labels[:most]]
    num_points = sum(np.size(line.get_xdata()) for line in axes.lines)
    dense = num_points >= _MANY
    location = {"loc": "upper right"} if dense else {}
    if len(labels) > most:
        names[-1] += f"  (and {len(labels) - most} more)"
    if names:
        frame = {"frameon": True, "framealpha": 0.85, "edgecolor": "none"}  # over lines
        style = {"fontsize": 8, **frame, **location, **style}
        axes.legend(handles[:most], names, **style)


def truncated_list(names: Sequence[str], most: int) -> list[str]:
    """Return the first names, and in a last line how many more there are."""
    more = len(names) - most
    return [*names[:most], *([f"… and {more:,} more"] if more > 0 else [])]


def layer_title(name: str | None) -> str:
    """Return a layer as titles name it; None: the output."""
    return f"layer {shorten(name, 40)}" if name else "the output"


def unit_title(layer: str | None, unit: Sequence[int]) -> str:
    """Return a unit's name, as short as a title needs it."""
    of = shorten(layer or "output", 40)
    if len(unit) != 3:
        return f"{of} {unit[0]}"
    return f"{of}, channel {unit[0]} at ({unit[1]}, {unit[2]})"
