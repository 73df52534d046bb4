"""The adder with attention: its weights by hand, its two ways of using them, and that it learns."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import tasks
from agents.attention_adder import AdditiveAttention, AttentionAdder
from agents.core.inspection import recurrent
from tasks.core.settings import ConfigError
from tests.conftest import in_double, small_agent, wild
from tests.visualization.recurrent.test_cells import assert_close
from visualization import render
from visualization.recurrent import Edit

WAYS = ("output", "input")


def adder(**settings: Any) -> AttentionAdder:
    """Return an adder whose weights are large, so that what it writes depends on what it read."""
    agent = small_agent("attention_adder", **({"task": "add3x2"} | settings))
    assert isinstance(agent, AttentionAdder)
    wild(agent)
    return agent


def asked(agent: AttentionAdder, num: int = 20) -> tuple[Tensor, Tensor]:
    """Return questions and right answers as tensors."""
    batch = agent.task.samples("test", num)
    return torch.as_tensor(batch.question).long(), torch.as_tensor(batch.answer).long()


def test_additive_attention_by_hand() -> None:
    """One unit, W = 2 with bias 1, U = 1, v = 3: weights are those of 3 tanh(2 q + 1 + h)."""
    attention = AdditiveAttention(1, 1, 1).double()
    with torch.no_grad():
        for parameter, value in zip(attention.parameters(), (2.0, 1.0, 1.0, 3.0), strict=True):
            parameter.fill_(value)
    places = torch.tensor([[[0.5], [-1.0], [9.0]]], dtype=torch.float64)
    queries = torch.tensor([[[0.0], [-0.5]]], dtype=torch.float64)
    visible = torch.tensor([[True, True, False]])
    weights = attention(queries, attention.place(places), visible)
    for row, (a, b) in zip(weights[0], ((1.5, 0.0), (0.5, -1.0)), strict=True):
        odds = np.exp([3 * np.tanh(a), 3 * np.tanh(b)])
        np.testing.assert_allclose(row[:2].detach(), odds / odds.sum(), rtol=1e-12)
    assert weights[..., 2].tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("context", WAYS)
def test_weights_are_shares_of_what_is_no_padding(context: str) -> None:
    """Weights sum to 1 for every character written, and are 0 on exactly the padding."""
    agent = in_double(adder(context=context))
    question, answer = asked(agent)
    logits, weights = agent.model.decode_with_attention(agent.model.encode(question), answer)
    assert weights.shape == (*answer.shape, question.shape[1])
    assert_close(weights.sum(-1), torch.ones(answer.shape).double())
    shown = (question != 0)[:, None].expand_as(weights)
    assert torch.equal(weights > 0, shown)
    assert logits.std(dim=0).max() > 0.01


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("context", WAYS)
def test_padding_is_not_looked_at(context: str, cell: str) -> None:
    """The same question with padding read after it has the same answer, to the encoder's state."""
    agent = adder(context=context, cell=cell, task=tasks.make("add3x2", reverse="none"))
    in_double(agent)
    model = agent.model
    question = torch.as_tensor(agent.task.encode(["123+456", "987+654"]).question).long()
    answer = torch.as_tensor(agent.task.encode(["123+456", "987+654"]).answer).long()
    whole, short = model.encode(question), model.encode(question[:, :7])
    assert (question[:, 7:] == 0).all()
    found = [model.decode(m._replace(state=short.state), answer) for m in (whole, short)]
    assert_close(*(logits.detach() for logits in found), 1e-9)


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("context", WAYS)
def test_equations_by_a_loop(context: str, cell: str, bidirectional: bool, num_layers: int) -> None:
    """Logits equal a loop over samples and steps that follows the papers' equations."""
    agent = adder(context=context, cell=cell, bidirectional=bidirectional, num_layers=num_layers)
    in_double(agent)
    model, (question, answer) = agent.model, asked(agent, 4)
    found, weights = model.decode_with_attention(model.encode(question), answer)
    attention = model.attention
    for n in range(4):
        outputs, state = model.encoder(model.characters(question[n : n + 1]))
        if bidirectional:
            halves = state if cell == "lstm" else (state,)
            rows = [torch.cat([h[0::2], h[1::2]], dim=-1) for h in halves]
            state = tuple(rows) if cell == "lstm" else rows[0]
        keys = [k for k in range(question.shape[1]) if question[n, k] != 0]
        code = 0
        for step in range(answer.shape[1]):
            query = (state[0] if cell == "lstm" else state)[-1, 0]
            read = model.characters(torch.tensor([[code]]))
            if context == "output":
                output, state = model.decoder(read, state)
                query = output[0, 0]
            scores = torch.stack([
                attention.score(torch.tanh(attention.query(query) + attention.place(outputs[0, k])))
                for k in keys
            ])  # fmt: skip
            alpha = scores[:, 0].exp() / scores[:, 0].exp().sum()
            seen = sum(a * outputs[0, k] for a, k in zip(alpha, keys, strict=True))
            if context == "input":
                output, state = model.decoder(torch.cat([read, seen[None, None]], -1), state)
            logits = model.readout(torch.tanh(model.combine(torch.cat([output[0, 0], seen]))))
            assert_close(found[n, step].detach(), logits.detach(), 1e-9)
            assert_close(weights[n, step, keys].detach(), alpha.detach(), 1e-9)
            code = int(answer[n, step])


