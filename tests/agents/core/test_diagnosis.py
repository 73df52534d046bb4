"""The doctor on real runs: each planted pathology is named once, and health is left alone."""

from collections.abc import Callable, Iterator
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import agents
import tasks
from agents.core.agent import Agent
from agents.core.analysis import diagnosis as module
from agents.core.analysis.diagnosis import (
    collect_evidence,
    count_leaks,
    diagnose_agent,
    settings_of,
)
from agents.core.training.step_record import DivergedError
from agents.parity_lstm import ParityLSTM, RNNClassifier
from tasks.addition import Addition
from tasks.core.task import BatchRequest
from tests.conftest import exact, same, small_agent, weights
from visualization.diagnosis import diagnose

slow = pytest.mark.slow
RECORDED = {
    "log_every": 10, "eval_every": 50, "eval_samples": 300, "precision": "fp32", "threads": 1,
}  # fmt: skip
SUMS = tasks.make("add2x2")
PARITY = tasks.make("parity", length=16, train_length=16)
SMALL = {"hidden_size": 32, "batch_size": 64}


def run(name: str, task: Any, cls: type[Agent] | None = None, **settings: Any) -> Agent:
    """Return an agent after its run, of which enough is recorded."""
    agent = agents.make(name, task=task, device="cpu", **(RECORDED | settings))
    if cls is not None:
        agent = cls(agent.task, agent.config, "cpu")
    return agent.learn()


class Saturated(ParityLSTM):
    """Begins with recurrent weights a hundred times too large."""

    @staticmethod
    def build_model(config: Any, spec: Any) -> nn.Module:
        """Return the reader with its weights scaled."""
        model = ParityLSTM.build_model(config, spec)
        with torch.no_grad():
            for parameter in model.recurrent.parameters():
                parameter.mul_(100)
        return model


class Steep(ParityLSTM):
    """Begins with hidden-to-hidden weights twelve times too large."""

    @staticmethod
    def build_model(config: Any, spec: Any) -> nn.Module:
        """Return the reader with its weights scaled."""
        model = ParityLSTM.build_model(config, spec)
        with torch.no_grad():
            model.recurrent.weight_hh_l0.mul_(12)
        return model


class ReluClassifier(RNNClassifier):
    """Reads through a ReLU layer whose bias keeps it shut."""

    def __init__(self, config: Any, spec: Any) -> None:
        super().__init__(config, spec)
        linear = nn.Linear(config.hidden_size, config.hidden_size)
        nn.init.constant_(linear.bias, -10.0)
        self.hidden = nn.Sequential(linear, nn.ReLU())

    def forward(self, sequence: Tensor) -> Tensor:
        """Return logits."""
        return self.readout(self.hidden(self.recurrent(self.characters(sequence))[0][:, -1]))


class Dead(ParityLSTM):
    """Has a layer of dead units."""

    @staticmethod
    def build_model(config: Any, spec: Any) -> nn.Module:
        """Return the reader with the shut layer."""
        return ReluClassifier(config, spec)


class Detached(ParityLSTM):
    """Cuts the gradient off, as a stray `detach` does."""

    def loss(self, batch: Any) -> Tensor:
        """Return a loss that moves nothing."""
        logits = self.network(torch.as_tensor(batch.sequence).long()).detach()
        nothing = 0 * self.model.readout.bias.sum()
        return F.cross_entropy(logits, torch.as_tensor(batch.label)[:, 0]) + nothing


@attrs.frozen(kw_only=True)
class Leaking(Addition):
    """Validates on training sums."""

    def samples(self, split: Any, num: int, seed: int = 0) -> Any:
        """Return training sums for validation."""
        if split == "validation":
            return next(self.batches("train", num, 0, 0))
        return Addition.samples(self, split, num, seed)


@attrs.frozen(kw_only=True)
class Shuffled(Addition):
    """Trains on answers that belong to other questions."""

    def iter_batches(self, request: BatchRequest) -> Iterator[Any]:
        """Yield batches with their answers shuffled."""
        for number, batch in enumerate(Addition.iter_batches(self, request)):
            order = np.random.default_rng(number).permutation(len(batch.answer))
            yield batch._replace(answer=batch.answer[order])


