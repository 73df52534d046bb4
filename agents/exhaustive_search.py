"""Neural exhaustive search: an LSTM over every subset of the objects, and the maximum of them.

Xu et al. 2020, 1905.13211, section 4.4: the network that lines up with trying all subsets. Subsets
are read in the order of a feature of the task (in the paper's code as they come), so that the
answer does not depend on the order of the objects.
"""

import itertools
from typing import cast

import torch
from torch import Tensor, nn

from agents.configs.sets import ExhaustiveSearchConfig
from agents.core.config import ConfigError
from agents.core.sets import (
    SetAgent,
    aggregate,
    in_order,
    initialized,
    perceptron,
    read_out,
    refuse_edges,
    reorder,
)
from tasks.core.task import SetToTarget

MAX_SIZE = 12  # objects: 4,095 subsets


def check_size(size: int, field: str) -> None:
    """Raise a ConfigError if sets of this size have too many subsets."""
    if size > MAX_SIZE:
        problem = f"has sets of {size} objects, with {2**size - 1:,} subsets"
        raise ConfigError("exhaustive_search", field, problem, f"at most {MAX_SIZE} objects")


class SubsetNetwork(nn.Module):
    """LSTM and perceptron of every subset, aggregation over the subsets, and read-out."""

    def __init__(self, config: ExhaustiveSearchConfig, spec: SetToTarget) -> None:
        super().__init__()
        size, self.sort_by, self.how = config.hidden_size, spec.sort_by, config.read_out
        self.lstm = nn.LSTM(spec.num_features, size, batch_first=True)
        self.perceptron = perceptron(size, size, size, config.num_layers)
        self.read_out = read_out(size, config, spec)

    def forward(self, objects: Tensor, mask: Tensor, edges: Tensor | None = None) -> Tensor:
        """Return outputs (B, K) of objects (B, n, F), at most 12 of each sample."""
        check_size(objects.shape[1], "")
        objects = reorder(objects, in_order(objects, mask, self.sort_by))
        num_samples, size, num_features = objects.shape
        count = mask.sum(dim=1, keepdim=True)  # those that are there come first
        vectors, is_subset = [], []
        for num in range(1, size + 1):
            members = torch.tensor([*itertools.combinations(range(size), num)], device=mask.device)
            read = objects[:, members].view(-1, num, num_features)
            last = self.lstm(read)[1][0][0]
            vectors.append(self.perceptron(last).view(num_samples, len(members), -1))
            is_subset.append(members[:, -1] < count)
        every = torch.cat(vectors, dim=1), torch.cat(is_subset, dim=1)
        return cast("Tensor", self.read_out(aggregate(*every, self.how)))


class ExhaustiveSearch(SetAgent):
    """Neural exhaustive search: an LSTM over each of the 2ⁿ - 1 subsets, and their maximum."""

    name = "exhaustive_search"
    Config = ExhaustiveSearchConfig
    config: ExhaustiveSearchConfig
    model: SubsetNetwork

    @staticmethod
    def build_model(config: ExhaustiveSearchConfig, spec: SetToTarget) -> nn.Module:
        """Return the network for the task's features.

        Raises:
            ConfigError: the task has edges, or sets with too many objects.
        """
        refuse_edges("exhaustive_search", spec)
        check_size(spec.size, "task")
        return initialized(SubsetNetwork(config, spec), config)
