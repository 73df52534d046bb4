"""Gradient accumulation: a step in micro-batches is the step of the whole batch."""

import itertools
from typing import Any

import pytest
import torch
from torch import nn

from agents.core.agent import Agent
from agents.core.training.parallel import check_batch_norm
from agents.core.training.processes import SingleProcess
from tasks.core.settings import ConfigError
from tests.conftest import small_agent
from tests.helpers.updates import relative_difference

TOLERANCE = 0.01  # of the change by training
FEW: dict[str, Any] = {"steps": 6, "batch_size": 8, "eval_every": 6, "record_diagnostics": False}


def pair(name: str, num: int, **settings: Any) -> tuple[Agent, Agent]:
    """Return an agent that learned from whole batches, and one from `num` micro-batches."""
    known = {**FEW, **settings}
    whole = small_agent(name, **known).learn()
    return whole, small_agent(name, gradient_accumulation_steps=num, **known).learn()


def assert_same_model(a: Agent, b: Agent) -> None:
    """Check that weights, carried state and losses agree to what single precision gives."""
    models = [agent.model.state_dict() for agent in (a, b)]
    start = type(a)(a.task, a.config, "cpu").model.state_dict()
    assert relative_difference(*models, start) < TOLERANCE
    for name, tensor in a.state.hidden_state.items():
        other = b.state.hidden_state[name]
        assert (tensor - other).norm() < TOLERANCE * tensor.norm()
    losses = [agent.history.series("train/loss")[1] for agent in (a, b)]
    torch.testing.assert_close(*map(torch.as_tensor, losses), rtol=TOLERANCE, atol=0)


@pytest.mark.parametrize("num", [2, 3, 20])
def test_micro_batches_make_the_same_step(num: int) -> None:
    """Equal or not, and more of them than samples: the weights are those of whole batches."""
    assert_same_model(*pair("seq2seq_adder", num))


def test_micro_batches_are_computed_in_parallel_parts() -> None:
    """With two threads, each micro-batch is divided among them."""
    whole, parts = pair("seq2seq_adder", 2, threads=2, batch_size=64, steps=3)
    assert parts.num_parts(2) == 2
    assert_same_model(whole, parts)


def test_a_carried_state_is_that_of_all_streams() -> None:
    """Each micro-batch carries on the states of its own streams."""
    whole, parts = pair("char_lm", 3, state_reset_prob=0.0)
    assert len(parts.state.hidden_state["0"]) == 8
    assert_same_model(whole, parts)


class Rank(SingleProcess):
    """A rank of several, of which only the share of a batch is asked."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size


def test_all_ranks_have_equally_many_micro_batches() -> None:
    """Each waits for the others in every pass; together they have every sample once."""
    for total, size, num in itertools.product(range(1, 20), (1, 2, 3), (1, 2, 4)):
        spans = [Rank(rank, size).spans(total, num) for rank in range(size)]
        assert len({len(each) for each in spans}) == 1
        samples = [n for span in spans for begin, end in span for n in range(begin, end)]
        assert samples == list(range(total))
        if total >= size:
            assert all(end > begin for span in spans for begin, end in span)


def test_batch_normalisation_over_ranks_needs_a_sample_of_each() -> None:
    """A batch without one for some rank is an error, where the others would wait for ever."""
    model = nn.Sequential(nn.Linear(2, 2), nn.SyncBatchNorm(2))
    check_batch_norm(model, 2, Rank(0, 2))
    check_batch_norm(nn.BatchNorm1d(2), 1, Rank(0, 2))
    with pytest.raises(ConfigError, match="batch_size: a batch of 1 samples for 2 ranks"):
        check_batch_norm(model, 1, Rank(1, 2))
