"""State of an agent, and of the global generators, compared to the bit."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from agents.core.agent import Agent
from tasks.core.conformance import generator_states


def weights(agent: Agent) -> dict[str, Tensor]:
    """Return a copy of everything that a checkpoint holds as tensors."""
    return {name: tensor.clone() for name, tensor in agent.checkpoint().tensors.items()}


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    """Tell whether two sets of tensors are equal to the bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def exact(history: Any) -> list[dict[str, float]]:
    """Return records without the clock's tags."""
    return [{k: v for k, v in record.items() if not k.startswith("time/")} for record in history]


def state_of(agent: Agent) -> dict[str, Any]:
    """Return all of an agent, and of the global generators, that looking at it must not change."""
    named = agent.model.named_parameters()
    gradients = {name: p.grad.clone() for name, p in named if p.grad is not None}
    modules = list(agent.model.modules())
    return {
        "weights": weights(agent),
        "gradients": gradients,
        "torch's generator": {"": torch.get_rng_state()},
        "Python's and numpy's generators": generator_states(),
        "modes of modules": [module.training for module in modules],
        "hooks": [m for m in modules if m._forward_hooks or m._backward_hooks],
    }


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return what differs between two states; tensors are compared to the bit."""

    def differs(a: Any, b: Any) -> bool:
        return not same(a, b) if isinstance(a, dict) else bool(a != b)

    return [name for name in before if differs(before[name], after[name])]


def with_own_modes(agent: Agent) -> Agent:
    """Set the model to training mode, and one module in it to evaluation mode."""
    agent.model.train()
    for module in list(agent.model.children())[:1]:
        module.eval()
    return agent