ADDER, READER, ADDING, DIGITS = "seq2seq_adder", "parity_lstm", "adding_lstm", "digits_lstm"
SHORT = tasks.make("parity", length=8, train_length=8)
LITTLE = {"hidden_size": 8, "batch_size": 32}
Made = Callable[[int], Agent]  # from a seed
PLANTED: dict[str, tuple[str, Made]] = {
    "bits without stages": ("sequence too long", lambda seed: run(
        READER, SHORT, steps=100, curriculum_loss_threshold=None, seed=seed, **LITTLE)),
    "rate 300 times too high": ("learning rate too high", lambda seed: run(
        READER, SHORT, steps=150, learning_rate=3.0, seed=seed, **LITTLE)),
    "a detached loss": ("cannot learn one batch", lambda seed: run(
        READER, SHORT, Detached, steps=100, seed=seed, **LITTLE)),
}  # fmt: skip
PLANTED_AND_LONG: dict[str, tuple[str, Made]] = {
    "dead ReLUs": ("dead units", lambda seed: run(
        READER, SHORT, Dead, steps=100, seed=seed, **LITTLE)),
    "rate a thousand times too low": ("learning rate too low", lambda seed: run(
        READER, SHORT, steps=100, learning_rate=1e-5, seed=seed, **LITTLE)),
    "64 bits without stages": ("sequence too long", lambda seed: run(
        READER, tasks.make("parity", length=64, train_length=64), steps=200,
        curriculum_loss_threshold=None, seed=seed)),
    "a tanh RNN over 60 steps": ("vanishing gradients", lambda seed: run(
        ADDING, tasks.make("adding_problem", length=60), steps=250, curriculum_loss_threshold=None,
        cell="rnn", init="default", hidden_size=32, optimizer="adam", learning_rate=1e-3,
        batch_size=32, seed=seed)),
    "steep weights, no clipping": ("exploding gradients", lambda seed: run(
        READER, PARITY, Steep, cell="rnn", steps=250, clip_norm=None,
        curriculum_loss_threshold=None, seed=seed)),
    "rate a hundred times too high": ("learning rate too high", lambda seed: run(
        ADDER, SUMS, steps=200, optimizer="adam", learning_rate=1.0, seed=seed, **SMALL)),
    "rate 1": ("learning rate too high", lambda seed: run(
        READER, PARITY, steps=300, learning_rate=1.0, seed=seed)),
    "rate 0.3 of a tanh RNN": ("learning rate too high", lambda seed: run(
        READER, PARITY, steps=300, learning_rate=0.3, cell="rnn", seed=seed)),
    "rate 1e12": ("learning rate too high", lambda seed: run(
        READER, PARITY, steps=200, learning_rate=1e12, seed=seed)),
    "both rates a thousand times too low": ("learning rate too low", lambda seed: run(
        ADDER, SUMS, steps=200, learning_rate=2e-5, muon_learning_rate=3.5e-5, seed=seed,
        **SMALL)),
    "one unit": ("model too small", lambda seed: run(
        ADDER, SUMS, steps=250, batch_size=64, hidden_size=1, seed=seed)),
    "two units that read images": ("model too small", lambda seed: run(
        DIGITS, tasks.make("digits"), steps=300, hidden_size=2, seed=seed)),
    "two units that count": ("model too small", lambda seed: run(
        READER, PARITY, steps=400, hidden_size=2, seed=seed)),
    "five layers": ("model too deep", lambda seed: run(
        READER, SHORT, steps=250, num_layers=5, hidden_size=16, batch_size=32, seed=seed)),
    "nine tenths dropped": ("dropout too strong", lambda seed: run(
        DIGITS, tasks.make("digits"), hidden_size=16, steps=200, dropout=0.9, seed=seed)),
    "weights times 100": ("saturated units", lambda seed: run(
        READER, PARITY, Saturated, steps=200, seed=seed)),
    "45 sums": ("overfit", lambda seed: run(
        ADDER, tasks.make("add1x2"), steps=200, seed=seed, **SMALL)),
    "300 sums": ("overfit", lambda seed: run(
        ADDER, tasks.make("add2x2", num_samples=300), steps=400, seed=seed, **SMALL)),
    "eight validation samples": ("noisy validation", lambda seed: run(
        READER, PARITY, steps=400, eval_samples=8, seed=seed)),
    "validation on training sums": ("leaking validation", lambda seed: run(
        ADDER, Leaking(digits=2, terms=2), steps=250, seed=seed, **SMALL)),
    "answers of other questions": ("no better than chance", lambda seed: run(
        ADDER, Shuffled(digits=2, terms=2), steps=250, seed=seed, **SMALL)),
}  # fmt: skip
HEALTHY: dict[str, Made] = {
    "parity of 8 bits": lambda seed: run(READER, SHORT, steps=300, seed=seed, **LITTLE),
}
HEALTHY_AND_LONG: dict[str, Made] = {
    "two bits": lambda seed: run(READER, tasks.make("xor2"), steps=300, seed=seed, **LITTLE),
    "parity": lambda seed: run(READER, PARITY, steps=500, seed=seed),
    "mod3": lambda seed: run(
        READER, tasks.make("mod3", length=12, train_length=12), steps=600, seed=seed),
    "parity, half-way up": lambda seed: run(
        READER, tasks.make("parity", length=64, train_length=64), steps=150, seed=seed),
    "parity, GRU": lambda seed: run(READER, PARITY, steps=400, cell="gru", seed=seed),
    "sums": lambda seed: run(ADDER, SUMS, steps=400, seed=seed, **SMALL),
    "sums, unfinished": lambda seed: run(ADDER, SUMS, steps=250, cell="gru", seed=seed, **SMALL),
    "sums, Adam": lambda seed: run(
        ADDER, SUMS, steps=500, optimizer="adam", learning_rate=1e-2, seed=seed, **SMALL),
    "adding": lambda seed: run(
        ADDING, tasks.make("adding_problem", length=20), hidden_size=32, steps=400, seed=seed),
    "adding, few records": lambda seed: run(
        ADDING, tasks.make("adding_problem", length=20), hidden_size=32, steps=400, seed=seed,
        log_every=50, eval_every=100),
    "digits": lambda seed: run(
        DIGITS, tasks.make("digits"), hidden_size=32, steps=300, seed=seed),
    "digits, unfinished": lambda seed: run(
        DIGITS, tasks.make("digits"), hidden_size=32, steps=150, cell="gru", seed=seed),
    "Transformer": lambda seed: run(
        "transformer_adder", SUMS, d_model=32, num_layers=1, batch_size=64, steps=250,
        seed=seed),
    "attention": lambda seed: run("attention_adder", SUMS, steps=250, seed=seed, **SMALL),
}  # fmt: skip


