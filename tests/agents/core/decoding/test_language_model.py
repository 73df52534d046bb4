"""Character n-grams: probabilities that sum to 1, known counts, files of the ARPA format."""

import math
from pathlib import Path

import numpy as np
import pytest

from agents.core.decoding.language_model import BEGIN, END, UNKNOWN, NgramModel, NgramScorer

TEXTS = ["the cat sat", "the hat", "a cat", "", "that\u00a0mat"]
ARPA = """
\\data\\
ngram 1=5
ngram 2=2

\\1-grams:
-99\t<s>\t-0.5
-1.0\t</s>
-0.3\ta\t-0.2
-0.6\t|
-2.0\t<unk>

\\2-grams:
-0.1\t<s> a
-0.4\ta </s>

\\end\\
"""


@pytest.fixture
def model() -> NgramModel:
    """Return a model of four characters' context."""
    return NgramModel.estimate(TEXTS, order=5)


@pytest.mark.parametrize(
    "context", ["", BEGIN, "t", "the", "th", "cat", "zzz", "he ca", BEGIN + "the"]
)
def test_what_comes_next_has_probability_one(model: NgramModel, context: str) -> None:
    """Over all characters, the end and the unknown one, p sums to 1 after any context."""
    vocabulary = [*set("".join(TEXTS)), END, UNKNOWN]
    total = sum(math.exp(model.log_probability(context, c)) for c in vocabulary)
    assert total == pytest.approx(1.0)


def test_counts_by_hand() -> None:
    """Of the texts ab, ab, ba: bigrams <s>a 2, <s>b 1, ab 2, ba 1, b</s> 2, a</s> 1; D = 3/9.

    n₁ = n₂ = 3, so D = 3 / (3 + 6). p(b | a) = (2 − D)/3 + D·2/3 · p(b); the unigrams count
    different characters before them: a 2, b 2, </s> 2; no count is 1, so D = ½ there, and
    p(b) = 1.5/6 + ½·3/6 · ¼.
    """
    model = NgramModel.estimate(["ab", "ab", "ba"], order=2)
    single = 1.5 / 6 + 0.25 / 4
    assert math.exp(model.log_probability("", "b")) == pytest.approx(single)
    pair = (2 - 1 / 3) / 3 + 2 / 9 * single
    assert math.exp(model.log_probability("a", "b")) == pytest.approx(pair)
    assert math.exp(model.log_probability("xa", "b")) == pytest.approx(pair)


def test_a_text_that_was_seen_is_likelier(model: NgramModel) -> None:
    """What was counted is likelier than its letters turned round, and than unknown signs."""
    known, turned = (model.text_log_probability(text) for text in ("the cat", "tac eht"))
    assert known > turned > model.text_log_probability("§§§§§§§")


def test_a_file_gives_the_same_model(model: NgramModel, tmp_path: Path) -> None:
    """Written in the ARPA format and read, all probabilities are the same to seven digits."""
    again = NgramModel.read(model.write(tmp_path / "lm.arpa"))
    assert again.grams.keys() == model.grams.keys()
    for text in [*TEXTS, "hat cat", "xyz"]:
        assert again.text_log_probability(text) == pytest.approx(
            model.text_log_probability(text), rel=1e-6
        )


def test_another_programs_file_is_read(tmp_path: Path) -> None:
    """Known answers: log10 with back-off, of a file in which | is the space."""
    path = tmp_path / "lm.arpa"
    path.write_text(ARPA)
    model = NgramModel.read(path)
    log10 = math.log(10)
    assert model.log_probability(BEGIN, "a") == pytest.approx(-0.1 * log10)
    assert model.log_probability(BEGIN, " ") == pytest.approx((-0.5 - 0.6) * log10)
    assert model.log_probability("a", "a") == pytest.approx((-0.2 - 0.3) * log10)
    assert model.log_probability("a", "q") == pytest.approx((-0.2 - 2.0) * log10)
    assert model.text_log_probability("a") == pytest.approx((-0.1 - 0.4) * log10)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (ARPA.replace("<s> a", "<s> the"), r"line 14: '<s> the' is not 2 characters"),
        (ARPA.replace("-0.1\t", "x\t"), "line 14: .* is not an n-gram"),
        (ARPA.replace("\\end\\", ""), r"ends before \\end"),
        ("nothing", "has no n-grams"),
    ],
)
def test_what_is_no_such_file_is_told(text: str, told: str, tmp_path: Path) -> None:
    """The error names the file and the line."""
    path = tmp_path / "lm.arpa"
    path.write_text(text)
    with pytest.raises(ValueError, match=told):
        NgramModel.read(path)
    with pytest.raises(ValueError, match="cannot be read"):
        NgramModel.read(tmp_path / "missing.arpa")
    with pytest.raises(ValueError, match="0 texts"):
        NgramModel.estimate([])


def test_the_scorer_is_the_model(model: NgramModel) -> None:
    """Character by character, over the states that it keeps, the scores sum to α ln p."""
    characters = "".join(sorted(set("".join(TEXTS)))) + "§"
    scorer = NgramScorer(model, characters, 0.4)
    for text in ("the cat sat on a mat", "§hat", ""):
        state, total = scorer.start, 0.0
        for character in text:
            code = characters.index(character) + 1 if character in characters else len(characters)
            total += scorer.next_scores(state)[code]
            state = scorer.follow(state, code)
        total += scorer.end_score(state)
        read = "".join(c if c in characters else "§" for c in text)
        assert total == pytest.approx(0.4 * model.text_log_probability(read))


def test_texts_of_any_length_are_counted() -> None:
    """Texts shorter than the order give shorter grams."""
    assert NgramModel.estimate(["a"], order=6).order == 3
    assert NgramModel.estimate([""], order=6).order == 2
    assert np.isfinite(NgramModel.estimate(["a"], order=6).text_log_probability("a"))
