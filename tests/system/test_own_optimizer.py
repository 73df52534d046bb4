"""An agent brings its own optimiser, with exact resume."""

from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from my_agents.products import Products
from my_agents.regression import Regression
from torch import nn

from agents.core.agent import Agent
from agents.core.runs.checkpoint import CheckpointError
from agents.core.training.optimizer import TorchOptimizer
from tests.conftest import same, weights

KINDS = {
    "sgd": lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
    "sgd without state": lambda model: torch.optim.SGD(model.parameters(), lr=0.1),
    "rmsprop": lambda model: torch.optim.RMSprop(model.parameters(), lr=1e-3),
    "two groups": lambda model: torch.optim.AdamW(
        [{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 1e-4}], lr=1e-2
    ),
}


def agent_with(kind: str) -> Agent:
    """Return a fresh regression that brings an optimiser of torch."""

    class Mine(Regression):
        @staticmethod
        def configure_optimizer(model: nn.Module, config: Any) -> TorchOptimizer:
            return TorchOptimizer(model, KINDS[kind](model), config)

    config = Regression.Config(
        steps=12, batch_size=16, eval_every=6, eval_samples=16, save_every=4, threads=1,
        precision="fp32",
    )  # fmt: skip
    return Mine(Products(), config, "cpu")


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_goes_on_with_the_same_bits(kind: str, tmp_path: Path) -> None:
    """Stopped in the middle, with whatever state the optimiser has, it ends as one that was not."""
    whole, first, second = (agent_with(kind) for _ in range(3))
    for agent in (whole, first, second):
        agent.config = attrs.evolve(agent.config, schedule="constant")
    before = weights(first)
    whole.learn()
    first.learn(7, run_dir=tmp_path, progress=False)
    second.learn(12, run_dir=tmp_path, progress=False)
    assert second.state.cursor.step == 12
    assert same(weights(whole), weights(second))
    assert not same(before, weights(first))


def test_the_steps_are_those_of_torch() -> None:
    """At a constant rate the parameters are those of a plain loop with the same optimiser."""
    agent = agent_with("sgd")
    model = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 1))
    model.load_state_dict(agent.model.state_dict())
    agent.config = attrs.evolve(agent.config, schedule="constant", clip_norm=None)
    agent.learn(5)
    optimizer = KINDS["sgd"](model)
    batches = agent.task.batches("train", 16, 0, 0)
    for _ in range(5):
        batch = next(batches)
        loss = nn.functional.mse_loss(model(torch.tensor(batch.x)), torch.tensor(batch.y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(agent.model.get_parameter(name), parameter)


def test_what_does_not_fit_is_refused() -> None:
    """LBFGS, which needs a closure, and the state of another model, are errors that say so."""
    model = nn.Linear(2, 1)
    with pytest.raises(ValueError, match="LBFGS needs a closure"):
        TorchOptimizer(model, torch.optim.LBFGS(model.parameters()), Regression.Config())
    own = TorchOptimizer(model, torch.optim.SGD(model.parameters(), lr=1), Regression.Config())
    with pytest.raises(CheckpointError, match="no state 'weight/momentum_buffer'"):
        own.check({"weight/momentum_buffer": torch.zeros(3, 3)})
