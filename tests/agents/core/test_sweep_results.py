"""Results of sweeps: the best trial, and the importance of settings."""

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.cli.sweep_report import views_of
from agents.core.runs.history import History
from agents.core.sweeps.results import Result, best_trial, group_by_seed
from agents.core.sweeps.study import importances

GRID = [
    {"rate": rate, "units": units, "cell": cell}
    for rate, units, cell in itertools.product((0.001, 0.01, 0.1), (4, 8, 16), ("gru", "lstm"))
]


def result(values: Mapping[str, Any], score: float, direction: str, status: str = "done") -> Result:
    record = {"step": 1, "eval/mse": score, "eval/loss": 1.0}
    return Result(
        values=values, folder=Path(), monitor="mse", direction=direction, status=status, time="",
        history=History([record]), test_scores={},
    )  # fmt: skip


@pytest.mark.parametrize(("direction", "best"), [("max", 0), ("min", 2)])
def test_the_best_trial_has_the_best_mean_of_done_ones(direction: str, best: int) -> None:
    """Neither the trial with the best single seed nor one that was pruned is the best."""
    scores = {0: (4.0, 4.0), 1: (9.0, -3.0), 2: (2.0, 2.0)}
    results = [
        result({"units": units, "seed": seed}, score, direction)
        for units, of_seeds in scores.items()
        for seed, score in enumerate(of_seeds)
    ]
    extreme = 99.0 if direction == "max" else -99.0
    pruned = result({"units": 3, "seed": 0}, extreme, direction, "pruned")
    found = best_trial(group_by_seed([*results, pruned]))
    assert found is not None
    assert found.values == {"units": best}
    assert best_trial(group_by_seed([pruned])) is None


def test_a_null_is_a_value_and_not_a_missing_setting() -> None:
    """It has a place of its own on an axis; the trial of an agent without the setting has none."""
    values: list[dict[str, Any]] = [{"clip": None}, {"clip": 1.0}, {"units": 3}]
    views = views_of([result(each, 1.0, "max") for each in values], is_grid=False)
    clip, units = views["parallel"].axes
    assert clip.labels == ["None", "1.0"]
    assert np.array_equal(clip.positions, [0, 1, math.nan], equal_nan=True)
    assert np.array_equal(units.positions, [math.nan, math.nan, 3], equal_nan=True)


@pytest.mark.parametrize("direction", ["max", "min"])
@pytest.mark.parametrize("name", ["rate", "cell"])
def test_a_setting_on_which_scores_depend_alone_has_the_variance(name: str, direction: str) -> None:
    """Its share is near 1, the others' near 0, and shares are in order and add up to 1."""
    places = {"rate": [0.001, 0.01, 0.1], "cell": ["gru", "lstm"]}[name]
    scores = [float(places.index(values[name])) for values in GRID]  # type: ignore[call-overload]
    shares = importances(GRID, scores, direction)
    assert next(iter(shares)) == name
    assert set(shares) == {"rate", "units", "cell"}
    assert shares[name] > 0.9
    assert sum(shares.values()) == pytest.approx(1)


def test_where_nothing_varies_no_setting_is_important() -> None:
    """Equal scores, no trials, a constant setting, or one that some trials lack, have no share."""
    assert importances(GRID, [0.5] * len(GRID), "max") == {}
    assert importances([], [], "max") == {}
    assert importances([{"a": 1}, {"a": 1}], [0.0, 1.0], "max") == {}
    assert importances([{"a": 1}, {"b": 2}], [0.0, 1.0], "max") == {}
