"""Learning rates over the steps, and when learning ends."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from agents.core.config import AgentConfig, Schedule
from agents.core.training.loop import TrainStep
from agents.core.training.optimizer import lr_factor_at
from agents.core.training.step_record import StepRecord
from tests.conftest import exact, same, small_agent, weights

SCHEDULES = Schedule.__args__


def rates(total: int, **settings: object) -> list[float]:
    config = AgentConfig(**settings)
    return [lr_factor_at(config, step, total) for step in range(1, total + 1)]


def test_one_cycle_rises_and_falls() -> None:
    """The rate rises in a line over the warm-up, peaks at 1, and falls along a cosine."""
    found = rates(100, warmup=0.2)
    np.testing.assert_allclose(found[:20], np.arange(1, 21) / 20)
    assert max(found) == 1.0
    assert all(a > b for a, b in itertools.pairwise(found[19:]))
    assert 0 < found[-1] < 0.001
    assert math.isclose(found[59], 0.5 * (1 + math.cos(math.pi * 40 / 81)))
    assert lr_factor_at(AgentConfig(warmup=0.0), 1, 1) > 0


def test_warm_restarts_are_cycles_each_twice_as_long() -> None:
    """Of 70 steps in three parts the first 10, 20 and 40 are a one_cycle each, from top to zero."""
    found = rates(70, schedule="warm_restarts", lr_cycles=3, warmup=0.1)
    for begin, length in ((0, 10), (10, 20), (30, 40)):
        np.testing.assert_allclose(found[begin : begin + length], rates(length, warmup=0.1))


def test_the_growth_of_warm_restarts_is_a_setting() -> None:
    """Of 70 steps in two parts, the second six times as long, the first is one_cycle over 10."""
    found = rates(70, schedule="warm_restarts", lr_cycles=2, lr_cycle_growth=6.0)
    assert found == pytest.approx(rates(10) + rates(60))
    equal = rates(70, schedule="warm_restarts", lr_cycles=2, lr_cycle_growth=1.0)
    assert equal == pytest.approx(2 * rates(35))


def test_constant_is_constant() -> None:
    """Every step takes the highest rate."""
    assert set(rates(9, schedule="constant")) == {1.0}


def test_cosine_falls_from_one_through_a_half() -> None:
    """Half of the way down the rate is a half; it falls all the time and stays above zero."""
    found = rates(100, schedule="cosine")
    assert found[0] == 1.0
    assert found[50] == pytest.approx(0.5)
    assert all(a > b > 0 for a, b in itertools.pairwise(found))


def test_step_divides_after_equal_parts() -> None:
    """Three parts of four steps take 1, the factor, and its square."""
    found = rates(12, schedule="step", lr_cycles=3, lr_decay=0.5)
    assert found == [1.0] * 4 + [0.5] * 4 + [0.25] * 4


def test_cyclical_goes_up_and_down_in_every_part() -> None:
    """Two triangles of eight steps each: in the middle of each the rate is highest."""
    found = rates(16, schedule="cyclical", lr_cycles=2, lr_decay=0.2)
    up = [0.2 + 0.8 * share for share in (0.125, 0.375, 0.625, 0.875)]
    np.testing.assert_allclose(found, 2 * (up + up[::-1]))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_rates_are_shares_that_are_never_zero(schedule: str) -> None:
    """Whatever the schedule and the number of steps, 0 < rate ≤ 1."""
    for total in (1, 2, 7, 100):
        assert all(0 < r <= 1 for r in rates(total, schedule=schedule, lr_cycles=5))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_killed_run_goes_on_in_its_schedule(
    schedule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is killed at its eighth step ends with the bits and rates of one that was not."""
    settings = {"schedule": schedule, "lr_cycles": 3, "task": "add1x2"}
    whole = small_agent(**settings).learn()
    step = TrainStep.step

    def fails(self: TrainStep, batch: object, number: int, share: float) -> StepRecord:
        if number == 8:
            raise RuntimeError("killed")
        return step(self, batch, number, share)

    monkeypatch.setattr(TrainStep, "step", fails)
    with pytest.raises(RuntimeError, match="killed"):
        small_agent(**settings).learn(run_dir=tmp_path, progress=False)
    monkeypatch.undo()
    resumed = small_agent(**settings).learn(run_dir=tmp_path, progress=False)
    assert same(weights(whole), weights(resumed))
    assert exact(whole.history) == exact(resumed.history)


def test_null_evaluates_once_an_epoch() -> None:
    """eval_every=null evaluates after each pass over the data, and after the last step."""
    agent = small_agent(task="add1x2", eval_every=None, steps=9, batch_size=12_500).learn()
    assert agent.history.series("eval/loss")[0] == [4, 8, 9]


def test_enough_is_enough() -> None:
    """Learning stops at the first evaluation whose score reaches target_score, and not before."""
    settings = {"task": "xor2", "steps": 300, "eval_every": 10, "learning_rate": 5e-3}
    plain = small_agent("parity_lstm", **settings).learn()
    steps, scores = plain.history.series("eval/accuracy")
    first = next(step for step, score in zip(steps, scores, strict=True) if score >= 0.9)
    assert steps[0] < first < steps[-1]
    agent = small_agent("parity_lstm", **settings, target_score=0.9).learn()
    assert agent.state.cursor.step == first
    assert agent.state.stopped_early


def test_what_is_fitted_is_learned() -> None:
    """Learning stops at the first evaluation after a training loss of target_loss or less."""
    settings = {"task": "xor2", "steps": 300, "eval_every": 10, "log_every": 10}
    plain = small_agent("parity_lstm", **settings, learning_rate=5e-3).learn()
    steps, losses = plain.history.series("train/loss")
    target = losses[len(losses) // 2]
    first = next(step for step, loss in zip(steps, losses, strict=True) if loss <= target)
    agent = small_agent("parity_lstm", **settings, learning_rate=5e-3, target_loss=target).learn()
    assert agent.state.cursor.step == first < 300
    assert agent.state.stopped_early


def test_losses_pair_each_evaluation_with_the_training_since() -> None:
    """Training losses are averaged over the records since the evaluation before."""
    agent = small_agent(task="add1x2").learn()
    (*_, train), (_, losses) = agent.history.series("train/loss"), agent.history.series("eval/loss")
    expected = [(train[0] + train[1]) / 2, (train[2] + train[3]) / 2, (train[4] + train[5]) / 2]
    found = agent.history.losses()
    assert [step for step, _, _ in found] == [4, 8, 12]
    assert [mean for _, mean, _ in found] == pytest.approx(expected)
    assert [loss for _, _, loss in found] == losses
