"""The one-layer Transformer of modular addition: against torch's attention, and its views."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import agents
from agents.modadd_transformer import ModaddTransformer, OneLayerTransformer
from tasks.core.settings import ConfigError
from tests.visualization.recurrent.test_cells import assert_close

SMALL = {"d_model": 16, "d_ff": 32, "threads": 1, "num_weight_snapshots": None}


def adder(**settings: Any) -> ModaddTransformer:
    """Return a small agent on a small modulus."""
    agent = agents.make(
        "modadd_transformer", **{"task": "modadd11", "device": "cpu"} | SMALL | settings
    )
    assert isinstance(agent, ModaddTransformer)
    return agent


def all_pairs(agent: ModaddTransformer) -> torch.Tensor:
    """Return the tokens of all pairs."""
    return torch.as_tensor(agent.task.batch_of(np.arange(121)).sequence)


def biased(agent: ModaddTransformer) -> OneLayerTransformer:
    """Return the model in double precision with biases that are not 0."""
    model = agent.model.double()
    with torch.no_grad():
        model.widen.bias.normal_()
        model.narrow.bias.normal_()
    return model


def test_logits_are_those_of_torchs_attention() -> None:
    """The logits equal a layer of nn.MultiheadAttention and a feed-forward block, read at =."""
    agent = adder()
    model, sequence = biased(agent), all_pairs(agent)
    theirs = nn.MultiheadAttention(16, 4, bias=False, batch_first=True).double()
    matrices = [part.weight for part in (model.query, model.key, model.value)]
    theirs.load_state_dict(
        {"in_proj_weight": torch.cat(matrices), "out_proj.weight": model.out.weight}
    )
    x = model.embed(sequence) + model.positions
    middle = (x + theirs(x, x, x)[0])[:, -1]
    hidden = F.relu(F.linear(middle, model.widen.weight, model.widen.bias))
    wanted = F.linear(
        middle + F.linear(hidden, model.narrow.weight, model.narrow.bias), model.readout.weight
    )
    assert_close(model(sequence).detach(), wanted.detach(), 1e-10)
    assert_close(model.neurons(sequence).detach(), hidden.detach(), 1e-10)


def test_the_parts_of_the_stream_sum_to_what_is_read() -> None:
    """Embedding, four heads and the feed-forward block are all that the logits are read from."""
    agent = adder()
    model, sequence = biased(agent), all_pairs(agent)
    parts = model.residual_parts(sequence)
    assert [*parts] == ["embedding", "head 1", "head 2", "head 3", "head 4", "MLP"]
    stream = torch.stack([*parts.values()]).sum(0)
    assert_close(model.readout(stream).detach(), model(sequence).detach(), 1e-10)


@pytest.mark.parametrize("seed", range(4))
def test_an_untrained_network_has_no_key_frequency(seed: int) -> None:
    """Random weights answer by no wave of a + b: all its frequencies are about as strong."""
    record = adder(seed=seed, task="modadd23").frequency_spectra()
    assert record.key_frequencies == ()
    assert record.gini < 0.2


def test_an_embedding_with_all_frequencies_is_as_it_was() -> None:
    """Keeping all frequencies changes no logit, and keeping some leaves the weights alone."""
    agent = adder()
    before = agent.model.embed.weight.detach().clone()
    whole, some = agent._with_frequencies(range(1, 6)), agent._with_frequencies([2])
    np.testing.assert_allclose(whole, agent.logits_of_pairs(), atol=1e-5)
    assert np.abs(some - whole).max() > 1e-3
    assert torch.equal(agent.model.embed.weight, before)


def test_measures_through_training_need_snapshots() -> None:
    """Without snapshots there is no such view; with them the last one is of the trained network."""
    assert "progress_measures" not in adder().learn(2).views()
    agent = adder(num_weight_snapshots=4).learn(8)
    record = agent.views()["progress_measures"]()
    assert record.steps.tolist() == [0, 2, 8]
    batch = agent.task.samples("train", 121)
    assert record.train_loss[-1] == pytest.approx(agent.mean_loss(batch), rel=1e-4)
    assert record.train_loss[-1] < record.train_loss[0]
    squares = sum(float((p.detach().double() ** 2).sum()) for p in agent.model.parameters())
    assert record.squared_weights[-1] == pytest.approx(squares)


def test_it_learns_by_heart() -> None:
    """A hundred steps are enough to know the training pairs, and far from enough for the others."""
    agent = adder(d_model=32, d_ff=64, task="modadd23", steps=150, eval_every=150).learn()
    assert agent.evaluate(split="train")["accuracy"] > 0.95
    assert agent.evaluate()["accuracy"] < 0.5


def test_heads_that_do_not_go_into_the_size_are_refused() -> None:
    """A size that the heads cannot share out is an error with what is accepted."""
    with pytest.raises(ConfigError, match=r"d_model: 18 .* accepted: a multiple of 4"):
        adder(d_model=18)
