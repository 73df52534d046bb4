"""Files, options, run folders and checkpoints with earlier names of settings are understood."""

from pathlib import Path

import pytest
import yaml

import agents
import tasks
from agents.cli.run_spec import note_renamed, parse_run_spec
from agents.cli.sweep import run_specs
from agents.core.runs.checkpoint import read
from main import main, parse
from tasks.core.settings import fields

# Commands as versions up to 0.4.1 understood them, and the names that it gave to run folders.
ADDER = (  # with the defaults of its last days
    "seq2seq_adder add3x3 batch_size=128 steps=14000 muon_learning_rate=0.035 eval_every=1000"
)
FOLDERS = {
    ADDER: "b93b7f47",
    f"{ADDER} rate_parts=3 rate_growth=1.5 stop_at=0.5 keep=5 vitals=false "
    "record_progression=4": "9dad1c22",
    f"{ADDER} schedule=step rate_factor=0.5 raise_below=0.1 raise_steps=3": "19bfbc60",
    "transformer_adder add2x2 model_size=32 feedforward_size=48": "e235fea7",
    "adding_lstm adding_problem backward_steps=20 raise_below=null": "7a5aa0c1",
    "parity_lstm parity raise_below=0.2": "2feb9dc7",
    "cnn_classifier digits record_progression=3": "dee36ace",
    "char_lm text restart=0.2 task.chunk=64 task.characters=abcdefghijklmnopqrstuvwxyz "
    "task.digest=none": "5bd2cf4a",
}  # fmt: skip
SMALL = ["hidden_size=8", "eval_samples=8", "precision=fp32", "threads=1", "steps=2", "keep=2"]
COMMAND = ["--agent=seq2seq_adder", "--task=add2x2", "--device=cpu", *(f"--set={s}" for s in SMALL)]


def present(agent: str, task: str) -> dict[str, str]:
    """Return the present names of all renamed settings of an agent and a task."""
    found = {}
    config = tasks.find("agent", agent, agents.AGENTS, "test").load().Config
    for prefix, cls in (("", config), ("task.", tasks.task_class(task))):
        for name, field in fields(cls).items():
            found |= {prefix + old: prefix + name for old in field.metadata["renamed_from"]}
    return found


@pytest.mark.parametrize("command", FOLDERS)
def test_a_run_folder_keeps_its_name(command: str) -> None:
    """By earlier names or by the present ones, the same settings have the folder that they had."""
    agent, task, *settings = command.split()
    names = present(agent, task)
    renamed = [f"{names.get(n, n)}={v}" for n, _, v in (text.partition("=") for text in settings)]
    for texts in (settings, renamed):
        options = [f"--agent={agent}", f"--task={task}", *(f"--set={text}" for text in texts)]
        folder = parse_run_spec(parse(options), ("train",)).run_dir
        assert folder == Path(f"runs/{task}/{agent}/{FOLDERS[command]}-s0")


