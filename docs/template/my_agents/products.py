"""Regression on vectors: a function of four numbers is to be learned."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import attrs
import numpy as np

from tasks.core.settings import ConfigError
from tasks.core.task import SPLITS, BatchRequest, Task


class Vectors(NamedTuple):
    """Vectors (batch, 4) and numbers (batch, 1): arrays here, tensors in the agent."""

    x: Any
    y: Any


@attrs.frozen(kw_only=True)
class Products(Task):
    """The product of the first two of four numbers, plus the third."""

    monitor = ("error", "min")

    def num_samples_in(self, split: str) -> int:
        """Number of samples of one pass."""
        return 4096 if split == "train" else 512

    def iter_batches(self, request: BatchRequest) -> Iterator[Vectors]:
        """Yield the batches of a pass: the same request, the same numbers."""
        rng = np.random.default_rng([SPLITS.index(request.split), request.seed, request.epoch])
        x = rng.uniform(-1, 1, (self.num_samples_in(request.split), 4)).astype(np.float32)
        for span in request.slices(len(x)):
            yield Vectors(x[span], x[span, :1] * x[span, 1:2] + x[span, 2:3])

    def score(self, answers: Any, targets: Vectors) -> dict[str, float]:
        """Return the mean absolute error."""
        return {"error": float(np.abs(answers - targets.y).mean())}

    def encode(self, x: Sequence[Any]) -> Vectors:
        """Encode what a person types, such as `0.5 -0.4 0.1 0`."""
        try:
            numbers = np.array([str(text).split() for text in x], np.float32).reshape(-1, 4)
        except ValueError:
            raise ConfigError(self.name, "", f"{x[0]!r} is not accepted", "4 numbers") from None
        return Vectors(numbers, np.zeros((len(x), 1), np.float32))
