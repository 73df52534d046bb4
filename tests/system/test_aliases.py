"""Files with another tool's names for settings are understood."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import agents
from agents.cli.run_spec import parse_run_spec
from main import main, parse

NOTES = """\
dataset:
  dt_length: 300
  t: 12
train:
  epochs: 2
  batch: 27
  es_patience: 3
artifacts: {folder}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a file as the notes' tool has it, and nothing else in it."""
    path = tmp_path / "config.yaml"
    path.write_text(NOTES.format(folder=tmp_path / "artifacts"))
    return path


def test_every_name_finds_its_setting(config: Path, tmp_path: Path) -> None:
    """Such a file alone chooses agent and task, and patience counts epochs."""
    spec = parse_run_spec(parse(["--config", str(config)]), ("train",))
    assert (spec.agent.name, spec.task.name) == ("adding_lstm", "adding_problem")
    assert (spec.task.length, spec.task.num_samples) == (12, 300)
    assert (spec.config.epochs, spec.config.batch_size, spec.config.patience) == (2, 27, 3)
    assert spec.config.eval_every is None
    assert spec.run_dir == tmp_path / "artifacts"


def test_our_own_names_and_options_go_beside(config: Path, tmp_path: Path) -> None:
    """Settings of ours may stand in the same file, and options win over it."""
    config.write_text(config.read_text() + "agent: adding_lstm\nhidden_size: 7\n")
    options = ["--config", str(config), "--set", "task.length=9", "--run-dir", str(tmp_path / "b")]
    spec = parse_run_spec(parse(options), ("train",))
    assert (spec.config.hidden_size, spec.task.length) == (7, 9)
    assert spec.run_dir == tmp_path / "b"


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        ("  dt_length:", "  dt_lenght:", ["line 2", "'dataset.dt_lenght'", "dataset.dt_length?"]),
        ("  t: 12", "  t: 1", ["line 3", "length: 1 is out of range", "≥ 2"]),
        ("  epochs: 2", "  epochs: many", ["line 5", "epochs: 'many' has the wrong type"]),
        ("  batch:", "  bach:", ["line 6", "'train.bach'", "did you mean train.batch?"]),
        ("artifacts:", "artefacts:", ["line 8", "'artefacts'", "did you mean artifacts?"]),
        ("  t: 12", "  t: 12\ntask: {length: 9}", ["task.length", "each setting once"]),
        ("artifacts: ", "artifacts: 3 #", ["line 8", "3 is not a folder"]),
    ],
)
def test_a_mistake_in_such_a_file_is_named(
    config: Path, right: str, wrong: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """File, line, name, what is accepted, the nearest name; exit code 2, and nothing is written."""
    config.write_text(config.read_text().replace(right, wrong))
    assert main(["--mode", "train", "--config", str(config)]) == 2
    message = capsys.readouterr().err
    assert [word for word in [str(config), *words] if word not in message] == [], message
    assert sorted(path.name for path in config.parent.iterdir()) == ["config.yaml"]


def test_the_notes_tool_and_its_artifacts(config: Path, tmp_path: Path) -> None:
    """Training and validating as there leaves settings, losses, the model, and answers as y_hat."""
    small = ["--config", str(config), "--set", "hidden_size=4", "--device", "cpu"]
    assert main(["--mode", "train", *small]) == 0
    folder = tmp_path / "artifacts"
    assert "length: 12" in (folder / "config.yaml").read_text()
    with (folder / "loss.csv").open(encoding="utf-8", newline="") as file:
        losses = list(csv.DictReader(file))
    assert [row["step"] for row in losses] == ["10", "20"]
    assert all(float(row["loss"]) > 0 and float(row["val_loss"]) > 0 for row in losses)
    agent = agents.load(folder / "best.safetensors", device="cpu")
    assert main(["--mode", "evaluate", *small]) == 0
    with np.load(folder / "predictions.npz") as arrays:
        assert arrays["series"].shape == (10_000, 12, 2)
        error = np.mean((arrays["y_hat"] - arrays["number"]) ** 2)
        tested = agent.task.samples("test", 100).series
        assert not (arrays["series"][:100] == tested).all(axis=(1, 2)).any()
    scores = json.loads((folder / "evaluation.json").read_text())
    assert scores["mse"] == pytest.approx(error, rel=1e-5)
