"""Questions of the live page: its numbers are those that the agent gives without a page."""

import functools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agents.core.agent import Agent
from agents.core.inspection.live import live_of
from agents.core.inspection.live_questions import question_subject
from tests.conftest import small_agent, temporary_folder
from tests.helpers.fuzzed import BUFFERS, FIELDS, answered
from tests.helpers.images import unchanged
from visualization.live.session import Session
from visualization.recurrent import Edit

AGENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "two layers": ("seq2seq_adder", {"task": "add2x2", "num_layers": 2}),
    "gru, repeated": ("seq2seq_adder", {"task": "add2x2", "cell": "gru", "decoder": "repeat"}),
    "both directions": ("attention_adder", {"task": "add2x2", "bidirectional": True}),
    "fed": ("attention_adder", {"task": "add2x2", "context": "input"}),
    "transformer": ("transformer_adder", {"task": "add2x2", "d_model": 16}),
    "labels": ("parity_lstm", {}),
}  # fmt: skip
RECURRENT = [name for name in AGENTS if name != "transformer"]
QUESTION = {"parity_lstm": "0110100"}
UNIT, STEP = 3, 2


def made(name: str) -> tuple[Agent, str]:
    """Return an agent with weights that tell places apart, and a question."""
    agent_name, settings = AGENTS[name]
    agent = small_agent(agent_name, **settings)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for parameter in agent.model.parameters():
            parameter.normal_(0, 0.5)
    return agent, QUESTION.get(agent_name, "12+9")


