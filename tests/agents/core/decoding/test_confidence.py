"""Which characters and words are right, and how sure they are."""

import numpy as np

from agents.core.decoding.confidence import are_right, confidences_of_lines
from tests.agents.core.decoding.test_alignment import rows_of


def test_what_is_right_is_what_the_alignment_leaves() -> None:
    """Of kitten for sitting four characters are right; of two words the one that is there."""
    assert are_right("kitten", "sitting").tolist() == [False, True, True, True, False, True]
    assert are_right(["the", "cat"], ["a", "cat", "sat"]).tolist() == [False, True]
    assert are_right("", "abc").tolist() == []


def test_characters_and_words_of_lines_have_confidences() -> None:
    """Two lines: a b, of which b is wrong, and nothing; words are as sure as their characters."""
    sure, space, unsure = (0.02, 0.96, 0.01, 0.01), (0.02, 0.01, 0.01, 0.96), (0.2, 0.1, 0.6, 0.1)
    rows = [rows_of(sure, space, unsure), rows_of((0.97, 0.01, 0.01, 0.01))]
    codes = [np.array([1, 3, 2]), np.zeros(0, np.int64)]
    characters, words = confidences_of_lines(rows, codes, "ab ", ["a a", "b"])
    sureness, right = characters.at(1.0)
    assert right.tolist() == [True, True, False]
    assert sureness.shape == (3,)
    of_words, are = words.at(1.0)
    assert are.tolist() == [True, False]
    np.testing.assert_allclose(of_words, sureness[[0, 2]])
    assert (characters.at(4.0)[0] < sureness).all()
