"""Sweeps that search: random or TPE, shared by processes, resumed by the same command."""

import csv
import math
import statistics
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest

import agents
from agents.cli import running
from agents.core.config import ConfigError, read_file
from agents.core.runs.run_folder import RunFolder
from agents.core.sweeps.space import Choices, Range, parse_space
from agents.core.sweeps.study import StudySettings, StudyStore
from agents.core.training.trainer import PrunedError
from main import main
from tests.conftest import SMALL, same, weights
from tests.system.test_sweep import COMMAND, rows

SEARCH = ["--search", "learning_rate=1e-4..0.1:log", "--search", "hidden_size=3,5"]


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
        (["--search", "seed=1..4"], ["--search: seed: is not searched", "--seeds 0,1,2"]),
        (["--search", "hidden_size"], ["'hidden_size'", "low..high"]),
        ([*SEARCH, "--sampler", "tpee"], ["unknown sampler 'tpee'", "did you mean tpe?"]),
        ([*SEARCH, "--grid", "hidden_size=2,3"], ["--grid", "cannot be combined"]),
        ([*SEARCH, "--trials", "0"], ["--trials", "0 is out of range"]),
        ([*SEARCH, "--workers", "0"], ["--workers", "0 is out of range"]),
        ([*SEARCH, "--pruner", "medain"], ["unknown pruner 'medain'", "did you mean median?"]),
        ([*SEARCH, "--seeds", "0,one"], ["--seeds", "'0,one'", "such as 0,1,2"]),
        ([*SEARCH, "--resume", "never"], ["--resume", "another --run-dir"]),
        ([*SEARCH, "--search", "hidden_size=9,8"], ["duplicate setting", "hidden_size=9,8"]),
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


