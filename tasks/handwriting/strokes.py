"""Handwriting drawn with the stroke fonts of Hershey (1967), in the hands of many writers.

A writer has a font, of which single letters are of others, each a little deformed in the same way
every time; a slant, a width and a size; a pen; a speed, which rounds corners; and is more or less
regular. All of it is a pure function of the writer's number.
"""

import functools
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.core.settings import ConfigError

CHARACTERS = "".join(map(chr, range(32, 127)))  # what the fonts have
_FONTS = ("scripts", "cursive", "futural", "rowmans", "scriptc", "timesi", "rowmand", "futuram")
_ODDS = (0.26, 0.22, 0.16, 0.1, 0.1, 0.06, 0.05, 0.05)  # of each font to be a writer's own
_BASE, _TALL = 9.0, 40.0  # the baseline of a glyph, and the height of a line, in units of the fonts
BASELINE = 0.66  # of the height of a line
_STEP = 2.0  # units between the points of a stroke
UNITS = 14  # of the fonts, that a letter is about wide
_AS_IT_IS = np.eye(2)  # the turn that changes nothing
FINE = 2  # times the size at which lines are drawn
MARGIN = 2  # pixels before and after the ink


class Writer(NamedTuple):
    """The hand of a writer."""

    number: int
    font: str
    odd: float  # share of letters that are of another font
    slant: float  # columns for each row
    width: float  # of letters, relative to those of the font
    size: float
    spacing: float  # between letters, in units of the fonts
    pen: float  # width in pixels of a line that is 32 pixels high
    speed: int  # points over which strokes are averaged
    unrest: float  # jitter of points, in units of the fonts
    wave: float  # amplitude of the baseline, in units of the fonts
    ink: float  # darkness


class Drawing(NamedTuple):
    """A drawn text."""

    image: NDArray[np.uint8]  # (height, width): 255 is ink, 0 is paper
    boxes: NDArray[np.float64]  # (length, 4): left, top, right, bottom of each character's ink


class Glyph(NamedTuple):
    """A letter of a writer: points (n, 2) of all strokes, where they end, and its width."""

    points: NDArray[np.float64]
    ends: tuple[int, ...]
    width: float


def forget() -> None:
    """Empty the caches of writers and their letters, so that a first pass can be measured."""
    writer.cache_clear()
    _glyph.cache_clear()


@functools.lru_cache(maxsize=8192)
def writer(number: int) -> Writer:
    """Return a writer by number."""
    rng = np.random.default_rng([number, 1])
    return Writer(
        number=number,
        font=str(rng.choice(_FONTS, p=_ODDS)),
        odd=float(rng.uniform(0, 0.3)),
        slant=float(rng.uniform(-0.25, 0.6)),
        width=float(rng.uniform(0.75, 1.15)),
        size=float(rng.uniform(0.85, 1.15)),
        spacing=float(rng.uniform(-1.5, 2.5)),
        pen=float(rng.uniform(1.0, 2.4)),
        speed=int(rng.choice([1, 1, 3, 3, 5])),
        unrest=float(rng.uniform(0.1, 0.6)),
        wave=float(rng.uniform(0, 1.5)),
        ink=float(rng.uniform(0.7, 1.0)),
    )


