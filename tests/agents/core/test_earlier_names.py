"""Earlier names in agents work, and say what they are now."""

import importlib
import sys
from typing import Any

import pytest
import torch
from my_agents.products import Products
from torch import Tensor, nn

from agents.core.agent import Agent
from agents.core.config import AgentConfig
from agents.core.earlier_names import METHODS, MODULES
from tests.conftest import small_agent


@pytest.mark.parametrize(("old", "new"), MODULES.items())
def test_an_earlier_module_is_that_of_today(old: str, new: str) -> None:
    """It is the same module, and the warning names it."""
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} is {new} now"):
        assert importlib.import_module(old) is importlib.import_module(new)


def test_an_earlier_method_is_that_of_today() -> None:
    """A caller gets the method that has another name; what never was is an AttributeError."""
    agent = small_agent()
    for old, new in METHODS.items():
        with pytest.warns(DeprecationWarning, match=rf"{old}\(\) is {new}\(\) now"):
            assert getattr(agent, old) == getattr(agent, new)
    with pytest.raises(AttributeError, match="'Seq2SeqAdder' object has no attribute 'answer'"):
        _ = agent.answer


def test_an_earlier_attribute_of_the_state_is_that_of_today() -> None:
    """What a training batch passes to the next was `state.carried`: it is read and written."""
    state = small_agent().state
    with pytest.warns(DeprecationWarning, match="State: carried is hidden_state now"):
        state.carried = {"0": torch.ones(1)}
    with pytest.warns(DeprecationWarning, match="State: carried is hidden_state now"):
        assert state.carried is state.hidden_state
    assert state.hidden_state.keys() == {"0"}


def test_an_agent_written_for_an_earlier_version_learns() -> None:
    """Its `build_model(self, spec)`, `respond`, `reply` and `views` pass for those of today."""
    with pytest.warns(DeprecationWarning, match="Earlier: .* is .* now") as told:

        class Earlier(Agent):
            name, Config, spec_type = "earlier", AgentConfig, object

            def build_model(self, spec: Any) -> nn.Module:
                return nn.Linear(4, self.config.batch_size // 16)

            def loss(self, batch: Any) -> Tensor:
                return nn.functional.mse_loss(self.network(batch.x), batch.y)

            def respond(self, batch: Any) -> Tensor:
                return self.model(batch.x)

            reply = respond

            def views(self) -> Any:
                return {"mine": self.history.curves}

    said = " ".join(str(each.message) for each in told)
    for word in ("predict_batch", "generate", "own_views", "build_model"):
        assert word in said
    config = AgentConfig(steps=3, batch_size=16, eval_every=3, eval_samples=8, threads=1)
    agent = Earlier(Products(), config, "cpu").learn()
    assert agent.predict_arrays(agent.task.samples("test", 5)).shape == (5, 1)
    assert "mine" in agent.inspect(["mine"]).records
