"""A Transformer that learns to add numbers it reads as text (Vaswani et al. 2017, 1706.03762).

In the encoder every character of the question attends to all of them, in the decoder every
character of the answer to those before it and to the question. Layer normalisation is applied to
the inputs of sublayers ("pre-norm", Xiong et al. 2020, 2002.04745), so that no warm-up is needed.
"""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.configs.transformer_adder import TransformerConfig
from agents.core.config import ConfigError
from agents.core.layers import HiddenLinear, MaskedSoftmax
from agents.core.seq2seq import NUM_MAPPED, Seq2SeqAgent
from agents.core.training.loop import to_device
from tasks.core.task import Row, TextPairs, TextToText

if TYPE_CHECKING:
    from agents.core.inspection.observation import Observation
    from visualization.attention.hiding import TextAttention
    from visualization.attention.maps import AttentionMaps
    from visualization.attention.rollout import AttentionRollout
    from visualization.circuits import LogitAttribution

NUM_ROLLED = 6  # samples of the view of attention rollout
_LONGEST_WAVE = 10_000.0  # of the sinusoids, 1706.03762, section 3.5


class Attention(nn.Module):
    """Scaled dot-product attention of several heads (1706.03762, equation 1, section 3.2.2).

    B samples, T queries, S keys, D features, in N heads of D / N.
    """

    def __init__(self, size: int, num_heads: int, rotates: bool) -> None:
        super().__init__()
        self.num_heads, self.rotates = num_heads, rotates
        self.query = HiddenLinear(size, size)
        self.key = HiddenLinear(size, size)
        self.value = HiddenLinear(size, size)
        self.out = HiddenLinear(size, size)
        self.softmax = MaskedSoftmax()

    def _in_heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], self.num_heads, -1).transpose(1, 2)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """Return the attention of x (B, T, D) to `memory` (B, S, D).

        `mask` (B or 1, 1, T or 1, S) is true where attention is allowed, for each query somewhere.
        torch's `scaled_dot_product_attention` computes the same, but does not return the weights,
        and a training step on texts as short as these takes 1.5 times as long (bf16, one CPU
        thread).
        """
        context = self.weights(x, memory, mask) @ self._in_heads(self.value(memory))
        return cast("Tensor", self.out(context.transpose(1, 2).flatten(2)))

    def weights(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """Return attention weights (B, N, T, S), with a sum of 1 over S and 0 where masked."""
        queries, keys = self._in_heads(self.query(x)), self._in_heads(self.key(memory))
        if self.rotates:
            queries, keys = apply_rotary(queries), apply_rotary(keys)
        scores = queries / math.sqrt(queries.shape[-1]) @ keys.mT
        return cast("Tensor", self.softmax(scores, mask))

    def by_head(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """Return what each head adds to the output (B, N, T, D); the bias of `out` is the rest."""
        contexts = self.weights(x, memory, mask) @ self._in_heads(self.value(memory))
        matrices = self.out.weight.view(len(self.out.weight), self.num_heads, -1)
        return torch.einsum("bnth,dnh->bntd", contexts, matrices)


def apply_rotary(x: Tensor) -> Tensor:
    """Rotary position embedding: rotate each pair of features of x (…, T, even) by position.

    Su et al. 2021, 2104.09864, equation 34, with feature k paired with k + half: the product of a
    rotated query and a rotated key depends on their distance alone.
    """
    length, size = x.shape[-2:]
    angles = _angles(length, size, x.device)
    first, second = x.float().chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).type_as(x)


def _angles(length: int, size: int, device: torch.device | None = None) -> Tensor:
    """Return position times frequency (length, size // 2), from 1 down, as in section 3.5."""
    frequencies = _LONGEST_WAVE ** (-torch.arange(0, size, 2, device=device) / size)
    return torch.arange(length, device=device)[:, None] * frequencies


class PositionalEncoding(nn.Module):
    """Positional encoding, added to the embeddings. B samples, T characters."""

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
        """Return x (B, T, size) with its positions."""
        if self.kind == "rotary":
            return x
        return x + cast("Tensor", self.table)[: x.shape[1]]


class Layer(nn.Module):
    """Transformer layer: self-attention, perhaps cross-attention, and a feed-forward network."""

    def __init__(self, config: TransformerConfig, cross_attention: bool) -> None:
        super().__init__()
        size, heads = config.d_model, config.num_heads
        self.own_norm = nn.LayerNorm(size)
        self.own = Attention(size, heads, config.positions == "rotary")
        self.cross_attention = cross_attention
        if cross_attention:
            self.other_norm = nn.LayerNorm(size)
            # Positions in two texts have no distance.
            self.other = Attention(size, heads, rotates=False)
        self.forward_norm = nn.LayerNorm(size)
        self.widen = HiddenLinear(size, config.d_ff)
        self.narrow = HiddenLinear(config.d_ff, size)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> Tensor:
        """Return x (B, T, D) after one layer, with cross-attention to `memory` (B, S, D)."""
        normed = self.own_norm(x)
        x = x + self.dropout(self.own(normed, normed, mask))
        if self.cross_attention:
            x = x + self.dropout(self.other(self.other_norm(x), memory, memory_mask))
        hidden = F.relu(self.widen(self.forward_norm(x)))
        return x + cast("Tensor", self.dropout(self.narrow(hidden)))


class Memory(NamedTuple):
    """Encoder outputs of B questions of Q characters, and the mask of their characters."""

    outputs: Tensor  # (B, Q, D)
    visible: Tensor  # (B, Q)


class Transformer(nn.Module):
    """Encoder–decoder Transformer. B samples, Q and A characters, V codes, D features."""

    def __init__(self, config: TransformerConfig, spec: TextToText) -> None:
        super().__init__()
        num_codes, size = len(spec.characters), config.d_model
        self.answer_length = spec.answer_length
        self.characters = nn.Embedding(num_codes, size)
        self.read_places = PositionalEncoding(config.positions, spec.question_length, size)
        self.written_places = PositionalEncoding(config.positions, spec.answer_length, size)
        layers = range(config.num_layers)
        self.encoder = nn.ModuleList(Layer(config, cross_attention=False) for _ in layers)
        self.decoder = nn.ModuleList(Layer(config, cross_attention=True) for _ in layers)
        self.read_norm, self.written_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.readout = nn.Linear(size, num_codes)

    def encode(self, question: Tensor) -> Memory:
        """Return the encoder's outputs for a question (B, Q)."""
        visible = visible_mask(question)
        x = self.read_places(self.characters(question))
        for layer in self.encoder:
            x = layer(x, visible[:, None, None])
        return Memory(self.read_norm(x), visible)

    def select(self, memory: Memory, rows: Tensor) -> Memory:
        """Return the memory of some of its questions, by number (N,)."""
        return Memory(*(each[rows] for each in memory))

    def forward(self, question: Tensor, answer: Tensor) -> Tensor:
        """Return logits (B, A, V) of the answer, with teacher forcing."""
        return self.decode(self.encode(question), answer)

    def decode(self, memory: Memory, answer: Tensor) -> Tensor:
        """Return logits (B, A, V) of the answer, with teacher forcing."""
        previous = F.pad(answer[:, :-1], (1, 0))  # code 0 begins every answer
        return self.decode_prefix(memory, previous)

    def decode_prefix(self, memory: Memory, prefix: Tensor) -> Tensor:
        """Return logits (B, T, V) of the next character after each of a prefix (B, T)."""
        length = prefix.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=prefix.device).tril()
        x = self.written_places(self.characters(prefix))
        for layer in self.decoder:
            x = layer(x, causal[None, None], memory.outputs, memory.visible[:, None, None])
        return cast("Tensor", self.readout(self.written_norm(x)))

    def generate(self, memory: Memory) -> tuple[Tensor, Tensor]:
        """Return answers (B, A) by greedy decoding, and their logits (B, A, V)."""
        outputs = memory.outputs
        codes = torch.zeros(len(outputs), 1, dtype=torch.long, device=outputs.device)
        for _ in range(self.answer_length):
            logits = self.decode_prefix(memory, codes)
            codes = torch.cat([codes, logits[:, -1:].argmax(-1)], dim=1)
        return codes[:, 1:], logits


