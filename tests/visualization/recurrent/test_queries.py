"""Match queries: where else the same units are on."""

import re

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from visualization.recurrent.queries import Match, find_matches


def values_with(
    planted: dict[tuple[int, int, int], tuple[int, ...]], shape: tuple[int, int, int]
) -> NDArray[np.float32]:
    """Return zeros with 0.9 at the units of each planted (sample, start, stop)."""
    values = np.zeros(shape, np.float32)
    for (sample, start, stop), units in planted.items():
        values[sample, start:stop, list(units)] = 0.9
    return values


def by_the_rule(
    values: NDArray[np.float32], sample: int, start: int, stop: int, threshold: float
) -> tuple[Match, ...]:
    """Return the matches one window at a time, as the docstring words them."""
    num_samples, num_steps, num_units = values.shape
    length = stop - start

    def units_on(s: int, first: int, last: int) -> set[int]:
        return {u for u in range(num_units) if (values[s, first:last, u] >= threshold).all()}

    selected = units_on(sample, start, stop)
    best: list[tuple[tuple[int, ...], Match]] = []
    for s in range(num_samples):
        ranked = []
        for first in range(num_steps - length + 1):
            last = first + length
            units = units_on(s, first, last)
            shared = units & selected
            if not shared or (s == sample and first < stop and last > start):
                continue
            left, right = first, last
            while left > 0 and shared <= units_on(s, left - 1, left):
                left -= 1
            while right < num_steps and shared <= units_on(s, right, right + 1):
                right += 1
            match = Match(
                sample=s, start=first, stop=last, shared=tuple(sorted(shared)), num_on=len(units),
                run=right - left,
            )  # fmt: skip
            rank = (-len(shared), len(units | selected), left - right, s, first)
            ranked.append((rank, match))
        best += sorted(ranked, key=lambda pair: pair[0])[:1]
    return tuple(match for _, match in sorted(best, key=lambda pair: pair[0]))


def test_planted_units_are_found() -> None:
    """The selection's units and the windows that share them are found, the fullest first."""
    values = values_with(
        {(0, 2, 4): (1, 3, 5), (1, 6, 8): (1, 3), (2, 0, 2): (1, 3, 5), (3, 0, 8): (4,)}, (4, 8, 6)
    )
    matches = find_matches(values, 0, 2, 4)
    assert (matches.sample, matches.start, matches.stop, matches.threshold) == (0, 2, 4, 0.3)
    assert matches.units == (1, 3, 5)
    assert matches.matches == (
        Match(sample=2, start=0, stop=2, shared=(1, 3, 5), num_on=3, run=2),
        Match(sample=1, start=6, stop=8, shared=(1, 3), num_on=2, run=2),
    )


def test_on_means_at_every_step_and_at_the_threshold_itself() -> None:
    """A unit is on at exactly the threshold, and off when one step of the span is below it."""
    values = np.zeros((2, 3, 2))
    values[0, :2], values[0, 1, 1] = 0.5, 0.49
    values[1, 1:, 0] = 0.5
    matches = find_matches(values, 0, 0, 2, threshold=0.5)
    assert matches.units == (0,)
    assert matches.matches == (Match(sample=1, start=1, stop=3, shared=(0,), num_on=1, run=2),)


def test_ties_are_settled_in_the_stated_order() -> None:
    """Equal intersections go by the smallest union, the longest run, the sample, the start."""
    values = values_with(
        {
            (0, 0, 2): (0, 1),
            (1, 0, 3): (0, 1, 2),  # a larger union, though the longer run
            (2, 1, 3): (0, 1),  # the shorter run
            (3, 1, 5): (0, 1),
            (4, 2, 6): (0, 1),  # as good as sample 3, but later
            (5, 0, 6): (0,),  # a smaller intersection
        },
        (6, 6, 3),
    )
    found = find_matches(values, 0, 0, 2).matches
    assert [match.sample for match in found] == [3, 4, 2, 1, 5]
    assert [(match.start, match.run) for match in found] == [(1, 4), (2, 4), (1, 2), (0, 3), (0, 6)]
    assert find_matches(values, 0, 0, 2, num=2).matches == found[:2]


