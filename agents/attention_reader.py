"""A reader of lines that looks at columns while it writes: CTC and attention over one encoder.

The encoder is that of `ctc_reader`. A decoder with location-aware attention (Chorowski et al. 2015,
1506.07503, section 2.2) writes character after character, and knows what it has written; the CTC
loss beside it (Kim et al. 2017, 1609.06773) makes the attention go from left to right.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from agents.configs.attention_reader import AttentionReaderConfig
from agents.core import reading
from agents.core.decoding.beam import prefix_beam_search
from agents.core.decoding.ctc import greedy
from agents.core.decoding.decoders import own_rows
from agents.core.line_encoder import LineEncoder, columns_of, own_width
from agents.core.training.loop import to_device
from tasks.core.batch import take
from tasks.handwriting.lines import ImageToText, LineImages
from visualization.core.preserve import evaluation_mode

if TYPE_CHECKING:
    from agents.core.inspection.observation import Observation
    from visualization.attention.images import ImageAttention

END = 0  # what stands before the first character and after the last
_SHOWN = 6  # lines of attention maps
_LOCATION_MAPS, _LOCATION_SPAN = 8, 7  # maps of the former attention; columns that each sees


class Attention(nn.Module):
    """Location-aware additive attention: it scores a column by what it is and what was looked at.

    e = vᵀ tanh(W s + V h + U f), f a convolution of the attention of the step before (eq. 9).
    """

    def __init__(self, state_size: int, column_size: int, size: int) -> None:
        super().__init__()
        self.state = nn.Linear(state_size, size, bias=False)
        self.column = nn.Linear(column_size, size)
        self.convolution = nn.Conv1d(
            1, _LOCATION_MAPS, _LOCATION_SPAN, padding=_LOCATION_SPAN // 2, bias=False
        )
        self.location = nn.Linear(_LOCATION_MAPS, size, bias=False)
        self.score = nn.Linear(size, 1, bias=False)

    def forward(self, state: Tensor, keys: Tensor, before: Tensor, beyond: Tensor) -> Tensor:
        """Return weights (B, T) that sum to 1, and are 0 where `beyond` (B, T) is true."""
        former = self.location(self.convolution(before[:, None]).transpose(1, 2))
        scores = self.score(torch.tanh(self.state(state)[:, None] + keys + former))[..., 0]
        weights: Tensor = scores.masked_fill(beyond, -torch.inf).softmax(-1)
        return weights


class AttendingReader(nn.Module):
    """From images (B, 1, H, W) to logits of columns (B, T, V), and of characters (B, A, V)."""

    def __init__(self, config: AttentionReaderConfig, spec: ImageToText) -> None:
        super().__init__()
        self.characters, size = spec.characters, config.decoder_size
        self.encoder = LineEncoder(config.size, config.dropout)
        num_outputs = self.encoder.num_outputs
        self.head = nn.Linear(num_outputs, spec.num_codes)
        self.embedding = nn.Embedding(spec.num_codes, size)
        self.attention = Attention(size, num_outputs, config.attention_size)
        self.cell = nn.LSTMCell(size + num_outputs, size)
        self.readout = nn.Linear(size + num_outputs, spec.num_codes)

    def forward(
        self,
        image: Tensor,
        width: Tensor | None = None,
        text: Tensor | None = None,
        sampled: Tensor | None = None,
    ) -> tuple[Tensor, Tensor] | Tensor:
        """Return the columns' logits, and with a `text` (B, A) those of its characters and end.

        Args:
            image: lines.
            width: their own width (B,) in pixels; None: the whole image.
            text: what the decoder reads before each character, the beginning excluded.
            sampled: where it reads what it wrote itself in its place (B, A).
        """
        own = own_width(image, width)
        contexts = self.contexts(image, own)
        logits: Tensor = self.head(contexts)
        if text is None:
            return logits
        return logits, self.write(contexts, columns_of(own), text.shape[1] + 1, text, sampled)[0]

    def contexts(self, image: Tensor, width: Tensor) -> Tensor:
        """Return the encoder's columns (B, T, 2 U)."""
        return self.encoder.contexts(self.encoder.features(image, width), columns_of(width))

    def write(
        self,
        contexts: Tensor,
        num_columns: Tensor,
        most: int,
        text: Tensor | None = None,
        sampled: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return logits (B, A, V) and attention (B, A, T) of `most` characters.

        Without a `text` the likeliest character is read after each, until all lines have ended.
        """
        beyond = torch.arange(contexts.shape[1], device=contexts.device) >= num_columns[:, None]
        keys = self.attention.column(contexts)
        h = c = contexts.new_zeros(len(contexts), self.cell.hidden_size)
        looks = [contexts.new_zeros(contexts.shape[:2])]
        code = torch.full((len(contexts),), END, device=contexts.device)
        ended, logits = torch.zeros_like(code, dtype=torch.bool), []
        for step in range(most):
            looks.append(self.attention(h, keys, looks[-1], beyond))
            seen = torch.einsum("bt,btu->bu", looks[-1], contexts)
            h, c = self.cell(torch.cat([self.embedding(code), seen], 1), (h, c))
            logits.append(self.readout(torch.cat([h, seen], 1)))
            written = logits[-1].argmax(-1)
            ended = ended | (written == END)
            if text is None:
                code = written
                if bool(ended.all()):
                    break
            elif step < text.shape[1]:
                code = text[:, step]
                if sampled is not None:
                    code = torch.where(sampled[:, step], written, code)
        return torch.stack(logits, 1), torch.stack(looks[1:], 1)


class AttentionReader(reading.LineReader):
    """Writes what it reads character after character; CTC answers beside it, or with it."""

    name = "attention_reader"
    Config = AttentionReaderConfig
    config: AttentionReaderConfig
    by_character = (
        "embedding.weight", "head.weight", "head.bias", "readout.weight", "readout.bias",
    )  # fmt: skip

    @staticmethod
    def build_model(config: AttentionReaderConfig, spec: ImageToText) -> nn.Module:
        """Return the network for the task's characters."""
        reading.check_sizes(config, spec)
        return AttendingReader(config, spec)

    def loss(self, batch: LineImages) -> dict[str, Tensor]:
        """Return λ times the CTC loss, and 1 − λ times the decoder's, of a line in nats.

        λ falls from 1 to `ctc_weight` in the first `transition_steps`, while more and more
        characters are sampled; in evaluation it is `ctc_weight`.
        """
        config, sampled, weight, smoothing = self.config, None, self.config.ctc_weight, 0.0
        if self.model.training:
            batch = self.training_lines(batch)
            through = min(1.0, self.state.cursor.step / config.transition_steps)
            weight = 1 - (1 - weight) * through
            smoothing = config.label_smoothing
            draws = torch.rand(batch.text.shape, device=batch.text.device)
            sampled = draws < config.scheduled_sampling * through
        columns, characters = self.network(batch.image, batch.width, batch.text, sampled)
        return {
            "ctc": weight * reading.ctc_losses(columns, batch).mean(),
            "attention": (1 - weight) * _text_losses(characters, batch, smoothing).mean(),
        }

    def constant_loss(self, batch: LineImages) -> float:
        """Return the loss of columns and of characters that are all alike, weighed as `loss` is."""
        length, text = np.asarray(batch.length), np.asarray(batch.text)
        own = np.arange(text.shape[1]) < length[:, None]
        counts = np.bincount(text[own], minlength=self.task.spec.num_codes)
        counts[END] = len(text)
        p = counts[counts > 0] / counts.sum()
        characters = -(length + 1).mean() * float((p * np.log(p)).sum())
        weight = self.config.ctc_weight
        return weight * super().constant_loss(batch) + (1 - weight) * float(characters)

    def predict_batch(self, batch: LineImages) -> list[NDArray[np.int64]]:
        """Return the codes of each line, by the decoder that the config chooses."""
        contexts, num_columns = (
            self.model.contexts(batch.image, batch.width),
            columns_of(batch.width),
        )
        kind = self.config.decoder
        if kind == "attention":
            return _until_end(self.model.write(contexts, num_columns, _most(num_columns))[0],
                              num_columns)  # fmt: skip
        logits = self.model.head(contexts)
        if kind == "joint":
            return [
                self._joint(contexts[line : line + 1, : int(num)], row)
                for line, (num, row) in enumerate(
                    zip(num_columns, own_rows(logits, num_columns), strict=True)
                )
            ]
        decoder = reading.decoder_of(self.config, self.model.characters, kind)
        return decoder.decode(logits, num_columns)

    def _joint(self, contexts: Tensor, row: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the best of a beam's texts by the sum of its score and the attention's ln p."""
        beam = reading.beam_of(self.config, self.model.characters)
        found = prefix_beam_search(row, beam.beam_size, beam.scorer)
        length = torch.tensor([len(one.codes) for one in found])
        text = torch.zeros(len(found), int(length.max()), dtype=torch.long)
        for line, one in enumerate(found):
            text[line, : len(one.codes)] = torch.as_tensor(one.codes)
        text, length = text.to(contexts.device), length.to(contexts.device)
        repeated = contexts.expand(len(found), -1, -1)
        num_columns = torch.full_like(length, contexts.shape[1])
        logits, _ = self.model.write(repeated, num_columns, text.shape[1] + 1, text)
        losses = _losses_of(logits, text, length, 0.0).cpu().numpy()
        weight = self.config.joint_weight
        scores = [(1 - weight) * one.score for one in found] - weight * losses
        return found[int(scores.argmax())].codes

    def observe(self, batch: LineImages) -> "Observation":
        """Return the columns that the LSTM reads, where the decoder looks, and targets."""
        from agents.core.inspection.observation import AttentionPart

        batch = take(batch, 0, reading.NUM_OBSERVED)
        moved = to_device(batch, self.device)
        num_columns = columns_of(moved.width)
        encoder = self.model.encoder
        with torch.no_grad(), evaluation_mode(self.model):
            features = encoder.features(moved.image, moved.width)
            logits = self.model.head(encoder.contexts(features, num_columns))
        rows = own_rows(logits, num_columns)

        def score() -> dict[str, Tensor]:
            with evaluation_mode(self.model):
                contexts = encoder.contexts(features, num_columns)
                characters = self.model.write(contexts, num_columns, moved.text.shape[1] + 1,
                                              moved.text)[0]  # fmt: skip
            return {"loss": _text_losses(characters, moved, 0.0)}

        return self._observe_lines(
            batch, rows, score, [codes.cpu().numpy() for codes in greedy(logits, num_columns)],
            attention=(AttentionPart(name="attention", maps=lambda: self._maps(batch)),),
        )  # fmt: skip

    def _maps(self, batch: LineImages) -> "ImageAttention":
        """Return where the decoder looks for each character that it writes."""
        from visualization.attention.images import ImageAttention

        few = take(batch, 0, _SHOWN)
        moved = to_device(few, self.device)
        num_columns = columns_of(moved.width)
        with torch.no_grad(), evaluation_mode(self.model):
            contexts = self.model.contexts(moved.image, moved.width)
            logits, looks = self.model.write(contexts, num_columns, _most(num_columns))
        written = self.task.decode(_until_end(logits, num_columns))
        return ImageAttention(
            images=np.asarray(few.image), written=tuple(written),
            maps=looks[:, :, None].cpu().numpy(),
        )  # fmt: skip


def _most(num_columns: Tensor) -> int:
    """Return how many characters are written at most, the end included: one for each column."""
    return int(num_columns.max()) + 1


def _until_end(logits: Tensor, num_columns: Tensor) -> list[NDArray[np.int64]]:
    """Return the likeliest codes of each line before its first end, at most one for a column."""
    written = logits.argmax(-1).cpu().numpy()
    texts = []
    for codes, num in zip(written, num_columns.tolist(), strict=True):
        ends = np.flatnonzero(codes == END)
        texts.append(codes[: min(num, ends[0] if len(ends) else len(codes))])
    return texts


def _text_losses(logits: Tensor, batch: LineImages, smoothing: float) -> Tensor:
    return _losses_of(logits, batch.text, batch.length, smoothing)


def _losses_of(logits: Tensor, text: Tensor, length: Tensor, smoothing: float) -> Tensor:
    """Return the cross entropy of each text and its end, summed over its characters (B,)."""
    right = F.pad(text, (0, 1), value=END)
    losses = F.cross_entropy(
        logits.transpose(1, 2).float(), right, reduction="none", label_smoothing=smoothing
    )
    own = torch.arange(right.shape[1], device=right.device) <= length[:, None]
    return (losses * own).sum(1)
