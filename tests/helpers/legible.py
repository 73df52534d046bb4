"""What a reader asks of a figure: that it fits a page, and that its words are whole and apart."""

import contextlib
from collections.abc import Iterator

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

WIDEST, HIGHEST = 14.5, 22.0  # inches
TOLERANCE = 1.5  # pixels at 100 to an inch by which boxes may overlap, as letters seldom fill them


@contextlib.contextmanager
def _drawn_texts() -> Iterator[list[Text]]:
    """Collect the texts that are drawn: not those of hidden ticks and axes."""
    texts: list[Text] = []
    draw = Text.draw

    def drawing(self: Text, renderer: object, *args: object, **settings: object) -> None:
        texts.append(self)
        draw(self, renderer, *args, **settings)

    Text.draw = drawing  # type: ignore[method-assign]
    try:
        yield texts
    finally:
        Text.draw = draw  # type: ignore[method-assign]


def words_of(figure: Figure) -> list[tuple[Text, Bbox]]:
    """Return what is written in a figure, with the box (in pixels) of each text."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    with _drawn_texts() as texts:
        figure.draw_without_rendering()
    shown = dict.fromkeys(t for t in texts if t.get_visible() and t.get_text().strip())
    return [(text, Text.get_window_extent(text, renderer)) for text in shown]


def _over(a: Bbox, b: Bbox) -> float:
    """Return by how many pixels, across or along, two boxes overlap at least."""
    return float((np.minimum(a.max, b.max) - np.maximum(a.min, b.min)).min())


def faults(figure: Figure) -> list[str]:
    """Return in words what keeps a figure from being read."""
    width, height = figure.get_size_inches()
    found = []
    if width > WIDEST or height > HIGHEST:
        found.append(f"{width:.1f} × {height:.1f} inches are more than a page")
    texts = words_of(figure)
    words = [(text.get_text(), box) for text, box in texts]
    page = figure.bbox.padded(TOLERANCE)
    found += [
        f"{text!r} is cut off at {box.extents.round()} of {page.extents.round()}"
        for text, box in words
        if box.x0 < page.x0 or box.y0 < page.y0 or box.x1 > page.x1 or box.y1 > page.y1
    ]
    for text, box in texts:
        for axes in figure.axes:
            if text.axes is not axes and axes.axison and _over(box, axes.bbox) > TOLERANCE:
                found.append(f"{text.get_text()!r} lies over another picture")
    if not words:
        return found
    low, high = (np.array([(box.min, box.max)[end] for _, box in words]) for end in (0, 1))
    over = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)  # (text, text, 2)
    for one, other in np.argwhere(np.triu(over.min(axis=-1) > TOLERANCE, 1)):
        found.append(f"{words[one][0]!r} and {words[other][0]!r} overlap by {over[one, other]}")
    return found
