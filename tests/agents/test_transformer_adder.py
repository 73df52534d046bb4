"""The Transformer: against torch's own layers, causal, and that it learns."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from agents.configs.transformer_adder import TransformerConfig as Config
from agents.core.analysis.comparison import compare
from agents.transformer_adder import Attention, Layer, TransformerAdder, apply_rotary, visible_mask
from tasks.core.settings import ConfigError
from tests.conftest import in_double, small_agent
from tests.visualization.recurrent.test_cells import assert_close
from visualization.recurrent import Edit

POSITIONS = ("learned", "sinusoidal", "rotary")
SMALL = {"d_model": 16, "d_ff": 32, "num_heads": 4}


def adder(**settings: Any) -> TransformerAdder:
    """Return a small Transformer whose read-out is large, so that its answers differ."""
    agent = small_agent("transformer_adder", **({"task": "add3x2"} | SMALL | settings))
    assert isinstance(agent, TransformerAdder)
    with torch.no_grad():
        agent.model.readout.weight.mul_(9)
    agent.model.eval()
    return agent


def asked(agent: TransformerAdder, num: int = 20) -> tuple[Tensor, Tensor]:
    """Return questions and right answers as tensors."""
    batch = agent.task.samples("test", num)
    return torch.as_tensor(batch.question).long(), torch.as_tensor(batch.answer).long()


def as_torch_names(attention: Attention) -> dict[str, Tensor]:
    """Return the weights as nn.MultiheadAttention holds them."""
    maps = (attention.query, attention.key, attention.value)
    return {
        "in_proj_weight": torch.cat([part.weight for part in maps]),
        "in_proj_bias": torch.cat([part.bias for part in maps]),
        "out_proj.weight": attention.out.weight,
        "out_proj.bias": attention.out.bias,
    }


def test_attention_equals_torchs() -> None:
    """Output and weights of each head equal nn.MultiheadAttention's with the same weights."""
    torch.manual_seed(0)
    mine = Attention(12, 3, rotates=False).double()
    theirs = nn.MultiheadAttention(12, 3, batch_first=True).double()
    theirs.load_state_dict(as_torch_names(mine))
    x, other = torch.randn(2, 4, 12).double(), torch.randn(2, 5, 12).double()
    visible = torch.tensor([[True, True, True, True, False], [False, True, True, True, True]])
    wanted, weights = theirs(x, other, other, key_padding_mask=~visible, average_attn_weights=False)
    seen = visible[:, None, None]
    assert_close(mine(x, other, seen).detach(), wanted.detach(), 1e-12)
    found = mine.weights(x, other, seen)
    assert_close(found.detach(), weights.detach(), 1e-12)
    assert_close(found.sum(-1).detach(), torch.ones(2, 3, 4).double(), 1e-12)
    assert (found[0, ..., 4] == 0).all()
    assert (found[1, ..., 0] == 0).all()


@pytest.mark.parametrize("cross_attention", [False, True])
def test_a_layer_equals_torchs(cross_attention: bool) -> None:
    """A layer equals torch's pre-norm encoder or decoder layer with the same weights."""
    torch.manual_seed(0)
    config = Config(d_model=8, num_heads=2, d_ff=12)
    mine = Layer(config, cross_attention).double()
    kind = nn.TransformerDecoderLayer if cross_attention else nn.TransformerEncoderLayer
    theirs = kind(8, 2, 12, 0.0, "relu", batch_first=True, norm_first=True).double()
    with torch.no_grad():
        for parameter in mine.parameters():
            parameter.normal_()
    parts: dict[str, Any] = {"self_attn": as_torch_names(mine.own), "norm1": mine.own_norm}
    if cross_attention:
        parts |= {"multihead_attn": as_torch_names(mine.other), "norm2": mine.other_norm}
    parts |= {"norm3" if cross_attention else "norm2": mine.forward_norm}
    parts |= {"linear1": mine.widen, "linear2": mine.narrow}
    theirs.load_state_dict({
        f"{name}.{key}": value
        for name, part in parts.items()
        for key, value in (part if isinstance(part, dict) else part.state_dict()).items()
    })  # fmt: skip
    x, other = torch.randn(3, 4, 8).double(), torch.randn(3, 6, 8).double()
    earlier = torch.ones(4, 4, dtype=torch.bool).tril()
    if cross_attention:
        wanted = theirs(x, other, tgt_mask=~earlier)
        seen = torch.ones(3, 1, 1, 6, dtype=torch.bool)
        found = mine(x, earlier[None, None], other, seen)
    else:
        wanted, found = theirs(x, src_mask=~earlier), mine(x, earlier[None, None])
    assert_close(found.detach(), wanted.detach(), 1e-12)


