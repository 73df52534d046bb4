"""Sweeps that search: random or TPE, shared by processes, resumed by the same command."""

import csv
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agents.core.config import read_file
from agents.core.sweeps.space import Choices, Range, parse_space
from main import main
from tests.conftest import SMALL

ROOT = Path(__file__).parents[2]
COMMAND = [
    "--agent", "parity_lstm", "--task", "parity", "--mode", "sweep", "--device", "cpu",
    "--set", "task.length=12", "--set", "curriculum_loss_threshold=null",
    *(word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")),
]  # fmt: skip
SEARCH = ["--search", "learning_rate=1e-4..0.1:log", "--search", "hidden_size=3,5"]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "sweep.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_ranges_and_choices_are_read() -> None:
    """Integers stay integers, a scale may follow, words are choices."""
    assert parse_space(["a=1..8", "b=1e-4..0.1:log", "c=lstm,gru", "d=-1..1"]) == {
        "a": Range(1, 8), "b": Range(1e-4, 0.1, True), "c": Choices(("lstm", "gru")),
        "d": Range(-1, 1),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--search", "learning_rate=0.1..0.01"], ["--search", "0.1..0.01"]),
        (["--search", "learning_rate=0..1:log"], ["--search", "no logarithm"]),
        (["--search", "learning_rate=0.1..1:lgo"], ["unknown scale 'lgo'", "did you mean log?"]),
        (["--search", "learning_rat=0.1..1"], ["--search learning_rat", "learning_rate?"]),
        (["--search", "task.lenght=4,8"], ["--search task.lenght", "did you mean length?"]),
        (["--search", "hidden_size=0..8"], ["--search hidden_size", "0 is out of range"]),
        (["--search", "hidden_size=2.5..8"], ["--search hidden_size", "2.5"]),
        (["--search", "hidden_size=4,4"], ["duplicate value"]),
        (["--search", "seed=1..4"], ["'seed' cannot be searched"]),
        (["--search", "hidden_size"], ["'hidden_size'", "low..high"]),
        ([*SEARCH, "--sampler", "tpee"], ["unknown sampler 'tpee'", "did you mean tpe?"]),
        ([*SEARCH, "--grid", "hidden_size=2,3"], ["--grid", "cannot be combined"]),
        ([*SEARCH, "--trials", "0"], ["--trials", "0 is out of range"]),
    ],
)
def test_a_bad_search_is_named_before_anything_runs(
    words: list[str], expected: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Place, value and the nearest right name are said; the folder stays empty."""
    assert main([*COMMAND, "--trials", "2", *words, "--run-dir", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert [word for word in expected if word not in message] == [], message
    assert list(tmp_path.iterdir()) == []


def test_a_search_needs_a_number_of_trials(capsys: pytest.CaptureFixture[str]) -> None:
    """Without --trials nobody knows when it ends."""
    assert main([*COMMAND, *SEARCH]) == 2
    assert "--trials is required by --search" in capsys.readouterr().err.replace(":", "")


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_search_continues_and_repeats_no_run(sampler: str, tmp_path: Path) -> None:
    """More trials are added to those of the first call, whose files stay as they are."""
    command = [*COMMAND, *SEARCH, "--sampler", sampler, "--run-dir", str(tmp_path)]
    assert main([*command, "--trials", "2"]) == 0
    first = rows(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.glob("*/metrics.jsonl")}
    assert len(first) == len(before) == 2
    assert main([*command, "--trials", "3"]) == 0
    assert rows(tmp_path)[:2] == first
    assert len(rows(tmp_path)) == 3
    assert {path: path.read_bytes() for path in before} == before
    for row in rows(tmp_path):
        assert 1e-4 <= float(row["learning_rate"]) <= 0.1
        assert row["hidden_size"] in ("3", "5")
        folder = f"learning_rate={row['learning_rate']},hidden_size={row['hidden_size']}"
        assert (tmp_path / folder / "best.safetensors").exists()


def test_the_best_settings_are_a_file_for_config(tmp_path: Path) -> None:
    """The file has the values of the row with the best score, and --config accepts it."""
    assert main([*COMMAND, *SEARCH, "--trials", "3", "--run-dir", str(tmp_path)]) == 0
    best = max(rows(tmp_path), key=lambda row: float(row["best accuracy"]))
    saved = read_file(tmp_path / "best.yaml")
    scores = {float(row["best accuracy"]) for row in rows(tmp_path)}
    chosen = [
        row for row in rows(tmp_path)
        if float(row["learning_rate"]) == saved["learning_rate"].value
        and int(row["hidden_size"]) == saved["hidden_size"].value
    ]  # fmt: skip
    assert [row["best accuracy"] for row in chosen] == [best["best accuracy"]]
    assert float(best["best accuracy"]) == max(scores)
    assert main(["--config", str(tmp_path / "best.yaml"), "--print-config"]) == 0


def test_equal_values_are_one_run(tmp_path: Path) -> None:
    """A space of one point has one run, however many trials draw it."""
    only = ["--search", "hidden_size=3", "--trials", "3", "--run-dir", str(tmp_path)]
    assert main([*COMMAND, *only]) == 0
    assert len(rows(tmp_path)) == len(list(tmp_path.glob("*/metrics.jsonl"))) == 1


def test_a_diverged_trial_does_not_end_the_search(tmp_path: Path) -> None:
    """It is said to have diverged; without any that did not, the exit code says so."""
    words = ["--search", "learning_rate=1e38", "--set", "clip_norm=null", "--trials", "1"]
    assert main([*COMMAND, *words, "--run-dir", str(tmp_path)]) == 76
    assert [row["ended"] for row in rows(tmp_path)] == ["diverged"]
    assert not (tmp_path / "best.yaml").exists()


@pytest.mark.slow  # a process of its own
def test_the_trial_of_a_killed_process_is_continued_by_another(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Killed after its first checkpoint, its run goes on in the same folder, from that step."""
    command = [*COMMAND, "--set", "steps=500", "--set", "save_every=5", "--set", "eval_every=250"]
    command += ["--search", "hidden_size=3", "--trials", "1", "--run-dir", str(tmp_path)]
    first = subprocess.Popen([sys.executable, "main.py", *command], cwd=ROOT)
    while first.poll() is None and not list(tmp_path.glob("*/checkpoints/*.safetensors")):
        time.sleep(0.01)
    first.kill()
    assert first.wait() == -9
    assert main(command) == 0
    assert "continuing from step" in capfd.readouterr().err
    assert [row["ended"] for row in rows(tmp_path)] == ["done"]
