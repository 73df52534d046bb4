"""Probes, correlations, paths and comparisons against planted answers and other libraries."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge

from visualization import render
from visualization.core.statistics import fit_classes, fit_numbers
from visualization.recurrent import (
    ProbeTable,
    classify_units,
    compare_answers,
    correlate_units,
    match_units,
    probe_states,
    state_paths,
)
from visualization.representation.comparison import mcnemar
from visualization.representation.probes import correlation

NUM, STEPS, UNITS = 400, 3, 6


def planted() -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
    """Return states (N, T, U) and what is in them, linearly or not, or not at all."""
    rng = np.random.default_rng(0)
    states = rng.normal(size=(NUM, STEPS, UNITS))
    kind = rng.integers(0, 3, (NUM, STEPS))
    states[..., 2] = np.where(kind == 2, 8.0, 0.0) + 0.5 * states[..., 2]
    states[..., 3] = np.where(kind == 1, 8.0, 0.0) + 0.5 * states[..., 3]
    number = 3.0 * states[..., 0] - states[..., 1] + 7.0
    known = {
        "category": kind,
        "number": number,
        "flag": states[..., 4] > 0,
        "xor": (states[..., 0] > 0) ^ (states[..., 1] > 0),
        "noise": rng.integers(0, 4, (NUM, STEPS)),
        "noisy number": rng.normal(size=(NUM, STEPS)),
        "throughout": states[:, 1, 5],
        "same category": np.ones((NUM, STEPS), int),
        "same number": np.ones((NUM, STEPS)),
    }
    return states, known


def test_states_that_are_no_numbers_are_refused() -> None:
    """Of a diverged network every analysis says where the first NaN is, and gives nothing."""
    values = np.zeros((80, 3, 2))
    values[5, 1, 0] = np.nan
    analyses: list[Callable[[], object]] = [
        lambda: probe_states(values, {"a": np.zeros(80, int)}),
        lambda: classify_units(values, np.zeros((80, 3), int)),
        lambda: state_paths(values, "a", np.zeros(80)),
        lambda: match_units(values, values),
    ]
    for analyse in analyses:
        with pytest.raises(ValueError, match="nan at sample 5, time 1, unit 0; accepted: finite"):
            analyse()


def test_probes_find_what_is_planted_and_nothing_else() -> None:
    """Linear quantities are read, XOR is at chance, noise at the control's level, constants NaN."""
    states, known = planted()
    table = probe_states(torch.tensor(states), known, seed=1)
    rows = dict(zip(table.quantities, table.scores, strict=True))
    controls = dict(zip(table.quantities, table.controls, strict=True))
    gains = dict(zip(table.quantities, table.gains, strict=True))
    for name in ("category", "number"):
        assert (rows[name] > 0.99).all()
        assert (gains[name] > 0.98).all()
    assert (rows["flag"] > 0.9).all()
    np.testing.assert_allclose(rows["xor"], 0.5, atol=0.13)
    np.testing.assert_allclose(rows["noise"], 0.25, atol=0.1)
    np.testing.assert_allclose(rows["noise"], controls["noise"], atol=0.13)
    np.testing.assert_allclose(controls["category"], 1 / 3, atol=0.13)
    for name in ("noisy number", "throughout"):
        assert (rows[name][[0, 2]] < 0.1).all()
    assert rows["throughout"][1] > 0.99
    assert (np.concatenate([controls[n] for n in ("number", "noisy number")]) < 0.1).all()
    for name in ("same category", "same number"):
        assert np.isnan(rows[name]).all()
        assert np.isnan(table.correlations[table.quantities.index(name)]).all()
    kinds = dict(zip(table.quantities, table.categorical, strict=True))
    assert not any(kinds[n] for n in ("number", "noisy number", "throughout", "same number"))
    assert all(kinds[n] for n in ("category", "flag", "xor", "noise", "same category"))
    again = probe_states(states, known, seed=1)
    np.testing.assert_array_equal(again.scores, table.scores)


