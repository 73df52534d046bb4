"""A network over sets of unequal size, with a mask (Deep Sets, Zaheer et al. 2017, 1703.06114)."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import attrs
import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from agents.core.agent import Agent
from agents.core.config import AgentConfig, setting
from tasks.core.task import SPLITS, BatchRequest, Task

MOST = 8  # elements of a set


class Sets(NamedTuple):
    """Sets (batch, 8, 2) padded with 0, the class of each (batch, 1), and which elements are."""

    elements: Any
    label: Any
    mask: Any  # (batch, 8) bool


@attrs.frozen(kw_only=True)
class LargestDifference(Task):
    """Is the largest first coordinate of a set more than 1 above the smallest?"""

    monitor = ("accuracy", "max")

    def num_samples_in(self, split: str) -> int:
        """Return how many sets one pass has."""
        return 4096 if split == "train" else 512

    def iter_batches(self, request: BatchRequest) -> Iterator[Sets]:
        """Yield the batches of a pass."""
        rng = np.random.default_rng([SPLITS.index(request.split), request.seed, request.epoch])
        num = self.num_samples_in(request.split)
        mask = np.arange(MOST) < rng.integers(1, MOST + 1, num)[:, None]
        elements = rng.uniform(-1, 1, (num, MOST, 2)).astype(np.float32) * mask[..., None]
        first = elements[..., 0]
        top = np.where(mask, first, -np.inf).max(1)
        label = top - np.where(mask, first, np.inf).min(1) > 1
        for span in request.slices(num):
            yield Sets(elements[span], label[span, None].astype(np.int64), mask[span])

    def encode(self, x: Sequence[Any]) -> Sets:
        """Encode sets of a person: arrays (n, 2) of any n up to 8."""
        mask = np.arange(MOST) < np.array([len(one) for one in x])[:, None]
        elements = np.zeros((len(x), MOST, 2), np.float32)
        elements[mask] = np.concatenate(x)
        return Sets(elements, np.zeros((len(x), 1), np.int64), mask)

    def score(self, answers: Any, targets: Sets) -> dict[str, float]:
        """Return the share of right answers."""
        return {"accuracy": float((answers == targets.label).mean())}


class DeepSets(nn.Module):
    """An embedding of each element, the maximum over those that are there, and a perceptron."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(
            nn.Linear(2, hidden_size), nn.ReLU(), nn.Linear(hidden_size, hidden_size)
        )
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(hidden_size, 2))

    def forward(self, elements: Tensor, mask: Tensor) -> Tensor:
        """Return logits (B, 2) of sets (B, S, 2)."""
        embedded = self.embed(elements).masked_fill(~mask[..., None], -1e9)
        return self.head(embedded.amax(1))


class SetNetwork(Agent):
    """Answers a set with a class."""

    @attrs.frozen(kw_only=True)
    class Config(AgentConfig):
        """Its sizes."""

        hidden_size: int = setting(32, "numbers of an element's embedding", ge=1)

    @staticmethod
    def build_model(config: Config, spec: Any) -> nn.Module:
        """Return the network."""
        return DeepSets(config.hidden_size)

    def loss(self, batch: Sets) -> Tensor:
        """Return the mean cross entropy, in nats."""
        return F.cross_entropy(self.network(batch.elements, batch.mask), batch.label[:, 0])

    def predict_batch(self, batch: Sets) -> Tensor:
        """Return the likeliest classes (batch, 1)."""
        return self.model(batch.elements, batch.mask).argmax(-1, True)
