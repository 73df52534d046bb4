"""Comparison of two networks: agreement of answers, and matching of units."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from visualization.core.arrays import as_array, check_shape
from visualization.core.earlier_names import renamed_arguments
from visualization.core.errors import argument_error
from visualization.core.records import brief_repr

_MOST_VALUES = 30  # of a quantity by which answers are grouped one by one
_RANGES = 10  # of one that has more
OUTCOMES = ("both", "only_a", "only_b", "neither")


@attrs.frozen
class GroupAccuracy:
    """Accuracy of A and B on the samples of which a quantity has one value."""

    value: str
    num_samples: int
    right_a: float
    right_b: float


@attrs.frozen(eq=False, field_transformer=brief_repr)
class AnswerAgreement:
    """Agreement of A's and B's answers to the same N questions.

    Attributes:
        names: of the two.
        outcome: of each question the index in `OUTCOMES` (N,).
        p_value: of McNemar's test (1947) that both are right equally often, exact (binomial).
        groups: by quantity, the shares right for each of its values.
        labels: of each question, for the lists of examples; may be empty.
    """

    names: tuple[str, str]
    outcome: NDArray[np.int64]
    p_value: float
    groups: Mapping[str, tuple[GroupAccuracy, ...]]
    labels: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many questions both, only A, only B and neither got right: sums to N."""
        return {name: int((self.outcome == number).sum()) for number, name in enumerate(OUTCOMES)}

    def examples(self, outcome: str, num: int = 8) -> list[str]:
        """Return labels of the first questions of a corner."""
        numbers = np.flatnonzero(self.outcome == OUTCOMES.index(outcome))[:num]
        return [self.labels[number] for number in numbers] if self.labels else []


@renamed_arguments(places="positions", what_places="position_name")
def compare_answers(
    right_a: ArrayLike | Tensor,
    right_b: ArrayLike | Tensor,
    *,
    groups: Mapping[str, ArrayLike] | None = None,
    positions: tuple[ArrayLike, ArrayLike] | None = None,
    position_name: str = "position in the answer",
    labels: Sequence[str] = (),
    names: tuple[str, str] = ("A", "B"),
) -> AnswerAgreement:
    """Answer agreement of A and B on N questions, with McNemar's test.

    Args:
        right_a: whether A was right (N,).
        right_b: whether B was right (N,).
        groups: quantities by name (N,), such as the number of carries; shares are given per value,
            or for ten ranges of about as many questions each if there are more than 30 numbers.
        positions: whether each place of A's and B's answers was right, both (N, P), such as their
            columns; NaN: the answer has no such place.
        position_name: a name for them.
        labels: of each question.
        names: of A and B.

    Raises:
        ValueError: names the argument that does not fit.
    """
    a, b = (
        _right(group_values, name)
        for group_values, name in ((right_a, "right_a"), (right_b, "right_b"))
    )
    check_shape("right_b", b.shape, a.shape, "right_a")
    if len(labels):
        check_shape("labels", (len(labels),), a.shape, "right_a")
    accuracy_by_group = {}
    for name, values in (groups or {}).items():
        group_values = as_array(values, f"group {name!r}", ("sample",))
        check_shape(f"group {name!r}", group_values.shape, a.shape, "right_a")
        accuracy_by_group[name] = tuple(
            GroupAccuracy(value, int(mask.sum()), float(a[mask].mean()), float(b[mask].mean()))
            for value, mask in _values(name, group_values).items()
        )
    if positions is not None:
        each = [as_array(p, "positions", ("sample", "position")).astype(float) for p in positions]
        check_shape("positions", each[1].shape, each[0].shape, "A's")
        check_shape("positions", each[0].shape[:1], a.shape, "right_a")
        counts = [(~np.isnan(p)).sum(axis=0) for p in each]
        shares = [np.nansum(p, axis=0) / n.clip(1) for p, n in zip(each, counts, strict=True)]
        accuracy_by_group[position_name] = tuple(
            GroupAccuracy(str(mask), int(num), float(shares[0][mask]), float(shares[1][mask]))
            for mask, num in enumerate(np.maximum(*counts)) if num
        )  # fmt: skip
    outcome = np.where(a & b, 0, np.where(a, 1, np.where(b, 2, 3)))
    p_value = mcnemar(int((outcome == 1).sum()), int((outcome == 2).sum()))
    return AnswerAgreement(names, outcome, p_value, accuracy_by_group, tuple(labels))


