"""A sequence-to-sequence network that learns to add numbers it reads as text.

The encoder reads the question character by character; its last states are all that the decoder
knows of it (Sutskever et al. 2014, 1409.3215). The decoder writes the answer.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.core.agent import Agent
from agents.core.config import AgentConfig, setting
from tasks.core.task import TextPairs, TextToText
from visualization.answers import AnswerTable

RECURRENT = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


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
    optimizer: Literal["adam", "muon"] = setting(
        "muon", "muon: orthogonalised momentum for hidden-to-hidden matrices, Adam for the rest"
    )
    learning_rate: float = setting(2e-2, "highest step size of Adam", gt=0.0)
    muon_learning_rate: float = setting(0.035, "highest step size of Muon", gt=0.0)
    steps: int = setting(18_000, "optimiser steps in all", ge=1)


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

        def recurrent(input_size: int) -> nn.RNNBase:
            layer: nn.RNNBase = RECURRENT[config.cell](
                input_size,
                config.hidden_size,
                config.num_layers,
                batch_first=True,
                dropout=config.dropout,
            )
            return layer

        self.encoder = recurrent(width)
        self.decoder = recurrent(config.hidden_size if self.repeats else width)
        self.readout = nn.Linear(config.hidden_size, num_codes)

    def forward(self, question: Tensor, answer: Tensor) -> Tensor:
        """Return logits (B, A, V) of each answer character, given the right ones before it."""
        output, state = self.encoder(self.characters(question))
        if self.repeats:
            return self._write_repeated(output)
        before = F.pad(answer[:, :-1], (1, 0))  # code 0 begins every answer
        output, _ = self.decoder(self.characters(before), state)
        return cast("Tensor", self.readout(output))

    def write(self, question: Tensor) -> Tensor:
        """Return answers (B, A), each character the likeliest after the ones already written."""
        output, state = self.encoder(self.characters(question))
        if self.repeats:
            return self._write_repeated(output).argmax(-1)
        code = torch.zeros_like(question[:, :1])
        written = []
        for _ in range(self.answer_length):
            output, state = self.decoder(self.characters(code), state)
            code = self.readout(output).argmax(-1)
            written.append(code)
        return torch.cat(written, dim=1)

    def _write_repeated(self, output: Tensor) -> Tensor:
        last = output[:, -1:].expand(-1, self.answer_length, -1)
        return cast("Tensor", self.readout(self.decoder(last)[0]))


class OneHot(nn.Module):
    """Codes (…) to one-hot vectors (…, num_codes)."""

    def __init__(self, num_codes: int) -> None:
        super().__init__()
        self.num_codes = num_codes

    def forward(self, codes: Tensor) -> Tensor:
        """Return the vectors, in the default floating type."""
        return F.one_hot(codes, self.num_codes).to(torch.get_default_dtype())


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

    def loss(self, batch: TextPairs) -> Tensor:
        """Return the mean cross entropy per answer character, in nats, padding included."""
        answer = torch.as_tensor(batch.answer).long()
        logits = self.network(torch.as_tensor(batch.question).long(), answer)
        return F.cross_entropy(logits.flatten(0, 1).float(), answer.flatten())

    def respond(self, batch: TextPairs) -> Tensor:
        """Return the answers (batch, answer_length) in codes."""
        return self.model.write(torch.as_tensor(batch.question).long())

    def views(self) -> Mapping[str, Callable[[], Any]]:
        """Return the adder's own inspections."""
        return {"wrong_answers": self.wrong_answers}

    def wrong_answers(self, num: int = 20) -> AnswerTable:
        """Return the first `num` sums of the test split that went wrong."""
        rows = self.task.rows(*self.answers("test", 2000))
        wrong = [row for row in rows if not row.right]
        title = f"{len(wrong)} of {len(rows)} test sums went wrong"
        return AnswerTable(title, wrong[:num])
