"""A sequence-to-sequence network with attention that learns to add numbers it reads as text.

The decoder attends to the encoder's outputs at every character that it writes: it weights them by
an additive score (Bahdanau, Cho and Bengio 2015, 1409.0473, appendix A.1.2), so that not all of the
question has to pass through one state.
"""

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.configs.attention_adder import AttentionConfig
from agents.core.config import ConfigError
from agents.core.layers import MaskedSoftmax, OneHot, recurrent, select_states
from agents.core.seq2seq import NUM_MAPPED, Seq2SeqAgent
from tasks.core.task import TextPairs, TextToText

if TYPE_CHECKING:
    from agents.core.inspection.observation import Observation
    from visualization.attention.maps import AttentionMaps


class AdditiveAttention(nn.Module):
    """Additive attention: scores v · tanh(W query + U key), 1409.0473, A.1.2; W has the bias.

    B samples, T queries, Q keys.
    """

    def __init__(self, query_size: int, place_size: int, size: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_size, size)
        self.place = nn.Linear(place_size, size, bias=False)
        self.score = nn.Linear(size, 1, bias=False)
        self.softmax = MaskedSoftmax()

    def forward(self, queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """Return weights (B, T, Q) that sum to 1 over the keys, and are 0 where masked.

        Args:
            queries: (B, T, query_size).
            keys: encoder outputs after `place` (B, Q, size); the same for every query.
            mask: (B, Q), true at one key or more of each sample.
        """
        scores = self.score(torch.tanh(self.query(queries)[:, :, None] + keys[:, None]))
        return cast("Tensor", self.softmax(scores[..., 0], mask[:, None]))


class Memory(NamedTuple):
    """Output of the encoder. B samples, Q characters, H units, S units of the attention."""

    state: Any  # of the decoder, at its beginning: (layers, B, H), or a pair of them for an LSTM
    outputs: Tensor  # of the encoder's last layer (B, Q, H)
    keys: Tensor  # of the attention, computed from the outputs (B, Q, S)
    visible: Tensor  # where there is no padding (B, Q)


class AttendingDecoder(nn.Module):
    """Encoder–decoder network with attention. B samples, Q and A characters, V codes, H units.

    With `context="output"` no step of the decoder depends on the context, so that all steps are one
    call: s_i = f(s_{i-1}, y_{i-1}), weights from s_i (Luong, Pham and Manning 2015,
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

    def encode(self, question: Tensor) -> Memory:
        """Return the encoder's output for a question (B, Q)."""
        outputs, state = self.encoder(self.characters(question))
        return Memory(
            self._join_directions(state), outputs, self.attention.place(outputs), question != 0
        )

    def select(self, memory: Memory, rows: Tensor) -> Memory:
        """Return the memory of some of its questions, by number (N,)."""
        return Memory(select_states(memory.state, rows), *(each[rows] for each in memory[1:]))

    def _join_directions(self, state: Any) -> Any:
        """Concatenate the states of both directions, to H units."""
        if self.num_directions == 1:
            return state
        if isinstance(state, tuple):
            return tuple(self._join_directions(tensor) for tensor in state)
        return state.unflatten(0, (-1, 2)).transpose(1, 2).flatten(2).contiguous()

    def step(self, codes: Tensor, state: Any, memory: Memory) -> tuple[Tensor, Tensor, Any]:
        """Decode codes (B, T); with `context="input"`, one at a time (T = 1).

        Returns logits (B, T, V), attention weights (B, T, Q) and the next state.
        """
        embedded = self.characters(codes)
        if self.feeds_input:
            last = state[0] if isinstance(state, tuple) else state
            weights = self.attention(last[-1][:, None], memory.keys, memory.visible)
            context = weights @ memory.outputs
            output, state = self.decoder(torch.cat([embedded, context], dim=-1), state)
        else:
            output, state = self.decoder(embedded, state)
            weights = self.attention(output, memory.keys, memory.visible)
            context = weights @ memory.outputs
        combined = torch.tanh(self.combine(torch.cat([output, context], dim=-1)))
        return self.readout(combined), weights, state

    def forward(self, question: Tensor, answer: Tensor) -> Tensor:
        """Return logits (B, A, V) of the answer, with teacher forcing."""
        return self.decode(self.encode(question), answer)

    def decode(self, memory: Memory, answer: Tensor) -> Tensor:
        """Return logits (B, A, V) of the answer, with teacher forcing."""
        return self.decode_with_attention(memory, answer)[0]

    def decode_with_attention(self, memory: Memory, answer: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, A, V) and attention weights (B, A, Q), with teacher forcing."""
        previous = F.pad(answer[:, :-1], (1, 0))  # code 0 begins every answer
        if not self.feeds_input:
            return self.step(previous, memory.state, memory)[:2]
        state, steps = memory.state, []
        for code in torch.split(previous, 1, dim=1):
            logits, weights, state = self.step(code, state, memory)
            steps.append((logits, weights))
        logits, weights = (torch.cat(parts, dim=1) for parts in zip(*steps, strict=True))
        return logits, weights

    def generate(self, memory: Memory) -> tuple[Tensor, Tensor]:
        """Return answers (B, A) by greedy decoding, and their logits (B, A, V)."""
        state = memory.state
        code = torch.zeros(len(memory.outputs), 1, dtype=torch.long, device=memory.outputs.device)
        all_codes, all_logits = [], []
        for _ in range(self.answer_length):
            logits, _, state = self.step(code, state, memory)
            code = logits.argmax(-1)
            all_codes.append(code)
            all_logits.append(logits)
        return torch.cat(all_codes, dim=1), torch.cat(all_logits, dim=1)


class AttentionAdder(Seq2SeqAgent):
    """Adder with attention: teacher forcing in training, greedy decoding in evaluation."""

    name = "attention_adder"
    Config = AttentionConfig
    config: AttentionConfig
    model: AttendingDecoder

    @staticmethod
    def build_model(config: AttentionConfig, spec: TextToText) -> nn.Module:
        """Return the encoder and decoder for the task's charset and lengths."""
        if config.bidirectional and config.hidden_size % 2:
            problem = f"{config.hidden_size} units cannot be halved for two directions"
            raise ConfigError("attention_adder", "hidden_size", problem, "an even number")
        return AttendingDecoder(config, spec)

    def attention_maps(self, num: int = NUM_MAPPED) -> "AttentionMaps":
        """Return attention maps for the answers to `num` questions of the test split."""

        def weights(memory: Memory, answers: Tensor) -> dict[str, dict[str, Tensor]]:
            return {"": {"attention": self.model.decode_with_attention(memory, answers)[1]}}

        return self._attention_maps(weights, num)[""]

    def observe(self, batch: TextPairs) -> "Observation":
        """Return the observation of a batch, with recurrent parts and attention."""
        from visualization.attention.hiding import TextAttention

        layers = (self.model.encoder, self.model.decoder)
        weights = TextAttention(layers={"attention": self.model.attention.softmax})
        return self._observe(batch, layers, attention=(self.attention_maps, weights))