def _values(name: str, values: NDArray[Any]) -> dict[str, NDArray[np.bool_]]:
    """Return who has each value, or a value of each range; NaN is a value of its own."""
    is_nan = values != values
    distinct = np.unique(values[~is_nan])
    if len(distinct) <= _MOST_VALUES:
        masks = {str(value): values == value for value in distinct}
    elif values.dtype.kind not in "iuf":
        problem = f"{len(distinct)} different words"
        raise argument_error(f"group {name!r}", problem, f"at most {_MOST_VALUES}, or numbers")
    else:
        ends = np.unique(np.quantile(values[~is_nan], np.linspace(0, 1, _RANGES + 1)))
        range_index = np.searchsorted(ends[1:-1], values, side="right")
        ranges = [(range_index == number) & ~is_nan for number in range(len(ends) - 1)]
        masks = {f"{values[r].min():.4g}–{values[r].max():.4g}": r for r in ranges if r.any()}
    return masks | ({"nan": is_nan} if is_nan.any() else {})


def _right(answers: ArrayLike | Tensor, name: str) -> NDArray[np.bool_]:
    array = as_array(answers, name, ("sample",))
    if not np.isin(array, (0, 1)).all():
        raise argument_error(name, "not only true and false", "whether each answer is right")
    return array.astype(bool)


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the exact two-sided p-value that A and B are right equally often (McNemar 1947)."""
    if only_a + only_b == 0:
        return 1.0
    from scipy.stats import binomtest  # a second, seldom needed

    return float(binomtest(only_a, only_a + only_b).pvalue)


@attrs.frozen(eq=False, field_transformer=brief_repr)
class UnitMatch:
    """Unit matching: correlations of A's units (U) with B's (V) over the same samples and steps.

    Attributes:
        correlations: Pearson's r (U, V); 0 for a unit that never changes.
        pairs: one-to-one assignment of the largest total |r|, the most alike pair first (min(U,
            V), 2).
        chance: |r| of such an assignment with B's samples shuffled, falling (min(U, V),): what the
            common course over time alone gives.
        names: of the two.
    """

    correlations: NDArray[np.float64]
    pairs: NDArray[np.int64]
    chance: NDArray[np.float64]
    names: tuple[str, str] = ("A", "B")

    @property
    def matched(self) -> NDArray[np.float64]:
        """|r| of each pair, falling."""
        return np.abs(self.correlations[self.pairs[:, 0], self.pairs[:, 1]])


def match_units(
    a: ArrayLike | Tensor,
    b: ArrayLike | Tensor,
    *,
    defined: ArrayLike | None = None,
    names: tuple[str, str] = ("A", "B"),
    seed: int = 0,
) -> UnitMatch:
    """Unit matching: one-to-one assignment of A's units to B's by correlation.

    Args:
        a: activity (sample, time, unit).
        b: activity (sample, time, unit) at the same moments of the same samples.
        defined: which moments count (sample, time); None: all.
        names: of A and B.
        seed: of the shuffling.

    Raises:
        ValueError: names the argument that does not fit.
    """
    axes = ("sample", "time", "unit")
    first, second = as_array(a, "a", axes, finite=True), as_array(b, "b", axes, finite=True)
    check_shape("b", second.shape[:2], first.shape[:2], "a")
    counts = np.ones(first.shape[:2], bool) if defined is None else np.asarray(defined, bool)
    check_shape("defined", counts.shape, first.shape[:2], "a")
    order = np.random.default_rng(seed).permutation(len(second))
    correlations = _correlations(first[counts], second[counts])
    pairs = _assign(correlations)
    counts_too = counts & counts[order]
    by_chance = _correlations(first[counts_too], second[order][counts_too])
    chance_pairs = _assign(by_chance)
    return UnitMatch(
        correlations, pairs, np.abs(by_chance[chance_pairs[:, 0], chance_pairs[:, 1]]), names
    )


def _correlations(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Return Pearson's r of the columns of a (N, U) and b (N, V)."""
    unit: list[NDArray[Any]] = []
    if not len(a):
        return np.zeros((a.shape[1], b.shape[1]))
    for values in (a, b):
        centred = values.astype(np.float64) - values.mean(axis=0, dtype=np.float64)
        norm = np.sqrt((centred**2).sum(axis=0))
        unit.append(centred / np.where(norm > 1e-9 * max(norm.max(), 1e-30), norm, np.inf))
    return np.asarray(unit[0].T @ unit[1])


def _assign(correlations: NDArray[Any]) -> NDArray[np.int64]:
    """Return the one-to-one pairs of the largest total |r|, the largest |r| first."""
    from scipy.optimize import linear_sum_assignment  # half a second, seldom needed

    rows, columns = linear_sum_assignment(-np.abs(correlations))
    order = np.argsort(-np.abs(correlations[rows, columns]), kind="stable")
    return np.stack([rows[order], columns[order]], axis=1)
