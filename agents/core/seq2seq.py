"""Sequence-to-sequence models: what agents share that map a text to a text."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.core.training.loop import to_device
from tasks.core.task import TextPairs

if TYPE_CHECKING:
    from agents.core.agent import Agent
    from agents.core.inspection.observation import AttentionPart, Observation
    from visualization.attention.maps import AttentionMaps

NUM_MAPPED = 500  # samples of a view of the attention
Weights = Mapping[str, Mapping[str, Tensor]]  # layer → head → (B, A, Q)


class Seq2SeqModel(Protocol):
    """A sequence-to-sequence model from questions (B, Q) to answers (B, A), both in codes."""

    def encode(self, question: Tensor) -> Any:
        """Return the memory of a question: all that the decoder gets of it."""

    def generate(self, memory: Any) -> tuple[Tensor, Tensor]:
        """Return answers (B, A) by greedy decoding, and their logits (B, A, V)."""

    def decode(self, memory: Any, answer: Tensor) -> Tensor:
        """Return logits (B, A, V) of the answer, with teacher forcing."""


def answer_loss(network: nn.Module, batch: TextPairs) -> Tensor:
    """Return the mean cross entropy per answer character, in nats, padding included."""
    answer = batch.answer
    logits = network(batch.question, answer)
    return F.cross_entropy(logits.flatten(0, 1).float(), answer.flatten())


def generate_answers(model: Seq2SeqModel, batch: TextPairs) -> Tensor:
    """Return answers (batch, answer_length) in codes, by greedy decoding."""
    return model.generate(model.encode(batch.question))[0]


def seq2seq_observation(
    agent: "Agent",
    model: Seq2SeqModel,
    batch: TextPairs,
    layers: tuple[nn.RNNBase, nn.RNNBase] | None,
    decoder_reads: bool = True,
    attention: "Sequence[AttentionPart]" = (),
) -> "Observation":
    """Return the observation of a batch, for inspection.

    Args:
        agent: the agent.
        model: its model.
        batch: of its task.
        layers: the recurrent encoder and decoder; None: the model has none.
        decoder_reads: whether the decoder's input is the character before.
        attention: the attention of the model.
    """
    from agents.core.inspection.observation import RecurrentPart, observe  # learning does without

    tensors = to_device(batch, agent.device)
    question, answer = tensors.question, tensors.answer
    with torch.inference_mode():
        memory = model.encode(question)
        answers = model.generate(memory)[0].cpu().numpy()
    characters = np.array(list(agent.task.spec.characters))
    previous = np.pad(answers[:, :-1], ((0, 0), (1, 0)))
    decoder_inputs = characters[previous] if decoder_reads else np.full(previous.shape, "")
    probe_targets = agent.task.probe_targets(batch)
    encoder_position, decoder_position = probe_targets.position_keys
    parts: tuple[RecurrentPart, ...] = ()
    if layers is not None:
        encoder = RecurrentPart(
            "encoder", layers[0], characters[batch.question], None, probe_targets.encoder,
            encoder_position,
            lambda: _scores(model, model.encode(question), answer),
        )  # fmt: skip
        decoder = RecurrentPart(
            "decoder", layers[1], decoder_inputs, characters[answers], probe_targets.decoder,
            decoder_position,
            lambda: _scores(model, memory, answer),
        )  # fmt: skip
        parts = (encoder, decoder)
    rows = agent.task.rows(answers, batch)
    return observe(
        agent, batch, rows=rows, recurrent=parts, attention=attention,
        labels=[f"{row.question} = {row.answer}" for row in rows],
        characters=agent.task.spec.characters,
        generate=lambda: model.generate(model.encode(question)),
    )  # fmt: skip


def decoder_attention(
    agent: "Agent", model: Seq2SeqModel, weights_of: Callable[[Any, Tensor], Weights], num: int
) -> "dict[str, AttentionMaps]":
    """Return attention maps by layer for the answers to `num` questions of the test split.

    `weights_of` computes the weights from the memory of the questions and the answers (B, A).
    """
    from visualization.attention.maps import attention_maps

    batch = agent.task.for_display().samples("test", num)
    with torch.inference_mode():
        memory = model.encode(to_device(batch, agent.device).question)
        answers = model.generate(memory)[0]
        weights = weights_of(memory, answers)
    codes = answers.cpu().numpy()
    characters = np.array(list(agent.task.spec.characters))
    probe_targets = agent.task.probe_targets(batch)
    return {
        layer: attention_maps(
            heads, characters[codes], characters[batch.question], agent.task.rows(codes, batch),
            known=(probe_targets.decoder, probe_targets.encoder),
        )
        for layer, heads in weights.items()
    }  # fmt: skip


def _scores(model: Seq2SeqModel, memory: Any, answer: Tensor) -> dict[str, Tensor]:
    """Return scores of each sample (B,) by greedy decoding, and the loss with teacher forcing."""
    is_right = model.generate(memory)[0] == answer
    logits = model.decode(memory, answer).float()
    loss = F.cross_entropy(logits.transpose(1, 2), answer, reduction="none").mean(1)
    return {
        "exact match": is_right.all(1),
        "token accuracy": is_right.double().mean(1),
        "loss": loss,
    }
