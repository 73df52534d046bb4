"""Linear probes and unit correlations of recurrent states, by time step, with a control."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from visualization.core.arrays import as_array, check_quantity, check_shape
from visualization.core.errors import check_share
from visualization.core.records import brief_repr
from visualization.core.statistics import fit_class_sets, fit_numbers

_MOST_ROWS = 4000  # of a probe over all steps at once
FEWEST_ROWS = 60  # of any probe, the held-out rows included
_RIDGE = 1e-3
_Column = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]


@attrs.frozen(kw_only=True, eq=False, field_transformer=brief_repr)
class ProbeTable:
    """Linear probes: Q quantities, T time steps and, as column T, all steps at once; U units.

    T is 0 where steps were not probed one by one.

    Attributes:
        quantities: their names.
        categorical: whether each is a category (else a number) (Q,).
        scores: of a linear probe on held-out samples (Q, T + 1): the share of right categories, or
            R² of numbers; NaN where the quantity does not vary, or is defined in fewer than 60
            samples, or in fewer than 10 of those fitted on or of those held out.
        controls: the same with the labels of other samples at the same step: what a probe finds in
            what the step alone tells, and in nothing.
        correlations: of each unit with each quantity at each step (Q, T + 1, U): Pearson's r of
            numbers, in [-1, 1]; the correlation ratio η of categories, in [0, 1]; NaN as above.
        units: a name of each unit, by default its number (U,).
        num_samples: how many there were.
        held_out: share of them that no probe was fitted on.
    """

    quantities: tuple[str, ...]
    categorical: NDArray[np.bool_]
    scores: NDArray[np.float64]
    controls: NDArray[np.float64]
    correlations: NDArray[np.float64]
    units: tuple[str, ...]
    num_samples: int
    held_out: float

    @property
    def gains(self) -> NDArray[np.float64]:
        """What the probe finds of what the control leaves to find, in [0, 1] (Q, T + 1).

        A control below 0 (R² of numbers) is worse than their mean and counts as 0: what finds no
        more than the mean finds nothing.
        """
        controls = np.maximum(self.controls, 0.0)
        remainder = np.maximum(1 - controls, 1e-9)
        gains: NDArray[np.float64] = np.clip((self.scores - controls) / remainder, 0.0, 1.0)
        return gains

    def best_units(self, quantity: str, num: int = 5) -> list[tuple[str, int, float]]:
        """Return the units most correlated with a quantity: name, step, correlation.

        Step T means all steps at once.
        """
        row = np.nan_to_num(self.correlations[self.quantities.index(quantity)])
        steps = np.abs(row).argmax(axis=0)
        strongest = row[steps, np.arange(row.shape[1])]
        units = np.argsort(-np.abs(strongest), kind="stable")[:num]
        return [(self.units[unit], int(steps[unit]), float(strongest[unit])) for unit in units]


def probe_states(
    states: ArrayLike | Tensor,
    quantities: Mapping[str, ArrayLike],
    *,
    units: Sequence[str] | None = None,
    by_step: bool = True,
    held_out: float = 0.3,
    seed: int = 0,
) -> ProbeTable:
    """Linear probes of states: one for each quantity at each time step, and one for all at once.

    Categories are read by multinomial logistic regression, numbers by ridge regression, both on
    standardised units. The control is the same probe on labels shuffled over the samples (in the
    spirit of Hewitt & Liang 2019, 1909.03368): a score that the control reaches says nothing.

    Args:
        states: (sample, time, unit), such as `trace.h[0]` or `trace.state()`.
        quantities: by name (sample, time), or (sample,) for what holds at every step. Integers and
            booleans are categories (negative: undefined), floats are numbers (NaN: undefined).
        units: a name of each unit; None: their numbers.
        by_step: False: all steps at once only, where the same step of two samples has nothing in
            common, such as columns of images of lines.
        held_out: share of the samples that score the probes.
        seed: of the split and the shuffling.

    Raises:
        ValueError: names the argument that does not fit.
    """
    array = as_array(states, "states", ("sample", "time", "unit"), finite=True).astype(np.float64)
    check_share(held_out, "held_out")
    rng = np.random.default_rng(seed)
    tested = rng.permutation(len(array)) < held_out * len(array)
    shuffled = rng.permutation(len(array))
    labels = {name: _labels(name, values, array) for name, values in quantities.items()}
    shape = (len(labels), array.shape[1] * by_step + 1)
    scores, controls = np.full(shape, np.nan), np.full(shape, np.nan)
    correlations = np.full((*shape, array.shape[2]), np.nan)
    all_columns = [_columns(array, v, shuffled, tested, by_step) for v in labels.values()]
    for column, of_column in enumerate(zip(*all_columns, strict=True)):
        for rows in _with_equal_states(of_column):
            x, _, _, test = of_column[rows[0]]
            pairs = [np.stack(of_column[row][1:3]) for row in rows]
            for row, pair, both in zip(rows, pairs, heldout_scores(x, pairs, test), strict=True):
                scores[row, column], controls[row, column] = both
                correlations[row, column] = correlation(x, pair[0])
    kinds = np.array([values.dtype.kind != "f" for values in labels.values()], bool)
    names = tuple(units or map(str, range(array.shape[2])))
    check_shape("units", (len(names),), array.shape[2:], "states")
    return ProbeTable(
        quantities=tuple(labels), categorical=kinds, scores=scores, controls=controls,
        correlations=correlations, units=names, num_samples=len(array), held_out=held_out,
    )  # fmt: skip


def correlate_units(
    states: ArrayLike | Tensor, quantities: Mapping[str, ArrayLike]
) -> NDArray[np.float64]:
    """Return the correlation of each unit with each quantity (Q, T + 1, U), as in `ProbeTable`."""
    array = as_array(states, "states", ("sample", "time", "unit"), finite=True).astype(np.float64)
    correlations = np.full((len(quantities), array.shape[1] + 1, array.shape[2]), np.nan)
    everyone = np.ones(len(array), bool)
    for row, (name, values) in enumerate(quantities.items()):
        label_values = _labels(name, values, array)
        columns = _columns(array, label_values, np.arange(len(array)), everyone)
        for column, (x, y, _, _) in enumerate(columns):
            if len(y) >= FEWEST_ROWS and len(np.unique(y)) > 1:
                correlations[row, column] = correlation(x, y)
    return correlations


def _labels(name: str, values: ArrayLike, states: NDArray[Any]) -> NDArray[Any]:
    labels = np.asarray(values)
    if labels.ndim == 1:
        labels = np.repeat(labels[:, None], states.shape[1], axis=1)
    check_shape(f"quantity {name!r}", labels.shape, states.shape[:2], "states")
    check_quantity(f"quantity {name!r}", labels)
    return labels.astype(np.float64 if labels.dtype.kind == "f" else np.int64)


def _columns(
    states: NDArray[Any],
    labels: NDArray[Any],
    shuffled: NDArray[Any],
    tested: NDArray[Any],
    by_step: bool = True,
) -> Iterator[_Column]:
    """Yield states, labels, shuffled labels and who is tested, for each step and then for all."""
    defined = ~np.isnan(labels) if labels.dtype.kind == "f" else labels >= 0
    everyone = np.broadcast_to(tested[:, None], labels.shape)
    for step in range(labels.shape[1] * by_step):
        samples_of_step = np.flatnonzero(defined[:, step])
        y = labels[samples_of_step, step]
        yield (
            states[samples_of_step, step],
            y,
            y[np.argsort(shuffled[samples_of_step])],
            tested[samples_of_step],
        )
    # For all steps at once the control gives each sample the labels of another at the same step.
    samples, steps = np.nonzero(defined & defined[shuffled])
    indices = np.arange(len(samples))
    if len(indices) > _MOST_ROWS:
        indices = np.random.default_rng(0).choice(indices, _MOST_ROWS, replace=False)
    samples, steps = samples[indices], steps[indices]
    control = labels[shuffled[samples], steps]
    yield states[samples, steps], labels[samples, steps], control, everyone[samples, steps]


def can_be_probed(y: NDArray[Any], test: NDArray[Any]) -> bool:
    """Tell whether labels (N,) are enough to fit and to score, and vary in both parts."""
    if len(y) < FEWEST_ROWS or len(y[test]) < 10 or len(y[~test]) < 10:
        return False
    if y.dtype.kind == "f":
        return bool(np.ptp(y[~test]) > 0 and np.ptp(y[test]) > 0)
    return len(np.unique(y[~test])) > 1 and len(np.unique(y[test])) > 1


def _with_equal_states(columns: Sequence[_Column]) -> list[list[int]]:
    """Return the numbers of the columns that can be probed, those with the same rows together."""
    groups: list[list[int]] = []
    for number, (x, y, _, test) in enumerate(columns):
        if not can_be_probed(y, test):
            continue
        for group in groups:
            if np.array_equal(columns[group[0]][3], test) and np.array_equal(
                columns[group[0]][0], x
            ):
                group.append(number)
                break
        else:
            groups.append([number])
    return groups


def heldout_scores(
    x: NDArray[Any], labelings: Sequence[NDArray[Any]], test: NDArray[Any]
) -> list[NDArray[np.float64]]:
    """Return the held-out scores (P,) of each of several sets of labels (P, N) of states (N, U).

    All categories are fitted at once, which shares their products, and so are all numbers.
    """
    mean, spread = x[~test].mean(axis=0), x[~test].std(axis=0)
    scaled = (x - mean) / np.where(spread > 1e-12, spread, 1.0)
    features = np.concatenate([scaled, np.ones((len(x), 1))], axis=1)
    fitted, held_out = features[~test], features[test]
    numbers = [labels for labels in labelings if labels.dtype.kind == "f"]
    codes_of = [_codes(labels) for labels in labelings if labels.dtype.kind != "f"]
    sets = [(codes[:, ~test], int(codes.max()) + 1) for codes in codes_of]
    class_weights = iter(fit_class_sets(fitted, sets, _RIDGE) if sets else [])
    all_codes = iter(codes_of)
    all_numbers = iter(_scores_of_numbers(fitted, held_out, numbers, test))
    return [
        next(all_numbers)
        if labels.dtype.kind == "f"
        else _score_of_classes(held_out, next(class_weights), next(all_codes)[:, test])
        for labels in labelings
    ]


def _codes(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Return the number of each label among the distinct ones, in the shape of the labels."""
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int64)


