"""Error rates of pages: known answers for lines that are missed, too much, in pieces, unordered."""

import numpy as np
import pytest

from tasks.handwriting.page_format import TextLine
from tasks.handwriting.page_scores import PageErrors, page_errors


def line(text: str, y: float, left: float = 0, right: float = 100) -> TextLine:
    """Return a level line with its baseline at a height."""
    box = np.array([[left, y - 15], [right, y - 15], [right, y + 5], [left, y + 5]])
    return TextLine("", box, np.array([[left, y], [right, y]]), text)


RIGHT = [line("ten letter", 20), line("more of it", 40), line("", 60), line("the end", 80)]


def test_what_is_right_has_no_errors() -> None:
    """Also if a baseline is off by some pixels, and white space differs."""
    read = [line(x.text + " ", x.baseline[0, 1] + 3) for x in RIGHT if x.text]
    errors = page_errors(read, RIGHT)
    assert set(errors.rates().values()) == {0.0}
    assert (errors.length, errors.num_words, errors.num_lines) == (27, 7, 3)


def test_a_missed_line_costs_its_characters() -> None:
    """And one that is too much costs each of its own; a line without a true text costs nothing."""
    read = [line("ten letter", 20), line("the end", 80), line("any", 60), line("noise", 200)]
    errors = page_errors(read, RIGHT)
    assert (errors.edits, errors.num_missed, errors.num_extra) == (10 + 5, 1, 1)
    assert errors.word_edits == 3 + 1
    assert errors.rates()["page_cer"] == pytest.approx(15 / 27)


def test_pieces_of_a_line_are_joined() -> None:
    """From the left, with a space between; a second reading of the line is an error."""
    pieces = [line("letter", 21, 45), line("ten", 19, 0, 40)]
    rest = [line("more of it", 40), line("the end", 80)]
    assert page_errors([*pieces, *rest], RIGHT).edits == 0
    twice = page_errors([line("ten letter", 20), line("ten letter", 21), *rest], RIGHT)
    assert twice.edits == len(" ten letter")


def test_only_whole_texts_know_of_order() -> None:
    """Lines that are swapped are right by their places, and wrong in order."""
    read = [line("more of it", 40), line("ten letter", 20), line("the end", 80)]
    errors = page_errors(read, RIGHT)
    assert errors.edits == 0
    assert errors.order_edits > 8
    assert errors.order_length == 27 + 2


def test_columns_are_told_apart() -> None:
    """Two lines beside each other belong to the true ones at their side."""
    right = [line("left", 20, 0, 45), line("right", 20, 55, 100)]
    assert page_errors([right[1], right[0]], right).edits == 0
    assert page_errors([right[1]], right).edits == 4


def test_errors_of_pages_are_added() -> None:
    """Rates are of all pages together; nothing read, and nothing to read, are no error of ours."""
    one, other = page_errors([], RIGHT), page_errors([line("abc", 9)], [])
    both = one + other
    assert (both.edits, both.length, both.num_extra) == (30, 27, 1)
    assert one.rates()["missed"] == 1.0
    assert set(PageErrors().rates().values()) == {0.0}
