"""A reader of lines: convolutions, a bidirectional LSTM over the columns, CTC.

The plain CRNN (Shi et al. 2017, 1507.05717) with the later findings that pay most: the image keeps
its aspect ratio, the maximum over the height takes the place of a flattening, and a second read-out
without the LSTM shortens the way of the gradients (Retsinas et al. 2022, 2404.11339).

Trained by CTC (Graves et al. 2006), the reader first learns to write blanks only, and for some
hundred steps seems to learn nothing: all its answers are empty, until the first characters appear.
"""

from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.configs.ctc_reader import CtcReaderConfig
from agents.core import reading
from agents.core.decoding.ctc import greedy
from agents.core.decoding.decoders import own_rows
from agents.core.line_encoder import LineEncoder, columns_of, own_width
from agents.core.training.loop import to_device
from tasks.core.batch import take
from tasks.handwriting.lines import ImageToText, LineImages
from visualization.core.preserve import evaluation_mode

if TYPE_CHECKING:
    from agents.core.inspection.observation import Observation


class ColumnReader(nn.Module):
    """From images (B, 1, H, W) to logits (B, T, V) of T = W / 4 columns."""

    def __init__(self, config: CtcReaderConfig, spec: ImageToText) -> None:
        super().__init__()
        self.characters = spec.characters
        self.encoder = LineEncoder(config.size, config.dropout)
        self.head = nn.Linear(self.encoder.num_outputs, spec.num_codes)
        if config.shortcut_weight:
            self.shortcut = nn.Conv1d(self.encoder.num_maps, spec.num_codes, 3, padding=1)

    def forward(
        self, image: Tensor, width: Tensor | None = None, with_shortcut: bool = False
    ) -> tuple[Tensor, ...] | Tensor:
        """Return logits; those of the shortcut read-out beside them (B, T, V), if asked for.

        Without `width` (B,) in pixels, the whole of an image is its own.
        """
        own = own_width(image, width)
        features = self.encoder.features(image, own)
        logits: Tensor = self.read_out(features, columns_of(own))
        if not with_shortcut:
            return logits
        return logits, self.shortcut(features.transpose(1, 2)).transpose(1, 2)

    def read_out(self, features: Tensor, num_columns: Tensor) -> Tensor:
        """Return logits (B, T, V) of the columns' feature maps (B, T, C)."""
        logits: Tensor = self.head(self.encoder.contexts(features, num_columns))
        return logits


class CtcReader(reading.LineReader):
    """Reads a line of handwriting or print; its answer is as long as the text."""

    name = "ctc_reader"
    Config = CtcReaderConfig
    config: CtcReaderConfig
    by_character = ("head.weight", "head.bias", "shortcut.weight", "shortcut.bias")

    @staticmethod
    def build_model(config: CtcReaderConfig, spec: ImageToText) -> nn.Module:
        """Return the network for the task's characters."""
        reading.check_sizes(config, spec)
        return ColumnReader(config, spec)

    def loss(self, batch: LineImages) -> dict[str, Tensor]:
        """Return the mean CTC loss of a line in nats, and that of the shortcut by its weight.

        A text that is too long for its width gives neither loss nor gradient, and is counted.
        """
        if self.model.training:
            batch = self.training_lines(batch)
        if not self.model.training or not self.config.shortcut_weight:
            logits = self.network(batch.image, batch.width)
            return {"ctc": reading.ctc_losses(logits, batch).mean()}
        logits, shortcut = self.network(batch.image, batch.width, True)
        weight = self.config.shortcut_weight
        return {
            "ctc": reading.ctc_losses(logits, batch).mean(),
            "shortcut": weight * reading.ctc_losses(shortcut, batch).mean(),
        }

    def predict_batch(self, batch: LineImages) -> list[NDArray[np.int64]]:
        """Return the codes of each line, by the decoder that the config chooses."""
        decoder = reading.decoder_of(self.config, self.model.characters, self.config.decoder)
        logits = cast("Tensor", self.model(batch.image, batch.width))
        return decoder.decode(logits, columns_of(batch.width))

    def observe(self, batch: LineImages) -> "Observation":
        """Return the columns that the LSTM reads, the images, and first characters as targets."""
        batch = take(batch, 0, reading.NUM_OBSERVED)
        moved = to_device(batch, self.device)
        num_columns = columns_of(moved.width)
        with torch.no_grad(), evaluation_mode(self.model):
            features = self.model.encoder.features(moved.image, moved.width)
            rows = own_rows(self.model.read_out(features, num_columns), num_columns)
        right = self.task.targets(batch)

        def score() -> dict[str, Tensor]:
            with evaluation_mode(self.model):
                logits = self.model.read_out(features, num_columns)
            texts = [text.cpu().numpy() for text in greedy(logits, num_columns)]
            exact = [np.array_equal(a, b) for a, b in zip(texts, right, strict=True)]
            losses = reading.ctc_losses(logits, moved)
            return {"loss": losses, "exact": torch.tensor(exact).to(losses)}

        return self._observe_lines(batch, rows, score)
