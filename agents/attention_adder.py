"""A sequence-to-sequence network with attention that learns to add numbers it reads as text.

The encoder keeps an output for every character of the question, and the decoder looks at them again
at every character that it writes: it weighs them by an additive score (Bahdanau, Cho and Bengio
2015, 1409.0473, appendix A.1.2), so that not all of the question has to pass through one state.
"""

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.configs.attention_adder import AttentionConfig
from agents.core.agent import Agent
from agents.core.config import ConfigError
from agents.core.layers import OneHot, recurrent
from agents.core.seq2seq import (
    NUM_MAPPED,
    answer_loss,
    write_answers,
    writer_attention,
    writer_observation,
)
from tasks.core.task import TextPairs, TextToText

if TYPE_CHECKING:
    from agents.core.inspection.observation import Observation
    from visualization.attention.maps import AttentionMaps


class AdditiveAttention(nn.Module):
    """Weighs places by v · tanh(W query + U place), 1409.0473, A.1.2; W has the bias of both.

    B samples, T queries, Q places.
    """

    def __init__(self, query_size: int, place_size: int, size: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_size, size)
        self.place = nn.Linear(place_size, size, bias=False)
        self.score = nn.Linear(size, 1, bias=False)

    def forward(self, queries: Tensor, places: Tensor, visible: Tensor) -> Tensor:
        """Return weights (B, T, Q) that sum to 1 over the places, and are 0 where none is visible.

        Args:
            queries: (B, T, query_size).
            places: what `place` made of them (B, Q, size); the same for every query.
            visible: (B, Q), true at one place or more of each sample.
        """
        scores = self.score(torch.tanh(self.query(queries)[:, :, None] + places[:, None]))
        hidden = scores[..., 0].masked_fill(~visible[:, None], -torch.inf)
        return cast("Tensor", hidden.softmax(-1))


class Memory(NamedTuple):
    """What the encoder hands over. B samples, Q characters, H units, S units of the attention."""

    state: Any  # of the decoder, at its beginning: (layers, B, H), or a pair of them for an LSTM
    outputs: Tensor  # of the encoder's last layer (B, Q, H)
    places: Tensor  # the same as the attention scores them (B, Q, S)
    visible: Tensor  # where there is no padding (B, Q)


