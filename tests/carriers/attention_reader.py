"""A reader with an attention decoder: what it looks at is drawn over the image."""

from typing import Any

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.core.agent import Agent
from agents.core.config import AgentConfig, setting
from agents.core.inspection.observation import AttentionPart, ImagePart, Observation, observe
from agents.core.training.loop import to_device
from tests.carriers.ctc_reader import encoder
from tests.carriers.strips import Strips, StripSizes
from visualization.attention.images import ImageAttention

NUM_SHOWN = 6


class AttendingReader(nn.Module):
    """An encoder of columns, and a GRU that looks at them while it writes (Bahdanau et al.)."""

    def __init__(self, channels: int, hidden_size: int, sizes: StripSizes) -> None:
        super().__init__()
        self.num_steps, self.hidden_size = sizes.most + 1, hidden_size
        self.convolutions = encoder(channels)
        self.columns = nn.GRU(2 * channels, hidden_size, batch_first=True, bidirectional=True)
        self.embedding = nn.Embedding(sizes.num_codes, hidden_size)
        self.cell = nn.GRUCell(3 * hidden_size, hidden_size)
        self.query = nn.Linear(hidden_size, 2 * hidden_size)
        self.head = nn.Linear(3 * hidden_size, sizes.num_codes)

    def forward(
        self, image: Tensor, width: Tensor | None = None, digits: Tensor | None = None
    ) -> Tensor:
        """Return logits (B, A, V), of right digits before each if they are given."""
        return self.decode(image, width, digits)[0]

    def decode(
        self, image: Tensor, width: Tensor | None, digits: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return logits (B, A, V), and the attention (B, A, T) over the columns."""
        columns = self.columns(self.convolutions(image).flatten(1, 2).transpose(1, 2))[0]
        steps = torch.arange(columns.shape[1], device=image.device)
        beyond = steps >= (width[:, None] // 2 if width is not None else columns.shape[1])
        state = columns.new_zeros(len(image), self.hidden_size)
        code = torch.zeros(len(image), dtype=torch.long, device=image.device)
        logits, looks = [], []
        for step in range(self.num_steps):
            scores = torch.einsum("bh,bth->bt", self.query(state), columns)
            look = scores.masked_fill(beyond, -torch.inf).softmax(-1)
            context = torch.einsum("bt,bth->bh", look, columns)
            state = self.cell(torch.cat([self.embedding(code), context], 1), state)
            logits.append(self.head(torch.cat([state, context], 1)))
            looks.append(look)
            known = digits is not None and step < digits.shape[1]
            code = digits[:, step] if known else logits[-1].argmax(-1)
        return torch.stack(logits, 1), torch.stack(looks, 1)


class AttentionReader(Agent):
    """Writes digit after digit, and ends with code 0."""

    name = "strip_attention_reader"

    @attrs.frozen(kw_only=True)
    class Config(AgentConfig):
        """Its sizes."""

        channels: int = setting(16, "feature maps of each convolution", ge=1)
        hidden_size: int = setting(32, "units of encoder and decoder", ge=1)

    spec_type = StripSizes

    @staticmethod
    def build_model(config: Config, spec: StripSizes) -> nn.Module:
        """Return the reader."""
        return AttendingReader(config.channels, config.hidden_size, spec)

    def loss(self, batch: Strips) -> Tensor:
        """Return the mean cross entropy of a character, the end among them, in nats."""
        logits = self.network(batch.image, batch.width, batch.digits)
        right = F.pad(batch.digits, (0, 1))
        return F.cross_entropy(logits.flatten(0, 1).float(), right.flatten())

    def predict_batch(self, batch: Strips) -> list[Tensor]:
        """Return the codes of each strip before the first 0."""
        codes = self.model(batch.image, batch.width).argmax(-1)
        return [text[: int((text == 0).int().argmax())] if (text == 0).any() else text
                for text in codes]  # fmt: skip

    def observe(self, batch: Strips) -> Observation:
        """Return the images, each character as a target, and where it looks."""
        moved = to_device(batch, self.device)

        def maps() -> ImageAttention:
            few = type(moved)(*(values[:NUM_SHOWN] for values in moved))
            with torch.inference_mode():
                logits, looks = self.model.decode(few.image, few.width, None)
            written = self.task.decode(logits.argmax(-1).cpu().numpy())
            return ImageAttention(
                images=few.image.cpu().numpy(), written=tuple(written),
                maps=looks[:, :, None].cpu().numpy(),
            )  # fmt: skip

        return observe(
            self, batch, image=ImagePart(model=self.model, images=torch.as_tensor(batch.image)),
            attention=(AttentionPart(name="attention", maps=maps),),
            targets={
                f"character {place + 1}": character(place, batch)
                for place in range(self.task.spec.most)
            },
        )  # fmt: skip


def character(place: int, batch: Strips) -> Any:
    """Return a target: the log probability of a strip's character at its place."""

    def target(output: Tensor, sample: int) -> Tensor:
        return output.log_softmax(-1)[:, place, int(batch.digits[sample, place])]

    return target
