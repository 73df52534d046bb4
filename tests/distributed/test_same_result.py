"""Two ranks learn what one process learns that goes through the same halves of each batch."""

from pathlib import Path

import numpy as np
import pytest
import torch

from agents.core.runs.checkpoint import Checkpoint, read_agent
from tests.distributed.scenarios import QUICK, SLOW, make
from tests.helpers.ranks import forked

RELATIVE, ABSOLUTE = 1e-3, 1e-4  # of weights and records, after a few steps in single precision
# Batch normalisation: of the ranks' buffers those of rank 0 are kept, which has seen a half.
OF_RANK_0 = ("running_mean", "running_var", "num_batches_tracked")
NOTHING = ("no such name",)


def ranks_of(name: str, folder: Path) -> list[Checkpoint]:
    """Return what each rank has at the end."""
    return [read_agent(folder / f"{name}-rank{rank}.safetensors") for rank in range(2)]


def assert_close(a: Checkpoint, b: Checkpoint, left_out: tuple[str, ...]) -> None:
    """Check that weights, the optimiser's state, hidden state and records are the same."""
    names = {name for name in a.tensors if not name.startswith("random/")}
    assert names == {name for name in b.tensors if not name.startswith("random/")}
    for name in names:
        if not name.endswith(left_out):
            torch.testing.assert_close(
                a.tensors[name], b.tensors[name], rtol=RELATIVE, atol=ABSOLUTE,
                msg=lambda text, name=name: f"{name}: {text}",
            )  # fmt: skip
    assert a.values["cursor"] == b.values["cursor"]
    assert a.values["climb"] == pytest.approx(b.values["climb"], rel=RELATIVE)
    for first, second in zip(a.history, b.history, strict=True):
        assert first.keys() == second.keys()
        kept = [k for k in first if not k.startswith(("time/", "units/", "flow/", "chance/"))]
        if left_out is NOTHING:
            np.testing.assert_allclose(
                [first[k] for k in kept], [second[k] for k in kept],
                rtol=10 * RELATIVE, atol=ABSOLUTE, err_msg=str(kept),
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
    models = [rank.model_tensors() for rank in ranks]
    left_out = OF_RANK_0 if any(n.endswith(OF_RANK_0) for n in models[0]) else NOTHING
    for tensor_name, tensor in models[0].items():
        is_own = tensor_name.endswith(left_out)
        assert is_own or torch.equal(tensor, models[1][tensor_name]), tensor_name
    whole = make(name, gradient_accumulation_steps=2, threads=1).learn().checkpoint()
    assert_close(ranks[0], whole, left_out)


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
