"""Trials of a sweep: the best so far, and the axes of settings."""

import math
from typing import Any

import numpy as np
import pytest

from visualization import render
from visualization.core.errors import NothingToShow
from visualization.sweeps import ParallelCoordinates, Slices, TrialScores
from visualization.sweeps.trials import setting_axes

SCORES = [3.0, 1.0, 0.0, 2.0]


def scores(is_higher_better: bool, **changes: Any) -> dict[str, Any]:
    missing = [math.nan] * 4
    return {
        "score_name": "mse", "is_higher_better": is_higher_better, "scores": SCORES,
        "low": missing, "high": missing, "statuses": ["done", "done", "pruned", "done"], **changes,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("is_higher_better", "so_far", "best"), [(True, [3, 3, 3, 3], 0), (False, [3, 1, 1, 1], 1)]
)
def test_the_best_so_far_is_of_done_trials(
    is_higher_better: bool, so_far: list[float], best: int
) -> None:
    """A pruned trial is never the best, however low or high its score."""
    trials = TrialScores.of(**scores(is_higher_better))
    assert trials.best_so_far.tolist() == so_far
    assert trials.best == best
    assert f"trial {best + 1}" in render.text(trials)


def test_axes_are_logarithmic_over_a_decade_and_words_have_places() -> None:
    """Numbers from 1 to 10 or more are on a log axis; words are labels; missing ones are NaN."""
    wide, narrow, words = setting_axes(
        {"rate": [0.01, 1.0, None], "units": [4, 5, 6], "cell": ["lstm", None, "gru", "lstm"]}
    )
    assert wide.is_log
    assert np.isnan(wide.positions[2])
    assert not narrow.is_log
    assert narrow.positions.tolist() == [4, 5, 6]
    assert words.labels == ["lstm", "gru"]
    assert np.array_equal(words.positions, [0, math.nan, 1, 0], equal_nan=True)


def test_a_trial_without_a_setting_skips_its_axis() -> None:
    """Its line goes from the axis before to the one after, and a setting of no trial has none."""
    values = {"units": [4, 5, 6, 7], "cell": ["gru", None, "lstm", "gru"], "none": [None] * 4}
    figure = render.draw(ParallelCoordinates.of(values, **scores(True)))
    (lines,) = figure.axes[0].collections[:1]
    assert sorted(len(path) for path in lines.get_segments()) == [2, 3, 3, 3]
    with pytest.raises(NothingToShow, match="no trial has a setting"):
        setting_axes({"none": [None] * 4})


def test_integers_of_an_axis_are_named_once_at_their_heights() -> None:
    """From 2 to 4 there are three, 3 in the middle; on a log scale each is at its logarithm."""
    record = ParallelCoordinates.of(
        {"heads": [2, 4, 2, 4], "units": [4, 20, 100, 4]}, **scores(True)
    )
    texts = [(t.get_text(), t.get_position()) for t in render.draw(record).axes[0].texts]
    heads = {word: y for word, (x, y) in texts if -0.5 < x < 0 and y <= 1}
    assert heads == pytest.approx({"2": 0, "3": 0.5, "4": 1})
    units = {float(word): y for word, (x, y) in texts if 0.5 < x < 1 and y <= 1}
    assert units == pytest.approx({n: np.log(n / 4) / np.log(25) for n in units})
    assert len(units) == 4


@pytest.mark.parametrize(("is_higher_better", "word"), [(True, "higher"), (False, "lower")])
@pytest.mark.parametrize("kind", [ParallelCoordinates, Slices])
def test_a_figure_has_an_axis_for_each_setting(
    kind: Any, is_higher_better: bool, word: str
) -> None:
    """Each setting is named once, and the caption says which scores are better."""
    record = kind.of(
        {"rate": [0.01, 0.1, 1.0, 1.0], "cell": list("abab")}, **scores(is_higher_better)
    )
    figure = render.draw(record)
    words = [text.get_text() for axes in figure.axes for text in axes.texts]
    words += [axes.get_xlabel() for axes in figure.axes]
    assert words.count("rate") == words.count("cell") == 1
    assert f"of which {word} is better" in render.caption(record)


def test_no_trials_are_nothing_to_show() -> None:
    """Without a score there is no figure, and the reason is said."""
    with pytest.raises(NothingToShow, match="no trial"):
        TrialScores.of(**scores(True, scores=[], low=[], high=[], statuses=[]))
