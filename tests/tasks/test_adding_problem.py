"""The adding problem: right sums, stages, fixed sets, and a network that answers with a number."""

import math
from typing import Any

import numpy as np
import pytest
import torch

import agents
import tasks
from agents.configs.adding_lstm import AddingConfig
from agents.core.agent import Agent
from agents.core.layers import chrono_biases, forget_biases, identity_weights, recurrent
from tasks.core.batch import map_arrays
from tasks.core.settings import ConfigError
from tests.conftest import small_agent
from visualization import render
from visualization.recurrent import Edit, patch_units

TEXT = "0.25 0.5* 0.125 0.75*"
FIXED = {"length": 40, "num_samples": 50, "validation": 0.2}


@pytest.mark.parametrize("settings", [{}, {"num_samples": 5000}], ids=str)
def test_numbers_are_sums_of_two_marked_ones(settings: dict[str, Any]) -> None:
    """Exactly two steps are marked, anywhere, and their even draws from [0, 1) make the number."""
    task = tasks.make("adding_problem", length=12, **settings)
    series, number = task.samples("train", 4000)
    assert series.dtype == number.dtype == np.float32
    assert series.shape == (4000, 12, 2)
    assert set(np.unique(series[..., 1])) == {0.0, 1.0}
    assert (series[..., 1].sum(axis=1) == 2).all()
    marked = [[value for value, mark in row if mark] for row in series.astype(float)]
    np.testing.assert_allclose(number[:, 0], np.sum(marked, axis=1), atol=1e-6)
    assert series[..., 0].min() >= 0
    assert series[..., 0].max() < 1
    assert abs(series[..., 0].mean() - 1 / 2) < 0.01
    assert abs(series[..., 0].var() - 1 / 12) < 0.001
    assert np.abs(series[..., 1].mean(axis=0) - 2 / 12).max() < 0.03  # no step is favoured


def test_scores_of_known_answers() -> None:
    """Always 1 has an error of 1/6; errors of 0.03 and 0.05 lie on either side of 0.04."""
    task = tasks.make("adding_problem", length=5)
    batch = task.samples("test", 100_000)
    assert task.score(np.ones((100_000, 1)), batch)["mse"] == pytest.approx(1 / 6, abs=0.003)
    four = task.samples("test", 4)
    found = task.score(four.number + np.array([[0.03], [-0.05], [-0.03], [0.05]]), four)
    assert found == {"mse": pytest.approx(0.0017), "within_0.04": 0.5}
    rows = task.rows(four.number + np.array([[0.03], [-0.05], [-0.03], [0.05]]), four)
    assert [row.correct for row in rows] == [True, False, True, False]


def test_stages_grow_up_to_the_length() -> None:
    """A stage's batches are longer than the stage before's; the last's are of the full length."""
    task = tasks.make("adding_problem", length=60)
    assert task.lengths == (10, 20, 40, 60)
    assert task.num_stages == 4
    before = 1
    for stage, longest in enumerate(task.lengths[:-1]):
        batches = task.batches("train", 200, 0, 0, 0, stage)
        assert {b.series.shape[1] for b in batches} == set(range(before + 1, longest + 1))
        before = longest
    for stage in (None, task.num_stages - 1):
        assert {b.series.shape[1] for b in task.batches("train", 999, 0, 0, 0, stage)} == {60}
    assert {b.series.shape[1] for b in task.batches("validation", 999, 0, 0, 0, 0)} == {60}
    assert task.samples("train", 3).series.shape == (3, 60, 2)
    short = tasks.make("adding_problem", length=7)
    assert (short.lengths, short.num_stages, short.for_display()) == ((7,), 1, short)
    assert task.for_display().length == 30