def test_a_file_and_an_option_may_name_a_setting_differently(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The option wins over the file, whichever of them has the earlier name; a note says so."""
    path = tmp_path / "adder.yaml"
    for in_file, option in (("stop_at", "target_score"), ("target_score", "stop_at")):
        note_renamed.cache_clear()
        path.write_text(f"agent: seq2seq_adder\ntask: add2x2\n{in_file}: 0.5\n")
        command = ["--config", str(path), f"--set={option}=0.75"]
        assert parse_run_spec(parse(command), ("train",)).config.target_score == 0.75
        place = "--set stop_at" if option == "stop_at" else f"{path}, line 3"
        note = f"terrarium: {place}: 'stop_at' is now called 'target_score'\n"
        assert capsys.readouterr().err == note


def test_one_file_names_a_setting_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both names in one file are a duplicate."""
    path = tmp_path / "adder.yaml"
    path.write_text("agent: seq2seq_adder\ntask: add2x2\nstop_at: 0.5\ntarget_score: 0.5\n")
    assert main(["--config", str(path)]) == 2
    assert (
        "line 3: duplicate key 'stop_at': the earlier name of 'target_score'"
        in capsys.readouterr().err
    )


def test_settings_of_make_have_their_earlier_names() -> None:
    """Python's arguments too are read, with a DeprecationWarning; so are attributes."""
    with pytest.warns(DeprecationWarning, match="setting 'chunk' is now 'block_size'"):
        task = tasks.make("text", chunk=16, characters="ab", digest="unread")
    assert task.block_size == 16
    with pytest.warns(DeprecationWarning, match="setting 'raise_below' is now 'curriculum_loss"):
        agent = agents.make("parity_lstm", task="parity", device="cpu", raise_below=0.5)
    with pytest.warns(DeprecationWarning, match="raise_below is now curriculum_loss_threshold"):
        assert agent.config.raise_below == agent.config.curriculum_loss_threshold == 0.5
    with pytest.warns(DeprecationWarning, match="chunk is now block_size"):
        assert task.chunk == 16


def test_a_sweep_keeps_its_folders() -> None:
    """The folders of a sweep are the same by either name of what it goes through."""
    folders = []
    for name in ("rate_parts", "lr_cycles"):
        grid = {name: [1, 2], "task.reverse": ["none"]}
        base = parse_run_spec(parse([*COMMAND, "--mode=sweep"]), ("sweep",))
        folders.append([spec.run_dir for _, spec in run_specs(base, grid, ("sweep",))])
    assert folders[0] == folders[1]
    assert folders[0][1].name == "rate_parts=2,task.reverse=none"
    assert folders[0][1].parent.name.startswith("sweep-rate_parts-task.reverse-")


def test_earlier_options_are_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--over` and the mode `validate`, typed or in a file, are what they are called now."""
    path = tmp_path / "mode.yaml"
    path.write_text("mode: validate\n")
    for options, place in (
        (["--mode=validate"], "--mode: 'validate' is now called 'evaluate'"),
        ([f"--config={path}"], f"{path}, line 1: 'validate' is now called 'evaluate'"),
        (["--mode=sweep", "--over=hidden_size=0"], "line: '--over' is now called '--grid'"),
    ):
        note_renamed.cache_clear()
        assert main([*COMMAND, *options, "--run-dir", str(tmp_path / "none")]) == 2
        message = capsys.readouterr().err
        assert place in message
        found = (
            "best.safetensors does not exist" in message,
            "--grid hidden_size: hidden_size: 0" in message,
        )
        assert found == ("validate" in place, "--over" in place)


def to_earlier_names(folder: Path) -> None:
    """Write a run's settings and checkpoints as version 0.4 did."""
    earlier = {new: old for old, new in present("seq2seq_adder", "add2x2").items()}
    assert {"keep_checkpoints", "target_score", "lr_cycles"} <= earlier.keys()
    path = folder / "config.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({earlier.get(n, n): v for n, v in values.items()}))
    for path in (folder / "best.safetensors", *(folder / "checkpoints").iterdir()):
        found = read(path)
        config = found.values["config"]
        found.values["config"] = {earlier.get(n, n): v for n, v in config.items()}
        path.write_bytes(found.to_bytes())


def test_an_earlier_run_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder of version 0.4 is loaded, goes on, and refuses another value as ever, silently."""
    assert main([*COMMAND, "--run-dir", str(tmp_path)]) == 0
    to_earlier_names(tmp_path)
    note_renamed.cache_clear()
    capsys.readouterr()
    assert agents.load(tmp_path / "best.safetensors", "cpu").config.keep_checkpoints == 2
    assert main(["--run-dir", str(tmp_path), "--mode=predict", "--input=1+1", "--device=cpu"]) == 0
    assert main(["--run-dir", str(tmp_path), "--set=steps=3", "--device=cpu"]) == 0
    assert "is now called" not in capsys.readouterr().err
    assert (tmp_path / "checkpoints" / "step-000000003.safetensors").exists()
    to_earlier_names(tmp_path)
    assert main([*COMMAND, "--run-dir", str(tmp_path), "--set=steps=4", "--set=lr_cycles=9"]) == 2
    assert "lr_cycles: the run in this folder has 2, this one 9" in capsys.readouterr().err
