"""Fine-tuning: the weights of a run are the start of another."""

from pathlib import Path

import attrs
import pytest
import torch

import agents
from tests.conftest import same, small_agent, weights


def of_model(values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in values.items() if name.startswith("model/")}


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """Return the checkpoint of a run on sums of one and two digits."""
    return small_agent(task="add1x2").learn().save(tmp_path / "first.safetensors")


def test_a_run_begins_with_the_weights_of_another_task(trained: Path) -> None:
    """Before its first step it has them all; step, optimiser and history are its own."""
    first = agents.load(trained, "cpu")
    agent = small_agent(task="add2x2", init_from=str(trained), learning_rate=1e-30,
                        muon_learning_rate=1e-30).learn(1)  # fmt: skip
    for name, tensor in first.model.state_dict().items():
        torch.testing.assert_close(agent.model.state_dict()[name], tensor)
    assert agent.state.cursor.step == 1
    assert len(agent.history.series("train/loss")[0]) == 1


def test_it_goes_on_exactly_after_a_stop(trained: Path, tmp_path: Path) -> None:
    """Taken up from its folder it ends as a run that was not stopped, the first file gone."""
    settings = {"task": "add2x2", "init_from": str(trained), "schedule": "constant"}
    whole = small_agent(**settings).learn()
    small_agent(**settings).learn(5, run_dir=tmp_path / "run", progress=False)
    agent = small_agent(**settings)
    trained.unlink()
    agent.learn(12, run_dir=tmp_path / "run", progress=False)
    assert same(weights(whole), weights(agent))
    again = agents.load(tmp_path / "run" / "best.safetensors", "cpu")
    assert again.config.init_from == str(trained)


def test_layers_of_another_size_begin_as_drawn(trained: Path) -> None:
    """What does not fit is named in a warning; nothing that fits is an error."""
    agent = small_agent(task="add1x2", init_from=str(trained), num_layers=2)
    with pytest.warns(RuntimeWarning, match="encoder.weight_ih_l1, .* are initialised at random"):
        agent.learn(1)
    other = small_agent("parity_lstm", hidden_size=5, init_from=str(trained))
    with pytest.raises(ValueError, match=r"init_from: no weight of .* fits this model"):
        other.learn(1)


def test_it_names_another_run(trained: Path) -> None:
    """A run that begins elsewhere has a folder of its own."""
    plain = small_agent()
    changed = attrs.evolve(plain.config, init_from=str(trained))
    assert changed.digest(plain.task) != plain.config.digest(plain.task)
