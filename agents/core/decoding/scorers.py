"""Scorers of texts: what a beam search adds to the probability of the columns.

A scorer is an automaton. It has a state after each prefix, says how good each next character is,
and how good it is to end there; -inf forbids. Language models, lexica and bonuses are scorers, and
so is their sum.
"""

import abc
import math
from collections.abc import Hashable, Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

FORBIDDEN = -math.inf


class Scorer(abc.ABC):
    """What a text is worth, character after character, in nats.

    Attributes:
        start: the state before the first character.
    """

    start: Hashable = None

    @abc.abstractmethod
    def next_scores(self, state: Hashable) -> NDArray[np.float64]:
        """Return what each code is worth after a prefix (V,); that of the blank is not read."""

    @abc.abstractmethod
    def follow(self, state: Hashable, code: int) -> Hashable:
        """Return the state after one more code."""

    def end_score(self, state: Hashable) -> float:
        """Return what it is worth to end here."""
        return 0.0


@final
class LengthBonus(Scorer):
    """A constant for each character, which makes up for what a language model takes off each."""

    def __init__(self, bonus: float, num_codes: int) -> None:
        self._scores = np.full(num_codes, bonus)

    def next_scores(self, state: Hashable) -> NDArray[np.float64]:
        """Return the bonus for each code."""
        return self._scores

    def follow(self, state: Hashable, code: int) -> Hashable:
        """Return the only state."""
        return None


@final
class SumOfScorers(Scorer):
    """Several scorers at once: what one forbids is forbidden."""

    def __init__(self, scorers: Sequence[Scorer]) -> None:
        self._scorers = tuple(scorers)
        self.start = tuple(scorer.start for scorer in scorers)
        self._known: dict[Hashable, NDArray[np.float64]] = {}

    def next_scores(self, state: Hashable) -> NDArray[np.float64]:
        """Return the sum for each code."""
        found = self._known.get(state)
        if found is None:
            pairs = zip(self._scorers, _states(state), strict=True)
            rows = [scorer.next_scores(part) for scorer, part in pairs]
            found = self._known[state] = np.sum(rows, axis=0)
        return found

    def follow(self, state: Hashable, code: int) -> Hashable:
        """Return the states of all."""
        pairs = zip(self._scorers, _states(state), strict=True)
        return tuple(scorer.follow(part, code) for scorer, part in pairs)

    def end_score(self, state: Hashable) -> float:
        """Return the sum."""
        pairs = zip(self._scorers, _states(state), strict=True)
        return sum(scorer.end_score(part) for scorer, part in pairs)


def _states(state: Hashable) -> tuple[Hashable, ...]:
    assert isinstance(state, tuple)
    return state
