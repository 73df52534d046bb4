"""Prefix beam search with a 5-gram: ours beside flashlight-text, in time and in what they find."""

import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from agents.core.decoding.beam import prefix_beam_search
from agents.core.decoding.ctc import collapse
from agents.core.decoding.language_model import NgramModel, NgramScorer
from benchmarks.measure import Figures, median, scratch, table
from tasks.handwriting.vocabulary import words_of

ROUNDS = 3
ACCEPTED = 20.0  # milliseconds a word
NUM_WORDS, NUM_SMALL = 1000, 200
BEAM, ORDER, WEIGHT = 25, 5, 0.5
PRUNED = (10, 25.0)  # best characters of a column; nats behind the best prefix
CHARACTERS = " !',-.?" + "".join(map(chr, [*range(48, 58), *range(65, 91), *range(97, 123)]))
_COLUMNS = 4  # of a character
_LN10 = float(np.log(10))
Rows = NDArray[np.float64]
Search = Callable[[Rows], Sequence[int]]


def rows_of(word: str, characters: str, seed: int) -> Rows:
    """Return ln p (T, V) of columns as a reader gives them that is sure of most characters.

    A character is in one column of four, where another one is about as likely now and then;
    blanks are around it.
    """
    rng = np.random.default_rng([seed, len(word)])
    logits = rng.normal(0, 1, (_COLUMNS * len(word) + 2, len(characters) + 1))
    logits[:, 0] += 7
    for place, character in enumerate(word):
        column = _COLUMNS * place + int(rng.integers(1, _COLUMNS))
        logits[column, 0] -= 7 - rng.uniform(0, 3)
        logits[column, characters.index(character) + 1] += rng.uniform(4, 12)
        logits[column, int(rng.integers(1, logits.shape[1]))] += rng.uniform(0, 7)
    return np.asarray(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))


def ours(scorer: NgramScorer, beam_size: int | None = BEAM) -> Search:
    """Return the search of `agents.core.decoding`."""
    return lambda rows: prefix_beam_search(rows, beam_size, scorer)[0].codes.tolist()


def flashlight(
    path: Path, characters: str, beam_size: int = BEAM, best: int | None = None, within: float = 1e9
) -> Search | None:
    """Return the search of flashlight-text with KenLM, None where it is not installed.

    Of the characters of a column the `best` are tried, None: all, as ours does; prefixes that are
    so many nats behind are left out.
    """
    try:
        from flashlight.lib.text import decoder as library
        from flashlight.lib.text.decoder.kenlm import KenLM
        from flashlight.lib.text.dictionary import Dictionary
    except ImportError:
        return None
    tokens = Dictionary()
    names = ["<blank>", *("<space>" if c == " " else c for c in characters)]
    for code, name in enumerate(names):
        tokens.add_entry(name, code)
    options = library.LexiconFreeDecoderOptions(
        beam_size=beam_size, beam_size_token=best or len(names), beam_threshold=within,
        lm_weight=WEIGHT * _LN10, sil_score=0.0, log_add=True,
        criterion_type=library.CriterionType.CTC,
    )  # fmt: skip
    model = KenLM(str(path), tokens)
    search = library.LexiconFreeDecoder(options, model, -1, 0, [])

    def find(rows: Rows) -> Sequence[int]:
        emissions = np.ascontiguousarray(rows, np.float32)
        path = search.decode(emissions.ctypes.data, *emissions.shape)[0].tokens
        text: list[int] = collapse(np.array(path[1:-1], np.int64)).tolist()
        return text

    return find


def exact_score(rows: Rows, codes: Sequence[int], model: NgramModel, characters: str) -> float:
    """Return ln p of a text in the columns, all of its paths, plus α ln p of the model."""
    text = "".join(characters[code - 1] for code in codes)
    log_p = -F.ctc_loss(
        torch.as_tensor(rows)[:, None], torch.tensor([list(codes)], dtype=torch.long),
        torch.tensor([len(rows)]), torch.tensor([len(codes)]), reduction="sum",
    )  # fmt: skip
    return float(log_p) + WEIGHT * model.text_log_probability(text)


