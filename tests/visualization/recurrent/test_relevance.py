"""What characters of a question do for a score, against closed forms, captum and messages by hand.

Layers are random or wired by hand: an LSTM whose gates are held open adds what it reads.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.visualization.recurrent.test_cells import FEATURES, INPUTS, KINDS, inputs, layer
from visualization.recurrent import (
    StepScores,
    input_x_gradient,
    integrated_gradients,
    layerwise_relevance,
    occlusion,
    question_relevance,
)
from visualization.recurrent.attribution import (
    GRADIENT,
    INTEGRATED,
    LRP,
    METHODS,
    OCCLUSION,
    RANDOM,
)

NUM, STEPS, SCORES = 3, 5, 2
CASES = [(kind, features) for kind in KINDS for features in (FEATURES[0], FEATURES[-1])]
CASES += [("lstm", {"proj_size": 2}), ("gru", {"bias": False}), ("lstm", {"num_layers": 2})]
OPEN = 1e4  # a bias at which a sigmoid is exactly 1


class Answering(nn.Module):
    """Reads a question, and scores it by a linear read-out of the last state."""

    def __init__(self, rnn: nn.RNNBase) -> None:
        super().__init__()
        torch.manual_seed(3)
        size = (rnn.proj_size or rnn.hidden_size) * (2 if rnn.bidirectional else 1)
        self.rnn, self.readout = rnn, nn.Linear(size, SCORES).to(next(rnn.parameters()).dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Return scores (B, K) of questions (B, T, I)."""
        output = self.rnn(x if self.rnn.batch_first else x.transpose(0, 1))[0]
        return self.readout(output[:, -1] if self.rnn.batch_first else output[-1])


def scores_of(model: Answering, x: Tensor, batch_size: int = 512) -> StepScores:
    """Return the scores of questions (N, T, I)."""
    return StepScores(
        model=model, rnn=model.rnn, respond=lambda rows: model(x[rows]), num_samples=len(x),
        batch_size=batch_size,
    )  # fmt: skip


def adder(marked: bool = False) -> Answering:
    """Return an LSTM that adds what it reads; if marked, only where the second input is 1."""
    rnn = nn.LSTM(2, 1, batch_first=True).double()
    small = 1e-4  # so that both tanh are linear
    with torch.no_grad():
        for parameter in rnn.parameters():
            parameter.zero_()
        rnn.weight_ih_l0[2, 0] = small
        rnn.bias_ih_l0[:] = torch.tensor([0.0 if marked else OPEN, OPEN, 0.0, OPEN])
        if marked:
            rnn.weight_ih_l0[0, 1], rnn.bias_ih_l0[0] = 2 * OPEN, -OPEN
        model = Answering(rnn)
        model.readout.weight.fill_(1 / small)
        model.readout.bias.zero_()
    return model


def terms(num: int = 4) -> Tensor:
    """Return numbers to add, half of them marked (N, T, 2)."""
    generator = torch.Generator().manual_seed(0)
    numbers = 9 * torch.rand(num, 6, 1, generator=generator, dtype=torch.float64) - 4
    return torch.cat([numbers, torch.tensor([1.0, 0, 0, 1, 1, 0])[None, :, None].expand(num, 6, 1)],
                     dim=-1).double()  # fmt: skip


def by_hand(model: Answering, x: Tensor, score: int, epsilon: float) -> NDArray[Any]:
    """Return relevances (N, T) of a one-layer LSTM, passed back message by message."""
    rnn, size = model.rnn, model.rnn.hidden_size
    w, u = rnn.weight_ih_l0.detach(), rnn.weight_hh_l0.detach()
    bias = (rnn.bias_ih_l0 + rnn.bias_hh_l0).detach()
    h, c, steps = x.new_zeros(len(x), size), x.new_zeros(len(x), size), []
    for t in range(x.shape[1]):
        z = x[:, t] @ w.T + h @ u.T + bias
        i, f, g, o = z.chunk(4, dim=1)
        new = f.sigmoid() * c + i.sigmoid() * g.tanh()
        steps.append((h, c, g, f.sigmoid() * c, i.sigmoid() * g.tanh(), new))
        h, c = o.sigmoid() * new.tanh(), new

    def share(terms: Tensor, total: Tensor, relevance: Tensor) -> Tensor:
        return terms * (relevance / (total + epsilon * torch.sign(total)))

    weight = model.readout.weight.detach()[score]
    total = h @ weight + model.readout.bias.detach()[score]
    r_h, r_c = share(h * weight, total[:, None], total[:, None]), torch.zeros_like(c)
    found = torch.zeros(x.shape[:2], dtype=x.dtype)
    rows = slice(2 * size, 3 * size)
    for t in reversed(range(x.shape[1])):
        before, _, g, kept, added, new = steps[t]
        r_c = r_c + r_h
        r_g = share(added, new, r_c)
        r_c = share(kept, new, r_c)
        read, carried = x[:, t, None] * w[rows], before[:, None] * u[rows]  # (N, U, inputs)
        found[:, t] = share(read, g[..., None], r_g[..., None]).sum((1, 2))
        r_h = share(carried, g[..., None], r_g[..., None]).sum(1)
    return found.numpy()


