"""The adder's network on its own, so that a GPU's image needs nothing but torch.

Its weights have the names and shapes of `agents.seq2seq_adder.EncoderDecoder`, and its logits are
the same; the tests hold that.
"""

import functools
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CellLoop(nn.Module):
    """An LSTM that runs one time step after the other in Python, as `nn.LSTMCell` is used.

    Its weights are named as those of `nn.LSTM`, which `torch.compile` leaves out.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        for name, weight in nn.LSTM(input_size, hidden_size).named_parameters():
            self.register_parameter(name, weight)

    def forward(
        self, inputs: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return outputs (batch, time, unit) and the last state, as `nn.LSTM` does."""
        if state is None:
            zeros = inputs.new_zeros(1, len(inputs), self.hidden_size)
            state = (zeros, zeros)
        h, c = state[0][0], state[1][0]
        outputs = []
        for step in range(inputs.shape[1]):
            gates = F.linear(inputs[:, step], self.weight_ih_l0, self.bias_ih_l0)
            gates = gates + F.linear(h, self.weight_hh_l0, self.bias_hh_l0)
            i, f, g, o = gates.chunk(4, dim=-1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            outputs.append(h)
        return torch.stack(outputs, dim=1), (h[None], c[None])


class Adder(nn.Module):
    """Encoder–decoder LSTM. B samples, Q and A characters, V codes, H units.

    Args:
        num_codes: V.
        hidden_size: H.
        cells: loop over time steps in Python; otherwise the LSTM is one call (cuDNN on a GPU).
    """

    one_hot: Tensor

    def __init__(self, num_codes: int, hidden_size: int, cells: bool = False) -> None:
        super().__init__()
        kind = CellLoop if cells else functools.partial(nn.LSTM, batch_first=True)
        self.encoder = kind(num_codes, hidden_size)
        self.decoder = kind(num_codes, hidden_size)
        self.readout = nn.Linear(hidden_size, num_codes)
        self.register_buffer("one_hot", torch.eye(num_codes), persistent=False)

    def forward(self, question: Tensor, answer: Tensor) -> Tensor:
        """Return logits (B, A, V) of the answer, with teacher forcing."""
        _, state = self.encoder(F.embedding(question, self.one_hot))
        previous = F.pad(answer[:, :-1], (1, 0))  # code 0 begins every answer
        output, _ = self.decoder(F.embedding(previous, self.one_hot), state)
        return cast("Tensor", self.readout(output))


def answer_loss(model: nn.Module, question: Tensor, answer: Tensor) -> Tensor:
    """Return the mean cross entropy per answer character, in nats."""
    logits = model(question, answer)
    return F.cross_entropy(logits.flatten(0, 1).float(), answer.flatten())
