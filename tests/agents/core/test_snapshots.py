"""Copies of the weights through training: when, how many, and the same however a run was cut."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch

import agents
from agents.core.runs.snapshots import DiskSnapshots, InMemorySnapshots, snapshot_steps
from tests.conftest import same, small_agent, weights


def no_warning(text: str) -> None:
    """Fail: nothing should be amiss."""
    raise AssertionError(text)


def test_moments_begin_with_the_first_step_and_end_with_the_last() -> None:
    """They are as many as asked for, in order, close together early, and fewer in short runs."""
    found = snapshot_steps(10_000, 12)
    assert (len(found), found[0], found[-1]) == (12, 0, 10_000)
    gaps = [b - a for a, b in pairwise(found)]
    assert gaps == sorted(gaps)
    assert snapshot_steps(3, 12) == (0, 1, 2, 3)
    assert snapshot_steps(100, 2) == (0, 100)
    assert snapshot_steps(100, 0) == ()


def test_nothing_is_kept_unless_asked_for(tmp_path: Path) -> None:
    """Without num_weight_snapshots there is no folder and no copy in memory."""
    agent = small_agent().learn(run_dir=tmp_path)
    assert agent.snapshots.steps() == []
    assert not (tmp_path / "progression").exists()


def test_copies_are_the_weights_of_their_steps(tmp_path: Path) -> None:
    """The first is the untrained model, the last the trained one, and others those between."""
    agent = small_agent(num_weight_snapshots=4)
    before = {name: tensor.clone() for name, tensor in agent.model.state_dict().items()}
    agent.learn(run_dir=tmp_path)
    states = agent.snapshots.states(no_warning)
    assert list(states) == list(snapshot_steps(12, 4))
    assert same(states[0], before)
    assert same(states[12], dict(agent.model.state_dict()))
    halfway = small_agent(num_weight_snapshots=4).learn(4).snapshots.states(no_warning)
    assert not same(states[4], states[12])
    assert list(halfway) == list(snapshot_steps(4, 4))


def test_recording_changes_nothing_that_is_learned() -> None:
    """The same bits are learned with and without."""
    assert same(
        weights(small_agent().learn()), weights(small_agent(num_weight_snapshots=5).learn())
    )


def test_a_run_that_was_cut_keeps_the_same_copies(tmp_path: Path) -> None:
    """After a stop between two checkpoints the copies are to the bit those of one whole run."""

    class CutError(Exception):
        pass

    whole = small_agent(num_weight_snapshots=6).learn(run_dir=tmp_path / "whole")
    cut = small_agent(num_weight_snapshots=6)
    save = DiskSnapshots.save
    left = [3]

    def cutting(self: DiskSnapshots, step: int, model: torch.nn.Module) -> None:
        save(self, step, model)
        left[0] -= 1
        if not left[0]:
            raise CutError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DiskSnapshots, "save", cutting)
        with pytest.raises(CutError):
            cut.learn(run_dir=tmp_path / "cut")
    resumed = small_agent(num_weight_snapshots=6).learn(run_dir=tmp_path / "cut")
    a, b = whole.snapshots.states(no_warning), resumed.snapshots.states(no_warning)
    assert list(a) == list(b)
    assert all(same(a[step], b[step]) for step in a)


def test_storage_is_bounded_when_a_run_goes_on_and_on(tmp_path: Path) -> None:
    """However often a run is given more steps, there are never more copies than asked for."""
    for steps in (4, 7, 12, 20):
        agent = small_agent(num_weight_snapshots=5).learn(steps, run_dir=tmp_path)
        kept = agent.snapshots.steps()
        assert len(kept) <= 5
        assert (kept[0], kept[-1]) == (0, steps)
        assert len(list((tmp_path / "progression").iterdir())) == len(kept)


def test_copies_from_beyond_a_step_are_removed() -> None:
    """What a longer run kept does not stay among the copies of one that begins earlier."""
    kept, model = InMemorySnapshots(), torch.nn.Linear(1, 1)
    for step in (0, 5, 50):
        kept.save(step, model)
    kept.prune((0, 10, 20), now=5)
    assert kept.steps() == [0]
    kept.prune((), now=0)
    assert kept.steps() == [0]


def test_a_loaded_agent_has_the_copies_of_its_run(tmp_path: Path) -> None:
    """They are found from the best checkpoint and from any other of the folder."""
    learned = small_agent(num_weight_snapshots=4).learn(run_dir=tmp_path)
    wanted = learned.snapshots.states(no_warning)
    for path in (tmp_path / "best.safetensors", next((tmp_path / "checkpoints").iterdir())):
        found = agents.load(path, device="cpu").snapshots.states(no_warning)
        assert list(found) == list(wanted)
        assert all(same(found[step], wanted[step]) for step in found)


def test_a_damaged_copy_is_named_and_left_out(tmp_path: Path) -> None:
    """The others are still there."""
    agent = small_agent(num_weight_snapshots=3).learn(run_dir=tmp_path)
    first = min((tmp_path / "progression").iterdir())
    first.write_bytes(first.read_bytes()[:-1])
    told: list[str] = []
    assert list(agent.snapshots.states(told.append)) == list(snapshot_steps(12, 3))[1:]
    assert "step-000000000" in told[0]


def test_a_run_that_stops_early_keeps_its_end(tmp_path: Path) -> None:
    """The last copy is of the step at which learning stopped."""
    agent = small_agent(num_weight_snapshots=3, target_score=0.0).learn(run_dir=tmp_path)
    assert agent.state.cursor.step == 4
    assert agent.snapshots.steps()[-1] == 4
