"""Runs that began when a setting had another default go on as they began."""

from pathlib import Path

import yaml

import agents
from agents.core.runs.checkpoint import read
from main import main

EARLIER = {
    "schedule": "one_cycle", "batch_size": 256, "lr_cycles": 4, "lr_cycle_growth": 2.0,
    "target_score": None, "steps": 18_000, "muon_learning_rate": 0.035,
}  # the adder's defaults in version 0.4  # fmt: skip
SMALL = ["--set=hidden_size=8", "--set=eval_samples=8", "--set=precision=fp32", "--set=threads=1"]
COMMAND = ["--agent", "seq2seq_adder", "--task", "add2x2", "--device", "cpu", *SMALL]


def earlier_run(folder: Path) -> None:
    """Make the folder of a run of two steps with the defaults of version 0.4."""
    recipe = {**EARLIER, "steps": 2}
    options = [f"--set={name}={'null' if v is None else v}" for name, v in recipe.items()]
    assert main([*COMMAND, *options, "--run-dir", str(folder)]) == 0


def test_the_command_of_an_earlier_run_goes_on_with_it(tmp_path: Path) -> None:
    """What is not given is as it was when the run began, and not as it is for new runs."""
    earlier_run(tmp_path)
    assert main([*COMMAND, "--set=steps=3", "--run-dir", str(tmp_path)]) == 0
    agent = agents.load(tmp_path / "checkpoints" / "step-000000003.safetensors", "cpu")
    assert (agent.config.batch_size, agent.config.schedule) == (256, "one_cycle")


def test_what_is_given_still_has_to_be_the_runs_own(tmp_path: Path) -> None:
    """Another value that a person named is refused as ever."""
    earlier_run(tmp_path)
    assert main([*COMMAND, "--set=batch_size=128", "--run-dir", str(tmp_path)]) == 2


def test_a_setting_that_a_run_does_not_know_has_its_first_default(tmp_path: Path) -> None:
    """A folder and a checkpoint from before a setting are read with what it was at first."""
    earlier_run(tmp_path)
    path = tmp_path / "config.yaml"
    saved = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({k: v for k, v in saved.items() if k != "target_score"}))
    assert main(["--run-dir", str(tmp_path), "--set=steps=3", "--device=cpu"]) == 0
    newest = tmp_path / "checkpoints" / "step-000000003.safetensors"
    assert agents.load(newest, "cpu").config.target_score is None
    found = read(newest)
    del found.values["config"]["target_score"]
    newest.write_bytes(found.to_bytes())
    assert agents.load(newest, "cpu").config.target_score is None
    assert agents.make("seq2seq_adder", task="add2x2", device="cpu").config.target_score == 0.995