def draw(text: str, hand: Writer, height: int, rng: np.random.Generator) -> Drawing:
    """Return a text in the hand of a writer.

    The text has characters of CHARACTERS. Twice the same text is not twice the same image: the
    generator says how letters, strokes and the baseline differ.
    """
    from PIL import Image, ImageDraw

    points, ends, counts = _composed(text, hand, rng)
    scale = FINE * height / _TALL * hand.size * rng.uniform(0.95, 1.05)
    slant = hand.slant + rng.normal(0, 0.03)
    phase, length = rng.uniform(0, 2 * np.pi), rng.uniform(40, 120)
    y = points[:, 1] - _BASE
    x = (points[:, 0] - slant * y) * scale
    y = y + hand.wave * np.sin(points[:, 0] / length + phase) + rng.normal(0, 0.5)
    y = y * scale + BASELINE * FINE * height
    pen = max(1, round(hand.pen * rng.uniform(0.85, 1.15) * FINE * height / 32))
    y = _within(y, pen // 2 + 1, FINE * height - pen // 2 - 2)
    margin = MARGIN * FINE + pen // 2 + 1
    x += margin - (x.min() if len(x) else 0.0)
    width = int(np.ceil((x.max(initial=margin) + margin) / FINE))
    image = Image.new("L", (width * FINE, height * FINE))
    line = ImageDraw.Draw(image).line
    flat = np.column_stack([x, y]).ravel().tolist()
    ink = round(255 * hand.ink)
    first = 0
    for end in ends:
        line(flat[2 * first : 2 * end], fill=ink, width=pen)
        first = end
    boxes = _boxes(x, y, counts, (pen + 1) / 2) / FINE
    return Drawing(np.asarray(image.reduce(FINE)), boxes)


def _boxes(
    x: NDArray[np.float64], y: NDArray[np.float64], counts: list[int], pen: float
) -> NDArray[np.float64]:
    """Return left, top, right and bottom of each letter (n, 4), by half the width of the pen."""
    boxes = np.full((len(counts), 4), np.nan)
    has_ink = np.array(counts, np.int64) > 0
    firsts = np.cumsum([0, *counts[:-1]])[has_ink]
    if len(firsts):
        ends = [np.minimum.reduceat(values, firsts) for values in (x, y)]
        ends += [np.maximum.reduceat(values, firsts) for values in (x, y)]
        boxes[has_ink] = np.stack(ends, axis=1) + np.array([-pen, -pen, pen, pen])
    return boxes


def _within(y: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """Return places moved between two bounds, and pressed together where they are further apart."""
    if not len(y):
        return y
    extent = float(np.ptp(y))
    y = (y - y.min()) * min(1.0, (high - low) / max(extent, 1e-9)) + y.min()
    return np.asarray(y + max(0.0, low - y.min()) - max(0.0, y.max() - high))


def _composed(
    text: str, hand: Writer, rng: np.random.Generator
) -> tuple[NDArray[np.float64], list[int], list[int]]:
    """Return the points of a text in units of the fonts, where strokes end, points of a letter."""
    turns = rng.normal(0, 1, (len(text), 4)) * (0.03, 0.04, 0.4, 0.5)
    glyphs = [_glyph(hand, character) for character in text]
    counts = [len(glyph.points) for glyph in glyphs]
    firsts = [0, *itertools.accumulate(counts)]
    if not firsts[-1]:
        return np.zeros((0, 2)), [], counts
    steps = [0.0, *(glyph.width + hand.spacing for glyph in glyphs[:-1])]
    shear, size, right, down = np.repeat(turns, counts, axis=0).T
    points = np.concatenate([glyph.points for glyph in glyphs]) * (1 + size)[:, None]
    points[:, 0] += np.repeat(np.cumsum(steps), counts) + right - shear * (points[:, 1] - _BASE)
    points[:, 1] += down - size * _BASE
    ends = [at + end for at, glyph in zip(firsts, glyphs, strict=False) for end in glyph.ends]
    return points + _smooth_noise(len(points), hand.unrest, rng), ends, counts


def _smooth_noise(num: int, deviation: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return noise (num, 2) of which neighbours are alike."""
    noise = rng.normal(0, deviation, (num + 2, 2))
    return np.asarray(noise[:-2] + 2 * noise[1:-1] + noise[2:]) / 2.45  # of the same deviation


@functools.lru_cache(maxsize=2**17)
def _glyph(hand: Writer, character: str) -> Glyph:
    """Return the letter of a writer."""
    rng = np.random.default_rng([hand.number, 2, ord(character)])
    is_odd = character.isalpha() and rng.random() < hand.odd
    font = str(rng.choice(_FONTS, p=_ODDS)) if is_odd else hand.font
    plain, places = _smoothed(font, character, hand.speed)
    turn = rng.normal(0, 0.05, (2, 2)) + _AS_IT_IS
    noise = _smooth_noise(len(plain.points) + 2 * max(len(plain.ends) - 1, 0), 0.4, rng)[places]
    middle = [plain.width / 2, _BASE]
    points = (plain.points + noise - middle) @ turn + middle
    points[:, 0] *= hand.width
    return Glyph(points, plain.ends, plain.width * hand.width)


@functools.cache
def _smoothed(font: str, character: str, speed: int) -> tuple[Glyph, NDArray[np.int64]]:
    """Return the letter of a font as it is written at a speed, and places of noise.

    Noise is drawn for all strokes at once; from one to the next two values are left out, so that
    those of different strokes are not alike.
    """
    strokes, width = _font(font)[character]
    parts = [_evenly(stroke, speed) for stroke in strokes]
    counts = [len(part) for part in parts]
    points = np.concatenate(parts) if parts else np.zeros((0, 2))
    places = np.arange(len(points)) + 2 * np.repeat(np.arange(len(parts)), counts)
    return Glyph(points, tuple(itertools.accumulate(counts)), width), places


def _evenly(stroke: NDArray[np.float64], average: int) -> NDArray[np.float64]:
    """Return the points of a stroke at even steps, averaged over some, with its ends kept."""
    along = np.r_[0.0, np.cumsum(np.hypot(*np.diff(stroke, axis=0).T))]
    at = np.linspace(0, along[-1], max(2, round(along[-1] / _STEP) + 1))
    points = np.column_stack([np.interp(at, along, stroke[:, axis]) for axis in (0, 1)])
    for _ in range(average // 2):
        inner = (points[:-2] + points[1:-1] + points[2:]) / 3
        points = np.concatenate([points[:1], inner, points[-1:]])
    return points


@functools.cache
def _font(name: str) -> dict[str, tuple[list[NDArray[np.float64]], float]]:
    """Return strokes and width of each character of a font."""
    fonts = _hershey()
    fonts.load_default_font(name)
    return {
        character: (list(_strokes(glyph)), float(glyph.char_width))
        for character, glyph in zip(CHARACTERS, fonts.glyphs_for_text(CHARACTERS), strict=True)
    }


def _strokes(glyph: Any) -> Iterator[NDArray[np.float64]]:
    for stroke in glyph.strokes:
        points = np.array(stroke, np.float64).reshape(-1, 2)
        if len(points) == 1:
            points = np.repeat(points, 2, axis=0)
        if len(points):
            yield points - [glyph.left_offset, 0]


def _hershey() -> Any:
    try:
        from HersheyFonts import HersheyFonts
    except ImportError:
        problem = "needs the stroke fonts of Hershey, which are not installed"
        accepted = "pip install Hershey-Fonts, or terrarium[handwriting]"
        raise ConfigError("task handwriting", "", problem, accepted) from None
    return HersheyFonts()
