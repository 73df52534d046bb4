"""What a run records of itself: known answers, and no effect on the run."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import tasks
from agents.core.training.monitoring import (
    NUM_TRAIN_EVAL,
    gates_of,
    gradient_norms,
    layer_of,
    majority_baseline,
    training_diagnostics,
    unit_statistics_and_gradient_flow,
)
from tests.conftest import same, small_agent, weights
from visualization.recurrent import trace_cells


def test_a_parameter_belongs_to_a_layer() -> None:
    """Weights and biases of one layer of a recurrent module go together, in both directions."""
    names = {
        "reader.weight_hh_l0": "reader.l0",
        "reader.bias_ih_l1": "reader.l1",
        "reader.weight_ih_l0_reverse": "reader.l0",
        "readout.bias": "readout",
        "blocks.0.norm.weight": "blocks.0.norm",
        "scale": "scale",
    }
    assert {name: layer_of(name) for name in names} == names


def test_gradients_have_the_norm_of_all_of_a_layer() -> None:
    """A layer's norm is the root of the sum of squares, times the scale; all make up the whole."""
    model = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 1))
    for parameter, value in zip(model.parameters(), (3.0, 4.0, 1.0, 2.0), strict=True):
        parameter.grad = torch.full_like(parameter, value)
    norms = gradient_norms(model, scale=2.0)
    assert norms["grad/0"] == pytest.approx(2 * math.sqrt(9 + 9 + 16))
    assert norms["grad/1"] == pytest.approx(2 * math.sqrt(1 + 4))


def test_the_constant_answer_is_the_best_there_is() -> None:
    """Codes: the commonest at each place and the entropy; numbers: the mean and the variance."""
    codes = np.array([[1, 2], [1, 3], [1, 2], [1, 4]])
    answer, loss = majority_baseline(codes)
    assert answer.tolist() == [1, 2]
    assert loss == pytest.approx((0 + 1.5 * math.log(2)) / 2)
    answer, loss = majority_baseline(np.array([[1.0], [3.0]]))
    assert (answer.tolist(), loss) == ([2.0], 1.0)


class Model(nn.Module):
    """A recurrent layer, then a bounded one. Inputs (B, T, 2), outputs (B, 3)."""

    def __init__(self, rnn: nn.RNNBase, bounded: nn.Module) -> None:
        super().__init__()
        self.rnn, self.out, self.bounded = rnn, nn.Linear(4, 3), bounded

    def forward(self, x: Tensor) -> Tensor:
        """Return bounded numbers after the last step."""
        return self.bounded(self.out(self.rnn(x)[0][:, -1]))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_the_flow_is_the_gradient_of_each_sample_by_what_it_read(kind: type[nn.RNNBase]) -> None:
    """Mean norms of autograd's gradients of single samples, at lags 0, 1, 2, 4 and the last."""
    torch.manual_seed(0)
    model, x = Model(kind(2, 4, batch_first=True), nn.Tanh()), torch.randn(5, 7, 2)
    found = unit_statistics_and_gradient_flow(
        model, lambda batch: model(batch).square().sum(1).mean(), x
    )
    wanted = torch.zeros(7)
    for sample in x:
        read = sample[None].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(model(read).square().sum(), read)
        wanted += gradient[0].norm(dim=-1) / 5
    lags = [tag for tag in found if tag.startswith("flow/")]
    assert lags == [f"flow/rnn/{lag}" for lag in (0, 1, 2, 4, 6)]
    for lag in (0, 1, 2, 4, 6):
        assert found[f"flow/rnn/{lag}"] == pytest.approx(float(wanted[6 - lag]), rel=1e-4)


