r"""How does a text go on? For each character that is read, the next one is asked.

The corpus is one file, or Python's own library (`path`). Its last parts are withheld for validation
and test, and a sample is taken only where its text stands for the first time in the corpus: what
training has seen, such as a licence at the head of many files, tests nothing. Only what
repeats as a whole is left out: of the windows of 64 characters inside the library's test samples
about 4 % stand earlier too.

>>> from tasks.text import Text
>>> task = Text(characters="\n abc", digest="unread")  # neither needs the corpus to be read
>>> batch = task.encode(["ab c", "b"])  # shorter texts get newlines in front
>>> batch.text.tolist()
[[2, 3, 1, 4], [0, 0, 0, 3]]
>>> batch.targets.tolist()  # the next character at each place; -1: not known
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
from tasks.text_quantities import measure

UNKNOWN = -1  # in place of a next character
_VIEWED = 60  # characters
_BRIEF = 22  # characters: the end of a text is what the next one follows
NUL_SHOWN = "∅"  # for NUL, which neither numpy's texts nor figures can hold
_VISIBLE = {"\n": "⏎", "\t": "⇥", "\r": "␍", "\0": NUL_SHOWN}  # in questions: one line each


@attrs.frozen(kw_only=True)
class Text(Task):
    """The next character of a text, at every place."""

    path: str = setting("", "file of text in UTF-8; empty: the sources of Python's own library")
    num_characters: int = setting(3_000_000, "most characters of the corpus that are used", ge=100)
    block_size: int = setting(
        128,
        "characters of a training sample: as far back as gradients reach",
        ge=1,
        le=100_000,
        renamed_from="chunk",
    )
    length: int = setting(256, "characters of a sample that is scored or viewed", ge=1, le=100_000)
    validation: float = setting(0.05, "share of the corpus, before the test", gt=0.0, lt=0.5)
    test: float = setting(0.05, "share of the corpus, at its end", gt=0.0, lt=0.5)
    characters: str = setting("", "all that can be read; empty: those of the corpus, once found")
    digest: str = setting(
        "", "digest of the corpus, by which a change is found; empty: as it is now"
    )

    def __attrs_post_init__(self) -> None:
        """Keep what is found in the corpus, so that a checkpoint does without it."""
        if not self.characters or not self.digest:
            corpus = read_corpus(self.path, self.num_characters)
            found = {"characters": corpus.characters, "digest": corpus.digest}
            for name, value in found.items():
                object.__setattr__(self, name, getattr(self, name) or value)
            self._demand_long_enough(corpus)
        if len(set(self.characters)) < len(self.characters):
            problem = f"{quote_characters(self.characters)} has a character twice"
            raise ConfigError("Text", "characters", problem, "each character once")

    @property
    def name(self) -> str:
        """The registered name."""
        return "text"

    @property
    def spec(self) -> LanguageModelSpec:
        """The characters, and how many there are in a training sample."""
        return LanguageModelSpec(self.characters, self.block_size)

    @property
    def monitor(self) -> tuple[str, Literal["max", "min"]]:
        """The share of next characters that are right."""
        return "accuracy", "max"

    @property
    def num_stages(self) -> int:
        """One: there are no easier texts."""
        return 1

    def for_display(self) -> "Text":
        """Samples of at most 60 characters: a line that a person can look at."""
        return attrs.evolve(self, length=min(self.length, _VIEWED))

    def num_samples_in(self, split: Split) -> int:
        """Return the chunks of one pass over a split."""
        begin, end = self._corpus.parts(self.validation, self.test)[split]
        return (end - begin - self.block_size) // self.block_size

    def iter_batches(self, request: BatchRequest) -> Iterator[TextChunks]:
        """Yield the batches of one epoch; see `Task.batches`.

        Each row is a stream that goes on from batch to batch. The streams share out the split,
        which is taken as a circle and cut at a place that seed and epoch choose. The last batch may
        have fewer rows: the first ones.
        """
        for withheld in ("validation", "test"):  # before any step: what is learned can be tested
            self.samples(withheld, 1)
        split, batch_size = request.split, request.batch_size
        begin, codes = self._corpus.parts(self.validation, self.test)[split][0], self._codes
        num = self.num_samples_in(split)
        rng = np.random.default_rng([request.seed, request.epoch, *map(ord, split)])
        phase, turned = int(rng.integers(self.block_size)), int(rng.integers(num))
        num_batches = -(-num // batch_size)
        rows = np.arange(batch_size)
        in_last = num - (num_batches - 1) * batch_size  # rows
        first = rows * (num_batches - 1) + np.minimum(rows, in_last)
        for at in range(request.start, num_batches):
            here = (first if at < num_batches - 1 else first[:in_last]) + at
            place = (here + turned) % num
            texts = begin + phase + place[:, None] * self.block_size + np.arange(self.block_size)
            yield TextChunks(codes[texts], codes[texts + 1], (place == 0) | (at == 0))

    def samples(self, split: Split, num: int, seed: int = 0) -> TextChunks:
        """Return at most `num` texts of `length` characters that do not overlap; see the module.

        Each stands by itself: nothing before it is known.
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
        """Return texts as a batch; shorter ones get newlines (or the first character) in front.

        `⏎`, `⇥`, `␍` and `∅` stand for newline, tabulator, carriage return and NUL, as in
        questions. What comes after a text is unknown, unless it is a sample of the corpus.
        """
        texts = [self._read(text) for text in x]
        pad = "\n" if "\n" in self.characters else self.characters[0]
        widest = max(map(len, texts))
        positions = {character: code for code, character in enumerate(self.characters)}
        rows = [[positions[c] for c in text.rjust(widest, pad)] for text in texts]
        codes = np.array(rows, np.uint8 if len(positions) <= 256 else np.int32)
        following = np.full(codes.shape, UNKNOWN, np.int64)
        following[:, :-1] = codes[:, 1:]
        following[:, -1] = self._after(codes)
        for row, text in zip(following, texts, strict=True):
            row[: widest - len(text)] = UNKNOWN
        return TextChunks(codes, following, np.ones(len(codes), bool))

    def decode(self, answers: NDArray[Any]) -> list[str]:
        """Return codes (batch, …) as texts."""
        charset = Charset(self.characters)
        return [charset.decode(codes) for codes in answers]

    def score(self, answers: NDArray[Any], targets: TextChunks) -> dict[str, float]:
        """Return `accuracy`, the share of next characters that are right, where they are known."""
        known = targets.targets != UNKNOWN
        return {"accuracy": float((answers == targets.targets)[known].mean())}

    def rows(self, answers: NDArray[Any], targets: TextChunks) -> list[Row]:
        """Return each text in one line, and the character after it: as answered, and the right one.

        `right` says whether that last answer is.
        """
        shown = str.maketrans(self._visible)
        texts, given = self.decode(targets.text), self.decode(answers[:, -1:])
        ends = targets.targets[:, -1]
        right = [self.characters[end] if end != UNKNOWN else "" for end in ends]
        lines = [text.translate(shown) for text in texts]
        return [
            Row(line, a.translate(shown), b.translate(shown), a == b, f"…{line[-_BRIEF:]}")
            for line, a, b in zip(lines, given, right, strict=True)
        ]

    def probe_targets(self, batch: TextChunks) -> ProbeTargets:
        """Return what `text_quantities` says at each character, where the text tells it.

        A batch as wide as a sample is looked up in the corpus, since what came before it counts.
        Left out is what cannot be known: where its own characters give another value, as in a
        string that began before.
        """
        width, found = batch.text.shape[1], []
        texts = self.decode(batch.text)
        for start, text in zip(self._places(batch.text), texts, strict=True):
            own = measure(text)
            if start >= 0:
                whole = self._corpus.measures
                own = {n: _same(v, whole[n][start : start + width]) for n, v in own.items()}
            found.append(own)
        return ProbeTargets({name: np.stack([row[name] for row in found]) for name in found[0]}, {})

    def ngram_bits(
        self, split: Split = "test", num: int = 10_000, seed: int = 0, longest: int = 8
    ) -> tuple[float, ...]:
        """Return the bits per character of n-grams on samples; see `text_ngrams.ngram_bits`."""
        return _ngram_bits(self, split, num, seed, longest)

    @property
    def _corpus(self) -> Corpus:
        """The corpus, if it is the one that this task was made with."""
        corpus = read_corpus(self.path, self.num_characters)
        if corpus.digest != self.digest:  # before 0.5 a byte-order mark was read as a character
            corpus = read_corpus(self.path, self.num_characters, with_mark=True)
        if corpus.digest != self.digest:
            named = self.path or "Python's own library"
            problem = f"{named} now has the digest {corpus.digest!r}, not {self.digest!r}"
            accepted = "the corpus that the task was made with; or a new task, with no digest given"
            raise ConfigError("Text", "digest", problem, accepted)
        self._demand_long_enough(corpus)
        return corpus

    def _demand_long_enough(self, corpus: Corpus) -> None:
        wanted = max(2 * self.block_size, self.length + 1)
        for split, (begin, end) in corpus.parts(self.validation, self.test).items():
            if end - begin < wanted:
                problem = f"leaves {end - begin:,} characters for {split}, of {len(corpus.text):,}"
                accepted = (
                    f"{wanted:,} or more, by a longer corpus, or a shorter block_size and length"
                )
                raise ConfigError("Text", "path", problem, accepted)

    @property
    def _codes(self) -> NDArray[Any]:
        return self._corpus.codes(self.characters)

    @property
    def _visible(self) -> dict[str, str]:
        """What stands for characters that cannot be seen, where it is no character itself."""
        known = set(self.characters)
        return {real: s for real, s in _VISIBLE.items() if real in known and s not in known}

    def _read(self, x: object) -> str:
        """Return what a person typed, checked."""
        if not isinstance(x, str) or not x:
            raise ConfigError(f"input {x!r}", "", "is not text", "text of one character or more")
        text = x.translate({ord(shown): real for real, shown in self._visible.items()})
        for place, character in enumerate(text, start=1):
            if character not in self.characters:
                problem = f"{character!r}, character {place}, is not one that the task knows"
                shown = x if len(x) <= _VIEWED else f"{x[:_VIEWED]}…"
                known = quote_characters(self.characters)
                raise ConfigError(f"input {shown!r}", "", problem, f"any of {known}")
        return text

    def _places(self, codes: NDArray[Any]) -> NDArray[np.int64]:
        """Return where samples (B, T) first stand in the corpus (B,); -1: nowhere, or no sample."""
        nowhere = np.full(len(codes), -1)
        if codes.shape[1] not in (self.length, self.block_size):
            return nowhere
        try:
            corpus = self._corpus
        except ConfigError:  # a trained agent answers without it
            return nowhere
        points = np.array([ord(character) for character in self.characters], np.uint32)
        return corpus.find(points[codes])

    def _after(self, codes: NDArray[Any]) -> NDArray[np.int64]:
        """Return the code after each sample (B,)."""
        ends = self._places(codes) + codes.shape[1]
        found = np.full(len(codes), UNKNOWN, np.int64)
        known = ends >= codes.shape[1]
        if known.any():
            everything = self._codes
            known &= ends < len(everything)
            found[known] = everything[ends[known]]
        return found


def _same(read: NDArray[Any], whole: NDArray[Any]) -> NDArray[Any]:
    """Return the values on which a text and its corpus agree; others are not defined."""
    return np.where(read == whole, whole, -1 if whole.dtype.kind == "i" else np.nan)


@functools.lru_cache(maxsize=8)
def _ngram_bits(task: Text, split: Split, num: int, seed: int, longest: int) -> tuple[float, ...]:
    corpus, codes = task._corpus, task._codes
    begin, end = corpus.parts(task.validation, task.test)["train"]
    batch = task.samples(split, num, seed)
    return ngram_bits(codes[begin:end], batch.text, batch.targets, len(task.characters), longest)