def best_by_enumeration(rows: Rows, model: NgramModel, characters: str) -> list[int]:
    """Return the best text of all paths through a few columns."""
    paths = itertools.product(range(rows.shape[1]), repeat=len(rows))
    texts = {tuple(collapse(np.array(path, np.int64)).tolist()) for path in paths}
    return list(max(texts, key=lambda text: exact_score(rows, text, model, characters)))


def measure(rounds: int = ROUNDS) -> Figures:
    """Return the time of a word, and the share of answers that none surpasses."""
    splits, _ = words_of(None, CHARACTERS)
    words = splits["test"][:NUM_WORDS]
    model = NgramModel.estimate(splits["train"], ORDER)
    images = [rows_of(word, CHARACTERS, seed) for seed, word in enumerate(words)]
    with scratch() as folder:
        path = model.write(folder / "words.arpa")
        searches = {
            "ours": ours(NgramScorer(model, CHARACTERS, WEIGHT)),
            "flashlight-text": flashlight(path, CHARACTERS),
            "flashlight-text, pruned": flashlight(path, CHARACTERS, BEAM, *PRUNED),
        }
        small = _small(folder)
        found: dict[str, Any] = {}
        for name, search in searches.items():
            if search is not None:
                found[name] = _timed(search, images, rounds)
    right = [[CHARACTERS.index(c) + 1 for c in word] for word in words]
    scores = {
        name: [exact_score(*pair, model, CHARACTERS) for pair in zip(images, texts, strict=True)]
        for name, (_, texts) in found.items()
    }
    best = np.max(list(scores.values()), axis=0)
    return {
        "num_words": len(words),
        "searches": {
            name: {
                "ms_a_word": 1000 * seconds / len(words),
                "best_of_all": float(np.mean(np.array(scores[name]) >= best - 1e-3)),
                "right": float(np.mean([a == b for a, b in zip(texts, right, strict=True)])),
                "enumerated": small.get(name),
            }
            for name, (seconds, texts) in found.items()
        },
    }


def _timed(search: Search, images: Sequence[Rows], rounds: int) -> tuple[float, list[list[int]]]:
    """Return the median of CPU seconds of all images, and the texts."""
    seconds = []
    for _ in range(rounds):
        begun = time.process_time()
        texts = [list(search(rows)) for rows in images]
        seconds.append(time.process_time() - begun)
    return median(seconds), texts


def _small(folder: Path) -> dict[str, float]:
    """Return the share of small images in which the best of all texts is found, without pruning."""
    characters = "ab"
    model = NgramModel.estimate(["abab", "aab", "ba"], 3)
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, (NUM_SMALL, 5, 3))
    images = logits - np.logaddexp.reduce(logits, axis=2, keepdims=True)
    best = [best_by_enumeration(rows, model, characters) for rows in images]
    searches = {
        "ours": ours(NgramScorer(model, characters, WEIGHT), None),
        "flashlight-text": flashlight(model.write(folder / "small.arpa"), characters, 1000),
    }
    return {
        name: float(np.mean([list(search(r)) == b for r, b in zip(images, best, strict=True)]))
        for name, search in searches.items() if search is not None
    }  # fmt: skip


def report(figures: Figures) -> str:
    """Return the figures as a table."""
    rows = [
        [name, f"{f['ms_a_word']:.2f}", f"{f['best_of_all']:.1%}", f"{f['right']:.1%}",
         "–" if f["enumerated"] is None else f"{f['enumerated']:.1%}"]
        for name, f in figures["searches"].items()
    ]  # fmt: skip
    head = [f"beam {BEAM}, {ORDER}-gram, {figures['num_words']} words", "ms a word",
            "none is better", "right", "enumerated best"]  # fmt: skip
    return f"{table(head, rows)}\naccepted: ≤ {ACCEPTED:.0f} ms a word"
