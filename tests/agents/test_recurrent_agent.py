"""The views of the adder's layers, its interventions, and the comparison of two adders."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import tasks
from agents.core.analysis.comparison import compare
from agents.core.inspection import recurrent
from agents.seq2seq_adder import Seq2SeqAdder
from tasks.core.settings import ConfigError
from tasks.core.task import Task, TextPairs
from tests.conftest import in_double, same, small_agent, weights, wild
from tests.helpers.drawing import Drawn
from tests.visualization.recurrent.test_cells import assert_close
from visualization import render
from visualization.recurrent import Edit

CELLS = ("lstm", "gru", "rnn")
DRAWN = Drawn()
VIEWS = ("ablation", "cells", "roles", "probes", "gates", "patching", "intervention", "matches",
         "paths")  # fmt: skip
RELEVANCE = ("question_relevance", "gate_paths")  # which have tests of their own
GENERAL = ("weights", "dead_units", "landscape", "embedding")  # of any agent
QUESTION, DONOR = "12+345", "678+9"


@pytest.fixture(autouse=True)
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at few samples, so that a view takes little time."""
    monkeypatch.setattr(recurrent, "NUM_SAMPLES", 100)
    monkeypatch.setattr(recurrent, "NUM_SHOWN", 5)
    monkeypatch.setattr(recurrent, "NUM_PATHS", 80)


def adder(**settings: Any) -> Seq2SeqAdder:
    """Return an adder whose weights are large, so that what it writes depends on what it read."""
    agent = small_agent(**({"task": "add3x2"} | settings))
    assert isinstance(agent, Seq2SeqAdder)
    wild(agent)
    return agent


def written(agent: Seq2SeqAdder, batch: TextPairs) -> tuple[Tensor, Tensor, Tensor]:
    """Return states (L, N, A, U), logits and codes that a loop by hand finds."""
    model = agent.model
    question = torch.as_tensor(batch.question).long()
    with torch.inference_mode():
        output, state = model.encoder(model.characters(question))
        if model.repeats:
            read, state = output[:, -1:], None
        code = torch.zeros(len(question), 1, dtype=torch.long)
        states, logits, codes = [], [], []
        for _ in range(model.answer_length):
            output, state = model.decoder(read if model.repeats else model.characters(code), state)
            states.append(state[0] if isinstance(state, tuple) else state)
            logits.append(model.readout(output[:, 0]))
            code = logits[-1].argmax(-1, keepdim=True)
            codes.append(code)
    return torch.stack(states, dim=2), torch.stack(logits, dim=1), torch.cat(codes, dim=1)


@pytest.mark.parametrize("encoding", ["one_hot", "embedding"])
@pytest.mark.parametrize("decoder", ["states", "repeat"])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_traces_are_those_of_a_loop(
    cell: str, num_layers: int, decoder: str, encoding: str
) -> None:
    """Free-running states, logits and characters equal a step-by-step loop by hand."""
    agent = adder(cell=cell, num_layers=num_layers, decoder=decoder, encoding=encoding)
    in_double(agent)
    batch = agent.task.samples("test", 20)
    study = agent.observe(batch)
    states, logits, codes = written(agent, batch)
    assert logits.std(dim=0).max() > 0.01  # no two samples are the same
    assert_close(study.traces["decoder"].h, states, 1e-9)
    assert_close(study.answer(), (codes, logits), 1e-9)
    question = agent.model.characters(torch.as_tensor(batch.question).long())
    encoded = study.traces["encoder"].h[-1]
    assert_close(encoded, agent.model.encoder(question)[0].detach(), 1e-9)
    encoder, second = study.recurrent
    text = np.array(list(study.characters))
    assert encoder.output_text is None
    np.testing.assert_array_equal(encoder.input_text, text[batch.question])
    np.testing.assert_array_equal(second.output_text, text[codes])
    before = text[np.pad(codes[:, :-1], ((0, 0), (1, 0)))]
    nothing = np.full(before.shape, "")
    np.testing.assert_array_equal(second.input_text, nothing if decoder == "repeat" else before)
    assert second.text is (second.output_text if decoder == "repeat" else second.input_text)
    right = (codes.numpy() == batch.answer).all(axis=1)
    np.testing.assert_array_equal(study.correct, right)
    assert study.labels[0].startswith(agent.task.rows(batch.answer, batch)[0].question + " = ")


