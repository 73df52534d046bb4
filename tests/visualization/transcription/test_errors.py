"""Transcription errors: known answers of aligned texts, groups of lines, the worst lines."""

import numpy as np
import pytest

from visualization import NothingToShow, render
from visualization.transcription.errors import (
    confusions,
    errors_by_group,
    errors_by_length,
    worst_lines,
)
from visualization.transcription.figures import marked, symbol_name

ANSWERS, TARGETS = ["kitten", "ab", "a b"], ["sitting", "ab", "ab"]


def test_characters_are_counted_as_they_are_aligned() -> None:
    """Of kitten for sitting: k for s, e for i, g left out; a space too many is inserted."""
    found = confusions(ANSWERS, TARGETS)
    assert set(found.most_common(9)) == {
        ("s", "k", 1, 1), ("i", "e", 1, 2), ("g", "", 1, 1), ("", " ", 1, 0),
    }  # fmt: skip
    assert found.num_errors == 4
    at = {symbol: place for place, symbol in enumerate(found.symbols)}
    assert found.symbols[0] == ""
    assert found.counts[at["i"], at["i"]] == 1
    assert "a" not in at  # never an error


def test_the_commonest_error_is_the_first() -> None:
    """Of two kinds of errors, the one that is made more often."""
    found = confusions(["1", "1", "2"], ["7", "7", "3"])
    assert found.most_common(1) == [("7", "1", 2, 2)]


def test_groups_have_the_rates_of_their_lines() -> None:
    """Edits over characters, the worst page first; the total is that of all lines."""
    found = errors_by_group(ANSWERS, TARGETS, ["p1", "p2", "p2"], "page")
    assert [(g.name, g.num_edits, g.num_characters) for g in found.groups] == [
        ("p1", 3, 7), ("p2", 1, 4),
    ]  # fmt: skip
    assert found.total.error_rate == pytest.approx(4 / 11)
    assert np.isnan(found.groups[0].margin)
    with pytest.raises(NothingToShow, match="no different pages"):
        errors_by_group(ANSWERS, TARGETS, ["p", "p", "p"], "page")


def test_the_margin_holds_the_rate_of_all_lines() -> None:
    """Of 200 draws of 50 lines, about 95 % have the true rate within their margin."""
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        lengths = rng.integers(5, 30, 50)
        answers = ["".join(rng.choice(["a", "b"], size, p=[0.9, 0.1])) for size in lengths]
        total = errors_by_length(answers, ["a" * size for size in lengths]).total
        inside += abs(total.error_rate - 0.1) <= total.margin
    assert inside > 175


def test_lengths_are_in_groups_from_short_to_long() -> None:
    """Each line is in one group; names say the lengths that are in it."""
    targets = ["a" * size for size in range(1, 11)]
    found = errors_by_length([""] * 10, targets)
    assert [group.name for group in found.groups] == [
        "1 to 2", "3 to 4", "5 to 6", "7 to 8", "9 to 10"
    ]  # fmt: skip
    assert sum(group.num_lines for group in found.groups) == 10


def test_the_worst_lines_come_first_and_right_ones_not_at_all() -> None:
    """By errors for their length, with their pictures; without an error, that is said."""
    images = [np.full((8, 20 + n), 0.5, np.float32) for n in range(3)]
    found = worst_lines(ANSWERS, TARGETS, images, ["x", "y", "z"])
    assert found.names == ("z", "x")
    assert found.images[0].shape == (8, 22)
    assert (found.num_wrong, found.num_lines) == (2, 3)
    with pytest.raises(NothingToShow, match="none of 1 lines has an error"):
        worst_lines(["a"], ["a"], images[:1], ["x"])


def test_what_differs_is_marked() -> None:
    """Brackets are around what was read in place of something else, also in place of nothing."""
    assert marked("sitting", "kitten") == ("[s]itt[i]n[g]", "[k]itt[e]n[]")
    assert [symbol_name(s) for s in ("", " ", "\N{COMBINING ACUTE ACCENT}", "é")] == [
        "nothing", "space", "U+0301", "é"
    ]  # fmt: skip


def test_all_is_drawn_and_told() -> None:
    """Each record has a figure, a text with its figures, and a caption."""
    images = [np.random.default_rng(0).random((8, 60)).astype(np.float32)] * 3
    records = [
        confusions(ANSWERS, TARGETS),
        errors_by_length(ANSWERS, TARGETS),
        worst_lines(ANSWERS, TARGETS, images, ["x", "y", "z"]),
    ]
    for record, words in zip(records, ("nothing", "CER", "[k]itt[e]n[]"), strict=True):
        assert render.draw(record).axes
        assert words in render.text(record)
        assert render.caption(record)
