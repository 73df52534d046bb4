"""Which gate lets a change of the question in, against loops by hand and layers wired by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.visualization.recurrent.test_cells import INPUTS, UNITS, gates_by_hand, inputs, layer
from tests.visualization.recurrent.test_relevance import SCORES, Answering, scores_of
from visualization.recurrent import GatePaths, gate_paths

NUM, STEPS, CHANGED = 3, 5, 1
FEATURES = [
    {}, {"batch_first": False}, {"bias": False}, {"num_layers": 2, "layer": 0},
    {"num_layers": 2, "layer": 1},
]  # fmt: skip


def pair() -> tuple[Tensor, Tensor]:
    """Return questions, and the same with another input at one step (N, T, I)."""
    x = inputs(NUM, STEPS, INPUTS)
    other = x.clone()
    other[:, CHANGED] = inputs(NUM, STEPS, INPUTS).flip(0)[:, -1] + 0.5
    return x, other


def paths(model: Answering, x: Tensor, other: Tensor, **settings: Any) -> GatePaths:
    """Return the paths from one question to another of the same targets."""
    texts = np.full(tuple(x.shape[:2]), "a")
    changed = np.full(texts.shape, "")
    return gate_paths(
        scores_of(model, x), other, texts, changed, np.full((len(x), SCORES), "c"), **settings
    )


def through(
    kind: str, rnn: nn.RNNBase, x: Tensor, other: Tensor, patched: str | None, step: int
) -> Tensor:
    """Return the last h when one gate at one step is that of the corrupted run, by a loop.

    All other gates are those of the clean run.
    """
    weights = [getattr(rnn, f"{n}_l0").detach() for n in ("weight_ih", "weight_hh", "bias_ih",
                                                          "bias_hh")]  # fmt: skip
    clean_states, states = [x.new_zeros(len(x), UNITS)], [x.new_zeros(len(x), UNITS)]
    cells = [torch.zeros_like(states[0]) for _ in range(3)]  # clean, corrupted, patched
    h = torch.zeros_like(states[0])
    for t in range(x.shape[1]):
        clean = gates_by_hand(kind, x[:, t], clean_states[-1], weights)
        corrupted = gates_by_hand(kind, other[:, t], states[-1], weights)
        mixed = dict(clean)
        if t == step and patched is not None:
            mixed[patched] = corrupted[patched]
        if kind == "lstm":
            for row, gate in enumerate((clean, corrupted, mixed)):
                cells[row] = gate["f"] * cells[row] + gate["i"] * gate["g"]
            h = mixed["o"] * cells[2].tanh()
            clean_states.append(clean["o"] * cells[0].tanh())
            states.append(corrupted["o"] * cells[1].tanh())
        else:
            h = (1 - mixed["z"]) * mixed["n"] + mixed["z"] * h
            for row, gate in ((clean_states, clean), (states, corrupted)):
                row.append((1 - gate["z"]) * gate["n"] + gate["z"] * row[-1])
    return h


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("features", FEATURES, ids=str)
def test_all_gates_at_all_steps_are_the_corrupted_run(kind: str, features: dict[str, Any]) -> None:
    """With input and state as senders the joint effect is the whole one."""
    where = {name: value for name, value in features.items() if name == "layer"}
    made = {name: value for name, value in features.items() if name != "layer"}
    model, (x, other) = Answering(layer(kind, **made)), pair()
    found = paths(model, x, other, **where)
    np.testing.assert_allclose(found.joint_effect, found.total_effect, atol=1e-12)
    np.testing.assert_allclose(found.total_effect, (model(other) - model(x)).detach(), atol=1e-12)
    assert found.joint_share() == pytest.approx(1)
    assert np.abs(found.total_effect).min() > 1e-4


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_a_path_equals_a_loop_with_one_gate_exchanged(kind: str) -> None:
    """Each effect is that of a loop over steps in which one gate at one step is corrupted.

    Of the GRU the reset gate is constant, so that the candidate depends on nothing else.
    """
    rnn = layer(kind)
    if kind == "gru":
        with torch.no_grad():
            rnn.weight_ih_l0[:UNITS] = 0.0
            rnn.weight_hh_l0[:UNITS] = 0.0
    model, (x, other) = Answering(rnn), pair()
    found = paths(model, x, other)

    def score(gate: str | None, step: int) -> NDArray[Any]:
        return model.readout(through(kind, rnn, x, other, gate, step)).detach().numpy()

    for row, gate in enumerate(found.gates):
        for step in range(STEPS):
            expected = score(gate, step) - score(None, step)
            np.testing.assert_allclose(found.effect[:, :, row, step], expected, atol=1e-12)


def test_the_reset_gate_acts_through_the_candidate() -> None:
    """Of a GRU whose reset gate alone reads the character, the effect at that step is all r's."""
    rnn = layer("gru")
    with torch.no_grad():
        rnn.weight_ih_l0[UNITS:] = 0.0
    model, (x, other) = Answering(rnn), pair()
    found = paths(model, x, other, sender="input")
    np.testing.assert_allclose(found.gate_effect[:, :, 0], found.joint_effect, atol=1e-12)
    assert np.abs(found.joint_effect).min() > 1e-6
    assert (found.effect[:, :, 1:] == 0).all()


