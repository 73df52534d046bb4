r"""Sums of positive integers, as text: the question `123+45+6` has the answer `174`.

Texts are padded with newlines to a fixed length, and always end in at least one; the newline also
begins every answer that a decoder writes. With `reverse=input` the padded question is read from
its end, as in Sutskever et al. 2014 (1409.3215, section 3.3) and Keras' `addition_rnn`:

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
from tasks.core.task import BatchRequest, ProbeTargets, Row, Split, Task, TextPairs, TextToText

CHARSET = Charset("\n+0123456789")
PLUS, ZERO = 1, 2  # codes
FRESH_EPOCH = 50_000  # samples that count as one epoch when every sample is fresh
_FEWEST = 4  # sums that a withheld split should have
_DRAWS_PER_SAMPLE = 100  # how long to look for different sums in a small space

Numbers = NDArray[np.int64]


@attrs.frozen(kw_only=True)
class Addition(Task):
    """Add `terms` positive integers of 1 to `digits` digits; lengths are drawn evenly.

    With `train_digits` longer sums are asked than were shown, in a field that has room for them.
    """

    digits: int = setting(3, "most digits of a term", ge=1, le=9)
    terms: int = setting(2, "number of terms", ge=2, le=9)
    train_digits: int | None = setting(
        None, "most digits of a term in training and validation; null: digits, as in the test", ge=1
    )
    reverse: Literal["none", "input", "target", "both"] = setting(
        "input", "which texts are read from their end"
    )
    num_samples: int = setting(
        0, "different sums for training and validation; 0: fresh ones at every step", ge=0
    )
    validation: float = setting(0.1, "share of the sums withheld for validation", gt=0.0, le=0.5)
    test: float = setting(0.1, "share of the sums wholly withheld for the test", gt=0.0, le=0.4)
    data_seed: int = setting(0, "chooses the sums of a fixed set and the withheld samples", ge=0)

    def __attrs_post_init__(self) -> None:
        """Refuse a fixed set that some split has not the sums for, and splits without a sum."""
        if self.train_digits is not None and self.train_digits > self.digits:
            problem = f"{self.train_digits} is more than the digits of {self.name}"
            raise ConfigError("task", "train_digits", problem, f"1 to {self.digits}, or null")
        sums = math.comb(10 ** self.digits_in("train") - 2 + self.terms, self.terms)
        for name in ("validation", "test"):
            if getattr(self, name) * sums < _FEWEST:
                problem = f"{getattr(self, name)} of the {sums} sums of {self.name} are too few"
                raise ConfigError("task", name, problem, f"a share of at least {_FEWEST / sums}")
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
        """Return the most digits that a term has in a split.

        Validation has those of training, so that the best of a run is not chosen by what it was
        never shown.
        """
        return self.digits if split == "test" else self.train_digits or self.digits

    @property
    def charset(self) -> Charset:
        """The characters of questions and answers."""
        return CHARSET

    @property
    def spec(self) -> TextToText:
        """Sizes: every text has room for its longest form and one newline."""
        largest = self.terms * (10**self.digits - 1)
        question_length = self.terms * (self.digits + 1)
        return TextToText(CHARSET.characters, question_length, len(str(largest)) + 1)

    @property
    def monitor(self) -> tuple[str, Literal["max", "min"]]:
        """The share of answers that are right as a whole."""
        return "exact_match", "max"

    @property
    def num_stages(self) -> int:
        """One: sums are learned at their full length from the start."""
        return 1

    def for_display(self) -> "Addition":
        """The task itself: sums are short."""
        return self

    def num_samples_in(self, split: Split) -> int:
        """Return the samples of one pass; fresh training counts 50,000 as one."""
        fixed = self.num_samples
        validation = round(fixed * self.validation)
        if split == "train":
            return fixed - validation if fixed else FRESH_EPOCH
        return validation if fixed and split == "validation" else FRESH_EPOCH

    def iter_batches(self, request: BatchRequest) -> Iterator[TextPairs]:
        """Yield the batches of one epoch; see `Task.batches`."""
        pairs, order = _epoch(self, request.split, request.seed, request.epoch)
        for part in request.slices(len(order)):
            yield TextPairs(pairs.question[order[part]], pairs.answer[order[part]])

    def samples(self, split: Split, num: int, seed: int = 0) -> TextPairs:
        """Return at most `num` different sums of a split, fewer where there are fewer.

        Another seed gives other sums, except of a fixed set's own training and validation sums.
        """
        fixed = self.num_samples > 0 and split != "test"
        pairs = _fixed(self, split) if fixed else self._to_pairs(self._distinct(split, num, seed))
        return TextPairs(*(array[:num] for array in pairs))

    def encode(self, x: Sequence[str]) -> TextPairs:
        """Return typed sums such as `["123+45+6"]` as a batch that has their right answers."""
        return self._to_pairs(np.array([self._parse(text) for text in x], np.int64))

    def decode(self, answers: NDArray[Any]) -> list[str]:
        """Return answers of shape (batch, answer_length) as text up to the first newline."""
        ordered = answers[:, ::-1] if self.reverse in ("target", "both") else answers
        texts = (CHARSET.decode(codes) for codes in ordered)
        return [text.strip("\n").split("\n")[0] for text in texts]

    def score(self, answers: NDArray[Any], targets: TextPairs) -> dict[str, float]:
        """Return `exact_match`, the share of whole answers that are right, and `token_accuracy`.

        Token accuracy counts every position, the padding too, as Keras' `accuracy` does.
        """
        right = answers == targets.answer
        return {
            "exact_match": float(right.all(axis=1).mean()),
            "token_accuracy": float(right.mean()),
        }

    def rows(self, answers: NDArray[Any], targets: TextPairs) -> list[Row]:
        """Return each sum, the answer given and the right one."""
        question = targets.question
        backwards = self.reverse in ("input", "both")
        questions = (CHARSET.decode(q[::-1] if backwards else q).strip("\n") for q in question)
        rights = (answers == targets.answer).all(axis=1)
        columns = zip(
            questions, self.decode(answers), self.decode(targets.answer), rights, strict=True
        )
        return [Row(q, a, t, bool(r)) for q, a, t, r in columns]

    def probe_targets(self, batch: TextPairs) -> ProbeTargets:
        """Return what a person keeps in mind while adding; columns count from the units, 0.

        Reading: `digit`, its `column` and `term`, the `position` in the typed text; and of what was
        read so far, the `running total`, the `sum of` each `column` and the `carry into` the next.
        Writing: the `digit`, its `column`, that column's `sum` and the `carry` into it, and every
        carry. Throughout: how many columns get a carry, and the lengths of question and answer.
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
        throughout = {
            "carries": (carries[:, -1, 1:] > 0).sum(axis=1),
            "question length": (batch.question > 0).sum(axis=1),
            "answer length": (batch.answer > 0).sum(axis=1),
        }
        reading = {"digit": digit, "column": column, "term": term, "position": position}
        reading["running total"] = sums @ 10.0 ** np.arange(self.digits)
        reading |= {f"sum of column {k}": sums[..., k].astype(np.float64) for k in places}
        reading |= {f"carry into column {k + 1}": carries[..., k + 1] for k in places}
        writing = self._while_writing(batch, sums[:, -1], carries[:, -1])
        return ProbeTargets(
            reading | throughout, writing | throughout, position_keys=("position", "column")
        )

    def _while_writing(
        self, batch: TextPairs, sums: NDArray[Any], carries: NDArray[Any]
    ) -> dict[str, NDArray[Any]]:
        """Return the quantities of each place of the answer."""
        lengths = (batch.answer > 0).sum(axis=1)[:, None]
        places = np.arange(batch.answer.shape[1])[None]  # in the text as a person writes it
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

    def _draw(self, num: int, digits: int, rng: np.random.Generator) -> Numbers:
        lengths = rng.integers(1, digits + 1, (num, self.terms))
        return rng.integers(10 ** (lengths - 1), 10**lengths)

    def _split_of(self, numbers: Numbers) -> NDArray[np.int64]:
        """Return 0, 1, 2 for train, validation, test: the sum itself decides, in any order."""
        share = _hash(numbers) / 2.0**64
        return (share < self.validation + self.test).astype(np.int64) + (share < self.test)

    def _stream(self, split: Split, num: int, rng: np.random.Generator) -> Iterator[Numbers]:
        """Yield chunks of sums that belong to a split, without end."""
        wanted = ("train", "validation", "test").index(split)
        while True:
            numbers = self._draw(num, self.digits_in(split), rng)
            yield numbers[self._split_of(numbers) == wanted]

    def _distinct(self, split: Split, num: int, seed: int) -> Numbers:
        """Return the first `num` different sums of a split's stream, or all that turn up."""
        rng = np.random.default_rng([seed, self.data_seed, *map(ord, split)])
        found = np.empty((0, self.terms), np.int64)
        draws = max(num, 1000)
        for drawn, chunk in enumerate(self._stream(split, draws, rng), start=1):
            found = np.concatenate([found, chunk])
            _, first = np.unique(_hash(found), return_index=True)
            found = found[np.sort(first)]
            if len(found) >= num or drawn >= _DRAWS_PER_SAMPLE:
                break
        return found[:num]

    def _fresh(self, split: Split, num: int, rng: np.random.Generator) -> Numbers:
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
    """Return sums (batch, terms) as codes (batch, width): left aligned, padded with code 0."""
    rest: NDArray[Any] = numbers.astype(np.int32 if digits < 10 else np.int64)
    lengths = np.ones_like(rest)
    for place in range(1, digits):
        lengths += rest >= 10**place
    ends = np.cumsum(lengths + 1, axis=1) - 1  # where the plus after each term stands
    codes = np.zeros((len(rest), width + 1), np.uint8)  # the last column takes what is left over
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
    """Return digit, column from the units, and term at each place of typed codes; -1 elsewhere."""
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
    """Return one number per sum (batch, terms), whatever the order of its terms."""
    state = np.full(len(numbers), 10, np.uint64)  # 10 leaves no split of add1x2 empty
    for column in np.sort(numbers, axis=1).T.astype(np.uint64):
        state = mix64(state ^ column)
    return state


@functools.lru_cache(maxsize=8)
def _fixed(task: Addition, split: Split) -> TextPairs:
    num = task.num_samples_in(split)
    return task._to_pairs(task._distinct(split, num, seed=0))


@functools.lru_cache(maxsize=2)
def _epoch(
    task: Addition, split: Split, seed: int, epoch: int
) -> tuple[TextPairs, NDArray[np.int64]]:
    """Return the samples of an epoch and the order in which they are taken."""
    rng = np.random.default_rng([seed, task.data_seed, epoch, *map(ord, split)])
    if task.num_samples:
        pairs = _fixed(task, split)
        return pairs, rng.permutation(len(pairs.question))
    pairs = task._to_pairs(task._fresh(split, FRESH_EPOCH, rng))
    return pairs, np.arange(FRESH_EPOCH)