def test_a_fixed_set_is_gone_through_once_an_epoch() -> None:
    """Each epoch has the same training series in another order, and none of the withheld ones."""
    task = tasks.make("adding_problem", **FIXED)
    assert [task.num_samples_in(split) for split in ("train", "validation")] == [40, 10]
    epochs = []
    for epoch in (0, 1):
        batches = list(task.batches("train", 16, 0, epoch))
        assert [len(b.series) for b in batches] == [16, 16, 8]
        epochs.append([row.tobytes() for b in batches for row in b.series])
    assert epochs[0] != epochs[1]
    held = {row.tobytes() for row in task.samples("train", 1000, seed=9).series}
    assert set(epochs[0]) == set(epochs[1]) == held
    assert len(held) == 40
    withheld = {row.tobytes() for row in task.samples("validation", 1000).series}
    assert len(withheld) == 10
    assert not withheld & held
    for split, num in (("validation", 10), ("test", 1000)):
        assert len(task.samples(split, 1000).series) == num


def test_a_fixed_sets_short_series_are_the_beginnings() -> None:
    """At an earlier stage the numbers are those of the same series, with marks of their own."""
    task = tasks.make("adding_problem", **FIXED)
    whole = {row[:2, 0].tobytes(): row for row in task.samples("train", 40).series}
    for batch in task.batches("train", 8, 3, 5, 0, 0):
        for row in batch.series:
            assert len(row) <= 10
            long = whole[row[:2, 0].tobytes()]
            np.testing.assert_array_equal(row[:, 0], long[: len(row), 0])
            assert row[:, 1].sum() == 2


def test_series_are_typed_or_held() -> None:
    """A text and an array give the same batch; shorter ones get unmarked zeros in front."""
    task = tasks.make("adding_problem")
    array = np.array([[0.25, 0], [0.5, 1], [0.125, 0], [0.75, 1]])
    for one in (TEXT, f"  {TEXT}\n", array, array.tolist()):
        batch = task.encode([one])
        np.testing.assert_array_equal(batch.series, array[None])
        assert batch.number.tolist() == [[1.25]]
    padded = task.encode(["0* 1*", array])
    assert padded.series[0].tolist() == [[0, 0], [0, 0], [0, 1], [1, 1]]
    assert padded.number.tolist() == [[1.0], [1.25]]
    assert task.decode(np.array([[0.123456], [-1.0]])) == ["0.1235", "-1.0000"]
    written = [row.question for row in task.rows(padded.number, padded)]
    assert written == ["0.0000 0.0000 0.0000* 1.0000*", "0.2500 0.5000* 0.1250 0.7500*"]
    again = task.encode(written)
    np.testing.assert_array_equal(again.series, padded.series)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "0 numbers; accepted: numbers from 0 to 1 with a star behind two of them"),
        ("0.5*", "1 numbers; accepted: numbers from 0 to 1"),
        ("0.5 0.5", "0 numbers have a star; accepted: .* two of them"),
        ("0.5* 0.5", "1 numbers have a star"),
        ("0.5* 0.5* 0.5*", "3 numbers have a star"),
        ("0.5* 1.5* 0", r"'1\.5\*' is out of range"),
        ("0.5* -0.1 0.5*", r"'-0\.1' is out of range"),
        ("0.5* nan 0.5*", "'nan' is out of range"),
        ("0.5* half 0.5*", "'half' is not a number"),
        ("0.5** 0.5*", r"'0\.5\*\*' is not a number"),
        ("0.5* *", r"'\*' is not a number"),
        (7, r"shape \(\) is not accepted; accepted: .*\(steps, 2\)"),
        (None, r"shape \(\) is not accepted"),
        (set(), "type set contains something that is not a number"),
        (
            torch.zeros(3, 2, requires_grad=True),
            "type Tensor contains something that is not a number",
        ),
        (np.zeros((3, 3)), r"shape \(3, 3\) is not accepted"),
        (np.ones((1, 2)), r"shape \(1, 2\) is not accepted"),
        (np.array([[0.5, 1], [2.0, 1]]), "the number 2 is out of range"),
        (np.array([[np.nan, 1], [0.5, 1]]), "the number nan is out of range"),
        (np.array([[0.5, 0.5], [0.5, 1]]), "the mark 0.5 is out of range"),
        (np.array([[0.5, 1], [0.5, 0]]), "1 numbers are marked; accepted: two marks"),
    ],
    ids=str,
)
def test_what_is_no_series_is_refused(given: Any, message: str) -> None:
    """Other input is an error that names the value and says what is accepted."""
    with pytest.raises(ConfigError, match=message):
        tasks.make("adding_problem").encode([TEXT, given])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"length": 1}, "length: 1 is out of range; accepted: an integer ≥ 2 and ≤ 100000"),
        ({"num_samples": -1}, "num_samples: -1 is out of range"),
        ({"num_samples": 9}, "9 series are too few to withhold 0.1 of; accepted: 0, or .* ≥ 10"),
        ({"validation": 0.0}, "validation: 0.0 is out of range"),
    ],
    ids=str,
)
def test_errors_of_settings(settings: dict[str, Any], message: str) -> None:
    """A length of one step, and a set too small to withhold from, are errors."""
    with pytest.raises(ConfigError, match=message):
        tasks.make("adding_problem", **settings)


