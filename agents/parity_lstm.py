"""Recurrent text classification: a text to one label, such as odd or even.

The task has a curriculum of growing length (Bengio et al. 2009), because the label of a long
sequence says nothing about any single symbol: without it, training stays at chance.
"""

from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn

from agents.configs.parity_lstm import ParityConfig
from agents.core.classification import Classifier
from agents.core.layers import OneHot, recurrent
from agents.core.training.loop import to_device
from tasks.core.task import TextLabels, TextToLabel

if TYPE_CHECKING:
    from agents.core.inspection.observation import Observation


class RNNClassifier(nn.Module):
    """Recurrent layer over one-hot symbols, and linear head. B samples, T steps, K labels."""

    def __init__(self, config: ParityConfig, spec: TextToLabel) -> None:
        super().__init__()
        self.characters = OneHot(len(spec.characters))
        self.recurrent = recurrent(
            config.cell, len(spec.characters), config.hidden_size, config.num_layers
        )
        self.readout = nn.Linear(config.hidden_size, len(spec.labels))

    def forward(self, sequence: Tensor) -> Tensor:
        """Return logits (B, K) after the last symbol of codes (B, T)."""
        output, _ = self.recurrent(self.characters(sequence))
        return cast("Tensor", self.readout(output[:, -1]))

    def logits_by_step(self, sequence: Tensor) -> Tensor:
        """Return logits (B, T, K) after each symbol of codes (B, T)."""
        return cast("Tensor", self.readout(self.recurrent(self.characters(sequence))[0]))


class ParityLSTM(Classifier):
    """Recurrent text classifier, trained by the cross entropy after the last symbol."""

    name = "parity_lstm"
    Config = ParityConfig
    spec_type = TextToLabel
    config: ParityConfig
    model: RNNClassifier

    @staticmethod
    def build_model(config: ParityConfig, spec: TextToLabel) -> nn.Module:
        """Return the network for the task's characters and labels."""
        return RNNClassifier(config, spec)

    @property
    def samples_are_independent(self) -> bool:
        """True: the loss is not random, and no sample affects another."""
        return True

    def observe(self, batch: TextLabels) -> "Observation":
        """Return the observation of a batch, with the recurrent layer."""
        sequence, spec = to_device(batch, self.device).sequence, self.task.spec
        with torch.inference_mode():
            labels_by_step = self.model.logits_by_step(sequence).argmax(-1).cpu().numpy()
        part_fields = {
            "inputs": self.model.characters(sequence),
            "answers": np.array(spec.labels)[labels_by_step],
        }
        text = np.array(list(spec.characters))[batch.sequence]
        return self._observe_recurrent(batch, text, part_fields)
