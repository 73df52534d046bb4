"""The views of what an answer depends on: their targets, and the questions that are changed."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from agents.core.inspection.observation import RecurrentPart, logits_above_mean
from agents.core.inspection.relevance import MOST_STEPS, pairs
from tests.conftest import small_agent
from visualization import NothingToShow

READING = ("seq2seq_adder", "adding_lstm", "parity_lstm", "char_lm", "digits_lstm")


def part_of(*texts: str, symbols: NDArray[Any] | None = None) -> RecurrentPart:
    """Return a part that reads texts, a character a step."""
    read = np.array([list(text) for text in texts])
    return RecurrentPart(
        "reader", nn.LSTM(1, 1), read, None, {}, "", dict, input_symbols=symbols
    )  # fmt: skip


@pytest.mark.parametrize("name", READING)
def test_agents_have_scores_of_the_answers_they_give(name: str) -> None:
    """Scores are the agent's own: of each written character, or the number itself."""
    agent = small_agent(name)
    agent.model.eval()
    observation = agent.observe(agent.task.for_display().samples("test", 3))
    scores = observation.answer_scores
    assert scores is not None
    with torch.inference_mode():
        codes, logits = observation.answer()
        values = scores.scores(torch.arange(3))
        again = scores.scores(torch.tensor([2, 2]))
    expected = codes if name == "adding_lstm" else logits_above_mean(logits, codes)
    torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(again, values[[2, 2]], rtol=1e-4, atol=1e-5)
    assert scores.texts.shape == tuple(values.shape)
    if name == "seq2seq_adder":
        written = np.array(list(observation.characters))[codes.numpy()]
        assert (scores.texts == written).all()


@pytest.mark.parametrize("name", READING[:2])
def test_views_are_of_the_characters_that_are_read(name: str) -> None:
    """Both views have records of the agent's questions; one character of each is changed."""
    agent = small_agent(name)
    report = agent.inspect(["question_relevance", "gate_paths"])
    relevance = report["question_relevance"]
    text = agent.observe(agent.task.for_display().samples("test", 2)).recurrent[0].text
    assert relevance.symbols.shape[1] == text.shape[1]
    assert report["gate_paths"]
    for record in report["gate_paths"].values():
        changed = record.changed != ""
        assert (changed.sum(axis=1) == 1).all()
        assert (record.changed != record.symbols)[changed].all()
        first = int(np.flatnonzero(changed.any(axis=0))[0])
        assert first >= text.shape[1] - MOST_STEPS
        assert (record.effect[..., :first] == 0).all()
        assert (record.effect[..., first:] != 0).any()


def test_what_is_changed_is_of_one_kind() -> None:
    """A digit is in place of a digit, at the first step at which half as many read digits as ever.

    What is the same in all questions is not changed.
    """
    step, samples, donors = pairs(part_of("+12+3", "+45+6", "+78+9", "+1+10"), most=2)
    assert (step, samples.tolist(), donors.tolist()) == (1, [0, 1], [1, 2])
    step, samples, donors = pairs(part_of("+12+3", "+45+6", "+78+9", "+1+10"), most=9, first=2)
    assert (step, samples.tolist(), donors.tolist()) == (2, [0, 1, 2], [1, 2, 0])


def test_signs_are_changed_where_nothing_else_is_read() -> None:
    """Rows of an image are neither letters nor digits."""
    step, samples, donors = pairs(part_of("▂▂", "▂━"), most=9)
    assert (step, samples.tolist(), donors.tolist()) == (1, [0, 1], [1, 0])


def test_one_character_is_read_of_what_is_written_in_more() -> None:
    """Where a step reads a number, its symbol of one character says of which kind it is."""
    symbols = np.array([["·", "3"], ["·", "5"]])
    step, *_ = pairs(part_of("ab", "cd", symbols=symbols), most=9)
    assert step == 1


def test_questions_that_are_all_alike_cannot_be_changed() -> None:
    """The reason says what is missing."""
    with pytest.raises(NothingToShow, match="no two questions"):
        pairs(part_of("11", "11"), most=9)