def test_quantities_of_a_known_series() -> None:
    """Value, mark, marks and sum so far, and position, at each step."""
    known = tasks.make("adding_problem").probe_targets(tasks.make("adding_problem").encode([TEXT]))
    assert {name: values.tolist() for name, values in known.encoder.items()} == {
        "value": [[0.25, 0.5, 0.125, 0.75]],
        "marked": [[0, 1, 0, 1]],
        "marked so far": [[0, 1, 1, 2]],
        "sum so far": [[0.0, 0.5, 0.5, 1.25]],
        "position": [[0, 1, 2, 3]],
    }
    assert known.position_keys == ("position", "")


def test_forget_gates_begin_open() -> None:
    """The two biases of each forget gate add up to the given one; the other gates keep theirs."""
    torch.manual_seed(0)
    rnn = recurrent("lstm", 2, 5, 2)
    before = [rnn.bias_ih_l1.clone(), rnn.bias_hh_l1.clone()]
    forget_biases(rnn, 1.5)
    for layer in range(2):
        total = getattr(rnn, f"bias_ih_l{layer}") + getattr(rnn, f"bias_hh_l{layer}")
        assert total[5:10].tolist() == [1.5] * 5
    others = [0, 4, 10, 19]
    assert torch.equal(before[0][others], rnn.bias_ih_l1[others])
    assert torch.equal(before[1][others], rnn.bias_hh_l1[others])


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_chrono_units_forget_over_all_times(cell: str) -> None:
    """Without weights a unit's state decays over T steps, T even from 1 to the longest."""
    torch.manual_seed(0)
    rnn = recurrent(cell, 2, 4000, 1)
    chrono_biases(rnn, 101)
    total = (rnn.bias_ih_l0 + rnn.bias_hh_l0).detach()
    keeps = total[4000:8000].sigmoid()  # the share of the state that is left after a step
    times = 1 / (1 - keeps)  # steps, of the exponential decay
    assert 2 <= times.min() < 3
    assert 100 < times.max() <= 101 + 1e-2
    assert abs(times.mean() - 51.5) < 1.5
    if cell == "lstm":
        np.testing.assert_array_equal(total[:4000], -total[4000:8000])
        assert not total[8000:].any()


@pytest.mark.parametrize("cell", ["rnn", "relu_rnn"])
def test_identity_weights_keep_the_state(cell: str) -> None:
    """An IRNN that reads nothing keeps a positive state, times the scale at each step."""
    torch.manual_seed(0)
    rnn = recurrent(cell, 2, 50, 2)
    identity_weights(rnn, 0.5)
    assert 0.0008 < rnn.weight_ih_l0.std().item() < 0.0012
    state = torch.rand(2, 1, 50)
    with torch.no_grad():
        rnn.weight_ih_l1.zero_()
        left = rnn(torch.zeros(1, 3, 2), state)[1]
    keep = (lambda h: torch.tanh(0.5 * h)) if cell == "rnn" else (lambda h: 0.5 * h)
    torch.testing.assert_close(left, keep(keep(keep(state))))


