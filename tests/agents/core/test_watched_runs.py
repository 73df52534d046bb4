"""Runs that the live page follows: only read, from their first moment on."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import main
from agents.cli.modes import MODES
from agents.cli.run_spec import RunSpec, run_spec_from_folder
from agents.core.agent import Agent
from agents.core.config import flat_settings
from agents.core.inspection.live import NUM_IMAGES, live_of
from agents.core.inspection.run import NUM_SAMPLES, read_status, settings_of
from agents.core.runs.checkpoint import CheckpointError
from agents.core.runs.snapshots import DiskSnapshots, InMemorySnapshots
from tasks.core.batch import take
from tasks.core.settings import ConfigError
from tests.conftest import same, small_agent
from tests.helpers.images import unchanged
from visualization.live.session import Session


def spec_of(folder: Path) -> RunSpec:
    """Return what `--mode live --run-dir FOLDER` asks for."""
    options = main.parse(["--mode", "live", "--run-dir", str(folder), "--device", "cpu"])
    return run_spec_from_folder(options, folder, MODES)


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Return time and size of each file of a folder."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in folder.rglob("*")
    }


def ask(session: Session, call: str, **values: Any) -> Any:
    """Return the reply to a call of the panel that follows a run."""
    return session.handle({"id": 1, "panel": "run", "call": call, **values})


@pytest.fixture(scope="module")
def adder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Agent, Path]:
    """Return an adder that has learned a little, and its folder."""
    folder = tmp_path_factory.mktemp("adder")
    return small_agent(num_weight_snapshots=4).learn(run_dir=folder), folder


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> tuple[Agent, Path]:
    """Return a classifier of images that has learned a little, and its folder."""
    folder = tmp_path_factory.mktemp("classifier")
    agent = small_agent("cnn_classifier", task="digits", channels=4, num_weight_snapshots=3)
    return agent.learn(run_dir=folder), folder


def test_feature_maps_are_those_of_the_weights_of_a_step(classifier: tuple[Agent, Path]) -> None:
    """Maps and answers of each snapshot are those of an agent that has these weights."""
    agent, folder = classifier
    session, other = (
        Session(live_of(agent, folder)),
        small_agent("cnn_classifier", task="digits", channels=4),
    )
    about = session.panel("run").describe()
    batch = agent.task.for_display().samples("test", NUM_IMAGES)
    for step, state in agent.snapshots.states(print).items():
        other.model.load_state_dict(state)
        observation = other.observe(batch)
        answers = ask(session, "answers", step=step).data["answers"]
        assert answers == [[row.answer, row.correct] for row in observation.rows[: len(answers)]]
        view = about["views"][0]["name"]
        found: list[torch.Tensor] = []
        hook = other.model.get_submodule(view).register_forward_hook(
            lambda module, inputs, output, found=found: found.append(output)
        )
        with torch.no_grad():
            assert observation.image is not None
            other.model.eval()(observation.image.images[1:2])
        hook.remove()
        reply = ask(session, "maps", step=step, view=view, sample=1, channels=[0, 1, 2, 3])
        levels = np.frombuffer(reply.buffers[0], np.uint8).reshape(4, *reply.data["size"])
        low, high = np.array(reply.data["limits"]).T[:, :, None, None]
        expected = found[0][0, :4].numpy()
        np.testing.assert_allclose(
            low + (high - low) * levels / 255, expected, atol=float(high.max()) / 255 + 1e-5
        )


def test_cells_are_those_of_the_weights_of_a_step(adder: tuple[Agent, Path]) -> None:
    """The states of each part are those that an agent with these weights has at the question."""
    agent, folder = adder
    session, other = Session(live_of(agent, folder)), small_agent()
    batch = agent.task.for_display().samples("test", NUM_SAMPLES)
    for step, state in agent.snapshots.states(print).items():
        other.model.load_state_dict(state)
        observation = other.observe(take(batch, 2, 3))
        for part in observation.recurrent:
            reply = ask(session, "maps", step=step, view=part.name, sample=2)
            levels = np.frombuffer(reply.buffers[0], np.uint8).reshape(reply.data["size"])
            trace = observation.traces[part.name]
            expected = torch.tanh(trace.c[0, 0]).T if trace.c is not None else trace.h[0, 0].T
            np.testing.assert_allclose(levels / 127.5 - 1, expected.numpy(), atol=1 / 255 + 1e-5)
            assert reply.data["steps"] == part.text[0].tolist()


def test_following_changes_neither_agent_nor_folder(adder: tuple[Agent, Path]) -> None:
    """Weights and modes are as before, and no file of the folder is written or touched."""
    agent, folder = adder
    before = contents(folder)
    with unchanged(agent.model):
        session = Session(live_of(agent, folder))
        ask(session, "poll", revision=0)
        for step in agent.snapshots.steps():
            ask(session, "answers", step=step)
            ask(session, "maps", step=step, view="encoder", sample=0)
    assert contents(folder) == before


def test_curves_are_the_history(adder: tuple[Agent, Path]) -> None:
    """The curves of a real run's file are the series of its history; it is done."""
    agent, folder = adder
    reply = ask(Session(live_of(agent, folder)), "poll", revision=0)
    assert reply.data["status"]["state"] == "done"
    assert [step for step, _ in reply.data["snapshots"]] == agent.snapshots.steps()
    assert {"train/loss", "eval/loss"} <= {about["tag"] for about in reply.data["curves"]}
    for about, buffer in zip(reply.data["curves"], reply.buffers, strict=True):
        steps, values, *_ = np.frombuffer(buffer, "<f8").reshape(4, -1).tolist()
        assert (steps, values) == agent.history.series(about["tag"])


