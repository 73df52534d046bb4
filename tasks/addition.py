r"""Addition of positive integers as text: the question `123+45+6` has the answer `174`.

Texts are padded with newlines to a fixed length, with at least one newline at the end; the newline
is also the start symbol of a decoder. With `reverse=input` the padded question is reversed, as in
Sutskever et al. 2014 (1409.3215, section 3.3) and Keras' `addition_rnn`:

>>> from tasks.addition import Addition
>>> task = Addition(digits=3, terms=2, reverse="input")
>>> question = task.encode(["12+345"]).question
>>> question.tolist()  # codes are positions in "\n+0123456789"
[[0, 0, 7, 6, 5, 1, 4, 3]]
>>> task.charset.decode(question[0])
'\n\n543+21'
"""

import functools
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core.charset import Charset
from tasks.core.hashing import mix64
from tasks.core.settings import ConfigError, setting
from tasks.core.task import (
    EPOCH_SAMPLES,
    SPLITS,
    BatchRequest,
    ProbeTargets,
    Row,
    Split,
    Task,
    TextPairs,
    TextToText,
)

CHARSET = Charset("\n+0123456789")
PLUS, ZERO = 1, 2  # codes
_MIN_SUMS = 4  # least number of sums in a withheld split
_DRAWS_PER_SAMPLE = 100  # limit of the search for different sums in a small space

Numbers = NDArray[np.int64]