@pytest.mark.parametrize(
    ("cell", "init", "message"),
    [
        (
            "gru",
            "forget_bias",
            "'forget_bias' cannot be combined with cell=gru; accepted: default or chr",
        ),
        ("rnn", "forget_bias", "accepted: default or identity; or cell=lstm"),
        ("relu_rnn", "chrono", "accepted: default or identity; or cell=lstm or gru"),
        ("lstm", "identity", "accepted: default or forget_bias or chrono; or cell=rnn or relu_rnn"),
    ],
)
def test_initialisations_that_do_not_fit_are_refused(cell: str, init: str, message: str) -> None:
    """An initialisation of gates that a cell has not is an error that says what fits."""
    with pytest.raises(ConfigError, match=f"init: .*{message}"):
        AddingConfig(cell=cell, init=init)
    for fitting in ("default", {"lstm": "chrono", "gru": "chrono"}.get(cell, "identity")):
        assert AddingConfig(cell=cell, init=fitting).init == fitting


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize(
    ("cell", "init"), [("lstm", "default"), ("lstm", "forget_bias"), ("gru", "chrono"),
                       ("rnn", "default"), ("relu_rnn", "identity")],
)  # fmt: skip
def test_every_kind_of_cell_learns(cell: str, init: str, num_layers: int) -> None:
    """Each cell with each initialisation takes steps, and answers a typed series with a number."""
    agent = small_agent("adding_lstm", cell=cell, init=init, num_layers=num_layers, steps=2).learn()
    assert math.isfinite(float(agent.predict(TEXT)))
    assert agent.predict([TEXT, TEXT])[1] == agent.predict(
        np.array(agent.task.encode([TEXT])[0][0])
    )


@pytest.fixture(scope="module")
def trained() -> Agent:
    """Return an agent trained in stages, with one thread."""
    task = tasks.make("adding_problem", length=40)
    agent = agents.make(
        "adding_lstm", task=task, device="cpu", hidden_size=32, steps=700, eval_every=700,
        eval_samples=8, batch_size=32,
    )  # fmt: skip
    return agent.learn()


def test_stages_solve_the_adding_problem(trained: Agent) -> None:
    """Trained in stages it passes them all, and is right on other lengths too."""
    assert trained.state.cursor.stage == trained.task.num_stages - 1
    assert trained.evaluate(num=2000)["mse"] < 0.01
    assert abs(float(trained.predict(" ".join(["0.9"] * 18 + ["0.3*", "0.4*"]))) - 0.7) < 0.15


def test_a_donors_state_gives_the_donors_number(trained: Agent) -> None:
    """With all units as after another series the answer is the other's, and so are the odds."""
    batch = trained.task.samples("test", 2)
    texts = [row.question for row in trained.task.rows(batch.number, batch)]
    answers = trained.predict(texts)
    assert answers[0] != answers[1]
    changed = trained.intervene(texts[0], donor=texts[1])
    assert (changed.before, changed.after) == tuple(answers)
    marked = [[word[:-1] for word in text.split() if word.endswith("*")] for text in texts]
    assert changed.question == " + ".join(marked[0])
    (change,) = changed.changes
    assert change == "reader: all units as after step 39 of " + " + ".join(marked[1])
    tenths = np.array([float(name) for name in changed.characters])
    means = (changed.probabilities[:, 0] * tenths).sum(axis=1)
    np.testing.assert_allclose(means, np.clip(np.array(answers, float), 0, 2), atol=1e-4)
    assert ((changed.probabilities > 0).sum(axis=-1) <= 2).all()
    plain = trained.intervene(texts[0], {"reader": Edit(units=[0], scale=1.0)})
    assert plain.before == plain.after