def named_by_most(make: Made, steps: int) -> list[str]:
    """Return the problems that two of the runs from three seeds have alike."""
    named: list[list[str]] = []
    for seed in range(3):
        found = diagnose(collect_evidence(make(seed), steps=steps))
        names = [finding.name for finding in found.problems]
        if names in named:
            return names
        named.append(names)
    raise AssertionError(f"each seed has verdicts of its own: {named}")


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_is_named_once(name: str) -> None:
    """The planted pathology is the one problem; all else is fine, unknown or follows from it."""
    wanted, make = PLANTED[name]
    assert named_by_most(make, 100) == [wanted]


@slow
@pytest.mark.parametrize("name", PLANTED_AND_LONG)
def test_what_is_planted_in_longer_runs_is_named_once(name: str) -> None:
    """Pathologies of real recipes are named likewise, in runs of some hundred steps."""
    wanted, make = PLANTED_AND_LONG[name]
    assert named_by_most(make, 200) == [wanted]


@pytest.mark.parametrize("name", HEALTHY)
def test_health_is_left_alone(name: str) -> None:
    """A run that learned has no problem."""
    assert named_by_most(HEALTHY[name], 60) == []


@slow
@pytest.mark.parametrize("name", HEALTHY_AND_LONG)
def test_health_of_longer_runs_is_left_alone(name: str) -> None:
    """A run of any agent that learned, or is still learning, has no problem."""
    assert named_by_most(HEALTHY_AND_LONG[name], 150) == []


def test_an_untrained_agent_is_examined_by_a_short_run() -> None:
    """Without a history a fresh agent runs; the given one stays as it is, and so does torch."""
    agent = small_agent("parity_lstm", task=PARITY, steps=100)
    before, state = weights(agent), torch.get_rng_state()
    told: list[str] = []
    report = diagnose_agent(agent, steps=10, progress=told.append)
    assert same(before, weights(agent))
    assert agent.history.records == []
    assert torch.equal(state, torch.get_rng_state())
    assert told[0].startswith("a short run")
    assert "step 100" in report.title
    summary = report["summary"]
    assert next(iter(report.records)) == "summary"
    assert set(report.records) - {"summary"} == {
        f.question for f in summary.findings if f.answer.evidence is not None
    }
    assert len(report.arrays()) > 20


def test_a_trained_agent_is_not_changed() -> None:
    """An examination leaves weights, history, threads and generators as they were."""
    agent = small_agent("parity_lstm", task=PARITY).learn()
    before, records = weights(agent), exact(agent.history)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    collect_evidence(agent, steps=5)
    assert same(before, weights(agent))
    assert exact(agent.history) == records
    assert torch.equal(state, torch.get_rng_state())
    assert torch.get_num_threads() == threads


def test_the_same_agent_gets_the_same_verdicts() -> None:
    """Two examinations with the same number of steps give the same case."""
    agent = small_agent("parity_lstm", task=PARITY).learn()
    assert collect_evidence(agent, steps=5) == collect_evidence(agent, steps=5)


