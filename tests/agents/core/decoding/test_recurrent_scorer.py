"""A recurrent language model in the beam, and the tuning of its weight."""

import numpy as np
import pytest
import torch
from torch import nn

from agents.core.decoding.beam import prefix_beam_search
from agents.core.decoding.recurrent_scorer import RecurrentScorer
from agents.core.decoding.scorers import Scorer
from agents.core.decoding.tuning import tune_fusion

KNOWN = "\n ab"


class Reader(nn.Module):
    """A GRU with the interface of `char_lm`'s model."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.gru, self.readout = (
            nn.Embedding(4, 8), nn.GRU(8, 8, batch_first=True), nn.Linear(8, 4),
        )  # fmt: skip

    def forward(self, text: torch.Tensor, *state: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return logits, and the state, the batch first."""
        before = state[0].transpose(0, 1).contiguous() if state else None
        output, after = self.gru(self.embedding(text), before)
        return self.readout(output), after.transpose(0, 1)


def test_scores_are_those_of_the_whole_text() -> None:
    """Character by character the scores sum to α ln p of the line and of its end."""
    model = Reader()
    scorer = RecurrentScorer(model, KNOWN, "ab", 0.7)
    state, total = scorer.start, 0.0
    for code in (1, 2, 2):
        total += scorer.next_scores(state)[code]
        state = scorer.follow(state, code)
    total += scorer.end_score(state)
    text = torch.tensor([[0, 2, 3, 3, 0]])
    with torch.no_grad():
        log_p = model(text[:, :-1])[0].log_softmax(-1)[0]
    expected = 0.7 * float(log_p[torch.arange(4), text[0, 1:]].sum())
    assert total == pytest.approx(expected, rel=1e-5)


def test_a_character_that_it_does_not_know_is_unlikely() -> None:
    """It is worth what the least likely character is."""
    scorer = RecurrentScorer(Reader(), KNOWN, "a§", 1.0)
    assert scorer.next_scores(scorer.start)[2] <= scorer.next_scores(scorer.start)[1]
    rows = np.log(np.full((4, 3), 1 / 3))
    assert np.isfinite(prefix_beam_search(rows, 5, scorer)[0].score)


def test_tuning_finds_the_weight_that_reads_right() -> None:
    """Columns that say `a` a little more than `b`, and a scorer that wants b: β and α matter."""

    class WantsB(Scorer):
        """Worth 1 for b."""

        def __init__(self, weight: float) -> None:
            self._weight = weight

        def next_scores(self, state: object) -> np.ndarray:
            """Return the scores."""
            return np.array([0.0, 0.0, self._weight])

        def follow(self, state: object, code: int) -> None:
            """Return the only state."""
            return

    rows = [np.log(np.array([[0.1, 0.5, 0.4]]))]
    best = tune_fusion(rows, ["b"], "ab", WantsB, weights=(0.0, 0.5), bonuses=(0.0, 1.0))
    assert best[0] == (0.5, 0.0, 0.0)
    assert best[-1].cer == 1.0
