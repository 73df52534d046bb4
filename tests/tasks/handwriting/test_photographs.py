"""Photographs of pages: slant, gutter, light, polarity, and places in the photograph."""

import numpy as np
import pytest

from tasks.handwriting.photographs import gutter_of, sheets_of, slant_of, with_dark_ink
from tests.helpers.drawn_pages import drawn_page, shaded, turned

ONE, OTHER = drawn_page(seed=1), drawn_page(seed=2, num=5)
TWO = np.hstack([ONE.grey, OTHER.grey])


@pytest.mark.parametrize("angle", [-8.0, -2.5, 0.0, 1.2, 6.0])
def test_slant_is_measured(angle: float) -> None:
    """To a quarter of a degree, also in uneven light."""
    for grey in (ONE.grey, shaded(ONE.grey)):
        assert abs(slant_of(turned(grey, angle)) - angle) <= 0.25


def test_a_blank_page_is_one_sheet_as_it_is() -> None:
    """Neither slant nor gutter, wide or high."""
    for shape in ((200, 300), (300, 200), (1, 1), (3, 400)):
        (sheet,) = sheets_of(np.full(shape, 220, np.uint8))
        assert sheet.grey.shape == shape


def test_two_pages_are_split_at_the_gutter() -> None:
    """Between them, with a dark fold or without; one page is not split, nor two columns of one."""
    assert abs((gutter_of(TWO) or 0) - 640) < 20
    folded = TWO.copy()
    folded[:, 637:642] = 40
    assert abs((gutter_of(shaded(folded)) or 0) - 640) < 20
    assert gutter_of(ONE.grey) is None
    columns = np.hstack([ONE.grey[:, :320], ONE.grey[:, 280:]])[:, :400]
    assert gutter_of(columns) is None


def test_places_on_sheets_are_told_in_the_photograph() -> None:
    """Ink of slanted pages side by side is where the sheet says that it is."""
    folded = TWO.copy()
    folded[:, 637:642] = 40
    photograph = turned(folded, 2.5)
    sheets = sheets_of(photograph)
    assert len(sheets) == 2
    for sheet in sheets:
        assert abs(slant_of(sheet.grey)) < 0.3
        rows, columns = np.nonzero(sheet.grey < 80)
        x, y = sheet.to_photograph(np.column_stack([columns, rows]) + 0.5).astype(int).T
        assert np.mean(photograph[y, x] < 120) > 0.95
    ends = [sheet.to_photograph(np.array([[0.0, 0.0]]))[0, 0] for sheet in sheets]
    assert ends[1] - ends[0] > 500


def test_ink_is_dark_after_it() -> None:
    """A page of light ink is inverted, one of dark ink stays, whatever its border is."""
    assert (with_dark_ink(255 - ONE.grey) == ONE.grey).all()
    assert (with_dark_ink(ONE.grey) == ONE.grey).all()
    framed = np.pad(ONE.grey, 60, constant_values=30)
    assert (with_dark_ink(framed) == framed).all()
    empty = np.full((50, 40), 20, np.uint8)
    assert (with_dark_ink(empty) == 235).all()
    assert (with_dark_ink(255 - empty) == 235).all()