@pytest.mark.parametrize("context", WAYS)
def test_writing_is_completing_its_own_answer(context: str) -> None:
    """Free-running answers are the likeliest characters after the ones it wrote itself."""
    agent = in_double(adder(context=context))
    memory = agent.model.encode(asked(agent)[0])
    answers, logits = agent.model.generate(memory)
    forced = agent.model.decode(memory, answers)
    assert torch.equal(forced.argmax(-1), answers)
    assert_close(forced.detach(), logits.detach(), 1e-9)
    assert len({tuple(row) for row in answers.tolist()}) > 3


@pytest.mark.parametrize("context", WAYS)
def test_parts_are_traced_and_changed(context: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced states are those of a plain run; a unit of the encoder changes what is looked at."""
    monkeypatch.setattr(recurrent, "NUM_SAMPLES", 60)
    agent = in_double(adder(context=context))
    batch = agent.task.samples("test", 10)
    study, question = agent.observe(batch), asked(agent, 10)[0]
    encoder = agent.model.encoder(agent.model.characters(question))[0]
    assert_close(study.traces["encoder"].h[0], encoder.detach(), 1e-9)
    assert study.traces["decoder"].h.shape == (1, 10, 5, 16)
    asked_once, other = "12+345", "678+9"
    plain = agent.intervene(asked_once)
    assert plain.before == plain.after == agent.predict(asked_once)
    edit = {"encoder": Edit(units=[0, 1], time=3, h=0.9)}
    changed = agent.intervene(asked_once, edit)
    assert np.abs(changed.probabilities[0] - changed.probabilities[1]).max() > 1e-3
    given = agent.intervene(asked_once, donor=other)
    assert given.before == plain.before
    assert set(agent.views()) > {"attention", "ablation", "probes", "patching"}


@pytest.mark.parametrize("settings", [{"cell": "gru", "bidirectional": True}, {"num_layers": 2}])
def test_views_of_every_kind_are_drawn(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Views of layers in both directions, and of several, are drawn."""
    monkeypatch.setattr(recurrent, "NUM_SAMPLES", 60)
    monkeypatch.setattr(recurrent, "NUM_SHOWN", 3)
    agent = adder(hidden_size=4, **settings).learn(1)
    names = ["attention", "cells", "patching", "paths", "intervention"]
    for _, record in agent.inspect(names).flat():
        assert render.png(render.draw(record), dpi=20).startswith(b"\x89PNG")


def test_units_that_cannot_be_halved_are_refused() -> None:
    """An odd number of units for two directions is an error that says so."""
    with pytest.raises(ConfigError, match="hidden_size: 15 units cannot be halved"):
        adder(hidden_size=15, bidirectional=True)


@pytest.mark.parametrize(
    "context", [WAYS[0], *(pytest.param(other, marks=pytest.mark.slow) for other in WAYS[1:])]
)
def test_it_learns(context: str) -> None:
    """Two-digit sums are learned to more than 90 % of the withheld ones in 300 small steps."""
    agent = small_agent(
        "attention_adder", task="add2x2", hidden_size=48, steps=300, batch_size=128, seed=1,
        eval_every=300, context=context, muon_learning_rate=0.1,
    )  # fmt: skip
    assert agent.learn().evaluate(num=500)["exact_match"] > 0.9