def remembered(agent: Seq2SeqAdder) -> dict[str, Any]:
    """Return everything that looking must not change."""
    model = agent.model
    return {
        "bits": weights(agent),
        "gradients": {n: p.grad.clone() for n, p in model.named_parameters()},
        "asks": [p.requires_grad for p in model.parameters()],
        "modes": [m.training for m in model.modules()],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        "own": [sorted(vars(m)) for m in model.modules()],
        "torch": torch.get_rng_state().tolist(),
        "numpy": str(np.random.get_state()),  # noqa: NPY002 - the global one, which none may touch
    }


def demand_untouched(agent: Seq2SeqAdder, before: dict[str, Any]) -> None:
    after = remembered(agent)
    for name in ("bits", "gradients"):
        assert same(before.pop(name), after.pop(name))
    assert before == after


@pytest.mark.parametrize(
    "settings",
    [
        {"cell": "lstm", "num_layers": 2},
        pytest.param({"cell": "gru", "decoder": "repeat"}, marks=pytest.mark.slow),
        pytest.param({"cell": "rnn", "hidden_size": 5}, marks=pytest.mark.slow),
        {"cell": "lstm", "decoder": "repeat", "hidden_size": 1},
        pytest.param(
            {"cell": "rnn", "decoder": "repeat", "hidden_size": 2, "task": "add1x2"},
            marks=pytest.mark.slow,
        ),
    ],
    ids=str,
)
def test_every_view_is_drawn_and_leaves_no_trace(settings: dict[str, Any]) -> None:
    """Each view of each kind of cell and decoder gives records that render draws, and no more."""
    agent = adder(**settings).learn(2)
    agent.model.train()
    agent.model.decoder.eval()
    names = set(agent.views())
    assert names == {*VIEWS, *GENERAL, *RELEVANCE}
    assert [*agent.inspect(["wrong_answers"]).records] == ["wrong_answers"]
    rows = settings.get("num_layers", 1) * 2
    for name in VIEWS:
        before = remembered(agent)
        found = agent.inspect([name])
        demand_untouched(agent, before)
        if name not in ("cells", "patching", "intervention"):
            has_none = name == "gates" and settings["cell"] == "rnn"
            assert len(found[name]) == (0 if has_none else rows)
        if settings.get("hidden_size", 16) > 2:  # a single unit is drawn, and is hardest
            found = DRAWN.new_in(found)
        for _, record in found.flat():
            assert render.png(render.draw(record), dpi=20).startswith(b"\x89PNG")
            assert isinstance(render.text(record), str)


