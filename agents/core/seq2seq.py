"""What agents share that read a text and write another, character by character."""

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


class Writer(Protocol):
    """A model that reads questions (B, Q) and writes answers (B, A), both in codes."""

    def read(self, question: Tensor) -> Any:
        """Return all that is known of a question afterwards."""

    def write(self, memory: Any) -> tuple[Tensor, Tensor]:
        """Return answers (B, A) and logits (B, A, V), free-running."""

    def complete(self, memory: Any, answer: Tensor) -> Tensor:
        """Return logits (B, A, V) of each answer character, given the right ones before it."""


def answer_loss(network: nn.Module, batch: TextPairs) -> Tensor:
    """Return the mean cross entropy per answer character, in nats, padding included."""
    answer = batch.answer
    logits = network(batch.question, answer)
    return F.cross_entropy(logits.flatten(0, 1).float(), answer.flatten())


def write_answers(model: Writer, batch: TextPairs) -> Tensor:
    """Return the answers (batch, answer_length) in codes."""
    return model.write(model.read(batch.question))[0]


def writer_observation(
    agent: "Agent",
    model: Writer,
    batch: TextPairs,
    layers: tuple[nn.RNNBase, nn.RNNBase] | None,
    decoder_reads: bool = True,
    attention: "Sequence[AttentionPart]" = (),
) -> "Observation":
    """Return a batch with all that views ask of its answers.

    Args:
        agent: the agent.
        model: its model.
        batch: of its task.
        layers: the recurrent encoder and decoder; None: there are none to watch.
        decoder_reads: whether the decoder reads what was written before.
        attention: where the model looks.
    """
    from agents.core.inspection.observation import RecurrentPart, observe  # learning does without

    moved = to_device(batch, agent.device)
    question, answer = moved.question, moved.answer
    with torch.inference_mode():
        memory = model.read(question)
        answers = model.write(memory)[0].cpu().numpy()
    characters = np.array(list(agent.task.spec.characters))
    before = np.pad(answers[:, :-1], ((0, 0), (1, 0)))
    read = characters[before] if decoder_reads else np.full(before.shape, "")
    reading, writing, places = agent.task.probe_targets(batch)
    parts: tuple[RecurrentPart, ...] = ()
    if layers is not None:
        encoder = RecurrentPart(
            "encoder", layers[0], characters[batch.question], None, reading, places[0],
            lambda: _scores(model, model.read(question), answer),
        )  # fmt: skip
        decoder = RecurrentPart(
            "decoder", layers[1], read, characters[answers], writing, places[1],
            lambda: _scores(model, memory, answer),
        )  # fmt: skip
        parts = (encoder, decoder)
    rows = agent.task.rows(answers, batch)
    return observe(
        agent, batch, rows=rows, recurrent=parts, attention=attention,
        labels=[f"{row.question} = {row.answer}" for row in rows],
        characters=agent.task.spec.characters, generate=lambda: model.write(model.read(question)),
    )  # fmt: skip


def writer_attention(
    agent: "Agent", model: Writer, weights_of: Callable[[Any, Tensor], Weights], num: int
) -> "dict[str, AttentionMaps]":
    """Return by layer where a writer looked while it answered `num` questions of the test.

    `weights_of` is given what was read and the answers (B, A), which it wrote free-running.
    """
    from visualization.attention.maps import attention_maps

    batch = agent.task.for_display().samples("test", num)
    with torch.inference_mode():
        memory = model.read(to_device(batch, agent.device).question)
        answers = model.write(memory)[0]
        found = weights_of(memory, answers)
    codes = answers.cpu().numpy()
    characters = np.array(list(agent.task.spec.characters))
    known = agent.task.probe_targets(batch)
    return {
        layer: attention_maps(
            heads, characters[codes], characters[batch.question], agent.task.rows(codes, batch),
            known=(known.decoder, known.encoder),
        )
        for layer, heads in found.items()
    }  # fmt: skip


def _scores(model: Writer, memory: Any, answer: Tensor) -> dict[str, Tensor]:
    """Return scores of each sample (B,): free-running, and the loss with teacher forcing."""
    right = model.write(memory)[0] == answer
    logits = model.complete(memory, answer).float()
    loss = F.cross_entropy(logits.transpose(1, 2), answer, reduction="none").mean(1)
    return {"exact match": right.all(1), "token accuracy": right.double().mean(1), "loss": loss}
