"""Scores of agents that write text: the short way gives what decoding every sample gives."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from agents.core.seq2seq import Seq2SeqAgent
from tests.conftest import in_double, small_agent, wild
from visualization.recurrent import Edit, intervene_on

MODELS: list[dict[str, Any]] = [
    {"cell": "lstm"},
    {"cell": "gru", "num_layers": 2},
    {"cell": "lstm", "decoder": "repeat"},
    {"name": "attention_adder"},
]


@pytest.mark.parametrize("settings", MODELS, ids=str)
@pytest.mark.parametrize("which", [0, 1], ids=["encoder", "decoder"])
def test_scores_are_those_of_decoding_every_sample(settings: dict[str, Any], which: int) -> None:
    """Of right and wrong answers alike, also while a unit of either layer is held at 0."""
    agent = in_double(wild(small_agent(**({"task": "add3x2"} | settings))))
    assert isinstance(agent, Seq2SeqAgent)
    model, batch = agent.model, agent.task.samples("test", 24)
    question = torch.as_tensor(batch.question).long()
    with torch.inference_mode():
        own = model.generate(model.encode(question))[0].numpy()
        answer = np.where(np.arange(24)[:, None] % 2, own, batch.answer)
        answer[::3, -1] = (own[::3, -1] + 1) % 5  # wrong at the last character
        right = torch.as_tensor(answer).long()
        part = agent.observe(type(batch)(batch.question, answer)).recurrent[which]
        with intervene_on(part.layer, Edit(units=[1], h=0.0)):
            found = part.score()
        memory = model.encode(question)  # of the decoder's scores the encoder is untouched
        with intervene_on(part.layer, Edit(units=[1], h=0.0)):
            memory = memory if which else model.encode(question)
            is_right = (model.generate(memory)[0].numpy() == answer).astype(float)
            logits = model.decode(memory, right)
    losses = F.cross_entropy(logits.transpose(1, 2), right, reduction="none")
    np.testing.assert_array_equal(found["exact match"], is_right.all(axis=1))
    np.testing.assert_allclose(found["token accuracy"], is_right.mean(axis=1))
    np.testing.assert_allclose(found["loss"], losses.mean(1), rtol=1e-4)
    assert 0 < is_right.mean() < 1


@pytest.mark.parametrize("settings", MODELS, ids=str)
@pytest.mark.parametrize("which", [0, 1], ids=["encoder", "decoder"])
@pytest.mark.parametrize("num_wrong", [0, 2, 20])
def test_few_wrong_answers_are_decoded_alone(
    settings: dict[str, Any], which: int, num_wrong: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 24 answers those with a mistake; all where the decoder is traced or changed by sample."""
    agent = in_double(wild(small_agent(**({"task": "add3x2"} | settings))))
    assert isinstance(agent, Seq2SeqAgent)
    model, batch = agent.model, agent.task.samples("test", 24)
    question = torch.as_tensor(batch.question).long()
    edit = Edit(units=[1], h=0.0)
    with torch.inference_mode():
        layers = [part.layer for part in agent.observe(batch).recurrent]
        memory = model.encode(question)
        with intervene_on(layers[which], edit):
            own = model.generate(memory if which else model.encode(question))[0].numpy()
    answer = own.copy()
    answer[:num_wrong, 0] = (own[:num_wrong, 0] + 1) % 5
    part = agent.observe(type(batch)(batch.question, answer)).recurrent[which]
    sizes: list[int] = []
    decode = model.generate
    monkeypatch.setattr(
        model, "generate", lambda *args: sizes.append(len((found := decode(*args))[0])) or found
    )
    by_sample = Edit(units=[1], h=torch.zeros(24, 1, dtype=torch.float64))
    with torch.inference_mode():
        with intervene_on(part.layer, edit):
            found = part.score()
        with intervene_on(part.layer, edit, trace=True):
            traced = part.score()
        with intervene_on(part.layer, by_sample):
            by_value = part.score()
        with intervene_on(layers[0], [] if which else edit), intervene_on(part.layer, edit):
            beside = part.score()
    assert found["exact match"].sum() == 24 - num_wrong
    # A decoder's second call goes on in time: values by sample do not change its first state.
    for other in (traced, beside, *([] if which else [by_value])):
        torch.testing.assert_close(other, found)
    every = 24 if which else num_wrong
    wanted = [num_wrong, every, every, num_wrong] if num_wrong else []
    assert sizes == ([] if settings.get("decoder") == "repeat" and not num_wrong else wanted)


def test_a_change_may_be_given_for_each_sample() -> None:
    """Values (batch, units) of an edit fit also when some answers are wrong and others right."""
    agent = in_double(wild(small_agent(task="add3x2", cell="lstm")))
    assert isinstance(agent, Seq2SeqAgent)
    batch = agent.task.samples("test", 6)
    own = agent.predict_batch(type(batch)(*(torch.as_tensor(a).long() for a in batch))).numpy()
    answer = np.where(np.arange(6)[:, None] % 2, own, batch.answer)
    for part in agent.observe(type(batch)(batch.question, answer)).recurrent:
        with torch.inference_mode():
            alone = part.score()
            with intervene_on(part.layer, Edit(units=[1], h=torch.zeros(6, 1))):
                changed = part.score()
        assert {name: len(values) for name, values in changed.items()} == dict.fromkeys(alone, 6)
        assert not torch.equal(changed["loss"], alone["loss"])