@attrs.frozen(kw_only=True)
class Addition(Task):
    """Addition of `terms` positive integers of 1 to `digits` digits; lengths are uniform.

    With `train_digits` the test has longer sums than the training data (length generalisation); the
    fields of both have the size of the longer ones.
    """

    digits: int = setting(3, "largest number of digits of a term", ge=1, le=9)
    terms: int = setting(2, "number of terms of a sum", ge=2, le=9)
    train_digits: int | None = setting(
        None,
        "largest number of digits of a term in training and validation; null: digits",
        ge=1,
    )
    reverse: Literal["none", "input", "target", "both"] = setting(
        "input", "which texts are reversed"
    )
    num_samples: int = setting(
        0, "different sums for training and validation; 0: new ones at every step", ge=0
    )
    validation: float = setting(0.1, "share of all sums withheld for validation", gt=0.0, le=0.5)
    test: float = setting(0.1, "share of all sums withheld for the test", gt=0.0, le=0.4)
    data_seed: int = setting(0, "random seed of the sums", ge=0)

    def __attrs_post_init__(self) -> None:
        """Check that every split has enough different sums."""
        if self.train_digits is not None and self.train_digits > self.digits:
            problem = f"{self.train_digits} is more than the digits of {self.name}"
            raise ConfigError("task", "train_digits", problem, f"1 to {self.digits}, or null")
        sums = math.comb(10 ** self.digits_in("train") - 2 + self.terms, self.terms)
        for name in ("validation", "test"):
            if getattr(self, name) * sums < _MIN_SUMS:
                problem = f"{getattr(self, name)} of the {sums} sums of {self.name} are too few"
                raise ConfigError("task", name, problem, f"a share of at least {_MIN_SUMS / sums}")
        train = 1 - self.validation - self.test
        most = int(sums * min(train / (1 - self.validation), 1.0) / 2)
        fewest = math.ceil(1 / self.validation)
        if self.num_samples and not fewest <= self.num_samples <= most:
            problem = f"{self.num_samples} different sums cannot be combined with {self.name}"
            accepted = f"0, or an integer from {fewest} to {most}"
            raise ConfigError("task", "num_samples", problem, accepted)

    @property
    def name(self) -> str:
        """The registered name."""
        return f"add{self.digits}x{self.terms}"

    def digits_in(self, split: Split) -> int:
        """Return the largest number of digits of a term in a split.

        Validation has that of training: the best checkpoint is not chosen by longer sums.
        """
        return self.digits if split == "test" else self.train_digits or self.digits

    @property
    def charset(self) -> Charset:
        """The characters of questions and answers."""
        return CHARSET

    @property
    def spec(self) -> TextToText:
        """Sizes: every field has room for the longest text and one newline."""
        largest = self.terms * (10**self.digits - 1)
        question_length = self.terms * (self.digits + 1)
        return TextToText(CHARSET.characters, question_length, len(str(largest)) + 1)

    @property
    def monitor(self) -> tuple[str, Literal["max", "min"]]:
        """Exact match."""
        return "exact_match", "max"

    def num_samples_in(self, split: Split) -> int:
        """Return the number of samples per pass; 50,000 if every sample is new."""
        num = self.num_samples
        validation = round(num * self.validation)
        if split == "train":
            return num - validation if num else EPOCH_SAMPLES
        return validation if num and split == "validation" else EPOCH_SAMPLES

    def iter_batches(self, request: BatchRequest) -> Iterator[TextPairs]:
        """Yield the batches of one epoch; see `Task.batches`."""
        pairs, order = _epoch(self, request.split, request.seed, request.epoch)
        for part in request.slices(len(order)):
            yield TextPairs(pairs.question[order[part]], pairs.answer[order[part]])

    def samples(self, split: Split, num: int, seed: int = 0) -> TextPairs:
        """Return at most `num` different sums of a split, fewer if the split has fewer.

        Another seed gives other sums, except for the training and validation splits of a fixed set.
        """
        is_fixed = self.num_samples > 0 and split != "test"
        pairs = (
            _fixed_set(self, split)
            if is_fixed
            else self._to_pairs(self._distinct(split, num, seed))
        )
        return TextPairs(*(array[:num] for array in pairs))

    def encode(self, x: Sequence[str]) -> TextPairs:
        """Encode sums such as `["123+45+6"]` as a batch with their right answers."""
        return self._to_pairs(np.array([self._parse(text) for text in x], np.int64))

    def decode(self, answers: NDArray[Any]) -> list[str]:
        """Decode answers of shape (batch, answer_length) to text, up to the first newline."""
        ordered = answers[:, ::-1] if self.reverse in ("target", "both") else answers
        texts = (CHARSET.decode(codes) for codes in ordered)
        return [text.strip("\n").split("\n")[0] for text in texts]

    def score(self, answers: NDArray[Any], targets: TextPairs) -> dict[str, float]:
        """Return `exact_match`, the share of right answers, and `token_accuracy`.

        Token accuracy counts every position, also padding, as Keras' `accuracy` does.
        """
        is_right = answers == targets.answer
        return {
            "exact_match": float(is_right.all(axis=1).mean()),
            "token_accuracy": float(is_right.mean()),
        }

    def rows(self, answers: NDArray[Any], targets: TextPairs) -> list[Row]:
        """Return question, predicted answer and right answer of each sum."""
        question = targets.question
        backwards = self.reverse in ("input", "both")
        questions = (CHARSET.decode(q[::-1] if backwards else q).strip("\n") for q in question)
        is_right = (answers == targets.answer).all(axis=1)
        columns = zip(
            questions, self.decode(answers), self.decode(targets.answer), is_right, strict=True
        )
        return [Row(q, a, t, bool(r)) for q, a, t, r in columns]

    def probe_targets(self, batch: TextPairs) -> ProbeTargets:
        """Return the intermediate results of addition; columns are numbered from the units, 0.

        Encoder: `digit`, its `column` and `term`, the `position` in the text as typed; and of what
        was read so far, the `running total`, the `sum of` each `column` and the `carry into` the
        next. Decoder: the `digit`, its `column`, the `sum` of that column, the `carry` into it, and
        every carry. Constant: the number of carries, and the lengths of question and answer.
        """
        backwards = self.reverse in ("input", "both")
        typed = batch.question[:, ::-1] if backwards else batch.question
        digit, column, term = _digits(typed)
        position = np.where(typed > 0, np.arange(typed.shape[1]), np.nan)
        places = range(self.digits)
        if backwards:
            digit, column, term, position = (a[:, ::-1] for a in (digit, column, term, position))
        of_column = np.stack([np.where(column == k, digit, 0) for k in places], axis=-1)
        sums = of_column.cumsum(axis=1)
        carries = _carries(sums)
        constant = {
            "carries": (carries[:, -1, 1:] > 0).sum(axis=1),
            "question length": (batch.question > 0).sum(axis=1),
            "answer length": (batch.answer > 0).sum(axis=1),
        }
        encoder = {"digit": digit, "column": column, "term": term, "position": position}
        encoder["running total"] = sums @ 10.0 ** np.arange(self.digits)
        encoder |= {f"sum of column {k}": sums[..., k].astype(np.float64) for k in places}
        encoder |= {f"carry into column {k + 1}": carries[..., k + 1] for k in places}
        decoder = self._decoder_targets(batch, sums[:, -1], carries[:, -1])
        return ProbeTargets(
            encoder | constant, decoder | constant, position_keys=("position", "column")
        )

    def _decoder_targets(
        self, batch: TextPairs, sums: NDArray[Any], carries: NDArray[Any]
    ) -> dict[str, NDArray[Any]]:
        """Return the probe targets of each position of the answer."""
        lengths = (batch.answer > 0).sum(axis=1)[:, None]
        places = np.arange(batch.answer.shape[1])[None]  # in the text as written
        if self.reverse in ("target", "both"):
            places = places[:, ::-1]
        column = np.maximum(lengths - 1 - places, -1)
        wide = np.pad(sums, ((0, 0), (0, carries.shape[1] - sums.shape[1])))
        samples = np.arange(len(column))[:, None]
        digit = np.where(column >= 0, batch.answer.astype(np.int64) - ZERO, -1)
        return {
            "digit": digit,
            "column": column,
            "sum of the column": np.where(column >= 0, wide[samples, column], np.nan),
            "carry into the column": np.where(column >= 0, carries[samples, column], -1),
            **{f"carry into column {k + 1}": carries[:, k + 1] for k in range(self.digits)},
        }

    def _parse(self, text: str) -> list[int]:
        shape = "+".join(["a", "b", "c", "d", "e", "f", "g", "h", "i"][: self.terms])
        form = f"{shape}, each an integer from 1 to {10**self.digits - 1} without leading zeros"
        place = f"input {text!r}"
        if not isinstance(text, str):
            raise ConfigError(place, "", f"is of type {type(text).__name__}", f"text: {form}")
        strange = re.search(r"[^0-9+]", text.strip())
        if strange:
            problem = f"{strange[0]!r} is neither a digit nor a plus"
            raise ConfigError(place, "", problem, form)
        terms = text.strip().split("+")
        if len(terms) != self.terms:
            raise ConfigError(place, "", f"{len(terms)} terms", form)
        for term in terms:
            if not re.fullmatch(rf"[1-9][0-9]{{0,{self.digits - 1}}}", term):
                raise ConfigError(place, "", f"the term {term!r}", form)
        return [int(term) for term in terms]

    def _random_sums(self, num: int, digits: int, rng: np.random.Generator) -> Numbers:
        lengths = rng.integers(1, digits + 1, (num, self.terms))
        return rng.integers(10 ** (lengths - 1), 10**lengths)

    def _split_of(self, numbers: Numbers) -> NDArray[np.int64]:
        """Return 0, 1, 2 for train, validation, test, by a hash that ignores the order of terms."""
        share = _hash(numbers) / 2.0**64
        return (share < self.validation + self.test).astype(np.int64) + (share < self.test)

    def _stream(self, split: Split, num: int, rng: np.random.Generator) -> Iterator[Numbers]:
        """Yield arrays of sums of a split, endlessly."""
        code = SPLITS.index(split)
        while True:
            numbers = self._random_sums(num, self.digits_in(split), rng)
            yield numbers[self._split_of(numbers) == code]

    def _distinct(self, split: Split, num: int, seed: int) -> Numbers:
        """Return the first `num` different sums of a split's stream, or as many as are found."""
        rng = np.random.default_rng([seed, self.data_seed, *map(ord, split)])
        sums = np.empty((0, self.terms), np.int64)
        draws = max(num, 1000)
        for num_chunks, chunk in enumerate(self._stream(split, draws, rng), start=1):
            sums = np.concatenate([sums, chunk])
            _, first = np.unique(_hash(sums), return_index=True)
            sums = sums[np.sort(first)]
            if len(sums) >= num or num_chunks >= _DRAWS_PER_SAMPLE:
                break
        return sums[:num]

    def _new_sums(self, split: Split, num: int, rng: np.random.Generator) -> Numbers:
        chunks: list[Numbers] = []
        for chunk in self._stream(split, num, rng):
            chunks.append(chunk)
            if sum(map(len, chunks)) >= num:
                break
        return np.concatenate(chunks)[:num]

    def _to_pairs(self, numbers: Numbers) -> TextPairs:
        spec = self.spec
        question = _write(numbers, self.digits, spec.question_length)
        answer = _write(numbers.sum(axis=1, keepdims=True), spec.answer_length, spec.answer_length)
        if self.reverse in ("input", "both"):
            question = question[:, ::-1]
        if self.reverse in ("target", "both"):
            answer = answer[:, ::-1]
        return TextPairs(np.ascontiguousarray(question), np.ascontiguousarray(answer))