def test_steps_that_mean_nothing_are_probed_together_alone() -> None:
    """Without the steps one by one the table is the last column of the whole table."""
    rng = np.random.default_rng(0)
    states = rng.normal(size=(90, 4, 3))
    planted = {"first unit": states[..., 0], "sign": (states[..., 1] > 0).astype(int)}
    whole, together = (probe_states(states, planted, by_step=by_step) for by_step in (True, False))
    assert together.scores.shape == (2, 1)
    np.testing.assert_array_equal(together.scores, whole.scores[:, -1:])
    np.testing.assert_array_equal(together.correlations, whole.correlations[:, -1:])
    assert "(all)" in render.text(together)


def test_a_probe_worse_than_the_mean_gains_nothing() -> None:
    """R² below 0 is no gain however low its control; above, what a control of 0 leaves to find."""
    scores = np.array([[-3.94, -0.33, 0.5, 0.6, np.nan], [0.6, 0.4, 1.0, 0.5, np.nan]])
    controls = np.array([[-7.07, -7.0, -1.0, 0.2, np.nan], [0.5, 0.5, 0.5, 0.0, np.nan]])
    kinds = np.array([False, True])
    correlations = np.zeros((2, 5, 3))
    table = ProbeTable(
        quantities=("number", "kind"), categorical=kinds, scores=scores, controls=controls,
        correlations=correlations, units=("0", "1", "2"), num_samples=70, held_out=0.3,
    )  # fmt: skip
    wanted = [[0, 0, 0.5, 0.5, np.nan], [0.2, 0, 1, 0.5, np.nan]]
    np.testing.assert_allclose(table.gains, wanted)


def test_the_text_says_why_there_is_no_probe() -> None:
    """Of too few samples no probe is fitted, and the table of words says that it is for that."""
    states, known = planted()
    table = probe_states(states[:59, :1], {"flag": known["flag"][:59, :1]})
    assert np.isnan(table.scores).all()
    assert "flag  " in render.text(table)
    assert "too few samples with a value (60 are needed), or always the same" in render.text(table)


def test_best_units_are_the_planted_ones() -> None:
    """The units in which something was planted come first, with step, name and sign."""
    states, known = planted()
    names = [f"unit {k}" for k in range(UNITS)]
    table = probe_states(
        states, {k: known[k] for k in ("number", "throughout", "flag")}, units=names
    )
    first, second = table.best_units("number", 2)
    assert (first[0], second[0]) == ("unit 0", "unit 1")
    assert first[2] > 0.9
    assert second[2] < -0.2
    assert table.best_units("throughout", 1)[0][:2] == ("unit 5", 1)
    assert table.best_units("flag", 1)[0][0] == "unit 4"
    assert len(table.best_units("flag", 99)) == UNITS


def test_undefined_entries_are_ignored() -> None:
    """Spoiling states where a quantity is undefined changes none of its scores."""
    states, known = planted()
    gone = np.random.default_rng(2).random((NUM, STEPS)) < 0.3
    given = {
        "category": np.where(gone, -1, known["category"]),
        "number": np.where(gone, np.nan, known["number"]),
    }
    spoiled = np.where(gone[..., None], 1e3, states)
    found, other = (probe_states(values, given) for values in (states, spoiled))
    np.testing.assert_array_equal(found.scores, other.scores)
    np.testing.assert_array_equal(found.correlations, other.correlations)
    assert (found.scores > 0.99).all()
    never = {"category": np.full((NUM, STEPS), -3), "number": np.full((NUM, STEPS), np.nan)}
    assert np.isnan(probe_states(states, never).scores).all()


def test_no_sample_is_both_learned_from_and_tested() -> None:
    """Labels that only a sample seen before would give away are not read, at all steps together."""
    rng = np.random.default_rng(0)
    mark = rng.normal(size=(200, 1, 150))  # so wide that a probe could know each sample by heart
    states = np.repeat(mark, 6, axis=1) + 0.01 * rng.normal(size=(200, 6, 150))
    table = probe_states(states, {"lot": rng.integers(0, 2, 200)})
    assert table.scores[0, -1] < 0.7
    assert (table.scores[0] > 0.3).all()