def test_views_of_numbers(trained: Agent) -> None:
    """All units together carry over the answer, single ones part of it; symbols are readable."""
    report = trained.inspect(["patching", "matches", "ablation"])
    patching = report["patching"]["reader"]
    assert patching.full_state.tolist() == [1.0]
    assert 0 < patching.changed.max() < 1
    (text, *_) = report["matches"]["reader"].texts
    assert len(text) == 30
    assert text.count("·") == 28
    ranking = report["ablation"]["reader"]
    assert list(ranking.baseline) == ["within 0.04", "loss"]
    assert ranking.baseline["loss"] < 0.02
    assert ranking.change["loss"].max() > 0
    study = trained.observe(trained.task.encode([TEXT]))
    assert study.recurrent[0].input_text.tolist() == [["0.2 ", "0.5*", "0.1 ", "0.8*"]]
    assert study.recurrent[0].input_symbols.tolist() == [["·", "5", "·", "7"]]
    assert study.labels[0] == f"0.5000 + 0.7500 = {trained.predict(TEXT)}"
    for _, record in report.flat():
        assert render.png(render.draw(record), dpi=20).startswith(b"\x89PNG")


def test_patched_numbers_are_compared_with_tolerance() -> None:
    """A change within the tolerance is none, and an answer within it of the donor's is its own."""
    torch.manual_seed(0)
    rnn = recurrent("rnn", 2, 3, 1)
    x = torch.rand(20, 4, 2)
    with torch.no_grad():
        rnn.weight_hh_l0.zero_()
    size = torch.tensor([1.0, 1e-3, 0.0])

    def respond() -> torch.Tensor:
        return (rnn(x)[0][:, -1] * size).sum(-1, keepdim=True)

    exact = patch_units(rnn, respond, 3)
    near = patch_units(rnn, respond, 3, tolerance=4e-3)
    assert exact.changed[:, 0].tolist() == [1, 1, 0]
    assert exact.adopted[:, 0].tolist() == [0, 0, 0]
    assert near.changed[1:, 0].tolist() == [0, 0]
    assert near.changed[0, 0] > 0.8
    assert near.adopted[:, 0].tolist() == [1, 0, 0]
    assert exact.full_state.tolist() == near.full_state.tolist() == [1]


def test_gradients_stop_where_they_are_told_to() -> None:
    """With bptt_steps the loss stays; its gradient is that of a state handed over as it is."""
    batch = tasks.make("adding_problem", length=20).samples("train", 8)
    batch = batch._replace(series=np.float64(batch.series), number=np.float64(batch.number))
    batch = map_arrays(batch, torch.as_tensor)
    whole, cut, by_hand = (
        small_agent("adding_lstm", cell="lstm", bptt_steps=steps) for steps in (None, 5, None)
    )
    for agent in (whole, cut, by_hand):
        agent.model.double()
    for agent in (whole, cut):
        agent.model.train()
        agent.loss(batch).backward()
    assert whole.loss(batch).item() == pytest.approx(cut.loss(batch).item(), rel=1e-6)
    series, number = batch
    _, state = by_hand.model.recurrent(series[:, :15])
    held = tuple(part.detach() for part in state)
    output, _ = by_hand.model.recurrent(series[:, 15:], held)
    torch.nn.functional.mse_loss(by_hand.model.readout(output[:, -1]), number).backward()
    for name, parameter in by_hand.model.named_parameters():
        expected = dict(cut.model.named_parameters())[name].grad
        torch.testing.assert_close(parameter.grad, expected)
    assert not torch.allclose(
        whole.model.recurrent.weight_hh_l0.grad, cut.model.recurrent.weight_hh_l0.grad
    )
