"""The table of docs/reliability.md is that of the results, and its cases are able to fail."""

import random
import subprocess
from pathlib import Path

import pytest

from tasks.core.settings import TerrariumError
from torture import cases, checkpoints, kills  # noqa: F401  (they are registered)
from torture.__main__ import main
from torture.commands import wrong_end
from torture.files import png_bomb
from torture.fuzz_targets import TARGETS
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


def test_a_bomb_is_a_picture(tmp_path: Path) -> None:
    """The picture made to do harm is one, and only too large; a small one of its kind is read."""
    path = tmp_path / "a.png"
    path.write_bytes(png_bomb(9))
    from tasks.core.images import read_pixels

    assert read_pixels(path, (1, 9, 9), "", "").min() == 255
