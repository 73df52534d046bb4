"""What every agent and every task must hold; new ones get these tests by their registry line."""

import functools
import json
import re
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
import yaml

import agents
import tasks
from agents import conformance as agent_conformance
from agents.conformance import Candidate
from agents.core.agent import Agent
from agents.core.analysis.comparison import compare
from agents.core.analysis.states import changes, state_of
from agents.core.reading import NUM_OBSERVED, LineReader
from agents.core.runs.history import History
from tasks import conformance as task_conformance
from tasks.conformance import task_checks
from tasks.core.batch import take
from tasks.core.conformance import Check, checks_of
from tasks.core.settings import fields
from tasks.core.task import SPLITS
from tests.conftest import SMALL, SMALL_TASKS, candidate, make_task, same, small_agent, weights
from tests.helpers.drawing import Drawn
from visualization.records import Transcript

WRITING = {"char_lm": {"samples"}}  # views of which the records are texts
DRAWN = Drawn()
TASKS = [entry.example or name for name, entry in tasks.OWN_TASKS.items()]
LEFT_OUT = {("xor2", "splits_are_disjoint")}  # four questions leave none to withhold
TASK_CHECKS = [
    (name, check.__name__)
    for name in TASKS
    for check in task_conformance.CHECKS
    if (name, check.__name__) not in LEFT_OUT
]


