"""Grids have the places that matplotlib's own layout gives them, and tiles stand where they say."""

from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.testing import assert_allclose

from visualization.core.arranging import Arranger
from visualization.core.legible import Words, legible
from visualization.core.tiles import heading, page, tiles


def grid(rows: int, columns: int, **settings: Any) -> Figure:
    """Return a figure of images with words on all sides, some of two lines, one place empty."""
    figure = Figure(figsize=(1.1 * columns + 1, 1.2 * rows + 1), layout="constrained")
    figure.suptitle("a heading")
    figure.supxlabel("a note")
    places = figure.subplots(rows, columns, squeeze=False, **settings)
    for number, axes in enumerate(places.flat):
        axes.imshow(np.eye(4 + number % 2, 4), aspect=1.0)
        axes.set(xticks=[], yticks=[])
        axes.set_title("two\nlines" if number == 2 else "one")
        if number % columns == 0:
            axes.set_ylabel("row\nname")
        if number == 1:
            axes.set_xlabel("under it")
    places[-1, -1].set_axis_off()
    return figure


@pytest.mark.parametrize(
    ("shape", "settings"),
    [((1, 1), {}), ((3, 4), {}), ((2, 3), {"width_ratios": [1, 0.2, 2]}),
     ((2, 2), {"gridspec_kw": {"hspace": 0.5, "wspace": 0.3}})],
)  # fmt: skip
def test_a_plain_grid_has_the_places_of_the_layout_engine(
    shape: tuple[int, int], settings: dict[str, Any]
) -> None:
    """After each of three layouts, with a word changed in between, and with ticks too."""
    figures = [grid(*shape, **settings) for _ in range(2)]
    for each in figures:
        each.axes[0].set_yticks([0, 3], ["first", "a longer name"])
    own, other = figures
    arranger = Arranger(own, FigureCanvasAgg(own).get_renderer())
    assert arranger._grid is not None
    for _ in range(3):
        arranger.arrange()
        for _ in range(2):  # as many passes
            other.get_layout_engine().execute(other)
        for ours, theirs in zip(own.axes, other.axes, strict=True):
            for original in (True, False):
                a, b = (axes.get_position(original).extents for axes in (ours, theirs))
                assert_allclose(a, b, atol=1e-6)
        for each in figures:
            each.axes[-1].set_title("three\nlines\nnow")


def test_other_figures_are_left_to_the_layout_engine() -> None:
    """With a colour bar, a legend, parts, or Axes over several cells it is not a plain grid."""
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    figure.colorbar(axes.imshow(np.eye(2)), ax=axes)
    parted = Figure(layout="constrained")
    parted.subfigures(1, 2)[0].subplots()
    spread = Figure(layout="constrained")
    spread.subplot_mosaic("AB;AC")
    for each in (figure, parted, spread):
        assert Arranger(each, FigureCanvasAgg(each).get_renderer())._grid is None
        before = [axes.get_position().extents for axes in each.axes]
        legible(each)
        after = [axes.get_position().extents for axes in each.axes]
        assert not np.allclose(before, after)


def test_pictures_of_a_page_stand_in_their_places_and_words_fit() -> None:
    """A picture fills its place as far as its shape allows; a name too long is shortened."""
    figure = Figure(figsize=(4, 3))
    axes = page(figure)
    places = tiles(axes, 2, 3, corner=(0.5, 0.6), pitch=(1.1, 1.2), side=1.0)
    square, wide = places[0][0], places[1][2]
    square.picture(np.zeros((5, 5, 3)))
    wide.picture(np.zeros((2, 4, 3)))
    assert [image.get_extent() for image in axes.images] == [
        pytest.approx((0.5, 1.5, 1.6, 0.6)), pytest.approx((2.7, 3.7, 2.55, 2.05))
    ]  # fmt: skip
    square.over("backbone_features_stage_four_block_00012")
    wide.under("short")
    heading(axes, "words " * 40)
    legible(figure)
    renderer = FigureCanvasAgg(figure).get_renderer()
    for text in figure.findobj(Words):
        assert text.get_window_extent(renderer).width <= text.room * figure.dpi
    first, second, title = (text.get_text() for text in axes.texts)
    assert "…" in first
    assert second == "short"
    assert title.count("\n") == 1
