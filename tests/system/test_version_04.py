"""A checkpoint, a config file and a run folder of version 0.4.0 still load, go on and are seen."""

import shutil
from pathlib import Path

import pytest

import agents
from main import main

FILES = Path(__file__).parents[1] / "version_04"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a copy of the run folder."""
    return Path(shutil.copytree(FILES / "run", tmp_path / "run"))


def test_a_checkpoint_loads_and_learns_on() -> None:
    """It has its settings by today's names, answers, is looked into, and takes further steps."""
    agent = agents.load(FILES / "adder.safetensors", "cpu")
    assert agent.state.cursor.step == 4
    assert (agent.config.batch_size, agent.config.lr_cycles, agent.config.target_score) == (
        8, 4, None,
    )  # fmt: skip
    assert agent.config.schedule == "one_cycle"
    assert len(agent.predict("1+6")) <= 3
    assert "ablation" in agent.inspect(["ablation"]).records
    assert agent.learn(6).state.cursor.step == 6


def test_a_run_folder_goes_on_by_the_same_command(run: Path) -> None:
    """Its config file, of earlier names, is the run's own; more steps are taken from its last."""
    command = ["--config", str(FILES / "parity.yaml"), "--run-dir", str(run), "--device", "cpu"]
    assert main([*command, "--set", "steps=10"]) == 0
    steps = [path.stem for path in (run / "checkpoints").glob("*.safetensors")]
    assert steps == ["step-000000010"]
    agent = agents.load(run / "checkpoints" / "step-000000010.safetensors", "cpu")
    assert agent.config.curriculum_loss_threshold == 0.4
    assert agent.config.lr_decay == 0.5
    assert agent.history.series("train/loss")[0][:2] == [2, 4]


def test_a_run_folder_is_evaluated_and_inspected(run: Path) -> None:
    """Today's modes, and the earlier word for one of them, read it; so do its weight snapshots."""
    command = ["--run-dir", str(run), "--device", "cpu"]
    assert main([*command, "--mode", "validate"]) == 0
    assert (run / "evaluation.json").exists()
    assert main([*command, "--mode", "inspect", "--views", "weights,progression,gates"]) == 0
    assert main([*command, "--mode", "predict", "--input", "01100101"]) == 0
