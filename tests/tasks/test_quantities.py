"""What there is to know of a sum at each step, against loops over its digits."""

from typing import Any

import numpy as np
import pytest

from tasks.addition import Addition

REVERSE = ("none", "input", "target", "both")


def carries_of(sums: list[int]) -> list[int]:
    """Return the carry into each column from 1 on, given the sums of the columns' digits."""
    found, carry = [], 0
    for total in sums:
        carry = (carry + total) // 10
        found.append(carry)
    return found


def known_of(task: Addition, question: str) -> tuple[dict[str, Any], dict[str, Any]]:
    known = task.probe_targets(task.encode([question]))
    assert known.position_keys == ("position", "column")
    assert known.position_keys[0] in known.encoder
    assert known.position_keys[1] in known.decoder
    sides = (known.encoder, known.decoder)
    return tuple({name: values[0].tolist() for name, values in side.items()} for side in sides)


def demand_reading(task: Addition, terms: list[int], reading: dict[str, Any]) -> None:
    """Walk over the question as it is read, and compare what is known at each step."""
    question = "+".join(map(str, terms))
    padded = question.ljust(task.spec.question_length, "\n")
    places = list(range(len(padded)))
    sums = [0] * task.digits
    for step, place in enumerate(places[::-1] if task.reverse in ("input", "both") else places):
        character, is_digit = padded[place], padded[place].isdigit()
        rest = padded[place:].replace("\n", "+").split("+")[0]
        column = len(rest) - 1 if is_digit else -1
        if is_digit:
            sums[column] += int(character)
        assert reading["digit"][step] == (int(character) if is_digit else -1)
        assert reading["column"][step] == column
        assert reading["term"][step] == (padded[:place].count("+") if is_digit else -1)
        position = reading["position"][step]
        assert np.isnan(position) if character == "\n" else position == place
        assert [reading[f"sum of column {k}"][step] for k in range(task.digits)] == sums
        carries = [reading[f"carry into column {k + 1}"][step] for k in range(task.digits)]
        assert carries == carries_of(sums)
        total = sum(value * 10**k for k, value in enumerate(sums))
        assert reading["running total"][step] == total
    assert total == sum(terms)


def demand_writing(task: Addition, terms: list[int], writing: dict[str, Any]) -> None:
    """Walk over the answer as it is written, and compare what is known at each step."""
    answer = str(sum(terms))
    sums = [sum(term // 10**k % 10 for term in terms) for k in range(len(answer))]
    carries = [0, *carries_of(sums)]
    columns = list(range(len(answer)))
    if task.reverse in ("none", "input"):
        columns.reverse()
    columns += [-1] * (task.spec.answer_length - len(answer))
    if task.reverse in ("target", "both"):  # the padding stands at the end of the typed text
        pad = task.spec.answer_length - len(answer)
        columns = columns[-pad:] + columns[:-pad]
    assert writing["column"] == columns
    for step, column in enumerate(columns):
        total = writing["sum of the column"][step]
        assert np.isnan(total) if column < 0 else total == sums[column]
        digit = -1 if column < 0 else int(answer[::-1][column])
        carry = -1 if column < 0 else carries[column]
        assert writing["digit"][step] == digit
        assert writing["carry into the column"][step] == carry
        if column >= 0:
            assert digit == (sums[column] + carry) % 10
    carries += [0] * task.digits
    for k in range(task.digits):
        assert writing[f"carry into column {k + 1}"] == carries[k + 1]


@pytest.mark.parametrize("reverse", REVERSE)
def test_quantities_of_sums(reverse: str) -> None:
    """What is known of a sum at each step agrees with loops over its digits."""
    rng = np.random.default_rng(0)
    for digits, num_terms in ((3, 3), (1, 2), (5, 2), (2, 9), (9, 2)):
        task = Addition(digits=digits, terms=num_terms, reverse=reverse)
        most = 10 ** rng.integers(1, digits + 1, (6, num_terms))
        for terms in [
            *rng.integers(1, most).tolist(),
            [10**digits - 1] * num_terms,
            [1] * num_terms,
        ]:
            reading, writing = known_of(task, "+".join(map(str, terms)))
            demand_reading(task, terms, reading)
            demand_writing(task, terms, writing)
            answer, question = str(sum(terms)), "+".join(map(str, terms))
            sums = [sum(term // 10**k % 10 for term in terms) for k in range(digits + 1)]
            for held in (reading, writing):
                assert held["carries"] == sum(carry > 0 for carry in carries_of(sums))
                assert held["question length"] == len(question)
                assert held["answer length"] == len(answer)


@pytest.mark.parametrize("reverse", REVERSE)
def test_quantities_of_one_sum_by_hand(reverse: str) -> None:
    """123+45+986 = 1154: 14 units, 15 + 1 tens, 10 + 1 hundreds, and a carry into each of three."""
    task = Addition(digits=3, terms=3, reverse=reverse)
    reading, writing = known_of(task, "123+45+986")
    gone = -1
    backwards = reverse in ("input", "both")
    way = slice(None, None, -1) if backwards else slice(None)
    columns = [2, 1, 0, gone, 1, 0, gone, 2, 1, 0, gone, gone]
    terms = [0, 0, 0, gone, 1, 1, gone, 2, 2, 2, gone, gone]
    assert reading["digit"] == [1, 2, 3, gone, 4, 5, gone, 9, 8, 6, gone, gone][way]
    assert reading["column"] == columns[way]
    assert reading["term"] == terms[way]
    np.testing.assert_array_equal(reading["position"], [*range(10), np.nan, np.nan][way])
    totals = [100, 120, 123, 123, 163, 168, 168, 1068, 1148, 1154, 1154, 1154]
    if backwards:
        totals = [0, 0, 6, 86, 986, 986, 991, 1031, 1031, 1034, 1054, 1154]
    assert reading["running total"] == totals
    assert [reading[f"sum of column {k}"][-1] for k in range(3)] == [14, 14, 10]
    for held in (reading, writing):
        assert (held["carries"], held["question length"], held["answer length"]) == (3, 10, 4)
    assert [reading[f"carry into column {k}"][-1] for k in (1, 2, 3)] == [1, 1, 1]
    assert [writing[f"carry into column {k}"] for k in (1, 2, 3)] == [1, 1, 1]
    written = slice(None, None, -1) if reverse in ("target", "both") else slice(None)
    assert writing["digit"] == [1, 1, 5, 4, gone][written]
    assert writing["column"] == [3, 2, 1, 0, gone][written]
    np.testing.assert_array_equal(writing["sum of the column"], [0, 10, 14, 14, np.nan][written])
    assert writing["carry into the column"] == [1, 1, 1, 0, gone][written]
