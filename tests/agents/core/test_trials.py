"""Short trials: what they change, what they leave alone, and what they find."""

import itertools
import math

import numpy as np
import pytest
import torch

import tasks
from agents.core.analysis import trials
from agents.core.config import ConfigError
from tasks.core.synthetic import easy_task, single_batch_task
from tasks.core.task import SPLITS, TextChunks
from tests.conftest import same, small_agent, weights
from visualization.diagnosis import BASELINE

PARITY = tasks.make("parity", length=12, train_length=12)
SUMS = tasks.make("add2x2")


def settled(task: str | object = PARITY, **settings: object) -> object:
    """Return an agent that learns easy things within a hundred steps."""
    return small_agent(
        "parity_lstm", task=task, learning_rate=1e-2, batch_size=32, schedule="constant", **settings
    )


def test_the_given_agent_and_torch_stay_as_they_are() -> None:
    """No trial touches weights, history, cursor, threads or the global generator."""
    agent = settled(hidden_size=8)
    before, state = weights(agent), torch.get_rng_state()
    trials.overfit_one_batch(agent, 3)
    trials.train_on_easy_task(agent, 3)
    trials.range_test(agent, steps=5)
    trials.train_by_length(agent, 3)
    trials.train_by_size(agent, 3)
    trials.train_at_lr(agent, 0.1, 3)
    trials.work_of_step(agent)
    assert same(before, weights(agent))
    assert agent.state.cursor.step == len(agent.history) == 0
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("below", [None, 0.6])
def test_a_trial_takes_the_steps_of_learning(below: float | None) -> None:
    """Training as it is gives the losses of `learn()`, step for step, and climbs where it does."""
    settings = {"curriculum_loss_threshold": below, "curriculum_window": 2, "hidden_size": 8}
    trial = trials.train_by_size(settled(**settings), 60)[BASELINE]
    learned = settled(**settings, steps=60, log_every=1, eval_every=100).learn()
    assert list(trial.losses) == learned.history.series("train/loss")[1]
    if below is None:
        assert (trial.stage, trial.num_stages) == (0, 1)
    else:
        assert trial.stage == learned.state.cursor.stage > 0
        assert trial.num_stages == PARITY.num_stages
        assert trial.stage / trial.num_stages <= trial.learned < 1


def test_a_batch_is_learned_by_heart() -> None:
    """A small batch is learned to a tenth of a constant answer's loss, which is its entropy."""
    found = trials.overfit_one_batch(settled(), 150)
    assert len(found.losses) == 150
    assert found.final < 0.1 * found.chance
    batch = next(PARITY.batches("train", trials.NUM_BY_HEART, 0, 0))
    share = float(np.mean(batch.label))
    entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
    assert found.chance == pytest.approx(entropy)


@pytest.mark.parametrize("name", ["parity", "add2x2", "adding_problem", "digits", "subset_sum"])
def test_an_easy_task_has_two_answers_told_by_one_thing(name: str) -> None:
    """Both answers stand in the task, each for a quarter of the questions or more; splits too."""
    short = {"parity": {"length": 12, "train_length": 12}, "adding_problem": {"length": 12}}
    base = tasks.make(name, **short.get(name, {}))
    task = easy_task(base)
    assert (task.spec, task.num_stages, task.monitor) == (base.spec, 1, base.monitor)
    known = np.asarray(base.samples("train", 512)[1])
    for split in SPLITS:
        batch, asked = task.samples(split, 200), base.samples(split, 200)
        np.testing.assert_array_equal(batch[0], asked[0])
        assert batch[1].dtype == asked[1].dtype
        answers, counts = np.unique(batch[1], axis=0, return_counts=True)
        assert len(answers) == 2
        assert counts.min() >= 0.2 * len(batch[1])
        assert all((known == answer).reshape(len(known), -1).all(1).any() for answer in answers)


def test_an_easy_task_is_learned() -> None:
    """The last bit is told by a fresh reader after a hundred steps, where parity is not."""
    agent = settled()
    assert trials.train_on_easy_task(agent, 100).learned > 0.8
    assert trials.train_by_size(agent, 100)[BASELINE].learned < 0.1


def test_an_easy_text_repeats_its_first_character() -> None:
    """What comes next is the character itself, in every row, and rows begin anew."""
    chunks = TextChunks(np.array([[3, 1, 2]]), np.array([[1, 2, 5]]), np.array([False]))

    class Stub:
        name, spec, monitor, num_stages = "stub", None, ("accuracy", "max"), 1

        def samples(self, *_: object) -> TextChunks:
            return chunks

    batch = easy_task(Stub()).samples("train", 1)
    assert batch.text.tolist() == batch.targets.tolist() == [[3, 3, 3]]
    assert batch.reset_state.tolist() == [True]


def test_one_batch_is_given_again_and_again() -> None:
    """Every batch of a repeated task is the same object."""
    batch = SUMS.samples("train", 4)
    task = single_batch_task(SUMS, batch)
    found = list(itertools.islice(task.batches("train", 99, 1, 2), 3))
    assert all(given is batch for given in found)


