"""A reader: convolutions, a bidirectional LSTM over the columns, CTC (Graves et al. 2006)."""

from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from agents.core.agent import Agent
from agents.core.config import AgentConfig, setting
from agents.core.inspection.observation import ImagePart, Observation, RecurrentPart, observe
from agents.core.training.loop import to_device
from tests.carriers.strips import Strips, StripSizes


def encoder(channels: int) -> nn.Sequential:
    """Return convolutions from images (B, 1, 8, W) to maps (B, C, 2, W / 2)."""
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d((2, 1)),
    )  # fmt: skip


class ColumnReader(nn.Module):
    """From images (B, 1, 8, W) to logits (B, T, V) of T = W / 2 columns."""

    def __init__(self, channels: int, hidden_size: int, num_codes: int) -> None:
        super().__init__()
        self.convolutions = encoder(channels)
        self.recurrent = nn.LSTM(2 * channels, hidden_size, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden_size, num_codes)

    def forward(self, image: Tensor, width: Tensor | None = None) -> Tensor:
        """Return logits; beyond an image's own width they are those of zeros."""
        columns = self.convolutions(image).flatten(1, 2).transpose(1, 2)
        if width is None:
            return self.head(self.recurrent(columns)[0])
        packed = pack_padded_sequence(
            columns, (width // 2).cpu(), batch_first=True, enforce_sorted=False
        )
        output, _ = pad_packed_sequence(self.recurrent(packed)[0], batch_first=True)
        return self.head(output)


class CtcReader(Agent):
    """Reads a strip by its columns; answers are as long as they are."""

    name = "strip_ctc_reader"

    @attrs.frozen(kw_only=True)
    class Config(AgentConfig):
        """Its sizes."""

        channels: int = setting(16, "feature maps of each convolution", ge=1)
        hidden_size: int = setting(32, "units of the LSTM, in each direction", ge=1)

    spec_type = StripSizes

    @staticmethod
    def build_model(config: Config, spec: StripSizes) -> nn.Module:
        """Return the reader."""
        return ColumnReader(config.channels, config.hidden_size, spec.num_codes)

    def loss(self, batch: Strips) -> Tensor:
        """Return the mean CTC loss of a strip, in nats."""
        logits = self.network(batch.image, batch.width)
        return F.ctc_loss(
            logits.float().log_softmax(-1).transpose(0, 1), batch.digits, batch.width // 2,
            batch.length, zero_infinity=True, reduction="sum",
        ) / len(batch.image)  # fmt: skip

    def predict_batch(self, batch: Strips) -> list[Tensor]:
        """Return the codes of each strip: the likeliest of each column, repeats and blanks out."""
        best = self.model(batch.image, batch.width).argmax(-1)
        texts = []
        for codes, width in zip(best, batch.width, strict=True):
            kept = codes[: int(width) // 2].unique_consecutive()
            texts.append(kept[kept != 0])
        return texts

    def observe(self, batch: Strips) -> Observation:
        """Return the columns that the LSTM reads, the images, and each character as a target."""
        moved = to_device(batch, self.device)

        def score() -> dict[str, Tensor]:
            texts = self.predict_batch(moved)
            rows = self.task.rows([text.cpu().numpy() for text in texts], batch)
            return {"exact": torch.tensor([float(row.correct) for row in rows])}

        num_columns = batch.image.shape[-1] // 2
        columns = np.broadcast_to(
            np.arange(num_columns).astype(str), (len(batch.width), num_columns)
        )
        reads = np.where(np.arange(num_columns) < batch.width[:, None] // 2, columns, "")
        part = RecurrentPart("columns", self.model.recurrent, reads, None, {}, "", score)
        targets = {
            f"character {place + 1}": character(place, batch)
            for place in range(self.task.spec.most)
        }
        image = ImagePart(model=self.model, images=torch.as_tensor(batch.image))
        return observe(self, batch, recurrent=(part,), image=image, targets=targets)


def character(place: int, batch: Strips) -> Any:
    """Return a target: the highest log probability, over the columns, of a strip's character."""

    def target(output: Tensor, sample: int) -> Tensor:
        return output.log_softmax(-1).amax(1)[:, int(batch.digits[sample, place])]

    return target
