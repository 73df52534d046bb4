"""Best dataset examples for an objective, and image priors weighted relative to them.

N images that an objective tells apart, C channels, H rows, W columns.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.core.errors import argument_error
from visualization.core.inputs import Images, as_record, at_least_float32, batches
from visualization.synthesis.constraints import l2, total_variation
from visualization.synthesis.objective import ForwardCache, Objective, caching_forward

_INK, _EDGES = 0.25, 0.1  # of its advantage, what the best real image pays for the two


@attrs.frozen(eq=False)
class DatasetExamples:
    """Best dataset examples for N images that are to be found.

    Attributes:
        values: what the objective reads there (N,).
        means: what it reads on average over all that were given (N,).
        numbers: their numbers (N,).
        images: (N, C, H, W).
    """

    values: NDArray[np.float64]
    means: NDArray[np.float64]
    numbers: NDArray[np.int64]
    images: Tensor

    def repeated(self, num: int) -> "DatasetExamples":
        """Return the same for `num` images that all look for one thing."""
        rows = np.zeros(num, int)
        return DatasetExamples(
            self.values[rows], self.means[rows], self.numbers[rows], self.images[rows]
        )


def best_dataset_examples(
    model: nn.Module, objective: Objective, images: Images | Iterable[Any], batch_size: int
) -> DatasetExamples:
    """Best dataset examples for each of the N images that an objective tells apart.

    Raises:
        ValueError: the objective compares images, or there are none.
    """
    if objective.coupled:
        problem = f"{objective.names[0]!r} compares images with each other"
        raise argument_error("reference", problem, "objectives of single images")
    parts: list[_Best] = []
    count = 0
    with torch.no_grad(), caching_forward(model, objective.layers) as forward:
        for batch in map(at_least_float32, batches(images, model, batch_size)):
            read = _read(objective, forward(batch, batch.new_zeros(len(batch)).long()))
            values, number = read.max(dim=1)
            part = _Best(values, read.sum(dim=1), number + count, batch[number])
            parts = [_merge(parts[0], part) if parts else part]
            count += len(batch)
    if not parts:
        raise argument_error("reference", "there are no images", "one or more")
    best = parts[0]
    values, means = best.values.double().cpu(), best.sums.double().cpu() / count
    return DatasetExamples(
        values.numpy(), means.numpy(), best.numbers.cpu().numpy(), as_record(best.images)
    )


class _Best(NamedTuple):
    """Of some images the best values (N,), with numbers and images, and sums over all."""

    values: Tensor
    sums: Tensor
    numbers: Tensor
    images: Tensor


def _read(objective: Objective, cache: ForwardCache) -> Tensor:
    """Return what each of N images that an objective tells apart reads of n others (N, n)."""
    rows = (torch.full_like(cache.rows, number) for number in range(len(objective.names)))
    return torch.stack([objective.read(attrs.evolve(cache, rows=row)) for row in rows])


def _merge(first: _Best, second: _Best) -> _Best:
    better = second.values > first.values  # so that of equals the first stays
    return _Best(
        torch.where(better, second.values, first.values),
        first.sums + second.sums,
        torch.where(better, second.numbers, first.numbers),
        torch.where(better.reshape(-1, 1, 1, 1), second.images, first.images),
    )


def with_matched_priors(
    objective: Objective, examples: DatasetExamples, strength: float
) -> Objective:
    """Objective with image priors, weighted to cost real images a given share.

    The priors are l2 around the median pixel, and total variation. The best real images have more
    of what is asked for than the mean ones; on average they would pay a quarter of that for their
    ink and a tenth for their edges. That makes the priors independent of the objective's units.

    Args:
        objective: for N images.
        examples: their best real images.
        strength: multiplies both shares.
    """
    background = float(examples.images.median())
    cache = ForwardCache(examples.images, {}, torch.zeros(len(examples.images), dtype=torch.long))
    advantage = torch.as_tensor(examples.values - examples.means)
    priors, weights = [], []
    for share, prior in ((_INK, l2(background)), (_EDGES, total_variation())):
        cost = -float(prior.prior(cache).mean())
        priors.append(prior)
        weights.append(strength * share * advantage / cost if cost > 0 else 0 * advantage)

    def weighed(cache: ForwardCache) -> Tensor:
        terms = zip(priors, weights, strict=True)
        added = sum(cache.own(weight, cache.images) * prior.prior(cache) for prior, weight in terms)
        return objective.prior(cache) + added

    return attrs.evolve(objective, prior=weighed)
