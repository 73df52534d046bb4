"""The history of a run: compact, whole, and as cheap to save late as early."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

import agents
from agents.core.runs import checkpoint
from agents.core.runs.checkpoint import (
    Checkpoint,
    CorruptCheckpointError,
    HistoryFiles,
    from_bytes,
    read,
)
from agents.core.runs.history import History, Record
from tests.conftest import exact, same, small_agent, weights

MIXED: list[Record] = [
    {"step": 1, "train/loss": 0.1, "time/seconds": 1e-9},
    {"step": 1, "eval/loss": 1 / 3, "eval/right": 1},
    {"step": 2, "train/stage": 3},
    {"step": 2, "train/loss": -0.0, "time/seconds": 2.0},
    {"eval/right": 0.5, "step": 2**40},
]


@pytest.fixture
def short_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a file of a history have four records."""
    monkeypatch.setattr(checkpoint, "RECORDS_A_FILE", 4)


def many(num: int) -> History:
    """Return a history of records as a run makes them."""
    return History({"step": n, "train/loss": 1 / n, "eval/loss": 0.5} for n in range(1, num + 1))


def test_records_come_back_as_they_were() -> None:
    """Numbers, their kinds, and the order of tags survive memory, packing and parting."""
    history = History(MIXED)
    told = [json.dumps(record) for record in MIXED]
    assert [json.dumps(record) for record in history] == told
    assert [json.dumps(record) for record in History.unpack(*history.pack())] == told
    for cut in range(len(MIXED) + 1):
        joined = history.part(0, cut)
        joined.extend(History.unpack(*history.part(cut, len(MIXED)).pack()))
        assert [json.dumps(record) for record in joined] == told
        assert joined.tags() == history.tags()
    assert len(history) == len(history.records) == 5


def test_a_record_that_is_no_number_is_refused_whole() -> None:
    """A history that refused a record is as it was before."""
    history = History(MIXED)
    with pytest.raises(TypeError):
        history.add({"step": 3, "train/loss": "low"})  # type: ignore[dict-item]
    history.add(MIXED[0])
    assert history.records == [*MIXED, MIXED[0]]


@pytest.mark.usefixtures("short_files")
def test_saving_costs_the_same_late_as_early(tmp_path: Path) -> None:
    """After four hundred records a run's checkpoint is as large, to 1 %, as after twenty."""
    sizes = []
    for num in (22, 402):
        saved = HistoryFiles(tmp_path / str(num)).move_to_files(Checkpoint({}, {}, many(num)))
        assert len(saved.history) == 2
        sizes.append(len(saved.to_bytes()))
    assert sizes[1] == pytest.approx(sizes[0], rel=0.01)


def test_the_header_does_not_grow_with_the_history() -> None:
    """A safetensors header may have 100 MB: that of an agent's own file has kinds, not records."""

    def header(num: int) -> int:
        return int.from_bytes(Checkpoint({}, {}, many(num)).to_bytes()[:8], "little")

    assert header(10_000) < header(10) + 50  # some digits of sizes
    assert header(10) < 1000


@pytest.mark.usefixtures("short_files")
def test_checkpoints_of_a_run_name_the_files_of_its_history(tmp_path: Path) -> None:
    """A folder's checkpoints hold the last records and load with all; a saved agent has its own."""
    agent = small_agent().learn(run_dir=tmp_path, progress=False)
    assert len(agent.history) == 9
    newest = tmp_path / "checkpoints" / "step-000000012.safetensors"
    assert len(from_bytes(newest.read_bytes(), newest).history) == 1
    for path in (newest, tmp_path / "best.safetensors"):
        loaded = agents.load(path, "cpu")
        assert loaded.history.records == agent.history.records[: len(loaded.history)]
        assert loaded.history.records[-1]["step"] == loaded.state.cursor.step
        alone = loaded.save(tmp_path / "elsewhere" / "a.safetensors")
        assert agents.load(alone, "cpu").history.records == loaded.history.records


@pytest.mark.usefixtures("short_files")
def test_learning_goes_on_with_the_whole_history(tmp_path: Path) -> None:
    """In its folder, another folder, and without one, after files and before the next is full."""
    straight = small_agent(schedule="constant").learn()
    first, other = tmp_path / "first", tmp_path / "other"
    small_agent(schedule="constant").learn(7, run_dir=first, progress=False)
    agent = small_agent(schedule="constant").learn(9, run_dir=first, progress=False)
    path = agent.save(tmp_path / "a.safetensors")
    elsewhere = agents.load(path, "cpu").learn(12, run_dir=other, progress=False)
    last = agents.load(other / "checkpoints" / "step-000000012.safetensors", "cpu")
    assert last.history.records == elsewhere.history.records
    assert exact(last.history)[-2:] == exact(straight.history)[-2:]
    assert last.history.series("train/loss")[0] == [2, 4, 6, 7, 8, 9, 10, 12]
    assert same(weights(last), weights(straight))


@pytest.mark.usefixtures("short_files")
def test_a_checkpoint_without_its_folder_is_an_agent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Copied out of its folder a checkpoint loads, and a warning names the file that it lacks."""
    agent = small_agent().learn(run_dir=tmp_path / "run", progress=False)
    copy = tmp_path / "copy.safetensors"
    shutil.copy(tmp_path / "run" / "checkpoints" / "step-000000012.safetensors", copy)
    loaded = agents.load(copy, "cpu")
    assert re.search(r"history/000000008-\w+\.safetensors: cannot be read", caplog.text)
    assert same(weights(loaded), weights(agent))
    assert loaded.history.records == agent.history.records[8:]


@pytest.mark.usefixtures("short_files")
def test_a_changed_file_of_the_history_is_found(tmp_path: Path) -> None:
    """A flipped bit, and another run's file under the name, are errors that name the file."""
    folder = HistoryFiles(tmp_path / "history")
    path = tmp_path / "a.safetensors"
    path.write_bytes(folder.move_to_files(Checkpoint({}, {}, many(9))).to_bytes())
    first, second = sorted((tmp_path / "history").iterdir())
    good = first.read_bytes()
    for bad in (good[:-1] + bytes([good[-1] ^ 1]), good[:-8], second.read_bytes()):
        first.write_bytes(bad)
        with pytest.raises(CorruptCheckpointError, match=rf"{first.name}: is damaged"):
            read(path)
    first.write_bytes(good)
    assert read(path).history.records == many(9).records


def test_a_checkpoint_of_an_earlier_version_has_its_history(tmp_path: Path) -> None:
    """A file of format 1, with records as JSON in its header, loads with them."""
    agent = small_agent().learn()
    data = agent.checkpoint().to_bytes()
    length = int.from_bytes(data[:8], "little")
    values = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["terrarium"])
    tensors = {n: t for n, t in load_tensors(data).items() if not n.startswith("history/")}
    values |= {"sha256": "0" * 64, "format": 1, "history": agent.history.records}
    for name in ("seconds", "threads"):
        assert name in values
    bare = save_tensors(tensors, {"terrarium": json.dumps(values, separators=(",", ":"))})
    digest = hashlib.sha256(bare).hexdigest()
    path = tmp_path / "old.safetensors"
    path.write_bytes(bare.replace(b"0" * 64, digest.encode(), 1))
    loaded = agents.load(path, "cpu")
    assert loaded.history.records == agent.history.records
    assert same(weights(loaded), weights(agent))
