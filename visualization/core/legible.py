"""Legible figures: fonts for all letters, and text that fits and does not overlap.

A figure is laid out, then every title and every name of an axis is broken into lines that fit, or
shortened, and names at an axis that would touch are thinned out.
"""

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.text import Text
from matplotlib.transforms import Bbox, BboxBase
from numpy.typing import NDArray

from visualization.core.arranging import Arranger
from visualization.core.words import wrap

SPARE = "left out where it would lie over another"  # marks (as gid) such texts
_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC",
    "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "Microsoft YaHei", "SimHei",
    "PingFang SC", "Hiragino Sans GB", "Heiti TC", "Arial Unicode MS", "Unifont",
    "Last Resort High-Efficiency",  # a box with the kind of the letter in it; matplotlib brings it
)  # fmt: skip
_TIMES = 6  # at most: a name that takes another line leaves others less room
_LINES = 2  # of a title or of the name of an axis
_EDGE = 4.0  # pixels at a figure's border that stay blank
_TITLE_GAP = 8.0  # pixels between titles
_BEYOND = 4.0  # pixels by which a name of an upright axis may be longer than the axis
_NAME_GAP = 2.0  # pixels between names at an axis
Box = NDArray[np.float64]  # left, bottom, right, top; or rows of these
NO_BOXES = np.zeros((0, 4))
_START = {"left": 0.0, "center": 0.5, "right": 1.0}  # where a text is held, of its width


class Words(Text):
    """A text with room of its own, into which it is fitted wherever it stands.

    Args:
        x: place across.
        y: place down.
        words: the text.
        room: inches that a line may take.
        style: of the text.
    """

    def __init__(self, x: float, y: float, words: str, *, room: float, **style: Any) -> None:
        super().__init__(x, y, words, **style)
        self.room = room


def legible(figure: Figure) -> Figure:
    """Return a figure after its words were made to fit; its layout stays as it then is."""
    texts = _give_fonts(figure)
    engine = figure.get_layout_engine()
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    whole: dict[Text, str] = {}
    for text in texts:
        if isinstance(text, Words):
            _fit(text, whole, text.room * figure.dpi, renderer)
    if engine is not None:
        arranger = Arranger(figure, renderer)
        for number in range(_TIMES):
            rooms = list(_rooms(figure, renderer))
            changed = [_fit(text, whole, room, renderer) for text, room in rooms]
            changed += [_thin_names(axis, renderer) for axis in _axes_with_names(figure)]
            if number and not any(changed):
                break
            arranger.arrange()
            _place(figure, renderer)
        _leave_out(texts, renderer)
        figure.set_layout_engine(None)  # as laid out: it is drawn once, not twice
    return figure


def _place(figure: Figure, renderer: RendererAgg) -> None:
    """Give images the shape within their places that they will have when they are drawn."""
    for axes in figure.axes:
        locate = axes.get_axes_locator()
        axes.apply_aspect(None if locate is None else locate(axes, renderer))


