"""Evaluation in pieces: by what samples take of memory, and right or refused."""

from typing import Any, NamedTuple

import attrs
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import tasks
from agents.core.agent import Agent
from agents.core.training.evaluation import map_microbatches
from tasks.core.batch import num_samples, take
from tests.conftest import small_agent


class Rows(NamedTuple):
    """Samples of numbers."""

    values: Any  # (batch, numbers)
    lengths: Any  # (batch,)


class Flat(NamedTuple):
    """Texts of different lengths in one array, and where each begins."""

    codes: NDArray[np.int64]  # (characters of all texts,)
    begins: NDArray[np.int64]  # (batch,)


def rows(num: int, wide: int = 1) -> Rows:
    """Return a batch of so many samples of so many float32 numbers."""
    values = torch.arange(num * wide, dtype=torch.float32).view(num, wide)
    return Rows(values, torch.arange(num))


def sizes(model: nn.Module, batch: Rows, memory: float) -> list[int]:
    """Return how many samples are in each microbatch."""
    call = lambda microbatch: (len(microbatch.values), model(microbatch.values))  # noqa: E731 - short
    return [num for num, _ in map_microbatches(call, batch, model, memory)]


def test_pieces_are_as_large_as_memory_has_room() -> None:
    """The first is one sample; of the others a layer reads and writes no more than the budget."""
    model = nn.Sequential(nn.Linear(1, 99, bias=False), nn.Linear(99, 1, bias=False))
    for budget, expected in ((4000, [1, 10, 9]), (3999, [1, 9, 9, 1]), (10, [1] * 20)):
        assert sizes(model, rows(20), budget) == expected  # 4 bytes x (1 + 99) a sample
    assert sizes(model, rows(1), 10) == [1]
    assert not any(module._forward_hooks for module in model.modules())


def test_larger_samples_come_in_smaller_pieces() -> None:
    """Whichever axis it is that is long: rows, images, and what a packed sequence holds."""
    assert sizes(nn.ReLU(), rows(102, 10), 8000) == [1, 100, 1]
    images = rows(12, 100)
    images = images._replace(values=images.values.view(12, 1, 10, 10))
    assert sizes(nn.ReLU(), images, 8000) == [1, 10, 1]

    class Packing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Sorting()

        def forward(self, values: Tensor) -> Tensor:
            lengths = torch.full((len(values),), values.shape[1])
            return self.inner(pack_padded_sequence(values[..., None], lengths, batch_first=True))

    class Sorting(nn.Module):
        def forward(self, packed: Any) -> Tensor:
            return packed.data[:0]

    largest = max(sizes(Packing(), rows(300, 20), 8000)[1:])
    assert largest == 8000 // (20 * 4 + 20 * 8)  # of numbers and of how many there are at each step


def test_pieces_have_every_sample_once() -> None:
    """Whatever the budget, pieces in their order are the batch."""
    batch = rows(23, 3)
    found = map_microbatches(lambda microbatch: microbatch, batch, nn.ReLU(), 100)
    assert torch.equal(torch.cat([microbatch.values for microbatch in found]), batch.values)
    assert torch.equal(torch.cat([microbatch.lengths for microbatch in found]), batch.lengths)


def test_a_batch_whose_arrays_differ_in_length_is_refused() -> None:
    """Its fields are named with their lengths: cut by its first array it would be wrong."""
    flat = Flat(np.arange(9), np.array([0, 4]))
    for call in (
        lambda: num_samples(flat),
        lambda: take(flat, 0, 1),
        lambda: map_microbatches(lambda microbatch: microbatch, flat, nn.ReLU(), 100),
        lambda: small_agent().predict_arrays(flat),
        lambda: small_agent().mean_loss(flat),
    ):
        with pytest.raises(ValueError, match=r"Flat: .* length: codes 9, begins 2; accepted"):
            call()
    assert num_samples(rows(4)) == 4


def test_answers_of_unequal_length_are_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent whose answers are as long as a micro-batch's longest gives an array per sample."""
    agent = small_agent(eval_memory=1e-3)
    batch = agent.task.samples("test", 6)

    def predict(microbatch: Any) -> Tensor:
        return torch.zeros(num_samples(microbatch), 1 + num_samples(microbatch))

    monkeypatch.setattr(agent, "predict_batch", predict)
    answers = agent.predict_arrays(batch)
    assert isinstance(answers, list)
    assert [answer.shape for answer in answers] == [(2,)] + 5 * [(6,)]


@pytest.mark.parametrize("name", ["adding_lstm", "cnn_classifier"])
def test_answers_and_losses_are_the_same_in_pieces(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long series and images that are answered one at a time are answered as they are at once."""
    task = {"adding_lstm": tasks.make("adding_problem", length=50)}
    agent = small_agent(name, **({"task": task[name]} if name in task else {}))
    batch = agent.task.samples("test", 30)
    whole, loss = agent.predict_arrays(batch), agent.mean_loss(batch)
    counts = counted(agent, monkeypatch)
    agent.config = attrs.evolve(agent.config, eval_memory=2**-20)
    np.testing.assert_allclose(agent.predict_arrays(batch), whole, rtol=1e-4, atol=1e-5)
    assert agent.mean_loss(batch) == pytest.approx(loss, rel=1e-4)
    assert counts == [1] * 30


def counted(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the number of samples of each call of `predict_batch`."""
    counts: list[int] = []
    predict = agent.predict_batch
    monkeypatch.setattr(
        agent,
        "predict_batch",
        lambda microbatch: (counts.append(num_samples(microbatch)), predict(microbatch))[1],
    )
    return counts
