"""Calibration of agents: the temperature is fitted, kept, and changes no answer."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import agents
import tasks
from agents.core.analysis.calibration import calibrate
from main import main
from tests.agents.test_readers import make

LOW = tasks.make("digit_strings", height=16, most_digits=2)


def sure(path: Path | None = None) -> Any:
    """Return a reader that says much at random, and is far too sure of it."""
    agent = make("ctc_reader", LOW, batch_size=4, steps=2, eval_every=2).learn(run_dir=path)
    torch.manual_seed(0)
    torch.nn.init.normal_(agent.model.head.weight, std=8.0)
    return agent


def test_a_reader_that_is_too_sure_becomes_less_so() -> None:
    """The temperature is above 1, the error falls, and what is read stays the same."""
    agent = sure()
    batch = agent.task.samples("test", 20)
    before = agent.read(batch)
    found = calibrate(agent)
    after = agent.read(batch)
    assert list(found) == ["characters", "words"]
    assert agent.config.temperature == found["characters"].temperatures[1] > 1.5
    assert found["characters"].after.ece < found["characters"].before.ece
    assert [line.text for line in before] == [line.text for line in after]
    means = [
        np.concatenate([line.confidence for line in lines]).mean() for lines in (before, after)
    ]
    assert means[1] < means[0]


def test_what_is_not_said_cannot_be_calibrated() -> None:
    """An agent without confidences, and one whose confidences have no such setting."""
    with pytest.raises(ValueError, match="does not say how sure it is"):
        calibrate(make("attention_reader", LOW))
    classifier = agents.make("cnn_classifier", task="digits", channels=2, device="cpu")
    with pytest.raises(ValueError, match="cnn_classifier has no temperature"):
        calibrate(classifier)


def test_the_mode_keeps_the_temperature(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--mode calibrate --run-dir RUN`: checkpoint and settings of the run have it afterwards."""
    sure(tmp_path).save(tmp_path / "best.safetensors")
    assert main(["--mode", "calibrate", "--run-dir", str(tmp_path), "--device", "cpu"]) == 0
    assert "characters: expected calibration error" in capsys.readouterr().out
    temperature = agents.load(tmp_path / "best.safetensors", "cpu").config.temperature
    assert temperature > 1.5
    assert f"\ntemperature: {temperature!r}\n" in (tmp_path / "config.yaml").read_text()
    assert (tmp_path / "calibration.html").exists()


def test_classifiers_have_reliability_diagrams() -> None:
    """Of labels, with the temperature fitted on validation samples."""
    agent = agents.make("cnn_classifier", task="digits", channels=2, device="cpu")
    record = agent.inspect(["reliability"])["reliability"]["labels"]
    assert record.temperatures[0] == 1.0
    assert "labels of validation" in record.fitted_on
