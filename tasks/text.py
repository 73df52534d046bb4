r"""Character-level language modelling: predict the next character of a text, at every place.

The corpus is one file, or Python's own library (`path`). Its last parts are withheld for validation
and test. Evaluation windows whose text occurred earlier in the corpus, such as a licence at the
head of many files, are dropped. Only repetitions of whole windows are: of the windows of 64
characters inside the library's test samples, about 4 % occur earlier too.

>>> from tasks.text import Text
>>> task = Text(characters="\n abc", digest="unread")  # with both, the corpus is not read
>>> batch = task.encode(["ab c", "b"])  # shorter texts are padded in front with newlines
>>> batch.text.tolist()
[[2, 3, 1, 4], [0, 0, 0, 3]]
>>> batch.targets.tolist()  # the next character at each place; -1: unknown
[[3, 1, 4, -1], [-1, -1, -1, -1]]
>>> task.decode(batch.text)
['ab c', '\n\n\nb']
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core.charset import Charset
from tasks.core.settings import ConfigError, setting
from tasks.core.task import (
    BatchRequest,
    LanguageModelSpec,
    ProbeTargets,
    Row,
    Split,
    Task,
    TextChunks,
)
from tasks.text_corpus import Corpus, quote_characters, read_corpus
from tasks.text_ngrams import ngram_bits
from tasks.text_quantities import text_properties

UNKNOWN = -1  # target where the next character is unknown
_DISPLAY_LENGTH = 60  # characters
_SHORT_LENGTH = 22  # characters at the end of a text, in the short question
NUL_SHOWN = "∅"  # symbol of NUL, which numpy's texts and figures cannot contain
_VISIBLE = {
    "\n": "⏎",
    "\t": "⇥",
    "\r": "␍",
    "\0": NUL_SHOWN,
}  # symbols in questions, which are one line each


@attrs.frozen(kw_only=True)
class Text(Task):
    """Character-level language modelling: the next character of a text, at every place."""

    path: str = setting(
        "", "path of a text file in UTF-8; empty: the sources of Python's own library"
    )
    num_characters: int = setting(3_000_000, "largest number of characters of the corpus", ge=100)
    block_size: int = setting(
        128,
        "characters of a training sample; gradients reach back as far",
        ge=1,
        le=100_000,
        renamed_from="chunk",
    )
    length: int = setting(256, "characters of an evaluation sample", ge=1, le=100_000)
    validation: float = setting(
        0.05, "share of the corpus withheld for validation, before the test", gt=0.0, lt=0.5
    )
    test: float = setting(
        0.05, "share of the corpus withheld for the test, at its end", gt=0.0, lt=0.5
    )
    characters: str = setting("", "character set; empty: the characters of the corpus")
    digest: str = setting(
        "", "digest of the corpus, by which changes are detected; empty: that of the corpus"
    )

    def __attrs_post_init__(self) -> None:
        """Store the characters and the digest of the corpus, for checkpoints."""
        if not self.characters or not self.digest:
            corpus = read_corpus(self.path, self.num_characters)
            properties = {"characters": corpus.characters, "digest": corpus.digest}
            for name, value in properties.items():
                object.__setattr__(self, name, getattr(self, name) or value)
            self._check_length(corpus)
        if len(set(self.characters)) < len(self.characters):
            problem = f"{quote_characters(self.characters)} has a character twice"
            raise ConfigError("Text", "characters", problem, "each character once")

    @property
    def name(self) -> str:
        """The registered name."""
        return "text"

    @property
    def spec(self) -> LanguageModelSpec:
        """Character set, and length of a training sample."""
        return LanguageModelSpec(self.characters, self.block_size)

    @property
    def monitor(self) -> tuple[str, Literal["max", "min"]]:
        """Accuracy of the next character."""
        return "accuracy", "max"

    def for_display(self) -> "Text":
        """Return the task with samples of at most 60 characters, which fit a line."""
        return attrs.evolve(self, length=min(self.length, _DISPLAY_LENGTH))

    def num_samples_in(self, split: Split) -> int:
        """Return the number of training samples in one pass over a split."""
        begin, end = self._corpus.parts(self.validation, self.test)[split]
        return (end - begin - self.block_size) // self.block_size

    def iter_batches(self, request: BatchRequest) -> Iterator[TextChunks]:
        """Yield the batches of one epoch; see `Task.batches`.

        Each row is a stream that continues from batch to batch. The streams divide the split, which
        is a circle that is cut at a place chosen by seed and epoch. The last batch may have fewer
        rows: the first ones.
        """
        for withheld in ("validation", "test"):  # fail before training if there are no samples
            self.samples(withheld, 1)
        split, batch_size = request.split, request.batch_size
        begin, codes = self._corpus.parts(self.validation, self.test)[split][0], self._codes
        num = self.num_samples_in(split)
        rng = np.random.default_rng([request.seed, request.epoch, *map(ord, split)])
        phase, shift = int(rng.integers(self.block_size)), int(rng.integers(num))
        num_batches = -(-num // batch_size)
        rows = np.arange(batch_size)
        in_last = num - (num_batches - 1) * batch_size  # rows
        first = rows * (num_batches - 1) + np.minimum(rows, in_last)
        for at in range(request.start, num_batches):
            here = (first if at < num_batches - 1 else first[:in_last]) + at
            place = (here + shift) % num
            texts = begin + phase + place[:, None] * self.block_size + np.arange(self.block_size)
            yield TextChunks(codes[texts], codes[texts + 1], (place == 0) | (at == 0))

    def samples(self, split: Split, num: int, seed: int = 0) -> TextChunks:
        """Return at most `num` texts of `length` characters that do not overlap; see the module.

        The state is reset before each: it has no earlier context.
        """
        corpus, codes = self._corpus, self._codes
        begin, end = corpus.parts(self.validation, self.test)[split]
        rng = np.random.default_rng([seed, *map(ord, split)])
        phase = int(rng.integers(min(self.length, end - begin - self.length)))
        starts = np.arange(begin + phase, end - self.length, self.length)
        starts = rng.permutation(starts[corpus.is_first(starts, self.length)])[:num]
        if not len(starts):
            problem = f"every {split} text of {self.length} characters occurs in it earlier too"
            raise ConfigError("Text", "path", problem, "a corpus that does not repeat itself")
        texts = starts[:, None] + np.arange(self.length)
        return TextChunks(codes[texts], codes[texts + 1], np.ones(len(texts), bool))

    def encode(self, x: Sequence[str]) -> TextChunks:
        """Encode texts as a batch; shorter ones are padded in front with newlines.

        Without a newline in the character set, its first character is the padding. `⏎`, `⇥`, `␍`
        and `∅` mean newline, tabulator, carriage return and NUL, as in questions. The character
        after a text is unknown, unless the text is a sample of the corpus.
        """
        texts = [self._read(text) for text in x]
        pad = "\n" if "\n" in self.characters else self.characters[0]
        widest = max(map(len, texts))
        positions = {character: code for code, character in enumerate(self.characters)}
        rows = [[positions[c] for c in text.rjust(widest, pad)] for text in texts]
        codes = np.array(rows, np.uint8 if len(positions) <= 256 else np.int32)
        targets = np.full(codes.shape, UNKNOWN, np.int64)
        targets[:, :-1] = codes[:, 1:]
        targets[:, -1] = self._after(codes)
        for row, text in zip(targets, texts, strict=True):
            row[: widest - len(text)] = UNKNOWN
        return TextChunks(codes, targets, np.ones(len(codes), bool))

    def decode(self, answers: NDArray[Any]) -> list[str]:
        """Decode codes (batch, …) to texts."""
        charset = Charset(self.characters)
        return [charset.decode(codes) for codes in answers]

    def score(self, answers: NDArray[Any], targets: TextChunks) -> dict[str, float]:
        """Return `accuracy`, the share of right next characters, where they are known."""
        is_known = targets.targets != UNKNOWN
        return {"accuracy": float((answers == targets.targets)[is_known].mean())}

    def rows(self, answers: NDArray[Any], targets: TextChunks) -> list[Row]:
        """Return each text in one line, and the predicted and the right character after it."""
        symbols = str.maketrans(self._visible)
        texts, predicted = self.decode(targets.text), self.decode(answers[:, -1:])
        ends = targets.targets[:, -1]
        right = [self.characters[end] if end != UNKNOWN else "" for end in ends]
        lines = [text.translate(symbols) for text in texts]
        return [
            Row(
                line,
                a.translate(symbols),
                b.translate(symbols),
                a == b,
                f"…{line[-_SHORT_LENGTH:]}",
            )
            for line, a, b in zip(lines, predicted, right, strict=True)
        ]

    def probe_targets(self, batch: TextChunks) -> ProbeTargets:
        """Return the values of `text_quantities` at each character, where they are defined.

        A batch as wide as a sample is looked up in the corpus, because earlier characters matter.
        A value is undefined if the text alone gives another one, as in a string that began before.
        """
        width, rows = batch.text.shape[1], []
        texts = self.decode(batch.text)
        for start, text in zip(self._places(batch.text), texts, strict=True):
            own = text_properties(text)
            if start >= 0:
                whole = self._corpus.properties
                own = {n: _same(v, whole[n][start : start + width]) for n, v in own.items()}
            rows.append(own)
        return ProbeTargets({name: np.stack([row[name] for row in rows]) for name in rows[0]}, {})

    def ngram_bits(
        self, split: Split = "test", num: int = 10_000, seed: int = 0, longest: int = 8
    ) -> tuple[float, ...]:
        """Return the bits per character of n-grams on samples; see `text_ngrams.ngram_bits`."""
        return _ngram_bits(self, split, num, seed, longest)

    @property
    def _corpus(self) -> Corpus:
        """Corpus; a ConfigError if it is not the one that this task was made with."""
        corpus = read_corpus(self.path, self.num_characters)
        if corpus.digest != self.digest:  # before 0.5 a byte-order mark was read as a character
            corpus = read_corpus(self.path, self.num_characters, with_mark=True)
        if corpus.digest != self.digest:
            name = self.path or "Python's own library"
            problem = f"{name} now has the digest {corpus.digest!r}, not {self.digest!r}"
            accepted = "the corpus that the task was made with; or a new task, with no digest given"
            raise ConfigError("Text", "digest", problem, accepted)
        self._check_length(corpus)
        return corpus

    def _check_length(self, corpus: Corpus) -> None:
        least = max(2 * self.block_size, self.length + 1)
        for split, (begin, end) in corpus.parts(self.validation, self.test).items():
            if end - begin < least:
                problem = f"leaves {end - begin:,} characters for {split}, of {len(corpus.text):,}"
                accepted = (
                    f"{least:,} or more, by a longer corpus, or a shorter block_size and length"
                )
                raise ConfigError("Text", "path", problem, accepted)

    @property
    def _codes(self) -> NDArray[Any]:
        return self._corpus.codes(self.characters)

    @property
    def _visible(self) -> dict[str, str]:
        """Symbols of invisible characters, except symbols that are in the character set."""
        characters = set(self.characters)
        return {
            real: s for real, s in _VISIBLE.items() if real in characters and s not in characters
        }

    def _read(self, x: object) -> str:
        """Check a typed text, and replace symbols by the characters that they mean."""
        if not isinstance(x, str) or not x:
            raise ConfigError(f"input {x!r}", "", "is not text", "text of one character or more")
        text = x.translate({ord(shown): real for real, shown in self._visible.items()})
        for place, character in enumerate(text, start=1):
            if character not in self.characters:
                problem = f"{character!r}, character {place}, is not in the character set"
                shown = x if len(x) <= _DISPLAY_LENGTH else f"{x[:_DISPLAY_LENGTH]}…"
                accepted = f"any of {quote_characters(self.characters)}"
                raise ConfigError(f"input {shown!r}", "", problem, accepted)
        return text

    def _places(self, codes: NDArray[Any]) -> NDArray[np.int64]:
        """Return the first position of samples (B, T) in the corpus (B,); -1: not in it."""
        no_position = np.full(len(codes), -1)
        if codes.shape[1] not in (self.length, self.block_size):
            return no_position
        try:
            corpus = self._corpus
        except ConfigError:  # a trained agent does not need it
            return no_position
        points = np.array([ord(character) for character in self.characters], np.uint32)
        return corpus.find(points[codes])

    def _after(self, codes: NDArray[Any]) -> NDArray[np.int64]:
        """Return the code after each sample (B,)."""
        ends = self._places(codes) + codes.shape[1]
        after = np.full(len(codes), UNKNOWN, np.int64)
        is_known = ends >= codes.shape[1]
        if is_known.any():
            corpus_codes = self._codes
            is_known &= ends < len(corpus_codes)
            after[is_known] = corpus_codes[ends[is_known]]
        return after


def _same(read: NDArray[Any], whole: NDArray[Any]) -> NDArray[Any]:
    """Return the values on which a text and its corpus agree; others are undefined."""
    return np.where(read == whole, whole, -1 if whole.dtype.kind == "i" else np.nan)


@functools.lru_cache(maxsize=8)
def _ngram_bits(task: Text, split: Split, num: int, seed: int, longest: int) -> tuple[float, ...]:
    corpus, codes = task._corpus, task._codes
    begin, end = corpus.parts(task.validation, task.test)["train"]
    batch = task.samples(split, num, seed)
    return ngram_bits(codes[begin:end], batch.text, batch.targets, len(task.characters), longest)
