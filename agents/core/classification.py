"""Classification: loss, scores and observations that classifiers share."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from agents.core.agent import Agent
    from agents.core.inspection.observation import Observation


def label_loss(logits: Tensor, label: Tensor) -> Tensor:
    """Return the mean cross entropy, in nats, of logits (B, K) for labels (B, 1)."""
    return F.cross_entropy(logits.float(), label[:, 0])


def question_names(agent: "Agent", batch: Any) -> list[str]:
    """Return the question of each sample as text."""
    return [row.question for row in agent.task.rows(agent.task.targets(batch), batch)]


def label_scores(logits: Callable[[], Tensor], label: Tensor) -> Callable[[], dict[str, Tensor]]:
    """Return a function that computes accuracy and loss of each sample (B,)."""

    def scores() -> dict[str, Tensor]:
        values = logits()
        loss = F.cross_entropy(values, label[:, 0], reduction="none")
        return {"accuracy": values.argmax(-1) == label[:, 0], "loss": loss}

    return scores


def classifier_observation(
    agent: "Agent", batch: Any, logits: Callable[[], Tensor], **fields: Any
) -> "Observation":
    """Return an observation of a classifier; `logits()` computes (B, K) for the batch.

    `fields` are further fields of the observation.
    """
    from agents.core.inspection.observation import observe  # learning does without

    def generate() -> tuple[Tensor, Tensor]:
        values = logits()[:, None]
        return values.argmax(-1), values

    labels = agent.task.spec.labels
    return observe(agent, batch, generate=generate, characters=labels, **fields)
