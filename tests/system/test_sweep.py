"""Sweeps: one run for each value of a setting."""

import csv
import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from agents.cli import running, sweep
from agents.cli.modes import MODES
from agents.cli.options import parse
from agents.cli.run_spec import RunSpec, parse_run_spec
from agents.cli.sweep import parse_grid
from agents.core.runs.run_folder import FolderInUseError, RunFolder
from main import main
from tasks.core.settings import ConfigError
from tests.conftest import SMALL

COMMAND = [
    "--agent", "parity_lstm", "--task", "parity", "--mode", "sweep", "--device", "cpu",
    "--set", "task.length=12", "--set", "curriculum_loss_threshold=null",
    *(word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")),
]  # fmt: skip


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "sweep.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("text", ["task.length", "=1,2", "a=", "a=1,,2", "a=1,2,1"])
def test_a_bad_over_is_named(text: str) -> None:
    """What is no name with different values is shown, with the right form."""
    with pytest.raises(ConfigError, match="--grid") as caught:
        parse_grid([text])
    assert repr(text) in str(caught.value)
    assert "task.length=150,200,250" in str(caught.value)


def test_values_are_read_as_in_a_config_file() -> None:
    """Numbers, null and words keep their types."""
    assert parse_grid(["a=1,2.5,null", "b=lstm"]) == {"a": [1, 2.5, None], "b": ["lstm"]}


def test_a_sweep_learns_each_value_in_its_own_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every combination has its run, its row and its panel; a second call trains nothing again."""
    command = [*COMMAND, "--grid", "task.train_length=2,4", "--grid", "hidden_size=3,5",
               "--run-dir", str(tmp_path)]  # fmt: skip
    assert main(command) == 0
    assert (tmp_path / "sweep.html").read_text().count("data:image/png") == 7
    table = rows(tmp_path)
    assert [(r["task.train_length"], r["hidden_size"]) for r in table] == [
        ("2", "3"), ("2", "5"), ("4", "3"), ("4", "5"),
    ]  # fmt: skip
    for row in table:
        name = f"task.train_length={row['task.train_length']},hidden_size={row['hidden_size']}"
        scores = json.loads((tmp_path / name / "test.json").read_text())
        assert float(row["test accuracy"]) == pytest.approx(scores["accuracy"], abs=1e-4)
        assert "loss,val_loss" in (tmp_path / name / "loss.csv").read_text()
    capsys.readouterr()
    before = {path: path.read_bytes() for path in tmp_path.glob("*/metrics.jsonl")}
    assert main(command) == 0
    assert capsys.readouterr().err.count("this run is done") == 4
    assert {path: path.read_bytes() for path in tmp_path.glob("*/metrics.jsonl")} == before
    assert rows(tmp_path) == table


def test_scores_that_stand_are_not_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second call tests only what was learned since: a run whose best agent is younger."""
    command = [*COMMAND, "--grid", "hidden_size=3,5", "--run-dir", str(tmp_path)]
    assert main(command) == 0
    tested, test = [], running.score_best
    monkeypatch.setattr(running, "score_best", lambda order: (tested.append(order), test(order))[1])
    assert main(command) == 0
    assert tested == []
    changed = tmp_path / "hidden_size=5"
    best = changed / "best.safetensors"
    os.utime(best, ns=(best.stat().st_atime_ns, 1 + (changed / "test.json").stat().st_mtime_ns))
    assert main(command) == 0
    assert [order.run_dir for order in tested] == [changed]


@pytest.mark.parametrize("name", ["loss.csv", "test.json"])
def test_a_worker_that_looks_into_a_run_takes_no_file_from_another(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one worker is about to rename is there, though another looks at the run just then."""
    looks, replace = [], Path.replace

    def replacing(self: Path, target: Path) -> Path:
        if target.name == name:
            try:
                with RunFolder.locked(target.parent):
                    looks.append("free")
            except FolderInUseError:
                looks.append("in use")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", replacing)
    assert main([*COMMAND, "--grid", "hidden_size=3", "--run-dir", str(tmp_path)]) == 0
    assert looks == ["free" if name == "loss.csv" else "in use"]
    assert [row["ended"] for row in rows(tmp_path)] == ["done"]


def test_two_workers_score_a_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that comes between training and scores takes them; the one that trained finds them."""
    options = parse([*COMMAND, "--grid", "hidden_size=3", "--run-dir", str(tmp_path)])
    plan = sweep.plan_of(parse_run_spec(options, MODES), MODES)
    test, learn, tested = running.score_best, running.learn, []

    def learning(*arguments: Any) -> None:
        learn(*arguments)
        monkeypatch.setattr(running, "learn", learn)
        sweep._work(plan, progress=False)  # as another worker does

    def testing(spec: RunSpec) -> Any:
        with pytest.raises(FolderInUseError), RunFolder.locked(spec.run_dir):
            pass
        tested.append(spec.run_dir)
        return test(spec)

    monkeypatch.setattr(running, "score_best", testing)
    monkeypatch.setattr(running, "learn", learning)
    sweep._work(plan, progress=False)
    assert tested == [tmp_path / "hidden_size=3"]


def test_a_worker_waits_for_the_one_that_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It trains nothing again meanwhile: it asks for the folder until this is free."""
    options = parse([*COMMAND, "--grid", "hidden_size=3", "--run-dir", str(tmp_path)])
    plan = sweep.plan_of(parse_run_spec(options, MODES), MODES)
    learn, other, waits = running.learn, ExitStack(), []

    def learning(*arguments: Any) -> None:
        learn(*arguments)
        other.enter_context(RunFolder.locked(arguments[0].run_dir))

    def waiting(seconds: float) -> None:
        waits.append(seconds)
        other.close()

    monkeypatch.setattr(running, "learn", learning)
    monkeypatch.setattr("agents.cli.sweep.time.sleep", waiting)
    sweep._work(plan, progress=False)
    assert waits == [sweep.POLL]
    assert (tmp_path / "hidden_size=3" / "test.json").exists()


def test_a_diverged_run_does_not_end_the_sweep(tmp_path: Path) -> None:
    """The run that diverges is said to, and the others are learned."""
    rates = ["--grid", "learning_rate=1e38,0.01", "--set", "clip_norm=null"]
    assert main([*COMMAND, *rates, "--run-dir", str(tmp_path)]) == 0
    assert [row["ended"] for row in rows(tmp_path)] == ["diverged", "done"]


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ("task.lenght=2,4", ["--grid task.lenght", "did you mean length?"]),
        ("task.length=1,4", ["--grid task.length", "1 is out of range", "≥ 2"]),
        ("hidden_size=4,many", ["--grid hidden_size", "'many' has the wrong type"]),
    ],
)
def test_a_bad_value_is_named_before_anything_runs(
    over: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All runs are checked first: the folder stays empty."""
    assert main([*COMMAND, "--grid", over, "--run-dir", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert [word for word in words if word not in message] == [], message
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_diverged_is_tried_once_in_a_sweep(tmp_path: Path) -> None:
    """Another worker of the sweep leaves it, the next sweep tries it again, and so do its workers.

    Each try is a line in command.txt.
    """
    words = [*COMMAND, "--grid", "learning_rate=1e38", "--set", "clip_norm=null"]
    options = parse([*words, "--run-dir", str(tmp_path)])

    def plan() -> sweep.Plan:
        return sweep.plan_of(parse_run_spec(options, MODES), MODES)

    for expected in (1, 2):
        began = plan()
        for _ in range(2):  # workers
            sweep._work(began, progress=False)
        (commands,) = tmp_path.glob("*/command.txt")
        assert len(commands.read_text().splitlines()) == expected
