"""Two ranks learn what one process learns that goes through the same halves of each batch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from agents.core.runs.checkpoint import Checkpoint, read_agent
from tests.conftest import same
from tests.distributed.scenarios import QUICK, SLOW, make
from tests.helpers.ranks import forked
from tests.helpers.updates import relative_difference

TOLERANCE = 0.01  # of the change by a few steps in single precision, and of each record
# Batch normalisation: of the ranks' buffers those of rank 0 are kept, which has seen a half.
OF_RANK_0 = ("running_mean", "running_var", "num_batches_tracked")
NOTHING = ("no such name",)


def ranks_of(name: str, folder: Path) -> list[Checkpoint]:
    """Return what each rank has at the end."""
    return [read_agent(folder / f"{name}-rank{rank}.safetensors") for rank in range(2)]


def model_of(checkpoint: Checkpoint, left_out: tuple[str, ...] = NOTHING) -> dict[str, Tensor]:
    """Return the tensors of the model."""
    tensors = checkpoint.model_tensors().items()
    return {name: tensor for name, tensor in tensors if not name.endswith(left_out)}


def assert_close(
    a: Checkpoint, b: Checkpoint, start: Checkpoint, left_out: tuple[str, ...] = NOTHING
) -> None:
    """Check that weights, the optimiser's steps, hidden state and records are the same."""
    names = {name for name in a.tensors if not name.startswith("random/")}
    assert names == {name for name in b.tensors if not name.startswith("random/")}
    models = [model_of(each, left_out) for each in (a, b, start)]
    assert relative_difference(*models) < TOLERANCE
    for name in names:
        first, second = a.tensors[name], b.tensors[name]
        if name.startswith("carried/"):
            assert (first - second).norm() < TOLERANCE * first.norm()
        if name.endswith("/step"):
            assert torch.equal(first, second), name
    assert a.values["cursor"] == b.values["cursor"]
    assert a.values["climb"] == pytest.approx(b.values["climb"], rel=TOLERANCE)
    for record, other in zip(a.history, b.history, strict=True):
        assert record.keys() == other.keys()
        kept = [key for key in record if key.startswith(("train/", "eval/", "grad/"))]
        if left_out is NOTHING:
            np.testing.assert_allclose(
                [record[key] for key in kept], [other[key] for key in kept],
                rtol=TOLERANCE, atol=1e-5, err_msg=str(kept),
            )  # fmt: skip


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which two ranks have saved all quick scenarios."""
    folder = tmp_path_factory.mktemp("ranks")
    forked("tests.distributed.scenarios:learn", folder, *QUICK)
    return folder


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which two ranks have saved the readers, the detector, the classifier."""
    folder = tmp_path_factory.mktemp("ranks")
    forked("tests.distributed.scenarios:learn", folder, *SLOW)
    return folder


def check(name: str, folder: Path) -> None:
    """Check one scenario: the ranks are alike, and are as one process is."""
    ranks = ranks_of(name, folder)
    has_statistics = any(name.endswith(OF_RANK_0) for name in ranks[0].tensors)
    left_out = OF_RANK_0 if has_statistics else NOTHING
    assert same(model_of(ranks[0], left_out), model_of(ranks[1], left_out))
    start = make(name).checkpoint()
    whole = make(name, gradient_accumulation_steps=2, threads=1).learn().checkpoint()
    assert_close(ranks[0], whole, start, left_out)


@pytest.mark.parametrize("name", QUICK)
def test_two_ranks_learn_what_one_process_learns(name: str, quick: Path) -> None:
    """Weights, optimiser, carried state and records are those of gradient accumulation."""
    check(name, quick)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_two_ranks_of_readers_and_detectors_learn_what_one_process_learns(
    name: str, slow: Path
) -> None:
    """The same with named losses, texts of unequal length, boxes, and batch normalisation."""
    check(name, slow)