def _score_of_classes(
    features: NDArray[Any], weights: NDArray[Any], codes: NDArray[Any]
) -> NDArray[np.float64]:
    """Return the share of right answers (P,) of classifiers (P, F, K) on codes (P, N)."""
    answers = (features @ weights).argmax(axis=-1)
    return np.asarray((answers == codes).mean(axis=1))


def _scores_of_numbers(
    fitted: NDArray[Any], held_out: NDArray[Any], numbers: Sequence[NDArray[Any]],
    test: NDArray[Any],
) -> list[NDArray[np.float64]]:  # fmt: skip
    """Return R² (P,) of ridge regressions of each of several sets of numbers (P, N)."""
    if not numbers:
        return []
    together = np.concatenate(numbers)
    truth = together[:, test]
    answers = held_out @ fit_numbers(fitted, together[:, ~test], _RIDGE)
    errors = ((answers - truth.T) ** 2).sum(axis=0)
    spreads = ((truth - truth.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    return np.split(
        1 - errors / np.maximum(spreads, 1e-12), np.cumsum([len(each) for each in numbers])[:-1]
    )


def correlation(x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
    """Return Pearson's r of each column of x (N, U) with numbers y, or η with categories y (N,)."""
    centred = x - x.mean(axis=0)
    spread = (centred**2).sum(axis=0)
    scale = np.where(spread > 1e-18 * max(float(spread.max()), 1e-30), spread, np.inf)
    if y.dtype.kind == "f":
        deviations = y - y.mean()
        return np.asarray(deviations @ centred / np.sqrt(scale * (deviations**2).sum()))
    _, codes = np.unique(y, return_inverse=True)
    members = np.eye(codes.max() + 1)[codes]
    sums = members.T @ centred
    between = (sums**2 / members.sum(axis=0)[:, None]).sum(axis=0)
    return np.asarray(np.sqrt(np.clip(between / scale, 0.0, 1.0)))