def test_a_run_that_diverged_is_examined() -> None:
    """Where the short run ends in no finite number, that is a problem of its own."""

    class Explosive(ParityLSTM):
        def loss(self, batch: Any) -> Tensor:
            steps = self.state.cursor.step
            return super().loss(batch) * (torch.inf if steps > 30 else 1.0)

    agent = small_agent("parity_lstm", task=PARITY, steps=100)
    with pytest.raises(DivergedError):
        Explosive(PARITY, agent.config, "cpu").learn()
    case = collect_evidence(Explosive(PARITY, agent.config, "cpu"), steps=5)
    assert case.diverged
    assert diagnose(case)["exploding gradients"].answer.verdict == "problem"


def test_a_run_whose_gradient_overflowed_is_diagnosed() -> None:
    """Steps of 1e30 leave hardly a finite number behind: the rate is named, and nothing crashes."""
    agent = small_agent(
        "parity_lstm", task=PARITY, steps=100, hidden_size=4, learning_rate=1e30, clip_norm=None,
        log_every=1, curriculum_loss_threshold=0.05,
    )  # fmt: skip
    diverged = False
    try:
        agent.learn()
    except DivergedError:
        diverged = True
    found = diagnose(collect_evidence(agent, steps=100, diverged=diverged))
    assert [finding.name for finding in found.problems] == ["learning rate too high"]


def test_a_short_run_stops_at_nothing_and_keeps_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An untrained agent is advised by its own steps, and its short run takes all of its own."""
    monkeypatch.setattr("agents.core.analysis.trials.work_of_step", lambda _: 10**12)
    agent = small_agent("parity_lstm", task=PARITY, steps=2000, target_score=0.1)
    found = collect_evidence(agent, steps=5)
    assert found.num_steps == 125
    assert found.settings["steps"] == 2000
    advice = [one for f in diagnose(found).findings for one in f.answer.advice]
    assert "--set steps=2000" not in advice


@pytest.mark.parametrize(
    ("work", "steps", "longer"),
    [(10**6, 300, 600), (5 * 10**8, 300, 300), (10**9, 150, 150), (10**12, 75, 75)],
)
def test_trials_are_shortened_by_their_work_which_is_said(
    monkeypatch: pytest.MonkeyPatch, work: int, steps: int, longer: int
) -> None:
    """How many steps a trial takes hangs on a count, on no clock, and fewer than usual are told."""
    monkeypatch.setattr("agents.core.analysis.trials.work_of_step", lambda _: work)
    taken = module._steps_of_trials(small_agent("parity_lstm", task=PARITY))
    assert taken[:2] == (steps, longer)
    said = f"trials took {steps} steps in place of 300, by length {longer} in place of 600"
    assert taken[2].startswith("" if longer == 600 else said)
    assert bool(taken[2]) == (longer < 600)


def test_a_run_without_vitals_is_measured_as_it_is_now() -> None:
    """What a guess is worth is then known, and the history itself stays as it was."""
    agent = small_agent("parity_lstm", task=PARITY, record_diagnostics=False, steps=40).learn()
    before = weights(agent), len(agent.history)
    case = collect_evidence(agent, steps=5)
    assert case.is_known
    assert case.chance is not None
    assert same(before[0], weights(agent))
    assert len(agent.history) == before[1]


def test_leaks_are_counted() -> None:
    """All validation sums of a leaking task are found among those of training, of others none."""
    leaking = count_leaks(Leaking(digits=2, terms=2), 100, seed=0)
    assert (leaking.shared, leaking.questions) == (100, 100)
    assert count_leaks(SUMS, 100, seed=0).shared == 0
    assert not leaking.is_all


@pytest.mark.parametrize(
    ("name", "settings", "is_all"),
    [
        ("xor2", {}, True),
        ("parity", {"length": 8, "train_length": 8}, True),
        ("parity", {"length": 12, "train_length": 12}, False),
        ("add1x2", {}, False),
        ("digits", {}, False),
    ],
)
def test_few_questions_cannot_be_withheld(
    name: str, settings: dict[str, int], is_all: bool
) -> None:
    """Where training asks every combination of codes there is, that is told from a leak."""
    assert count_leaks(tasks.make(name, **settings), 200, seed=0).is_all == is_all


def test_settings_say_what_there_really_is() -> None:
    """The number of validation samples is that of the task, not what was asked for."""
    agent = small_agent("seq2seq_adder", task=tasks.make("add2x2", num_samples=100))
    known = settings_of(agent)
    assert (known["eval_samples"], known["asked_samples"]) == (10, 32)
    assert known["num_stages"] == 1
    assert known["task.num_samples"] == 100
