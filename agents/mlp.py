"""Multilayer perceptron over a set: all objects, one after the other, as one vector.

The baseline of Xu et al. 2020, 1905.13211, section 4: it has to learn for each place what other
agents know to be the same for all. Sorting the objects helps where their order says the answer.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.configs.sets import MLPConfig
from agents.core.config import ConfigError
from agents.core.sets import SetAgent, in_order, initialized, read_out, reorder
from tasks.core.task import SetToTarget


class FlatPerceptron(nn.Module):
    """Perceptron over the features of all objects, and of a graph its weights, one vector.

    Places up to the size of the largest set are filled with zeros.
    """

    def __init__(self, config: MLPConfig, spec: SetToTarget) -> None:
        super().__init__()
        self.size, self.sort_by = spec.size, spec.sort_by if config.sort_objects else None
        num_edges = spec.size if spec.has_edges else 0
        self.read_out = read_out(spec.size * (spec.num_features + num_edges), config, spec)

    def forward(self, objects: Tensor, mask: Tensor, edges: Tensor | None = None) -> Tensor:
        """Return outputs (B, K) of objects (B, n, F), at most as many as in the largest set."""
        more = self.size - objects.shape[1]
        if more < 0:
            problem = f"a set of {objects.shape[1]} objects"
            raise ConfigError("mlp", "", problem, f"the {self.size} it was made for, or fewer")
        objects = objects * mask[..., None]
        if self.sort_by is not None:
            order = in_order(objects, mask, self.sort_by)
            objects = reorder(objects, order)
            edges = None if edges is None else reorder(reorder(edges, order).mT, order).mT
        parts = [F.pad(objects, (0, 0, 0, more)).flatten(1)]
        if edges is not None:
            parts.append(F.pad(edges, (0, more, 0, more)).flatten(1))
        return cast("Tensor", self.read_out(torch.cat(parts, dim=1)))


class MLP(SetAgent):
    """Multilayer perceptron over all objects of a set as one vector, sorted or as they come."""

    name = "mlp"
    Config = MLPConfig
    config: MLPConfig
    model: FlatPerceptron

    @staticmethod
    def build_model(config: MLPConfig, spec: SetToTarget) -> nn.Module:
        """Return the network for the task's sizes."""
        return initialized(FlatPerceptron(config, spec), config)
