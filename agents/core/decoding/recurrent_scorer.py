"""A recurrent language model of characters as a scorer: an agent such as `char_lm`."""

from collections.abc import Hashable
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.core.decoding.scorers import Scorer

_END = "\n"  # what stands between lines in the texts that such a model has read


class _State:
    """What the model knows after a prefix: its state, and ln p of the next codes."""

    __slots__ = ("end", "recurrent", "scores")

    def __init__(
        self, recurrent: tuple[Tensor, ...], scores: NDArray[np.float64], end: float
    ) -> None:
        self.recurrent, self.scores, self.end = recurrent, scores, end


@final
class RecurrentScorer(Scorer):
    """`weight` times ln p of each character, and of the end of a line, after all before it.

    Args:
        model: from codes (1, 1) and a state to logits (1, 1, K) and the state after them.
        known: the model's characters: code k is `known[k]`.
        characters: the task's: code c ≥ 1 is `characters[c - 1]`. One that the model does not know
            is as likely as the least likely that it does, and read as a space.
        weight: α.
    """

    def __init__(self, model: nn.Module, known: str, characters: str, weight: float) -> None:
        self._model, self._weight = model.eval(), weight
        places = [known.find(character) for character in characters]
        space = max(0, known.find(" "))
        self._codes = [known.find(_END), *(place if place >= 0 else space for place in places)]
        self._is_known = np.array([True, *(place >= 0 for place in places)])
        self._has_end = known.find(_END) >= 0
        self.start = self._after(self._codes[0] if self._has_end else space, ())

    @staticmethod
    def load(path: str | Path, characters: str, weight: float) -> "RecurrentScorer":
        """Return the scorer of a checkpoint of a character language model.

        Raises:
            CheckpointError: the file is missing or damaged.
        """
        import agents  # the registry, which knows what a checkpoint holds

        agent = agents.load(path, device="cpu")
        return RecurrentScorer(agent.model, agent.task.spec.characters, characters, weight)

    @torch.inference_mode()
    def _after(self, code: int, state: tuple[Tensor, ...]) -> _State:
        logits, *after = self._model(torch.tensor([[code]]), *state)
        row = logits[0, -1].double().log_softmax(-1).numpy()
        scores = self._weight * np.where(self._is_known, row[self._codes], row.min())
        return _State(tuple(after), scores, float(scores[0]) if self._has_end else 0.0)

    def next_scores(self, state: Hashable) -> NDArray[np.float64]:
        """Return α ln p of each code."""
        return _known(state).scores

    def follow(self, state: Hashable, code: int) -> Hashable:
        """Return the state after one more character is read."""
        return self._after(self._codes[code], _known(state).recurrent)

    def end_score(self, state: Hashable) -> float:
        """Return α ln p of the end of the line; 0 if the model knows none."""
        return _known(state).end


def _known(state: Hashable) -> _State:
    assert isinstance(state, _State)
    return state
