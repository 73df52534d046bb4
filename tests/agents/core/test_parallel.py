"""Parts of a batch that are computed side by side."""

from pathlib import Path
from typing import Any

import pytest
import torch

import agents
from agents.core.agent import Agent
from agents.core.training import parallel
from agents.core.training.loop import TrainStep
from tests.conftest import same, small_agent, weights


def gradients(agent: Agent, batch: Any, num_parts: int) -> dict[str, torch.Tensor]:
    """Return what a step leaves with the parameters, before the optimiser moves them."""
    agent.state.precision = "fp32"
    train_step = TrainStep(agent, num_parts)
    before = {name: p.detach().clone() for name, p in agent.model.named_parameters()}
    loss = train_step.step(batch, 1, 0.0).loss
    assert all(torch.equal(p, before[n]) for n, p in agent.model.named_parameters())  # rate 0
    found = {n: p.grad for n, p in agent.model.named_parameters() if p.grad is not None}
    return {**found, "loss": torch.tensor(loss)}


@pytest.mark.parametrize("name", agents.AGENTS)
def test_parts_add_up_to_the_whole(name: str) -> None:
    """Where samples are independent, three parts have the loss and the gradients of the whole."""
    agent = small_agent(name, clip_norm=None)
    if not agent.samples_are_independent:
        pytest.skip("its samples are not independent")
    stage = agent.task.num_stages - 1
    batch = next(agent.task.batches("train", 20, 0, 0, 0, stage))
    whole, parts = gradients(agent, batch, 1), gradients(agent, batch, 3)
    assert whole.keys() == parts.keys()
    for tag, gradient in whole.items():
        atol = 1e-5 * max(1e-3, float(gradient.abs().max()))
        torch.testing.assert_close(parts[tag], gradient, rtol=1e-3, atol=atol)


@pytest.mark.parametrize("settings", [{"dropout": 0.5, "num_layers": 2}, {"dropout": 0.0}], ids=str)
def test_dropout_keeps_a_batch_whole(settings: dict[str, Any]) -> None:
    """Random numbers are drawn by one thread, in one order: a batch with dropout is never cut."""
    agent = small_agent(threads=2, batch_size=64, **settings)
    assert agent.num_parts(2) == (1 if settings["dropout"] else 2)


def test_parts_have_32_samples_or_more() -> None:
    """A batch is cut into as many parts as there are threads, but into none of under 32 samples."""
    sizes = [(1, 256), (2, 256), (8, 256), (16, 256), (2, 63), (2, 64), (4, 1)]
    assert [parallel.num_parts(*size) for size in sizes] == [1, 2, 8, 8, 1, 2, 1]


def test_two_threads_give_the_same_bits_again(tmp_path: Path) -> None:
    """Runs in two parts are equal to the bit, at once or in two pieces, whoever comes first."""
    settings = {"threads": 2, "batch_size": 64, "schedule": "constant"}
    whole = small_agent(**settings).learn()
    half = small_agent(**settings).learn(5).save(tmp_path / "half.safetensors")
    torch.set_num_threads(2)  # of the caller: not the run's
    assert same(weights(whole), weights(small_agent(**settings).learn()))
    assert same(weights(whole), weights(agents.load(half, "cpu").learn(12)))
    assert torch.get_num_threads() == 2


def test_a_default_run_uses_the_cores_that_torch_may_use() -> None:
    """With nothing set, parts go to all of torch's threads; torch itself computes with one."""
    torch.set_num_threads(3)
    agent = small_agent(batch_size=128)
    counts = []
    loss_fn = agent.loss
    agent.loss = lambda batch: (counts.append(torch.get_num_threads()), loss_fn(batch))[1]
    agent.learn(1)
    assert (agent.state.threads, agent.num_parts(3)) == (3, 3)
    assert set(counts) == {1}


def test_an_agent_whose_samples_depend_on_each_other_has_one_thread() -> None:
    """Batch normalisation sees a batch whole; beside other work torch's threads are far slower."""
    torch.set_num_threads(2)
    agent = small_agent("cnn_classifier", batch_size=64)
    assert (agent.state.threads, agent.num_parts(2)) == (1, 1)


def test_results_stand_in_the_order_of_the_items() -> None:
    """What threads return comes in the order of what they were given, the caller's own first."""
    assert parallel.map_threads(lambda x: x * x, range(9)) == [x * x for x in range(9)]


@pytest.mark.parametrize("bad", [0, 2])
def test_an_error_in_a_part_is_the_callers(bad: int) -> None:
    """Whichever part fails, the caller gets its error."""
    with pytest.raises(ZeroDivisionError):
        parallel.map_threads(lambda x: 1 / (x - bad), range(4))
