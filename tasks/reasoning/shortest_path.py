"""Shortest path in a weighted graph: the least sum of weights from one node to another.

Random undirected graphs with integer weights, small ones to learn from and larger ones in the test
split (as in Xu et al. 2021, 2009.11848, section 4.2). The answer is a number, or a label.

>>> from tasks.reasoning.shortest_path import ShortestPath
>>> task = ShortestPath()
>>> batch = task.encode(["0-1:3 1-2:1 0-2:5, 0 -> 2"])  # node-node:weight; from 0 to 2
>>> task.decode(batch.target)
['4']
>>> batch.objects[0].tolist()  # of each node, whether it is the first, or the last
[[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]
>>> batch.edges[0, 0].tolist()  # weights divided by 5, the largest in training; 0: no edge
[0.0, 0.6000000238418579, 1.0]
"""

import re
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core.settings import ConfigError, setting
from tasks.core.task import SetTargets, SetToTarget, Split
from tasks.reasoning.base import PREFIXES, Draws, Sample, Target, check_size, integer, whole_numbers
from tasks.reasoning.paths import UNREACHED, PathProblems, PathTask, least_costs

_EDGE = re.compile(r"(-?\w+)-(-?\w+):(-?\w+)")
_ACCEPTED = "text such as 0-1:3 1-2:1 0-2:5, 0 -> 2"