def _write(numbers: Numbers, digits: int, width: int) -> NDArray[np.uint8]:
    """Encode sums (batch, terms) as codes (batch, width): left aligned, padded with code 0."""
    rest: NDArray[Any] = numbers.astype(np.int32 if digits < 10 else np.int64)
    lengths = np.ones_like(rest)
    for place in range(1, digits):
        lengths += rest >= 10**place
    ends = np.cumsum(lengths + 1, axis=1) - 1  # position of the plus after each term
    codes = np.zeros((len(rest), width + 1), np.uint8)  # the last column is a dummy
    samples = np.arange(len(rest))[:, None]
    for place in range(digits):
        above = rest // 10
        codes[samples, np.where(place < lengths, ends - 1 - place, width)] = (
            rest - 10 * above + ZERO
        )
        rest = above
    codes[samples, ends[:, :-1]] = PLUS
    return codes[:, :width]


def _digits(typed: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return digit, column from the units, and term at each position of codes; -1 elsewhere."""
    is_digit = typed >= ZERO
    column = np.full(typed.shape, -1)
    for place in range(typed.shape[1] - 1, -1, -1):
        after = column[:, place + 1] if place + 1 < typed.shape[1] else np.full(len(typed), -1)
        column[:, place] = np.where(is_digit[:, place], after + 1, -1)
    term = np.where(is_digit, (typed == PLUS).cumsum(axis=1), -1)
    return np.where(is_digit, typed.astype(np.int64) - ZERO, -1), column, term


def _carries(sums: NDArray[Any]) -> NDArray[np.int64]:
    """Return the carry into each column (…, digits + 2), given the sums of each column's digits."""
    carries = np.zeros((*sums.shape[:-1], sums.shape[-1] + 2), np.int64)
    for column in range(sums.shape[-1]):
        carries[..., column + 1] = (sums[..., column] + carries[..., column]) // 10
    return carries


def _hash(numbers: Numbers) -> NDArray[np.uint64]:
    """Return a hash of each sum (batch, terms) that ignores the order of the terms."""
    state = np.full(len(numbers), 10, np.uint64)  # 10 leaves no split of add1x2 empty
    for column in np.sort(numbers, axis=1).T.astype(np.uint64):
        state = mix64(state ^ column)
    return state


@functools.lru_cache(maxsize=8)
def _fixed_set(task: Addition, split: Split) -> TextPairs:
    num = task.num_samples_in(split)
    return task._to_pairs(task._distinct(split, num, seed=0))


@functools.lru_cache(maxsize=2)
def _epoch(
    task: Addition, split: Split, seed: int, epoch: int
) -> tuple[TextPairs, NDArray[np.int64]]:
    """Return the samples of an epoch and their order."""
    rng = np.random.default_rng([seed, task.data_seed, epoch, *map(ord, split)])
    if task.num_samples:
        pairs = _fixed_set(task, split)
        return pairs, rng.permutation(len(pairs.question))
    pairs = task._to_pairs(task._new_sums(split, EPOCH_SAMPLES, rng))
    return pairs, np.arange(EPOCH_SAMPLES)
