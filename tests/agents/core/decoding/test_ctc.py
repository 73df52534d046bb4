"""CTC decoding against the enumeration of all paths."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from agents.core.decoding.beam import prefix_beam_search
from agents.core.decoding.ctc import (
    collapse,
    columns_needed,
    constant_ctc_loss,
    greedy,
    reference_beam_search,
)
from agents.core.decoding.decoders import BeamDecoder, GreedyDecoder
from agents.core.decoding.language_model import NgramModel, NgramScorer
from agents.core.decoding.scorers import LengthBonus, Scorer, SumOfScorers

CHARACTERS = "ab"


def log_rows(num: int, seed: int, num_codes: int = 3) -> np.ndarray:
    """Return ln p (T, V) of a random image."""
    logits = np.random.default_rng(seed).normal(0, 1.5, (num, num_codes))
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def enumerated(rows: np.ndarray) -> dict[tuple[int, ...], float]:
    """Return p of every text, as the sum over all paths."""
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(rows.shape[1]), repeat=len(rows)):
        text = tuple(collapse(np.array(path, np.int64)).tolist())
        p = float(np.exp(rows[np.arange(len(rows)), list(path)].sum()))
        found[text] = found.get(text, 0.0) + p
    return found


def scorer(weight: float = 0.7, bonus: float = 0.3) -> Scorer:
    """Return a language model of few texts, with a length bonus."""
    model = NgramModel.estimate(["abab", "aab", "ba"], order=3)
    return SumOfScorers([NgramScorer(model, CHARACTERS, weight), LengthBonus(bonus, 3)])


class OnlyTheFirst(Scorer):
    """Forbids every character but the first."""

    def next_scores(self, state: object) -> np.ndarray:
        """Return 0 and -inf."""
        return np.array([0.0, 0.0, -np.inf])

    def follow(self, state: object, code: int) -> None:
        """Return the only state."""
        return


def test_two_columns_have_a_best_path_that_is_not_the_best_text() -> None:
    """Of (a .4, b 0, blank .6) twice, the best path writes nothing (.36), the best text is a."""
    with np.errstate(divide="ignore"):
        rows = np.log([[0.6, 0.4, 0.0]] * 2)
    assert greedy(torch.tensor(rows)[None], torch.tensor([2]))[0].tolist() == []
    first, second = prefix_beam_search(rows)[:2]
    assert first.codes.tolist() == [1]
    assert np.exp(first.log_probability) == pytest.approx(0.64)
    assert second.codes.tolist() == []
    assert np.exp(second.log_probability) == pytest.approx(0.36)


@pytest.mark.parametrize("num", range(6))
@pytest.mark.parametrize("search", [prefix_beam_search, reference_beam_search])
def test_an_unpruned_beam_is_the_enumeration(search: Callable[..., Any], num: int) -> None:
    """Without pruning, the search finds every text, each with the sum of all of its paths."""
    rows = log_rows(num, seed=num)
    expected = enumerated(rows)
    found = {tuple(h.codes.tolist()): np.exp(h.log_probability)
             for h in search(rows, None)}  # fmt: skip
    assert found == pytest.approx(expected)


def test_the_probability_of_a_text_is_that_of_the_ctc_loss() -> None:
    """Known answer of torch: ln p of a hypothesis is minus its CTC loss."""
    rows = log_rows(6, seed=3)
    for hypothesis in prefix_beam_search(rows, None):
        if len(hypothesis.codes):
            loss = F.ctc_loss(
                torch.tensor(rows)[:, None], torch.tensor(hypothesis.codes)[None],
                torch.tensor([6]), torch.tensor([len(hypothesis.codes)]), reduction="none",
            )  # fmt: skip
            assert float(loss) == pytest.approx(-hypothesis.log_probability)


@pytest.mark.parametrize("seed", range(4))
def test_fusion_finds_the_enumerated_best(seed: int) -> None:
    """With a language model the unpruned beam's order is ln p + α ln p_lm + β length."""
    rows = log_rows(5, seed)
    model = NgramModel.estimate(["abab", "aab", "ba"], order=3)

    def score(codes: tuple[int, ...], p: float) -> float:
        text = "".join(CHARACTERS[c - 1] for c in codes)
        return np.log(p) + 0.7 * model.text_log_probability(text) + 0.3 * len(text)

    expected = {codes: score(codes, p) for codes, p in enumerated(rows).items()}
    found = prefix_beam_search(rows, None, scorer())
    assert {tuple(h.codes.tolist()): h.score for h in found} == pytest.approx(expected)
    assert tuple(found[0].codes.tolist()) == max(expected, key=expected.__getitem__)