def begun(adder: tuple[Agent, Path], folder: Path) -> Path:
    """Return the folder of a run as it is before its first checkpoint."""
    _, done = adder
    (folder / "progression").mkdir(parents=True)
    (folder / "config.yaml").write_bytes((done / "config.yaml").read_bytes())
    return folder


def test_a_run_that_has_just_begun_is_opened(adder: tuple[Agent, Path], tmp_path: Path) -> None:
    """With its settings alone there is a page; its first snapshot and record are then followed."""
    done = adder[1]
    folder = begun(adder, tmp_path / "run")
    agent = spec_of(folder).load_watched()
    session = Session(live_of(agent, folder))
    reply = ask(session, "poll", revision=0)
    assert reply.data["status"]["problem"].startswith("metrics.jsonl does not exist yet")
    assert reply.data["snapshots"] == []
    first = sorted((done / "progression").iterdir())[0]
    (folder / "progression" / first.name).write_bytes(first.read_bytes())
    (folder / "metrics.jsonl").write_bytes((done / "metrics.jsonl").read_bytes())
    reply = ask(session, "poll", revision=reply.data["revision"])
    assert [step for step, _ in reply.data["snapshots"]] == [0]
    assert len(reply.data["curves"]) > 4
    assert len(ask(session, "answers", step=0).data["answers"]) == 6


def test_without_a_checkpoint_the_latest_snapshot_is_loaded(
    adder: tuple[Agent, Path], tmp_path: Path
) -> None:
    """The agent has the weights of the latest snapshot that can be read."""
    folder = begun(adder, tmp_path / "run")
    for path in sorted((adder[1] / "progression").iterdir())[:2]:
        (folder / "progression" / path.name).write_bytes(path.read_bytes())
    broken = folder / "progression" / "step-000000011.safetensors"
    broken.write_bytes(b"broken")
    agent = spec_of(folder).load_watched()
    states = adder[0].snapshots.states(print)
    assert same(dict(agent.model.state_dict()), states[sorted(states)[1]])


