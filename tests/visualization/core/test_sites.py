"""Which layers of a network are worth looking at."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visualization.core.feature_layers import feature_layers


class Reuses(nn.Module):
    """Uses one ReLU twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)
        self.relu, self.head, self.last = nn.ReLU(inplace=True), nn.Linear(4, 3), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return the answer (B, 3)."""
        x = self.relu(self.b(self.relu(self.a(x))))
        return self.last(self.head(x.mean((2, 3))))


class Functional(Reuses):
    """Calls `F.relu`, so that only its convolutions are modules."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the answer (B, 3)."""
        x = F.relu(self.b(F.relu(self.a(x))))
        return self.head(x.mean((2, 3)))


def test_activations_with_maps_come_in_the_order_of_their_calls() -> None:
    """A module that runs twice comes with the number of each call; vectors are left out."""
    assert feature_layers(Reuses(), torch.zeros(1, 8, 8)) == ("relu@0", "relu@1")


def test_without_modules_for_activations_the_convolutions_come() -> None:
    """A network that calls F.relu is looked at in its convolutions."""
    assert feature_layers(Functional(), torch.zeros(1, 8, 8)) == ("a", "b")


def test_of_many_layers_those_that_are_spread_evenly_come() -> None:
    """The first and the last are among them."""
    model = nn.Sequential(*(nn.Tanh() for _ in range(9)))
    assert feature_layers(model, torch.zeros(1, 4, 4), num_layers=3) == ("0", "4", "8")
    assert len(feature_layers(model, torch.zeros(1, 4, 4), num_layers=20)) == 9


def test_a_network_without_maps_is_refused() -> None:
    """The error names the model's kind."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with pytest.raises(ValueError, match="no layer of the Sequential has feature maps"):
        feature_layers(model, torch.zeros(1, 8, 8))
