"""A lexicon lets through its words, and what no word has."""

from pathlib import Path

import numpy as np
import pytest

from agents.core.decoding.beam import prefix_beam_search
from agents.core.decoding.lexicon import Lexicon
from agents.core.decoding.scorers import Scorer

CHARACTERS = "acot ."


def may_write(scorer: Scorer, text: str) -> bool:
    """Tell whether a scorer lets a text through."""
    state = scorer.start
    for character in text:
        code = CHARACTERS.index(character) + 1
        if scorer.next_scores(state)[code] == -np.inf:
            return False
        state = scorer.follow(state, code)
    return scorer.end_score(state) == 0.0


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("cat", True), ("cat cat.", True), ("", True), (" . ", True), ("ca", False),
        ("catt", False), ("cat coat", True), ("catcoat", False), ("tac", False), ("coa t", False),
    ],
)  # fmt: skip
def test_only_words_are_written(text: str, allowed: bool) -> None:
    """Known words, and between them spaces and signs; no part of a word, nor two in one."""
    assert may_write(Lexicon(["cat", "coat", "ça"], CHARACTERS), text) is allowed


def test_the_likeliest_word_is_found() -> None:
    """Columns that read `cot` best give the word of the list that they read next best."""
    rows = np.full((3, 7), 0.01)
    rows[0, CHARACTERS.index("c") + 1] = 0.9
    rows[1, CHARACTERS.index("o") + 1], rows[1, CHARACTERS.index("a") + 1] = 0.7, 0.2
    rows[2, CHARACTERS.index("t") + 1] = 0.9
    found = prefix_beam_search(np.log(rows), 10, Lexicon(["cat", "tao"], CHARACTERS))
    assert "".join(CHARACTERS[c - 1] for c in found[0].codes) == "cat"


def test_a_file_of_words_is_read(tmp_path: Path) -> None:
    """One word a line; a file without a fitting word, and a missing one, are errors."""
    path = tmp_path / "words.txt"
    path.write_text("cat\ncoat\n")
    assert may_write(Lexicon.read(path, CHARACTERS), "coat")
    path.write_text("dog")
    with pytest.raises(ValueError, match="no word has only known characters"):
        Lexicon.read(path, CHARACTERS)
    with pytest.raises(ValueError, match="cannot be read"):
        Lexicon.read(tmp_path / "missing", CHARACTERS)
