"""Checkpoints and settings made to do harm: refused by the project's errors, before they cost."""

import contextlib
import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import agents
from agents.core.config import read_file, read_value
from agents.core.runs.checkpoint import Checkpoint, CheckpointError, from_bytes, read_agent
from agents.core.runs.history import History
from agents.core.training import model_memory
from tasks.core.settings import ConfigError, TerrariumError
from tests.conftest import small_agent

VALUES = (None, True, -1, 2**70, 0.5, "", "../../x", "parity", [], [1], {}, {"a": []})


def _paths(values: Any, at: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return where each value of nested mappings is."""
    if not isinstance(values, dict):
        return [at]
    inner = [path for name, value in values.items() for path in _paths(value, (*at, name))]
    return [at, *inner] if at else inner


@pytest.fixture(scope="module")
def whole() -> Checkpoint:
    """Return the checkpoint of an agent that has learned a little."""
    return small_agent(task="add2x2", hidden_size=2, steps=2).learn().checkpoint()


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_checkpoint_with_one_other_value_loads_or_is_refused(
    data: st.DataObject, whole: Checkpoint, tmp_path: Path
) -> None:
    """Whatever value stands in place of one of a checkpoint's, only the project's errors come."""
    values = copy.deepcopy(whole.values)
    *path, name = data.draw(st.sampled_from(_paths(values)))
    owner = values
    for key in path:
        owner = owner[key]
    owner[name] = data.draw(st.sampled_from(VALUES) | st.text(max_size=9))
    file = tmp_path / "a.safetensors"
    file.write_bytes(Checkpoint(values, whole.tensors, whole.history).to_bytes())
    with contextlib.suppress(TerrariumError):
        assert agents.load(file, "cpu").predict("1+2")


@pytest.mark.parametrize(
    ("name", "value"),
    [("cursor", None), ("threads", "two"), ("window", {"steps": []}), ("climb", 3)],
)
def test_a_value_of_another_kind_is_named(
    name: str, value: object, whole: Checkpoint, tmp_path: Path
) -> None:
    """A checkpoint whose plain values are of other kinds is corrupt, and says where."""
    file = tmp_path / "a.safetensors"
    file.write_bytes(Checkpoint({**whole.values, name: value}, whole.tensors).to_bytes())
    word = {"window": "RunningSums", "climb": "CurriculumTracker"}.get(name, name)
    with pytest.raises(CheckpointError, match=word):
        agents.load(file, "cpu")


@pytest.mark.parametrize("before", ["../../x", "/etc/passwd", "000001024-zz"])
def test_the_history_leads_to_no_other_folder(before: str, tmp_path: Path) -> None:
    """The name of the file before is that of a file of a history, and no path."""
    data = Checkpoint({"agent": "x"}, {}, History(), before).to_bytes()
    with pytest.raises(CheckpointError, match="is not the name of a file of a history"):
        from_bytes(data, tmp_path / "a.safetensors")


def test_a_history_of_other_numbers_than_its_kinds_is_refused() -> None:
    """Records without their numbers, of a kind that there is not, or of none are a ValueError."""
    kinds, tensors = History([{"step": 1, "loss": 0.5}] * 3).pack()
    for changed in (
        {"numbers": tensors["numbers"][:-1]},
        {"kind": torch.tensor([0, -1, 0])},
        {"kind": tensors["kind"][None]},
    ):
        with pytest.raises(ValueError, match="as many numbers"):
            History.unpack(kinds, {**tensors, **changed})


def test_files_that_are_no_checkpoints_are_refused(tmp_path: Path) -> None:
    """Nesting without an end, values that are no mapping, a digest that is no text."""
    for values in ("[" * 10**5, "3", '{"sha256": 3}', '{"sha256": "3"}'):
        header = json.dumps({"__metadata__": {"terrarium": values}}).encode()
        path = tmp_path / "a.safetensors"
        path.write_bytes(len(header).to_bytes(8, "little") + header)
        with pytest.raises(CheckpointError, match=r"a\.safetensors: is (cut off|damaged)"):
            read_agent(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a0: &a0 {k: v}\n" + "".join(
            f"a{n}: &a{n} {{{', '.join(f'k{at}: *a{n - 1}' for at in range(10))}}}\n"
            for n in range(1, 9)), "has more than 10,000 settings"),
        ("a0: &a0 {}\n" + "".join(
            f"a{n}: &a{n} {{{', '.join(f'k{at}: *a{n - 1}' for at in range(10))}}}\n"
            for n in range(1, 9)), "has more than 10,000 settings"),
        ("a: " + "[" * 3000, "too many lists or mappings within each other"),
        ("# " + "x" * 2**20, "more than the 1.0 MiB"),
    ],
    ids=["mappings", "empty mappings", "nested", "large"],
)  # fmt: skip
def test_settings_that_grow_are_refused(text: str, says: str, tmp_path: Path) -> None:
    """Aliases of aliases, nesting and length: an error that names the file, and not the memory."""
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        read_file(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "text", ['!!int ""', "!!bool x", "!!timestamp x", "!!float x", "!!python/none", "[&a 1, *a]"]
)
def test_a_tag_without_its_value_is_text(text: str, tmp_path: Path) -> None:
    """What PyYAML cannot make of a tag, and what has aliases, is the text that was written."""
    assert read_value(text) == text
    path = tmp_path / "a.yaml"
    path.write_text(f"a: {text.partition('[')[0] or 'x'}\n")
    assert isinstance(read_file(path)["a"].value, str | None)


def test_integers_of_more_than_64_bits_are_refused() -> None:
    """No library takes them; the error says how many bits a value has."""
    with pytest.raises(ConfigError, match=r"steps: an integer of 100 bits; .* at most 64 bits"):
        small_agent(steps=2**99)
    assert small_agent(clip_norm=10**30).config.clip_norm == 1e30


@pytest.mark.parametrize("sizes", [{"hidden_size": 10**6}, {"hidden_size": 10**12}])
def test_a_model_beyond_the_memory_is_refused_before_it_is_made(sizes: dict[str, int]) -> None:
    """Its size is named, and no process is killed for it."""
    with pytest.raises(ConfigError, match=r"seq2seq_adder: its weights .* are free"):
        small_agent(**sizes)


def test_a_model_of_too_many_layers_is_refused() -> None:
    """Ten thousand tensors of weights are more than any model has."""
    with pytest.raises(ConfigError, match="more than 10,000 tensors of weights"):
        small_agent(hidden_size=1, num_layers=10**9)


def test_tied_weights_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose two layers share a matrix needs the memory of one; of two it is refused."""
    monkeypatch.setattr(model_memory, "free_memory", lambda: 600)  # 7 · 7 numbers take 392 bytes
    with model_memory.fitting("tied"):
        first, second = nn.Linear(7, 7, bias=False), nn.Identity()
        second.weight = first.weight
    with pytest.raises(ConfigError, match="784 bytes or more"), model_memory.fitting("two"):
        nn.Sequential(nn.Linear(7, 7, bias=False), nn.Linear(7, 7, bias=False))
