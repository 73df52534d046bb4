"""Agents that break the contract, each in one way, and the check that must see it."""

from typing import Any

import numpy as np
import torch
from my_agents.products import Vectors
from my_agents.regression import Regression, RegressionConfig
from torch import Tensor, nn

from tasks.core.settings import setting
from tests.helpers.broken_tasks import COUNT, Broken

mse = nn.functional.mse_loss


class FieldConfig(RegressionConfig):
    """A setting that attrs does not see."""

    colour: str = setting("red", "colour of nothing")


class NoSettings(Regression):
    """A config that is not decorated."""

    Config = FieldConfig


class AsAnother(Regression):
    """A name that means another agent."""

    name = "char_lm"


class LossOfEach(Regression):
    """A loss that is no scalar."""

    def loss(self, batch: Vectors) -> Tensor:
        """Return the loss of each sample."""
        return mse(self.network(batch.x), batch.y, reduction="none")


class Detached(Regression):
    """A loss from which nothing can be learned."""

    def loss(self, batch: Vectors) -> Tensor:
        """Return a loss without its graph."""
        return super().loss(batch).detach()


class NotFinite(Regression):
    """A loss that is not a number."""

    def loss(self, batch: Vectors) -> Tensor:
        """Return a part that is NaN."""
        return {"good": super().loss(batch), "bad": super().loss(batch) * torch.nan}


class Bypass(Regression):
    """A loss that a data-parallel wrapper would not see."""

    def loss(self, batch: Vectors) -> Tensor:
        """Call the bare model."""
        return mse(self.model(batch.x), batch.y)


class Summed(Regression):
    """A loss that grows with the batch."""

    def loss(self, batch: Vectors) -> Tensor:
        """Return the sum."""
        return mse(self.network(batch.x), batch.y, reduction="sum")


class Dependent(Regression):
    """Samples that are said to be independent, and are not."""

    samples_are_independent = True

    def loss(self, batch: Vectors) -> Tensor:
        """Compare means."""
        return (self.network(batch.x).mean() - batch.y.mean()) ** 2


class Unused(Regression):
    """A layer that learns nothing."""

    @staticmethod
    def build_model(config: Any, spec: object) -> nn.Module:
        """Return a perceptron with a layer that nothing calls."""
        model = Regression.build_model(config, spec)
        model[1].unused = nn.Linear(1, 1)
        return model


class Random(Regression):
    """A loss that no seed makes again."""

    def loss(self, batch: Vectors) -> Tensor:
        """Multiply by how often any agent asked."""
        return super().loss(batch) * (1 + next(COUNT) % 7)


class FixedSeed(Regression):
    """Weights that are the same for each seed, and so is what is learned at once."""

    @staticmethod
    def build_model(config: Any, spec: object) -> nn.Module:
        """Draw the weights from a seed of its own."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return Regression.build_model(config, spec)

    def loss(self, batch: Vectors) -> Tensor:
        """Learn the same of each batch."""
        return (self.network(torch.ones(len(batch.x), 4)) ** 2).mean()


class DrawsFromNumpy(Regression):
    """A loss that disturbs others."""

    def loss(self, batch: Vectors) -> Tensor:
        """Draw from numpy's global generator."""
        np.random.rand()  # noqa: NPY002
        return super().loss(batch)


class Counting(Regression):
    """A part of its state that no checkpoint has."""

    steps_seen = 0

    def loss(self, batch: Vectors) -> Tensor:
        """Multiply by how many batches were seen."""
        self.steps_seen += 1
        return super().loss(batch) * self.steps_seen

    def predict_batch(self, batch: Vectors) -> Tensor:
        """Add how many batches were seen."""
        return self.model(batch.x) + self.steps_seen


class OnePrediction(Regression):
    """One answer for all samples."""

    def predict_batch(self, batch: Vectors) -> Tensor:
        """Answer the first sample alone."""
        return self.model(batch.x)[:1]


class Relative(Regression):
    """Answers that depend on who else is asked."""

    def predict_batch(self, batch: Vectors) -> Tensor:
        """Subtract the mean."""
        return self.model(batch.x) - self.model(batch.x).mean()


class Draws(Regression):
    """Answers that take random numbers from the others."""

    def predict_batch(self, batch: Vectors) -> Tensor:
        """Draw, for nothing."""
        torch.rand(1)
        return self.model(batch.x)


class LearnsFromLooks(Regression):
    """A run that remembers when it was looked at."""

    looks = 0

    def predict_batch(self, batch: Vectors) -> Tensor:
        """Count the looks."""
        self.looks += 1
        return self.model(batch.x)

    def loss(self, batch: Vectors) -> Tensor:
        """Multiply by the looks."""
        return super().loss(batch) * (1 + self.looks)


class NoFigure(Regression):
    """A view that nobody can draw."""

    def own_views(self) -> dict[str, Any]:
        """Return a view of nothing."""
        return {"nothing": object}


class FailingView(Regression):
    """A view with a mistake."""

    def own_views(self) -> dict[str, Any]:
        """Return a view that fails."""
        return {"nothing": lambda: 1 / 0}


AGENTS = [
    Broken(NoSettings, "config_is_of_settings", "FieldConfig is not decorated by @attrs.frozen"),
    Broken(AsAnother, "name_is_its_own", "the name 'char_lm' means agents.char_lm:CharLM"),
    Broken(LossOfEach, "loss_is_differentiable", r"the loss has the shape \(16, 1\)"),
    Broken(Detached, "loss_is_differentiable", "does not depend on the parameters"),
    Broken(NotFinite, "loss_is_differentiable", "loss 'bad' is nan"),
    Broken(Bypass, "loss_calls_the_network", "the wrapper was not called"),
    Broken(Summed, "loss_is_a_mean", "of nine samples at once, and"),
    Broken(Dependent, "independent_samples_are_independent", "of the halves"),
    Broken(Unused, "learning_moves_every_parameter", r"1\.unused\.weight is as it was initialised"),
    Broken(Random, "equal_seeds_give_equal_bits", "two runs differ in model/0"),
    Broken(FixedSeed, "equal_seeds_give_equal_bits", "another seed gives the same weights"),
    Broken(DrawsFromNumpy, "global_generators_are_left_alone", "numpy's generator was drawn from"),
    Broken(Counting, "resuming_is_exact", "continued from a file, it differs in model/0"),
    Broken(Counting, "loading_gives_the_same_agent", "and the saved one {'error'"),
    Broken(OnePrediction, "predictions_are_of_samples", "2 predictions for 9 samples"),
    Broken(Relative, "predictions_are_of_samples", "a sample by itself has another prediction"),
    Broken(Draws, "evaluating_changes_nothing", r"evaluate\(\) changed torch's generator"),
    Broken(LearnsFromLooks, "looking_does_not_change_the_run", "it ends with other weights"),
    Broken(NoFigure, "views_run_and_change_nothing", "nothing is a object, without a figure"),
    Broken(FailingView, "views_run_and_change_nothing", "ZeroDivisionError: division by zero"),
]
