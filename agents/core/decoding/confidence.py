"""Confidences of characters and words of readings, and which of them are right."""

import functools
import re
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from agents.core.decoding.alignment import align, confidence_of_characters
from visualization.calibration.reliability import Confidences


def are_right(answer: Sequence[Hashable], target: Sequence[Hashable]) -> NDArray[np.bool_]:
    """Return which items of an answer are right (L,): those that the least edits leave as they are.

    >>> are_right("kitten", "sitting").tolist()
    [False, True, True, True, False, True]
    """
    right = np.zeros(len(answer), bool)
    for step in Levenshtein.opcodes(target, answer):
        right[step.dest_start : step.dest_end] = step.tag == "equal"
    return right


def confidences_of_lines(
    rows: Sequence[NDArray[np.float64]],
    codes: Sequence[NDArray[np.int64]],
    characters: str,
    targets: Sequence[str],
) -> tuple[Confidences, Confidences]:
    """Return confidences of the characters and of the words of lines, at any temperature.

    A word is as sure as all of its characters together.

    Args:
        rows: ln p (T, V) of each line's own columns.
        codes: what was read in each (L,).
        characters: code c ≥ 1 is `characters[c - 1]`.
        targets: the right texts.
    """
    answers = ["".join(characters[code - 1] for code in line) for line in codes]
    spans = functools.cache(lambda line: align(rows[line], codes[line])[0])

    def sure(temperature: float) -> list[NDArray[np.float64]]:
        return [
            confidence_of_characters(rows[line], text, spans(line), temperature)
            for line, text in enumerate(codes)
        ]

    def of_characters(temperature: float) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        return np.concatenate([np.zeros(0), *sure(temperature)]), right_characters

    def of_words(temperature: float) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        products = [
            confidence[slice(*found.span())].prod()
            for answer, confidence in zip(answers, sure(temperature), strict=True)
            for found in re.finditer(r"\S+", answer)
        ]
        return np.array(products, np.float64), right_words

    pairs = list(zip(answers, targets, strict=True))
    right_characters = np.concatenate([np.zeros(0, bool), *(are_right(*pair) for pair in pairs)])
    right_words = np.concatenate(
        [np.zeros(0, bool), *(are_right(a.split(), b.split()) for a, b in pairs)]
    )
    return (
        Confidences(name="characters", at=of_characters),
        Confidences(name="words", at=of_words),
    )
