"""Parts of readers of lines: what stands in each column, and characters as targets."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.core.decoding.alignment import Reading, align
from agents.core.decoding.ctc import columns_needed, greedy
from agents.core.inspection.observation import RecurrentPart, Target
from tasks.handwriting.lines import LineImages


def written_columns(
    rows: Sequence[NDArray[np.float64]], texts: Sequence[NDArray[np.integer]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the code that each column belongs to (N, T), and its number in the text; -1: none.

    Where a text does not fit its columns, the best path's is aligned in its place. A column between
    two characters belongs to the nearer one.
    """
    longest = max((len(row) for row in rows), default=0)
    codes = np.full((len(rows), longest), -1)
    numbers = codes.copy()
    for line, (row, text) in enumerate(zip(rows, texts, strict=True)):
        chosen = np.asarray(text, np.int64)
        if columns_needed(chosen) > len(row):
            chosen = greedy(torch.as_tensor(row)[None], torch.tensor([len(row)]))[0].numpy()
        if not len(chosen):
            continue
        middles = align(row, chosen)[0].mean(axis=1)
        nearest = np.abs(np.arange(len(row))[:, None] + 0.5 - middles).argmin(axis=1)
        codes[line, : len(row)], numbers[line, : len(row)] = chosen[nearest], nearest
    return codes, numbers


def columns_part(
    layer: nn.RNNBase,
    rows: Sequence[NDArray[np.float64]],
    batch: LineImages,
    characters: str,
    texts: Sequence[NDArray[np.integer]],
    score: Any,
    column_width: int,
) -> RecurrentPart:
    """Return the BiLSTM over the columns: what stands in each, and what is written there.

    Of each column it is known which character stands there and of what kind it is, the how-manieth
    of the line it is, how much ink there is, and whether a character is written there.
    """
    codes, numbers = written_columns(rows, texts)
    symbols = np.array(["", *characters])
    best = np.zeros_like(codes)
    for line, row in enumerate(rows):
        best[line, : len(row)] = row.argmax(axis=1)
    num = codes.shape[1]
    image = np.asarray(batch.image)[:, 0, :, : num * column_width]
    ink = image.reshape(len(image), -1, num, column_width).mean(axis=(1, 3))
    kinds = np.array([-1, *map(_kind, characters)])
    quantities = {
        "character": codes,
        "kind of character": np.where(codes >= 0, kinds[np.maximum(codes, 0)], -1),
        "is written here": np.where(codes >= 0, best > 0, -1),
        "place in line": numbers,
        "ink": np.where(codes >= 0, ink, np.nan),
    }
    reads, writes = symbols[np.maximum(codes, 0)], symbols[best]
    return RecurrentPart("columns", layer, reads, writes, quantities, "", score, images=image)


def _kind(character: str) -> int:
    """Return 0 for a space, 1 for a capital, 2 for another letter, 3 for a digit, 4 for a mark."""
    tests = (str.isspace, str.isupper, str.isalpha, str.isdigit)
    return next((kind for kind, test in enumerate(tests) if test(character)), len(tests))


def line_batch(image: Tensor) -> LineImages:
    """Return one image of a line (1, 1, H, W) as a batch without a text."""
    text, width = torch.zeros(1, 1, dtype=torch.long), torch.tensor([image.shape[-1]])
    return LineImages(image, text, width, torch.zeros(1, dtype=torch.long))


def text_answer(read: Callable[[LineImages], Sequence[Reading]], image: Tensor) -> dict[str, Any]:
    """Return what is read in one image, for the live page."""
    (reading,) = read(line_batch(image))
    places = zip(reading.text, reading.confidence.tolist(), reading.boxes().tolist(), strict=True)
    characters = [
        {"text": text, "confidence": confidence, "left": left, "right": right}
        for text, confidence, (left, right) in places
    ]
    return {"kind": "text", "text": reading.text, "characters": characters}


def character_targets(
    rows: Sequence[NDArray[np.float64]], texts: Sequence[NDArray[np.integer]], num: int
) -> dict[str, Target]:
    """Return targets: ln p of the first written characters, each in the column where it is written.

    Of a line with fewer characters it is the blank's in its last column: that nothing follows.
    """

    def target(place: int) -> Target:
        def score(output: Tensor, sample: int) -> Tensor:
            codes, row = texts[sample], rows[sample]
            if place >= len(codes):
                return output.log_softmax(-1)[:, len(row) - 1, 0]
            begin, end = spans[sample][place]
            column = begin + int(row[begin:end, codes[place]].argmax())
            return output.log_softmax(-1)[:, column, int(codes[place])]

        return score

    spans = [align(row, codes)[0] for row, codes in zip(rows, texts, strict=True)]
    return {f"character {place + 1}": target(place) for place in range(num)}
