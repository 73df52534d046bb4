"""Agents that learn in one process and in two, and functions that ranks call."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import torch.distributed as dist
from torch import Tensor, nn

import agents
import tasks
from agents.core.agent import Agent
from agents.core.config import AgentConfig
from tests.carriers.regression import Products, Regression, Vectors
from tests.carriers.set_network import LargestDifference, SetNetwork
from tests.conftest import small_agent

FEW: dict[str, Any] = {
    "steps": 8, "batch_size": 8, "eval_every": 4, "eval_samples": 9, "save_every": 3,
    "log_every": 2, "precision": "fp32",
}  # fmt: skip


@attrs.frozen(kw_only=True)
class Few(Products):
    """Fifteen samples: with a batch size of 7 the last batch of a pass has a single one."""

    def num_samples_in(self, split: str) -> int:
        """Number of samples of one pass."""
        return 15


class Halved(Regression):
    """A regression with a loss of two named parts, for which the network is called twice.

    Its first layer is never used, the second is frozen, and the last is used in every second step.
    """

    @staticmethod
    def build_model(config: AgentConfig, spec: Any) -> nn.Module:
        """Return the perceptron behind a layer that is there for nothing."""
        layers = nn.ModuleList(
            [nn.Linear(3, 3), nn.Linear(4, 16), nn.Linear(16, 1), nn.Linear(4, 1)]
        )
        layers[1].requires_grad_(False)
        return layers

    def _answers(self, x: Tensor) -> Tensor:
        layers = self.network
        answers: Tensor = layers[2](layers[1](x).tanh())
        return answers + layers[3](x) if self.state.cursor.step % 2 else answers

    def loss(self, batch: Vectors) -> dict[str, Tensor]:
        """Return the mean squared error, and a small penalty."""
        error = nn.functional.mse_loss(self._answers(batch.x), batch.y)
        return {"error": error, "size": 0.01 * self._answers(batch.x).square().mean()}

    def predict_batch(self, batch: Vectors) -> Tensor:
        """Return the predictions (batch, 1)."""
        return self._answers(batch.x)


def curriculum(**settings: Any) -> Agent:
    """Return an agent whose task becomes harder after every second step."""
    of_stages = {"curriculum_loss_threshold": 10.0, "curriculum_window": 2}
    return agents.make("parity_lstm", task="parity", device="cpu", hidden_size=8,
                       **{**FEW, **of_stages, **settings})  # fmt: skip


def reader(name: str, **settings: Any) -> Agent:
    """Return a small reader of handwriting that draws no random numbers."""
    still: dict[str, Any] = {"augmentation": 0.0, "dropout": 0.0}
    if name == "attention_reader":
        still |= {"scheduled_sampling": 0.0}
    return small_agent(name, **{**FEW, "steps": 4, **still, **settings})


def detector(**settings: Any) -> Agent:
    """Return a small detector."""
    task = tasks.make("digit_pages", size=64, min_digits=1, max_digits=3, min_height=14)
    return agents.make("yolo_detector", task=task, device="cpu", channels=4,
                       **{**FEW, "steps": 4, **settings})  # fmt: skip


def own(cls: type[Agent], task: Any) -> Callable[..., Agent]:
    """Return a function that makes an agent of one's own with settings."""
    return lambda **settings: cls(task, cls.Config(**{**FEW, **settings}), "cpu")


QUICK: dict[str, Callable[..., Agent]] = {
    "adder": lambda **s: small_agent("seq2seq_adder", **{**FEW, **s}),
    "char_lm": lambda **s: small_agent("char_lm", **{**FEW, "state_reset_prob": 0.0, **s}),
    "uneven": own(Regression, Few()),
    "unused": own(Halved, Few()),
    "sets": own(SetNetwork, LargestDifference()),
    "curriculum": curriculum,
}
OWN_SETTINGS: dict[str, dict[str, Any]] = {"uneven": {"batch_size": 7}, "unused": {"batch_size": 7}}
SLOW: dict[str, Callable[..., Agent]] = {
    "ctc_reader": lambda **s: reader("ctc_reader", **s),
    "attention_reader": lambda **s: reader("attention_reader", **s),
    "yolo_detector": detector,
    "cnn_classifier": lambda **s: small_agent("cnn_classifier", **{**FEW, "dropout": 0.0, **s}),
}


def make(name: str, **settings: Any) -> Agent:
    """Return the agent of a scenario, untrained."""
    return {**QUICK, **SLOW}[name](**{**OWN_SETTINGS.get(name, {}), **settings})


def save(agent: Agent, folder: Path, name: str) -> None:
    """Save what this rank has."""
    agent.save(folder / f"{name}-rank{dist.get_rank()}.safetensors")


def learn(folder: Path, *names: str) -> None:
    """Let the agents of scenarios learn, and save what each rank has."""
    for name in names:
        save(make(name).learn(), folder, name)
