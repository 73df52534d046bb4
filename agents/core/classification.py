"""Classification agents: what those share that map an input to a label."""

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from agents.core.agent import Agent
from agents.core.training.loop import to_device
from visualization.calibration.reliability import Confidences

if TYPE_CHECKING:
    from agents.core.inspection.observation import Observation


class Classifier(Agent):
    """Base class of agents whose model returns logits (B, K) of an input; labels are (B, 1)."""

    model: Any

    def logits(self, network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Return logits (B, K) of the first field of a batch."""
        return network(x)

    def loss(self, batch: Any) -> Tensor:
        """Return the mean cross entropy of the labels, in nats."""
        return F.cross_entropy(self.logits(self.network, batch[0]).float(), batch.label[:, 0])

    def predict_batch(self, batch: Any) -> Tensor:
        """Return the likeliest labels (batch, 1)."""
        return self.logits(self.model, batch[0]).argmax(-1, True)

    def _questions(self, batch: Any) -> list[str]:
        return [row.question for row in self.task.rows(self.task.targets(batch), batch)]

    def _observe(self, batch: Any, logits: Callable[[], Tensor], **fields: Any) -> "Observation":
        """Return an observation with further fields; `logits()` computes (B, K) for the batch."""
        from agents.core.inspection.observation import observe

        def generate() -> tuple[Tensor, Tensor]:
            values = logits()[:, None]
            return values.argmax(-1), values

        def confidence(temperature: float) -> tuple[NDArray[Any], NDArray[Any]]:
            values = final_logits().double().div(temperature).softmax(-1).cpu().numpy()
            return values.max(1), values.argmax(1) == np.asarray(self.task.targets(batch))[:, 0]

        @functools.cache
        def final_logits() -> Tensor:
            with torch.inference_mode():
                return logits()

        labels = self.task.spec.labels
        said = (Confidences(name="labels", at=confidence),)
        return observe(
            self, batch, generate=generate, characters=labels, confidences=said, **fields
        )

    def _observe_recurrent(
        self, batch: Any, text: NDArray[Any], part_fields: Mapping[str, Any], **fields: Any
    ) -> "Observation":
        """Return an observation of `model.recurrent`, whose input at each step is `text` (B, T)."""
        from agents.core.inspection.observation import (
            AnswerScores,
            RecurrentPart,
            logits_above_mean,
        )

        tensors = to_device(batch, self.device)
        probe_targets = self.task.probe_targets(batch)

        def logits() -> Tensor:
            return self.logits(self.model, tensors[0])

        def score() -> dict[str, Tensor]:
            values, label = logits(), tensors.label[:, 0]
            loss = F.cross_entropy(values, label, reduction="none")
            return {"accuracy": values.argmax(-1) == label, "loss": loss}

        with torch.inference_mode():
            codes = logits().argmax(-1, True)

        def answer_scores(rows: Tensor) -> Tensor:
            values = self.logits(self.model, tensors[0][rows])
            return logits_above_mean(values[:, None], codes[rows])

        texts = np.array(self.task.spec.labels)[codes.cpu().numpy()]
        part = RecurrentPart(
            "reader", self.model.recurrent, text, None, probe_targets.encoder,
            probe_targets.position_keys[0], score, **part_fields,
        )  # fmt: skip
        own_scores = AnswerScores(scores=answer_scores, texts=texts)
        return self._observe(batch, logits, recurrent=(part,), answer_scores=own_scores, **fields)