def test_relevance_of_a_term_is_its_value_in_an_lstm_that_adds() -> None:
    """Arras et al. 2019: the relevance of the terms adds exactly to the sum, each gets its own."""
    x = terms()
    found = layerwise_relevance(scores_of(adder(), x), epsilon=1e-12)
    for score in range(SCORES):
        np.testing.assert_allclose(found.steps[:, score], x[..., 0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.steps.sum(2), found.scores, rtol=1e-6)
    np.testing.assert_allclose(found.scores[:, 0], x[..., 0].sum(1), rtol=1e-5, atol=1e-6)


def test_relevance_of_a_marked_term_is_its_value_and_of_another_zero() -> None:
    """The gate, which reads the mark, gets nothing: what is added gets all."""
    x = terms()
    found = layerwise_relevance(scores_of(adder(marked=True), x), epsilon=1e-12)
    np.testing.assert_allclose(found.steps[:, 0], x[..., 0] * x[..., 1], rtol=1e-5, atol=1e-6)
    assert (found.steps[:, :, x[0, :, 1] == 0] == 0).all()


@pytest.mark.parametrize("method", [input_x_gradient, integrated_gradients, occlusion])
def test_other_methods_agree_where_the_network_adds(method: Callable[..., Tensor]) -> None:
    """Of a sum, every method gives each term its value."""
    x = terms()
    np.testing.assert_allclose(method(scores_of(adder(), x))[:, 0], x[..., 0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("epsilon", [1e-9, 0.1])
def test_relevance_equals_messages_passed_by_hand(epsilon: float) -> None:
    """Relevance by gradients equals that of the rules of Arras et al. applied one by one."""
    model, x = Answering(layer("lstm")), inputs(NUM, STEPS, INPUTS)
    found = layerwise_relevance(scores_of(model, x), epsilon)
    for score in range(SCORES):
        expected = by_hand(model, x, score, epsilon)
        np.testing.assert_allclose(found.steps[:, score], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("kind", "features"), CASES, ids=str)
def test_relevance_is_conserved(kind: str, features: dict[str, Any]) -> None:
    """What questions and biases have together is the score, as ε goes to 0."""
    model, x = Answering(layer(kind, **features)), inputs(NUM, STEPS, INPUTS)
    found = layerwise_relevance(scores_of(model, x), epsilon=1e-12)
    np.testing.assert_allclose(found.rest, 0, atol=1e-7)
    np.testing.assert_allclose(found.scores, model(x).detach(), rtol=1e-12)
    model.readout.bias.data.zero_()
    if not features.get("bias", True):
        again = layerwise_relevance(scores_of(model, x), epsilon=1e-12)
        assert (again.biases == 0).all()
        np.testing.assert_allclose(again.steps.sum(2), again.scores, atol=1e-7)


@pytest.mark.parametrize("order", ["time first", "flattened"])
def test_relevance_of_biases_is_that_of_each_sample_in_any_order(order: str) -> None:
    """A read-out of all steps may have the steps first, or samples and steps in one axis."""
    rnn = nn.LSTM(INPUTS, 5, batch_first=order == "flattened", bidirectional=True).double()
    readout = nn.Linear(10, SCORES).double()
    first = nn.Parameter(inputs(2, 1, 5))  # a state that is learned
    model, x = nn.ModuleDict({"rnn": rnn, "readout": readout}), inputs(NUM, NUM, INPUTS)
    model.register_parameter("first", first)

    def respond(rows: Tensor) -> Tensor:
        h0 = first.expand(2, len(rows), 5).contiguous()
        read = x[rows] if rnn.batch_first else x[rows].transpose(0, 1)
        states = rnn(read, (h0, torch.zeros_like(h0)))[0]
        if not rnn.batch_first:
            return readout(states)[0]  # type: ignore[no-any-return]
        flat = readout(states.reshape(-1, 10))
        return flat.view(len(rows), -1, SCORES)[:, 0]  # type: ignore[no-any-return]

    scores = StepScores(model=model, rnn=rnn, respond=respond, num_samples=NUM)
    found = layerwise_relevance(scores, 1e-12)
    np.testing.assert_allclose(found.rest, 0, atol=1e-7)
    assert (np.abs(found.biases) > 1e-6).all()
    assert (np.abs(found.others) > 1e-6).all()


def test_relevance_goes_through_a_decoder_to_all_that_is_read() -> None:
    """Question, the decoder's own inputs and biases share the score of an answer."""
    encoder, decoder, x = layer("lstm"), layer("lstm"), inputs(NUM, STEPS, INPUTS)
    model, written = (
        nn.ModuleDict({"model": Answering(decoder), "encoder": encoder}),
        inputs(NUM, 2, 4),
    )

    def respond(rows: Tensor) -> Tensor:
        states = decoder(written[rows], encoder(x[rows])[1])[0]
        return model["model"].readout(states[:, -1])

    scores = StepScores(model=model, rnn=encoder, respond=respond, num_samples=NUM)
    found = layerwise_relevance(scores, 1e-12)
    np.testing.assert_allclose(found.rest, 0, atol=1e-7)
    assert (np.abs(found.others) > 1e-6).all()
    assert (np.abs(found.steps) > 0).all()


@pytest.mark.parametrize(("kind", "features"), CASES[:8], ids=str)
def test_integrated_gradients_are_complete(kind: str, features: dict[str, Any]) -> None:
    """They sum to the score of the question minus that of the baseline, whatever that is."""
    model, x = Answering(layer(kind, **features)), inputs(NUM, STEPS, INPUTS)
    for baseline in (0.0, 0.3 * torch.ones(INPUTS, dtype=torch.float64)):
        found = integrated_gradients(scores_of(model, x), baseline, 100)
        change = (model(x) - model(torch.zeros_like(x) + baseline)).detach()
        # ReLUs have kinks along the way, of which no number of nodes is exact.
        np.testing.assert_allclose(found.sum(-1), change, atol=0.02 if kind == "rnn_relu" else 1e-9)


@pytest.mark.parametrize("batch_size", [1, 7, 512])
def test_integrated_gradients_equal_captum(batch_size: int) -> None:
    """The same nodes give captum's attributions, summed over what a step reads.

    Captum's nodes are in single precision.
    """
    model, x = Answering(layer("gru")), inputs(NUM, STEPS, INPUTS)
    found = integrated_gradients(scores_of(model, x, batch_size), num_nodes=6)
    for score in range(SCORES):
        oracle = IntegratedGradients(model).attribute(x, target=score, n_steps=6)
        np.testing.assert_allclose(found[:, score], oracle.sum(-1), rtol=1e-6, atol=1e-9)


def test_occlusion_is_the_fall_of_the_score() -> None:
    """Each number is the score of the question minus that with one step blank."""
    model, x = Answering(layer("lstm")), inputs(NUM, STEPS, INPUTS)
    found = occlusion(scores_of(model, x, batch_size=4))
    blank = x.clone()
    blank[:, 2] = 0
    np.testing.assert_allclose(found[..., 2], (model(x) - model(blank)).detach(), atol=1e-12)


def test_deletion_takes_the_most_relevant_first() -> None:
    """Of a sum, what is left after k deletions is the sum of the others, and none falls sooner."""
    x = terms()
    record = question_relevance(
        scores_of(adder(), x), np.full((4, 6), "a"), np.full((4, 2), "b"), epsilon=1e-12
    )
    assert record.deleted.tolist() == [0, 1, 2, 3, 4, 5, 6]
    rising = np.sort(x[..., 0].numpy(), axis=1)
    left = [rising[:, : 6 - k].sum(axis=1) for k in range(7)]
    for method in METHODS:
        np.testing.assert_allclose(record.deletion[method][:, 1], np.stack(left, 1), atol=1e-3)
        assert record.deletion_area()[method] < record.deletion_area()[RANDOM]
    for value in record.correlation().values():
        assert value == pytest.approx(1)
    for value in record.incompleteness().values():
        assert value == pytest.approx(0, abs=1e-3)


def test_figures_of_faithfulness_tell_a_wrong_attribution() -> None:
    """Relevance with its sign turned correlates by -1, and the score falls later than by chance."""
    x = terms()
    record = question_relevance(
        scores_of(adder(), x), np.full((4, 6), "a"), np.full((4, 2), "b"),
        methods=[OCCLUSION, GRADIENT],
    )  # fmt: skip
    wrong = {**record.relevance, GRADIENT: -record.relevance[GRADIENT]}
    record.relevance.update(wrong)
    assert record.correlation()[GRADIENT] == pytest.approx(-1)
    assert record.propagation is None
    with pytest.raises(ValueError, match=r"other: 'LRP' is not accepted.*input × gradient"):
        record.correlation(LRP)


def test_looking_leaves_the_model_as_it_was_also_after_an_error() -> None:
    """Modes, gradients, forwards and hooks are those before, whatever was raised."""
    model, x = Answering(layer("lstm", dtype=torch.float32)), inputs(NUM, STEPS, INPUTS).float()
    model.train()
    model(x).sum().backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]

    def fail(rows: Tensor) -> Tensor:
        model(x[rows])
        raise RuntimeError

    failing = StepScores(model=model, rnn=model.rnn, respond=fail, num_samples=NUM)
    question_relevance(scores_of(model, x), np.full((NUM, STEPS), "a"), np.full((NUM, 2), "b"))
    for method in (input_x_gradient, integrated_gradients, occlusion, layerwise_relevance):
        with pytest.raises(RuntimeError):
            method(failing)
    assert all(module.training for module in model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert not any("forward" in vars(module) for module in model.modules())
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert parameter.requires_grad
        assert torch.equal(parameter.grad, gradient)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"respond": lambda m, x, rows: m(x[rows])[:, 0]}, r"respond: .*shape \(3,\).*\(3, K\)"),
        ({"respond": lambda m, x, rows: m(x[rows]) + m(x[rows])}, "rnn: it was called 2 times"),
        ({"respond": lambda m, x, rows: m(x[rows]).detach()}, "no gradient with respect to what"),
    ],
)
def test_scores_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    """The message says what is wrong with what the model returned."""
    model, x = Answering(layer("lstm")), inputs(NUM, STEPS, INPUTS)
    scores = StepScores(
        model=model, rnn=model.rnn, num_samples=NUM,
        respond=lambda rows: change["respond"](model, x, rows),
    )  # fmt: skip
    with pytest.raises(ValueError, match=message):
        input_x_gradient(scores)


