"""Checkpoints: what was written is read, and nothing else is."""

import json
import os
import resource
from pathlib import Path

import pytest
import torch

import agents
from agents.core.runs.checkpoint import (
    CannotWriteError,
    Checkpoint,
    CheckpointError,
    atomic_write,
    from_bytes,
    read,
)  # fmt: skip
from tasks.core.settings import ConfigError
from tests.conftest import same, small_agent, weights

SAMPLE = Checkpoint(
    {"agent": "x", "list": [{"step": 1, "train/loss": 0.1}], "text": "sha256 \"'\\ é"},
    {"a": torch.arange(6.0).view(2, 3), "b/c": torch.tensor([1, 2], dtype=torch.uint8)},
)


def test_values_and_tensors_come_back_as_they_were(tmp_path: Path) -> None:
    """Plain values and tensors survive, and equal content gives equal bytes."""
    path = tmp_path / "x.safetensors"
    atomic_write(path, SAMPLE.to_bytes())
    back = read(path)
    assert back.values == SAMPLE.values
    assert same(back.tensors, SAMPLE.tensors)
    assert SAMPLE.to_bytes() == back.to_bytes()


def test_any_flipped_bit_is_found() -> None:
    """A flipped bit at any byte of the file, header and digest included, is a CheckpointError."""
    data = SAMPLE.to_bytes()
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << (position % 8)
        with pytest.raises(CheckpointError, match=r"x\.st"):
            from_bytes(bytes(damaged), Path("x.st"))


def test_any_cut_is_found() -> None:
    """A file cut off at any byte is a CheckpointError, and so is one that goes on."""
    data = SAMPLE.to_bytes()
    for cut in [data[:n] for n in range(len(data))] + [data + b"\0"]:
        with pytest.raises(CheckpointError):
            from_bytes(cut, Path("x.st"))


def test_a_newer_format_is_named() -> None:
    """A file of a later format says so, rather than that it is damaged."""
    data = Checkpoint({"format": 99}, {}).to_bytes()
    with pytest.raises(CheckpointError, match="newer version"):
        from_bytes(data, Path("x.st"))


def test_values_that_are_no_json_are_refused() -> None:
    """NaN has no place among the plain values."""
    with pytest.raises(ValueError, match="JSON"):
        Checkpoint({"score": float("nan")}, {}).to_bytes()


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's own `No space left` is a CannotWriteError; the old content still reads."""
    path = tmp_path / "x.safetensors"
    atomic_write(path, SAMPLE.to_bytes())
    full = tmp_path / ".x.safetensors.tmp"
    full.symlink_to("/dev/full")
    monkeypatch.setattr("agents.core.runs.checkpoint.temporary_path", lambda path: full)
    with pytest.raises(CannotWriteError, match="No space left on device"):
        atomic_write(path, b"new")
    assert read(path).values == SAMPLE.values
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_run_on_a_full_disk_ends_and_goes_on_later(tmp_path: Path) -> None:
    """A limit on the size of files stops a run at its checkpoint; freed, the run is completed."""
    straight = small_agent(schedule="constant").learn()
    small_agent(schedule="constant").learn(6, run_dir=tmp_path, progress=False)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(CannotWriteError, match="File too large"):
            small_agent(schedule="constant").learn(run_dir=tmp_path, progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-000000003.safetensors", "step-000000006.safetensors"]
    resumed = small_agent(schedule="constant").learn(run_dir=tmp_path, progress=False)
    assert same(weights(resumed), weights(straight))


@pytest.mark.parametrize("path", ["/proc/terrarium", "/dev/null/run"])
def test_a_folder_that_cannot_be_made_is_named(path: str) -> None:
    """A run folder that the system refuses is a CannotWriteError with the path and the reason."""
    with pytest.raises(CannotWriteError, match=path):
        small_agent().learn(run_dir=path, progress=False)


def test_a_missing_file_is_a_users_error() -> None:
    """Loading what is not there says so."""
    with pytest.raises(ConfigError, match=r"no\.safetensors: does not exist"):
        agents.load("no.safetensors")


def test_only_exactly_fitting_names_and_shapes_are_read() -> None:
    """A missing name, an extra name and another shape are each named."""
    agent = small_agent()
    good = agent.checkpoint()
    name = next(iter(agent.model.state_dict()))
    rest = {k: v for k, v in good.tensors.items() if k != f"model/{name}"}
    with pytest.raises(CheckpointError, match=f"missing \\['{name}'\\]"):
        agent.state.restore(Checkpoint(good.values, rest))
    with pytest.raises(CheckpointError, match=r"extra \['ghost'\]"):
        agent.state.restore(Checkpoint(good.values, good.tensors | {"model/ghost": torch.ones(1)}))
    with pytest.raises(CheckpointError, match=f"{name} has the shape"):
        agent.state.restore(
            Checkpoint(good.values, good.tensors | {f"model/{name}": torch.ones(1)})
        )
    assert same(weights(agent), good.tensors)


def test_the_file_is_plain_safetensors(tmp_path: Path) -> None:
    """Any safetensors reader opens it, and the settings are JSON in its metadata."""
    from safetensors import safe_open

    path = small_agent().save(tmp_path / "a.safetensors")
    with safe_open(os.fspath(path), "pt") as file:
        values = json.loads(file.metadata()["terrarium"])
    assert values["agent"] == "seq2seq_adder"
    assert values["config"]["hidden_size"] == 16
