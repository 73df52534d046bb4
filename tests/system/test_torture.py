"""The table of docs/reliability.md is that of the results, and its cases are able to fail."""

import json
import os
import pickle
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tasks.core.settings import TerrariumError
from tests.helpers.ranks import finished
from torture import cases, checkpoints, disks, files, kills, long_run  # noqa: F401  (they are registered)
from torture.__main__ import main
from torture.commands import Tally, meanwhile, wrong_end
from torture.files import png_bomb
from torture.fuzz_targets import TARGETS
from torture.fuzzing import outcome_of
from torture.registry import CASES, PAGE, Effort, SkippedError, read_results, table, with_table


def test_the_page_shows_the_results() -> None:
    """The page's table is made of the file of results, all of whose cases exist and held."""
    results, page = read_results(), PAGE.read_text(encoding="utf-8")
    assert results
    assert page == with_table(page, results)
    assert results.keys() <= CASES.keys()
    assert all(found["held"] == found["tried"] for found in results.values())


def test_damage_is_found_in_every_part(tmp_path: Path) -> None:
    """Flipped bits in each part are refused; the whole file in their place counts as a failure."""
    effort = Effort(folder=tmp_path, kills=0, chance=random.Random(0))
    outcome = checkpoints.flipped_bits(effort)
    assert outcome.held == outcome.tried > 250
    path = max((tmp_path / "run" / "checkpoints").glob("step-*.safetensors"))
    whole = path.read_bytes()
    assert checkpoints.problem_of(path, whole, whole) == "was read"


def test_other_weights_are_a_difference(tmp_path: Path) -> None:
    """A run equals itself, and differs from one with a checkpoint of another step in its place."""
    a, b = tmp_path / "a", tmp_path / "b"
    for folder in (a, b):
        last, first = checkpoints.trained(folder)[:2]
    assert kills.differences(a, b) == []
    last.write_bytes(first.read_bytes())
    assert f"{last.name}: tensors" in kills.differences(a, b)