def test_correlations_are_pearsons_and_correlation_ratios() -> None:
    """Of numbers numpy's r, of categories the root of the share of variance between them."""
    states, known = planted()
    x = states[:, 0]
    r = [np.corrcoef(x[:, unit], known["number"][:, 0])[0, 1] for unit in range(UNITS)]
    np.testing.assert_allclose(correlation(x, known["number"][:, 0]), r)
    codes = known["category"][:, 0]
    fitted = np.stack([x[codes == code].mean(axis=0) for code in codes])
    eta = fitted.std(axis=0) / x.std(axis=0)
    np.testing.assert_allclose(correlation(x, codes), eta)
    found = correlate_units(states, {"number": known["number"], "category": codes})
    np.testing.assert_allclose(found[:, 0], [r, eta])
    flat = states.reshape(-1, UNITS)
    whole = np.corrcoef(flat.T, known["number"].ravel())[-1, :-1]
    np.testing.assert_allclose(found[0, -1], whole)
    still = correlation(np.ones((9, 2)), np.arange(9.0))
    np.testing.assert_array_equal(still, 0)


def test_fits_are_those_of_scikit_learn() -> None:
    """The ridge is the closed form; the logistic probe answers as scikit-learn's does."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(600, 9))
    features = np.concatenate([x, np.ones((600, 1))], axis=1)
    targets = rng.normal(size=(2, 600)) + x[:, 0]
    weights = fit_numbers(features, targets, 1e-3)
    ridge = Ridge(alpha=1e-3 * 600).fit(x, targets.T)
    np.testing.assert_allclose(weights[:-1], ridge.coef_.T, atol=1e-7)
    np.testing.assert_allclose(weights[-1], ridge.intercept_, atol=1e-7)
    codes = (x @ rng.normal(size=(9, 4)) + 2 * rng.gumbel(size=(600, 4))).argmax(axis=1)
    train = slice(400)
    own = fit_classes(features[train], codes[None, train], 4, 1e-3)[0]
    oracle = LogisticRegression(C=1 / (1e-3 * 400), max_iter=2000, tol=1e-8).fit(
        x[train], codes[train]
    )
    logits = features @ own
    odds = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(odds, oracle.predict_proba(x), atol=5e-3)
    score = (logits.argmax(axis=1) == codes)[400:].mean()
    assert score == pytest.approx(oracle.score(x[400:], codes[400:]), abs=0.011)


def test_probes_of_little_data() -> None:
    """Too few samples, one sample, one unit and states that stand still give no error."""
    states, known = planted()
    for num in (1, 2, 15, 59):
        few = {name: values[:num] for name, values in known.items()}
        table = probe_states(states[:num], few)
        assert np.isnan(table.scores[:, :-1]).all()
        first = {name: values[:, 0] for name, values in few.items() if values.ndim == 2}
        assert np.isnan(correlate_units(states[:num, :1], first)).all()
    one = probe_states(states[:, :1, :1], {"number": known["number"][:, 0]})
    assert one.scores.shape == (1, 2)
    np.testing.assert_array_equal(one.scores[:, 0] > 0.7, True)
    still = probe_states(np.ones((NUM, STEPS, 2)), {"category": known["category"]})
    np.testing.assert_allclose(still.scores, 1 / 3, atol=0.13)
    np.testing.assert_array_equal(still.correlations, 0)
    assert probe_states(states, {}).scores.shape == (0, STEPS + 1)


def test_errors_of_probes() -> None:
    """Shapes, types and shares that do not fit are ValueErrors that name the argument."""
    states, known = planted()
    bad: list[tuple[Any, dict[str, Any], dict[str, Any], str]] = [
        (states[0], {}, {}, r"states: shape \(3, 6\) .* \(sample, time, unit\)"),
        (
            states,
            {"a": known["flag"][:9]},
            {},
            r"quantity 'a': shape \(9, 3\) .* accepted: \(400, 3\)",
        ),
        (states, {"a": np.full((NUM, STEPS), "x")}, {}, "quantity 'a': values of type <U1"),
        (states, {}, {"held_out": 1.0}, "held_out: 1.0 is not accepted"),
        (states, {}, {"units": ["a"]}, r"units: shape \(1,\) .* accepted: \(6,\)"),
    ]
    for given, quantities, settings, message in bad:
        with pytest.raises(ValueError, match=message):
            probe_states(given, quantities, **settings)


def test_paths_are_principal_components() -> None:
    """Points and shares equal scikit-learn's PCA up to sign, and the sign is a fixed one."""
    states, known = planted()
    found = state_paths(torch.tensor(states), "category", known["category"], 3)
    flat = states.reshape(-1, UNITS)
    oracle = PCA(3).fit(flat)
    points = oracle.transform(flat)
    own = found.points.reshape(-1, 3)
    np.testing.assert_allclose(np.abs(own), np.abs(points), atol=1e-9)
    np.testing.assert_allclose(found.explained, oracle.explained_variance_ratio_)
    axes = np.linalg.lstsq(flat - flat.mean(0), own, rcond=None)[0]
    assert (axes[np.abs(axes).argmax(axis=0), range(3)] > 0).all()
    backwards = state_paths(states[::-1], "category", known["category"][::-1], 3)
    np.testing.assert_allclose(backwards.points[::-1], found.points, atol=1e-9)
    turned = state_paths(-states, "category", known["category"], 3).points
    np.testing.assert_allclose(turned, -found.points, atol=1e-9)
    assert found.quantity == "category"
    single = state_paths(np.ones((1, 1, 1)), "a", [0], 1)
    np.testing.assert_array_equal(single.points, 0)
    np.testing.assert_array_equal(single.colors, [[0]])
    for colors, message in (
        (
            np.full((NUM, STEPS), "word"),
            "colors: values of type <U4 are not accepted; accepted: int",
        ),
        (np.full((NUM, STEPS), np.inf), "colors: inf is not accepted; accepted: numbers, or NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            state_paths(states, "word", colors)
    with pytest.raises(
        ValueError, match="num_components: 7 is not accepted; accepted: 1 to the 6 units"
    ):
        state_paths(states, "a", known["flag"], 7)


def test_overlap_of_two() -> None:
    """Both, only A, only B and neither make N; exchanging A and B exchanges corners, keeps p."""
    rng = np.random.default_rng(0)
    a, b = rng.random(500) < 0.7, rng.random(500) < 0.6
    carries = rng.integers(0, 4, 500)
    labels = [f"question {k}" for k in range(500)]
    found = compare_answers(a, torch.tensor(b), groups={"carries": carries}, labels=labels)
    counts = [(a & b).sum(), (a & ~b).sum(), (~a & b).sum(), (~a & ~b).sum()]
    assert list(found.counts.values()) == counts
    assert sum(found.counts.values()) == 500
    assert found.p_value == pytest.approx(binomtest(counts[1], counts[1] + counts[2]).pvalue)
    groups = found.groups["carries"]
    assert [group.value for group in groups] == ["0", "1", "2", "3"]
    assert sum(group.num_samples for group in groups) == 500
    for value, group in enumerate(groups):
        at = carries == value
        assert (group.right_a, group.right_b) == (a[at].mean(), b[at].mean())
    wanted = [labels[k] for k in np.flatnonzero(a & ~b)[:8]]
    assert found.examples("only_a") == wanted
    other = compare_answers(b, a, labels=labels)
    assert other.p_value == found.p_value
    assert list(other.counts.values()) == [counts[k] for k in (0, 2, 1, 3)]
    assert other.examples("only_b") == wanted
    assert compare_answers(a, a).p_value == 1
    assert mcnemar(5, 1) == pytest.approx(2 * (1 + 6) / 2**6)
    alone = compare_answers([True], [True])
    assert (alone.counts["both"], alone.p_value, alone.examples("both")) == (1, 1, [])


def test_groups_and_places_of_overlap() -> None:
    """Undefined values are a group of their own; of places only those that answers have count."""
    gone = np.nan
    found = compare_answers([1, 0, 1, 1], [1, 1, 0, 1], groups={"x": [1.0, gone, 2.0, gone]})
    assert [(g.value, g.num_samples) for g in found.groups["x"]] == [
        ("1.0", 1),
        ("2.0", 1),
        ("nan", 2),
    ]
    assert (found.groups["x"][2].right_a, found.groups["x"][2].right_b) == (0.5, 1)
    places = ([[1, gone, gone], [0, 1, gone]], [[gone, 1, gone], [1, 0, gone]])
    found = compare_answers([1, 1], [1, 1], positions=places, position_name="column")
    shares = [(g.value, g.right_a, g.right_b) for g in found.groups["column"]]
    assert shares == [("0", 0.5, 1), ("1", 1, 0.5)]
    with pytest.raises(ValueError, match=r"right_b: shape \(3,\) does not go with right_a"):
        compare_answers([1, 0], [1, 0, 1])
    with pytest.raises(ValueError, match=r"group 'x': shape \(1,\) .* accepted: \(2,\)"):
        compare_answers([1, 0], [1, 0], groups={"x": [1]})


def test_matched_units_are_the_permuted_ones() -> None:
    """A permutation with signs is found exactly, also beside constant units; shuffling hides it."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=(300, 4, 7))
    order, signs = rng.permutation(7), np.array([1, -1, 1, 1, -1, -1, 1])
    b = (a * signs)[..., order] * 3 + 5
    found = match_units(torch.tensor(a), b)
    np.testing.assert_allclose(found.matched, 1)
    assert {(int(u), int(v)) for u, v in found.pairs} == {(int(u), v) for v, u in enumerate(order)}
    np.testing.assert_allclose(found.correlations[order, range(7)], signs[order])
    assert (found.chance < 0.15).all()
    assert (np.diff(found.chance) <= 0).all()
    still = np.concatenate([a, np.full((300, 4, 1), 2.0)], axis=-1)
    other = match_units(still, b)
    np.testing.assert_allclose(other.matched, 1)
    np.testing.assert_array_equal(other.correlations[7], 0)
    np.testing.assert_allclose(match_units(still, still).matched, [1] * 7 + [0], atol=1e-12)


def test_matching_counts_only_what_is_defined() -> None:
    """Undefined moments have no effect, and no defined moment at all leaves no correlation."""
    rng = np.random.default_rng(1)
    a = rng.normal(size=(60, 5, 3))
    defined = rng.random((60, 5)) < 0.6
    b = np.where(defined[..., None], a, 99.0)
    np.testing.assert_allclose(match_units(a, b, defined=defined).matched, 1)
    assert match_units(a, b).matched.max() < 0.9
    np.testing.assert_array_equal(match_units(a, b, defined=defined & False).matched, 0)
    course = np.repeat(np.arange(5.0)[None, :, None], 60, axis=0)  # in time, the same for all
    np.testing.assert_allclose(match_units(course, -course).chance, 1)
    np.testing.assert_array_equal(match_units(a[:1, :1], a[:1, :1]).matched, 0)
    with pytest.raises(ValueError, match=r"b: shape \(60, 4\) does not go with a"):
        match_units(a, b[:, :4])


def test_many_numbers_are_compared_in_ranges() -> None:
    """More than 30 numbers are put into ten ranges, each question in one; so many words are not."""
    rng = np.random.default_rng(0)
    right, lengths = rng.random(500) < 0.5, rng.integers(9, 91, 500)
    record = compare_answers(right, ~right, groups={"length": lengths, "short": lengths % 30})
    groups = record.groups["length"]
    assert len(groups) == 10
    assert sum(group.num_samples for group in groups) == 500
    assert min(group.num_samples for group in groups) > 30
    ends = [tuple(map(int, group.value.split("–"))) for group in groups]
    assert ends[0][0] == lengths.min()
    assert ends[-1][1] == lengths.max()
    assert all(a[1] < b[0] for a, b in itertools.pairwise(ends))
    for group, (low, high) in zip(groups, ends, strict=True):
        assert group.right_a == right[(low <= lengths) & (lengths <= high)].mean()
    assert len(record.groups["short"]) == 30
    with pytest.raises(ValueError, match="group 'words': 82 different words; accepted: at most 30"):
        compare_answers(right, right, groups={"words": lengths.astype(str)})
