"""Graph neural network: rounds of messages between all pairs of objects, and a read-out.

Xu et al. 2020, 1905.13211, equation 2.2: in each round the next state of object i is the sum over j
of MLP(h_i, h_j); the answer is an MLP of the sum of all states. k rounds line up with k steps of a
dynamic programme. With edges (2009.11848, section 4.2) the messages are MLP(h_i, h_j, e_ij), from
neighbours only, and from the object itself over an edge of weight 0; `min` is then the aggregation
of Bellman and Ford.

Where it deviates: messages (`aggregation`) and states (`read_out`) are aggregated by their maximum
unless set to sum, mean or min. States begin as a linear map of the features, which the paper lacks,
so that all have the same size (its first pair layer is linear, so that the functions are the same).
That layer is computed as W h_i + V h_j, n products each and not n² of twice the size. With
`residual` a round adds to the states, as in a residual network (He et al. 2016, 1512.03385), and
the sum is normalised (Ba et al. 2016, 1607.06450), which the paper lacks.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from agents.configs.sets import GNNConfig
from agents.core.layers import HiddenLinear
from agents.core.sets import SetAgent, aggregate, check_sets, initialized, read_out
from tasks.core.task import SetTargets, SetToTarget
from tasks.reasoning.paths import PathProblems, PathTask, draw_interchanges

if TYPE_CHECKING:
    from visualization.circuits import InterchangeInterventions
    from visualization.representation.round_probes import RoundProbes

NUM_PROBED = 600  # validation graphs of the views of states


class PairPerceptron(nn.Module):
    """Perceptron of each pair of states, and the weight of its edge: messages (B, n, n, D)."""

    def __init__(self, size: int, num_layers: int, has_edges: bool) -> None:
        super().__init__()
        self.receiver = HiddenLinear(size, size)
        self.sender = HiddenLinear(size, size, bias=False)
        self.edge = nn.Linear(1, size, bias=False) if has_edges else None
        layers = (HiddenLinear(size, size) for _ in range(num_layers - 1))
        self.further = nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU())))

    def forward(self, state: Tensor, edges: Tensor | None) -> Tensor:
        """Return the message from j to i at [:, i, j] of states (B, n, D)."""
        pairs = self.receiver(state)[:, :, None] + self.sender(state)[:, None]
        if self.edge is not None and edges is not None:
            pairs = pairs + self.edge(edges[..., None])
        return cast("Tensor", self.further(F.relu(pairs)))


class GraphNetwork(nn.Module):
    """States of objects, rounds of messages, and read-out."""

    def __init__(self, config: GNNConfig, spec: SetToTarget) -> None:
        super().__init__()
        size, self.num_rounds = config.hidden_size, config.num_rounds
        self.aggregation, self.how = config.aggregation, config.read_out
        self.embed = nn.Linear(spec.num_features, size)
        self.messages = nn.ModuleList(
            PairPerceptron(size, config.num_layers, spec.has_edges)
            for _ in range(1 if config.share_rounds else config.num_rounds)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in self.messages if config.residual)
        self.read_out = read_out(size, config, spec)

    def forward(self, objects: Tensor, mask: Tensor, edges: Tensor | None = None) -> Tensor:
        """Return outputs (B, K) of objects (B, n, F)."""
        return self.run_from(self.embed(objects), 0, mask, edges)

    def run_from(self, state: Tensor, after: int, mask: Tensor, edges: Tensor | None) -> Tensor:
        """Return outputs (B, K) from the states (B, n, D) after that many rounds."""
        *_, last = state, *self.rounds(state, after, mask, edges)
        return cast("Tensor", self.read_out(aggregate(last, mask, self.how)))

    def rounds(
        self, state: Tensor, after: int, mask: Tensor, edges: Tensor | None
    ) -> Iterator[Tensor]:
        """Yield the states (B, n, D) of each further round."""
        place = torch.arange(mask.shape[1], device=mask.device)
        is_self = place[:, None] == place
        is_sender = (mask[:, None] if edges is None else edges > 0) | is_self  # B, n, n
        for number in range(after, self.num_rounds):
            own = number % len(self.messages)
            messages = aggregate(self.messages[own](state, edges), is_sender, self.aggregation)
            state = self.norms[own](state + messages) if self.norms else messages
            yield state


class GNN(SetAgent):
    """Graph neural network: rounds of messages between pairs of objects, of a set or a graph.

    Messages, and at last states, are aggregated by their maximum, sum, mean or minimum.
    """

    name = "gnn"
    Config = GNNConfig
    config: GNNConfig
    model: GraphNetwork

    @staticmethod
    def build_model(config: GNNConfig, spec: SetToTarget) -> nn.Module:
        """Return the network for the task's features."""
        return initialized(GraphNetwork(config, spec), config)

    def states(self, batch: SetTargets) -> Tensor:
        """Return the states of the objects at first and after each round (rounds + 1, B, n, D)."""

        def run(piece: SetTargets) -> Tensor:
            check_sets(piece)
            first = self.model.embed(piece.objects)
            return torch.stack([first, *self.model.rounds(first, 0, piece.mask, piece.edges)])

        return torch.cat(self._map_microbatches(run, batch), dim=1)

    def outputs_from(self, batch: SetTargets, state: Tensor, after: int) -> Tensor:
        """Return the outputs (B, K) with these states (B, n, D) after that many rounds.

        So an intervention is: `state = agent.states(batch)[2].clone()`, a change of
        `state[:, node]`, and `agent.outputs_from(batch, state, 2)`.
        """

        def run(piece: SetTargets) -> Tensor:
            check_sets(piece)
            return self.model.run_from(piece.objects, after, piece.mask, piece.edges)

        return torch.cat(self._map_microbatches(run, batch._replace(objects=state)))

    def own_views(self) -> Mapping[str, Callable[[], Any]]:
        """Return the views of states beside the steps of Bellman and Ford, of tasks about paths.

        A state is replaced where objects are nodes of a graph: those of a set have places, which
        would be replaced too.
        """
        if not isinstance(self.task, PathTask):
            return {}
        views: dict[str, Callable[[], Any]] = {"round_probes": self.round_probes}
        if self.task.spec.has_edges and self.config.num_rounds > 1:
            views["interchange_interventions"] = self.interchange_interventions
        return views

    def _path_problems(self) -> tuple[SetTargets, PathProblems]:
        """Return validation samples, of the sizes of those in training, and their problems."""
        assert isinstance(self.task, PathTask)
        batch = self.task.samples("validation", NUM_PROBED)
        return batch, self.task.problems(batch)

    def round_probes(self) -> "dict[str, RoundProbes]":
        """Return linear probes of each round's states for the distances after each step.

        Distances are those from the source, and those to the last object: an algorithm may begin at
        either end. The object itself has no target: its distance is always 0.
        """
        from agents.core.analysis.trials import untrained_copy
        from visualization.representation.round_probes import probe_rounds

        batch, problems = self._path_problems()
        bare = untrained_copy(self)
        assert isinstance(bare, GNN)
        states, others = (agent.states(batch).float() for agent in (self, bare))
        records = {}
        ways = {"from the first": problems, "to the last": problems.backwards}
        for name, each in ways.items():
            distances = each.distances(self.config.num_rounds)[1:]
            targets = np.where(distances == 0, np.nan, distances)
            records[name] = probe_rounds(states, targets, each.kinds, untrained=others)
        return records

    def interchange_interventions(self) -> "dict[str, InterchangeInterventions]":
        """Return what changes when one node's state is replaced by that of another one.

        One swap for each graph and round: of the network's states, and of the distances that
        Bellman and Ford know after as many steps, from which they go on: those from the first node,
        and those to the last. The control of each has the algorithm's changes of other graphs.
        """
        from visualization.circuits import shuffle_graphs

        batch, problems = self._path_problems()
        records = {}
        for name, each in {"from the first": problems, "to the last": problems.backwards}.items():
            records[name] = self._interchanges(batch, each)
            records[f"{name}, shuffled"] = shuffle_graphs(records[name])
        return records

    def _interchanges(
        self, batch: SetTargets, problems: PathProblems
    ) -> "InterchangeInterventions":
        """Return what swaps that are drawn for problems change, in network and algorithm."""
        from visualization.circuits import interchange_interventions

        states, rng = self.states(batch), np.random.default_rng(0)
        graphs, rounds = np.arange(len(problems.last)), range(1, self.config.num_rounds)
        outputs = self.outputs_from(batch, states[-1], self.config.num_rounds)
        before, changes, wanted = self._numbers(outputs), [], []
        for after in rounds:
            swaps = draw_interchanges(problems, after, self.config.num_rounds, rng)
            state = states[after].clone()
            state[graphs, swaps.node] = states[after][graphs, swaps.donor]
            change = self._numbers(self.outputs_from(batch, state, after)) - before
            changes.append(np.where(swaps.is_made, change, np.nan))
            wanted.append(np.where(swaps.is_made, swaps.change, np.nan))
        return interchange_interventions(np.stack(changes), np.stack(wanted), rounds)

    def _numbers(self, outputs: Tensor) -> NDArray[np.float64]:
        """Return the numbers (B,) that outputs (B, K) say, unrounded if they are no labels."""
        assert isinstance(self.task, PathTask)
        labels = self.task.spec.labels
        if labels is None:
            return np.asarray(outputs[:, 0].double().cpu()) * self.task.scale
        return np.array([float(labels[code]) for code in outputs.argmax(-1).tolist()])