def test_rotation_by_hand() -> None:
    """Place 2 of four numbers: the pairs (0, 2) and (1, 3) are turned by 2 and by 2 / 100."""
    x = torch.tensor([[1.0, 0.0, 0.0, 1.0]]).expand(3, 4)
    (a, b), (c, d) = (np.cos([2, 0.02]), np.sin([2, 0.02]))
    np.testing.assert_allclose(apply_rotary(x)[2], [a, -d, c, b], atol=1e-6)
    np.testing.assert_array_equal(apply_rotary(x)[0], x[0])


def test_rotary_scores_depend_on_distance_alone() -> None:
    """With rotary places one query and one key score the same wherever they stand together."""
    attention = Attention(8, 2, rotates=True).double()
    x = torch.randn(1, 1, 8).double().expand(1, 6, 8)
    visible = torch.ones(1, 1, 6, 6, dtype=torch.bool)
    odds = attention.weights(x, x, visible).log()
    scores = odds - odds.diagonal(dim1=-2, dim2=-1)[..., None]  # against its own place
    for distance in range(-5, 6):
        along = scores.diagonal(distance, dim1=-2, dim2=-1)
        assert_close(along.detach(), along[..., :1].expand_as(along).detach(), 1e-6)
    assert scores.std() > 1e-3


@pytest.mark.parametrize("positions", POSITIONS)
def test_the_decoder_does_not_look_ahead(positions: str) -> None:
    """Another character at place t of the answer changes logits after t, and none up to t."""
    agent = in_double(adder(positions=positions))
    question, answer = asked(agent)
    memory = agent.model.encode(question)
    before = agent.model.decode(memory, answer).detach()
    for t in range(answer.shape[1] - 1):
        other = answer.clone()
        other[:, t] = (other[:, t] + 3) % 12
        change = (agent.model.decode(memory, other).detach() - before).abs().amax(dim=(0, 2))
        assert change[: t + 1].max() < 1e-9
        assert change[t + 1 :].min() > 1e-3


@pytest.mark.parametrize("positions", POSITIONS)
def test_the_place_of_a_digit_counts(positions: str) -> None:
    """Questions of the same digits in another order are read differently."""
    agent = adder(positions=positions)
    batch = agent.task.encode(["123+456", "321+456", "456+123"])
    logits = agent.model.decode(agent.model.encode(torch.as_tensor(batch.question).long()),
                                  torch.as_tensor(batch.answer).long())  # fmt: skip
    assert (logits[0, 0] - logits[1, 0]).abs().max() > 1e-3
    assert (logits[0, 0] - logits[2, 0]).abs().max() > 1e-3


def test_padding_is_hidden_but_for_the_end() -> None:
    """Visible are the characters and the padding next to them, and nothing else has any effect."""
    codes = torch.tensor([[0, 0, 0, 5, 1, 4], [5, 1, 4, 0, 0, 0], [2, 3, 1, 2, 3, 0]])
    wanted = [[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]]
    assert visible_mask(codes).int().tolist() == wanted
    agent = in_double(adder())
    question, answer = asked(agent)
    memory = agent.model.encode(question)
    shown = memory.visible[..., None]
    noise = torch.where(shown, memory.outputs, memory.outputs + 5)
    assert not shown.all()
    given = [agent.model.decode(m, answer) for m in (memory, memory._replace(outputs=noise))]
    assert_close(given[0].detach(), given[1].detach(), 1e-9)


@pytest.mark.parametrize("positions", POSITIONS)
def test_writing_is_completing_its_own_answer(positions: str) -> None:
    """Free-running answers are the likeliest characters after the ones it wrote itself."""
    agent = in_double(adder(positions=positions))
    memory = agent.model.encode(asked(agent)[0])
    answers, logits = agent.model.generate(memory)
    forced = agent.model.decode(memory, answers)
    assert torch.equal(forced.argmax(-1), answers)
    assert_close(forced.detach(), logits.detach(), 1e-9)
    assert len({tuple(row) for row in answers.tolist()}) > 1