class AttendingDecoder(nn.Module):
    """Reads a question, writes an answer. B samples, Q and A characters, V codes, H units.

    With `context="output"` no step of the decoder waits for what is looked at, so that all steps
    are one call: s_i = f(s_{i-1}, y_{i-1}), weights from s_i (Luong, Pham and Manning 2015,
    1508.04025, section 3.1 and equations 5 and 6, with the additive score in place of theirs). With
    `context="input"` s_i = f(s_{i-1}, y_{i-1}, c_i) and the weights of c_i come from s_{i-1}, as in
    1409.0473, equations 4 to 6. The read-out is that of 1508.04025 in both: tanh(C [s_i, c_i]).
    """

    def __init__(self, config: AttentionConfig, spec: TextToText) -> None:
        super().__init__()
        num_codes, size = len(spec.characters), config.hidden_size
        self.answer_length = spec.answer_length
        self.feeds_input = config.context == "input"
        self.num_directions = 2 if config.bidirectional else 1
        self.characters = OneHot(num_codes)
        self.encoder = recurrent(
            config.cell, num_codes, size // self.num_directions, config.num_layers, config.dropout,
            config.bidirectional,
        )  # fmt: skip
        width = num_codes + size if self.feeds_input else num_codes
        self.decoder = recurrent(config.cell, width, size, config.num_layers, config.dropout)
        self.attention = AdditiveAttention(size, size, config.attention_size)
        self.combine = nn.Linear(2 * size, size)
        self.readout = nn.Linear(size, num_codes)

    def read(self, question: Tensor) -> Memory:
        """Return what the encoder hands over of a question (B, Q)."""
        outputs, state = self.encoder(self.characters(question))
        return Memory(self._merged(state), outputs, self.attention.place(outputs), question != 0)

    def _merged(self, state: Any) -> Any:
        """Return states of both directions side by side, as one of H units."""
        if self.num_directions == 1:
            return state
        if isinstance(state, tuple):
            return tuple(self._merged(held) for held in state)
        return state.unflatten(0, (-1, 2)).transpose(1, 2).flatten(2).contiguous()

    def step(self, codes: Tensor, state: Any, memory: Memory) -> tuple[Tensor, Tensor, Any]:
        """Go on from codes (B, T); with `context="input"`, one at a time (T = 1).

        Returns logits (B, T, V), attention weights (B, T, Q) and the next state.
        """
        read = self.characters(codes)
        if self.feeds_input:
            last = state[0] if isinstance(state, tuple) else state
            weights = self.attention(last[-1][:, None], memory.places, memory.visible)
            context = weights @ memory.outputs
            output, state = self.decoder(torch.cat([read, context], dim=-1), state)
        else:
            output, state = self.decoder(read, state)
            weights = self.attention(output, memory.places, memory.visible)
            context = weights @ memory.outputs
        seen = torch.tanh(self.combine(torch.cat([output, context], dim=-1)))
        return self.readout(seen), weights, state

    def forward(self, question: Tensor, answer: Tensor) -> Tensor:
        """Return logits (B, A, V) of each answer character, given the right ones before it."""
        return self.complete(self.read(question), answer)

    def complete(self, memory: Memory, answer: Tensor) -> Tensor:
        """Return logits (B, A, V) of each answer character, given those before it."""
        return self.forced(memory, answer)[0]

    def forced(self, memory: Memory, answer: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, A, V) and attention weights (B, A, Q), given the answer (B, A)."""
        before = F.pad(answer[:, :-1], (1, 0))  # code 0 begins every answer
        if not self.feeds_input:
            return self.step(before, memory.state, memory)[:2]
        state, found = memory.state, []
        for code in torch.split(before, 1, dim=1):
            logits, weights, state = self.step(code, state, memory)
            found.append((logits, weights))
        logits, weights = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
        return logits, weights

    def write(self, memory: Memory) -> tuple[Tensor, Tensor]:
        """Return answers (B, A) and their logits (B, A, V), each the likeliest after the others."""
        state = memory.state
        code = torch.zeros(len(memory.outputs), 1, dtype=torch.long, device=memory.outputs.device)
        written, weighed = [], []
        for _ in range(self.answer_length):
            logits, _, state = self.step(code, state, memory)
            code = logits.argmax(-1)
            written.append(code)
            weighed.append(logits)
        return torch.cat(written, dim=1), torch.cat(weighed, dim=1)


class AttentionAdder(Agent):
    """Encoder, attention, decoder; teacher forcing in training, free running in evaluation."""

    name = "attention_adder"
    Config = AttentionConfig
    spec_type = TextToText
    config: AttentionConfig
    model: AttendingDecoder

    @staticmethod
    def build_model(config: AttentionConfig, spec: TextToText) -> nn.Module:
        """Return the encoder and decoder for the task's charset and lengths."""
        if config.bidirectional and config.hidden_size % 2:
            problem = f"{config.hidden_size} units cannot be halved for two directions"
            raise ConfigError("attention_adder", "hidden_size", problem, "an even number")
        return AttendingDecoder(config, spec)

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

    def attention_maps(self, num: int = NUM_MAPPED) -> "AttentionMaps":
        """Return where it looked while it wrote the answers to `num` questions of the test."""

        def weights(memory: Memory, answers: Tensor) -> dict[str, dict[str, Tensor]]:
            return {"": {"attention": self.model.forced(memory, answers)[1]}}

        return writer_attention(self, self.model, weights, num)[""]

    def observe(self, batch: TextPairs) -> "Observation":
        """Return a batch with all that views ask of its answers."""
        from agents.core.inspection.observation import AttentionPart

        layers = (self.model.encoder, self.model.decoder)
        maps = AttentionPart(name="attention", maps=self.attention_maps)
        return writer_observation(self, self.model, batch, layers, attention=(maps,))
