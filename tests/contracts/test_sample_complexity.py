"""The page of sample complexity is made of runs, and says what did not run."""

import json
from pathlib import Path
from typing import Any

import pytest

import agents
import tasks
from agents.cli import modes
from agents.cli.sweep_space import fits_task
from docs import sample_complexity
from docs.notes import plan
from docs.sample_complexity import Cell, cells, points_of

CELLS = list(cells())


def run(num_train: int, seed: int, test: float, **values: Any) -> sample_complexity.Run:
    """Return a recorded run."""
    own = {"num_train": num_train, "seed": seed, "settings": "x", "day": "2026-11-30"}
    return {**own, "steps": 1, "seconds": 1.0, "test": test, "train": 1.0, **values}


def test_the_page_has_the_table_of_the_record() -> None:
    """`python docs/sample_complexity.py` was run after the last change of cells or record."""
    page = sample_complexity.PAGE.read_text(encoding="utf-8")
    assert page == sample_complexity.with_table(page, sample_complexity.read_record())


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: "-".join(cell).replace(" ", "_"))
def test_commands_are_understood_and_recorded_runs_have_their_settings(cell: Cell) -> None:
    """Each cell has an agent that can learn its task, and no figure is of an earlier recipe."""
    planned = plan(cell.command()).runs
    assert all(fits_task(spec) for _, spec in planned)
    runs = {
        (values["task.num_train"], values["seed"]): spec.config.digest(spec.task)
        for values, spec in planned
    }
    assert len(runs) == len(sample_complexity.SAMPLES) * len(sample_complexity.SEEDS)
    for each in sample_complexity.read_record().get(cell.task, {}).get(cell.network, ()):
        assert runs[each["num_train"], each["seed"]] == each["settings"]


def test_points_are_means_over_seeds_with_intervals() -> None:
    """Accuracies 0.1, 0.2, 0.3 of three seeds are 20 ± 24.8 % (Student's t with 2 degrees)."""
    seeds = [run(500, seed, (seed + 1) / 10) for seed in range(3)]
    few, many = points_of([run(4000, 0, 0.5), *seeds])
    assert (few.num_samples, many.num_samples) == (500, 4000)
    assert few.test == pytest.approx(20)
    assert (few.high - few.low) / 2 == pytest.approx(4.302653 * 10 / 3**0.5)
    table = sample_complexity.table({"max_difference": {"MLP": [*seeds, run(4000, 0, 0.5)]}})
    row = next(
        line for line in table.splitlines() if line.endswith("not run |") and "MLP |" in line
    )
    assert "| 20.0 ± 24.8 (100) | 50.0 (100) | not run |" in row


def test_training_samples_are_answered_by_the_last_state(tmp_path: Path) -> None:
    """A network that fits 20 sets is right on all, though its best state by validation is none."""
    task = tasks.make("max_difference", num_train=20, num_validation=20, num_test=20)
    agent = agents.make(
        "mlp", task=task, hidden_size=32, steps=300, batch_size=20, learning_rate=0.01, threads=1
    )
    agent.save(tmp_path / "best.safetensors")  # before any step
    agent.learn(run_dir=tmp_path / "run")
    (tmp_path / "best.safetensors").replace(tmp_path / "run" / "best.safetensors")
    assert agent.evaluate(split="train")["accuracy"] == 1
    assert sample_complexity.train_accuracy(tmp_path / "run") == 1


def finished(test: float = 0.25, step: int = 7, seconds: float = 1.5) -> Path:
    """Write a run folder of the first cell in the current folder, as training leaves it."""
    (_, spec), *_ = plan(CELLS[0].command()).runs
    folder: Path = spec.run_dir
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(modes.config_file(spec))
    files = {
        "status.json": {"state": "done", "time": "2026-11-30T10:00:00"},
        "test.json": {"accuracy": test, "num_samples": 4},
        "metrics.jsonl": {"step": step, "time/seconds": seconds},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content) + "\n")
    return folder


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """Go to an empty folder; return the runs that are scored on training samples from now on."""
    folders: list[Path] = []

    def train_accuracy(folder: Path) -> float:
        folders.append(folder)
        return 0.75 + len(folders) / 100

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sample_complexity, "train_accuracy", train_accuracy)
    return folders


def test_a_finished_run_is_scored_once(scored: list[Path]) -> None:
    """Test accuracy is that of test.json; that on training samples is computed only once."""
    folder, cell = finished(), CELLS[0]
    record = sample_complexity.update({})
    (found,) = record[cell.task][cell.network]
    assert (found["test"], found["train"], found["steps"]) == (0.25, 0.76, 7)
    assert sample_complexity.update(record) == record
    assert scored == [folder]


@pytest.mark.parametrize("changes", [{"seconds": 1.6}, {"step": 8}, {"test": 0.5}])
def test_a_run_that_was_trained_again_on_its_day_is_read_again(
    changes: dict[str, Any], scored: list[Path]
) -> None:
    """Other seconds, steps or scores are of another run, and so is its training accuracy."""
    folder, cell = finished(), CELLS[0]
    record = sample_complexity.update({})
    finished(**changes)
    again = sample_complexity.update(record)
    (found,) = again[cell.task][cell.network]
    values = {"step": found["steps"], "seconds": found["seconds"], "test": found["test"]}
    assert values == {"step": 7, "seconds": 1.5, "test": 0.25, **changes}
    assert found["train"] == 0.77
    assert scored == [folder] * 2
    assert sample_complexity.update(again) == again


@pytest.mark.parametrize(
    "words",
    [["Deep set"], ["subset_sum", "GNN, 5 rounds"], ["MLP", "Deep Sets"], ["MLP", "subset-sum"]],
)
def test_words_that_choose_nothing_are_refused(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is run or written, and the message has the words and those that are accepted."""
    monkeypatch.setattr(sample_complexity, "read_record", lambda: pytest.fail("it goes on"))
    with pytest.raises(SystemExit) as ended:
        sample_complexity.main(["--run", *words])
    assert ended.value.code == 2
    message = capsys.readouterr().err
    accepted = [*sample_complexity.TASKS, *sample_complexity.NETWORKS]
    assert [word for word in [*map(repr, words), *accepted] if word not in message] == []


def test_cells_are_chosen_by_task_and_network() -> None:
    """Without words all; a cell has all of them."""
    assert sample_complexity.chosen([]) == CELLS
    assert {cell.task for cell in sample_complexity.chosen(["subset_sum"])} == {"subset_sum"}
    assert sample_complexity.chosen(["MLP", "subset_sum"]) == [Cell("subset_sum", "MLP")]


def test_only_what_the_record_lacks_is_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Recorded runs are not repeated, also without their folders; like numbers run together."""
    monkeypatch.chdir(tmp_path)  # where no run is
    cell = CELLS[0]
    recorded = [
        run(values["task.num_train"], values["seed"], 0.5, settings=spec.config.digest(spec.task))
        for values, spec in plan(cell.command((500, 4000), (0,))).runs
    ]
    found = list(sample_complexity.missing(cell, recorded, (500, 4000, 20000), (0, 1)))
    assert found == [cell.command((500, 4000), (1,)), cell.command((20000,), (0, 1))]
    assert not list(sample_complexity.missing(cell, recorded, (500,), (0,)))
