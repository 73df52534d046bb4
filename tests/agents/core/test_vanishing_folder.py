"""A run folder that is renamed, removed or replaced while a run uses it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from agents.core.runs.checkpoint import CannotWriteError
from agents.core.runs.run_folder import RunFolder
from agents.core.training.trainer import Trainer
from tests.conftest import same, small_agent, weights


def learn_while(
    change: Callable[[], object], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let an agent learn in a folder that changes after step 4, and expect that this is named."""
    after_step = Trainer._after_step

    def changing(self: Trainer, record: object, request: object) -> None:
        after_step(self, record, request)
        if record.step == 4:
            change()

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_after_step", changing)
        with pytest.raises(CannotWriteError, match="it was renamed or removed while this run"):
            small_agent().learn(run_dir=folder, progress=False)


def test_a_renamed_folder_is_not_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends, nothing appears under the old name, and back there it goes on exactly."""
    folder, away = tmp_path / "run", tmp_path / "away"
    learn_while(lambda: folder.rename(away), folder, monkeypatch)
    assert not folder.exists()
    away.rename(folder)
    rest = small_agent().learn(run_dir=folder, progress=False)
    assert same(weights(rest), weights(small_agent().learn()))


def test_a_folder_in_place_of_another_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new folder of the same name, which another run may have locked, stays empty."""
    folder = tmp_path / "run"

    def replace() -> None:
        shutil.rmtree(folder)
        (tmp_path / "other").mkdir()  # so that the file system does not use the number again
        folder.mkdir()

    learn_while(replace, folder, monkeypatch)
    assert not list(folder.iterdir())


def test_what_vanishes_inside_a_write_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a file cannot be renamed as its folder is gone, the error is of the folder."""
    with RunFolder.locked(tmp_path / "run") as folder:
        replace = Path.replace

        def gone(self: Path, target: Path) -> Path:
            shutil.rmtree(tmp_path / "run")
            return replace(self, target)

        monkeypatch.setattr(Path, "replace", gone)
        with pytest.raises(CannotWriteError, match=r"run: cannot be written: it was renamed"):
            folder.write_status("running")
