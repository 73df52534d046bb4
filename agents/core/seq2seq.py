"""Sequence-to-sequence agents: what those share that map a text to a text."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from agents.core.agent import Agent
from agents.core.training.loop import to_device
from tasks.core.task import TextPairs, TextToText

if TYPE_CHECKING:
    from agents.core.inspection.observation import Observation, RecurrentPart
    from visualization.attention.hiding import TextAttention
    from visualization.attention.maps import AttentionMaps

NUM_MAPPED = 500  # samples of a view of the attention
Weights = Mapping[str, Mapping[str, Tensor]]  # layer → head → (B, A, Q)


class Seq2SeqModel(Protocol):
    """A sequence-to-sequence model from questions (B, Q) to answers (B, A), both in codes."""

    def encode(self, question: Tensor) -> Any:
        """Return the memory of a question: all that the decoder gets of it."""

    def select(self, memory: Any, rows: Tensor) -> Any:
        """Return the memory of some of its questions, by number (N,)."""

    def generate(self, memory: Any) -> tuple[Tensor, Tensor]:
        """Return answers (B, A) by greedy decoding, and their logits (B, A, V)."""

    def decode(self, memory: Any, answer: Tensor) -> Tensor:
        """Return logits (B, A, V) of the answer, with teacher forcing."""


class Seq2SeqAgent(Agent):
    """Base class of agents from text to text: teacher forcing in training, greedy in prediction.

    `model` is a `Seq2SeqModel`, and the config has `dropout`.
    """

    spec_type = TextToText
    config: Any
    model: Any

    @property
    def samples_are_independent(self) -> bool:
        """Whether there is no dropout, which is random."""
        return bool(self.config.dropout == 0)

    def loss(self, batch: TextPairs) -> Tensor:
        """Return the mean cross entropy per answer character, in nats, padding included."""
        logits = self.network(batch.question, batch.answer)
        return F.cross_entropy(logits.flatten(0, 1).float(), batch.answer.flatten())

    def predict_batch(self, batch: TextPairs) -> Tensor:
        """Return the answers (batch, answer_length) in codes."""
        model: Seq2SeqModel = self.model
        return model.generate(model.encode(batch.question))[0]

    def _observe(
        self,
        batch: TextPairs,
        layers: tuple[nn.RNNBase, nn.RNNBase] | None,
        decoder_reads: bool = True,
        attention: "tuple[Callable[[], Any], TextAttention] | None" = None,
    ) -> "Observation":
        """Return the observation of a batch, for inspection.

        Args:
            batch: of the task.
            layers: the recurrent encoder and decoder; None: the model has none.
            decoder_reads: whether the decoder's input is the character before.
            attention: computes maps of the attention, and the modules of its weights; None: the
                model has none.
        """
        from agents.core.inspection.observation import (
            AnswerScores,
            AttentionPart,
            RecurrentPart,
            logits_above_mean,
            observe,
        )

        model: Seq2SeqModel = self.model
        tensors = to_device(batch, self.device)
        with torch.inference_mode():
            memory = model.encode(tensors.question)
            codes = model.generate(memory)[0]
        answers = codes.cpu().numpy()
        characters = np.array(list(self.task.spec.characters))
        parts: tuple[RecurrentPart, ...] = ()
        if layers is not None:
            parts = self._recurrent_parts(batch, layers, decoder_reads, memory, answers)
        looks: tuple[AttentionPart, ...] = ()
        if attention is not None:
            maps, weights = attention
            read = characters[batch.question]
            looks = (AttentionPart(name="attention", maps=maps, weights=weights, read=read),)

        def answer_scores(rows: Tensor) -> Tensor:
            written = codes[rows]
            return logits_above_mean(
                model.decode(model.encode(tensors.question[rows]), written), written
            )

        rows = self.task.rows(answers, batch)
        return observe(
            self, batch, rows=rows, recurrent=parts, attention=looks,
            answer_scores=AnswerScores(scores=answer_scores, texts=characters[answers]),
            labels=[f"{row.question} = {row.answer}" for row in rows],
            characters=self.task.spec.characters,
            generate=lambda: model.generate(model.encode(tensors.question)),
        )  # fmt: skip

    def _recurrent_parts(
        self, batch: TextPairs, layers: tuple[nn.RNNBase, nn.RNNBase], decoder_reads: bool,
        memory: Any, answers: NDArray[np.int64],
    ) -> "tuple[RecurrentPart, RecurrentPart]":  # fmt: skip
        """Return encoder and decoder while they read a batch and write its answers (B, A)."""
        from agents.core.inspection.observation import RecurrentPart
        from visualization.recurrent.cells import allows_other_batches

        model: Seq2SeqModel = self.model
        tensors = to_device(batch, self.device)
        characters = np.array(list(self.task.spec.characters))
        previous = np.pad(answers[:, :-1], ((0, 0), (1, 0)))
        decoder_inputs = characters[previous] if decoder_reads else np.full(previous.shape, "")
        probe_targets = self.task.probe_targets(batch)
        encoder_position, decoder_position = probe_targets.position_keys
        encoder = RecurrentPart(
            "encoder", layers[0], characters[batch.question], None, probe_targets.encoder,
            encoder_position,
            lambda: _scores(
                model, model.encode(tensors.question), tensors, allows_other_batches(layers[1])
            ),
        )  # fmt: skip
        decoder = RecurrentPart(
            "decoder", layers[1], decoder_inputs, characters[answers], probe_targets.decoder,
            decoder_position,
            lambda: _scores(model, memory, tensors, allows_other_batches(layers[1])),
        )  # fmt: skip
        return encoder, decoder

    def _attention_maps(
        self, weights_of: Callable[[Any, Tensor], Weights], num: int
    ) -> "dict[str, AttentionMaps]":
        """Return attention maps by layer for the answers to `num` questions of the test split.

        `weights_of` computes the weights from the memory of the questions and the answers (B, A).
        """
        from visualization.attention.maps import attention_maps

        task, batch = self.task, self.task.for_display().samples("test", num)
        with torch.inference_mode():
            memory = self.model.encode(to_device(batch, self.device).question)
            answers = self.model.generate(memory)[0]
            weights = weights_of(memory, answers)
        codes = answers.cpu().numpy()
        characters = np.array(list(task.spec.characters))
        probe_targets = task.probe_targets(batch)
        return {
            layer: attention_maps(
                heads, characters[codes], characters[batch.question], task.rows(codes, batch),
                known=(probe_targets.decoder, probe_targets.encoder),
            )
            for layer, heads in weights.items()
        }  # fmt: skip


def _scores(
    model: Seq2SeqModel, memory: Any, batch: TextPairs, only_wrong: bool
) -> dict[str, Tensor]:
    """Return scores of each sample (B,) by greedy decoding, and the loss with teacher forcing.

    Up to the first mistake both read the same characters. So answers are decoded greedily only if
    one has a mistake before its last character, and with `only_wrong` these alone.
    """
    logits = model.decode(memory, batch.answer).float()
    loss = F.cross_entropy(logits.transpose(1, 2), batch.answer, reduction="none").mean(1)
    written = logits.argmax(-1)
    (rows,) = torch.where((written != batch.answer)[:, :-1].any(1))
    if len(rows) and only_wrong:
        written[rows] = model.generate(model.select(memory, rows))[0]
    elif len(rows):
        written = model.generate(memory)[0]
    is_right = written == batch.answer
    accuracy = is_right.double().mean(1)
    return {"exact match": is_right.all(1), "token accuracy": accuracy, "loss": loss}