def test_checkpoints_are_read_and_never_renamed(adder: tuple[Agent, Path], tmp_path: Path) -> None:
    """The best is loaded; if it is corrupt, the latest; the folder stays as it is."""
    agent, done = adder
    folder = begun(adder, tmp_path / "run")
    (folder / "best.safetensors").write_bytes((done / "best.safetensors").read_bytes()[:-1])
    (folder / "checkpoints").mkdir()
    last = sorted((done / "checkpoints").iterdir())[-1]
    (folder / "checkpoints" / last.name).write_bytes(last.read_bytes())
    before = contents(folder)
    loaded = spec_of(folder).load_watched()
    assert loaded.state.cursor.step == agent.state.cursor.step
    assert contents(folder) == before


def test_a_broken_snapshot_is_said_in_words(adder: tuple[Agent, Path], tmp_path: Path) -> None:
    """One that is cut off, and one that is removed between two calls, are no bugs."""
    folder = begun(adder, tmp_path / "run")
    for path in (adder[1] / "progression").iterdir():
        (folder / "progression" / path.name).write_bytes(path.read_bytes())
    agent = spec_of(folder).load_watched()
    session = Session(live_of(agent, folder))
    step = agent.snapshots.steps()[1]
    path = folder / "progression" / f"step-{step:09d}.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    error = ask(session, "answers", step=step).data["error"]
    assert error.startswith(f"the snapshot of step {step} cannot be read: ")
    assert "is cut off or damaged" in error
    path.unlink()
    error = ask(session, "answers", step=step).data["error"]
    assert f"there is no snapshot of step {step} now; accepted: 0" in error
    assert "error" not in ask(session, "answers", step=0).data


def test_a_process_that_is_no_more_is_noticed(tmp_path: Path) -> None:
    """A run that says it is running is `killed` if its process has ended on this machine."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    status = {"state": "running", "step": 3, "steps": 9, "pid": process.pid}
    (tmp_path / "status.json").write_text(json.dumps(status))
    assert read_status(tmp_path)["state"] == "running"  # no lock says of which machine it is
    (tmp_path / "lock").write_text(f"{process.pid} {socket.gethostname()}\n")
    assert read_status(tmp_path)["state"] == "killed"
    (tmp_path / "lock").write_text(f"{process.pid} another\n")
    assert read_status(tmp_path) == {"state": "running", "steps": 9}
    (tmp_path / "lock").write_text(f"{os.getpid()} {socket.gethostname()}\n")
    (tmp_path / "status.json").write_text(json.dumps({**status, "pid": os.getpid()}))
    assert read_status(tmp_path)["state"] == "running"


@pytest.mark.parametrize("text", ["", "{", "[]", '"done"'])
def test_a_status_that_cannot_be_read_says_nothing(tmp_path: Path, text: str) -> None:
    """A file that is empty, cut off or of another kind is as none."""
    (tmp_path / "status.json").write_text(text)
    assert read_status(tmp_path) == {}
    assert read_status(tmp_path / "none") == {}


def test_the_doctor_is_given_the_settings(adder: tuple[Agent, Path]) -> None:
    """They are those of the agent and its task, with the number of samples that there are."""
    agent = adder[0]
    found, settings = settings_of(agent), flat_settings(agent.identity())
    assert found == {**settings, "eval_samples": 32, "asked_samples": 32, "num_stages": 1}
    assert found["learning_rate"] == agent.config.learning_rate


def test_the_state_of_a_step_is_found_by_itself(tmp_path: Path) -> None:
    """On the disk and in memory it is what was saved; one that does not exist is an error."""
    layer = torch.nn.Linear(2, 2)
    memory, disk = InMemorySnapshots(), DiskSnapshots(tmp_path)
    for snapshots in (memory, disk):
        snapshots.save(3, layer)
        before = snapshots.stamps()
        assert list(before) == [3]
        assert same(dict(snapshots.state(3)), dict(layer.state_dict()))
        snapshots.save(3, torch.nn.Linear(2, 2))
        assert snapshots.stamps() != before
        with pytest.raises(ConfigError):
            snapshots.state(4)
    next(tmp_path.iterdir()).write_bytes(b"?")
    with pytest.raises(CheckpointError):
        disk.state(3)
