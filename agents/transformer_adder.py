"""A Transformer that learns to add numbers it reads as text (Vaswani et al. 2017, 1706.03762).

An encoder in which every character of the question looks at all of them, and a decoder in which
every character of the answer looks at those before it and at the question. Layers normalise what
they read, not what they write ("pre-norm", Xiong et al. 2020, 2002.04745), so that no warm-up is
needed.
"""

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.configs.transformer_adder import TransformerConfig
from agents.core.agent import Agent
from agents.core.config import ConfigError
from agents.core.layers import HiddenLinear
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

_LONGEST_WAVE = 10_000.0  # of the sinusoids, 1706.03762, section 3.5


class Attention(nn.Module):
    """Scaled dot-product attention of several heads (1706.03762, equation 1, section 3.2.2).

    B samples, T queries, S places looked at, D numbers, in N heads of D / N.
    """

    def __init__(self, size: int, num_heads: int, rotates: bool) -> None:
        super().__init__()
        self.num_heads, self.rotates = num_heads, rotates
        self.query = HiddenLinear(size, size)
        self.key = HiddenLinear(size, size)
        self.value = HiddenLinear(size, size)
        self.out = HiddenLinear(size, size)

    def _in_heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], self.num_heads, -1).transpose(1, 2)

    def forward(self, x: Tensor, looked_at: Tensor, visible: Tensor) -> Tensor:
        """Return what x (B, T, D) finds where it looks (B, S, D).

        `visible` (B or 1, 1, T or 1, S) is true where it may look, for each query somewhere.
        torch's `scaled_dot_product_attention` does the same, but keeps the weights to itself, and a
        training step on texts as short as these takes 1.5 times as long (bf16, one CPU thread).
        """
        found = self.weights(x, looked_at, visible) @ self._in_heads(self.value(looked_at))
        return cast("Tensor", self.out(found.transpose(1, 2).flatten(2)))

    def weights(self, x: Tensor, looked_at: Tensor, visible: Tensor) -> Tensor:
        """Return how much each query looks at each place (B, N, T, S): 1 in all, 0 where hidden."""
        queries, keys = self._in_heads(self.query(x)), self._in_heads(self.key(looked_at))
        if self.rotates:
            queries, keys = rotated(queries), rotated(keys)
        scores = queries / math.sqrt(queries.shape[-1]) @ keys.mT
        return scores.masked_fill(~visible, -torch.inf).softmax(-1)


def rotated(x: Tensor) -> Tensor:
    """Turn each pair of numbers of x (…, T, even) by an angle that grows with the place.

    Su et al. 2021, 2104.09864, equation 34, with number k paired with k + half: the product of a
    turned query and a turned key depends on their distance alone.
    """
    length, size = x.shape[-2:]
    angles = _angles(length, size, x.device)
    first, second = x.float().chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).type_as(x)


def _angles(length: int, size: int, device: torch.device | None = None) -> Tensor:
    """Return place times speed (length, size // 2), speeds falling from 1 as in section 3.5."""
    speeds = _LONGEST_WAVE ** (-torch.arange(0, size, 2, device=device) / size)
    return torch.arange(length, device=device)[:, None] * speeds


