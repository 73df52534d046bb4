"""Alignment against the enumeration of paths; confidences between 0 and 1 that mean something."""

import itertools

import numpy as np
import pytest

from agents.core.decoding.alignment import align, read
from agents.core.decoding.ctc import collapse
from tasks.handwriting.drawn import DrawnHandwriting
from tests.agents.core.decoding.test_ctc import log_rows


@pytest.mark.parametrize("codes", [[], [1], [1, 1], [1, 2], [2, 1, 2], [1, 1, 2]])
def test_the_alignment_is_the_likeliest_path(codes: list[int]) -> None:
    """Among all paths of five columns with the text, none is likelier than the one found."""
    rows = log_rows(5, seed=len(codes))
    best = max(
        float(rows[np.arange(5), list(path)].sum())
        for path in itertools.product(range(3), repeat=5)
        if collapse(np.array(path)).tolist() == codes
    )
    spans, log_p = align(rows, np.array(codes, np.int64))
    assert log_p == pytest.approx(best)
    path = np.zeros(5, np.int64)
    for code, (begin, end) in zip(codes, spans, strict=True):
        path[begin:end] = code
    assert float(rows[np.arange(5), path].sum()) == pytest.approx(best)
    assert collapse(path).tolist() == codes


def test_a_text_that_does_not_fit_is_refused() -> None:
    """[1, 1, 2, 2] has no path through five columns."""
    with pytest.raises(ValueError, match="5 columns; the text needs 6"):
        align(log_rows(5, seed=0), np.array([1, 1, 2, 2]))


def rows_of(*columns: tuple[float, ...]) -> np.ndarray:
    """Return ln p of columns."""
    return np.log(np.array(columns))


def test_characters_are_as_sure_as_their_columns() -> None:
    """A character of probability 0.98 is surer than one of 0.5, and a word than neither."""
    sure, blank, unsure = (0.01, 0.98, 0.01), (0.98, 0.01, 0.01), (0.01, 0.49, 0.5)
    found = read(rows_of(sure, blank, unsure, blank), np.array([1, 2]), "ab", column_width=4)
    assert found.text == "ab"
    assert found.spans.tolist() == [[0, 1], [2, 3]]
    assert found.confidence[0] > 0.9
    assert found.confidence[1] == pytest.approx(0.5, abs=0.02)
    assert found.words[0].confidence == pytest.approx(found.confidence.prod())
    assert found.words[0][:3] == ("ab", 0, 2)


def test_a_character_left_out_is_seen_by_its_neighbours() -> None:
    """Where a column between two characters probably says a third, neither is sure."""
    a, b, c = (0.01, 0.97, 0.01, 0.01), (0.01, 0.01, 0.97, 0.01), (0.04, 0.01, 0.01, 0.94)
    found = read(rows_of(a, c, b), np.array([1, 2]), "abc")
    assert (found.confidence < 0.5).all()


def test_boxes_touch_and_keep_their_order() -> None:
    """The edges of characters rise from left to right, each character's at its columns."""
    rows = log_rows(40, seed=4)
    found = read(rows, np.array([1, 2, 1, 1, 2]), "ab", column_width=4)
    boxes = found.boxes()
    assert (boxes[:, 0] < boxes[:, 1]).all()
    np.testing.assert_array_equal(boxes[1:, 0], boxes[:-1, 1])
    middle = found.spans.mean(axis=1) * 4
    assert ((boxes[:, 0] <= middle) & (middle <= boxes[:, 1])).all()
    assert read(rows, np.array([], np.int64), "ab").boxes().shape == (0, 2)


def test_words_stand_between_white_space() -> None:
    """Each word has the numbers of its characters."""
    found = read(log_rows(30, seed=1, num_codes=4), np.array([1, 2, 3, 1]), "ab ")
    assert [word[:3] for word in found.words] == [("ab", 0, 2), ("a", 3, 4)]


def test_an_aligned_character_is_in_its_box() -> None:
    """Where columns in the middle of drawn letters say them, each is aligned within its own ink.

    The columns of a letter's reading cover its middle, and no other letter's.
    """
    task, column, num_letters = DrawnHandwriting(height=64), 4, 0
    rng = np.random.default_rng(0)
    for line in task.sample_lines("test", 40):
        assert line.boxes is not None
        codes = task.codes(line.text)
        middles = (line.boxes[:, 0] + line.boxes[:, 2]) / 2
        columns = (middles / column).astype(int)
        if (np.diff(columns) < 2).any():  # letters over each other
            continue
        p = rng.uniform(0.0, 0.02, (line.image.shape[1] // column, task.spec.num_codes))
        p[:, 0] += 1.0
        p[columns, 0], p[columns, codes] = 0.1, 0.9
        found = read(np.log(p / p.sum(axis=1, keepdims=True)), codes, task.characters, column)
        assert found.text == line.text
        centres = found.spans.mean(axis=1) * column
        assert (centres >= line.boxes[:, 0]).all()
        assert (centres <= line.boxes[:, 2]).all()
        left, right = found.boxes().T
        is_over = (left <= middles[:, None]) & (middles[:, None] <= right)
        assert (is_over == np.eye(len(codes), dtype=bool)).all()
        num_letters += len(codes)
    assert num_letters > 100


def test_a_temperature_makes_characters_less_sure_where_they_are() -> None:
    """Above 1 confidences of likely ones fall; neither text, places nor ln p change."""
    rows = rows_of((0.01, 0.98, 0.01), (0.98, 0.01, 0.01), (0.2, 0.1, 0.7))
    plain, less = (read(rows, np.array([1, 2]), "ab", temperature=t) for t in (1.0, 3.0))
    assert (less.confidence < plain.confidence).all()
    assert less.spans.tolist() == plain.spans.tolist()
    assert less.log_probability == plain.log_probability


def test_a_text_that_does_not_fit_has_no_confidence() -> None:
    """Four characters in two columns: the text as it is, even spans, and nothing to be sure of."""
    reading = read(np.log(np.full((2, 3), 1 / 3)), np.array([1, 2, 1, 2]), "ab")
    assert reading.text == "abab"
    assert reading.confidence.tolist() == [0, 0, 0, 0]
    assert reading.log_probability == -np.inf
    assert reading.spans.ravel().tolist() == [0, 0, 0, 1, 1, 1, 1, 2]
