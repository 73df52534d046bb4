"""Packed sequences are traced and changed as each of their samples is alone."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

from visualization.recurrent import Edit, intervene_on, trace_cells

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
LENGTHS = (3, 5, 1, 5)


def layer(cell: str, batch_first: bool) -> nn.RNNBase:
    rnn = CELLS[cell](3, 4, num_layers=2, bidirectional=True, batch_first=batch_first)
    return rnn.double()


def samples() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, 3, generator=generator).double() for n in LENGTHS]


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_each_sample_is_traced_as_alone(cell: str, batch_first: bool) -> None:
    """Output and last states are torch's, and states and gates those of the sample by itself."""
    rnn, texts = layer(cell, batch_first), samples()
    packed = pack_sequence(texts, enforce_sorted=False)
    with torch.no_grad():
        expected, last = rnn(packed)
        with intervene_on(rnn, trace=True) as handle:
            found, state = rnn(packed)
    torch.testing.assert_close(found.data, expected.data)
    pairs = zip(state, last, strict=True) if cell == "lstm" else [(state, last)]
    for a, b in pairs:
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(pad_packed_sequence(found)[0], pad_packed_sequence(expected)[0])
    trace = handle.trace()
    for number, text in enumerate(texts):
        batch = text[None] if batch_first else text[:, None]
        alone = trace_cells(rnn, batch)
        for name, values in alone.all_quantities().items():
            whole = trace.all_quantities()[name][:, number]
            torch.testing.assert_close(whole[:, : len(text)], values[:, 0])
            assert not whole[:, len(text) :].any()
    means = handle.means(0, 0)["h"]
    real = torch.cat([trace.h[0, n, :length] for n, length in enumerate(LENGTHS)])
    torch.testing.assert_close(means, real.mean(0))


@pytest.mark.parametrize("cell", CELLS)
def test_each_sample_is_changed_as_alone(cell: str) -> None:
    """An edit after a step, with a value for each sample, acts on those that have the step."""
    rnn, texts = layer(cell, True), samples()
    values = torch.arange(4.0).double()[:, None] / 4
    packed = pack_sequence(texts, enforce_sorted=False)
    edit = Edit(units=[1], time=2, h=values)
    with torch.no_grad(), intervene_on(rnn, edit):
        found = pad_packed_sequence(rnn(packed)[0], batch_first=True)[0]
    for number, text in enumerate(texts):
        alone = Edit(units=[1], time=2, h=values[number])
        edits = [alone] if len(text) > 2 else []
        with torch.no_grad(), intervene_on(rnn, edits):
            output = rnn(text[None])[0][0]
        torch.testing.assert_close(found[number, : len(text)], output)