def test_a_model_without_weight_changes_nothing() -> None:
    """α = 0 gives what the columns alone give, in the same order."""
    rows = log_rows(8, seed=1)
    plain, fused = (prefix_beam_search(rows, 5, given) for given in (None, scorer(0.0, 0.0)))
    assert [h.codes.tolist() for h in plain] == [h.codes.tolist() for h in fused]
    np.testing.assert_allclose([h.score for h in plain], [h.score for h in fused])


def test_a_long_image_stays_in_range() -> None:
    """Of 3,000 columns, whose probability is far below the smallest double, a text is found."""
    rows = np.tile(log_rows(3, seed=2), (1000, 1)) - 5.0
    found = prefix_beam_search(rows, 5)[0]
    assert -np.inf < found.log_probability < -1000


def test_a_column_that_says_nothing_allowed_is_passed_over() -> None:
    """Where the columns have probability 0 for all but what is forbidden, there is an answer."""
    with np.errstate(divide="ignore"):
        rows = np.log([[0.0, 0.0, 1.0], [0.5, 0.5, 0.0]])

    assert prefix_beam_search(rows, 5, OnlyTheFirst())[0].codes.tolist() in ([], [1])


def test_columns_needed_is_length_and_repeats() -> None:
    """[1, 1, 2, 2] needs six columns, so that five are too few."""
    assert columns_needed(np.array([1, 1, 2, 2])) == 6
    assert columns_needed(np.array([], np.int64)) == 0


@pytest.mark.parametrize("decoder", [GreedyDecoder(), BeamDecoder(4), BeamDecoder(4, scorer())])
def test_padding_and_batch_change_no_answer(decoder: GreedyDecoder | BeamDecoder) -> None:
    """Beside longer images, with anything in the columns beyond its own, it reads the same."""
    rng = np.random.default_rng(0)
    lengths = torch.tensor([3, 9, 1, 7])
    logits = torch.tensor(rng.normal(0, 2, (4, 9, 3)))
    together = decoder.decode(logits, lengths)
    for row, (length, codes) in enumerate(zip(lengths, together, strict=True)):
        alone = decoder.decode(logits[row : row + 1, : int(length)], length[None])[0]
        assert alone.tolist() == codes.tolist()


@pytest.mark.parametrize("beam_size", [1, 3, 25])
@pytest.mark.parametrize("fused", [False, True])
def test_the_fast_search_is_the_reference(beam_size: int, fused: bool) -> None:
    """Both keep the same prefixes of twenty columns, whatever is cut off."""
    given = scorer() if fused else None
    for seed in range(3):
        rows = log_rows(20, seed)
        fast, reference = (
            search(rows, beam_size, given) for search in (prefix_beam_search, reference_beam_search)
        )
        assert [h.codes.tolist() for h in fast] == [h.codes.tolist() for h in reference]
        np.testing.assert_allclose([h.score for h in fast], [h.score for h in reference])


def test_the_loss_of_blanks_only_is_the_best_of_columns_that_are_alike() -> None:
    """One column with one character: 1 % of blanks; aa in four: the enumeration at the best b."""
    one = constant_ctc_loss(torch.tensor([[1]]), torch.tensor([1]), torch.tensor([1]), 3)
    assert one == pytest.approx(-np.log(0.99))
    text, length, columns = torch.tensor([[1, 1]]), torch.tensor([2]), torch.tensor([4])
    best = min(
        -np.log(enumerated(np.log(np.tile([[b, 1 - b]], (4, 1))))[1, 1])
        for b in np.arange(1, 100) / 100
    )
    assert constant_ctc_loss(text, length, columns, 2) == pytest.approx(best)