def test_the_loss_falls_within_the_range_test() -> None:
    """The rates rise evenly on a logarithmic scale; the suggestion lies before the best."""
    found = trials.range_test(settled(), steps=60)
    assert found.rates[0] == pytest.approx(1e-6)
    ratios = np.diff(np.log(found.rates))
    np.testing.assert_allclose(ratios, ratios[0])
    assert found.suggestion is not None
    assert 1e-4 < found.suggestion <= found.best


def test_the_range_test_ends_where_the_loss_runs_away() -> None:
    """Rates up to 1,000 drive the loss to four times its best, and no further step is taken."""
    agent = small_agent("seq2seq_adder", task=SUMS, optimizer="adam")
    found = trials.range_test(agent, highest=1e3, steps=60)
    assert found.diverged_at == found.rates[-1]
    assert len(found.losses) == len(found.rates) < 60
    with pytest.raises(ConfigError, match=r"1 to 0\.1 in 100 steps is not a rising range"):
        trials.range_test(settled(), lowest=1.0, highest=0.1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("batch_size", [1, 4, 8])
def test_small_batches_do_not_end_the_range_test(batch_size: int, seed: int) -> None:
    """However noisy the batches, it runs far, and suggests about the rate of large ones."""

    def suggestion(size: int) -> float:
        adding = tasks.make("adding_problem", length=20)
        agent = small_agent("adding_lstm", task=adding, batch_size=size, seed=seed, hidden_size=32)
        found = trials.range_test(agent)
        assert found.rates[-1] > 1e-3
        assert found.suggestion is not None
        return found.suggestion

    assert 0.1 < suggestion(batch_size) / suggestion(64) < 10


def test_the_work_of_a_step_is_that_of_its_matrix_products() -> None:
    """Each sample takes 4 H (I + H) multiply-adds at each step read, and 2 H for its two labels."""
    agent = settled(xor2 := tasks.make("xor2"), hidden_size=8)
    symbols = len(xor2.spec.characters)
    steps = np.asarray(xor2.samples("train", 1)[0]).shape[1]
    assert trials.work_of_step(agent) == 32 * (steps * 4 * 8 * (symbols + 8) + 2 * 8)


def test_lengths_fall_by_four_down_to_two() -> None:
    """Each task is a quarter as long as the one before; sums end at one digit, scans have none."""
    long = tasks.make("parity", length=1000, train_length=128)
    found = [(task.length, task.train_length) for task in trials.shorter_tasks(long)]
    assert found == [(1000, 128), (250, 128), (62, 62), (15, 15), (3, 3), (2, 2)]
    assert [task.digits for task in trials.shorter_tasks(tasks.make("add3x2"))] == [3, 1]
    assert trials.shorter_tasks(tasks.make("digits")) == []
    fixed = tasks.make("add2x2", num_samples=300)  # more than there are sums of one digit
    assert trials.shorter_tasks(fixed) == [fixed]


def test_short_sequences_are_learned_and_long_ones_are_not() -> None:
    """By length, 2 bits of parity are learned and 12 are not; lengths are steps read."""
    found = trials.train_by_length(settled(), 150)
    assert list(found) == [12, 3, 2]
    scored_longer = tasks.make("parity", length=100, train_length=12)
    assert list(trials.train_by_length(settled(scored_longer), 1)) == [12, 6, 2]
    assert found[2].learned > 0.8
    assert found[12].learned < 0.1


def test_sizes_are_those_that_differ() -> None:
    """A model of one layer without dropout is tried larger only; a deep one also flatter."""
    assert list(trials.train_by_size(settled(hidden_size=8), 2)) == [BASELINE, "hidden_size=32"]
    deep = small_agent("seq2seq_adder", task=SUMS, num_layers=2, dropout=0.5, hidden_size=40)
    assert list(trials.train_by_size(deep, 2)) == [
        BASELINE,
        "num_layers=1",
        "dropout=0",
        "hidden_size=80",
    ]


def test_a_rate_brings_muons_along() -> None:
    """With ten times Adam's rate, Muon's is ten times as high too."""
    agent = small_agent("seq2seq_adder", task=SUMS, learning_rate=0.01, muon_learning_rate=0.03)
    assert trials._rates(agent, 0.1) == {
        "learning_rate": 0.1, "muon_learning_rate": pytest.approx(0.3),
    }  # fmt: skip
    assert list(trials.train_at_lr(agent, 0.1, 2)) == ["learning_rate=0.1"]


def test_a_trial_that_diverges_has_learned_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss that is no number ends a trial with an infinite loss; nothing is raised."""
    cls = type(settled())
    monkeypatch.setattr(cls, "loss", lambda self, batch: self.model.readout.bias.sum() * torch.nan)
    found = trials.train_on_easy_task(settled(), 5)
    assert (found.losses, found.final, found.learned) == ((), math.inf, 0.0)
    assert trials.range_test(settled(), steps=5).diverged_at is not None
