"""The page of the notes' figures is made of runs, and says what did not run."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from agents.cli import modes
from agents.cli.modes import MODES
from agents.cli.options import parse
from agents.cli.run_spec import parse_run_spec
from agents.core.inspection.available import VIEWS
from benchmarks.marked import replaced
from docs import notes
from docs.notes_claims import ROWS
from docs.notes_row import Row

OWN_DATA = ("--task text", "FOLDER", "RUN_A")  # it depends on the machine, or is the reader's


def run(seed: int, accuracy: float, **values: Any) -> notes.Run:
    """Return a recorded run."""
    values = {**values, "seed": seed}
    scores = {"scores": {"accuracy": accuracy}, "constant": {}}
    return {"values": values, "settings": "x", "day": "2026-11-30", **scores}


def row(**changes: Any) -> Row:
    """Return a row whose command is `sweep`."""
    defaults = {"note": "000", "claim": "", "command": "sweep", "scores": ("accuracy",)}
    return Row(**{**defaults, **changes})


def test_the_page_has_the_table_of_the_record() -> None:
    """`python docs/notes.py` was run after the last change of claims or record."""
    page = notes.PAGE.read_text(encoding="utf-8")
    assert page == notes.with_table(page, notes.read_record())
    assert set(notes.read_record()) <= set(notes.commands())


def test_recorded_runs_have_the_settings_of_their_commands() -> None:
    """No recorded figure is of a recipe that has changed since."""
    record = notes.read_record()
    assert record
    for command, recorded in record.items():
        if "--task text" not in command:  # its settings name the corpus, Python's own library
            present = {repr(v): s.config.digest(s.task) for v, s in notes.plan(command).runs}
            assert {repr(each["values"]): each["settings"] for each in recorded}.items() <= (
                present.items()
            ), command


@pytest.mark.parametrize(
    "command",
    sorted({r.command for r in ROWS if not any(word in r.command for word in OWN_DATA)}),
)
def test_commands_of_the_notes_are_understood(command: str) -> None:
    """Each has an agent, a task, settings and views that exist."""
    options = parse(shlex.split(command))
    parse_run_spec(options, MODES)
    names = {name for _, name in VIEWS}
    assert set((options.views or "").split(",")) - names <= {""}


def test_a_row_without_a_run_says_so() -> None:
    """Neither a figure nor an interval is made up."""
    assert notes.result(row(), {}) == "not run"
    assert notes.result(row(only={"n": (2,)}), {"sweep": [run(0, 0.5, n=1)]}) == "not run"
    assert notes.result(row(scores=(), page="[a](b.md)"), {}) == "[a](b.md)"


def test_a_cell_has_mean_interval_seeds_and_day() -> None:
    """97, 98 and 99 % have the mean 98 and, with t(0.975, 2) = 4.303, an interval of ± 2.5."""
    record = {"sweep": [run(seed, 0.97 + seed / 100) for seed in range(3)]}
    assert notes.result(row(), record) == "accuracy 98.0 ± 2.5 % (3 seeds)<br>2026-11-30"
    one = {"sweep": [run(0, 0.5, n=1), run(0, 0.25, n=2)]}
    assert notes.result(row(), one) == (
        "`n=1`: accuracy 50.0 % (1 seed)<br>`n=2`: accuracy 25.0 % (1 seed)<br>2026-11-30"
    )
    assert notes.result(row(only={"n": (2,)}), one).startswith("`n=2`: accuracy 25.0 %")
    beside = {"sweep": [{**run(0, 0.5), "constant": {"accuracy": 0.475}}]}
    assert "<br>a constant answer: accuracy 47.5 %<br>" in notes.result(row(), beside)


COMMAND = "--agent parity_lstm --task parity --set hidden_size=3 --mode sweep --grid seed=0,1"


def finished(state: str) -> Path:
    """Write a run folder of seed 0 of COMMAND in the current folder, as training leaves it."""
    spec = notes.plan(COMMAND).runs[0][1]
    folder: Path = spec.run_dir
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(modes.config_file(spec))
    status = {"state": state, "time": "2026-11-30T09:00:00+0000"}
    (folder / "status.json").write_text(json.dumps(status))
    records = (
        {"step": 6, "eval/loss": 0.75, "chance/accuracy": 0.25, "chance/loss": 0.7},
        {"step": 7, "train/loss": 0.5, "time/seconds": 1.5},
    )
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in records))
    (folder / "test.json").write_text('{"accuracy": 0.5, "num_samples": 100, "seed": 0}')
    return folder


def test_only_finished_runs_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was stopped is not a result; one that is done has scores, steps and seconds."""
    monkeypatch.chdir(tmp_path)
    finished("interrupted")
    assert notes.runs_of(COMMAND, []) == []
    finished("done")
    (found,) = notes.runs_of(COMMAND, [])
    assert found["values"] == {"seed": 0}
    assert (found["day"], found["steps"], found["seconds"]) == ("2026-11-30", 7, 1.5)
    assert (found["num_samples"], found["scores"]) == (
        100,
        {"accuracy": 0.5, "train_loss": 0.5, "eval_loss": 0.75},
    )
    assert found["constant"] == {"accuracy": 0.25}
    assert not notes.is_done(COMMAND)


