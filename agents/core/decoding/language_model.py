r"""Character n-grams with back-off, and their files in the ARPA format.

p(c | h) is that of the gram hc if it is listed; otherwise the back-off weight of h times p(c | h
without its first character). Files have log10 and one gram a line; here all logarithms are natural.

A file of another program may name the space in several ways: `<space>`, `▁` and `|` are read as a
space, unless the model has one already. `<U+00A0>` is written for other white space.
"""

import functools
import math
import re
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from agents.core.decoding.scorers import Scorer
from tasks.core.memory import read_text
from tasks.core.settings import ConfigError
from tasks.text_ngrams import kneser_ney

BEGIN, END, UNKNOWN = "\x02", "\x03", "\x1a"  # within a gram, each one character as all others are
_NAMES = {BEGIN: "<s>", END: "</s>", UNKNOWN: "<unk>", " ": "<space>"}
_SPACES = ("<space>", "▁", "|")
_LN10 = math.log(10.0)
_NEVER = -99.0  # log10, as other programs write it


class Entry(NamedTuple):
    """A listed gram: ln p of its last character, and ln of what it leaves to shorter contexts."""

    log_probability: float
    log_backoff: float = 0.0


@final
class NgramModel:
    """A character language model of texts that begin and end.

    >>> model = NgramModel.estimate(["aba", "abba"], order=2)
    >>> model.log_probability("a", "b") > model.log_probability("a", "a")
    True

    Attributes:
        grams: entries by gram, a string of up to `order` characters.
        order: length of the longest grams.
        listed: the characters that are listed after each context.
    """

    def __init__(self, grams: dict[str, Entry]) -> None:
        self.grams = grams
        self.order = max(map(len, grams))
        self.listed: dict[str, str] = {}
        for gram in grams:
            self.listed[gram[:-1]] = self.listed.get(gram[:-1], "") + gram[-1]

    @staticmethod
    def estimate(texts: Iterable[str], order: int = 5) -> "NgramModel":
        """Count texts: interpolated Kneser–Ney; see `tasks.text_ngrams.kneser_ney`.

        Raises:
            ConfigError: (a ValueError) there is no text, or too many characters for the order.
        """
        texts = list(texts)
        characters = sorted(set("".join(texts)))
        code = {character: at for at, character in enumerate(characters)}
        coded = [np.array([code[c] for c in text], np.int64) for text in texts]
        try:
            tables = kneser_ney(coded, len(characters), order)
        except ValueError as error:
            raise ConfigError("NgramModel.estimate()", "", str(error), "texts, order ≥ 1") from None
        symbols = np.array([*characters, BEGIN, END, UNKNOWN])
        return NgramModel({
            "".join(gram): Entry(log_p, log_backoff)
            for table in tables
            for gram, log_p, log_backoff in zip(
                symbols[table.grams].tolist(), table.log_probability.tolist(),
                table.log_backoff.tolist(), strict=True,
            )
        })  # fmt: skip

    def log_probability(self, context: str, character: str) -> float:
        """Return ln p(character | context); longer contexts than the model knows are cut.

        A context that begins with `BEGIN` is that of a text's first characters. What the model
        does not know is as likely as its `<unk>`; without one, never.
        """
        if character not in self.grams:
            character = UNKNOWN
        context = context[max(0, len(context) - self.order + 1) :]
        total = 0.0
        while True:
            entry = self.grams.get(context + character)
            if entry is not None:
                return total + entry.log_probability
            if not context:
                return -math.inf
            backoff = self.grams.get(context)
            total += backoff.log_backoff if backoff else 0.0
            context = context[1:]

    def text_log_probability(self, text: str) -> float:
        """Return ln p of a whole text, its end included."""
        whole = BEGIN + text + END
        return sum(self.log_probability(whole[:at], whole[at]) for at in range(1, len(whole)))

    def context_of(self, text: str) -> str:
        """Return the end of a text that all that comes next depends on: the state."""
        text = text[max(0, len(text) - self.order + 1) :]
        while text and text not in self.listed:
            text = text[1:]
        return text

    def write(self, path: str | Path) -> Path:
        """Write the model in the ARPA format."""
        path = Path(path)
        sizes = range(1, self.order + 1)
        of_size = {n: sorted(gram for gram in self.grams if len(gram) == n) for n in sizes}
        lines = ["\\data\\", *(f"ngram {n}={len(grams)}" for n, grams in of_size.items())]
        for n, grams in of_size.items():
            lines += ["", f"\\{n}-grams:"]
            lines += [self._line(gram) for gram in grams]
        path.write_text("\n".join([*lines, "", "\\end\\", ""]), encoding="utf-8")
        return path

    def _line(self, gram: str) -> str:
        entry = self.grams[gram]
        log10 = max(_NEVER, entry.log_probability / _LN10)
        words = " ".join(_NAMES.get(c, f"<U+{ord(c):04X}>" if c.isspace() else c) for c in gram)
        backoff = f"\t{entry.log_backoff / _LN10:.9g}" if entry.log_backoff else ""
        return f"{log10:.9g}\t{words}{backoff}"

    @staticmethod
    def read(path: str | Path) -> "NgramModel":
        """Read a character model in the ARPA format, of whatever program.

        Raises:
            ConfigError: (a ValueError) names the line that is not of such a file.
        """
        path = Path(path)
        try:
            lines = read_text(path, "utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            problem = f"cannot be read: {error}"
            raise ConfigError(str(path), "", problem, "a file in the ARPA format") from None
        grams: dict[str, Entry] = {}
        size, ended = 0, False
        for number, line in enumerate(lines, 1):
            header = re.fullmatch(r"\\(\d+)-grams:\s*", line)
            if header:
                size = int(header[1])
            elif line.startswith("\\end\\"):
                ended = True
                break
            elif size and line.strip():
                gram, entry = _read_line(line.rstrip("\r"), size, f"{path}, line {number}")
                grams.setdefault(gram, entry)
        if not grams or not ended:
            problem = "has no n-grams" if not grams else "ends before \\end\\"
            raise ConfigError(str(path), "", problem, "a whole file in the ARPA format")
        return NgramModel(grams)


def _read_line(line: str, size: int, place: str) -> tuple[str, Entry]:
    parts = line.split("\t") if "\t" in line else _by_spaces(line, size)
    try:
        numbers = [float(parts[0]), *map(float, parts[2:3])]
        words = parts[1].split(" ")
    except (ValueError, IndexError):
        accepted = "log10 p, the gram, and perhaps log10 of its back-off weight, between tabs"
        raise ConfigError(place, "", f"{line!r} is not an n-gram", accepted) from None
    gram = "".join(map(_character, words))
    if len(words) != size or len(gram) != size:
        problem = f"{parts[1]!r} is not {size} characters"
        raise ConfigError(place, "", problem, "a model of characters, with <space> for a space")
    log_p = -math.inf if numbers[0] <= _NEVER else numbers[0] * _LN10
    return gram, Entry(log_p, *(value * _LN10 for value in numbers[1:]))


def _by_spaces(line: str, size: int) -> list[str]:
    words = line.split()
    return [words[0], " ".join(words[1 : size + 1]), *words[size + 1 :]]


@functools.cache
def _character(word: str) -> str:
    """Return the character that a word of a file stands for."""
    named = {name: character for character, name in _NAMES.items()} | dict.fromkeys(_SPACES, " ")
    code = re.fullmatch(r"<U\+([0-9A-F]{4,6})>", word)
    return chr(int(code[1], 16)) if code else named.get(word.replace("<UNK>", "<unk>"), word)


@final
class NgramScorer(Scorer):
    """A language model as a scorer: `weight` times ln p of each character, and of the end.

    The state is the context; what comes after it is computed once.

    Args:
        model: of characters.
        characters: the task's: code c ≥ 1 is `characters[c - 1]`.
        weight: α, by which logarithms are multiplied.
    """

    def __init__(self, model: NgramModel, characters: str, weight: float) -> None:
        self._model, self._characters, self._weight = model, characters, weight
        self.start = model.context_of(BEGIN)
        self._codes: dict[str, list[int]] = {}
        for code, character in enumerate(characters, 1):
            listed = character if character in model.grams else UNKNOWN
            self._codes.setdefault(listed, []).append(code)
        self._known: dict[Hashable, NDArray[np.float64]] = {}
        self._rows: dict[str, NDArray[np.float64]] = {}
        self._after: dict[tuple[Hashable, int], str] = {}

    def next_scores(self, state: Hashable) -> NDArray[np.float64]:
        """Return α ln p of each character after a context."""
        found = self._known.get(state)
        if found is None:
            found = self._known[state] = self._weight * self._log_p(str(state))
        return found

    def _log_p(self, context: str) -> NDArray[np.float64]:
        """Return ln p of each code after a context (V,): what is listed, and else the back-off."""
        model = self._model
        if not context:
            single = [model.log_probability("", character) for character in self._characters]
            return np.array([0.0, *single])
        known = self._rows.get(context)
        if known is None:
            entry = model.grams.get(context, Entry(0.0))
            known = self._rows[context] = self._log_p(context[1:]) + entry.log_backoff
            for character in model.listed.get(context, ""):
                for code in self._codes.get(character, ()):
                    known[code] = model.grams[context + character].log_probability
        return known

    def follow(self, state: Hashable, code: int) -> Hashable:
        """Return the context after one more character."""
        found = self._after.get((state, code))
        if found is None:
            found = self._model.context_of(str(state) + self._characters[code - 1])
            self._after[state, code] = found
        return found

    def end_score(self, state: Hashable) -> float:
        """Return α ln p of the end."""
        return self._weight * self._model.log_probability(str(state), END)
