"""Tuning of fusion: the weight of a language model and the bonus for length, on validation."""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.core.decoding.beam import prefix_beam_search
from agents.core.decoding.scorers import LengthBonus, Scorer, SumOfScorers
from tasks.handwriting.lines import error_rates


class Fusion(NamedTuple):
    """Weights of fusion, and the character error rate that they give."""

    lm_weight: float
    length_bonus: float
    cer: float


def tune_fusion(
    rows: Sequence[NDArray[np.floating]],
    texts: Sequence[str],
    characters: str,
    scorer_of: Callable[[float], Scorer],
    *,
    weights: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    bonuses: Sequence[float] = (0.0, 0.5, 1.0),
    beam_size: int = 10,
) -> list[Fusion]:
    """Return all pairs of weights, those with the least errors first; of equals, the smaller.

    Args:
        rows: ln p (T, V) of each line's columns.
        texts: what the lines say; of validation, never of the test.
        characters: code c ≥ 1 is `characters[c - 1]`.
        scorer_of: the language model with a weight.
        weights: α, to be tried.
        bonuses: β, to be tried.
        beam_size: of the search.
    """
    found = []
    for weight, bonus in itertools.product(weights, bonuses):
        scorer = SumOfScorers([scorer_of(weight), LengthBonus(bonus, len(characters) + 1)])
        read = [prefix_beam_search(row, beam_size, scorer)[0].codes for row in rows]
        answers = ["".join(characters[code - 1] for code in codes) for codes in read]
        found.append(Fusion(weight, bonus, error_rates(answers, texts)["cer"]))
    return sorted(found, key=lambda fusion: (fusion.cer, fusion.lm_weight, fusion.length_bonus))
