"""Classification: what agents share that answer with a label."""

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


def label_scores(logits: Callable[[], Tensor], label: Tensor) -> Callable[[], dict[str, Tensor]]:
    """Return a function that returns accuracy and loss of each sample (B,)."""

    def scores() -> dict[str, Tensor]:
        found = logits()
        loss = F.cross_entropy(found, label[:, 0], reduction="none")
        return {"accuracy": found.argmax(-1) == label[:, 0], "loss": loss}

    return scores


def classifier_observation(
    agent: "Agent", batch: Any, logits: Callable[[], Tensor], **known: Any
) -> "Observation":
    """Return an observation of a classifier; `logits()` computes (B, K) for the batch."""
    from agents.core.inspection.observation import observe  # learning does without

    def generate() -> tuple[Tensor, Tensor]:
        found = logits()[:, None]
        return found.argmax(-1), found

    labels = agent.task.spec.labels
    return observe(agent, batch, generate=generate, characters=labels, **known)