@pytest.fixture(autouse=True)
def short_views(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let views look at little, as what they find is not asked here."""
    few = {"NUM_IMAGES": 100, "NUM_LAYERS": 2, "NUM_SHOWN": 3, "NUM_OFTEN": 10, "STEPS": 4}
    for constant, value in few.items():
        monkeypatch.setattr(f"agents.core.inspection.images.{constant}", value)
    monkeypatch.setattr("agents.core.inspection.recurrent.NUM_SAMPLES", 60)
    monkeypatch.setattr("agents.core.inspection.confidence.NUM_SAMPLES", 60)
    monkeypatch.setattr("agents.core.inspection.transcription.NUM_LINES", 60)


@pytest.fixture(params=list(agents.OWN_AGENTS))
def name(request: pytest.FixtureRequest) -> str:
    """Return the name of each registered agent."""
    return request.param


def silent_views(agent: Agent) -> set[str]:
    """Return the views with nothing to show: a reader that writes nothing is sure of nothing."""
    if "reliability" not in agent.views() or not isinstance(agent, LineReader):
        return set()
    seen = [take(agent.task.samples(split, 1000), 0, NUM_OBSERVED) for split in SPLITS[1:]]
    says = [any(len(text) for text in agent.predict_arrays(batch)) for batch in seen]
    return set() if all(says) else {"reliability"}


@pytest.mark.parametrize(("name", "check"), TASK_CHECKS)
def test_a_task_conforms(name: str, check: str) -> None:
    """Each registered task passes each check of the conformance suite."""
    task_checks_of(name)[check]()


@functools.cache
def task_checks_of(name: str) -> dict[str, Check]:
    """Return the checks of a registered task by name."""
    small = make_task(name, **SMALL_TASKS.get(name, {}))
    return {each.name: each for each in task_checks(small)}


@pytest.mark.parametrize("check", agent_conformance.CHECKS, ids=lambda check: check.__name__)
def test_an_agent_conforms(name: str, check: Callable[[Candidate], None]) -> None:
    """Each registered agent passes each check of the conformance suite."""
    checks_of(candidate(name), [check], None, "test")[0]()


def test_every_setting_has_a_help_text(name: str) -> None:
    """What each field of a config means reads alone: it names what the number is, and of what."""
    config = tasks.find("agent", name, agents.AGENTS, "test").load().Config
    for field in fields(config).values():
        words = field.metadata["help"].split()
        assert len(words) > 2, field.name
        assert words[0] != "of", field.name


def test_an_inspection_that_fails_changes_nothing(name: str) -> None:
    """Weights, modes, hooks, gradients and random state survive an exception."""
    agent = small_agent(name).learn()
    before = state_of(agent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(agent.task), "score", None)
        patch.setattr(type(agent), "predict_batch", None)
        with pytest.raises(TypeError):
            agent.inspect()
    assert changes(before, state_of(agent)) == []


def test_validation_loss_is_that_of_the_validation_samples(name: str) -> None:
    """The last eval/loss is the mean loss over the withheld samples, in whatever pieces."""
    agent = candidate(name).trained
    batch = agent.task.samples("validation", SMALL["eval_samples"])
    assert agent.history.series("eval/loss")[1][-1] == agent.mean_loss(batch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agent, "config", attrs.evolve(agent.config, eval_memory=2**-20))
        assert agent.mean_loss(batch) == pytest.approx(agent.history.series("eval/loss")[1][-1])


def test_an_agent_compared_with_itself_is_never_right_alone(name: str) -> None:
    """Compared with itself an agent's corners sum to the questions, and every unit finds itself."""
    agent = candidate(name).trained
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agents.core.analysis.comparison.NUM_QUESTIONS", 200)
        patch.setattr("agents.core.inspection.recurrent.NUM_SAMPLES", 100)
        report = compare(agent, agent)
    counts = report["answers"].counts
    assert counts["only_a"] == counts["only_b"] == 0
    assert sum(counts.values()) == 200
    parts = agent.observe(agent.task.for_display().samples("test", 2)).recurrent
    assert [*report["units"]] == [part.name for part in parts]
    for match in report["units"].values():
        assert match.matched.max() == pytest.approx(1.0)


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_view_can_be_drawn_and_saved(name: str, whole: bool, tmp_path: Path) -> None:
    """Each view gives a record that render draws, in a page that names no other file or host."""
    report, silent = candidate(name).inspected.report, silent_views(candidate(name).trained)
    assert set(report.records) >= {"summary", "learning_curves", "wrong_answers"}
    said = {view.split("/")[0] for view, r in report.flat() if isinstance(r, Transcript)}
    assert said == WRITING.get(name, set()) | silent
    report = report if whole else DRAWN.new_in(report)
    for view, _ in report.flat():
        assert report.picture(view).startswith(b"\x89PNG")
    page = report.save(tmp_path / "report.html").read_text()
    assert not re.search(r"https?:|<link|src=(?!\"data:)", re.sub(r"base64,[^\"]*", "", page))
    for record, _ in report.flat():
        image = rf'<img alt="{re.escape(record)}"[^>]* src="data:image/png'
        assert len(re.findall(image, page)) == 1


def test_a_run_folder_has_all_its_parts(name: str, tmp_path: Path) -> None:
    """A run writes its settings, command, environment, metrics, events, checkpoints and status."""
    agent = small_agent(name, keep_checkpoints=2).learn(run_dir=tmp_path, progress=False)
    files = {p.name.split(".")[0] if "events" in p.name else p.name for p in tmp_path.iterdir()}
    assert files == {
        "config.yaml", "command.txt", "env.json", "metrics.jsonl", "events", "checkpoints",
        "best.safetensors", "status.json", "lock",
    }  # fmt: skip
    saved = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert saved == ["step-000000009.safetensors", "step-000000012.safetensors"]
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "done"
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert History([json.loads(line) for line in lines]).records == agent.history.records
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert config["agent"] == name
    assert config["task"]["name"] == agent.task.name


def test_the_model_holds_no_wrapper(name: str) -> None:
    """With parallel=data the state dict has no `module.`, and the bits are those of the model."""
    wrapped = small_agent(name, parallel="data")
    assert type(wrapped.network).__name__ == "DataParallel"
    assert wrapped.network.module is wrapped.model
    assert not any("module." in key for key in wrapped.model.state_dict())
    assert same(weights(candidate(name).trained), weights(wrapped.learn()))
