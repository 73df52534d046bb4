"""The automaton of a recurrent network: machines whose smallest form is known beforehand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from visualization.recurrent.automaton import Automaton, extract_automaton, minimise
from visualization.recurrent.machine import run_automaton
from visualization.render import draw, png, text

PARITY = [[0, 1], [1, 0]]
TOMITA_4 = [[1, 0], [2, 0], [3, 0], [3, 3]]  # zeros in a row; three are never forgotten


def parity_network() -> nn.RNN:
    """Return a network that is in one of three states; h1 + h2 is the parity of what it read."""
    rnn = nn.RNN(1, 2, nonlinearity="relu", bias=False, batch_first=True)
    with torch.no_grad():
        rnn.weight_ih_l0.copy_(torch.tensor([[1.0], [-1.0]]))
        rnn.weight_hh_l0.copy_(torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))
    return rnn


def is_odd(h: Tensor) -> Tensor:
    return h.sum(dim=-1) > 0.5


def strings(count: int, length: int, seed: int, least: float = 0.3, most: float = 0.8) -> Tensor:
    """Return strings of 0 and 1 with few ones in the first and many in the last."""
    generator = torch.Generator().manual_seed(seed)
    share = torch.linspace(least, most, count)[:, None]
    return (torch.rand(count, length, generator=generator) < share).long()


def parity_automaton(bits: Tensor, **settings: Any) -> Automaton:
    return extract_automaton(parity_network(), bits[..., None].float(), bits, is_odd, **settings)


def test_parity_network_is_the_parity_machine() -> None:
    """Three states that compute parity become the two that parity needs, with no error."""
    bits = strings(120, 12, seed=0)
    found = parity_automaton(bits)
    assert (found.num_states, found.num_clusters) == (2, 3)
    assert (found.agreement, found.exact, found.num_held_out) == (1, 1, 36 * 12)
    assert found.outputs == ("reject", "accept")
    assert found.alphabet == ("0", "1")
    assert found.initial == 0
    np.testing.assert_array_equal(found.transitions, PARITY)
    np.testing.assert_array_equal(found.run(bits.numpy()), bits.numpy().cumsum(axis=1) % 2)
    assert found.answers(np.array([[1, 1]])).tolist() == [["accept", "reject"]]


def test_labels_need_not_come_from_a_function() -> None:
    """An array of labels, symbols with names and the other layout give the same machine."""
    bits = strings(60, 9, seed=1)
    rnn = parity_network()
    rnn.batch_first = False
    words = np.array(["even", "odd"])[bits.numpy().cumsum(axis=1) % 2]
    found = extract_automaton(
        rnn, bits.T[..., None].float(), np.array(["a", "b"])[bits.numpy()], words, alphabet="zba"
    )
    assert found.outputs == ("even", "odd")
    assert found.alphabet == ("b", "a")
    np.testing.assert_array_equal(found.transitions, [[1, 0], [0, 1]])
    by_number = extract_automaton(
        rnn, bits.T[..., None].float(), bits, words, alphabet=["zero", "one", "two"]
    )
    assert by_number.alphabet == ("zero", "one")
    np.testing.assert_array_equal(by_number.transitions, PARITY)


def textbook() -> tuple[np.ndarray[Any, Any], list[str]]:
    """Return the eight states A to H of Hopcroft & Ullman 1979, figure 3.8; C accepts."""
    names = "ABCDEFGH"
    rows = ["BF", "GC", "AC", "CG", "HF", "CG", "GE", "GC"]
    transitions = np.array([[names.index(name) for name in row] for row in rows])
    return transitions, ["accept" if name == "C" else "reject" for name in names]


def test_minimise_finds_the_smallest_machine() -> None:
    """A = E, B = H and D = F: five states stay, numbered as they are met, and D is never met."""
    transitions, outputs = minimise(*textbook())
    # A = 0; then B = 1 and F = 2 by 0 and 1; then G = 3 and C = 4 from B.
    assert outputs == ("reject", "reject", "reject", "reject", "accept")
    np.testing.assert_array_equal(transitions, [[1, 2], [3, 4], [4, 3], [3, 0], [0, 4]])


def test_minimise_keeps_every_answer() -> None:
    """Whatever is read, the smallest machine answers as the one it came from."""
    generator = np.random.default_rng(0)
    for _ in range(20):
        transitions = generator.integers(0, 30, (30, 2)) // 2
        outputs = generator.choice(["x", "y"], 30).tolist()
        initial = int(generator.integers(30))
        smaller, labels = minimise(transitions, outputs, initial)
        read = generator.integers(0, 2, (50, 40))
        before = np.array(outputs)[run_automaton(transitions, initial, read)]
        assert (before == np.array(labels)[run_automaton(smaller, 0, read)]).all()


def test_minimise_is_idempotent() -> None:
    """The smallest machine is its own smallest machine, in the same numbering."""
    once = minimise(*textbook())
    transitions, outputs = minimise(*once)
    np.testing.assert_array_equal(transitions, once[0])
    assert outputs == once[1]


def test_numbering_does_not_depend_on_names() -> None:
    """Machines whose states only have other numbers become one and the same."""
    transitions, outputs = textbook()
    order = np.random.default_rng(1).permutation(8)  # the new number of each state
    back = np.argsort(order)
    renamed = minimise(order[transitions[back]], [outputs[i] for i in back], int(order[0]))
    np.testing.assert_array_equal(renamed[0], minimise(transitions, outputs)[0])


def test_minimise_leaves_out_what_cannot_be_reached() -> None:
    """A state that nothing leads to is left out although its output is unique."""
    transitions, outputs = minimise(np.array([[0], [0]]), ["a", "b"])
    assert (transitions.tolist(), outputs) == ([[0]], ("a",))


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_trained_network_gives_tomitas_machine(kind: type[nn.RNNBase]) -> None:
    """A network that learned to refuse 000 has the four states that the language needs."""
    torch.manual_seed(0)
    rnn, read_out = kind(1, 12, batch_first=True), nn.Linear(12, 1)
    optimiser = torch.optim.Adam([*rnn.parameters(), *read_out.parameters()], lr=0.02)
    bits = strings(256, 12, seed=2)
    target = torch.from_numpy(run_automaton(np.array(TOMITA_4), 0, bits.numpy()) < 3).float()
    for _ in range(300):
        logits = read_out(rnn(bits[..., None].float())[0])[..., 0]
        loss = nn.functional.binary_cross_entropy_with_logits(logits, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    fresh = strings(400, 16, seed=3)
    found = extract_automaton(
        rnn, fresh[..., None].float(), fresh, lambda h: read_out(h)[..., 0] > 0
    )
    assert found.agreement > 0.99
    assert found.outputs == ("accept", "accept", "accept", "reject")
    np.testing.assert_array_equal(found.transitions, TOMITA_4)


def modulo_3() -> tuple[nn.RNN, Tensor]:
    """Return a network of six units, one for each remainder and last bit, and its first state."""
    rnn = nn.RNN(2, 6, nonlinearity="relu", batch_first=True)
    with torch.no_grad():
        for parameter in rnn.parameters():
            parameter.zero_()
        rnn.bias_hh_l0.fill_(-1.0)  # a unit needs both: the remainder before, and the bit
        for unit in range(6):
            remainder, bit = divmod(unit, 2)
            before = (remainder - bit) % 3
            rnn.weight_hh_l0[unit, 2 * before : 2 * before + 2] = 1.0
            rnn.weight_ih_l0[unit, bit] = 1.0
    return rnn, torch.eye(6)[0]


def test_three_outputs() -> None:
    """A network that counts ones modulo 3 gives the machine of three outputs in a ring."""
    bits = strings(80, 10, seed=4)
    rnn, first = modulo_3()
    state = first.expand(1, 80, 6).contiguous()
    inputs = nn.functional.one_hot(bits, 2).float()
    found = extract_automaton(rnn, inputs, bits, lambda h: h.argmax(-1) // 2, state=state)
    assert (found.agreement, found.outputs) == (1, ("0", "1", "2"))
    np.testing.assert_array_equal(found.transitions, [[0, 1], [1, 2], [2, 0]])


def test_a_first_state_may_be_a_list() -> None:
    """A list of h and c, which nn.LSTM takes, gives the machine that a pair of them gives."""
    bits = strings(40, 5, seed=4)
    rnn = nn.LSTM(2, 3, batch_first=True)
    state = [torch.full((1, 40, 3), 0.5), torch.full((1, 40, 3), -0.5)]
    inputs = nn.functional.one_hot(bits, 2).float()
    pair, as_list = (
        extract_automaton(rnn, inputs, bits, bits > 0, state=given)
        for given in ((state[0], state[1]), state)
    )
    np.testing.assert_array_equal(as_list.transitions, pair.transitions)


def test_lower_layers_are_seen() -> None:
    """A state that only a lower layer carries is told apart: here the answer comes a step late."""
    rnn = nn.RNN(1, 2, 2, nonlinearity="relu", bias=False, batch_first=True)
    lower = parity_network()
    with torch.no_grad():
        rnn.weight_ih_l0.copy_(lower.weight_ih_l0)
        rnn.weight_hh_l0.copy_(lower.weight_hh_l0)
        rnn.weight_ih_l1.zero_()
        rnn.weight_hh_l1.zero_()
    bits = strings(80, 10, seed=5)
    odd = bits.numpy().cumsum(axis=1) % 2 == 1
    late = np.concatenate([np.zeros_like(odd[:, :1]), odd[:, :-1]], axis=1)
    found = extract_automaton(rnn, bits[..., None].float(), bits, late)
    assert found.agreement == 1
    assert found.num_states == 4  # the parity now, and the one before


def test_same_seed_same_machine() -> None:
    """The same seed gives the same machine, and the order of the samples changes nothing."""
    bits = strings(100, 10, seed=6)
    torch.manual_seed(0)
    rnn = nn.GRU(1, 4, batch_first=True)  # untrained: its machine is one of many clusters

    def found(bits: Tensor) -> Automaton:
        return extract_automaton(rnn, bits[..., None].float(), bits, lambda h: h[..., 0] > 0)

    first, again = found(bits), found(bits)
    np.testing.assert_array_equal(first.transitions, again.transitions)
    assert (first.outputs, first.agreement) == (again.outputs, again.agreement)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    assert parity_automaton(bits[order]).num_states == parity_automaton(bits).num_states == 2


def test_noise_does_not_add_states() -> None:
    """States that differ by rounding alone are one: noise of 1e-6 leaves three clusters."""
    bits = strings(100, 10, seed=7)
    noise = 1e-6 * torch.randn(100, 10, 1, generator=torch.Generator().manual_seed(0))
    found = extract_automaton(parity_network(), bits[..., None] + noise, bits, is_odd)
    assert (found.num_states, found.num_clusters, found.agreement) == (2, 3, 1)


def test_rare_symbols_are_borne() -> None:
    """A symbol that is read in one sequence only still has a transition from every state."""
    symbols = np.zeros((40, 8), dtype=int)
    symbols[:, :7] = strings(40, 7, seed=8).numpy()
    symbols[0, 7] = 2
    inputs = torch.from_numpy(symbols % 2)[..., None].float()
    found = extract_automaton(parity_network(), inputs, symbols, is_odd)
    assert found.transitions.shape == (2, 3)
    np.testing.assert_array_equal(found.transitions[:, :2], PARITY)


def fingerprint(rnn: nn.Module) -> list[Any]:
    """Return what must be as before: weights, gradients, modes, hooks and random numbers."""
    tensors = [p.detach().clone() for p in rnn.parameters()]
    gradients = [None if p.grad is None else p.grad.clone() for p in rnn.parameters()]
    legacy = np.random.get_state()[1].tobytes()  # noqa: NPY002 - it is looked at, not used
    return [
        [t.tolist() for t in tensors], [g is None or g.tolist() for g in gradients],
        [p.requires_grad for p in rnn.parameters()], rnn.training, len(rnn._forward_hooks),
        torch.get_rng_state().tolist(), torch.get_num_threads(), legacy,
    ]  # fmt: skip


def test_the_network_is_left_as_it_was() -> None:
    """Weights, gradients, mode and random generators are as before, also after an exception."""
    rnn = parity_network()
    bits = strings(40, 8, seed=9)
    rnn(bits[..., None].float())[0].sum().backward()
    before = fingerprint(rnn)

    def fails(h: Tensor) -> Tensor:
        torch.rand(3)
        raise RuntimeError

    extract_automaton(rnn, bits[..., None].float(), bits, is_odd)
    assert fingerprint(rnn) == before
    with pytest.raises(RuntimeError):
        extract_automaton(rnn, bits[..., None].float(), bits, fails)
    assert fingerprint(rnn) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rnn": nn.GRU(1, 2, bidirectional=True)}, "rnn: .*both directions"),
        ({"rnn": nn.Linear(1, 2)}, "rnn: Linear"),
        ({"inputs": torch.zeros(20, 6, 3)}, r"inputs: .*\(20, 6, 3\)"),
        ({"symbols": torch.zeros(20, 5)}, r"symbols: shape \(20, 5\) .*\(20, 6\)"),
        ({"symbols": torch.zeros(20, 6)}, "symbols: float32"),
        ({"symbols": torch.zeros(20, 6, dtype=int)}, "symbols: 1 different"),
        ({"outputs": np.zeros((20, 6))}, "outputs: float64"),
        ({"outputs": lambda h: h}, r"outputs: shape \(20, 6, 2\)"),
        ({"outputs": np.arange(120).reshape(20, 6), "max_states": 100}, "outputs: 120 labels"),
        ({"max_states": 0}, "max_states: 0"),
        ({"held_out": 1.0}, "held_out: 1.0"),
        ({"alphabet": ["0"]}, "alphabet: .*no 1"),
        ({"alphabet": ["0", "0"]}, "alphabet: .*twice"),
        ({"state": torch.rand(1, 20, 2)}, "state: it differs"),
    ],
)
def test_errors_name_what_is_wrong(change: dict[str, Any], message: str) -> None:
    """A bad argument is a ValueError that names it, its value and what is accepted."""
    bits = strings(20, 6, seed=10)
    given = {
        "rnn": parity_network(), "inputs": bits[..., None].float(), "symbols": bits,
        "outputs": is_odd, **change,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        extract_automaton(**given)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: minimise(np.zeros((2, 0), int), ["a", "b"]), "transitions: .*shape"),
        (lambda: minimise(np.array([[2], [0]]), ["a", "b"]), "transitions: 0 to 2"),
        (lambda: minimise(np.array([[1], [0]]), ["a"]), "outputs: 1 labels"),
        (lambda: minimise(np.array([[1], [0]]), ["a", "b"], 2), "initial: 2"),
        (lambda: run_automaton(np.array(PARITY), 0, np.array([[2]])), "symbols: 2 to 2"),
        (lambda: run_automaton(np.array(PARITY), 0, np.array([2])), "symbols: .*shape"),
    ],
)
def test_machines_are_checked(call: Callable[[], Any], message: str) -> None:
    """A machine or a string that does not fit is a ValueError that says what does."""
    with pytest.raises(ValueError, match=message):
        call()


def machine(count: int, num_symbols: int = 2, **changes: Any) -> Automaton:
    """Return a ring of states with chords."""
    steps = np.arange(count)[:, None] + np.arange(num_symbols)
    fields = {
        "alphabet": tuple("0123456789"[:num_symbols]), "transitions": steps % count,
        "outputs": tuple(f"${state % 3}" for state in range(count)), "initial": 0,
        "num_clusters": 30, "agreement": 0.99999, "exact": 0.9, "num_held_out": 1234,
    }  # fmt: skip
    return Automaton(**{**fields, **changes})


@pytest.mark.parametrize(
    ("count", "num_symbols"), [(1, 1), (2, 2), (3, 5), (9, 3), (9, 10), (24, 2), (40, 2)]
)
def test_every_size_is_drawn_the_same_twice(count: int, num_symbols: int) -> None:
    """A machine of any size has a picture, and always the same one."""
    record = machine(count, num_symbols)
    assert png(draw(record), dpi=30) == png(draw(record), dpi=30)


def words(record: Automaton) -> list[str]:
    """Return all words of a picture's diagram and its title."""
    figure = draw(record)
    return [part.get_text() for owner in (figure, *figure.axes) for part in owner.texts]


def test_parallel_arrows_are_one() -> None:
    """Symbols that lead to the same state share an arrow; neighbours become a range."""
    forward = np.array([[1] * 4 + [0] * 2, [0] * 6])
    shown = words(machine(2, 6, transitions=forward))
    assert {"0–3", "4,5", "any"} <= set(shown)
    assert len(shown) == 1 + 2 * 2 + 3  # a title; an output and a number for each state; arrows


def test_title_never_rounds_up_to_perfection() -> None:
    """100 % is said of perfect agreement only."""
    title = words(machine(2))[0]
    assert title == "2 states, agreement 99.99 % on 1,234 held-out steps"
    assert "agreement 100 %" in words(machine(2, agreement=1.0))[0]


def test_text_is_the_transition_table() -> None:
    """As text, a machine is a row for each state: its output, and the next state by symbol."""
    lines = text(machine(3)).splitlines()
    assert lines[1].split() == ["state", "output", "0", "1"]
    assert lines[2].split() == ["→", "0", "$0", "0", "1"]
    assert lines[4].split() == ["2", "$2", "2", "0"]
