"""The addition task: its texts, its splits, its errors."""

import itertools

import numpy as np
import pytest

import tasks
from tasks.addition import Addition
from tasks.core.settings import ConfigError


def as_text(task: Addition, codes: np.ndarray) -> list[str]:
    """Return arrays of codes as text, padding included."""
    return [task.charset.decode(row) for row in codes]


@pytest.mark.parametrize(
    ("reverse", "question", "answer"),
    [
        ("none", "7+80+999\n\n\n\n", "1086\n"),
        ("input", "\n\n\n\n999+08+7", "1086\n"),
        ("target", "7+80+999\n\n\n\n", "\n6801"),
        ("both", "\n\n\n\n999+08+7", "\n6801"),
    ],
)
def test_texts_are_padded_and_reversed(reverse: str, question: str, answer: str) -> None:
    """Texts are left aligned, padded with newlines, and the whole padded text is reversed."""
    task = tasks.make("add3x3", reverse=reverse)
    batch = task.encode(["7+80+999"])
    assert as_text(task, batch.question) == [question]
    assert as_text(task, batch.answer) == [answer]
    assert task.decode(batch.answer) == ["1086"]
    assert task.rows(batch.answer, batch)[0].question == "7+80+999"


@pytest.mark.parametrize("name", ["add1x2", "add3x2", "add4x5", "add9x9"])
def test_encoding_equals_a_plain_loop(name: str) -> None:
    """The vectorised encoding writes what Python's own strings say, for every size of sum."""
    task = tasks.make(name, reverse="none")
    batch = task.samples("train", 300)
    spec = task.spec
    for question, answer in zip(
        as_text(task, batch.question), as_text(task, batch.answer), strict=True
    ):
        terms = [int(term) for term in question.strip().split("+")]
        assert question == "+".join(map(str, terms)).ljust(spec.question_length, "\n")
        assert answer == str(sum(terms)).ljust(spec.answer_length, "\n")
        assert all(1 <= term < 10**task.digits for term in terms)
        assert question.endswith("\n")
        assert answer.endswith("\n")


def test_every_order_of_the_terms_is_in_one_split() -> None:
    """All sums of add2x2, in both orders, belong to one split each; the shares are as asked."""
    task = tasks.make("add2x2", validation=0.2, test=0.1)
    pairs = np.array(list(itertools.combinations_with_replacement(range(1, 100), 2)))
    forward, backward = task._split_of(pairs), task._split_of(pairs[:, ::-1])
    np.testing.assert_array_equal(forward, backward)
    shares = np.bincount(forward) / len(pairs)
    np.testing.assert_allclose(shares, [0.7, 0.2, 0.1], atol=0.02)


@pytest.mark.parametrize("num_samples", [0, 1000])
def test_training_never_sees_a_withheld_sum(num_samples: int) -> None:
    """Over epochs and seeds, no sum of the training batches is withheld, in any order."""
    task = tasks.make("add2x2", num_samples=num_samples)
    seen: dict[str, set[tuple[int, ...]]] = {}
    for split in ("train", "validation", "test"):
        batches = [b for seed, epoch in ((0, 0), (1, 3)) for b in
                   itertools.islice(task.batches(split, 500, seed, epoch), 3)]  # fmt: skip
        rows = [row for b in batches for row in task.rows(b.answer, b)]
        seen[split] = {tuple(sorted(map(int, r.question.split("+")))) for r in rows}
    assert not seen["train"] & (seen["validation"] | seen["test"])
    assert not seen["validation"] & seen["test"]


def test_a_fixed_set_has_its_size_and_no_sum_twice() -> None:
    """num_samples counts different sums, a tenth of them for validation, each once an epoch."""
    task = tasks.make("add3x2", num_samples=2000)
    (train,) = task.batches("train", 10_000, 0, 0)
    validation = task.samples("validation", 10_000)
    sums = [
        tuple(sorted(map(int, row.question.split("+"))))
        for batch in (train, validation)
        for row in task.rows(batch.answer, batch)
    ]
    assert (len(train.question), len(validation.question)) == (1800, 200)
    assert len(set(sums)) == 2000