@functools.cache
def _fallbacks() -> tuple[str, ...]:
    """Return the installed fonts that have letters which the usual one lacks."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return tuple(name for name in _FONTS if name in installed)


def _give_fonts(figure: Figure) -> list[Text]:
    """Let texts have letters from other fonts, which may not be bold, where their own has none.

    Return all texts.
    """
    for axis in _axes_with_names(figure):
        axis.get_majorticklabels()  # of categories they are not written before
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    for text in texts:
        words = text.get_text()
        if not words.isascii() and _lacks_letters(text, words):
            text.set(family=[*text.get_fontfamily(), *_fallbacks()], weight="normal")
    return texts


def _lacks_letters(text: Text, words: str) -> bool:
    """Tell whether the font of a text has no shape for some letter."""
    letters = _letters(tuple(text.get_fontfamily()))
    return any(ord(letter) not in letters for letter in words if letter != "\n")


@functools.cache
def _letters(family: tuple[str, ...]) -> frozenset[int]:
    """Return the code points that a font has shapes for."""
    name = font_manager.FontProperties(family=list(family))
    return frozenset(font_manager.get_font(font_manager.findfont(name)).get_charmap())


def _rooms(figure: Figure, renderer: RendererAgg) -> Iterator[tuple[Text, float]]:
    """Yield every title and name of an axis with the pixels, along its line, that it may take."""
    parts: tuple[Figure | SubFigure, ...] = (figure, *figure.subfigs)
    for part in parts:
        for text in part.texts:
            if text.get_text():
                yield text, _room(text, renderer, _box(part.bbox), _box(part.bbox))
    boxes = np.array([_box(axes.bbox) for axes in figure.axes]).reshape(-1, 4)
    for kind in zip(*map(_titles, figure.axes), strict=True):
        numbers = [n for n, text in enumerate(kind) if text.get_text() and text.get_visible()]
        for number in numbers:
            text = kind[number]
            owner = text.axes.get_figure(root=False) if text.axes else None
            page = _box(figure.bbox if owner is None else owner.bbox)
            others = boxes[[other for other in numbers if other != number]]
            walls = np.delete(boxes, number, axis=0)
            yield text, _room(text, renderer, page, boxes[number], others, walls)


def _box(box: BboxBase) -> Box:
    """Return the ends of a box: left, bottom, right and top, in pixels."""
    return np.array([*box.min, *box.max])


def _titles(axes: Axes) -> list[Text]:
    """Return the three titles of axes and their two names."""
    texts = set(axes.texts)
    titles = [
        child for child in axes.get_children() if isinstance(child, Text) and child not in texts
    ]
    return [*titles, axes.xaxis.label, axes.yaxis.label]


def _room(
    text: Text, renderer: RendererAgg, page: Box, own: Box, others: Box = NO_BOXES,
    walls: Box = NO_BOXES,
) -> float:  # fmt: skip
    """Return how long a text may be between the page's ends and what is beside it.

    `others` (N, 4) are axes with a text of the same kind, `walls` (M, 4) all that it must not run
    into.
    """
    along = 1 if text.get_rotation() == 90 else 0
    end = along + 2
    low, high = page[along] + _EDGE, page[end] - _EDGE
    if along:  # beyond the corners of its axes it would meet titles
        low, high = max(low, own[1] - _BEYOND), min(high, own[3] + _BEYOND)
    start = _START[text.get_horizontalalignment()]
    before, after = _neighbours(others, own, own, along)
    gaps = after[:, along] - own[end]
    high = min(high, (after[:, along] - start * gaps).min(initial=np.inf) - _TITLE_GAP)
    gaps = own[along] - before[:, end]
    low = max(low, (before[:, end] + (1 - start) * gaps).max(initial=-np.inf) + _TITLE_GAP)
    box = _box(text.get_window_extent(renderer))
    before, after = _neighbours(walls, box, own, along)
    high = min(high, after[:, along].min(initial=np.inf) - _EDGE)
    low = max(low, before[:, end].max(initial=-np.inf) + _EDGE)
    anchor = box[along] + start * (box[end] - box[along])
    shorter, longer = (anchor - low) / (start or 1), (high - anchor) / ((1 - start) or 1)
    return float({0.0: longer, 1.0: shorter}.get(start, min(shorter, longer)))


def _neighbours(boxes: Box, row: Box, own: Box, along: int) -> tuple[Box, Box]:
    """Return those of some boxes in the row (or column) of a box that lie before and after axes."""
    across, end = 1 - along, along + 2
    boxes = boxes[(boxes[:, across] < row[across + 2]) & (boxes[:, across + 2] > row[across])]
    is_after = boxes[:, along] >= own[end] - 1
    is_before = ~is_after & (boxes[:, end] <= own[along] + 1)
    return boxes[is_before], boxes[is_after]


def _fit(text: Text, whole: dict[Text, str], room: float, renderer: RendererAgg) -> bool:
    """Break a text into lines that have room, and shorten what is left; tell whether it changed.

    `whole` has what each text was at first.
    """
    style = text.get_fontproperties()

    @functools.cache
    def size(words: str) -> float:
        extents = renderer.get_text_width_height_descent(  # type: ignore[no-untyped-call]
            words, style, False
        )
        return float(extents[0])

    before = text.get_text()
    room_size = whole.setdefault(text, before).split("\n")
    if max(map(size, before.split("\n"))) <= room:
        return False
    each = max(1, _LINES // len(room_size))
    text.set_text("\n".join(line for words in room_size for line in wrap(words, room, each, size)))
    return text.get_text() != before


def _axes_with_names(figure: Figure) -> Iterator[Axis]:
    for axes in figure.axes:
        if axes.axison and axes.get_visible():
            yield axes.xaxis
            yield axes.yaxis


def _thin_names(axis: Axis, renderer: RendererAgg) -> bool:
    """Leave only every so manieth name at an axis, so that none touch; tell whether it had to."""
    names = [
        label
        for tick in axis.get_major_ticks()
        for label in (tick.label1, tick.label2)
        if label.get_visible() and label.get_text()
    ]
    boxes = [label.get_window_extent(renderer) for label in names]
    every = 1
    while _do_touch(boxes[::every]):
        every += 1
    for number, label in enumerate(names):
        if number % every:
            label.set_visible(False)
    return every > 1


def _do_touch(boxes: Sequence[Bbox]) -> bool:
    """Tell whether any two neighbours do."""
    return any(a.padded(_NAME_GAP).overlaps(b) for a, b in itertools.pairwise(boxes))


def _leave_out(texts: Sequence[Text], renderer: RendererAgg) -> None:
    """Hide texts that can be spared and would lie over an earlier one."""
    boxes_kept: list[Bbox] = []
    for text in texts:
        if text.get_gid() == SPARE:
            box = text.get_window_extent(renderer)
            text.set_visible(not any(box.overlaps(other) for other in boxes_kept))
            boxes_kept += [box] * text.get_visible()
