"""Blocks that two agents or more use."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_KINDS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


def recurrent(
    cell: str, input_size: int, hidden_size: int, num_layers: int, dropout: float = 0.0
) -> nn.RNNBase:
    """Return a recurrent layer of kind `lstm`, `gru` or `rnn`, the batch first."""
    layer = _KINDS[cell](input_size, hidden_size, num_layers, batch_first=True, dropout=dropout)
    return cast("nn.RNNBase", layer)


class OneHot(nn.Module):
    """Codes (…) to one-hot vectors (…, num_codes)."""

    def __init__(self, num_codes: int) -> None:
        super().__init__()
        self.num_codes = num_codes

    def forward(self, codes: Tensor) -> Tensor:
        """Return the vectors, in the default floating type."""
        return F.one_hot(codes, self.num_codes).to(torch.get_default_dtype())
