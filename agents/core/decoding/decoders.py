"""One interface of all decoders: from logits of columns to the codes of texts."""

import abc
from typing import final

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.core.decoding.beam import prefix_beam_search
from agents.core.decoding.ctc import greedy
from agents.core.decoding.language_model import NgramModel, NgramScorer
from agents.core.decoding.lexicon import Lexicon
from agents.core.decoding.recurrent_scorer import RecurrentScorer
from agents.core.decoding.scorers import LengthBonus, Scorer, SumOfScorers


class Decoder(abc.ABC):
    """Finds texts; each by itself, so that what else is in a batch changes nothing."""

    @abc.abstractmethod
    def decode(self, logits: Tensor, num_columns: Tensor) -> list[NDArray[np.int64]]:
        """Return the codes of each sample (L,) from logits (B, T, V) and its own columns (B,)."""


@final
class GreedyDecoder(Decoder):
    """The best path: the likeliest code of each column."""

    def decode(self, logits: Tensor, num_columns: Tensor) -> list[NDArray[np.int64]]:
        """Return the codes of each sample."""
        return [codes.cpu().numpy() for codes in greedy(logits, num_columns)]


@final
@attrs.frozen
class BeamDecoder(Decoder):
    """CTC prefix beam search, with a scorer or without; see `prefix_beam_search`."""

    beam_size: int | None = 25
    scorer: Scorer | None = None

    def decode(self, logits: Tensor, num_columns: Tensor) -> list[NDArray[np.int64]]:
        """Return the codes of each sample."""
        return [
            prefix_beam_search(rows, self.beam_size, self.scorer)[0].codes
            for rows in own_rows(logits, num_columns)
        ]


def own_rows(logits: Tensor, num_columns: Tensor) -> list[NDArray[np.float64]]:
    """Return ln p (T, V) of each sample's own columns."""
    rows = torch.log_softmax(logits.detach().double(), -1).cpu().numpy()
    return [row[:num] for row, num in zip(rows, num_columns.tolist(), strict=True)]


def beam_decoder(
    characters: str,
    *,
    beam_size: int = 25,
    language_model: str | None = None,
    lm_weight: float = 0.5,
    length_bonus: float = 0.0,
    lexicon: str | None = None,
) -> BeamDecoder:
    """Return a beam search: ln p of the columns + α ln p of the language model + β · length.

    Args:
        characters: the task's: code c ≥ 1 is `characters[c - 1]`.
        beam_size: prefixes kept after each column.
        language_model: path of a model of characters, see `language_scorer`; None: none.
        lm_weight: α.
        length_bonus: β, in nats for each character.
        lexicon: path of a file with one word a line; None: any text.

    Raises:
        ConfigError: (a ValueError) a file is not what it should be.
    """
    scorers: list[Scorer] = []
    if language_model is not None:
        scorers.append(language_scorer(language_model, characters, lm_weight))
    if length_bonus:
        scorers.append(LengthBonus(length_bonus, len(characters) + 1))
    if lexicon is not None:
        scorers.append(Lexicon.read(lexicon, characters))
    scorer = None
    if scorers:
        scorer = scorers[0] if len(scorers) == 1 else SumOfScorers(scorers)
    return BeamDecoder(beam_size, scorer)


def language_scorer(path: str, characters: str, weight: float) -> Scorer:
    """Return a language model of characters: n-grams of an ARPA file, or a checkpoint's network."""
    if path.endswith(".safetensors"):
        return RecurrentScorer.load(path, characters, weight)
    return NgramScorer(NgramModel.read(path), characters, weight)
