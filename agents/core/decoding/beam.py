"""CTC prefix beam search, vectorised over prefixes and characters."""

import math
from collections.abc import Hashable

import numpy as np
from numpy.typing import NDArray

from agents.core.decoding.ctc import BLANK, Hypothesis, ended
from agents.core.decoding.scorers import Scorer


class _Prefix:
    """A node in the tree of prefixes; what is known of it is computed once."""

    __slots__ = ("children", "code", "parent", "score", "scores", "state")

    def __init__(
        self, parent: "_Prefix | None", code: int, score: float, state: Hashable,
        scores: NDArray[np.float64],
    ) -> None:  # fmt: skip
        self.parent, self.code, self.score, self.state = parent, code, score, state
        self.scores = scores  # of each code that may come next (V,)
        self.children: dict[int, _Prefix] = {}

    def child(self, code: int, scorer: Scorer | None) -> "_Prefix":
        """Return the prefix with one more character."""
        found = self.children.get(code)
        if found is None:
            score, state, scores = self.score, None, self.scores
            if scorer is not None:
                score += float(self.scores[code])
                state = scorer.follow(self.state, code)
                scores = scorer.next_scores(state)
            found = self.children[code] = _Prefix(self, code, score, state, scores)
        return found

    def codes(self) -> NDArray[np.int64]:
        """Return the codes of its characters (L,)."""
        found, node = [], self
        while node.parent is not None:
            found.append(node.code)
            node = node.parent
        return np.array(found[::-1], np.int64)


def prefix_beam_search(
    log_probabilities: NDArray[np.floating],
    beam_size: int | None = 25,
    scorer: Scorer | None = None,
) -> list[Hypothesis]:
    """Return the best texts of an image, the best first (Hannun et al. 2014, 1408.2873).

    All paths of a prefix are summed, which a search of paths does not do. The result is that of
    `ctc.reference_beam_search`; probabilities are rescaled in each column, so that a line of any
    length stays in range.

    Args:
        log_probabilities: ln p (T, V) of the image's own columns.
        beam_size: prefixes kept after each column; None: all, which is exact.
        scorer: a language model, a lexicon; None: the columns alone.
    """
    rows = np.asarray(log_probabilities, np.float64)
    num_codes = rows.shape[1]
    peaks = rows.max(axis=1, initial=-math.inf)
    start = scorer.start if scorer else None
    scores = scorer.next_scores(start) if scorer else np.zeros(num_codes)
    beam, with_blank, without = [_Prefix(None, BLANK, 0.0, start, scores)], np.ones(1), np.zeros(1)
    log_scale = 0.0
    for peak, row in zip(peaks, np.exp(rows - peaks[:, None]), strict=True):
        blank, same, others = _one_column(beam, with_blank, without, row)
        ranks = _ranks(beam, blank + same, others)
        size = len(ranks) if beam_size is None else min(beam_size, len(ranks))
        chosen = np.argpartition(-ranks, size - 1)[:size] if size < len(ranks) else np.arange(size)
        chosen = np.sort(chosen[ranks[chosen] > -math.inf])
        if not len(chosen):  # the scorer forbids all that the column allows: it is passed over
            continue
        num_kept = int(np.searchsorted(chosen, len(beam)))
        kept, new = chosen[:num_kept], chosen[num_kept:] - len(beam)
        parents, codes = np.divmod(new, num_codes)
        beam = [beam[at] for at in kept.tolist()] + [
            beam[at].child(code, scorer)
            for at, code in zip(parents.tolist(), codes.tolist(), strict=True)
        ]
        with_blank = np.concatenate([blank[kept], np.zeros(len(new))])
        without = np.concatenate([same[kept], others.ravel()[new]])
        most = float((with_blank + without).max())
        with_blank, without = with_blank / most, without / most
        log_scale += float(peak) + math.log(most)
    log_p = log_scale + np.log(with_blank + without)
    found = [(p.codes(), float(x), p.score, p.state) for p, x in zip(beam, log_p, strict=True)]
    return ended(found, scorer)


def _one_column(
    beam: list[_Prefix],
    with_blank: NDArray[np.float64],
    without: NDArray[np.float64],
    row: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return what a column adds to K prefixes: with a blank (K,), without (K,), longer (K, V).

    A longer prefix that is in the beam itself has its share there, and not among the longer ones.
    """
    last = np.array([prefix.code for prefix in beam])
    total = with_blank + without
    longer = total[:, None] * row
    longer[np.arange(len(beam)), last] = with_blank * row[last]  # a repeat needs a blank between
    longer[:, BLANK] = 0.0
    same = without * row[last]
    places = {id(prefix): at for at, prefix in enumerate(beam)}
    for at, prefix in enumerate(beam):
        parent = places.get(id(prefix.parent))
        if parent is not None:
            same[at] += longer[parent, prefix.code]
            longer[parent, prefix.code] = 0.0
    return total * row[BLANK], same, longer


def _ranks(
    beam: list[_Prefix], stays: NDArray[np.float64], longer: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return ln p plus the scorer's score of the K prefixes, and of the K · V longer ones."""
    scores = np.array([prefix.score for prefix in beam])
    with np.errstate(divide="ignore"):
        ranks = np.log(longer)
        ranks += scores[:, None]
        ranks += np.stack([prefix.scores for prefix in beam])
        return np.concatenate([np.log(stays) + scores, ranks.ravel()])
