"""Alignment of a text to the columns of its image, and how sure its characters are."""

import itertools
import re
from typing import NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from agents.core.decoding.ctc import BLANK, columns_needed


class Word(NamedTuple):
    """A word of a reading: its text, its characters' numbers, and how sure it is."""

    text: str
    begin: int
    end: int  # excluded
    confidence: float


@attrs.frozen(eq=False, kw_only=True)
class Reading:
    """What was read in one line.

    Attributes:
        text: as the task writes it.
        codes: of its characters (L,).
        log_probability: ln p of the text's likeliest path.
        spans: first column of each character, and the first after its last (L, 2).
        confidence: of each character, from 0 to 1 (L,).
        column_width: pixels of the line's image that a column covers.
    """

    text: str
    codes: NDArray[np.int64]
    log_probability: float
    spans: NDArray[np.int64]
    confidence: NDArray[np.float64]
    column_width: float = 1.0

    @property
    def words(self) -> tuple[Word, ...]:
        """Words between white space; one is as sure as all of its characters together."""
        return tuple(
            Word(found[0], *found.span(), float(self.confidence[slice(*found.span())].prod()))
            for found in re.finditer(r"\S+", self.text)
        )

    def boxes(self) -> NDArray[np.float64]:
        """Return the left and right edge of each character in pixels (L, 2).

        CTC writes a character in a few columns of its shape: between two characters, the edge is
        drawn in the middle of the columns that say nothing.
        """
        if not len(self.spans):
            return np.zeros((0, 2))
        edges = (self.spans[1:, 0] + self.spans[:-1, 1]) / 2
        half = np.median(np.diff(edges)) / 2 if len(edges) > 1 else 1.0
        middle = self.spans.mean(axis=1)
        first = max(0.0, min(self.spans[0, 0], middle[0] - half))
        last = max(self.spans[-1, 1], middle[-1] + half)
        whole = np.concatenate([[first], edges, [last]])
        return np.stack([whole[:-1], whole[1:]], axis=1) * self.column_width


def align(
    log_probabilities: NDArray[np.floating], codes: NDArray[np.integer]
) -> tuple[NDArray[np.int64], float]:
    """Forced alignment (Viterbi): return the columns of each character (L, 2), and ln p.

    The likeliest of the paths (T,) through ln p (T, V) whose text is `codes`.

    >>> rows = np.log([[0.1, 0.9], [0.1, 0.9], [0.8, 0.2]])
    >>> align(rows, np.array([1]))[0].tolist()
    [[0, 2]]

    Raises:
        ValueError: the text needs more columns than there are.
    """
    rows, codes = np.asarray(log_probabilities, np.float64), np.asarray(codes, np.int64)
    num = len(rows)
    if columns_needed(codes) > num:
        raise ValueError(f"{num} columns; the text needs {columns_needed(codes)}")
    if num == 0:
        return np.zeros((0, 2), np.int64), 0.0
    states = np.full(2 * len(codes) + 1, BLANK, np.int64)
    states[1::2] = codes
    may_skip = np.zeros(len(states), bool)  # from a character over a blank to another character
    may_skip[3::2] = codes[1:] != codes[:-1]
    best = np.full(len(states), -np.inf)
    best[:2] = rows[0, states[:2]]
    came = np.zeros((num, len(states)), np.int64)
    for step in range(1, num):
        choices = np.full((3, len(states)), -np.inf)
        choices[0] = best
        choices[1, 1:] = best[:-1]
        choices[2, 2:] = np.where(may_skip[2:], best[:-2], -np.inf)
        came[step] = choices.argmax(axis=0)
        best = np.take_along_axis(choices, came[step : step + 1], 0)[0] + rows[step, states]
    state = len(states) - 1 - int(len(states) > 1 and best[-2] > best[-1])
    log_p, path = float(best[state]), np.empty(num, np.int64)
    for step in range(num - 1, -1, -1):
        path[step] = state
        state -= came[step, state]
    characters = np.arange(len(codes))
    begins = np.searchsorted(path, 2 * characters + 1)
    return np.stack([begins, np.searchsorted(path, 2 * characters + 2)], axis=1), log_p


def read(
    log_probabilities: NDArray[np.floating],
    codes: NDArray[np.integer],
    characters: str,
    column_width: float = 1.0,
) -> Reading:
    """Return a reading of codes: where each character is, and how sure it is.

    A character's confidence is its highest probability in its own columns, times the square root of
    the lowest probability that a column between it and its neighbours has nothing else to say: what
    two characters leave out between them is the fault of both. A text that does not fit into the
    columns, as one written by attention may be, has even spans and no confidence.
    """
    if columns_needed(np.asarray(codes, np.int64)) > len(log_probabilities):
        spans, confidence = _even_spans(len(log_probabilities), len(codes)), np.zeros(len(codes))
        log_p = -np.inf
    else:
        spans, log_p = align(log_probabilities, codes)
        confidence = _confidences(log_probabilities, codes, spans)
    return Reading(
        text="".join(characters[code - 1] for code in codes),
        codes=np.array(codes, np.int64),
        log_probability=log_p,
        spans=spans,
        confidence=confidence,
        column_width=column_width,
    )


def _even_spans(num_columns: int, num: int) -> NDArray[np.int64]:
    """Return columns (num, 2) that are divided evenly."""
    edges = np.linspace(0, num_columns, num + 1).astype(np.int64)
    return np.stack([edges[:-1], edges[1:]], axis=1)


def _confidences(
    log_probabilities: NDArray[np.floating], codes: NDArray[np.integer], spans: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return how sure each character is, by its own columns and those beside (L,)."""
    probabilities = np.exp(np.asarray(log_probabilities, np.float64))
    bounds = np.concatenate([[0], spans.ravel(), [len(probabilities)]]).reshape(-1, 2)
    around = np.concatenate([[BLANK], codes, [BLANK]])
    gaps = np.array([
        min(1.0, probabilities[begin:end][:, list({BLANK, *pair})].sum(1).min(initial=1.0))
        for (begin, end), pair in zip(bounds, itertools.pairwise(around.tolist()), strict=True)
    ])  # fmt: skip
    pairs = zip(spans, codes, strict=True)
    peaks = [probabilities[slice(*span), code].max() for span, code in pairs]
    return np.asarray(np.array(peaks) * np.sqrt(gaps[:-1] * gaps[1:]), np.float64)