def test_a_recorded_run_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in the record is not run again where its folder is gone, or was never here."""
    monkeypatch.chdir(tmp_path)
    recorded = [
        {"values": values, "settings": notes.digest(spec)}
        for values, spec in notes.plan(COMMAND).runs
    ]
    assert notes.is_done(COMMAND, recorded)
    assert not notes.is_done(COMMAND, recorded[1:])


def test_a_folder_of_other_settings_is_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of an earlier recipe does not count as one of the present command."""
    monkeypatch.chdir(tmp_path)
    path = finished("done") / "config.yaml"
    text = path.read_text()
    assert notes.runs_of(COMMAND, [])
    for setting, other in (("hidden_size: 3", "hidden_size: 4"), ("seed: 0", "seed: 1")):
        assert setting in text
        path.write_text(text.replace(setting, other))
        assert notes.runs_of(COMMAND, []) == []
    path.unlink()
    assert notes.runs_of(COMMAND, []) == []


def test_recorded_runs_are_kept_while_their_settings_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its folder a run is as recorded, but not once a default of its recipe has changed."""
    monkeypatch.chdir(tmp_path)
    finished("done")
    recorded = notes.runs_of(COMMAND, [])
    monkeypatch.chdir(tmp_path.parent)
    assert notes.runs_of(COMMAND, recorded) == recorded
    assert notes.runs_of(COMMAND, [{**recorded[0], "settings": "other"}]) == []
    assert notes.runs_of(f"{COMMAND} --set steps=3", recorded) == []


def test_rows_to_run_are_chosen_by_note_or_words() -> None:
    """Without words all but the long ones."""
    every = notes.chosen([], is_long=True)
    assert every == list(ROWS)
    assert [r for r in every if not r.is_long] == notes.chosen([], is_long=False)
    assert {r.note for r in notes.chosen(["003"], is_long=True)} == {"003"}
    assert all("hidden_size=1 " in r.command for r in notes.chosen(["hidden_size=1 "], True))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["hiddn_size"], ["'hiddn_size'", "a note (000, 001"]),
        (["003", "009"], ["'009'", "003"]),
        ([next(row.command for row in ROWS if row.scores and row.is_long)], ["--long too"]),
    ],
)
def test_a_word_that_chooses_nothing_is_refused(
    words: list[str], expected: list[str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Each word has to choose a command, else nothing is run or written; why is said."""
    monkeypatch.setattr(notes, "read_record", lambda: pytest.fail("it goes on"))
    with pytest.raises(SystemExit) as ended:
        notes.main(["--run", *words])
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert [word for word in expected if word not in message] == [], message


def test_a_folder_counts_before_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was trained again on the same day has its new figures."""
    monkeypatch.chdir(tmp_path)
    folder = finished("done")
    recorded = notes.runs_of(COMMAND, [])
    (folder / "test.json").write_text('{"accuracy": 0.75, "num_samples": 100, "seed": 0}')
    (found,) = notes.runs_of(COMMAND, recorded)
    assert (found["day"], found["scores"]["accuracy"]) == (recorded[0]["day"], 0.75)


@pytest.mark.parametrize("page", ["no marks", "B B E", "E B", "B"])
def test_a_page_without_its_marks_is_refused(page: str) -> None:
    """Nothing of a page is lost because a mark is missing, doubled or out of order."""
    with pytest.raises(ValueError, match="accepted: "):
        replaced(page, "B", "E", "text")
    assert replaced("a B old E z", "B", "E", " new ") == "a B new E z"