@attrs.frozen(kw_only=True)
class ShortestPath(PathTask):
    """Shortest path: least sum of weights between two nodes of a random weighted graph.

    A graph is connected. It has a random number of nodes and a random density: the probability of
    an edge between two nodes. The shortest path (of several, the one with the fewest edges) has
    `min_edges` to `max_edges` edges, equally often each.
    """

    num_train: int = setting(20_000, "training samples: the first ones of any larger number", ge=1)
    num_validation: int = setting(2_000, "validation samples", ge=1)
    num_test: int = setting(2_000, "test samples", ge=1)
    min_nodes: int = setting(6, "nodes of the smallest graph", ge=2, le=200)
    max_nodes: int = setting(10, "nodes of the largest graph", ge=2, le=200)
    min_density: float = setting(0.3, "lowest probability of an edge", gt=0.0, le=1.0)
    max_density: float = setting(0.6, "highest probability of an edge", gt=0.0, le=1.0)
    max_weight: int = setting(5, "largest weight of an edge; the smallest is 1", ge=1, le=10_000)
    min_edges: int = setting(1, "edges of the shortest paths with the fewest edges", ge=1)
    max_edges: int = setting(4, "edges of the shortest paths with the most edges", ge=1)
    test_min_nodes: int | None = setting(
        12, "nodes of the smallest graph of the test split; null: as in training", ge=2, le=200
    )
    test_max_nodes: int | None = setting(
        20, "nodes of the largest graph of the test split; null: as in training", ge=2, le=200
    )
    test_min_density: float | None = setting(
        None, "lowest density in the test split; null: as in training", gt=0.0, le=1.0
    )
    test_max_density: float | None = setting(
        None, "highest density in the test split; null: as in training", gt=0.0, le=1.0
    )
    test_max_weight: int | None = setting(
        None, "largest weight in the test split; null: as in training", ge=1, le=10_000
    )
    test_min_edges: int | None = setting(
        None, "fewest edges of a shortest path in the test split; null: as in training", ge=1
    )
    test_max_edges: int | None = setting(
        None, "most edges of a shortest path in the test split; null: as in training", ge=1
    )
    target: Target = setting(
        "number", "whether the answer is a number, or a label, one for each possible sum"
    )

    def __attrs_post_init__(self) -> None:
        """Refuse ranges that are empty, and paths with more edges than a graph has room for."""
        for prefix, split in PREFIXES:
            for name in ("nodes", "density", "edges"):
                low, high = (self.setting_in(f"{end}_{name}", split) for end in ("min", "max"))
                if low > high:
                    field = f"{prefix}min_{name}"
                    raise ConfigError(self.name, field, f"{low} is above {high}", f"at most {high}")
            most, edges = (self.setting_in(f"max_{name}", split) for name in ("nodes", "edges"))
            if edges >= most:
                problem = f"paths of {edges} edges among {most} nodes"
                raise ConfigError(self.name, f"{prefix}max_edges", problem, f"below {most}")

    @property
    def spec(self) -> SetToTarget:
        """Two features, weights, and a number, or a label for each sum."""
        most = self.largest("max_weight") * self.largest("max_edges")
        labels = tuple(map(str, range(most + 1))) if self.target == "label" else None
        size = self.largest("max_nodes")
        return SetToTarget(2, labels, has_edges=True, scales=(self.max_weight,), size=size)

    @property
    def scale(self) -> float:
        """The largest weight."""
        return float(self.max_weight)

    def draw_samples(self, rng: np.random.Generator, num: int, split: Split) -> Draws:
        """Draw weights (num, n, n), 0 for no edge; and first node, last node, nodes (num, 3).

        The class is the number of edges beyond the fewest; -1 without such a path, or connection.
        """
        size = self.setting_in("max_nodes", split)
        nodes = rng.integers(self.setting_in("min_nodes", split), size + 1, num)
        low, high = (self.setting_in(f"{end}_density", split) for end in ("min", "max"))
        density = rng.uniform(low, high, num)
        most = self.setting_in("max_weight", split)
        weights = rng.integers(1, most + 1, (num, size, size), np.int64)
        is_node = np.arange(size) < nodes[:, None]
        is_edge = rng.random(weights.shape) < density[:, None, None]
        is_edge &= is_node[:, :, None] & is_node[:, None]
        weights = np.triu(weights * is_edge, 1)
        weights += weights.transpose(0, 2, 1)
        source = rng.integers(0, nodes)
        costs, edges = least_costs(weights, source)
        last = self._last(edges, source, rng, split)
        graphs, fewest = np.arange(num), self.setting_in("min_edges", split)
        is_connected = (edges != UNREACHED).sum(axis=1) == nodes
        is_one = is_connected & (edges[graphs, last] >= fewest)
        classes = np.where(is_one, edges[graphs, last] - fewest, -1)
        sample = weights, np.stack([source, last, nodes], axis=1)
        return Draws(sample, costs[graphs, last], classes)

    def _last(
        self,
        edges: NDArray[np.int64],
        source: NDArray[np.int64],
        rng: np.random.Generator,
        split: Split,
    ) -> NDArray[np.int64]:
        """Return a node (num,) to which a path of a random length leads; else the first node."""
        low, high = (self.setting_in(f"{end}_edges", split) for end in ("min", "max"))
        asked = rng.integers(low, high + 1, (len(edges), 1))
        draws = np.where(edges == asked, rng.random(edges.shape), -1.0)
        return np.where(draws.max(axis=1) < 0, source, draws.argmax(axis=1))

    def answers(self, sample: Sample) -> NDArray[np.int64]:
        """Return the least sums (num,)."""
        weights, ends = sample
        costs = least_costs(weights, ends[:, 0])[0]
        return np.take_along_axis(costs, ends[:, 1:2], axis=1)[:, 0]

    def arrays(self, sample: Sample) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return objects (num, n, 2), mask and weights (num, n, n)."""
        weights, ends = sample
        size = int(ends[:, 2].max())  # nodes of the largest graph among them
        places = np.arange(size)
        objects = np.stack([places == ends[:, :1], places == ends[:, 1:2]], axis=-1)
        edges = (weights[:, :size, :size] / self.max_weight).astype(np.float32)
        return objects.astype(np.float32), places < ends[:, 2:], edges

    def sample_of(self, batch: SetTargets) -> Sample:
        """Return the sample of a batch."""
        ends = np.asarray(batch.objects).argmax(axis=1)
        nodes = np.asarray(batch.mask).sum(axis=1)
        weights = whole_numbers(batch.edges, self.max_weight)
        return weights, np.concatenate([ends, nodes[:, None]], axis=1)

    def problems(self, batch: SetTargets) -> PathProblems:
        """Return the graphs; the kinds of nodes are 2 for the last, 1 for the first, else 0."""
        weights, ends = self.sample_of(batch)
        kinds = np.asarray(batch.objects).astype(np.int64) @ np.array([1, 2])
        return PathProblems(weights=weights, source=ends[:, 0], last=ends[:, 1], kinds=kinds)

    def read(self, text: str) -> Sample:
        """Return the sample of a text such as `0-1:3 1-2:1 0-2:5, 0 -> 2`."""
        left, _, right = text.partition(",")
        matches = [_EDGE.fullmatch(word) for word in left.split()]
        found, ends = [match.groups() for match in matches if match], right.split("->")
        if len(found) != len(matches) or (found and len(ends) != 2):
            raise ValueError("is not a graph", _ACCEPTED)
        if not found:
            raise ValueError("the graph is empty", _ACCEPTED)
        most, weight = self.spec.size - 1, self.largest("max_weight")
        rows = [
            (integer(a, "node", 0, most), integer(b, "node", 0, most),
             integer(w, "weight", 1, weight))
            for a, b, w in found
        ]  # fmt: skip
        size = max(max(a, b) for a, b, _ in rows) + 1
        check_size(size, 2, self.spec.size, "nodes")
        weights = np.zeros((1, size, size), np.int64)
        for a, b, w in rows:
            if a == b or weights[0, a, b]:
                problem = "leads nowhere" if a == b else "is named twice"
                raise ValueError(f"edge {a}-{b} {problem}", "each pair of two nodes once")
            weights[0, a, b] = weights[0, b, a] = w
        first, last = (integer(end.strip(), "node", 0, size - 1) for end in ends)
        if least_costs(weights, np.array([first]))[0][0, last] == UNREACHED:
            raise ValueError(f"there is no path from {first} to {last}", "a graph with a path")
        return weights, np.array([[first, last, size]], np.int64)

    def questions(self, batch: SetTargets) -> list[tuple[str, str]]:
        """Return each graph as text, and its size."""
        weights, ends = self.sample_of(batch)
        texts = []
        for graph, (first, last, nodes) in zip(weights, ends.tolist(), strict=True):
            pairs = np.argwhere(np.triu(graph)).tolist()
            words = " ".join(f"{a}-{b}:{graph[a, b]}" for a, b in pairs)
            short = f"{nodes} nodes, {len(pairs)} edges, {first} -> {last}"
            texts.append((f"{words}, {first} -> {last}", short))
        return texts