def test_weights_are_those_of_the_pass() -> None:
    """Maps of each layer and head sum to 1, are 0 on what is hidden, and leave no hook behind."""
    agent = adder()
    question, answer = asked(agent)
    memory = agent.model.encode(question)
    found = agent.weights(memory, answer)
    assert [*found] == ["layer 1", "layer 2"]
    for weights in found.values():
        assert weights.shape == (20, 4, 5, 8)
        assert_close(weights.sum(-1).detach(), torch.ones(20, 4, 5), 1e-5)
        assert torch.equal(weights > 0, memory.visible[:, None, None].expand_as(weights))
    assert not any(module._forward_hooks for module in agent.model.modules())


def test_it_has_no_recurrent_part() -> None:
    """It is compared by its answers alone, and an intervention on a part is a clear error."""
    agent = adder().learn(2)
    study = agent.observe(agent.task.samples("test", 4))
    assert study.recurrent == ()
    assert compare(agent, agent)["units"] == {}
    plain = agent.intervene("12+345")
    assert plain.before == plain.after == agent.predict("12+345")
    for settings in ({"donor": "678+9"}, {"edits": {"encoder": Edit(h=0.0)}}):
        with pytest.raises(ConfigError, match="no recurrent part"):
            agent.intervene("12+345", **settings)


def test_heads_that_do_not_go_into_the_size_are_refused() -> None:
    """A size that the heads cannot share out is an error with what is accepted."""
    with pytest.raises(ConfigError, match=r"d_model: 20 .* accepted: a multiple of 16"):
        adder(d_model=20, num_heads=8)


@pytest.mark.parametrize(
    "positions",
    [POSITIONS[0], *(pytest.param(other, marks=pytest.mark.slow) for other in POSITIONS[1:])],
)
def test_it_learns(positions: str) -> None:
    """The one-digit sums that it is shown are learned by 400 small steps, whatever tells places."""
    agent = small_agent(
        "transformer_adder", task="add1x2", steps=400, batch_size=64, seed=0, eval_every=400,
        positions=positions, **SMALL | {"num_layers": 1, "learning_rate": 1e-2},
    )  # fmt: skip
    assert agent.learn().evaluate(split="train", num=500)["exact_match"] >= 0.95


def test_heads_sum_to_the_output() -> None:
    """What the heads add and the bias of the output make the attention's output."""
    torch.manual_seed(0)
    attention = Attention(12, 3, rotates=True).double()
    x, mask = torch.randn(2, 4, 12).double(), torch.ones(1, 1, 4, 4, dtype=torch.bool)
    heads = attention.by_head(x, x, mask)
    assert heads.shape == (2, 3, 4, 12)
    whole = heads.sum(1) + attention.out.bias
    assert_close(whole.detach(), attention(x, x, mask).detach(), 1e-12)


@pytest.mark.parametrize("positions", POSITIONS)
def test_the_terms_of_a_logit_sum_to_it(positions: str) -> None:
    """Direct logit attribution is exact with random weights, norms and biases."""
    agent = in_double(adder(positions=positions))
    with torch.no_grad():
        for name, parameter in agent.model.named_parameters():
            if "norm" in name or "bias" in name:
                parameter.normal_(1.0, 0.5)
    record = agent.logit_attribution(num=20)
    assert record.values.shape[:2] == (20, 5)
    assert len(record.parts) == 2 * (4 + 4 + 1) + 3
    np.testing.assert_allclose(record.values.sum(-1), record.logits, atol=1e-9)
    question, answer = agent._answered(20)[:2]
    logits = agent.model(question, answer).detach()
    wanted = logits.gather(-1, answer[..., None])[..., 0] - logits.mean(-1)
    np.testing.assert_allclose(record.logits, wanted, atol=1e-9)


def test_rollout_is_over_encoder_and_decoder() -> None:
    """The record of each has its layers, rows that sum to 1, and nothing of what comes later."""
    agent = adder(num_layers=3)
    records = agent.attention_rollout(num=5)
    assert [*records] == ["encoder", "decoder"]
    for record in records.values():
        assert record.layers == ("layer 1", "layer 2", "layer 3")
        np.testing.assert_allclose(record.rollout.sum(axis=-1), 1, atol=1e-5)
    of_answer = records["decoder"].rollout[..., 8:]
    assert of_answer.shape == (3, 5, 5, 5)
    assert (np.triu(of_answer, 1) == 0).all()
    assert not any(module._forward_hooks for module in agent.model.modules())
