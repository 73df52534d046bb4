"""A training loop as people write it by hand in PyTorch: tensors cut into slices, fused Adam."""

import time
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tasks
from agents.seq2seq_adder import EncoderDecoder, Seq2SeqAdder
from benchmarks.peers.common import Sums


def adder_model(decoder: Literal["states", "repeat"]) -> EncoderDecoder:
    """Return the agent's model, 128 units; `repeat` is the model of Keras' example."""
    return EncoderDecoder(Seq2SeqAdder.Config(decoder=decoder), tasks.make("add3x2").spec)


def training_tensors(sums: Sums) -> tuple[Tensor, Tensor]:
    """Return training questions and answers in the integers that PyTorch asks for."""
    return torch.as_tensor(sums.train_question).long(), torch.as_tensor(sums.train_answer).long()


def answer_loss(model: nn.Module, question: Tensor, answer: Tensor) -> Tensor:
    """Return the mean cross entropy per answer character."""
    return F.cross_entropy(model(question, answer).flatten(0, 1), answer.flatten())


def bare_loop(
    model: nn.Module,
    loss_fn: Callable[..., Tensor],
    data: Sequence[Tensor],
    batch_size: int,
    steps: int,
    clip_norm: float | None = None,
) -> list[float]:
    """Take `steps` steps of Adam; return the times before each of them and after the last.

    Args:
        model: what is trained.
        loss_fn: takes a slice of each of the `data`.
        data: tensors whose first axis is the sample.
        batch_size: samples in a step.
        steps: how many.
        clip_norm: largest norm of the gradient; None: as it is.
    """
    parameters = list(model.parameters())
    optimizer = torch.optim.Adam(parameters, lr=1e-3, fused=True)
    stamps: list[float] = []
    while True:
        order = torch.randperm(len(data[0]))
        shuffled = [tensor[order] for tensor in data]
        for first in range(0, len(order), batch_size):
            stamps.append(time.perf_counter())
            if len(stamps) > steps:
                return stamps
            optimizer.zero_grad()
            loss_fn(*(tensor[first : first + batch_size] for tensor in shuffled)).backward()
            if clip_norm is not None:
                nn.utils.clip_grad_norm_(parameters, clip_norm)
            optimizer.step()