class Places(nn.Module):
    """Adds to each character of a text what tells its place. B samples, T characters."""

    def __init__(self, kind: str, length: int, size: int) -> None:
        super().__init__()
        self.kind = kind
        if kind == "learned":
            self.table = nn.Parameter(torch.randn(length, size))
        if kind == "sinusoidal":
            angles = _angles(length, size)
            waves = torch.cat([angles.sin(), angles.cos()], dim=-1)
            self.register_buffer("table", waves, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, T, size) with its places."""
        if self.kind == "rotary":
            return x
        return x + cast("Tensor", self.table)[: x.shape[1]]


class Layer(nn.Module):
    """Attention within a text, perhaps attention to another, and a network for each character."""

    def __init__(self, config: TransformerConfig, looks_elsewhere: bool) -> None:
        super().__init__()
        size, heads = config.d_model, config.num_heads
        self.own_norm = nn.LayerNorm(size)
        self.own = Attention(size, heads, config.positions == "rotary")
        self.looks_elsewhere = looks_elsewhere
        if looks_elsewhere:
            self.other_norm = nn.LayerNorm(size)
            self.other = Attention(size, heads, rotates=False)  # places of two texts: no distance
        self.forward_norm = nn.LayerNorm(size)
        self.widen = HiddenLinear(size, config.d_ff)
        self.narrow = HiddenLinear(config.d_ff, size)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, visible: Tensor, other: Tensor | None = None, seen: Tensor | None = None
    ) -> Tensor:
        """Return x (B, T, D) after one layer; `other` (B, S, D) is seen where `seen` says."""
        read = self.own_norm(x)
        x = x + self.dropout(self.own(read, read, visible))
        if self.looks_elsewhere:
            x = x + self.dropout(self.other(self.other_norm(x), other, seen))
        wide = F.relu(self.widen(self.forward_norm(x)))
        return x + cast("Tensor", self.dropout(self.narrow(wide)))


class Memory(NamedTuple):
    """What the encoder hands over of B questions of Q characters, D numbers for each."""

    outputs: Tensor  # (B, Q, D)
    visible: Tensor  # (B, Q)


class Transformer(nn.Module):
    """Reads a question, writes an answer. B samples, Q and A characters, V codes, D numbers."""

    def __init__(self, config: TransformerConfig, spec: TextToText) -> None:
        super().__init__()
        num_codes, size = len(spec.characters), config.d_model
        self.answer_length = spec.answer_length
        self.characters = nn.Embedding(num_codes, size)
        self.read_places = Places(config.positions, spec.question_length, size)
        self.written_places = Places(config.positions, spec.answer_length, size)
        layers = range(config.num_layers)
        self.encoder = nn.ModuleList(Layer(config, looks_elsewhere=False) for _ in layers)
        self.decoder = nn.ModuleList(Layer(config, looks_elsewhere=True) for _ in layers)
        self.read_norm, self.written_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.readout = nn.Linear(size, num_codes)

    def read(self, question: Tensor) -> Memory:
        """Return what the encoder makes of a question (B, Q)."""
        visible = seen_places(question)
        x = self.read_places(self.characters(question))
        for layer in self.encoder:
            x = layer(x, visible[:, None, None])
        return Memory(self.read_norm(x), visible)

    def forward(self, question: Tensor, answer: Tensor) -> Tensor:
        """Return logits (B, A, V) of each answer character, given the right ones before it."""
        return self.complete(self.read(question), answer)

    def complete(self, memory: Memory, answer: Tensor) -> Tensor:
        """Return logits (B, A, V), given the answer's characters so far."""
        return self.go_on(memory, F.pad(answer[:, :-1], (1, 0)))  # code 0 begins every answer

    def go_on(self, memory: Memory, before: Tensor) -> Tensor:
        """Return logits (B, T, V) of what follows each of the characters `before` (B, T)."""
        length = before.shape[1]
        earlier = torch.ones(length, length, dtype=torch.bool, device=before.device).tril()
        x = self.written_places(self.characters(before))
        for layer in self.decoder:
            x = layer(x, earlier[None, None], memory.outputs, memory.visible[:, None, None])
        return cast("Tensor", self.readout(self.written_norm(x)))

    def write(self, memory: Memory) -> tuple[Tensor, Tensor]:
        """Return answers (B, A) and their logits (B, A, V), each the likeliest after the others."""
        outputs = memory.outputs
        codes = torch.zeros(len(outputs), 1, dtype=torch.long, device=outputs.device)
        for _ in range(self.answer_length):
            logits = self.go_on(memory, codes)
            codes = torch.cat([codes, logits[:, -1:].argmax(-1)], dim=1)
        return codes[:, 1:], logits


def seen_places(question: Tensor) -> Tensor:
    """Return where there is no padding (B, Q), and the padding next to the text: it says "end"."""
    text = question != 0
    beside = F.pad(text[:, 1:], (0, 1)) | F.pad(text[:, :-1], (1, 0))
    return text | beside


class TransformerAdder(Agent):
    """Encoder and decoder; teacher forcing in training, free running in evaluation."""

    name = "transformer_adder"
    Config = TransformerConfig
    spec_type = TextToText
    config: TransformerConfig
    model: Transformer

    @staticmethod
    def build_model(config: TransformerConfig, spec: TextToText) -> nn.Module:
        """Return the Transformer for the task's charset and lengths."""
        size, heads = config.d_model, config.num_heads
        if size % (2 * heads):
            problem = f"{size} cannot be shared out evenly among {heads} heads"
            raise ConfigError("transformer_adder", "d_model", problem, f"a multiple of {2 * heads}")
        return Transformer(config, spec)

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

    def attention_maps(self, num: int = NUM_MAPPED) -> "dict[str, AttentionMaps]":
        """Return where each head looked while the answers to `num` test questions were written.

        A record for each layer of the decoder, with a map for each head: from the characters of the
        answer to those of the question. In the encoder's last layer each of those stands for what
        its place has gathered, not for its own character alone.
        """

        def weights(memory: Memory, answers: Tensor) -> dict[str, dict[str, Tensor]]:
            return {
                layer: {f"head {head + 1}": of_all[:, head] for head in range(of_all.shape[1])}
                for layer, of_all in self.weights(memory, answers).items()
            }

        return writer_attention(self, self.model, weights, num)

    def weights(self, memory: Memory, answer: Tensor) -> dict[str, Tensor]:
        """Return by layer of the decoder where its heads look in the question (B, N, A, Q)."""
        from visualization.core.preserve import hooks

        found: dict[str, Tensor] = {}

        def keep(name: str) -> Callable[..., None]:
            def hook(module: Attention, inputs: tuple[Tensor, ...], _: Tensor) -> None:
                found[name] = module.weights(*inputs)

            return hook

        def handles() -> Iterator[Any]:
            for number, layer in enumerate(self.model.decoder, start=1):
                looks = cast("Layer", layer).other
                yield looks.register_forward_hook(keep(f"layer {number}"))

        with hooks(handles()):
            self.model.complete(memory, answer)
        return found

    def observe(self, batch: TextPairs) -> "Observation":
        """Return a batch with its answers, and the attention."""
        from agents.core.inspection.observation import AttentionPart

        maps = AttentionPart(name="attention", maps=self.attention_maps)
        return writer_observation(self, self.model, batch, None, attention=(maps,))
