"""Regression on vectors: a task and an agent of one's own, without any registration."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import attrs
import numpy as np
from torch import Tensor, nn

from agents.core.agent import Agent
from agents.core.config import AgentConfig
from tasks.core.task import SPLITS, BatchRequest, Task


class Vectors(NamedTuple):
    """Vectors (batch, 4) and numbers (batch, 1): arrays here, tensors in the agent."""

    x: Any
    y: Any


@attrs.frozen(kw_only=True)
class Products(Task):
    """The product of the first two of four numbers, plus the third: a function to be learned."""

    monitor = ("error", "min")

    def num_samples_in(self, split: str) -> int:
        """Number of samples of one pass."""
        return 4096 if split == "train" else 512

    def iter_batches(self, request: BatchRequest) -> Iterator[Vectors]:
        """Yield the batches of a pass: the same pass, the same numbers."""
        rng = np.random.default_rng([SPLITS.index(request.split), request.seed, request.epoch])
        x = rng.uniform(-1, 1, (self.num_samples_in(request.split), 4)).astype(np.float32)
        for span in request.slices(len(x)):
            yield Vectors(x[span], x[span, :1] * x[span, 1:2] + x[span, 2:3])

    def score(self, answers: Any, targets: Vectors) -> dict[str, float]:
        """Return the mean absolute error."""
        return {"error": float(np.abs(answers - targets.y).mean())}


class Regression(Agent):
    """A perceptron with one hidden layer of 32 units."""

    @staticmethod
    def build_model(config: AgentConfig, spec: Any) -> nn.Module:
        """Return the perceptron."""
        return nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 1))

    def loss(self, batch: Vectors) -> Tensor:
        """Return the mean squared error."""
        return nn.functional.mse_loss(self.network(batch.x), batch.y)

    def predict_batch(self, batch: Vectors) -> Tensor:
        """Return the predictions (batch, 1)."""
        return self.model(batch.x)