def test_the_selection_does_not_match_itself() -> None:
    """Windows of the selected sample count only where they do not overlap the selection."""
    values = values_with({(0, 0, 9): (0,)}, (1, 9, 2))
    assert find_matches(values, 0, 3, 6).matches == (
        Match(sample=0, start=0, stop=3, shared=(0,), num_on=1, run=9),
    )
    assert find_matches(values, 0, 2, 8).matches == ()


def test_nothing_on_matches_nothing() -> None:
    """A span over which no unit is on has no units and no matches."""
    values = values_with({(1, 0, 4): (0, 1)}, (2, 4, 2))
    matches = find_matches(values, 0, 1, 2)
    assert (matches.units, matches.matches) == ((), ())


@pytest.mark.parametrize("seed", range(6))
def test_every_window_is_ranked_by_the_rule(seed: int) -> None:
    """On random values the answer is that of the rule applied to one window at a time."""
    generator = np.random.default_rng(seed)
    # Few levels, slowly changing: many ties and long runs.
    values = np.repeat(generator.integers(0, 3, (7, 5, 5)), 2, axis=1)[:, :9].astype(np.float32)
    start = int(generator.integers(0, 8))
    stop = start + int(generator.integers(1, min(4, 10 - start)))
    matches = find_matches(torch.from_numpy(values), 3, start, stop, threshold=1)
    assert matches.matches == by_the_rule(values, 3, start, stop, 1)


def test_shuffled_units_change_unit_numbers_only() -> None:
    """Shuffling the units shuffles the numbers of the shared units and nothing else."""
    generator = np.random.default_rng(0)
    values = generator.normal(size=(20, 8, 12))
    order = generator.permutation(12)
    plain, shuffled = (find_matches(v, 4, 2, 4) for v in (values, values[:, :, order]))
    assert len(plain.matches) > 5
    assert plain.units == tuple(sorted(order[list(shuffled.units)]))
    for one, other in zip(plain.matches, shuffled.matches, strict=True):
        assert one.shared == tuple(sorted(order[list(other.shared)]))
        assert (one.sample, one.start, one.stop) == (other.sample, other.start, other.stop)
        assert (one.num_on, one.run) == (other.num_on, other.run)


@pytest.mark.parametrize(
    ("shape", "span", "message"),
    [
        (
            (4, 5),
            (0, 0, 1),
            "values: shape (4, 5) is not accepted; accepted: (sample, time, unit), none of them 0",
        ),
        ((4, 5, 2), (4, 0, 1), "sample: 4 is not accepted; accepted: 0 to 3"),
        ((4, 5, 2), (-1, 0, 1), "sample: -1 is not accepted; accepted: 0 to 3"),
        ((4, 5, 2), (0, -1, 1), "start: -1 is not accepted; accepted: 0 to 4"),
        ((4, 5, 2), (0, 5, 6), "start: 5 is not accepted; accepted: 0 to 4"),
        ((4, 5, 2), (0, 2, 2), "stop: 2 is not accepted; accepted: 3 to 5"),
        ((4, 5, 2), (0, 2, 6), "stop: 6 is not accepted; accepted: 3 to 5"),
    ],
)
def test_impossible_spans_are_refused(
    shape: tuple[int, ...], span: tuple[int, int, int], message: str
) -> None:
    """A span that selects nothing is an error that names the argument, its value, the accepted."""
    with pytest.raises(ValueError, match=re.escape(message)):
        find_matches(np.zeros(shape), *span)


def test_a_match_is_asked_for() -> None:
    """At least one match must be asked for."""
    with pytest.raises(ValueError, match="num: 0 is not accepted; accepted: 1 or more"):
        find_matches(np.zeros((1, 2, 1)), 0, 0, 1, num=0)