def visible_mask(question: Tensor) -> Tensor:
    """Return the mask (B, Q) of a question's characters and the padding next to them, its end."""
    text = question != 0
    neighbours = F.pad(text[:, 1:], (0, 1)) | F.pad(text[:, :-1], (1, 0))
    return text | neighbours


class TransformerAdder(Seq2SeqAgent):
    """Transformer adder: teacher forcing in training, greedy decoding in evaluation."""

    name = "transformer_adder"
    Config = TransformerConfig
    config: TransformerConfig
    model: Transformer

    @staticmethod
    def build_model(config: TransformerConfig, spec: TextToText) -> nn.Module:
        """Return the Transformer for the task's charset and lengths."""
        size, heads = config.d_model, config.num_heads
        if size % (2 * heads):
            problem = f"{size} cannot be divided among {heads} heads"
            raise ConfigError("transformer_adder", "d_model", problem, f"a multiple of {2 * heads}")
        return Transformer(config, spec)

    def attention_maps(self, num: int = NUM_MAPPED) -> "dict[str, AttentionMaps]":
        """Return cross-attention maps of each head for the answers to `num` test questions.

        A record for each layer of the decoder, with a map for each head: from the characters of the
        answer to those of the question. The encoder's output at a character depends on all of the
        question, not on that character alone.
        """

        def weights(memory: Memory, answers: Tensor) -> dict[str, dict[str, Tensor]]:
            return {
                layer: {f"head {head + 1}": of_all[:, head] for head in range(of_all.shape[1])}
                for layer, of_all in self.weights(memory, answers).items()
            }

        return self._attention_maps(weights, num)

    def weights(self, memory: Memory, answer: Tensor) -> dict[str, Tensor]:
        """Return cross-attention weights by layer of the decoder (B, N, A, Q)."""
        found = self._of_attentions(Attention.weights, lambda: self.model.decode(memory, answer))
        layers = range(len(self.model.decoder))
        return {f"layer {layer + 1}": found[f"decoder.{layer}.other"] for layer in layers}

    def _of_attentions(
        self, value: Callable[..., Tensor], run: Callable[[], Any]
    ) -> dict[str, Tensor]:
        """Return a value of the inputs of each attention that runs, such as `decoder.0.other`."""
        from visualization.core.preserve import hooks

        found: dict[str, Tensor] = {}

        def record(name: str) -> Callable[..., None]:
            def hook(module: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
                found[name] = value(module, *inputs)

            return hook

        modules = self.model.named_modules()
        attentions = [(name, each) for name, each in modules if isinstance(each, Attention)]
        with hooks(each.register_forward_hook(record(name)) for name, each in attentions):
            run()
        return found

    def _answered(self, num: int) -> tuple[Tensor, Tensor, list[Row]]:
        """Return questions (B, Q) and answers (B, A) of test samples, and both as text (B,)."""
        batch = self.task.for_display().samples("test", num)
        question = to_device(batch, self.device).question
        answers = self.model.generate(self.model.encode(question))[0]
        return question, answers, self.task.rows(answers.cpu().numpy(), batch)

    def own_views(self) -> Mapping[str, Callable[[], Any]]:
        """Return the views of the attention of all layers, and of the residual stream."""
        return {
            "attention_rollout": self.attention_rollout,
            "logit_attribution": self.logit_attribution,
        }

    @torch.inference_mode()
    def attention_rollout(self, num: int = NUM_ROLLED) -> "dict[str, AttentionRollout]":
        """Return attention rollout over encoder and decoder for `num` test questions."""
        from visualization.attention.rollout import encoder_decoder_rollout

        question, answers, rows = self._answered(num)
        found = self._of_attentions(Attention.weights, lambda: self.model(question, answers))

        def of_layers(pattern: str) -> list[Tensor]:
            return [found[pattern.format(layer)] for layer in range(self.config.num_layers)]

        characters = np.array(list(self.task.spec.characters))
        return encoder_decoder_rollout(
            of_layers("encoder.{}.own"), of_layers("decoder.{}.own"), of_layers("decoder.{}.other"),
            read=characters[question.cpu().numpy()], written=characters[answers.cpu().numpy()],
            rows=rows,
        )  # fmt: skip

    @torch.inference_mode()
    def logit_attribution(self, num: int = NUM_MAPPED) -> "LogitAttribution":
        """Return what each head and block of the decoder adds to the logits of its answers.

        Exact, as the layers are pre-norm: each adds its output to one residual stream.
        """
        from visualization.circuits import direct_logit_attribution

        question, answers, rows = self._answered(num)
        characters = np.array(list(self.task.spec.characters))
        memory = self.model.encode(question)
        return direct_logit_attribution(
            self.residual_parts(memory, answers), self.model.decode(memory, answers), answers,
            self.model.readout, self.model.written_norm,
            written=characters[answers.cpu().numpy()],
            labels=[f"{row.question} = {row.answer}" for row in rows],
        )  # fmt: skip

    def residual_parts(self, memory: Memory, answer: Tensor) -> dict[str, Tensor]:
        """Return the vectors (B, A, D) by name whose sum is the decoder's stream before its norm.

        Those of the embedding with its positions, of each head, of each feed-forward block with its
        bias, and of the attentions' output biases.
        """
        from visualization.core.tracing import trace

        layers = [cast("Layer", layer) for layer in self.model.decoder]
        blocks = [f"decoder.{layer}.narrow" for layer in range(len(layers))]
        with trace(self.model, ["written_places", *blocks]) as seen:
            added = self._of_attentions(
                Attention.by_head, lambda: self.model.decode(memory, answer)
            )
        parts = {"embedding": seen["written_places"][0]}
        for number, block in enumerate(blocks):
            for attention, kind in (("own", "self"), ("other", "cross")):
                for head, vectors in enumerate(added[f"decoder.{number}.{attention}"].unbind(1), 1):
                    parts[f"layer {number + 1} {kind} head {head}"] = vectors
            parts[f"layer {number + 1} MLP"] = seen[block][0]
        biases = [layer.own.out.bias + layer.other.out.bias for layer in layers]
        parts["attention biases"] = torch.stack(biases).sum(0).expand_as(parts["embedding"])
        return parts

    def _text_attention(self) -> "TextAttention":
        from visualization.attention.hiding import TextAttention

        encoder, decoder = (cast("list[Layer]", list(layers)) for layers in
                            (self.model.encoder, self.model.decoder))  # fmt: skip
        return TextAttention(
            layers={f"layer {n}": layer.other.softmax for n, layer in enumerate(decoder, start=1)},
            others=[layer.own.softmax for layer in encoder], num_heads=self.config.num_heads,
        )  # fmt: skip

    def observe(self, batch: TextPairs) -> "Observation":
        """Return a batch with its answers, and the attention."""
        return self._observe(batch, None, attention=(self.attention_maps, self._text_attention()))
