"""Shared layers: one-hot vectors without detours, and recurrent layers as torch makes them."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from agents.core.layers import OneHot, recurrent


class Made(TorchDispatchMode):
    """Keeps the types of all large tensors that are made."""

    def __init__(self, least: int) -> None:
        super().__init__()
        self.least, self.kinds = least, set[torch.dtype]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation, and look at what it returns."""
        found = func(*args, **(kwargs or {}))
        if isinstance(found, Tensor) and found.numel() >= self.least:
            self.kinds.add(found.dtype)
        return found


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_one_hot_vectors_are_made_as_they_are(kind: torch.dtype) -> None:
    """They are those of torch, in the default type, and no larger integers are made on the way."""
    codes = torch.randint(0, 7, (3, 5), generator=torch.Generator().manual_seed(0))
    before = torch.get_default_dtype()
    torch.set_default_dtype(kind)
    try:
        with Made(3 * 5 * 7) as made:
            found = OneHot(7)(codes)
    finally:
        torch.set_default_dtype(before)
    assert made.kinds == {kind}
    assert torch.equal(found, F.one_hot(codes, 7).to(kind))
    assert OneHot(7)(codes[0]).shape == (5, 7)


def test_a_recurrent_layer_may_read_both_ways() -> None:
    """The arguments are torch's; a single layer has no dropout, and torch is not asked for one."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one = recurrent("gru", 3, 4, 1, 0.5, bidirectional=True)
    assert isinstance(one, nn.GRU)
    assert (one.bidirectional, one.dropout, one.batch_first) == (True, 0.0, True)
    assert one(torch.zeros(2, 6, 3))[0].shape == (2, 6, 8)
    two = recurrent("lstm", 3, 4, 2, 0.5)
    assert (two.bidirectional, two.dropout) == (False, 0.5)