@pytest.mark.parametrize("name", VIEWS)
def test_an_exception_inside_a_view_leaves_no_trace(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a view is doing when it fails, the agent is as before."""
    agent = adder(hidden_size=4).learn(1)
    agent.model.train()
    before, calls = remembered(agent), []
    readout = type(agent.model.readout).forward

    def fail(self: Any, x: Tensor) -> Tensor:
        calls.append(x)
        if len(calls) > 7:  # the answers are written, the view is at work
            torch.rand(1)
            raise KeyError("in the view")
        return readout(self, x)

    monkeypatch.setattr(type(agent.model.readout), "forward", fail)
    with pytest.raises(KeyError, match="in the view"):
        agent.inspect([name])
    monkeypatch.undo()
    demand_untouched(agent, before)


@pytest.mark.parametrize(
    "settings",
    [pytest.param({"dropout": 0.5, "num_layers": 2}, marks=pytest.mark.slow), {"cell": "gru"}],
    ids=str,
)
def test_looking_midway_does_not_change_the_run(settings: dict[str, Any]) -> None:
    """A run in which every view is made at every evaluation ends with the same bits."""
    plain = small_agent(**settings, hidden_size=4, record_diagnostics=False).learn()
    watched = small_agent(**settings, hidden_size=4, record_diagnostics=False)
    task_score, looks = type(watched.task).score, []

    def score(self: Task, *arguments: object) -> dict[str, float]:
        looks.append(watched.inspect())
        return task_score(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(watched.task), "score", score)
        watched.learn()
    assert len(looks) == 3
    assert set(looks[0].records) == {
        "summary",
        "learning_curves",
        "wrong_answers",
        *GENERAL,
        *VIEWS,
        *RELEVANCE,
    }
    assert same(weights(plain), weights(watched))


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("decoder", ["states", "repeat"])
@pytest.mark.parametrize("cell", CELLS)
def test_interventions(cell: str, decoder: str, num_layers: int) -> None:
    """Nothing changed changes nothing; a donor's whole state gives the donor's answer."""
    agent = adder(cell=cell, decoder=decoder, num_layers=num_layers).learn(1)
    in_double(agent)
    before = remembered(agent)
    answers = [agent.predict(text) for text in (QUESTION, DONOR)]
    plain = agent.intervene(QUESTION)
    assert (plain.question, plain.before, plain.after) == (QUESTION, answers[0], answers[0])
    assert plain.changes == ()
    np.testing.assert_array_equal(*plain.probabilities)
    np.testing.assert_allclose(plain.probabilities.sum(-1), 1)
    given, other = (agent.intervene(text).probabilities[0] for text in (QUESTION, DONOR))
    assert np.abs(given - other).max() > 1e-3
    done = agent.intervene(QUESTION, donor=DONOR)
    assert (done.before, done.after) == tuple(answers)
    np.testing.assert_allclose(done.probabilities, [given, other], atol=1e-9)
    assert len(done.changes) == 1
    own = agent.intervene(QUESTION, donor=QUESTION, part="decoder", units=[3, 0], time=1)
    np.testing.assert_allclose(own.probabilities[1], given, atol=1e-9)
    trace = agent.observe(agent.task.encode([QUESTION])).traces["encoder"]
    c = None if trace.c is None else trace.c[0, :, 4, [1, 7]]
    edit = Edit(units=[1, 7], time=4, h=trace.h[0, :, 4, [1, 7]], c=c)
    np.testing.assert_allclose(
        agent.intervene(QUESTION, {"encoder": edit}).probabilities[1], given, atol=1e-9
    )
    edits = {"encoder": [Edit(h=0.9)], "decoder": [Edit(scale=0.1), Edit(units=[0], h=1.0)]}
    strong = agent.intervene(QUESTION, edits)
    assert len(strong.changes) == 3
    assert np.abs(strong.probabilities[1] - given).max() > 1e-3
    demand_untouched(agent, before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"part": "encodr"}, "part: 'encodr' is not a part; .* did you mean encoder"),
        ({"edits": {"decodr": Edit(h=0.0)}}, "did you mean decoder"),
        ({"edits": {"decoder": Edit(units=[16], h=0.0)}}, "units 16 .* accepted: 0 to 15"),
        ({"edits": {"decoder": Edit(layer=1, h=0.0)}}, "layer 1 .* accepted: 0 to 0"),
        ({"units": [16]}, "units: 16 is not a unit; accepted: 0 to 15"),
        ({"units": [-1]}, "units: -1 is not a unit; accepted: 0 to 15"),
        ({"units": []}, "units: empty; accepted: numbers of units"),
        ({"units": [3], "donor": None}, "units: go with donor"),
        ({"layer": 1}, "layer: 1 is not a layer; accepted: 0 to 0"),
        ({"edits": {"decoder": Edit(time=9, h=0.0)}}, "time: 9 is not a step"),
        ({"time": 8}, "time: 8 is not a step; accepted: -8 to 7"),
        ({"time": -9}, "time: -9 is not a step; accepted: -8 to 7"),
        ({"donor": "1+x"}, "'x' is neither a digit nor a plus"),
        ({"question": "1+2+3"}, "3 terms; accepted: a\\+b"),
    ],
    ids=str,
)
def test_errors_of_interventions(settings: dict[str, Any], message: str) -> None:
    """A wrong part, unit, layer, step or question is a ValueError that says what is accepted."""
    agent = adder().learn(1)
    before = remembered(agent)
    with pytest.raises(ValueError, match=message):
        agent.intervene(**({"question": QUESTION, "donor": DONOR} | settings))
    demand_untouched(agent, before)


def test_an_agent_beside_itself() -> None:
    """Nobody is right alone, the p-value is 1, and every unit that varies is its own match."""
    agent = adder(num_layers=2).learn(1)
    before = remembered(agent)
    report = compare(agent, agent)
    demand_untouched(agent, before)
    answers = report["answers"]
    counts = answers.counts
    assert (counts["only_a"], counts["only_b"]) == (0, 0)
    assert answers.p_value == 1
    assert answers.names == ("the first", "the second")
    assert all(group.right_a == group.right_b for held in answers.groups.values() for group in held)
    assert set(report["units"]) == {"encoder", "decoder"}
    for match in report["units"].values():
        assert match.matched.shape == (32,)
        np.testing.assert_allclose(match.matched, 1, atol=1e-6)
        assert (match.pairs[:, 0] == match.pairs[:, 1]).all()
    for _, record in report.flat():
        assert render.png(render.draw(record), dpi=20).startswith(b"\x89PNG")


class Oracle:
    """Answers as told: right, but for the sums and columns that it is told to get wrong."""

    def __init__(self, agent: Seq2SeqAdder, wrong: list[str], column: int) -> None:
        self.agent, self.wrong, self.column = agent, wrong, column

    def __call__(self, batch: TextPairs) -> Tensor:
        """Return answers in codes."""
        task = self.agent.task
        batch = TextPairs(*(np.asarray(values) for values in batch))
        answers = batch.answer.copy()
        columns = task.probe_targets(batch).decoder["column"]
        for at, row in enumerate(task.rows(batch.answer, batch)):
            if row.question in self.wrong:
                place = columns[at] == self.column
                answers[at, place] = (answers[at, place] - 1) % 10 + 2  # another digit
        return torch.as_tensor(answers)


def test_reversed_against_plain_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adders that read and write in other directions are asked the same; places are columns."""
    plain = adder(task=tasks.make("add3x2", reverse="none"))
    other = adder(task=tasks.make("add3x2", reverse="both"))
    batch = plain.task.samples("test", 300)
    questions = [row.question for row in plain.task.rows(batch.answer, batch)]
    monkeypatch.setattr("agents.core.analysis.comparison.NUM_QUESTIONS", 300)
    for agent, wrong, column in ((plain, questions[:20], 0), (other, questions[15:50], 1)):
        monkeypatch.setattr(agent, "predict_batch", Oracle(agent, wrong, column), raising=True)
    found = compare(plain, other)["answers"]
    long = [question for question in questions[15:50] if sum(map(int, question.split("+"))) > 9]
    wrong_b, wrong_a = set(long), set(questions[:20])
    wanted = [len(wrong_b - wrong_a), len(wrong_a - wrong_b), len(wrong_a & wrong_b)]
    assert [found.counts[name] for name in ("only_a", "only_b", "neither")] == wanted
    assert sum(found.counts.values()) == len(questions) == 300
    assert set(found.labels) == set(questions)
    columns = found.groups["column"]
    assert [group.value for group in columns] == ["0", "1", "2", "3"]
    assert columns[0].right_a == pytest.approx(1 - 20 / 300)
    assert columns[1].right_b == pytest.approx(1 - len(long) / columns[1].num_samples)
    assert [columns[k].right_a for k in (1, 2, 3)] == [1, 1, 1]
    assert [columns[k].right_b for k in (0, 2, 3)] == [1, 1, 1]
    assert "reverse=none" in found.names[0]
    assert "reverse=both" in found.names[1]


def test_adders_of_different_tasks_are_not_compared() -> None:
    """Comparing agents on different tasks is a ConfigError that names both."""
    with pytest.raises(ConfigError, match=r"add2x2.*add3x2"):
        compare(adder(), adder(task="add2x2"))


def test_adders_of_different_sizes_and_cells_are_compared() -> None:
    """Layers of other sizes and kinds match as many units as the smaller one has."""
    report = compare(adder(hidden_size=3), adder(hidden_size=5, cell="gru", decoder="repeat"))
    for match in report["units"].values():
        assert match.correlations.shape == (3, 5)
        assert len(match.pairs) == len(match.chance) == 3
