"""A sequence-to-sequence network that learns to add numbers it reads as text.

The encoder reads the question character by character; its last states are all that the decoder
knows of it (Sutskever et al. 2014, 1409.3215). The decoder writes the answer.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, cast

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.core.agent import Agent
from agents.core.config import AgentConfig, Schedule, setting, with_default
from agents.core.layers import OneHot, recurrent
from agents.core.writing import answer_loss, write_answers, writer_study
from tasks.core.task import TextPairs, TextToText

if TYPE_CHECKING:
    from agents.core.study import Study


@attrs.frozen(kw_only=True)
class AdderConfig(AgentConfig):
    """Sizes and recipe of the adder."""

    hidden_size: int = setting(128, "units of each recurrent layer", ge=1)
    num_layers: int = setting(1, "recurrent layers of encoder and decoder", ge=1)
    cell: Literal["lstm", "gru", "rnn"] = setting("lstm", "kind of recurrent layer")
    encoding: Literal["one_hot", "embedding"] = setting("one_hot", "how characters are presented")
    embedding_size: int = setting(16, "numbers per character of an embedding", ge=1)
    decoder: Literal["states", "repeat"] = setting(
        "states",
        "states: starts from the encoder's states and reads what it has written; "
        "repeat: reads the encoder's last output at every position, as Keras' example does",
    )
    dropout: float = setting(0.0, "between recurrent layers, in training", ge=0.0, lt=1.0)
    optimizer: Literal["adam", "muon"] = with_default("optimizer", "muon")
    learning_rate: float = with_default("learning_rate", 2e-2)
    muon_learning_rate: float = with_default("muon_learning_rate", 0.035)
    schedule: Schedule = with_default("schedule", "warm_restarts", "one_cycle")
    batch_size: int = with_default("batch_size", 128, 256)
    steps: int = with_default("steps", 14_000, 18_000)
    eval_every: int | None = with_default("eval_every", 1_000, 500)
    rate_parts: int = with_default("rate_parts", 2, 4)  # of 2,000 and 12,000 steps
    rate_growth: float = with_default("rate_growth", 6.0, 2.0)
    stop_at: float | None = with_default("stop_at", 0.995, None)


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

    def build_model(self, spec: TextToText) -> nn.Module:
        """Return the encoder and decoder for the task's charset and lengths."""
        return EncoderDecoder(self.config, spec)

    @property
    def samples_are_independent(self) -> bool:
        """Whether no dropout draws random numbers."""
        return self.config.dropout == 0

    def loss(self, batch: TextPairs) -> Tensor:
        """Return the mean cross entropy per answer character, in nats, padding included."""
        return answer_loss(self.network, batch)

    def respond(self, batch: TextPairs) -> Tensor:
        """Return the answers (batch, answer_length) in codes."""
        return write_answers(self.model, batch)

    reply = respond

    def views(self) -> Mapping[str, Callable[[], Any]]:
        """Return the inspections of encoder and decoder."""
        from agents.core.recurrent import RecurrentViews  # learning does without

        return RecurrentViews(self.study, self.task.viewed).by_name()

    def study(self, batch: TextPairs) -> "Study":
        """Return a batch with all that views ask of its answers."""
        layers = (self.model.encoder, self.model.decoder)
        return writer_study(self, self.model, batch, layers, not self.model.repeats)
