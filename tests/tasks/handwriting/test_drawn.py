"""Handwriting drawn with stroke fonts."""

from pathlib import Path

import numpy as np
import pytest

from tasks.core.settings import ConfigError
from tasks.core.task import SPLITS
from tasks.handwriting import strokes
from tasks.handwriting.drawn import _FIRST, DrawnHandwriting
from tasks.handwriting.lines import Pass
from tasks.handwriting.vocabulary import words_of

SOME = np.arange(60)


def test_words_of_the_test_are_in_no_training_line() -> None:
    """Words of two splits differ, also in more than their marks and capitals."""
    words, num_left_out = words_of(None, strokes.CHARACTERS)
    cores = {
        split: {"".join(filter(str.isalnum, word.lower())) for word in words[split]}
        for split in SPLITS
    }
    assert not cores["train"] & cores["test"]
    assert not cores["train"] & cores["validation"]
    assert not cores["validation"] & cores["test"]
    assert num_left_out == 0
    assert sum(map(len, words.values())) == 20_000
    assert min(map(len, words.values())) > 1500


@pytest.mark.parametrize("unseen", ["words", "writers", "both"])
def test_what_is_unseen_is_new(unseen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Test lines have words and writers of the training or others, as the setting says."""
    drawn = []
    draw = strokes.draw
    monkeypatch.setattr(strokes, "draw", lambda *given: drawn.append(given) or draw(*given))
    task = DrawnHandwriting(unseen=unseen, writers=30)
    task.load(Pass("test", 0, 0), SOME)
    known = set(words_of(None, strokes.CHARACTERS)[0]["train"])
    assert {text in known for text, *_ in drawn} == {unseen == "writers"}
    numbers = {hand.number for _, hand, *_ in drawn}
    first = _FIRST["train" if unseen == "words" else "test"]
    assert numbers <= set(range(first, first + 30))
    assert len(numbers) > 15


def test_a_line_is_a_function_of_its_index() -> None:
    """A line drawn by itself is that of a whole pass; another seed or epoch has another."""
    task = DrawnHandwriting(most_words=3)
    line = task.load(Pass("train", 0, 0), SOME)[13]
    (alone,) = task.load(Pass("train", 0, 0), np.array([13]))
    np.testing.assert_array_equal(line.image, alone.image)
    assert line.text == alone.text
    for pass_ in (Pass("train", 1, 0), Pass("train", 0, 1), Pass("test", 0, 0)):
        assert task.load(pass_, np.array([13]))[0].image.tobytes() != alone.image.tobytes()


def test_lines_have_as_many_words_as_the_setting_says() -> None:
    """A line has one word up to the most, each number as often as another."""
    lines = DrawnHandwriting(most_words=4).load(Pass("train", 0, 0), np.arange(200))
    counts = np.bincount([len(line.text.split(" ")) for line in lines])
    assert len(counts) == 5
    assert counts[1:].min() > 25
    widths = DrawnHandwriting(most_words=4).widths(Pass("train", 0, 0))[:200]
    assert np.corrcoef(widths, [line.image.shape[1] for line in lines])[0, 1] > 0.8


def test_writers_differ_and_are_alike_to_themselves() -> None:
    """Two images of a word by one writer are more alike than those of two writers."""

    def image(number: int, seed: int) -> np.ndarray:
        drawn = strokes.draw("Kamel", strokes.writer(number), 32, np.random.default_rng(seed)).image
        return np.pad(drawn.astype(float), ((0, 0), (0, 200 - drawn.shape[1])))

    own = [np.abs(image(n, 0) - image(n, 1)).mean() for n in range(20)]
    other = [np.abs(image(n, 0) - image(n + 1, 1)).mean() for n in range(20)]
    assert np.median(own) < 0.8 * np.median(other)
    assert image(0, 0).tobytes() != image(0, 1).tobytes()


@pytest.mark.parametrize("height", [16, 32, 64])
def test_ink_is_within_the_line(height: int) -> None:
    """Words are drawn within the height, with ink in them and paper at both ends."""
    for number in range(40):
        hand, rng = strokes.writer(number), np.random.default_rng(number)
        image = strokes.draw("Agfjpl(Q", hand, height, rng).image
        assert image.shape[0] == height
        assert image.max() > 80
        assert image[:, 0].max() == 0
        assert (image[[0, -1]] > 0).mean() < 0.15


def test_every_character_is_drawn() -> None:
    """All printable characters of ASCII have ink, but the space."""
    for character in strokes.CHARACTERS:
        image = strokes.draw(character, strokes.writer(0), 32, np.random.default_rng(0)).image
        assert (image.max() > 0) == (character != " "), character


def test_boxes_are_around_the_ink_of_each_character() -> None:
    """Characters drawn alone fill their boxes; those of a text go on to the right; a space is none.

    All ink of a text is within the boxes of its characters.
    """
    for number, character in enumerate("aTgi."):
        hand = strokes.writer(number)
        image, (box,) = strokes.draw(character, hand, 64, np.random.default_rng(number))
        rows, columns = np.nonzero(image > 60)
        ink = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(box, ink, atol=2.5)
    image, boxes = strokes.draw("ab cd", strokes.writer(1), 64, np.random.default_rng(0))
    assert np.isnan(boxes[2]).all()
    middles = (boxes[:, 0] + boxes[:, 2]) / 2
    assert (np.diff(middles[[0, 1, 3, 4]]) > 0).all()
    outside = np.ones(image.shape, bool)
    for left, top, right, bottom in boxes[[0, 1, 3, 4]]:
        outside[int(top) : int(bottom) + 1, int(left) : int(right) + 1] = False
    assert image[outside].max() == 0


def test_words_of_a_text(tmp_path: Path) -> None:
    """Words come from a file; those with characters the fonts lack are counted, not drawn."""
    words = [f"w{number}" for number in range(200)] + ["café", "naïve"]
    (tmp_path / "a.txt").write_text("\n".join(words), encoding="utf-8")
    task = DrawnHandwriting(text=str(tmp_path / "a.txt"))
    assert {line.text for line in task.load(Pass("train", 0, 0), SOME)} <= set(words[:200])
    assert task.num_left_out == 2
    (tmp_path / "few.txt").write_text("one two")
    with pytest.raises(ConfigError, match="too few for three splits"):
        DrawnHandwriting(text=str(tmp_path / "few.txt")).samples("test", 1)
    with pytest.raises(ConfigError, match="cannot be read"):
        DrawnHandwriting(text=str(tmp_path / "none.txt")).samples("test", 1)


def test_without_the_fonts_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the fonts are not installed, the error says what to install."""
    import sys

    monkeypatch.setitem(sys.modules, "HersheyFonts", None)
    with pytest.raises(ConfigError, match="pip install Hershey-Fonts"):
        strokes._hershey()
