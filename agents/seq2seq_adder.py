"""A sequence-to-sequence network that learns to add numbers it reads as text.

The encoder reads the question character by character; its last states are all that the decoder
knows of it (Sutskever et al. 2014, 1409.3215). The decoder writes the answer.
"""

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.configs.seq2seq_adder import AdderConfig
from agents.core.agent import Agent
from agents.core.layers import OneHot, recurrent
from agents.core.seq2seq import answer_loss, write_answers, writer_observation
from tasks.core.task import TextPairs, TextToText

if TYPE_CHECKING:
    from agents.core.inspection.observation import Observation


class EncoderDecoder(nn.Module):
    """Reads a question, writes an answer. B samples, Q and A characters, V codes, H units."""

    def __init__(self, config: AdderConfig, spec: TextToText) -> None:
        super().__init__()
        num_codes = len(spec.characters)
        self.answer_length = spec.answer_length
        self.repeats = config.decoder == "repeat"
        self.characters: nn.Module = OneHot(num_codes)
        width = num_codes
        if config.encoding == "embedding":
            width = config.embedding_size
            self.characters = nn.Embedding(num_codes, width)

        hands_over = config.hidden_size if self.repeats else width
        sizes = (config.hidden_size, config.num_layers, config.dropout)
        self.encoder = recurrent(config.cell, width, *sizes)
        self.decoder = recurrent(config.cell, hands_over, *sizes)
        self.readout = nn.Linear(config.hidden_size, num_codes)

    def read(self, question: Tensor) -> Any:
        """Return what the encoder hands over of a question: its states, or its last output."""
        output, state = self.encoder(self.characters(question))
        return output[:, -1:] if self.repeats else state

    def forward(self, question: Tensor, answer: Tensor) -> Tensor:
        """Return logits (B, A, V) of each answer character, given the right ones before it."""
        return self.complete(self.read(question), answer)

    def complete(self, memory: Any, answer: Tensor) -> Tensor:
        """Return logits (B, A, V) from what `read` returned and the right answer."""
        if self.repeats:
            return self._write_repeated(memory)
        before = F.pad(answer[:, :-1], (1, 0))  # code 0 begins every answer
        output, _ = self.decoder(self.characters(before), memory)
        return cast("Tensor", self.readout(output))

    def write(self, memory: Any) -> tuple[Tensor, Tensor]:
        """Return answers (B, A) and their logits (B, A, V), from what `read` returned.

        Each character is the likeliest after the ones already written.
        """
        if self.repeats:
            logits = self._write_repeated(memory)
            return logits.argmax(-1), logits
        state = memory
        num_samples = (state[0] if isinstance(state, tuple) else state).shape[1]
        code = torch.zeros(num_samples, 1, dtype=torch.long, device=self.readout.weight.device)
        written, weighed = [], []
        for _ in range(self.answer_length):
            output, state = self.decoder(self.characters(code), state)
            weighed.append(self.readout(output))
            code = weighed[-1].argmax(-1)
            written.append(code)
        return torch.cat(written, dim=1), torch.cat(weighed, dim=1)

    def _write_repeated(self, last: Tensor) -> Tensor:
        repeated = last.expand(-1, self.answer_length, -1)
        return cast("Tensor", self.readout(self.decoder(repeated)[0]))


class Seq2SeqAdder(Agent):
    """LSTM encoder and decoder; teacher forcing in training, free running in evaluation."""

    name = "seq2seq_adder"
    Config = AdderConfig
    spec_type = TextToText
    config: AdderConfig
    model: EncoderDecoder

    @staticmethod
    def build_model(config: AdderConfig, spec: TextToText) -> nn.Module:
        """Return the encoder and decoder for the task's charset and lengths."""
        return EncoderDecoder(config, spec)

    @property
    def samples_are_independent(self) -> bool:
        """Whether no dropout draws random numbers."""
        return self.config.dropout == 0

    def loss(self, batch: TextPairs) -> Tensor:
        """Return the mean cross entropy per answer character, in nats, padding included."""
        return answer_loss(self.network, batch)

    def predict_batch(self, batch: TextPairs) -> Tensor:
        """Return the answers (batch, answer_length) in codes."""
        return write_answers(self.model, batch)

    def observe(self, batch: TextPairs) -> "Observation":
        """Return a batch with all that views ask of its answers."""
        layers = (self.model.encoder, self.model.decoder)
        return writer_observation(self, self.model, batch, layers, not self.model.repeats)
