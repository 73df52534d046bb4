"""Where a run is kept: links, home folders, unset variables, and several writers at once."""

from pathlib import Path

import pytest

import agents
from agents.cli.running import save_report
from agents.core.runs.checkpoint import atomic_write, temporary_path, unfinished_files
from agents.core.runs.run_folder import RunFolder
from main import main
from tasks.core.settings import ConfigError
from tests.conftest import same, small_agent, weights
from tests.system.test_run import COMMAND
from visualization.report import Report

ONE_STEP = [*COMMAND, "--set=steps=1", "--set=record_diagnostics=false"]


@pytest.fixture(autouse=True)
def short_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Score few samples after training: none of these tests is about scores."""
    monkeypatch.setattr("agents.cli.running.NUM_TESTED", 20)


def test_a_run_behind_a_link_is_put_aside(tmp_path: Path) -> None:
    """`never` renames the folder that the link leads to, and the link leads to the new run."""
    real, link = tmp_path / "real", tmp_path / "link"
    link.symlink_to(real)
    for _ in range(2):
        assert main([*ONE_STEP, "--run-dir", str(link), "--resume", "never"]) == 0
        assert RunFolder(link).is_done()
    assert link.readlink() == real
    assert RunFolder(real).is_done()
    assert RunFolder(tmp_path / "real.old-1").is_done()


@pytest.mark.parametrize("below", ["", "run"])
def test_a_link_to_a_folder_that_is_not_there_yet_makes_it(below: str, tmp_path: Path) -> None:
    """Runs, reports and checkpoints make the folder that a link names."""
    for number, write in enumerate((
        lambda folder: small_agent(steps=1).learn(run_dir=folder, progress=False),
        lambda folder: save_report(Report("nothing", {}), folder, "report", 0),
        lambda folder: small_agent().save(folder / "a.safetensors"),
    )):  # fmt: skip
        link, real = tmp_path / f"link{number}", tmp_path / "deep" / f"real{number}"
        link.symlink_to(real)
        write(link / below)
        assert any((real / below).iterdir())


@pytest.mark.parametrize("folder", ["", " "])
@pytest.mark.parametrize("names", [COMMAND, [], [*COMMAND, "--mode", "inspect"]])
def test_an_empty_folder_name_is_refused(
    folder: str, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """What an unset variable leaves is a mistake, and nothing is written where one stands."""
    monkeypatch.chdir(tmp_path)
    assert main([*names, "--run-dir", folder]) == 2
    said = capsys.readouterr().err
    assert f"--run-dir: run_dir: {folder!r} is not a folder; accepted: the path of a folder" in said
    assert main(["--mode", "compare", folder, folder]) == 2
    with pytest.raises(ConfigError, match=r"run_dir: .* is not a folder"):
        small_agent().learn(run_dir=folder)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("start", ["", "."])
def test_a_folder_is_no_checkpoint_to_start_from(
    start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--resume` takes a file."""
    assert main([*COMMAND, "--run-dir", str(tmp_path / "run"), "--resume", start]) == 2
    assert "is a folder; accepted: auto, never, or a checkpoint file" in capsys.readouterr().err


def test_the_home_folder_is_found_in_every_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`~` stands for it in run folders, checkpoints and settings, typed or given in Python."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    agent = small_agent(steps=1).learn(run_dir="~/a", progress=False)
    agent.save("~/b/b.safetensors")
    assert same(weights(agents.load("~/b/b.safetensors", "cpu")), weights(agent))
    small_agent(steps=1).learn(resume="~/b/b.safetensors")
    Path("c.yaml").write_text("agent: seq2seq_adder\ntask: add3x3\nrun_dir: ~/c\n")
    assert main([*ONE_STEP, "--config=~/c.yaml", "--resume=~/b/b.safetensors"]) == 0
    assert main([*ONE_STEP, "--run-dir=~/d"]) == 0
    assert main(["--mode", "compare", "~/c", "~/d", "--print-config"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c", "c.yaml", "d"]


@pytest.mark.parametrize("mode", ["evaluate", "predict", "inspect", "diagnose", "find-lr"])
@pytest.mark.parametrize("resume", ["never", "FILE"])
def test_resume_is_refused_where_nothing_is_trained(
    mode: str, resume: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mode that learns in no run folder has no use for the option, and says so."""
    file = tmp_path / "a"
    file.write_text("")
    command = [*COMMAND, "--run-dir", str(tmp_path), "--mode", mode, "--resume"]
    assert main([*command, resume.replace("FILE", str(file))]) == 2
    message = f"--resume: cannot be combined with --mode {mode}; accepted: --mode train or sweep"
    assert message in capsys.readouterr().err


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    """Each writes under a name of its own; whoever is last is read, and nothing else is left."""
    path = tmp_path / "predictions.csv"
    with temporary_path(path).open("wb") as half:
        half.write(b"the first hal")
        atomic_write(path, b"second")
        half.write(b"f")
    Path(half.name).replace(path)
    assert path.read_bytes() == b"the first half"
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_removes_what_killed_runs_left(tmp_path: Path) -> None:
    """Unfinished files of training go, under today's names and the earlier ones; others stay.

    Those may be of a living process: it holds no lock as it writes losses, scores or predictions.
    """
    left = [
        temporary_path(tmp_path / name) for name in ("config.yaml", "best.safetensors", "env.json")
    ]
    left += [temporary_path(tmp_path / "checkpoints" / "step-000000003.safetensors")]
    left += [tmp_path / ".status.json.tmp", tmp_path / "checkpoints" / ".step-000000003.tmp"]
    (tmp_path / "checkpoints").mkdir()
    unlocked = ("predictions.csv", "test.json", "loss.csv")
    written_now = {name: temporary_path(tmp_path / name) for name in unlocked}
    for path in [*left, *written_now.values()]:
        path.write_text("")
    with RunFolder.locked(tmp_path):
        assert not any(path.exists() for path in left)
    for name, path in written_now.items():
        assert list(unfinished_files(tmp_path, name)) == [path]


def test_old_checkpoints_go_though_a_kill_came_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is killed between its last checkpoint and the removal of old ones removes them."""
    agent = small_agent(keep_checkpoints=2)
    remove, last = RunFolder.remove_old, agent.config.steps

    def fails_at_last(self: RunFolder, keep: int) -> None:
        if f"{last:09}" in self.checkpoints()[0].name:
            raise RuntimeError("killed")
        remove(self, keep)

    monkeypatch.setattr(RunFolder, "remove_old", fails_at_last)
    with pytest.raises(RuntimeError, match="killed"):
        agent.learn(run_dir=tmp_path, progress=False)
    assert len(RunFolder(tmp_path).checkpoints()) == 3
    monkeypatch.undo()
    small_agent(keep_checkpoints=2).learn(run_dir=tmp_path, progress=False)
    assert len(RunFolder(tmp_path).checkpoints()) == 2
