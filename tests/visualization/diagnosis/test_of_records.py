"""What the doctor says without trials, and the smoothing of losses by medians."""

import numpy as np
import pytest

from tests.helpers.followed import evidence, overfitting
from visualization.diagnosis import QUESTIONS, diagnose, of_records
from visualization.diagnosis.steps import around


def test_questions_that_need_a_trial_are_left_out() -> None:
    """Those that only a trial answers are missing, and those that the settings answer are not."""
    names = {finding.name for finding in of_records(diagnose(evidence(overfitting())))}
    trials = {
        "cannot learn one batch", "cannot learn an easy task", "leaking validation",
        "learning rate too high", "learning rate too low", "sequence too long", "model too small",
    }  # fmt: skip
    assert not names & trials
    asked = {question.name for question in QUESTIONS} - {"only blanks"}  # for readers alone
    assert names == asked - trials


@pytest.mark.parametrize("num", [0, 1, 3, 4, 5, 6, 40])
@pytest.mark.parametrize("reach", [1, 2])
def test_around_is_the_median_of_the_neighbours(num: int, reach: int) -> None:
    """Each value is replaced by the median of those that are at most `reach` away."""
    values = np.random.default_rng(num).normal(size=num)
    expected = [np.median(values[max(0, k - reach) : k + reach + 1]) for k in range(num)]
    assert around(values, reach).tolist() == expected
