"""Agents that learn in one process and in two, and functions that ranks call."""

import json
import os
import signal
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch.distributed as dist
from my_agents.products import Products, Vectors
from my_agents.regression import Regression
from torch import Tensor, nn

import agents
import tasks
from agents.core.agent import Agent
from agents.core.config import AgentConfig
from agents.core.runs.run_folder import RunFolder
from agents.core.training import parallel
from agents.core.training.processes import ProcessGroup
from tasks.core.settings import TerrariumError
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
OWN_SETTINGS: dict[str, dict[str, Any]] = {
    "uneven": {"batch_size": 7, "eval_samples": 1},
    "unused": {"batch_size": 7},
}
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


def dropped(**settings: Any) -> Agent:
    """Return an agent whose training draws random numbers, with two layers."""
    return small_agent("seq2seq_adder", num_layers=2,
                       **{**FEW, "dropout": 0.3, "schedule": "constant", **settings})  # fmt: skip


def carrying(**settings: Any) -> Agent:
    """Return an agent that carries a hidden state, at a rate that does not depend on the end."""
    return make("char_lm", schedule="constant", **settings)


def resume(folder: Path) -> None:
    """Learn at once and in two halves, with dropout and without; and go on from one process."""
    save(dropped().learn(), folder, "whole")
    dropped().learn(4, run_dir=folder / "halves", progress=False)
    save(dropped().learn(run_dir=folder / "halves", progress=False), folder, "halves")
    carrying().learn(4, run_dir=folder / "two-one", progress=False)
    save(carrying().learn(run_dir=folder / "one-two", progress=False), folder, "one-two")


class Trouble(Regression):
    """A regression with which something happens to rank 1: in its third step, or evaluating."""

    trouble = ""

    def loss(self, batch: Vectors) -> Tensor:
        """Return the mean squared error."""
        loss = super().loss(batch)
        if self.model.training and self.state.cursor.step == 2 and dist.get_rank() == 1:
            if self.trouble == "nan":
                loss = loss * float("nan")
            elif self.trouble in ("SIGTERM", "SIGINT"):
                os.kill(os.getpid(), signal.Signals[self.trouble])
        return loss

    def predict_batch(self, batch: Vectors) -> Tensor:
        """Return the predictions (batch, 1)."""
        if self.trouble == "late" and self.state.cursor.step == 4 and dist.get_rank() == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().predict_batch(batch)


def decide(folder: Path) -> None:
    """Let something happen to one rank; write down how each rank ends, and what it has."""
    ends = {}
    config = Regression.Config(**FEW)
    for trouble in ("nan", "SIGTERM", "SIGINT", "late"):
        agent = Trouble(Few(), config, "cpu")
        agent.trouble = trouble
        ends[trouble] = _end_of(agent, folder / trouble)
    patient = attrs.evolve(config, steps=40, eval_every=1, patience=2, learning_rate=10.0)
    ends["patience"] = _end_of(Regression(Few(), patient, "cpu"), folder / "patience")
    enough = attrs.evolve(config, target_score=100.0)
    ends["target"] = _end_of(Regression(Few(), enough, "cpu"), folder / "target")
    others = attrs.evolve(config, batch_size=3)
    ends["settings"] = _end_of(Regression(Few(), others, "cpu"), folder / "target")
    (folder / "locked").mkdir(exist_ok=True)
    with RunFolder.locked(folder / "locked") if dist.get_rank() == 0 else nullcontext():
        ends["locked"] = _end_of(Regression(Few(), config, "cpu"), folder / "locked")
    agent = Regression(Few(), attrs.evolve(config, parallel="data"), "cpu")
    ends["parallel"] = _end_of(agent, folder / "parallel")
    with parallel.distribute(agent, ProcessGroup()) as network:
        ends["network"] = type(network).__name__
    ends["exchange"] = exchange()
    write(folder, ends)


def _end_of(agent: Agent, run_dir: Path) -> dict[str, Any]:
    """Return by what `learn` ended, and after how many steps."""
    end: object = "done"
    try:
        agent.learn(run_dir=run_dir, progress=False)
    except (TerrariumError, KeyboardInterrupt, SystemExit) as error:
        end = error.code if isinstance(error, SystemExit) else type(error).__name__
    return {"end": end, "step": agent.state.cursor.step}


def write(folder: Path, values: Any) -> None:
    """Write values as JSON, in a file of this rank."""
    (folder / f"rank{dist.get_rank()}.json").write_text(json.dumps(values))


def exchange() -> str:
    """Send values of all kinds from rank to rank; `right` if they arrive as they were."""
    group = ProcessGroup()
    own = {"rank": group.rank, "arrays": [np.arange(group.rank), np.zeros((2, 0), np.float32)],
           "vectors": Vectors(np.float32(1.5), ("a", None, True))}  # fmt: skip
    gathered = group.gather(own)
    assert [each["rank"] for each in gathered] == [0, 1]
    assert [len(each["arrays"][0]) for each in gathered] == [0, 1]
    assert gathered[1]["arrays"][1].shape == (2, 0)
    assert all(each["vectors"] == Vectors(np.float32(1.5), ("a", None, True)) for each in gathered)
    assert group.sum([1.0, group.rank]) == [2.0, 1.0]
    assert group.broadcast(group.rank) == 0
    return "right"


def learn(folder: Path, *names: str) -> None:
    """Let the agents of scenarios learn, and save what each rank has."""
    for name in names:
        save(make(name).learn(), folder, name)
