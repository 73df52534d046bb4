"""CTC decoding (Graves et al. 2006): the best path, and a reference of the prefix beam search.

T columns, V codes; code 0 is the blank. A path has one code for each column; its text is what stays
when repeats are merged and blanks left out.
"""

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.core.decoding.scorers import Scorer

BLANK = 0


class Hypothesis(NamedTuple):
    """A text that a beam search ends with.

    Attributes:
        codes: of its characters (L,).
        score: ln p of the columns plus what the scorer adds.
        log_probability: ln p of the columns: the sum over the paths that the search kept.
    """

    codes: NDArray[np.int64]
    score: float
    log_probability: float


def collapse(path: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the text of a path (T,).

    >>> collapse(np.array([0, 1, 1, 0, 1, 2])).tolist()
    [1, 1, 2]
    """
    codes = np.array(path, np.int64)
    begins = np.diff(codes, prepend=BLANK - 1) != 0
    text: NDArray[np.int64] = codes[begins & (codes != BLANK)]
    return text


def columns_needed(codes: NDArray[np.integer]) -> int:
    """Return how many columns a text needs: one a character, and a blank between equal ones.

    >>> columns_needed(np.array([1, 1, 2, 2]))
    6
    """
    return len(codes) + int((np.diff(codes) == 0).sum())


def greedy(logits: Tensor, num_columns: Tensor) -> list[Tensor]:
    """Best path decoding: return the codes of each sample (L,) from logits (B, T, V).

    `num_columns` (B,) says how many columns are a sample's own. The likeliest path, and not the
    likeliest text, which is the sum of many paths.
    """
    best = logits.argmax(-1)
    before = torch.nn.functional.pad(best, (1, 0), value=BLANK)[:, :-1]
    own = torch.arange(best.shape[1], device=best.device) < num_columns[:, None]
    kept = (best != before) & (best != BLANK) & own
    return [codes[chosen] for codes, chosen in zip(best, kept, strict=True)]


def constant_ctc_loss(text: Tensor, length: Tensor, num_columns: Tensor, num_codes: int) -> float:
    """Return the mean CTC loss of the best columns that are all alike: what blanks only give.

    A network that is trained by CTC comes to this level first, where the likeliest code of every
    column is the blank, and all that is read is empty. Characters are as likely as they are
    frequent, and the probability of the blank is the best of 99. In nats for each text; one that
    its columns cannot hold counts as 0.

    Args:
        text: codes (B, L), padded with 0.
        length: of each text (B,).
        num_columns: of each image (B,).
        num_codes: V, with the blank.
    """
    own = torch.arange(text.shape[1]) < length[:, None]
    counts = torch.bincount(text[own], minlength=num_codes).double()
    shares = counts / counts.sum().clamp(min=1)
    longest = int(num_columns.max())

    def loss(blank: float) -> float:
        p = shares * (1 - blank)
        p[BLANK] = blank
        rows = p.log().expand(longest, len(text), num_codes)
        return float(torch.nn.functional.ctc_loss(
            rows, text, num_columns, length, reduction="none", zero_infinity=True
        ).mean())  # fmt: skip

    return min(loss(percent / 100) for percent in range(1, 100))


def reference_beam_search(
    log_probabilities: NDArray[np.floating],
    beam_size: int | None = None,
    scorer: Scorer | None = None,
) -> list[Hypothesis]:
    """Prefix beam search as it is written in papers (Hannun et al. 2014, 1408.2873), best first.

    For each prefix it keeps the probability of its paths that end with a blank, and of those that
    do not: only the first are continued by the same character again. It is slow, and there to
    check `beam.prefix_beam_search`, which has the same arguments; see there.
    """
    root: tuple[int, ...] = ()
    beam = {root: (0.0, -math.inf)}  # ln p of the paths that end with a blank, and of the others
    worth = {root: 0.0}  # what the scorer gives a prefix, and its state
    states = {root: scorer.start if scorer else None}
    for row in np.asarray(log_probabilities, np.float64).tolist():
        longer: dict[tuple[int, ...], tuple[float, float]] = {}

        def add(prefix: tuple[int, ...], blank: float, other: float) -> None:
            known = longer.get(prefix, (-math.inf, -math.inf))  # noqa: B023 - called within the turn
            longer[prefix] = _log_add(known[0], blank), _log_add(known[1], other)  # noqa: B023

        for prefix, (blank, other) in beam.items():
            total = _log_add(blank, other)
            again = other + row[prefix[-1]] if prefix else -math.inf
            add(prefix, total + row[BLANK], again)
            for code in range(1, len(row)):
                child = (*prefix, code)
                if child not in worth:
                    worth[child] = worth[prefix]
                    if scorer:
                        worth[child] += scorer.next_scores(states[prefix])[code]
                        is_allowed = worth[child] > -math.inf
                        states[child] = scorer.follow(states[prefix], code) if is_allowed else None
                if worth[child] > -math.inf:
                    before = blank if prefix[-1:] == (code,) else total
                    add(child, -math.inf, before + row[code])
        order = sorted(longer, key=lambda p: _log_add(*longer[p]) + worth[p], reverse=True)
        kept = {prefix: longer[prefix] for prefix in order[:beam_size]}
        if _log_add(*longer[order[0]]) > -math.inf:  # else the column is passed over
            beam = kept
    return ended(
        [
            (np.array(p, np.int64), _log_add(*both), worth[p], states.get(p))
            for p, both in beam.items()
        ],
        scorer,
    )


def _log_add(a: float, b: float) -> float:
    return float(np.logaddexp(a, b))


def ended(
    beam: Sequence[tuple[NDArray[np.int64], float, float, Hashable]], scorer: Scorer | None
) -> list[Hypothesis]:
    """Return what a beam ends with, the best first; where none may end, all, as if they might.

    Args:
        beam: codes, ln p of the columns, what the scorer gave, and its state.
        scorer: says what it is worth to end.
    """
    ends = [scorer.end_score(state) if scorer else 0.0 for *_, state in beam]
    if all(end == -math.inf for end in ends):
        ends = [0.0] * len(beam)
    found = [
        Hypothesis(codes, log_p + score + end, log_p)
        for (codes, log_p, score, _), end in zip(beam, ends, strict=True)
        if log_p + end > -math.inf
    ]
    return sorted(found, key=lambda hypothesis: -hypothesis.score)