def test_only_the_gate_that_reads_the_character_has_an_effect() -> None:
    """If the input gate alone reads, and no gate reads the state, the whole effect is its own."""
    rnn = layer("lstm")
    with torch.no_grad():
        rnn.weight_ih_l0[UNITS:] = 0.0
        rnn.weight_hh_l0.zero_()
    model, (x, other) = Answering(rnn), pair()
    found = paths(model, x, other)
    shares = found.shares()
    assert shares[0, CHANGED] == pytest.approx(1)
    assert found.gate_shares().tolist() == pytest.approx([1, 0, 0, 0])
    shares[0, CHANGED] = 0
    assert (shares == 0).all()


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_a_path_that_does_not_exist_has_no_effect(kind: str) -> None:
    """Nothing enters before the change, nor later by the input, nor at the change by the state.

    Nor does an output gate, whose h no later gate reads on this path, have one before the end.
    """
    model, (x, other) = Answering(layer(kind)), pair()
    assert (paths(model, x, other).effect[..., :CHANGED] == 0).all()
    by_input = paths(model, x, other, sender="input").effect
    by_state = paths(model, x, other, sender="state").effect
    assert (by_input[..., CHANGED + 1 :] == 0).all()
    assert (by_state[..., : CHANGED + 1] == 0).all()
    gates = slice(0, 3)  # i, f and g, or r, z and n
    assert np.abs(by_input[:, :, gates, CHANGED]).min() > 0
    np.testing.assert_allclose(by_state[:, :, 3:, :-1], 0, atol=1e-12)
    assert np.abs(by_state[..., CHANGED + 1 :]).max() > 0


def test_a_unit_that_no_gate_reads_sends_nothing() -> None:
    """Of a unit whose column of W_hh is 0 the state has an effect of 0; the others have all."""
    rnn = layer("lstm")
    with torch.no_grad():
        rnn.weight_hh_l0[:, 2] = 0.0
    model, (x, other) = Answering(rnn), pair()
    assert (paths(model, x, other, sender="state", units=[2]).effect == 0).all()
    rest = [unit for unit in range(UNITS) if unit != 2]
    np.testing.assert_allclose(
        paths(model, x, other, sender="state", units=rest).effect,
        paths(model, x, other, sender="state").effect, atol=1e-12,
    )  # fmt: skip


def test_a_backward_direction_has_its_own_steps() -> None:
    """Steps are those of the inputs: what is read after the change lies before it in the text."""
    rnn = layer("lstm", bidirectional=True)
    model, (x, other) = Answering(rnn), pair()
    with torch.no_grad():
        model.readout.weight[:, :UNITS] = 0.0  # so that all goes through the backward direction
    model.forward = lambda x: model.readout(rnn(x)[0][:, 0])
    found = paths(model, x, other, direction=1)
    np.testing.assert_allclose(found.joint_effect, found.total_effect, atol=1e-12)
    assert (found.effect[..., CHANGED + 1 :] == 0).all()
    assert np.abs(found.effect[..., 0]).min() > 0
    forwards = paths(model, x, other, direction=0)
    np.testing.assert_allclose(forwards.joint_effect, 0, atol=1e-12)


def test_without_a_change_there_are_no_shares() -> None:
    """Effects are 0, and shares of nothing undefined."""
    model, (x, _) = Answering(layer("lstm")), pair()
    found = paths(model, x, x)
    assert (found.effect == 0).all()
    assert np.isnan(found.shares()).all()


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("rnn_tanh", {}, "rnn: a layer of kind RNN_TANH has no gates"),
        ("lstm", {"sender": "inputs"}, "sender: 'inputs' is not accepted.*did you mean 'input'"),
        ("lstm", {"sender": "input", "units": [1]}, r"units: \[1\] is not accepted"),
        ("lstm", {"units": [UNITS]}, "Edit: units 6 is not accepted; accepted: 0 to 5"),
        ("lstm", {"layer": 1}, "Edit: layer 1 is not accepted"),
    ],
)
def test_what_cannot_be_patched_is_refused(
    kind: str, settings: dict[str, Any], message: str
) -> None:
    """The message names what is wrong and what is accepted."""
    model, (x, other) = Answering(layer(kind)), pair()
    with pytest.raises(ValueError, match=message):
        paths(model, x, other, **settings)


def test_inputs_that_do_not_fit_are_refused() -> None:
    """A corrupted run has the shape of the clean one."""
    model, (x, other) = Answering(layer("lstm")), pair()
    with pytest.raises(ValueError, match=r"corrupted: shape \(3, 4, 4\) does not go with"):
        paths(model, x, other[:, 1:])
