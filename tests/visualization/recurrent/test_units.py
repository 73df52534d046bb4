"""What single units do, against networks wired by hand and statistics computed by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from torch import Tensor, nn

from tests.visualization.recurrent.test_cells import (
    UNITS,
    assert_close,
    initial,
    inputs,
    layer,
    loop,
)
from visualization.recurrent import (
    UnitRanking,
    classify_units,
    gate_saturation,
    patch_units,
    rank_units,
    single_units,
    single_units_and_pairs,
    trace_cells,
)
from visualization.recurrent.ablation import Replacement

COUNTER, DETECTOR, CONSTANT, UNCONNECTED = range(4)
OPEN = 100.0  # a bias at which a sigmoid is exactly 1
NUM, STEPS, LETTERS = 60, 7, 3


def wired() -> nn.LSTM:
    """Return an LSTM with a counter, a detector of the first letter, a constant, and a loose end.

    Input gate, forget gate, candidate and output gate stand in the rows of the weights.
    """
    torch.manual_seed(0)
    rnn = nn.LSTM(LETTERS, 4, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        for parameter in rnn.parameters():
            parameter.zero_()
        w_ih, w_hh, bias = (
            values.view(4, 4, -1) for values in (rnn.weight_ih_l0, rnn.weight_hh_l0, rnn.bias_ih_l0)
        )
        gates = [[OPEN, OPEN, 0.1, OPEN], [OPEN, -OPEN, 0.0, OPEN], [OPEN, -OPEN, 0.5, OPEN]]
        bias[:, :3, 0] = torch.tensor(gates, dtype=torch.float64).T
        w_ih[2, DETECTOR, 0] = 3.0
        w_ih[:, UNCONNECTED] = torch.randn(4, LETTERS, dtype=torch.float64)
        w_hh[:, UNCONNECTED, :3] = torch.randn(4, 3, dtype=torch.float64)
    return rnn


def letters() -> tuple[NDArray[Any], Tensor]:
    """Return random texts (N, T) and their one-hot codes."""
    codes = np.random.default_rng(0).integers(0, LETTERS, (NUM, STEPS))
    return np.array(list("abc"))[codes], torch.eye(LETTERS, dtype=torch.float64)[codes]


def rank_wired(**settings: Any) -> UnitRanking:
    """Rank the wired units by losses of a read-out that counts with a hint of the letter."""
    rnn, (_, x) = wired(), letters()
    weights = torch.tensor([1.0, 0.1, 0.0, 0.0], dtype=torch.float64)
    target = rnn(x)[0].detach() @ weights

    def score() -> dict[str, Tensor]:
        errors = rnn(x)[0] @ weights - target
        return {"loss": (errors**2).mean(1), "last right": errors[:, -1].abs() < 0.2}

    return rank_units(rnn, score, **settings)


def test_a_hand_wired_counter_and_detector_are_found() -> None:
    """The roles, shares and gate saturations of wired units are what they were wired for."""
    texts, x = letters()
    trace = trace_cells(wired(), x)
    steps = torch.arange(1, STEPS + 1, dtype=torch.float64)
    assert_close(trace.c[0, :, :, COUNTER], (np.tanh(0.1) * steps).expand(NUM, -1))
    roles = classify_units(trace.c[0], texts)
    assert roles.kinds[:3] == ("counter", "detector", "constant")
    assert roles.count("constant") == 1
    assert set(roles.order) == {COUNTER, DETECTOR, UNCONNECTED}
    np.testing.assert_allclose(roles.shares[[0, 1, 3]].sum(axis=1), 1)
    np.testing.assert_array_equal(roles.shares[CONSTANT], 0)
    assert roles.shares[COUNTER, 0] > 0.98
    assert roles.shares[DETECTOR, 1] > 0.98
    np.testing.assert_allclose(roles.by_position[:, COUNTER], np.tanh(0.1) * steps)
    np.testing.assert_allclose(roles.by_symbol[:, DETECTOR], [np.tanh(3), 0, 0], atol=1e-12)
    assert roles.symbols == ("a", "b", "c")
    found = gate_saturation(trace)
    for gate in "ifo":
        assert found.right[gate][COUNTER] == 1
        assert found.left[gate][COUNTER] == 0
    assert (found.left["f"][DETECTOR], found.right["f"][DETECTOR]) == (1, 0)
    gates = trace.o[0, :, :, UNCONNECTED]
    assert found.right["o"][UNCONNECTED] == (gates > 0.9).double().mean()


def test_saturation_counts_strictly_and_by_row() -> None:
    """A gate at a threshold is not saturated; rows are kept apart; layers without gates refuse."""
    trace = trace_cells(layer("gru", num_layers=2), inputs())
    value = float(trace.gates["z"][1, 0, 0, 0])
    share = float((trace.gates["z"][1, :, :, 0] > value).double().mean())
    assert gate_saturation(trace, high=value, low=0, layer_index=1).right["z"][0] == share
    assert set(gate_saturation(trace).left) == {"r", "z"}
    with pytest.raises(ValueError, match="kind rnn_tanh has no gates; accepted: lstm, gru"):
        gate_saturation(trace_cells(layer("rnn_tanh"), inputs()))
    with pytest.raises(ValueError, match=r"low, high: 0.9, 0.1; accepted: 0 <= low < high <= 1"):
        gate_saturation(trace, 0.9, 0.1)


@pytest.mark.parametrize("replacement", ["zero", "mean", 0.3])
def test_a_needed_counter_comes_first_and_a_loose_end_does_nothing(
    replacement: Replacement,
) -> None:
    """The counter is ranked first, the unconnected unit has an effect of exactly 0."""
    found = rank_wired(replacement=replacement)
    assert found.order[0] == COUNTER
    for name in ("loss", "last right"):
        for values in (found.change, found.low, found.high):
            assert values[name][UNCONNECTED] == 0
    assert found.change["loss"][COUNTER] > 10 * found.change["loss"][DETECTOR] > 0
    assert (found.num_samples, found.replacement) == (NUM, replacement)
    if replacement == "zero":
        assert found.change["last right"][COUNTER] == -1
        assert found.baseline["last right"] == 1
        mean = 0.1**2 * np.tanh(np.tanh(3)) ** 2 * (letters()[0] == "a").mean()
        assert found.change["loss"][DETECTOR] == pytest.approx(mean)
        assert found.baseline["loss"] == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("replacement", ["zero", "mean", 0.7])
@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn_tanh"])
def test_changes_are_those_of_a_loop(kind: str, replacement: Replacement) -> None:
    """Units set to zero, their mean or a number, in any layer, change scores as in a loop."""
    rnn, x = layer(kind, num_layers=2, bidirectional=True), inputs()
    state = initial(rnn)
    row, groups = 3, [[0], [2, 5], [4, 1, 3], []]
    weights = inputs(2 * UNITS)
    plain = loop(rnn, x, state)

    def scored(output: Tensor) -> Tensor:
        return (output @ weights).tanh().sum(1)

    def changer(units: list[int]) -> Callable[..., tuple[Tensor, Tensor]]:
        def change(at: int, time: int, h: Tensor, c: Tensor, o: Tensor) -> tuple[Tensor, Tensor]:
            if at != row:
                return h, c
            if replacement == "mean":
                h[:, units] = plain.h[row].mean((0, 1))[units]
                c[:, units] = plain.c[row].mean((0, 1))[units]
                return h, c
            c[:, units] = 0.0 if replacement == "zero" else replacement
            if kind != "lstm" or replacement == "zero":
                h[:, units] = c[:, units]
            elif time >= 0:
                h[:, units] = (o * c.tanh())[:, units]
            return h, c

        return change

    found = rank_units(
        rnn, lambda: {"s": scored(rnn(x, state)[0])}, groups,
        replacement=replacement, layer=1, direction=1,
    )  # fmt: skip
    for at, units in enumerate(groups):
        changed = loop(rnn, x, state, changer(units))
        by_hand = scored(torch.cat(list(changed.h[2:]), -1)) - scored(
            torch.cat(list(plain.h[2:]), -1)
        )
        assert found.change["s"][at] == pytest.approx(float(by_hand.mean()), abs=1e-12)
    assert found.change["s"][3] == 0
    assert found.groups == ((0,), (2, 5), (4, 1, 3), ())


def copier(units: int) -> nn.RNN:
    """Return a network whose states are its inputs."""
    rnn = nn.RNN(units, units, nonlinearity="relu", bias=False, batch_first=True)
    with torch.no_grad():
        rnn.weight_ih_l0.copy_(torch.eye(units))
        rnn.weight_hh_l0.zero_()
    return rnn


def test_interactions_have_the_stated_signs() -> None:
    """Units that stand in for each other interact negatively, units that need each other do not."""
    rnn, x = copier(4), torch.ones(5, 1, 4)

    def score() -> dict[str, Tensor]:
        h = rnn(x)[0][:, 0]
        return {"either": h[:, 0] + h[:, 1] > 0.5, "both": h[:, 0] + h[:, 1] > 1.5}

    found = rank_units(rnn, score, single_units_and_pairs([0, 1, 2]))
    assert found.groups == ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2))
    np.testing.assert_array_equal(found.interaction("either"), [np.nan] * 3 + [-1, 0, 0])
    np.testing.assert_array_equal(found.interaction("both"), [np.nan] * 3 + [1, 0, 0])
    alone = rank_units(rnn, score, [(0,), (0, 1)])
    assert np.isnan(alone.interaction("both")).all()
    assert single_units(3) == [(0,), (1,), (2,)]


def test_ties_go_to_the_next_score_and_then_by_number() -> None:
    """Groups are ordered by size of change, whatever its sign, of one score after the other."""
    rnn = copier(5)
    x = torch.ones(6, 1, 5)
    first = torch.tensor([1.0, -2.0, 2.0, 1.0, 1.0])
    second = torch.tensor([0.0, 0.0, 0.0, 3.0, 0.0])
    found = rank_units(
        rnn, lambda: {n: rnn(x)[0][:, 0] @ w for n, w in [("a", first), ("b", second)]}
    )
    assert found.order.tolist() == [1, 2, 3, 0, 4]
    np.testing.assert_allclose(found.change["a"], -first)


def test_intervals_are_those_of_the_bootstrap() -> None:
    """Intervals hold the mean, are near the normal ones, narrow with confidence, and are pinned."""
    rnn, x = copier(2), torch.rand(400, 1, 2, generator=torch.Generator().manual_seed(0))

    def score() -> dict[str, Tensor]:
        return {"s": rnn(x)[0][:, 0].sum(1)}

    found = rank_units(rnn, score, num_resamples=4000)
    for unit in (0, 1):
        values = x[:, 0, unit].double().numpy()
        half = norm.ppf(0.975) * values.std() / np.sqrt(400)
        assert found.change["s"][unit] == pytest.approx(-values.mean(), abs=1e-6)
        np.testing.assert_allclose(found.low["s"][unit], -values.mean() - half, atol=0.1 * half)
        np.testing.assert_allclose(found.high["s"][unit], -values.mean() + half, atol=0.1 * half)
    runs = [rank_units(rnn, score, seed=seed) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(runs[0].low["s"], runs[1].low["s"])
    assert (runs[0].low["s"] != runs[2].low["s"]).all()
    narrow = rank_units(rnn, score, confidence=0.5)
    assert (narrow.low["s"] > runs[0].low["s"]).all()
    assert (narrow.high["s"] < runs[0].high["s"]).all()


def test_scores_that_do_not_fit_are_refused() -> None:
    """A score of another shape, or of another number of samples later on, is a ValueError."""
    rnn, x = copier(2), torch.ones(4, 1, 2)
    with pytest.raises(ValueError, match=r"score 's': shape \(4, 1, 2\) .* accepted: \(sample\)"):
        rank_units(rnn, lambda: {"s": rnn(x)[0]})
    sizes = iter([4, 4, 3])
    with pytest.raises(ValueError, match=r"score 's': shape \(3,\) .* accepted: \(4,\)"):
        rank_units(rnn, lambda: {"s": rnn(x)[0][0, 0, 0].expand(next(sizes))})
    for settings, message in (({"layer": 1}, "layer 1"), ({"groups": [[2]]}, "units 2")):
        with pytest.raises(ValueError, match=message):
            rank_units(rnn, lambda: {"s": torch.ones(4)}, **settings)


@pytest.mark.parametrize("replacement", ["zero", "mean"])
def test_a_layer_that_is_not_called_is_refused(replacement: Replacement) -> None:
    """Scores that another layer makes rank no unit of this one, and the error says so."""
    rnn, other, x = copier(2), copier(2), torch.ones(4, 1, 2)
    with pytest.raises(ValueError, match=r"rnn: the layer was not called .*; accepted: a layer of"):
        rank_units(rnn, lambda: {"s": other(x)[0][:, 0, 0]}, replacement=replacement)


def anova(values: NDArray[Any], codes: NDArray[Any]) -> float:
    """Return the share of the variance of values (N,) between the groups of codes."""
    means = np.array([values[codes == code].mean() for code in codes.ravel()])
    return float(((means - values.mean()) ** 2).sum() / ((values - values.mean()) ** 2).sum())


def test_shares_on_balanced_designs_are_an_analysis_of_variance() -> None:
    """With every symbol as often at every place, shares are the two sums of squares."""
    rng = np.random.default_rng(3)
    symbols = np.array([[(sample + step) % 4 for step in range(6)] for sample in range(8)])
    values = rng.normal(size=(8, 6, 5)) + symbols[..., None] + 0.5 * np.arange(6)[:, None]
    places = np.tile(np.arange(6), (8, 1))
    found = classify_units(torch.tensor(values), symbols)
    for unit in range(5):
        flat = values[..., unit].ravel()
        both = [anova(flat, places.ravel()), anova(flat, symbols.ravel())]
        np.testing.assert_allclose(found.shares[unit], [*both, 1 - sum(both)])
    np.testing.assert_allclose(found.deviations, values.std(axis=(0, 1)))
    names = np.array(list("zxay"))[symbols]  # in another order
    again = classify_units(values, names)
    np.testing.assert_allclose(again.shares, found.shares)
    assert again.kinds == found.kinds


def test_shares_on_unbalanced_designs_are_symmetrical() -> None:
    """With padding at the end, exchanging place and symbol exchanges their shares."""
    rng = np.random.default_rng(4)
    ends = rng.integers(2, 6, 40)
    symbols = np.where(np.arange(6) < ends[:, None], rng.integers(1, 4, (40, 6)), 0)
    values = rng.normal(size=(40, 6, 3)) + symbols[..., None] + np.arange(6)[:, None]
    found = classify_units(values, symbols).shares
    np.testing.assert_allclose(found.sum(axis=1), 1)
    count = np.bincount(symbols.ravel()).min()
    assert count > 0
    design = [np.eye(6)[np.tile(np.arange(6), 40)], np.eye(4)[symbols.ravel()]]
    flat = values.reshape(-1, 3) - values.mean(axis=(0, 1))

    def explained(columns: NDArray[Any]) -> NDArray[Any]:
        fitted = columns @ np.linalg.lstsq(columns, flat, rcond=None)[0]
        return (fitted**2).sum(0) / (flat**2).sum(0)

    place, symbol, both = map(explained, (*design, np.hstack(design)))
    np.testing.assert_allclose(found[:, 0], (place + both - symbol) / 2)
    np.testing.assert_allclose(found[:, 1], (symbol + both - place) / 2)


def test_roles_of_little_data() -> None:
    """One step, one symbol, one unit, or nothing that place and symbol explain, are no errors."""
    rng = np.random.default_rng(0)
    one = classify_units(rng.normal(size=(20, 1, 4)), np.full((20, 1), "a"))
    assert one.kinds == ("mixed",) * 4
    assert sorted(one.order) == [0, 1, 2, 3]
    by_sample = np.array([1.0, 1.0, -1.0, -1.0])[:, None] * np.array([[1.0, 1.0]])
    values = np.stack([by_sample, by_sample * [1, -1], np.array([[0.0, 1.0]] * 4)], axis=-1)
    found = classify_units(values, [["a", "b"], ["b", "a"]] * 2)
    np.testing.assert_allclose(found.shares, [[0, 0, 1], [0, 0, 1], [1, 0, 0]], atol=1e-12)
    assert sorted(found.order) == [0, 1, 2]
    assert classify_units(np.zeros((1, 1, 1)), [["a"]]).kinds == ("constant",)
    still = classify_units(np.full((3, 7, 2), [0.1, 0.7]), np.full((3, 7), "a"))
    assert (still.kinds, len(still.order), still.shares.any()) == (("constant",) * 2, 0, False)
    with pytest.raises(ValueError, match=r"symbols: shape \(4, 1\) does not go with values"):
        classify_units(values, np.zeros((4, 1)))
    with pytest.raises(ValueError, match=r"values: shape \(4, 2\) .*\(sample, time, unit\)"):
        classify_units(by_sample, by_sample)


def test_a_patched_unit_moves_only_its_place() -> None:
    """A unit that alone decides one place of the answer changes that place, and gives it over."""
    rnn = layer("lstm")
    with torch.no_grad():
        rnn.weight_hh_l0.zero_()
    x, last = inputs(50, 3, 4), 2

    def respond() -> Tensor:
        h = rnn(x)[0][:, -1]
        return torch.stack([h[:, 4] > 0, torch.zeros(50), h[:, 1] > 0], dim=1).long()

    found = patch_units(rnn, respond, last)
    decides = np.zeros((UNITS, 3), bool)
    decides[4, 0] = decides[1, 2] = True
    np.testing.assert_array_equal(found.changed > 0, decides)
    np.testing.assert_array_equal(found.adopted, decides)
    np.testing.assert_array_equal(found.full_state, [1, 0, 1])  # nobody differs in the middle
    assert (found.positions, found.time, found.num_samples) == (("1", "2", "3"), last, 50)
    places = np.tile([3, -1, 0], (50, 1))
    named = patch_units(rnn, respond, last, positions=places, position_name="column")
    assert named.positions == ("0", "1", "2", "3")
    np.testing.assert_array_equal(named.changed, found.changed[:, [2, 1, 1, 0]])
    assert patch_units(rnn, respond, last, positions=places * 0 - 1).changed.shape == (UNITS, 0)


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_all_units_carry_over_what_is_read_from_final_states(kind: str, num_layers: int) -> None:
    """Of a read-out of the final states of both directions, all goes through all units."""
    rnn, x = layer(kind, bidirectional=True, num_layers=num_layers), inputs(40, 4, 4)

    def respond() -> Tensor:
        state = rnn(x)[1]
        return (state[0] if kind == "lstm" else state)[-2:, :, :2].transpose(0, 1).flatten(1)

    forwards, backwards = (
        patch_units(rnn, respond, 3, layer=num_layers - 1, direction=direction, tolerance=1e-9)
        for direction in (0, 1)
    )
    assert forwards.full_state.tolist() == backwards.full_state.tolist() == [1] * 4
    read = np.zeros((UNITS, 4), bool)
    read[[0, 1], [0, 1]] = True
    np.testing.assert_array_equal(forwards.adopted, read)
    np.testing.assert_array_equal(backwards.adopted, read[:, [2, 3, 0, 1]])


def test_errors_of_patching() -> None:
    """A step beyond the last, a layer that is not there and a single sample are ValueErrors."""
    rnn, x = layer("gru", num_layers=2), inputs()

    def respond() -> Tensor:
        return (rnn(x)[0][:, :, 0] > 0).long()

    for time in (-1, 5):
        with pytest.raises(ValueError, match=f"time: {time} is not accepted; accepted: 0 to 4"):
            patch_units(rnn, respond, time)
    with pytest.raises(ValueError, match="layer 2 is not accepted; accepted: 0 to 1"):
        patch_units(rnn, respond, 0, layer=2)
    with pytest.raises(ValueError, match="direction 1 is not accepted; accepted: 0 to 0"):
        patch_units(rnn, respond, 0, direction=1)
    with pytest.raises(ValueError, match="1 samples; accepted: 2 or more"):
        patch_units(rnn, lambda: respond()[:1], 0)
    found = patch_units(rnn, respond, 1, layer=1)
    assert not found.changed[:, 0].any()  # the past stays
