"""Recurrent image classification: an image is read row by row, from the top.

The input at a step is a row of pixels. Le et al. (2015, 1504.00941) had networks read MNIST pixel
by pixel; by rows there are 28 steps instead of 784.
"""

from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.configs.digits_lstm import DigitsConfig
from agents.core.classification import Classifier
from agents.core.layers import recurrent
from tasks.core.task import ImageLabels, ImageToLabel

if TYPE_CHECKING:
    from agents.core.inspection.observation import Observation

_PATTERNS = np.array(list("·▂━▄▔═▀█"))  # 1: ink in the left third, 2: in the middle, 4: right
_INKED = 0.15  # mean ink of a third of a row from which it counts


class RowRNNClassifier(nn.Module):
    """Recurrent layer over rows, and linear head. B samples, T rows, K labels."""

    def __init__(self, config: DigitsConfig, spec: ImageToLabel) -> None:
        super().__init__()
        self.recurrent = recurrent(
            config.cell, spec.num_channels * spec.width, config.hidden_size, config.num_layers,
            config.dropout,
        )  # fmt: skip
        self.dropout = nn.Dropout(config.dropout)
        self.readout = nn.Linear(config.hidden_size, len(spec.labels))

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K) after the last row of images (B, C, T, W)."""
        output, _ = self.recurrent(rows(image))
        return cast("Tensor", self.readout(self.dropout(output[:, -1])))


def rows(image: Tensor) -> Tensor:
    """Return images (B, C, T, W) as sequences of rows (B, T, C·W), a channel after the other."""
    return image.transpose(1, 2).flatten(2)


class DigitsLSTM(Classifier):
    """Recurrent image classifier, trained by the cross entropy after the last row."""

    name = "digits_lstm"
    Config = DigitsConfig
    spec_type = ImageToLabel
    config: DigitsConfig
    model: RowRNNClassifier

    @staticmethod
    def build_model(config: DigitsConfig, spec: ImageToLabel) -> nn.Module:
        """Return the network for the task's width and labels."""
        return RowRNNClassifier(config, spec)

    @property
    def samples_are_independent(self) -> bool:
        """Whether no dropout draws random numbers."""
        return self.config.dropout == 0

    def observe(self, batch: ImageLabels) -> "Observation":
        """Return the observation of a batch, with the recurrent layer."""
        text = thirds(np.asarray(batch.image))
        return self._observe_recurrent(batch, text, {}, short_names=self._questions(batch))


def thirds(image: NDArray[np.float32]) -> NDArray[np.str_]:
    """Return a symbol (B, T) for each row of images (B, C, T, W), by the thirds that have ink.

    Its bars are the thirds of the row with ink, the left one lowest: in a line of text the image
    lies on its back. Rows of pixels hardly ever repeat, but there are only eight of these symbols,
    so that views can show what depends on them.

    >>> image = np.array([[[[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [1, 1, 1]]]])
    >>> thirds(image).tolist()
    [['·', '▂', '━', '▔', '═', '█']]
    """
    parts = np.array_split(image.mean(axis=1), 3, axis=-1)
    inked = [part.size > 0 and part.mean(axis=-1) >= _INKED for part in parts]
    return np.asarray(_PATTERNS[inked[0] + 2 * inked[1] + 4 * inked[2]])
