"""A sequence-to-sequence network that learns to add numbers it reads as text.

The encoder reads the question character by character; its last states are all that the decoder gets
of it (Sutskever et al. 2014, 1409.3215).
"""

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.configs.seq2seq_adder import AdderConfig
from agents.core.layers import OneHot, recurrent, select_states
from agents.core.seq2seq import Seq2SeqAgent
from tasks.core.task import TextPairs, TextToText

if TYPE_CHECKING:
    from agents.core.inspection.observation import Observation


class EncoderDecoder(nn.Module):
    """Encoder–decoder RNN. B samples, Q and A characters, V codes, H units."""

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

        decoder_input_size = config.hidden_size if self.repeats else width
        sizes = (config.hidden_size, config.num_layers, config.dropout)
        self.encoder = recurrent(config.cell, width, *sizes)
        self.decoder = recurrent(config.cell, decoder_input_size, *sizes)
        self.readout = nn.Linear(config.hidden_size, num_codes)

    def encode(self, question: Tensor) -> Any:
        """Return the memory of a question: the encoder's last states, or its last output."""
        output, state = self.encoder(self.characters(question))
        return output[:, -1:] if self.repeats else state

    def select(self, memory: Any, rows: Tensor) -> Any:
        """Return the memory of some of its questions, by number (N,)."""
        return memory[rows] if self.repeats else select_states(memory, rows)

    def forward(self, question: Tensor, answer: Tensor) -> Tensor:
        """Return logits (B, A, V) of the answer, with teacher forcing."""
        return self.decode(self.encode(question), answer)

    def decode(self, memory: Any, answer: Tensor) -> Tensor:
        """Return logits (B, A, V) of the answer, with teacher forcing."""
        if self.repeats:
            return self._decode_repeated(memory)
        previous = F.pad(answer[:, :-1], (1, 0))  # code 0 begins every answer
        output, _ = self.decoder(self.characters(previous), memory)
        return cast("Tensor", self.readout(output))

    def generate(self, memory: Any) -> tuple[Tensor, Tensor]:
        """Return answers (B, A) by greedy decoding, and their logits (B, A, V)."""
        if self.repeats:
            logits = self._decode_repeated(memory)
            return logits.argmax(-1), logits
        state = memory
        num_samples = (state[0] if isinstance(state, tuple) else state).shape[1]
        code = torch.zeros(num_samples, 1, dtype=torch.long, device=self.readout.weight.device)
        all_codes, all_logits = [], []
        for _ in range(self.answer_length):
            output, state = self.decoder(self.characters(code), state)
            logits = self.readout(output)
            code = logits.argmax(-1)
            all_codes.append(code)
            all_logits.append(logits)
        return torch.cat(all_codes, dim=1), torch.cat(all_logits, dim=1)

    def _decode_repeated(self, last: Tensor) -> Tensor:
        repeated = last.expand(-1, self.answer_length, -1)
        return cast("Tensor", self.readout(self.decoder(repeated)[0]))


class Seq2SeqAdder(Seq2SeqAgent):
    """Encoder–decoder adder: teacher forcing in training, greedy decoding in evaluation."""

    name = "seq2seq_adder"
    Config = AdderConfig
    config: AdderConfig
    model: EncoderDecoder

    @staticmethod
    def build_model(config: AdderConfig, spec: TextToText) -> nn.Module:
        """Return the encoder and decoder for the task's charset and lengths."""
        return EncoderDecoder(config, spec)

    def observe(self, batch: TextPairs) -> "Observation":
        """Return the observation of a batch, with encoder and decoder."""
        layers = (self.model.encoder, self.model.decoder)
        return self._observe(batch, layers, not self.model.repeats)
