"""Least costs of paths from one object to all others, by Bellman and Ford, of many graphs at once.

Bellman 1958, Ford 1956. Of paths with the same cost the one with the fewest edges counts.
"""

import abc
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core.task import SetTargets, Split
from tasks.reasoning.base import SetTask

_EDGE = 2**20  # a cost in this unit leaves room to count edges
UNREACHED = -1  # the cost and the number of edges of an object to which no path leads


def least_costs(
    weights: NDArray[np.int64], source: NDArray[np.int64], rounds: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return least costs of paths from a source, and their numbers of edges: each (num, n).

    Args:
        weights: (num, n, n), of the edge from i to j at [i, j]; 0: there is no such edge.
        source: (num,), the object at which paths begin.
        rounds: the most edges of a path; None: any number.
    """
    far = np.iinfo(np.int64).max // 4
    steps = np.where(weights > 0, weights * _EDGE + 1, far)
    costs = np.full(weights.shape[:2], far)
    costs[np.arange(len(costs)), source] = 0
    for _ in range(weights.shape[1] - 1 if rounds is None else rounds):
        shorter = _relaxed(costs, steps)
        if np.array_equal(shorter, costs):
            break
        costs = shorter
    is_reached = costs < far
    cost, edges = np.divmod(costs, _EDGE)
    return np.where(is_reached, cost, UNREACHED), np.where(is_reached, edges, UNREACHED)


def _relaxed(costs: NDArray[Any], steps: NDArray[Any]) -> NDArray[Any]:
    """Return the costs (num, n) after one more step along edges of these costs (num, n, n)."""
    return np.asarray(np.minimum(costs, (costs[:, :, None] + steps).min(axis=1)))


@attrs.frozen(kw_only=True, eq=False)
class PathProblems:
    """Path problems as Bellman and Ford solve them: B graphs with at most n objects.

    Attributes:
        weights: of the edge from i to j at [:, i, j]; 0: there is no such edge (B, n, n).
        source: the object at which paths begin (B,).
        last: the object at which they end (B,).
        kinds: what the features of each object tell of its distance beforehand, as a code (B, n).
    """

    weights: NDArray[np.int64]
    source: NDArray[np.int64]
    last: NDArray[np.int64]
    kinds: NDArray[np.int64]

    def distances(self, num_steps: int) -> NDArray[np.float64]:
        """Return the distances known after 0 … `num_steps` steps (steps + 1, B, n).

        They are those from the source by at most so many edges; NaN where there is no such path.
        """
        known = np.full(self.weights.shape[:2], np.nan)
        known[np.arange(len(known)), self.source] = 0
        steps = [known]
        for _ in range(num_steps):
            steps.append(self.distances_from(steps[-1], 1))
        return np.stack(steps)

    @property
    def backwards(self) -> "PathProblems":
        """The same paths from their end: distances are those to the last object."""
        return attrs.evolve(
            self, weights=self.weights.swapaxes(1, 2), source=self.last, last=self.source
        )

    def distances_from(self, known: NDArray[np.float64], num_steps: int) -> NDArray[np.float64]:
        """Return the distances (…, B, n) so many steps after those known (…, B, n), NaN: none."""
        edges = np.where(self.weights > 0, self.weights.astype(np.float64), np.inf)
        flat = known.reshape(-1, known.shape[-1])
        costs = np.where(np.isnan(flat), np.inf, flat)
        steps = np.broadcast_to(edges, (*known.shape, known.shape[-1])).reshape(*flat.shape, -1)
        for _ in range(num_steps):
            costs = _relaxed(costs, steps)
        return np.where(np.isinf(costs), np.nan, costs).reshape(known.shape)


class PathTask(SetTask, abc.ABC):
    """Base class of tasks whose answer is the least cost of a path."""

    def class_names(self, split: Split) -> Sequence[str]:
        """Return the numbers of edges."""
        low, high = (self.setting_in(f"{end}_edges", split) for end in ("min", "max"))
        return [f"a path of {each} edges" for each in range(low, high + 1)]

    @abc.abstractmethod
    def problems(self, batch: SetTargets) -> PathProblems:
        """Return the path problems of a batch, whose objects are in the same order."""


@attrs.frozen(kw_only=True, eq=False)
class Interchanges:
    """Interchange interventions on one distance of each of B graphs.

    Attributes:
        node: the object whose distance is replaced (B,), never the last.
        donor: the object whose distance it gets, another one, never the last (B,).
        change: of the distance of the last object, in the end (B,).
        is_made: whether there are two such objects; else the rest means nothing (B,).
    """

    node: NDArray[np.int64]
    donor: NDArray[np.int64]
    change: NDArray[np.float64]
    is_made: NDArray[np.bool_]


def draw_interchanges(
    problems: PathProblems, after: int, num_steps: int, rng: np.random.Generator, num: int = 16
) -> Interchanges:
    """Draw one interchange intervention (Geiger et al. 2021, 2106.02997) for each graph.

    After so many of `num_steps` steps of Bellman and Ford, the distance of one object is replaced
    by that of another, and the other steps are taken from there. Most change no answer: of every
    second graph the first of `num` that does is chosen.
    """
    every = problems.distances(num_steps)
    known, graphs = every[after], np.arange(len(problems.last))
    is_free = ~np.isnan(known)
    is_free[graphs, problems.last] = False

    def drawn(is_candidate: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        keys = np.where(is_candidate, rng.random((num, *known.shape)), -1.0)
        return keys.argmax(axis=-1), keys.max(axis=-1) >= 0

    node = drawn(is_free)[0]  # num, B
    donor, is_made = drawn(is_free & (known != known[graphs, node][..., None]))
    changed = np.repeat(known[None], num, axis=0)
    changed[np.arange(num)[:, None], graphs, node] = known[graphs, donor]
    ends = problems.distances_from(changed, num_steps - after)[:, graphs, problems.last]
    change = ends - every[-1][graphs, problems.last]
    is_made &= ~np.isnan(change)
    moves = is_made & (change != 0) & (graphs % 2 == 0)
    chosen = np.where(moves.any(axis=0), moves.argmax(axis=0), is_made.argmax(axis=0))
    return Interchanges(
        node=node[chosen, graphs], donor=donor[chosen, graphs],
        change=change[chosen, graphs], is_made=is_made[chosen, graphs],
    )  # fmt: skip
