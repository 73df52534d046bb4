"""The registry of figures: the functions that draw, describe and caption a kind of record.

By rule and not by lists: what is registered for the records of a package is in `figures` beside
them, a module or a package, which is imported when one of them is first drawn. So learning does not
load it, and a package of one's own is found as ours are. Figures are matplotlib's, made without
pyplot, so that nothing is shared or left open.
"""

import functools
import importlib
import importlib.util
import io
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

T = TypeVar("T")


class ByKind(Generic[T]):
    """Single dispatch on the type of a record, with the figures beside it imported on first use.

    Args:
        default: is called for kinds without a function, with the same arguments.
        finish: is called with what the function of a kind returns.
    """

    def __init__(
        self, default: Callable[..., T], finish: Callable[[T], T] = lambda result: result
    ) -> None:
        self._functions = functools.singledispatch(default)
        self._default, self._finish = default, finish
        self.register = self._functions.register
        self.registry = self._functions.registry

    def __call__(self, record: Any, *arguments: Any) -> T:
        """Return what the function of the record's kind returns."""
        return self._finish(self._of(record)(record, *arguments))

    def knows(self, record: Any) -> bool:
        """Tell whether a function is registered for the record's kind."""
        return self._of(record) is not self._default

    def _of(self, record: Any) -> Callable[..., T]:
        for kind in type(record).__mro__:
            _import_figures(kind.__module__)
        return self._functions.dispatch(type(record))


@functools.cache
def _import_figures(module: str) -> None:
    """Import the `figures` beside a module, if there is such a module or package."""
    package = module.rpartition(".")[0]
    if package and importlib.util.find_spec(f"{package}.figures"):
        importlib.import_module(f"{package}.figures")


def _no_figure(record: Any) -> "Figure":
    """Refuse a record that has no figure.

    Raises:
        TypeError: always.
    """
    raise TypeError(f"no figure is known for a {type(record).__name__}")


def _legible(figure: "Figure") -> "Figure":
    """Return a figure after its words were made to fit."""
    from visualization.core.legible import legible

    return legible(figure)


draw = ByKind(_no_figure, _legible)
"""Return a figure of a record, made legible; TypeError: none is known for its kind."""

text = ByKind(lambda record: "")
"""Return a record as lines of plain text, "" where only a figure says it."""

caption = ByKind(lambda record: "")
"""Return one sentence that says how to read a record's figure, "" where that is plain."""

fragment = ByKind(lambda record: "")
"""Return the interactive form of a record as HTML, "" where there is only a figure."""

subpages: ByKind[Iterator[tuple[str, str]]] = ByKind(lambda record, report: iter(()))
"""Yield the pages of their own that a record has: address from the report's folder, and HTML.

`report`, the second argument, is the file name of the report, to which they lead back.
"""


def anchor(name: str) -> str:
    """Return the address, within a page, of a section that is named so."""
    return re.sub(r"[^\w@.-]+", "-", name.replace(",", ""))


def png(figure: "Figure", dpi: int = 110) -> bytes:
    """Return a figure as the content of a PNG file.

    It is laid out and drawn once, where `savefig` does either twice. Without transparency, and with
    less effort to compress, writing takes half the time, and the file is not larger.
    """
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    buffer, usual = io.BytesIO(), figure.dpi
    figure.dpi = dpi
    try:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # type: ignore[no-untyped-call]
        pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
        image = Image.fromarray(pixels).convert("RGB")
        image.save(buffer, "PNG", compress_level=3, dpi=(dpi, dpi))
    finally:
        figure.dpi = usual
    return buffer.getvalue()