def test_a_small_space_gives_what_it_has() -> None:
    """Asking for more different sums than there are gives all: no split of add1x2 is empty."""
    sizes = [len(tasks.make("add1x2").samples(split, 10**4).answer) for split in
             ("train", "validation", "test")]  # fmt: skip
    assert sum(sizes) == 45
    assert min(sizes) > 0


def test_lengths_are_drawn_evenly() -> None:
    """Numbers of one, two and three digits are equally frequent."""
    task = tasks.make("add3x2")
    batch = next(task.batches("train", 30_000, 0, 0))
    lengths = [len(t) for row in task.rows(batch.answer, batch) for t in row.question.split("+")]
    np.testing.assert_allclose(np.bincount(lengths)[1:] / 60_000, 1 / 3, atol=0.01)


def test_scores_are_exact_match_and_token_accuracy() -> None:
    """One wrong character of four answers of five characters: 3/4 exact, 19/20 of the tokens."""
    task = tasks.make("add3x2")
    batch = task.encode(["1+2", "30+4", "5+600", "999+1"])
    answers = batch.answer.copy()
    answers[3, 0] += 1
    assert task.score(answers, batch) == {"exact_match": 0.75, "token_accuracy": 0.95}
    assert [row.correct for row in task.rows(answers, batch)] == [True, True, True, False]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("12+", "the term ''"),
        ("1+2+3", "3 terms"),
        ("1234+5", "the term '1234'"),
        ("0+5", "the term '0'"),
        ("007+5", "the term '007'"),
        ("12-5", "'-' is neither a digit nor a plus"),
        ("12 +5", "' ' is neither a digit nor a plus"),
        ("", "1 terms"),
        ("²+5", "'²' is neither a digit"),
    ],
)
def test_bad_sums_are_named(text: str, words: str) -> None:
    """A sum that the task does not have is an error that says what is wrong and what is right."""
    with pytest.raises(ConfigError) as caught:
        tasks.make("add3x2").encode([text])
    assert words in str(caught.value)
    assert "a+b, each an integer from 1 to 999" in str(caught.value)


def test_outer_spaces_are_no_error() -> None:
    """Spaces around a typed sum mean nothing."""
    task = tasks.make("add3x2")
    assert task.decode(task.encode(["  12+5 "]).answer) == ["17"]


@pytest.mark.parametrize("num_samples", [0, 1000])
def test_shorter_sums_are_shown_than_are_asked(num_samples: int) -> None:
    """With train_digits no longer term is trained or validated on; the test has every length."""
    task = tasks.make("add4x2", train_digits=2, num_samples=num_samples)
    assert task.spec == tasks.make("add4x2").spec
    for split, longest in (("train", 2), ("validation", 2), ("test", 4)):
        batches = [*itertools.islice(task.batches(split, 500, 0, 0), 2), task.samples(split, 100)]
        lengths = [
            len(term)
            for batch in batches
            for row in task.rows(batch.answer, batch)
            for term in row.question.split("+")
        ]
        assert set(lengths) == set(range(1, longest + 1)), split
    plain = next(tasks.make("add4x2").batches("train", 50, 0, 0))
    whole = next(tasks.make("add4x2", train_digits=4).batches("train", 50, 0, 0))
    np.testing.assert_array_equal(plain.question, whole.question)
    np.testing.assert_array_equal(
        task.samples("test", 50).question, tasks.make("add4x2").samples("test", 50).question
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"train_digits": 4}, "train_digits: 4 is more than the digits of add3x2; accepted: 1 to"),
        (
            {"train_digits": 1, "num_samples": 1000},
            "num_samples: 1000 different sums cannot be comb",
        ),
        ({"train_digits": 1, "test": 0.01}, "test: 0.01 of the 45 sums of add3x2 are too few"),
    ],
)
def test_lengths_that_cannot_be_shown_are_refused(settings: dict[str, object], words: str) -> None:
    """More digits than the task has, and more sums than short terms make, are errors."""
    with pytest.raises(ConfigError, match=words):
        tasks.make("add3x2", **settings)
