"""A network so small that a step costs little beside what surrounds it, for measuring overhead."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

import tasks
from agents.core.agent import Agent
from agents.core.config import AgentConfig
from tasks.core.registry import Entry
from tasks.core.task import BatchRequest, ProbeTargets, Row, Split, Task

NUM_SAMPLES = 8192
NUM_INPUTS = 32
NUM_CLASSES = 4
NUM_HIDDEN = 64


class Vectors(NamedTuple):
    """Inputs (batch, NUM_INPUTS) and the class of each, (batch,)."""

    inputs: NDArray[Any]
    label: NDArray[Any]


class VectorToClass(NamedTuple):
    """The sizes of the task."""

    num_inputs: int
    num_classes: int


@attrs.frozen(kw_only=True)
class TinyTask(Task):
    """Which of the first few inputs is the largest?"""

    name = "tiny"
    spec = VectorToClass(NUM_INPUTS, NUM_CLASSES)
    monitor = ("accuracy", "max")
    num_stages = 1

    def for_display(self) -> Task:
        """The task itself."""
        return self

    def num_samples_in(self, split: Split) -> int:
        """Return the same number for every split."""
        return NUM_SAMPLES

    def samples(self, split: Split, num: int, seed: int = 0) -> Vectors:
        """Return normally distributed inputs and their classes."""
        return Vectors(*(array[:num] for array in _draw(split, seed)))

    def iter_batches(self, request: BatchRequest) -> Iterator[Vectors]:
        """Yield slices of one shuffled array."""
        inputs, label = _draw(request.split, request.seed)
        order = np.random.default_rng([request.seed, request.epoch]).permutation(NUM_SAMPLES)
        inputs, label = inputs[order], label[order]
        for part in request.slices(NUM_SAMPLES):
            yield Vectors(inputs[part], label[part])

    def encode(self, x: Sequence[str]) -> Vectors:
        """Return numbers that are written with commas between them."""
        inputs = np.array([text.split(",") for text in x], np.float32)
        return Vectors(inputs, np.zeros(len(x), np.int64))

    def decode(self, answers: NDArray[Any]) -> list[str]:
        """Return the classes as text."""
        return [str(answer) for answer in answers]

    def score(self, answers: NDArray[Any], targets: Vectors) -> dict[str, float]:
        """Return the share of right classes."""
        return {"accuracy": float((answers == targets.label).mean())}

    def rows(self, answers: NDArray[Any], targets: Vectors) -> list[Row]:
        """Return each class given and the right one."""
        pairs = zip(answers, targets.label, strict=True)
        return [Row("", str(a), str(t), bool(a == t)) for a, t in pairs]

    def probe_targets(self, batch: Vectors) -> ProbeTargets:
        """Return nothing: there are no moments."""
        return ProbeTargets({}, {})


@functools.cache
def _draw(split: Split, seed: int) -> Vectors:
    rng = np.random.default_rng([seed, *map(ord, split)])
    inputs = rng.standard_normal((NUM_SAMPLES, NUM_INPUTS), np.float32)
    return Vectors(inputs, inputs[:, :NUM_CLASSES].argmax(1))


def tiny_data() -> list[Tensor]:
    """Return the training inputs (NUM_SAMPLES, NUM_INPUTS) and classes as tensors."""
    return [torch.as_tensor(array) for array in _draw("train", 0)]


def tiny_model() -> nn.Module:
    """Return a perceptron with two hidden layers."""
    return nn.Sequential(
        nn.Linear(NUM_INPUTS, NUM_HIDDEN),
        nn.ReLU(),
        nn.Linear(NUM_HIDDEN, NUM_HIDDEN),
        nn.ReLU(),
        nn.Linear(NUM_HIDDEN, NUM_CLASSES),
    )


class TinyAgent(Agent):
    """The perceptron as an agent."""

    name = "tiny"
    Config = AgentConfig
    spec_type = VectorToClass

    @staticmethod
    def build_model(config: AgentConfig, spec: VectorToClass) -> nn.Module:
        """Return the perceptron."""
        return tiny_model()

    def loss(self, batch: Any) -> Tensor:
        """Return the mean cross entropy."""
        return F.cross_entropy(self.network(batch.inputs), batch.label)

    def predict_batch(self, batch: Any) -> Tensor:
        """Return the likeliest classes."""
        return self.model(batch.inputs).argmax(-1)


def register() -> None:
    """Make the task known by its name, which run folders ask for; importing this adds nothing."""
    tasks.TASKS[TinyTask.name] = Entry(__name__, "TinyTask", "the largest of four numbers")
