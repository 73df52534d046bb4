"""Places for the Axes of a plain grid: those of matplotlib's constrained layout, without a solver.

Its time grows with the square of the number of Axes, and it measures each again in every pass. Of a
grid of single cells the same places follow from a sum.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.text import Text
from numpy.typing import NDArray

Ends = NDArray[np.float64]  # left, bottom, right, top, in pixels; or rows of these
_PASSES, _PASSES_IMAGES = 2, 4  # what is taken changes with the size, the more of images


class Arranger:
    """Gives the Axes of a figure their places, again and again while its words change."""

    def __init__(self, figure: Figure, renderer: RendererAgg) -> None:
        self._figure, self._renderer = figure, renderer
        self._grid = _plain_grid(figure)
        is_images = any(axes.get_aspect() != "auto" for axes in figure.axes)
        self._passes = _PASSES_IMAGES if is_images else _PASSES
        self._margins: dict[Axes, tuple[tuple[str, ...], Ends]] = {}

    def arrange(self) -> None:
        """Do as the figure's layout engine does."""
        engine = self._figure.get_layout_engine()
        assert engine is not None
        if self._grid is None or not all(
            self._once(self._grid, engine.get()) for _ in range(self._passes)
        ):
            engine.execute(self._figure)

    def _once(self, grid: GridSpec, pads: Mapping[str, Any]) -> bool:
        """Place all Axes by what they take now; False if there is no room."""
        figure, (num_rows, num_columns) = self._figure, grid.get_geometry()
        size = figure.get_size_inches()
        pad = np.array([pads["w_pad"], pads["h_pad"]]) / size
        outer = self._outer(pad)
        margins = np.zeros((2, 2, max(num_rows, num_columns)))  # across and down; before, after
        cells = []
        for axes in figure.axes:
            spec = axes.get_subplotspec()
            assert spec is not None
            cell = spec.colspan.start, spec.rowspan.start
            left, bottom, right, top = self._beyond(axes) / np.tile(figure.bbox.size, 2)
            for way, (before, after) in enumerate([(left, right), (top, bottom)]):
                here = margins[way, :, cell[way]]
                np.maximum(here, (before, after), out=here)
            cells.append((axes, cell))
        across = _positions(
            margins[0, :, :num_columns], pad[0], grid.wspace, pads["wspace"],
            grid.get_width_ratios(), outer[0],
        )  # fmt: skip
        down = _positions(
            margins[1, :, :num_rows], pad[1], grid.hspace, pads["hspace"],
            grid.get_height_ratios(), outer[1],
        )  # fmt: skip
        if across is None or down is None:
            return False
        for axes, (column, row) in cells:
            (x, wide), (y, high) = across[column], down[row]
            axes._set_position((x, 1 - y - high, wide, high))  # type: ignore[attr-defined]
        return True

    def _outer(self, pad: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the shares that the figure's own titles take: left and right, top and bottom."""
        figure, outer = self._figure, np.zeros((2, 2))
        size = figure.bbox.size
        for name, way, end in (
            ("_suptitle", 1, 0), ("_supxlabel", 1, 1), ("_supylabel", 0, 0)
        ):  # fmt: skip
            text = getattr(figure, name)
            if text is not None and text.get_in_layout() and text._autopos:
                place = list(text.get_position())
                place[way] = 1 - pad[1] if name == "_suptitle" else pad[way]
                text.set_position(place)
                extent = text.get_tightbbox(self._renderer)
                outer[way, end] = extent.size[way] / size[way] + 2 * pad[way]
        return outer

    def _beyond(self, axes: Axes) -> Ends:
        """Return by how many pixels Axes and their words go beyond their place on each side."""
        figure = self._figure
        place = _ends(axes.get_position(original=True)) * np.tile(figure.bbox.size, 2)
        signs = np.array([1, 1, -1, -1])
        words = _words(axes)
        if words is not None and axes in self._margins and self._margins[axes][0] == words:
            axes.apply_aspect()
            return np.asarray(signs * (place - _ends(axes.bbox)) + self._margins[axes][1])
        extent = axes.get_tightbbox(self._renderer, for_layout_only=True)
        if extent is None:
            return np.zeros(4)
        if words is not None:
            self._margins[axes] = words, signs * (_ends(axes.bbox) - _ends(extent))
        return np.asarray(signs * (place - _ends(extent)))


def _plain_grid(figure: Figure) -> GridSpec | None:
    """Return the grid of which all Axes of a figure take one cell each; None if it is none."""
    grids: list[Any] = []
    for axes in figure.axes:
        spec, is_moved = axes.get_subplotspec(), axes.get_axes_locator() is not None
        if spec is None or is_moved or not axes.get_in_layout():
            return None
        if max(len(spec.rowspan), len(spec.colspan)) > 1:
            return None
        grids.append(spec.get_gridspec())
    is_one = len(set(grids)) == 1 and isinstance(grids[0], GridSpec)
    is_plain = is_one and not figure.subfigs and not figure.legends
    return grids[0] if is_plain else None


def _positions(
    margins: NDArray[np.float64], pad: float, own: float | None, usual: float,
    ratios: Any, outer: NDArray[np.float64],
) -> list[tuple[float, float]] | None:  # fmt: skip
    """Return where cells begin, and their lengths, in a length of 1; None: there is no room.

    Args:
        margins: before and after each cell (2, N).
        pad: more of it on each side.
        own: share of the length that is left between cells, by the grid.
        usual: the same, where the grid does not say.
        ratios: of the cells' lengths (N,).
        outer: before and after all.
    """
    num = margins.shape[1]
    between = (usual if own is None else own) / 2 / num
    pads = np.full((2, num), pad)
    if between > pad:
        pads[0, 1:] = pads[1, :-1] = between
    before, after = np.maximum(margins, 0) + pads
    lengths = np.asarray(ratios, float) / np.sum(ratios)
    lengths = lengths * (1 - outer.sum() - before.sum() - after.sum())
    if lengths.min() <= 0:
        return None
    begins = outer[0] + np.cumsum(before + lengths + after) - after - lengths
    return list(zip(begins.tolist(), lengths.tolist(), strict=True))


def _words(axes: Axes) -> tuple[str, ...] | None:
    """Return the words at bare Axes, on which alone it depends how far they go beyond their box.

    None: other things may, such as ticks, and what is drawn over the border.
    """
    others = axes.texts, axes.patches, axes.lines, axes.collections, axes.artists, axes.tables
    if any(len(each) for each in others) or axes.get_legend():
        return None
    if axes.axison and (len(axes.get_xticks()) or len(axes.get_yticks())):
        return None
    labels = [axes.xaxis.label, axes.yaxis.label]
    texts = [each for each in axes.get_children() if isinstance(each, Text)]
    return tuple(text.get_text() for text in (*texts, *labels))


def _ends(box: Any) -> Ends:
    return np.asarray(box.extents, float)