@pytest.mark.parametrize(
    ("bounded", "bias", "dead", "saturated"),
    [
        (nn.ReLU(), [-9.0, 0.0, 9.0], 1 / 3, None),
        (nn.Tanh(), [9.0, -9.0, 0.0], 2 / 3, 2 / 3),
        (nn.Sigmoid(), [9.0, 0.0, 0.0], 1 / 3, 1 / 3),
    ],
)
def test_dead_and_saturated_units_are_counted(
    bounded: nn.Module, bias: list[float], dead: float, saturated: float | None
) -> None:
    """Units whose bias pushes them to a side say the same always, and stand at their bounds."""
    torch.manual_seed(1)
    model = Model(nn.RNN(2, 4, batch_first=True), bounded)
    with torch.no_grad():
        model.out.bias.copy_(torch.tensor(bias))
        model.out.weight.mul_(0.5)
        scale = 0.0 if saturated is not None else 1.0
        for row, push in enumerate(bias):
            if push and scale == 0.0:
                model.out.weight[row] = 0.0
    found = unit_statistics_and_gradient_flow(
        model, lambda batch: model(batch).sum(), torch.randn(64, 3, 2)
    )
    assert found["units/bounded/dead"] == pytest.approx(dead)
    assert found.get("units/bounded/saturated") == (
        None if saturated is None else pytest.approx(saturated)
    )


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("batch_first", [True, False])
def test_gates_are_those_that_the_layer_computes(kind: type[nn.RNNBase], batch_first: bool) -> None:
    """Where gates stand near a bound is the same by `trace_cells`, which computes them itself."""
    torch.manual_seed(0)
    rnn = kind(2, 5, batch_first=batch_first)
    with torch.no_grad():
        for parameter in rnn.parameters():
            parameter.mul_(5)
    x = torch.randn(6, 7, 2)
    given = x if batch_first else x.transpose(0, 1)
    trace = trace_cells(rnn, given)
    near = gates_of(rnn, (given,), rnn(given)[0])
    for place, name in enumerate("ifgo" if kind is nn.LSTM else "rzn"):
        gate = trace.gates[name][0]
        low = -0.9 if name in "gn" else 0.05
        wanted = (gate < low) | (gate > (0.9 if name in "gn" else 0.95))
        np.testing.assert_array_equal(near[:, :, place].bool().numpy(), np.asarray(wanted))
    assert 0.1 < float(near.mean()) < 0.9


def test_gates_begin_from_the_state_that_is_given() -> None:
    """Half of a sequence with the state of the first half gives the gates of the second half."""
    torch.manual_seed(0)
    rnn, x = nn.LSTM(2, 5, batch_first=True), 9 * torch.randn(3, 8, 2)
    whole = gates_of(rnn, (x,), rnn(x)[0])
    _, state = rnn(x[:, :4])
    half = gates_of(rnn, (x[:, 4:], state), rnn(x[:, 4:], state)[0])
    assert torch.equal(whole[:, 4:], half)


LENGTHS = torch.tensor([3, 7, 5, 1])


