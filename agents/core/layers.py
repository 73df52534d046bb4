"""Layers and initialisations that two agents or more use."""

import functools
from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor, nn

_KINDS: dict[str, Callable[..., nn.RNNBase]] = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "rnn": nn.RNN,
    "relu_rnn": functools.partial(nn.RNN, nonlinearity="relu"),
}


def recurrent(
    cell: str,
    input_size: int,
    hidden_size: int,
    num_layers: int,
    dropout: float = 0.0,
    bidirectional: bool = False,
) -> nn.RNNBase:
    """Return a recurrent layer of kind `lstm`, `gru`, `rnn` or `relu_rnn`, the batch first.

    `dropout` is between layers: a single one has none. If `bidirectional`, `hidden_size` is that of
    each direction.
    """
    return _KINDS[cell](
        input_size, hidden_size, num_layers, batch_first=True,
        dropout=dropout if num_layers > 1 else 0.0, bidirectional=bidirectional,
    )  # fmt: skip


def select_states(states: Any, rows: Tensor) -> Any:
    """Return the states of some samples, by number (N,), of a recurrent layer.

    `states` are (layers, B, H), or for an LSTM a pair of them.
    """
    if isinstance(states, tuple):
        return tuple(select_states(each, rows) for each in states)
    return states[:, rows]


@final
class HiddenLinear(nn.Linear):
    """Linear layer from hidden units to hidden units, whose matrix Muon can optimise."""


@final
class HiddenConv2d(nn.Conv2d):
    """Convolution of feature maps, whose kernels (D, C, H, W) Muon can optimise as D × CHW."""


@final
class HiddenLSTM(nn.LSTM):
    """LSTM that reads hidden units, so that Muon can optimise all of its matrices."""


class OneHot(nn.Module):
    """One-hot encoding of codes (…) as vectors (…, num_codes)."""

    def __init__(self, num_codes: int) -> None:
        super().__init__()
        self.num_codes = num_codes

    def forward(self, codes: Tensor) -> Tensor:
        """Return the vectors, in the default floating type.

        Ones are written into zeros: `F.one_hot` would make integers of eight bytes first.
        """
        zeros = torch.zeros(*codes.shape, self.num_codes, device=codes.device)
        return zeros.scatter_(-1, codes[..., None], 1.0)


@final
class MaskedSoftmax(nn.Module):
    """Masked softmax: attention weights that sum to 1 over the last axis, and are 0 where masked.

    It is a module of its own so that hooks see the weights, or change the mask.
    """

    def forward(self, scores: Tensor, mask: Tensor) -> Tensor:
        """Return weights of scores (…, S); the mask is true where attention is allowed."""
        return scores.masked_fill(~mask, -torch.inf).softmax(-1)


@torch.no_grad()
def forget_biases(rnn: nn.RNNBase, bias: float) -> None:
    """Set the forget-gate biases of an LSTM (Gers et al. 2000; Jozefowicz et al. 2015).

    torch adds two biases; here the second is 0.
    """
    assert rnn.mode == "LSTM"
    for layer in range(rnn.num_layers):
        gate = slice(rnn.hidden_size, 2 * rnn.hidden_size)  # the second of i, f, g, o
        getattr(rnn, f"bias_ih_l{layer}")[gate] = bias
        getattr(rnn, f"bias_hh_l{layer}")[gate] = 0.0


@torch.no_grad()
def chrono_biases(rnn: nn.RNNBase, longest: int) -> None:
    """Chrono initialisation of the gates of an LSTM or GRU: memory over 1 to `longest` - 1 steps.

    Tallec and Ollivier 2018 (1804.11188): b_f = log u, b_i = -b_f, with u
    drawn evenly from 1 to `longest` - 1; here all other biases are 0. A GRU of torch keeps the
    share z of its state, so that b_z = log u.
    """
    assert rnn.mode in ("LSTM", "GRU")
    size = rnn.hidden_size
    for layer in range(rnn.num_layers):
        first, second = (getattr(rnn, f"bias_{kind}_l{layer}") for kind in ("ih", "hh"))
        first.zero_()
        second.zero_()
        biases = torch.empty(size, device=first.device).uniform_(1, longest - 1).log()
        first[size : 2 * size] = biases  # the second gate of i, f, g, o and of r, z, n
        if rnn.mode == "LSTM":
            first[:size] = -biases


@torch.no_grad()
def identity_weights(rnn: nn.RNNBase, scale: float) -> None:
    """Identity initialisation of a plain RNN: an IRNN (Le et al. 2015, 1504.00941, section 3).

    The recurrent matrix is the identity times `scale`, the biases are 0, and the input weights are
    Gaussian with a standard deviation of 0.001 (section 4).
    """
    assert rnn.mode.startswith("RNN")
    for layer in range(rnn.num_layers):
        nn.init.eye_(getattr(rnn, f"weight_hh_l{layer}")).mul_(scale)
        getattr(rnn, f"weight_ih_l{layer}").normal_(0.0, 0.001)
        getattr(rnn, f"bias_ih_l{layer}").zero_()
        getattr(rnn, f"bias_hh_l{layer}").zero_()