@pytest.mark.parametrize("sampler", ["tpe", pytest.param("random", marks=pytest.mark.slow)])
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
    chosen = [
        row for row in rows(tmp_path)
        if float(row["learning_rate"]) == saved["learning_rate"].value
        and int(row["hidden_size"]) == saved["hidden_size"].value
    ]  # fmt: skip
    assert [row["best accuracy"] for row in chosen] == [best["best accuracy"]]
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


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("agent", "hidden_size", "23 cannot be divided", "a multiple of 4"),
        MemoryError("not enough of it"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_a_trial_that_cannot_run_does_not_end_the_search(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Why is said, other values follow, and the same command does not try it again."""
    errors, learn = [error], running.learn

    def fails_once(*arguments: Any) -> Any:
        if errors:
            raise errors.pop()
        return learn(*arguments)

    monkeypatch.setattr(running, "learn", fails_once)
    command = [*COMMAND, *SEARCH, "--sampler", "random", "--run-dir", str(tmp_path)]
    assert main([*command, "--trials", "2"]) == 0
    message = capsys.readouterr().err
    assert "trial 0: " in message
    assert str(error) in message
    assert [row["ended"] for row in rows(tmp_path)].count("done") == 1
    monkeypatch.setattr(running, "learn", lambda *_: pytest.fail("all trials are told"))
    assert main([*command, "--trials", "2"]) == 0


def test_a_search_without_any_possible_values_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each trial's reason is said, and the exit code is that of settings."""
    words = ["--agent", "set_transformer", "--task", "subset_sum", "--search", "hidden_size=10,14"]
    assert main([*GRID, *words, "--trials", "2", "--run-dir", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert message.count("accepted: a multiple of 4") == 2
    assert "no trial could run" in message


def test_a_pruned_run_can_be_continued(tmp_path: Path) -> None:
    """It was saved where it ended, says pruned, and learning again takes its remaining steps."""
    agent = agents.make("parity_lstm", task="parity", device="cpu", **SMALL)
    seen: list[tuple[int, float]] = []
    folder = tmp_path / "run"

    def prune(step: int, score: float) -> bool:
        seen.append((step, score))
        return step >= 8

    with pytest.raises(PrunedError, match="pruned at step 8; `learn`"):
        agent.learn(run_dir=folder, prune=prune, progress=False)
    assert [step for step, _ in seen] == [4, 8]
    assert [score for _, score in seen] == agent.history.series("eval/accuracy")[1]
    assert RunFolder(folder).last_status() == "pruned"
    again = agents.make("parity_lstm", task="parity", device="cpu", **SMALL)
    again.learn(run_dir=folder, progress=False)
    straight = agents.make("parity_lstm", task="parity", device="cpu", **SMALL).learn()
    assert same(weights(again), weights(straight))


def test_a_pruned_trial_is_a_run_that_ended_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row says pruned, its score is none of the best, and the next trial runs as usual."""
    monkeypatch.setattr(optuna.Trial, "should_prune", lambda trial: trial.number == 0)
    words = ["--search", "learning_rate=1e-3..0.1:log", "--trials", "2", "--run-dir", str(tmp_path)]
    assert main([*COMMAND, *words]) == 0
    first, second = rows(tmp_path)
    assert (first["ended"], first["at step"], second["ended"]) == ("pruned", "4", "done")
    saved = read_file(tmp_path / "best.yaml")
    assert saved["learning_rate"].value == float(second["learning_rate"])


def test_a_worker_whose_trial_another_has_started_again_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its run ends as a pruned one, to be continued by the other, and it takes further trials."""
    report = optuna.Trial.report

    def ended_by_another(trial: optuna.Trial, score: float, step: int) -> None:
        if trial.number == 0:
            trial.study.tell(0, state=optuna.trial.TrialState.FAIL)
        report(trial, score, step)

    monkeypatch.setattr(optuna.Trial, "report", ended_by_another)
    words = ["--search", "learning_rate=1e-3..0.1:log", "--trials", "1", "--run-dir", str(tmp_path)]
    assert main([*COMMAND, *words]) == 0
    assert [row["ended"] for row in rows(tmp_path)] == ["done"]
    states = [RunFolder(path.parent).last_status() for path in tmp_path.glob("*/status.json")]
    assert sorted(states) == ["done", "pruned"]


def test_the_median_of_earlier_trials_prunes(tmp_path: Path) -> None:
    """After five trials one that is worse than all is to end, one that is better is not."""
    settings = StudySettings(folder=tmp_path, name="s", direction="min", pruner="median")
    store = StudyStore(settings)
    for loss in (1.0, 2.0, 3.0, 4.0, 5.0):
        with store.claim(7) as trial:
            assert trial is not None
            trial.report(loss, 10)
            store.tell(trial, loss)
    for loss, is_worse in ((9.0, True), (0.5, False)):
        with store.claim(7) as trial:
            assert trial is not None
            trial.report(loss, 10)
            assert trial.should_prune() == is_worse
            store.tell(trial, None)


def test_seeds_give_intervals(tmp_path: Path) -> None:
    """The row of a trial has mean and interval of its runs, by Student's t."""
    words = ["--search", "hidden_size=3", "--trials", "1", "--seeds", "0,1,2"]
    assert main([*COMMAND, *words, "--run-dir", str(tmp_path)]) == 0
    scores = [float(row["best accuracy"]) for row in rows(tmp_path)]
    with (tmp_path / "sweep-seeds.csv").open(encoding="utf-8", newline="") as file:
        _, row = csv.reader(file)
    low, high = map(float, row[3].split(" to "))
    half = 4.302653 * statistics.stdev(scores) / math.sqrt(3)
    assert row[1] == "3"
    assert (low + high) / 2 == pytest.approx(statistics.mean(scores), abs=1e-3)
    assert (high - low) / 2 == pytest.approx(half, abs=1e-3)
    assert "| hidden_size |" in (tmp_path / "sweep-seeds.md").read_text()


GRID = [
    "--mode", "sweep", "--device", "cpu", "--set", "steps=2", "--set", "eval_samples=8",
    "--set", "batch_size=4", "--set", "precision=fp32",
]  # fmt: skip


def test_a_grid_goes_over_agents_and_tasks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What an agent does not have is left out for it, and a pair that does not fit, said so."""
    words = ["--grid", "agent=seq2seq_adder,transformer_adder,parity_lstm", "--grid", "task=add2x2",
             "--grid", "num_heads=1,2", "--set", "cell=gru", "--set", "d_model=8",
             "--set", "hidden_size=8"]  # fmt: skip
    assert main([*GRID, *words, "--run-dir", str(tmp_path)]) == 0
    assert [(row["agent"], row["num_heads"]) for row in rows(tmp_path)] == [
        ("seq2seq_adder", ""), ("transformer_adder", "1"), ("transformer_adder", "2"),
    ]  # fmt: skip
    assert "parity_lstm cannot learn add2x2: left out" in capsys.readouterr().err
    assert (tmp_path / "best.yaml").exists()
    assert 'id="slices"' in (tmp_path / "sweep.html").read_text()


def test_a_run_that_a_model_refuses_does_not_end_the_grid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Why is said, and the others are done; where none can run, the exit code says so."""
    words = ["--agent", "set_transformer", "--task", "subset_sum", "--run-dir", str(tmp_path)]
    assert main([*GRID, *words, "--grid", "hidden_size=10,8"]) == 0
    assert "hidden_size=10: set_transformer" in (message := capsys.readouterr().err)
    assert "accepted: a multiple of 4" in message
    assert [(row["hidden_size"], row["ended"]) for row in rows(tmp_path)] == [
        ("10", "not begun"), ("8", "done"),
    ]  # fmt: skip
    assert main([*GRID, *words, "--grid", "hidden_size=10,14"]) == 2
    assert "a multiple of 4" in capsys.readouterr().err


def test_scores_of_different_tasks_are_not_compared(tmp_path: Path) -> None:
    """A grid over tasks has its tables and losses, but no best trial and no figure of scores."""
    words = ["--agent", "seq2seq_adder", "--grid", "task=add2x2,add3x2", "--set", "hidden_size=8"]
    assert main([*GRID, *words, "--run-dir", str(tmp_path)]) == 0
    assert [(row["task"], row["ended"]) for row in rows(tmp_path)] == [
        ("add2x2", "done"), ("add3x2", "done"),
    ]  # fmt: skip
    assert not (tmp_path / "best.yaml").exists()
    page = (tmp_path / "sweep.html").read_text()
    assert 'id="losses"' in page
    assert 'id="slices"' not in page


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--grid", "agent=parity_lstm,char_lmm"], ["'char_lmm'", "did you mean char_lm?"]),
        (["--grid", "agent=parity_lstm,char_lm", "--set", "hiden=3"], ["--set hiden"]),
        (["--grid", "agent=parity_lstm,char_lm", "--grid", "hiden=3"], ["--grid hiden"]),
        (["--grid", "agent=parity_lstm", "--agent", "char_lm"], ["--agent", "--grid agent="]),
        (["--grid", "seed=0,1", "--seeds", "0,1"], ["--seeds", "swept already"]),
        (["--grid", "seed=0,1", "--trials", "3"], ["--trials", "--search"]),
        ([], ["--grid", "is required by --mode sweep"]),
        (["--search", "task=parity,mod3"], ["--search: task", "--grid task="]),
    ],
)
def test_a_bad_grid_of_agents_is_named(
    words: list[str], expected: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Place, value and the nearest right name are said; the folder stays empty."""
    names = [] if any("agent=" in word for word in words) else ["--agent", "parity_lstm"]
    names += [] if any("task=" in word for word in words) else ["--task", "parity"]
    command = [*GRID, *names, *words, "--run-dir", str(tmp_path)]
    assert main(command) == 2
    message = capsys.readouterr().err
    assert [word for word in expected if word not in message] == [], message
    assert list(tmp_path.iterdir()) == []


def test_a_grid_has_one_folder_whatever_its_first_agent_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --run-dir too, the table is in the folder that has the runs."""
    monkeypatch.chdir(tmp_path)
    words = ["--task", "add2x2", "--grid", "agent=seq2seq_adder,transformer_adder",
             "--grid", "num_heads=1,2", "--set", "cell=gru", "--set", "d_model=8",
             "--set", "hidden_size=8"]  # fmt: skip
    assert main([*GRID, *words]) == 0
    (table,) = tmp_path.rglob("sweep.csv")
    runs = {path.parents[1] for path in tmp_path.rglob("metrics.jsonl")}
    assert runs == {table.parent}
    assert len(rows(table.parent)) == 3


def test_another_sweep_in_the_folder_loads_the_same_run(tmp_path: Path) -> None:
    """A run with the same settings is found by them, whatever its sweep named it."""
    both = ["--run-dir", str(tmp_path)]
    assert main([*COMMAND, *both, "--set", "hidden_size=3", "--grid", "batch_size=4"]) == 0
    assert main([*COMMAND, *both, "--grid", "hidden_size=3", "--grid", "batch_size=4,5"]) == 0
    names = {path.parent.name for path in tmp_path.glob("*/metrics.jsonl")}
    assert names == {"batch_size=4", "hidden_size=3,batch_size=5"}


def test_a_grid_needs_no_optuna_and_a_search_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the package a grid runs, without importance; a search names the command."""
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "agents.core.sweeps.study")
    both = ["--run-dir", str(tmp_path)]
    assert main([*COMMAND, *both, "--grid", "hidden_size=3,4"]) == 0
    assert [row["ended"] for row in rows(tmp_path)] == ["done", "done"]
    assert "no importance" in capsys.readouterr().err
    assert main([*COMMAND, *both, *SEARCH]) == 2
    assert "optuna is not installed" in (message := capsys.readouterr().err)
    assert "pip install optuna" in message


@pytest.mark.slow  # a process that starts
def test_two_workers_share_a_grid(tmp_path: Path) -> None:
    """Each run is done once, by one or the other, and all are in the table."""
    words = ["--grid", "hidden_size=3,4,5,6", "--workers", "2", "--run-dir", str(tmp_path)]
    assert main([*COMMAND, *words]) == 0
    assert [row["ended"] for row in rows(tmp_path)] == ["done"] * 4
    folders = [tmp_path / f"hidden_size={size}" for size in (3, 4, 5, 6)]
    assert [len((each / "command.txt").read_text().splitlines()) for each in folders] == [1] * 4
