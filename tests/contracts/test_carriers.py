"""Agents of other kinds learn, are saved, inspected and compared by the same contract."""

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from my_agents.products import Products
from my_agents.regression import Regression

from agents import conformance as agent_conformance
from agents.conformance import Candidate
from agents.core.agent import Agent
from agents.core.analysis.comparison import compare
from agents.core.analysis.diagnosis import diagnose_agent
from tasks import conformance as task_conformance
from tasks.core.conformance import checks_of
from tasks.core.task import Task
from tests.carriers.set_network import LargestDifference, SetNetwork
from tests.conftest import small_agent
from tests.helpers.drawing import Drawn
from visualization.records import Transcript

DRAWN = Drawn()
QUICK = {"steps": 12, "batch_size": 16, "eval_every": 6, "eval_samples": 24, "log_every": 3,
         "save_every": 4, "precision": "fp32", "threads": 1}  # fmt: skip
RECIPE = {"batch_size": 32, "eval_every": 100, "eval_samples": 200, "learning_rate": 5e-3,
          "precision": "fp32", "threads": 1}  # fmt: skip
KINDS: dict[str, tuple[type[Agent], Task]] = {
    "regression": (Regression, Products()),
    "sets": (SetNetwork, LargestDifference()),
}
LEARNED: dict[str, tuple[int, Callable[[dict[str, float]], bool]]] = {
    "regression": (800, lambda s: s["error"] < 0.15),
    "sets": (400, lambda s: s["accuracy"] > 0.85),
}
VIEWS = {
    "regression": {"weights", "dead_units", "landscape", "embedding"},
    "sets": {"weights", "dead_units", "landscape", "embedding", "layer_probes"},
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Return the name of each kind."""
    return request.param


@pytest.fixture(autouse=True)
def short_views(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let views look at little."""
    few = {"NUM_IMAGES": 40, "NUM_LAYERS": 2, "NUM_SHOWN": 2, "NUM_OFTEN": 8, "STEPS": 4,
           "NUM_CHANNELS": 3}  # fmt: skip
    for constant, value in few.items():
        monkeypatch.setattr(f"agents.core.inspection.images.{constant}", value)
    monkeypatch.setattr("agents.core.inspection.recurrent.NUM_SAMPLES", 20)


def make(kind: str, **settings: Any) -> Agent:
    """Return a fresh agent."""
    cls, task = KINDS[kind]
    return cls(task, cls.Config(**{**QUICK, **settings}), "cpu")


@functools.cache
def candidate(kind: str) -> Candidate:
    """Return a kind as the conformance suite checks it."""
    return Candidate(*KINDS[kind], QUICK)


@pytest.mark.parametrize("check", agent_conformance.CHECKS, ids=lambda check: check.__name__)
def test_it_conforms(kind: str, check: Callable[[Candidate], None]) -> None:
    """Each kind passes each check of the conformance suite."""
    checks_of(candidate(kind), [check], None, "test")[0]()


# What these tests give to `encode` is right.
TASK_CHECKS = [check for check in task_conformance.CHECKS if check.__name__ != "input_is_checked"]


@pytest.mark.parametrize("task", dict.fromkeys(task for _, task in KINDS.values()))
@pytest.mark.parametrize("check", TASK_CHECKS, ids=lambda check: check.__name__)
def test_its_task_conforms(task: Task, check: Callable[[Task], None]) -> None:
    """The task of each kind passes each check of the conformance suite."""
    checks_of(task, [check], None, "test")[0]()


def test_it_learns(kind: str) -> None:
    """In seconds of training it does far better than by chance."""
    steps, is_learned = LEARNED[kind]
    agent = make(kind, **RECIPE, steps=steps).learn()
    assert is_learned(agent.evaluate(num=200)), agent.evaluate(num=200)


INPUTS: dict[str, Callable[[Any], list[np.ndarray]]] = {
    "sets": lambda b: [e[m] for e, m in zip(b.elements, b.mask, strict=True)],
}


@pytest.mark.parametrize("kind", INPUTS)
def test_a_person_is_answered_as_a_batch_is(kind: str) -> None:
    """Sets of any size, each by itself or in a list, get the answers of their batch."""
    agent = make(kind, steps=60).learn()
    batch = agent.task.samples("test", 9)
    inputs = INPUTS[kind](batch)
    expected = agent.task.decode(agent.predict_arrays(batch))
    assert agent.predict(inputs) == expected
    assert agent.predict(inputs[0]) == expected[0]


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_its_views_are_drawn(kind: str, whole: bool, tmp_path: Path) -> None:
    """All views that its parts allow are drawn."""
    report = candidate(kind).inspected.report
    assert set(report.records) >= VIEWS[kind]
    assert not [name for name, record in report.flat() if isinstance(record, Transcript)]
    report = report if whole else DRAWN.new_in(report)
    for view, _ in report.flat():
        assert report.picture(view).startswith(b"\x89PNG")
    page = report.save(tmp_path / "report.html").read_text()
    for view, _ in report.flat():
        image = rf'<img alt="{re.escape(view)}"[^>]* src="data:image/png'
        assert len(re.findall(image, page)) == 1


def test_it_is_compared_with_itself(kind: str) -> None:
    """Two agents of a kind are compared by their answers, of unequal length too."""
    agent = make(kind).learn(2)
    counts = compare(agent, agent)["answers"].counts
    assert counts["only_a"] == counts["only_b"] == 0


def test_its_diagnosis_is_drawn(kind: str) -> None:
    """The doctor examines it, whatever its batches are, and says something of each question."""
    agent = make(kind).learn()
    report = diagnose_agent(agent, steps=4)
    assert len(report["summary"].findings) > 10
    report = DRAWN.new_in(report)
    for view, _ in report.flat():
        assert report.picture(view).startswith(b"\x89PNG")


def test_parts_of_a_loss_are_logged() -> None:
    """Each part of a detector's loss has its curve, and they sum to the loss."""
    history = small_agent("yolo_detector").learn().history
    parts = [history.series(f"train/loss/{name}")[1] for name in ("objectness", "box", "kind")]
    np.testing.assert_allclose(np.sum(parts, axis=0), history.series("train/loss")[1], rtol=1e-5)