class Ragged(nn.Module):
    """Reads sequences (B, T, 2) as far as each one's length; outputs (B, 3)."""

    def __init__(self, rnn: nn.RNNBase) -> None:
        super().__init__()
        self.rnn, self.out = rnn, nn.Linear(4, 3)

    def forward(self, x: Tensor, lengths: Tensor = LENGTHS) -> Tensor:
        """Return numbers after each sample's last step."""
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        output, lengths = pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        return self.out(output[torch.arange(len(x)), lengths - 1])


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_the_flow_of_packed_sequences_is_that_of_each_sample(kind: type[nn.RNNBase]) -> None:
    """At each lag the mean norm, over the samples that reach it, of autograd's own gradients."""
    torch.manual_seed(0)
    model, x = Ragged(kind(2, 4, batch_first=True)), torch.randn(4, 7, 2)
    found = unit_statistics_and_gradient_flow(
        model, lambda batch: model(batch).square().sum(1).mean(), x
    )
    norms: dict[int, list[float]] = {}
    for sample, length in zip(x, LENGTHS.tolist(), strict=True):
        read = sample[None, :length].clone().requires_grad_()
        loss = model(read, torch.tensor([length])).square().sum()
        (gradient,) = torch.autograd.grad(loss, read)
        for lag, norm in enumerate(gradient[0].norm(dim=-1).flip(0).tolist()):
            norms.setdefault(lag, []).append(norm)
    lags = [int(tag.rpartition("/")[2]) for tag in found if tag.startswith("flow/")]
    assert lags == [0, 1, 2, 4, 6]
    for lag in lags:
        assert found[f"flow/rnn/{lag}"] == pytest.approx(np.mean(norms[lag]), rel=1e-4)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_gates_of_packed_sequences_are_those_of_each_sample(kind: type[nn.RNNBase]) -> None:
    """Of the steps that sequences have, and none of what is filled up; each from its own state."""
    torch.manual_seed(0)
    rnn, x = kind(2, 5, batch_first=True), 9 * torch.randn(4, 7, 2)
    begin = torch.randn(1, 4, 5)
    state = (begin, torch.randn(1, 4, 5)) if kind is nn.LSTM else begin
    packed = pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False)
    near = gates_of(rnn, (packed, state), rnn(packed, state)[0])
    alone = []
    for at, length in enumerate(LENGTHS.tolist()):
        one = tuple(s[:, at : at + 1] for s in state) if kind is nn.LSTM else begin[:, at : at + 1]
        read = x[at : at + 1, :length]
        alone.append(gates_of(rnn, (read, one), rnn(read, one)[0])[0])
    assert near.shape == (16, 4 if kind is nn.LSTM else 3, 5)
    assert float((near != torch.cat(alone)).float().mean()) < 0.02  # but for what is at the bound


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_layer_is_watched_however_it_is_called(kind: type[nn.RNNBase]) -> None:
    """A batch, a packed batch of one length, a single sequence, names of arguments: the same."""
    torch.manual_seed(0)
    rnn, x = kind(2, 4, batch_first=True), 3 * torch.randn(7, 2)
    state = torch.randn(1, 1, 4)
    state = (state, state) if kind is nn.LSTM else state
    single = tuple(s[:, 0] for s in state) if kind is nn.LSTM else state[:, 0]
    packed = pack_padded_sequence(x[None], torch.tensor([7]), batch_first=True)
    ways = (
        lambda: rnn(x[None], state)[0],
        lambda: rnn(input=x[None], hx=state)[0],
        lambda: rnn(hx=state, input=x[None])[0],
        lambda: rnn(x, single)[0],
        lambda: rnn(packed, state)[0].data,
    )
    whole = nn.ModuleDict({"rnn": rnn})
    first, *others = (
        unit_statistics_and_gradient_flow(whole, lambda _, way=way: way().square().sum(), None)
        for way in ways
    )
    assert any(tag.startswith("flow/") for tag in first)
    for other in others:
        assert other == pytest.approx(first, rel=1e-4)


@pytest.mark.parametrize("name", ["seq2seq_adder", "parity_lstm"])
def test_recording_has_no_effect_on_the_run(name: str) -> None:
    """With and without diagnostics a run ends with the same bits, and only one has the tags."""
    kinds = ("grad/", "fit/", "chance/", "units/", "flow/")
    recorded, bare = (small_agent(name, record_diagnostics=on).learn() for on in (True, False))
    assert same(weights(recorded), weights(bare))
    for kind in kinds:
        assert any(tag.startswith(kind) for tag in recorded.history.tags())
        assert not any(tag.startswith(kind) for tag in bare.history.tags())


def test_the_norms_before_clipping_make_up_the_whole() -> None:
    """The layers' norms add up in squares to the norm of all gradients, also where it is cut."""
    agent = small_agent("parity_lstm", clip_norm=1e-3, log_every=1).learn()
    for record in agent.history:
        if "train/grad_norm" in record:
            layers = [value for tag, value in record.items() if tag.startswith("grad/")]
            assert math.hypot(*layers) == pytest.approx(record["train/grad_norm"], rel=1e-3)


def test_what_is_measured_is_the_agents_own() -> None:
    """`fit/loss` is that of the stage's training samples; parity's guess is right half the time."""
    agent = small_agent("parity_lstm", task=tasks.make("parity", length=12, train_length=12))
    found = training_diagnostics(agent, agent.task.samples("validation", 1000))
    first = next(agent.task.batches("train", NUM_TRAIN_EVAL, agent.config.seed, 0, 0, 4))
    assert agent.state.cursor.stage == agent.task.num_stages - 1 == 4
    assert found["fit/loss"] == agent.mean_loss(first)
    agent.state.cursor.stage = 1
    easier = next(agent.task.batches("train", NUM_TRAIN_EVAL, agent.config.seed, 0, 0, 1))
    assert (
        training_diagnostics(agent, first)["fit/loss"]
        == agent.mean_loss(easier)
        != found["fit/loss"]
    )
    assert found["chance/loss"] == pytest.approx(math.log(2), abs=0.02)
    assert found["chance/accuracy"] == pytest.approx(0.5, abs=0.05)
    assert agent.model.training
