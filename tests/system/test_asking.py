"""Asking trained agents: lists of inputs, comparisons, and runs of earlier versions."""

from pathlib import Path

import pytest
import torch

import agents
import tasks
from agents.configs.seq2seq_adder import AdderConfig
from agents.core.analysis.comparison import compare
from agents.core.config import AgentConfig
from agents.core.runs.history import History
from agents.core.training.monitoring import SAMPLES_BETWEEN_DIAGNOSTICS
from main import main
from tasks.core.settings import ConfigError
from tests.conftest import small_agent, weights


def test_an_answer_does_not_depend_on_what_else_is_asked() -> None:
    """Inputs of different lengths in one list are answered as each one alone, in their order."""
    agent = small_agent("adding_lstm", cell="lstm").learn()
    texts = ["0.25 0.5* 0.75*", "0.1 0.2 0.3* 0.4* 0.5", "0.5* 0.75* 0.125", "0.5* 0.75*"]
    assert agent.predict(texts) == [agent.predict(text) for text in texts]
    assert agent.predict([]) == []


def test_samples_that_are_others_are_not_compared() -> None:
    """Two tasks of one name whose questions have other answers are an error, not a comparison."""
    one, other = (
        small_agent("digits_lstm", task=tasks.make("digits", num_test=num)) for num in (100, 300)
    )
    with pytest.raises(ConfigError, match="other answers in the second run's task"):
        compare(one, other)


def test_agents_of_two_kinds_are_compared_by_their_names() -> None:
    """A comparison of two kinds of agents names them, not the settings that only one has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agents.core.analysis.comparison.NUM_QUESTIONS", 100)
        patch.setattr("agents.core.inspection.recurrent.NUM_SAMPLES", 50)
        report = compare(small_agent("seq2seq_adder"), small_agent("transformer_adder"))
    assert report["answers"].names == ("seq2seq_adder", "transformer_adder")


@pytest.mark.parametrize("option", ["--grid=hidden_size=2,3", "--input=12+3", "--views=summary"])
def test_options_that_a_mode_does_not_use_are_refused(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also beside a config file; nothing is trained."""
    config = tmp_path / "c.yaml"
    config.write_text("agent: seq2seq_adder\ntask: add2x2\n")
    folder = tmp_path / "run"
    assert main(["--config", str(config), option, "--run-dir", str(folder)]) == 2
    assert (
        f"{option.split('=')[0]}: cannot be combined with --mode train" in capsys.readouterr().err
    )
    assert not folder.exists()


def test_a_run_under_a_tasks_earlier_name_goes_on(tmp_path: Path) -> None:
    """Parity of two bits, which is xor2 by now, resumes from a checkpoint that says parity."""
    task = tasks.make("parity", length=2, train_length=2)
    agent = small_agent("parity_lstm", task=task, steps=6)
    found = agent.learn(3).checkpoint()
    settings = {"length": 2, "train_length": 2, "modulus": 2, "data_seed": 0}
    found.values.update({"task": "parity", "task_settings": settings})
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "step-000000003.safetensors").write_bytes(found.to_bytes())
    again = small_agent("parity_lstm", task=task, steps=6)
    again.learn(run_dir=tmp_path, progress=False)
    assert again.state.cursor.step == 6
    assert again.history.records[: len(found.history)] == found.history.records


def test_a_run_folder_is_named_by_what_makes_an_experiment() -> None:
    """Seed, threads and vitals, and a setting at its default, do not change a run's name."""
    task = tasks.make("add3x3")
    name = AgentConfig().digest(task)
    assert (
        AgentConfig(seed=3, threads=1, record_diagnostics=False, steps=10_000).digest(task) == name
    )
    assert AgentConfig(steps=9).digest(task) != name
    assert AgentConfig().digest(tasks.make("add3x3", reverse="none")) != name


def test_a_new_default_is_a_new_name() -> None:
    """A default that changed keeps the name of the earlier one for the runs that have it."""
    task = tasks.make("add3x3")
    first = AdderConfig(
        schedule="one_cycle",
        batch_size=256,
        steps=18_000,
        target_score=None,
        lr_cycles=4,
        lr_cycle_growth=2.0,
        eval_every=500,
        muon_learning_rate=0.035,
    )
    assert first.digest(task) == AgentConfig().digest(task)  # nothing differs from 0.4.0
    assert AdderConfig().digest(task) != first.digest(task)


def test_training_losses_weigh_by_their_steps() -> None:
    """A record over two steps counts half as much as one over four."""
    history = History([
        {"step": 4, "train/loss": 1.0}, {"step": 6, "train/loss": 4.0},
        {"step": 6, "eval/loss": 0.5}, {"step": 8, "eval/loss": 0.25},
    ])  # fmt: skip
    assert history.losses() == [(6, 2.0, 0.5), (8, None, 0.25)]


def test_diagnostics_are_recorded_rarely() -> None:
    """At the first and the last evaluation, and when enough was learned since the last time."""
    size = SAMPLES_BETWEEN_DIAGNOSTICS // 4
    agent = small_agent(task="add2x2", batch_size=size, steps=11, eval_every=1, hidden_size=2)
    agent.learn()
    assert agent.history.series("eval/loss")[0] == list(range(1, 12))
    assert agent.history.series("fit/loss")[0] == [1, 5, 9, 11]
    assert agent.history.series("chance/exact_match")[0] == [1, 5, 9, 11]


def test_another_run_begins_without_a_carried_state(tmp_path: Path) -> None:
    """A checkpoint that is only begun from leaves its streams behind; resuming keeps them."""
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("".join(f"{number} and {number + 1}\n" for number in range(800)))
    task = tasks.make("text", path=str(corpus), block_size=16, length=32)
    agent = small_agent("char_lm", task=task, steps=4).learn()
    path = agent.save(tmp_path / "a.safetensors")
    assert agent.state.hidden_state
    assert agents.load(path, "cpu").state.hidden_state.keys() == agent.state.hidden_state.keys()
    other = small_agent("char_lm", task=task, steps=4, batch_size=4)
    other.learn(resume=str(path))
    assert other.state.hidden_state == {}
    assert all(
        torch.equal(weights(other)[name], tensor)
        for name, tensor in weights(agent).items() if name.startswith("model/")
    )  # fmt: skip
