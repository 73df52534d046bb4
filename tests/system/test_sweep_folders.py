"""Folders of a sweep's runs: one for different settings, and one only, also under earlier names."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from agents.cli import modes
from agents.cli.modes import MODES
from agents.cli.options import parse
from agents.cli.run_spec import RunSpec, parse_run_spec
from agents.cli.sweep import plan_of
from main import main
from tests.system.test_sweep import COMMAND, rows


def planned(folder: Path, *words: str) -> list[RunSpec]:
    """Return the runs of a grid in a folder."""
    options = parse([*COMMAND, *words, "--run-dir", str(folder)])
    return [spec for _, spec in plan_of(parse_run_spec(options, MODES), MODES).runs]


def names(specs: Sequence[RunSpec]) -> list[str]:
    return [spec.run_dir.name for spec in specs]


def begin(spec: RunSpec, folder: Path) -> None:
    """Write the settings of a run into a folder, as one that begins does."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(modes.config_file(spec))


@pytest.mark.parametrize(
    "grid",
    [
        "threads=1,2", "threads=null,1", "prefetch=true,false", "num_workers=0,1",
        "num_weight_snapshots=3,4", "record_progression=3,4", "record_diagnostics=true,false",
        "vitals=true,false",
    ],
)  # fmt: skip
def test_values_that_no_digest_has_are_different_runs(grid: str, tmp_path: Path) -> None:
    """Whichever folder of a sweep is there, each value has its own, and keeps it."""
    both = planned(tmp_path, "--grid", grid)
    expected = names(both)
    assert len(set(expected)) == 2
    begin(both[0], both[0].run_dir)
    assert names(planned(tmp_path, "--grid", grid)) == expected


def test_a_sweep_over_threads_has_a_run_for_each(tmp_path: Path) -> None:
    """A sweep that ended after its first run has all of them once it is called again."""
    command = [*COMMAND, "--run-dir", str(tmp_path)]
    assert main([*command, "--grid", "threads=1"]) == 0
    assert main([*command, "--grid", "threads=1,2"]) == 0
    assert [(row["threads"], row["ended"]) for row in rows(tmp_path)] == [
        ("1", "done"), ("2", "done"),
    ]  # fmt: skip
    assert len(list(tmp_path.glob("*/metrics.jsonl"))) == 2


def test_an_earlier_run_is_found_by_settings_that_are_not_swept_now(tmp_path: Path) -> None:
    """What is in no digest counts only among swept settings; an earlier name of it counts too."""
    (one,) = planned(tmp_path, "--grid", "hidden_size=3", "--set", "threads=2")
    begin(one, tmp_path / "earlier")
    assert names(planned(tmp_path, "--grid", "hidden_size=3", "--set", "threads=1")) == ["earlier"]
    swept = ["--grid", "hidden_size=3", "--grid", "threads=1,2"]
    assert names(planned(tmp_path, *swept)) == ["hidden_size=3,threads=1", "earlier"]
    (snapshots,) = planned(tmp_path, "--grid", "record_progression=7")
    begin(snapshots, tmp_path / "snapshots")
    assert names(planned(tmp_path, "--grid", "num_weight_snapshots=7")) == ["snapshots"]


@pytest.mark.parametrize("values", ["x/a,x_a", "x a,x_a,x/a", "null,None", "x/a,x:a"])
def test_different_values_have_different_folders(values: str, tmp_path: Path) -> None:
    """Also if the characters that a name of a folder cannot have are all that differs."""
    found = names(planned(tmp_path, "--grid", f"init_from={values}"))
    assert len(set(found)) == len(values.split(","))
    assert not any(set(name) & set("/ :") for name in found)


def test_names_that_say_all_stay_as_they_are(tmp_path: Path) -> None:
    """A hash follows only what was written in other characters, or is too long."""
    grid = ["--grid", "learning_rate=1e-05", "--grid", "init_from=x_a,null"]
    assert names(planned(tmp_path, *grid)) == [
        "learning_rate=1e-05,init_from=x_a", "learning_rate=1e-05,init_from=None",
    ]  # fmt: skip
    (changed,) = names(planned(tmp_path, "--grid", "init_from=x/a"))
    assert changed.startswith("init_from=x_a-")


def test_a_folder_under_its_earlier_name_is_found(tmp_path: Path) -> None:
    """A run of the time when `x/a` was named `x_a` without a hash is not repeated."""
    (spec,) = planned(tmp_path, "--grid", "init_from=x/a")
    begin(spec, tmp_path / "init_from=x_a")
    assert names(planned(tmp_path, "--grid", "init_from=x/a")) == ["init_from=x_a"]


@pytest.mark.parametrize(
    ("grid", "expected"),
    [
        ("learning_rate=1,1.0", ["learning_rate=1"]),
        ("clip_norm=1,1.0,2.0,2", ["clip_norm=1", "clip_norm=2.0"]),
        ("threads=1,2", ["threads=1", "threads=2"]),
    ],
)
def test_equal_settings_are_one_run_of_a_grid(
    grid: str, expected: list[str], tmp_path: Path
) -> None:
    """A number that is written in two ways is planned once, under its first name."""
    assert names(planned(tmp_path, "--grid", grid)) == expected


@pytest.mark.parametrize("name", ["seed=0", "earlier"])
def test_a_reader_that_has_learned_is_still_the_same_run(name: str, tmp_path: Path) -> None:
    """It has written down the characters of its task; by name and by settings it is found."""
    words = ["--agent", "ctc_reader", "--task", "digit_strings", "--mode", "sweep"]
    options = parse([*words, "--grid", "seed=0", "--run-dir", str(tmp_path)])
    (spec,) = (each for _, each in plan_of(parse_run_spec(options, MODES), MODES).runs)
    begin(spec, tmp_path / name)
    saved = tmp_path / name / "config.yaml"
    text = saved.read_text()
    assert "characters: null" in text
    saved.write_text(text.replace("characters: null", 'characters: "0123456789"'))
    (again,) = (each for _, each in plan_of(parse_run_spec(options, MODES), MODES).runs)
    assert again.run_dir.name == name
    assert again.config.characters is None
