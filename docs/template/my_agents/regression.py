"""A perceptron that learns a function of four numbers."""

import attrs
from torch import Tensor, nn

from agents.core.agent import Agent
from agents.core.config import AgentConfig, setting, with_default
from my_agents.products import Vectors


@attrs.frozen(kw_only=True)
class RegressionConfig(AgentConfig):
    """The settings that every agent has, one of them with another default, and a size."""

    hidden_size: int = setting(32, "units of the hidden layer", ge=1)
    learning_rate: float = with_default("learning_rate", 5e-3)


class Regression(Agent):
    """A perceptron with one hidden layer."""

    Config = RegressionConfig

    @staticmethod
    def build_model(config: RegressionConfig, spec: object) -> nn.Module:
        """Return the perceptron."""
        size = config.hidden_size
        return nn.Sequential(nn.Linear(4, size), nn.Tanh(), nn.Linear(size, 1))

    def loss(self, batch: Vectors) -> Tensor:
        """Return the mean squared error."""
        return nn.functional.mse_loss(self.network(batch.x), batch.y)

    def predict_batch(self, batch: Vectors) -> Tensor:
        """Return the predictions (batch, 1)."""
        return self.model(batch.x)
