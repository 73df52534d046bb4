"""What ranks decide together, how they resume, and what they tell each other."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from agents.core.config import ConfigError
from agents.core.runs.checkpoint import read_agent
from agents.core.training import launch, messages, parallel, processes
from main import main
from tests.conftest import exact, same
from tests.distributed.scenarios import carrying
from tests.distributed.test_same_result import assert_close, ranks_of
from tests.helpers.ranks import forked

LEARN = "--agent seq2seq_adder --task add2x2 --device cpu"


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """Return how each of two ranks ended, in each case of `decide`, and the folder of the runs."""
    folder = tmp_path_factory.mktemp("decide")
    forked("tests.distributed.scenarios:decide", folder)
    return folder, [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize(
    ("case", "end", "step"),
    [
        ("nan", "DivergedError", 2), ("SIGTERM", 143, 3), ("SIGINT", "KeyboardInterrupt", 3),
        ("late", 143, 5),        ("target", "done", 4), ("parallel", "ConfigError", 0),
    ],
)  # fmt: skip
def test_what_happens_to_one_rank_ends_both(
    case: str, end: object, step: int, ends: tuple[Path, list[dict[str, Any]]]
) -> None:
    """A signal or a NaN on rank 1, and a goal that is reached, end both after the same step.

    A signal that comes between two steps, while a rank evaluates, ends both after the next.
    """
    assert [rank[case] for rank in ends[1]] == 2 * [{"end": end, "step": step}]


def test_patience_ends_both(ends: tuple[Path, list[dict[str, Any]]]) -> None:
    """Early stopping is decided by scores that both have."""
    first, second = (rank["patience"] for rank in ends[1])
    assert first == second
    assert first["end"] == "done"
    assert first["step"] < 40


@pytest.mark.parametrize(
    ("case", "end"), [("locked", ["FolderInUseError", 75]), ("settings", ["ConfigError", 2])]
)
def test_what_stops_rank_0_stops_the_others(
    case: str, end: list[object], ends: tuple[Path, list[dict[str, Any]]]
) -> None:
    """A folder in use, or another run's, is said once; the other rank ends with the exit code."""
    assert [rank[case]["end"] for rank in ends[1]] == end


def test_a_signal_is_followed_by_a_checkpoint(
    ends: tuple[Path, list[dict[str, Any]]],
) -> None:
    """The step in which rank 1 got SIGTERM is saved, and the status says so."""
    saved = read_agent(ends[0] / "SIGTERM" / "checkpoints" / "step-000000003.safetensors")
    assert {"random/cpu", "random/cpu.1"} <= saved.tensors.keys()
    status = json.loads((ends[0] / "SIGTERM" / "status.json").read_text())
    assert (status["state"], status["step"]) == ("interrupted", 3)


def test_the_engine_is_that_of_torch(ends: tuple[Path, list[dict[str, Any]]]) -> None:
    """The loss is wrapped in DistributedDataParallel."""
    assert [rank["network"] for rank in ends[1]] == 2 * ["DistributedDataParallel"]


def test_rank_0_alone_writes(ends: tuple[Path, list[dict[str, Any]]]) -> None:
    """Each record is in metrics.jsonl once, and there is one file of events."""
    folder = ends[0] / "target"
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    keys = [(record["step"], *record) for record in records]
    assert len(keys) == len(set(keys)) > 0
    assert len(list(folder.glob("events.out.*"))) == 1


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of runs that two ranks and one process continued."""
    folder = tmp_path_factory.mktemp("resume")
    one = carrying(threads=1)
    one.learn(4, run_dir=folder / "one-two", progress=False)
    forked("tests.distributed.scenarios:resume", folder)
    return folder


@pytest.mark.slow
def test_two_ranks_resume_exactly(resumed: Path) -> None:
    """With dropout: the bits, records and random states of both ranks are those of one go."""
    for whole, halves in zip(ranks_of("whole", resumed), ranks_of("halves", resumed), strict=True):
        assert same(whole.tensors, halves.tensors)
        assert exact(whole.history) == exact(halves.history)
    states = [whole.tensors[f"random/{kind}"] for kind in ("cpu", "cpu.1")]
    assert not torch.equal(*states)


@pytest.mark.slow
def test_another_number_of_ranks_continues(resumed: Path) -> None:
    """One process goes on from two ranks, and two from one, with the same data and result."""
    one, whole = carrying(threads=1), carrying(threads=1).learn().checkpoint()
    one.learn(run_dir=resumed / "two-one", progress=False)
    assert one.checkpoint().tensors.keys() == whole.tensors.keys()
    start = carrying().checkpoint()
    assert_close(one.checkpoint(), whole, start)
    assert_close(ranks_of("one-two", resumed)[0], whole, start)


def test_messages_arrive_as_they_were(ends: tuple[Path, list[dict[str, Any]]]) -> None:
    """Arrays, named tuples, texts and numbers of each rank are those that were sent."""
    assert [rank["exchange"] for rank in ends[1]] == ["right", "right"]


def test_a_message_of_anything_else_is_refused() -> None:
    """An object that is no plain value is an error that names its type."""
    with pytest.raises(ConfigError, match=r"Path cannot be sent .*accepted: numbers"):
        messages.to_bytes([Path("a")])
    odd = {"nan": float("nan"), "empty": [], "deep": [(1, ["x"]), {}]}
    back = messages.from_bytes(messages.to_bytes(odd))
    assert np.isnan(back.pop("nan"))
    assert back == {"empty": [], "deep": [(1, ["x"]), {}]}


@pytest.mark.parametrize("total", [0, 1, 2, 7, 12])
def test_shares_are_the_whole_batch(total: int) -> None:
    """Parts of all ranks, one after the other, are the batch; rank 0 has a sample if any has."""
    group = processes.SingleProcess()
    group.size = 3
    spans = []
    for rank in range(3):
        group.rank = rank
        spans += [group.bounds(total, index, 2) for index in range(2)]
    assert [sample for begin, end in spans for sample in range(begin, end)] == list(range(total))
    sizes = [end - begin for begin, end in spans]
    assert max(sizes) - min(sizes) <= 1
    assert sizes[0] == max(sizes)


def test_batch_normalisation_is_put_back() -> None:
    """Within the block it is that of all ranks, on the same tensors; after an error its own."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Sequential(nn.BatchNorm2d(2)))
    own = model[1][0]

    def fail() -> None:
        with parallel.synchronized_batch_norm(model):
            assert isinstance(model[1][0], nn.SyncBatchNorm)
            assert model[1][0].running_mean is own.running_mean
            assert model[1][0].weight is own.weight
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert model[1][0] is own


def test_each_rank_draws_from_a_seed_of_its_own() -> None:
    """Rank 0 has the run's seed; every other rank, and a later start of it, has another."""
    seeds = [processes.seed_of(3, rank, step) for rank in (1, 2, 3) for step in (0, 5)]
    assert len({3, *seeds}) == 7
    assert processes.seed_of(3, 0, 5) == 3


def test_ranks_are_those_of_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process is a rank if all of torchrun's variables say so, and there is another."""
    values = {"RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert launch.launched_rank() is None
    assert launch.is_main()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert launch.launched_rank() == (1, 2, 1)
    assert not launch.is_main()
    monkeypatch.delenv("MASTER_PORT")
    assert launch.launched_rank() is None


def test_ranks_train_and_do_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another mode under torchrun is refused, with what is accepted."""
    for name in ("RANK", "LOCAL_RANK", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([*LEARN.split(), "--mode", "find-lr"]) == 2
    assert "torchrun: cannot be combined with --mode find-lr" in capsys.readouterr().err
