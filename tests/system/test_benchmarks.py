"""What the benchmarks time is there and learns; how fast is not asked here."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tasks
from agents.core.agent import Agent
from agents.core.config import AgentConfig
from benchmarks import messages, overhead, ranks, recording
from benchmarks.__main__ import COMMANDS
from benchmarks.tiny import TinyAgent, TinyTask, register


@pytest.mark.parametrize("name", recording.CASES)
def test_agents_of_the_recording_benchmark_learn(name: str) -> None:
    """Each takes steps with vitals on and off, and its parts have a cost."""
    make: Callable[[bool], Agent] = recording.CASES[name]
    for vitals in (True, False):
        agent = make(vitals)
        assert agent.config.record_diagnostics is vitals
        assert agent.learn(2).state.cursor.step == 2


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the benchmark's own task for the length of a test: others go over the registry."""
    monkeypatch.setattr(tasks, "TASKS", dict(tasks.TASKS))
    register()


@pytest.mark.usefixtures("registered")
def test_the_tiny_agent_learns_its_task_as_any_other() -> None:
    """Two thousand steps tell the largest of four numbers in nine of ten cases."""
    config: Any = AgentConfig(batch_size=64, steps=2000, eval_every=2000, learning_rate=1e-3)
    agent = TinyAgent(TinyTask(), config, "cpu").learn()
    assert agent.evaluate()["accuracy"] > 0.9
    batch = next(agent.task.batches("train", 100, 0, 1, start=81))
    assert [array.shape for array in batch] == [(92, 32), (92,)]


@pytest.mark.usefixtures("registered")
def test_a_case_of_the_overhead_benchmark_is_one_model_in_two_loops() -> None:
    """The bare loop of the tiny perceptron gives a time before each step and after the last."""
    bare = overhead._bare_tiny(64)
    assert len(bare(3)) == 4
    agent = overhead._tiny(64)()
    assert agent.learn(3).state.cursor.step == 3
    assert np.isfinite(agent.history.series("train/loss")[1]).all()


def test_a_side_of_the_benchmark_of_ranks_has_a_rate() -> None:
    """An agent of it trains for some steps, and the samples per second are known."""
    assert 0 < ranks.train("seq2seq_adder", 1, 4) < np.inf
    assert "goal" in ranks.report({"a": {"one_process": 1.0, "two_ranks": 2.0, "ratio": 2.0}})


@pytest.mark.parametrize("command", [*COMMANDS, "all"])
def test_every_command_is_explained(command: str) -> None:
    """The table of benchmarks/README.md has a row for each command."""
    page = Path(__file__).parents[2] / "benchmarks" / "README.md"
    assert f"\n| `{command}` | " in page.read_text(encoding="utf-8")


def test_the_benchmark_of_messages_has_every_pair_of_each_graph() -> None:
    """Edges of two graphs of three nodes join all nodes of the same graph, each with itself too."""
    sender, receiver = messages.complete(2, 3).tolist()
    pairs = {
        (a, b) for first in (0, 3) for a in range(first, first + 3) for b in range(first, first + 3)
    }
    assert set(zip(sender, receiver, strict=True)) == pairs
    assert len(sender) == len(pairs)


def test_the_benchmark_of_messages_tells_without_torch_geometric(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ours is timed alone, and a line says which package is missing, and how to install it."""
    monkeypatch.setitem(sys.modules, "torch_geometric.nn", None)
    monkeypatch.setattr(messages, "SIZES", (4,))
    monkeypatch.setattr(messages, "BATCH", 2)
    figures = messages.measure(1)
    assert list(figures["4 units"]) == ["ours_ms"]
    assert "not installed" in messages.report(figures)
    assert "pip install torch-geometric" in capsys.readouterr().err