class Asked:
    """A session on an agent's live page, and what it is asked."""

    def __init__(self, agent: Agent, question: str) -> None:
        self.session, self.question = Session(live_of(agent)), question
        (self.about,) = self.session.handle({"id": 1}).data["panels"]

    def call(self, name: str, **more: Any) -> Any:
        """Return the reply to a call."""
        asked = {"id": 1, "panel": "question", "call": name, "question": self.question, **more}
        return self.session.handle(asked)

    def frame(self, **more: Any) -> Any:
        """Return the reply to a frame of the first part, layer and head."""
        asked: dict[str, Any] = {}
        if self.about["parts"]:
            part = self.about["parts"][0]["name"]
            asked |= {"part": part, "layer": 0, "quantity": "h", "order": "number"}
            asked |= {"first": 0, "num": 100}
        if self.about["heads"]:
            asked |= {"head": self.about["heads"][0]}
        return self.call("frame", **asked | more)

    def cells(self, **more: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return values of the units (U, T), and those of the untouched run."""
        reply = self.frame(**more)
        num_steps = len(reply.data["cells"]["steps"])
        now, before = (
            np.frombuffer(buffer, "<f4").reshape(-1, num_steps) for buffer in reply.buffers[:2]
        )
        return now, before

    def weights(self, **more: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return attention (A, Q), and that of the untouched run."""
        reply = self.frame(**more)
        num_read = len(reply.data["attention"]["read"])
        now, before = (
            np.frombuffer(buffer, "<f4").reshape(-1, num_read) for buffer in reply.buffers[-2:]
        )
        return now, before


def said(agent: Agent, answer: Any) -> tuple[str, NDArray[Any]]:
    """Return text and probabilities of an answer, of each place the largest three."""
    if answer["kind"] == "classes":
        probabilities = np.array([answer["probabilities"]])
        return answer["names"][int(probabilities.argmax())], probabilities
    characters = answer["characters"]
    return answer["text"], np.array([[p for _, p in each["likeliest"]] for each in characters])


def expected(text: str, probabilities: NDArray[Any]) -> tuple[str, NDArray[Any]]:
    """Return the same of an intervention."""
    if len(probabilities) > 1:
        probabilities = -np.sort(-probabilities, axis=1)[:, :3]
    return text, probabilities


@pytest.mark.parametrize("name", AGENTS)
def test_without_a_change_the_answer_is_the_agents(name: str) -> None:
    """The answer is that of `predict`, with probabilities of `intervene`; no other is beside it."""
    agent, question = made(name)
    reply = Asked(agent, question).frame()
    text, probabilities = said(agent, reply.data["answer"])
    assert text == agent.predict(question)
    np.testing.assert_allclose(
        probabilities,
        expected(text, agent.intervene(question).probabilities[0])[1], rtol=1e-4, atol=1e-6,
    )  # fmt: skip
    assert reply.data["untouched"] is None


def edits_of(agent: Agent) -> list[tuple[dict[str, Any], dict[str, Edit]]]:
    """Return edits as the page sends them and as `intervene` takes them, in every part."""
    pairs = []
    for part in agent.observe(agent.task.samples("test", 1)).recurrent:
        own, name = part.layer, part.name
        num_directions = 2 if own.bidirectional else 1
        states = [{"h": 1.5}] if own.mode == "GRU" else [{"h": 1.5}, {"c": -2.0}]
        for row in range(own.num_layers * num_directions):
            layer, direction = divmod(row, num_directions)
            for values in states:
                sent = {"part": name, "layer": row, "unit": UNIT, "time": STEP, **values}
                edit = Edit(units=[UNIT], time=STEP, layer=layer, direction=direction, **values)
                pairs.append((sent, {name: edit}))
            zeros = {state: 0.0 for values in states for state in values}
            silent = Edit(units=[UNIT], layer=layer, direction=direction, **zeros)
            sent = {"part": name, "layer": row, "unit": UNIT, "time": None, **zeros}
            pairs.append((sent, {name: silent}))
    return pairs


@pytest.mark.parametrize("name", RECURRENT)
def test_a_change_of_a_unit_is_that_of_intervene(name: str) -> None:
    """In every part, layer and direction the answer is that of `intervene`, beside the former."""
    agent, question = made(name)
    asked = Asked(agent, question)
    for sent, edit in edits_of(agent):
        reply = asked.frame(edits=[sent])
        intervention = agent.intervene(question, edit)
        answers = [reply.data[key] for key in ("untouched", "answer")]
        texts = (intervention.before, intervention.after)
        for answer, text, wanted in zip(answers, texts, intervention.probabilities, strict=True):
            text_shown, probabilities = said(agent, answer)
            assert text_shown == text
            np.testing.assert_allclose(
                probabilities, expected(text, wanted)[1], rtol=1e-4, atol=1e-6
            )


@pytest.mark.parametrize("name", RECURRENT)
def test_a_change_is_seen_from_its_step_on(name: str) -> None:
    """States before the step are as they were, the unit has its value, and later ones change."""
    agent, question = made(name)
    asked = Asked(agent, question)
    part = asked.about["parts"][0]["name"]
    edit = {"part": part, "layer": 0, "unit": UNIT, "time": STEP, "h": 1.5}
    now, before = asked.cells(edits=[edit])
    np.testing.assert_allclose(now[:, :STEP], before[:, :STEP], atol=1e-6)
    assert now[UNIT, STEP] == 1.5
    others = np.arange(len(now)) != UNIT
    np.testing.assert_allclose(now[others, STEP], before[others, STEP], atol=1e-6)
    assert np.abs(now[:, STEP + 1] - before[:, STEP + 1]).max() > 1e-3


def test_cells_are_the_trace_and_rows_are_sorted() -> None:
    """Values are those of the agent's own trace, of the rows and in the order asked for."""
    agent, question = made("two layers")
    asked = Asked(agent, question)
    trace = agent.observe(agent.task.encode([question])).traces["decoder"]
    shown = {"part": "decoder", "layer": 1, "quantity": "f"}
    gate = trace.gates["f"][1, 0].numpy().T
    np.testing.assert_allclose(asked.cells(**shown)[0], gate, atol=1e-6)
    order = np.argsort(-np.abs(gate).max(1))
    strongest = {**shown, "order": "strongest", "first": 2, "num": 3}
    np.testing.assert_allclose(asked.cells(**strongest)[0], gate[order[2:5]], atol=1e-6)
    edit = {"part": "decoder", "layer": 1, "unit": 7, "time": None, "h": 0, "c": 0}
    changed = asked.frame(**{**shown, "quantity": "h", "order": "change"}, edits=[edit])
    before = trace.h[1, 0].numpy().T
    assert np.abs(before[7]).max() > 0
    now = np.frombuffer(changed.buffers[0], "<f4").reshape(before.shape)
    differences = np.abs(now - before[changed.data["cells"]["order"]]).max(1)
    assert np.all(np.diff(differences) <= 1e-6)
    characters = [each["text"] for each in changed.data["answer"]["characters"]]
    assert changed.data["cells"]["steps"] == characters


def test_the_chosen_unit_has_its_states_and_their_usual_range() -> None:
    """States are those before and after the change, within the range over samples of the test."""
    agent, question = made("two layers")
    edit = {"part": "encoder", "layer": 0, "unit": UNIT, "time": STEP, "c": 0.25}
    unit = Asked(agent, question).frame(edits=[edit], unit=UNIT, step=STEP).data["unit"]
    trace = agent.observe(agent.task.encode([question])).traces["encoder"]
    samples = agent.observe(agent.task.samples("test", 64)).traces["encoder"]
    for state, values, usual in (("c", trace.c, samples.c), ("h", trace.h, samples.h)):
        assert values is not None
        assert usual is not None
        own = unit["states"][state]
        assert own["untouched"] == pytest.approx(float(values[0, 0, STEP, UNIT]), abs=1e-6)
        assert own["low"] <= min(float(usual[0, ..., UNIT].min()) + 1e-6, 0)
        assert own["high"] >= max(float(usual[0, ..., UNIT].max()) - 1e-6, 0)
    assert unit["states"]["c"]["now"] == 0.25
    gate = float(trace.gates["o"][0, 0, STEP, UNIT])
    assert unit["states"]["h"]["now"] == pytest.approx(gate * np.tanh(0.25), rel=1e-4)


def test_the_usual_range_is_that_of_the_weights_as_they_are() -> None:
    """When the agent has learned on, a unit's range is that of a page that is opened anew."""
    agent, question = made("two layers")
    asked, ranges = Asked(agent, question), []
    for _ in range(2):
        ranges.append(asked.frame(unit=UNIT, step=STEP).data["unit"])
        assert ranges[-1] == Asked(agent, question).frame(unit=UNIT, step=STEP).data["unit"]
        with torch.no_grad():
            for parameter in agent.model.parameters():
                parameter.mul_(0.5)
    assert ranges[0] != ranges[1]


@pytest.mark.parametrize("name", ["both directions", "fed", "transformer"])
def test_a_hidden_place_weighs_exactly_nothing(name: str) -> None:
    """Its weight is 0 in every row, the rows sum to 1, and with none hidden all is untouched."""
    agent, question = made(name)
    asked = Asked(agent, question)
    now, before = asked.weights(hidden=[])
    assert np.array_equal(now, before)
    place = int(before[0].argmax())
    for head in asked.about["heads"]:
        now, before = asked.weights(hidden=[place], head=head)
        assert np.all(now[:, place] == 0)
        assert np.all(before[:, place] > 0)
        np.testing.assert_allclose(now.sum(1), 1, atol=1e-6)
    reply = asked.frame(hidden=[place])
    shares = [said(agent, reply.data[key])[1] for key in ("answer", "untouched")]
    assert np.abs(shares[0] - shares[1]).max() > 1e-4


def test_the_other_weights_are_renormalised() -> None:
    """The first character is written from the same state: w / (1 - w of the hidden place)."""
    agent, question = made("both directions")
    now, before = Asked(agent, question).weights(hidden=[1])
    kept = before[0] / (1 - before[0, 1])
    kept[1] = 0
    np.testing.assert_allclose(now[0], kept, atol=1e-6)


def test_a_place_is_hidden_from_one_head_alone() -> None:
    """The other heads of the first layer see it, as they did."""
    agent, question = made("transformer")
    asked = Asked(agent, question)
    first, second = asked.about["heads"][:2]
    place = int(asked.weights(head=first)[0][0].argmax())
    hidden = {"hidden": [place], "hidden_from": first}
    assert np.all(asked.weights(head=first, **hidden)[0][:, place] == 0)
    now, before = asked.weights(head=second, **hidden)
    np.testing.assert_allclose(now[0], before[0], atol=1e-6)


def test_what_is_not_accepted_is_said() -> None:
    """A bad question has the task's message; so have steps, units and places that are not there."""
    agent, question = made("fed")
    asked = Asked(agent, question)
    with pytest.raises(ValueError, match="terms") as error:
        agent.predict("12")
    assert asked.call("read", question="12").data["error"] == str(error.value)
    edit = {"part": "encoder", "layer": 0, "unit": 0, "time": 0, "h": 0}
    problems = {
        "time: 6 is not accepted; accepted: a whole number from 0 to 5": {
            "edits": [{**edit, "time": 6}]
        },
        "unit: 16 is not accepted": {"edits": [{**edit, "unit": 16}]},
        "Edit: what it changes is not clear": {"edits": [{**edit, "h": None}]},
        "part: 'encode' is not accepted": {"edits": [{**edit, "part": "encode"}]},
        "places: no place is left to attend to": {"hidden": list(range(6))},
        "hidden: [6] is not accepted": {"hidden": [6]},
        "quantity: 'r' is not accepted": {"quantity": "r"},
        "order: 'size' is not accepted": {"order": "size"},
    }
    for problem, more in problems.items():
        assert problem in asked.frame(**more).data["error"]
    assert "error" not in asked.frame().data


def test_states_that_overflow_are_an_error_and_no_answer() -> None:
    """A value that grows beyond all numbers is refused in words; without it all is well."""
    agent = small_agent("parity_lstm")
    with torch.no_grad():
        for parameter in agent.model.parameters():
            parameter.zero_()
        agent.model.readout.weight.fill_(1e35)
    asked = Asked(agent, "0110100")
    edit = {"part": "reader", "layer": 0, "unit": UNIT, "time": 6, "h": 1e6}
    problem = "answer: its probabilities are not numbers; accepted: weights and changes"
    assert problem in asked.frame(edits=[edit]).data["error"]
    assert asked.frame().data["answer"]["probabilities"] == [0.5, 0.5]


@pytest.mark.parametrize("name", ["both directions", "transformer"])
def test_the_agent_is_as_before(name: str) -> None:
    """Frames, also those that fail, leave weights, modes, hooks and gradients alone."""
    agent, question = made(name)
    agent.model.train()
    asked = Asked(agent, question)
    edit = {"part": "encoder", "layer": 0, "unit": UNIT, "time": STEP, "h": 1.5}
    with unchanged(agent.model):
        asked.frame(
            hidden=[1], **{"edits": [edit], "unit": 0, "step": 0} if asked.about["parts"] else {}
        )
        assert "error" in asked.frame(hidden=list(range(6))).data
    assert not any("forward" in vars(module) for module in agent.model.modules())


def test_a_language_model_is_asked_for_the_next_character() -> None:
    """The answer is the distribution of the next character, the columns what was read."""
    agent = small_agent("char_lm")
    asked = Asked(agent, "")
    asked.question = asked.about["samples"][0][-12:]
    reply = asked.frame()
    intervention = agent.intervene(asked.question)
    shown = reply.data["answer"]
    np.testing.assert_allclose(shown["probabilities"], intervention.probabilities[0, 0], rtol=1e-4)
    assert shown["names"][int(np.argmax(shown["probabilities"]))] == intervention.before
    read = "".join(reply.data["cells"]["steps"])
    assert (
        agent.task.encode([read]).text.tolist() == agent.task.encode([asked.question]).text.tolist()
    )


@pytest.mark.parametrize("name", ["adding_lstm", "digits_lstm", "cnn_classifier"])
def test_what_reads_no_typed_text_has_no_questions(name: str) -> None:
    """Series of numbers and images are not offered as questions."""
    agent = small_agent(name)
    assert question_subject(agent, agent.observe(agent.task.samples("test", 4))) is None


@functools.cache
def session_of_a_run() -> Session:
    """Return the session of an adder's run folder: questions, and the run."""
    folder = temporary_folder()
    agent = small_agent("attention_adder", task="add2x2", num_weight_snapshots=3)
    agent.learn(run_dir=folder, progress=False)
    return Session(live_of(agent, folder))


@given(
    st.sampled_from([("question", "read"), ("question", "frame"), ("run", "poll"),
                     ("run", "answers"), ("run", "maps")]),
    FIELDS, BUFFERS,
)  # fmt: skip
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_call_is_answered(of: tuple[str, str], fields: Any, buffers: list[bytes]) -> None:
    """Whatever a message asks of a question or a run, the reply can be sent, and is no bug."""
    header = answered(session_of_a_run(), *of, fields, buffers)
    assert header["id"] == 7
    assert "a bug" not in header.get("error", "")
