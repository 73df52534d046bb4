"""One layer of messages over complete graphs: ours beside torch-geometric's, the same function.

Forward and backward, batches of 64 graphs of 25 nodes, one thread. Ours is dense: a message for
each place of (batch, n, n). torch-geometric's is sparse: a list of edges, whose ends are gathered
and whose messages are scattered. Both add receiver's and sender's linear maps of the states before
they apply further layers to each edge, and take the largest message to each node.
"""

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from agents.core.sets import aggregate
from agents.gnn import PairPerceptron
from benchmarks.measure import Figures, in_turn, median, median_ratio, table, tell

ROUNDS = 15
BATCH, NODES, LAYERS = 64, 25, 3
SIZES = (32, 128)  # hidden units
INSTALL = "torch-geometric is not installed, ours is timed alone: pip install torch-geometric"
Layer = Callable[[Tensor], Tensor]  # from and to states (batch, nodes, units)


def dense(pairs: PairPerceptron) -> Layer:
    """Return our layer."""
    everyone = torch.ones(1, NODES, NODES, dtype=torch.bool)
    return lambda state: aggregate(pairs(state, None), everyone, "max")


def sparse(pairs: PairPerceptron) -> Layer | None:
    """Return torch-geometric's layer with the same weights; None where it is not installed."""
    try:
        library: Any = importlib.import_module("torch_geometric.nn")
    except ImportError:
        return None

    class Messages(library.MessagePassing):  # type: ignore[misc] # its class is known at run time
        def __init__(self) -> None:
            super().__init__(aggr="max")

        def forward(self, state: Tensor, edges: Tensor) -> Tensor:
            own, other = pairs.receiver(state), pairs.sender(state)
            found: Tensor = self.propagate(edges, own=own, other=other)
            return found

        def message(self, own_i: Tensor, other_j: Tensor) -> Tensor:
            found: Tensor = pairs.further(F.relu(own_i + other_j))
            return found

    layer = Messages()
    edges = complete(BATCH, NODES)
    return lambda state: layer(state.flatten(0, 1), edges).view_as(state)


def complete(num_graphs: int, num_nodes: int) -> Tensor:
    """Return sender and receiver of all edges (2, edges), from each node to each of its graph."""
    begins = torch.arange(num_graphs)[:, None, None] * num_nodes
    receiver, sender = torch.meshgrid(*[torch.arange(num_nodes)] * 2, indexing="ij")
    return torch.stack([(begins + sender).flatten(), (begins + receiver).flatten()])


def step(layer: Layer, pairs: PairPerceptron, state: Tensor) -> Tensor:
    """Compute the layer and the gradients of its weights and states; return its output."""
    state.grad = None
    pairs.zero_grad()
    output = layer(state)
    output.square().mean().backward()  # type: ignore[no-untyped-call] # torch has no annotation
    return output


def measure(rounds: int = ROUNDS) -> Figures:
    """Return milliseconds of a layer, forward and backward, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {f"{size} units": _measure(size, rounds) for size in SIZES}
    finally:
        torch.set_num_threads(threads)


def _measure(size: int, rounds: int) -> Figures:
    generator = torch.Generator().manual_seed(0)
    pairs = PairPerceptron(size, LAYERS, has_edges=False)
    state = torch.randn(BATCH, NODES, size, generator=generator).requires_grad_()
    layers = {"ours": dense(pairs), "torch_geometric": sparse(pairs)}
    there = {name: layer for name, layer in layers.items() if layer is not None}
    if len(there) < len(layers):
        tell(INSTALL)
    outputs = [step(layer, pairs, state) for layer in there.values()]
    for other in outputs[1:]:
        torch.testing.assert_close(other, outputs[0])
    ways = {name: lambda run=run: step(run, pairs, state) for name, run in there.items()}
    times = in_turn(ways, rounds)
    figures: Figures = {f"{name}_ms": 1e3 * median(found) for name, found in times.items()}
    if len(times) > 1:
        figures["ratio"] = median_ratio(times["torch_geometric"], times["ours"])
    return figures


def report(figures: Figures) -> str:
    """Return the figures as a table."""
    keys = ("ours_ms", "torch_geometric_ms", "ratio")
    rows = [
        [name, *(f"{f[key]:.1f}" if key in f else "not installed" for key in keys)]
        for name, f in figures.items()
    ]
    return table([f"a layer of {NODES} nodes", "ours, ms", "torch-geometric, ms", "ratio"], rows)
