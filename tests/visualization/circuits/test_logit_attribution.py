"""Direct logit attribution: terms by hand, and sums that are the logits."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.visualization.recurrent.test_cells import assert_close
from visualization.circuits import LogitAttribution, direct_logit_attribution
from visualization.circuits.logit_attribution import BIASES


def attribution(
    parts: dict[str, Tensor],
    readout: nn.Linear,
    norm: nn.LayerNorm | None,
    named: dict[str, Tensor] | None = None,
) -> LogitAttribution:
    """Attribute the likeliest codes to the parts of a stream, or to those that are `named`."""
    stream = torch.stack([*parts.values()]).sum(0)
    logits = readout(stream if norm is None else norm(stream))
    codes = logits.argmax(-1)
    return direct_logit_attribution(
        named or parts, logits, codes, readout, norm, written=codes.numpy().astype(str),
        labels=["a sum"] * len(codes),
    )  # fmt: skip


def random_norm(size: int) -> nn.LayerNorm:
    """Return a layer norm with weights and biases unlike those of the start."""
    norm = nn.LayerNorm(size).double()
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    return norm


@pytest.mark.parametrize("norm", [None, random_norm(8), nn.LayerNorm(8, elementwise_affine=False)])
@pytest.mark.parametrize("bias", [True, False])
def test_the_terms_sum_to_the_logit(norm: nn.LayerNorm | None, bias: bool) -> None:
    """With any norm and bias, the terms sum to the logit minus the mean over all characters."""
    torch.manual_seed(0)
    readout = nn.Linear(8, 5, bias=bias).double()
    parts = {f"part {n}": torch.randn(3, 4, 8).double() for n in range(4)}
    record = attribution(parts, readout, norm)
    stream = torch.stack([*parts.values()]).sum(0)
    logits = readout(stream if norm is None else norm(stream)).detach()
    wanted = logits.max(-1).values - logits.mean(-1)
    assert_close(torch.as_tensor(record.values.sum(-1)), wanted, 1e-9)
    assert_close(torch.as_tensor(record.logits), wanted, 1e-9)
    assert record.values.shape == (3, 4, len(record.parts))
    assert record.parts[:4] == tuple(parts)
    assert (BIASES in record.parts) is (bias or norm is not None)


def test_terms_by_hand() -> None:
    """Two parts, along the rows of the readout, add their own lengths, minus the mean."""
    readout = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        readout.weight.copy_(torch.eye(2))
    parts = {"up": torch.tensor([[[3.0, 0.0]]]), "across": torch.tensor([[[0.0, 1.0]]])}
    record = attribution(parts, readout, None)
    np.testing.assert_allclose(record.values, [[[1.5, -0.5]]])
    np.testing.assert_allclose(record.logits, [[1.0]])


def test_a_part_that_is_missing_is_noticed() -> None:
    """Where the terms do not sum to the model's logits, it is an error and not a figure."""
    torch.manual_seed(0)
    readout, parts = nn.Linear(8, 5), {"a": torch.randn(3, 4, 8), "b": torch.randn(3, 4, 8)}
    with pytest.raises(ValueError, match="parts: their terms miss the model's logits by up to"):
        attribution(parts, readout, None, {"a": parts["a"]})