def test_a_case_that_cannot_be_tried_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command says why it is skipped, the table too, and an earlier outcome is kept."""

    def disk_full(effort: Effort) -> None:
        raise SkippedError("it needs root")

    monkeypatch.setitem(CASES, "disk_full", disk_full)
    results = tmp_path / "results.json"
    monkeypatch.setattr("sys.argv", ["torture", "disk_full", "--results", str(results)])
    assert main() == 0
    assert "disk_full: skipped: it needs root" in capsys.readouterr().out
    assert "| 0 | 0 | skipped: it needs root |" in table(read_results(results))
    earlier = results.read_text().replace('"tried": 0', '"tried": 7')
    results.write_text(earlier)
    assert main() == 0
    assert results.read_text() == earlier


def test_a_wrong_end_is_found() -> None:
    """Another exit code, a traceback and a message without the name are each a problem."""
    done = subprocess.CompletedProcess((), 1, "", "Traceback (most recent call last): …")
    problems = wrong_end(done, 74, "metrics.jsonl")
    assert [problem.split(":")[0] for problem in problems] == [
        "exit code 1, not 74", "traceback", "does not say 'metrics.jsonl'",
    ]  # fmt: skip
    good = subprocess.CompletedProcess((), 74, "", "terrarium: metrics.jsonl: cannot be written")
    assert wrong_end(good, 74, "metrics.jsonl") == []


@pytest.mark.parametrize(("step", "is_made"), [(0, False), (2, True), (100, True), (101, False)])
def test_a_fault_is_made_in_time_or_not_at_all(step: int, is_made: bool, tmp_path: Path) -> None:
    """Nothing is changed for a command that ended without a checkpoint, or is nearly done."""
    if step:
        path = tmp_path / "checkpoints" / f"step-{step:09}.safetensors"
        path.parent.mkdir()
        path.touch()
    code = "import time; time.sleep(600)" if is_made else "pass"
    done, in_time = meanwhile([sys.executable, "-c", code], tmp_path, lambda p: p.kill(), 0.0)
    assert (in_time, done.returncode) == ((True, -9) if is_made else (False, 0))


def test_ctrl_c_while_a_command_ends_shows_nothing() -> None:
    """A SIGINT that Python gets as it ends changes neither the exit code nor what is written."""
    code = (
        "import atexit, os, signal, main; main.main = lambda: 130; "
        "atexit.register(os.kill, os.getpid(), signal.SIGINT); main.command()"
    )
    done = finished(["env", "--default-signal=INT", sys.executable, "-c", code])
    assert (done.returncode, done.stderr) == (130, "")


def test_a_missed_fault_is_told() -> None:
    """It counts neither as tried nor as held, and the remark tells how many there are."""
    tally = Tally(missed=2)
    tally.add("a", [])
    outcome = tally.outcome("a remark")
    assert (outcome.tried, outcome.held) == (1, 1)
    assert outcome.remark == "a remark; 2 more had ended, or nearly, before the fault"


@pytest.mark.parametrize("name", TARGETS)
def test_fuzzing_begins_with_what_is_read(name: str, tmp_path: Path) -> None:
    """The first example of each target is read, and an empty one is not a bug either."""
    target = TARGETS[name]
    target.read(tmp_path, target.examples()[0])
    for data in (b"", b"\xff", target.examples()[0][:-3]):
        try:
            target.read(tmp_path, data)
        except TerrariumError as error:
            assert str(error)  # noqa: PT017 - either is right


@pytest.mark.parametrize("words", [b"--grid==1", b"--search=a=2..1", b"--grid=seed=1,2\n--seeds=x"])
def test_options_of_sweeps_are_read(words: bytes, tmp_path: Path) -> None:
    """A bad grid, range or list of seeds is refused by the reader that is fuzzed."""
    with pytest.raises(TerrariumError, match=r"^--(grid|search|seeds): "):
        TARGETS["options"].read(tmp_path, b"--mode\nsweep\n" + words)


def test_each_bad_input_counts(tmp_path: Path) -> None:
    """Inputs that fail in one place count each; so does one that ends the process."""
    found = {"texts": {"KeyError at a.py:1": "a"}, "counts": {"KeyError at a.py:1": 7}}
    (tmp_path / "found.json").write_text(json.dumps(found))
    done = subprocess.CompletedProcess((), 0, "", "#64\tpulse\nDone 100 runs in 2 second(s)")
    outcome = outcome_of(done, tmp_path, 2.0)
    assert (outcome.tried, outcome.held) == (100, 93)
    done = subprocess.CompletedProcess((), 77, "", "#64\tpulse\n== ERROR: libFuzzer: timeout")
    outcome = outcome_of(done, tmp_path, 2.0)
    assert (outcome.tried, outcome.held, len(outcome.failures)) == (64, 56, 2)


def test_harm_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pickle that is loaded, and a name above a folder that is written, are told and removed."""
    root, folder = tmp_path / "a" / "b" / "root", tmp_path / "c" / "d" / "folder"
    root.mkdir(parents=True)
    folder.mkdir(parents=True)
    monkeypatch.chdir(root)
    assert files.remove_harm(folder, root) == []
    pickle.loads(pickle.dumps(files.Harmful()))
    assert files.remove_harm(folder, root) == [f"made {root / files.HARM}"]
    (folder / "../.." / files.HARM).touch()
    assert files.remove_harm(folder, root) == [f"made {tmp_path / 'c' / files.HARM}"]
    assert files.remove_harm(folder, root) == []


@pytest.mark.parametrize(("memory", "is_right"), [(300.0, True), (357.0, False), (np.nan, False)])
def test_memory_has_a_bound(memory: float, is_right: bool) -> None:
    """256 MiB more than for a small file are accepted; more, or a killed process, are not."""
    assert (files.too_much(memory, 100.0) == []) == is_right


def test_a_step_that_was_not_saved_is_found(tmp_path: Path) -> None:
    """The newest checkpoint is of the step in status.json, and the run says it was interrupted."""
    folder = tmp_path / "run"
    step = int(checkpoints.trained(folder)[0].stem.removeprefix("step-"))
    for state, at, is_right in (
        ("interrupted", step, True), ("interrupted", step + 1, False), ("failed", step, False),
    ):  # fmt: skip
        (folder / "status.json").write_text(json.dumps({"state": state, "step": at}))
        assert (disks.wrong_save(folder) == []) == is_right


def test_a_bomb_is_a_picture(tmp_path: Path) -> None:
    """The picture made to do harm is one, and only too large; a small one of its kind is read."""
    path = tmp_path / "a.png"
    path.write_bytes(png_bomb(9))
    from tasks.core.images import read_pixels

    assert read_pixels(path, (1, 9, 9), "", "").min() == 255


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_process_that_has_ended_has_no_sample(tmp_path: Path) -> None:
    """The memory of a process that has ended, and is not waited for, is not taken for 0 MiB."""
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    found = long_run.sample(os.getpid(), tmp_path)
    assert found is not None
    assert found.step == 2
    assert found.memory > 10
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        while Path(f"/proc/{ended.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.01)
        assert long_run.sample(ended.pid, tmp_path) is None
