"""Deep Sets: a perceptron for each object, their aggregate, and a perceptron of that.

The aggregate is the maximum of the vectors by default; `read_out` may be their sum, mean or
minimum. Zaheer et al. 2017, 1703.06114, theorem 2: every function of a set has this form with a
sum. By Xu et al. 2020, 1905.13211, it learns summary statistics from few samples, and relations of
pairs not.
"""

from typing import cast

from torch import Tensor, nn

from agents.configs.sets import DeepSetsConfig
from agents.core.sets import SetAgent, aggregate, initialized, perceptron, read_out, refuse_edges
from tasks.core.task import SetToTarget


class DeepSetsNetwork(nn.Module):
    """Perceptron of each object, aggregation over the objects, and read-out."""

    def __init__(self, config: DeepSetsConfig, spec: SetToTarget) -> None:
        super().__init__()
        size, self.how = config.hidden_size, config.read_out
        self.embed = perceptron(spec.num_features, size, size, config.num_layers)
        self.read_out = read_out(size, config, spec)

    def forward(self, objects: Tensor, mask: Tensor, edges: Tensor | None = None) -> Tensor:
        """Return outputs (B, K) of objects (B, n, F)."""
        return cast("Tensor", self.read_out(aggregate(self.embed(objects), mask, self.how)))


class DeepSets(SetAgent):
    """Deep Sets: each object by itself, then their maximum, sum, mean or minimum."""

    name = "deep_sets"
    Config = DeepSetsConfig
    config: DeepSetsConfig
    model: DeepSetsNetwork

    @staticmethod
    def build_model(config: DeepSetsConfig, spec: SetToTarget) -> nn.Module:
        """Return the network for the task's features.

        Raises:
            ConfigError: the task has edges.
        """
        refuse_edges("deep_sets", spec)
        return initialized(DeepSetsNetwork(config, spec), config)