def test_settings_out_of_range_are_refused() -> None:
    """The message names the setting, and what is accepted."""
    model, x = Answering(layer("lstm")), inputs(NUM, STEPS, INPUTS)
    scores, texts = scores_of(model, x), (np.full((NUM, STEPS), "a"), np.full((NUM, SCORES), "b"))
    with pytest.raises(ValueError, match="epsilon: 0 is not accepted; accepted: above 0"):
        layerwise_relevance(scores, 0)
    with pytest.raises(ValueError, match="num_nodes: 0 is not accepted"):
        integrated_gradients(scores, num_nodes=0)
    with pytest.raises(ValueError, match=r"methods: 'LPR' is not accepted.*did you mean 'LRP'"):
        question_relevance(scores, *texts, methods=["LPR"])
    with pytest.raises(ValueError, match="methods: is empty"):
        question_relevance(scores, *texts, methods=[])
    with pytest.raises(ValueError, match="symbols: shape"):
        question_relevance(scores, texts[1], texts[1], methods=[GRADIENT])
    with pytest.raises(ValueError, match="rnn: Linear is not accepted"):
        StepScores(model=model, rnn=model.readout, respond=model, num_samples=1)


def test_methods_are_those_asked_for() -> None:
    """A record has the relevance by each method alone, and curves of random orders."""
    model, x = Answering(layer("lstm")), inputs(NUM, STEPS, INPUTS)
    record = question_relevance(
        scores_of(model, x), np.full((NUM, STEPS), "a"), np.full((NUM, SCORES), "b"),
        methods=[INTEGRATED],
    )  # fmt: skip
    assert list(record.relevance) == [INTEGRATED]
    assert list(record.deletion) == [INTEGRATED, RANDOM]
    np.testing.assert_allclose(record.scores, model(x).detach(), atol=1e-12)
