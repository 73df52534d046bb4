"""Inputs of recurrent layers: checked, and brought to one layout."""

from typing import Any

import torch
from torch import Tensor, nn

from visualization.core.errors import argument_error, value_error

_MIXED = (torch.bfloat16, torch.float16)  # what autocast hands over


State = Tensor | tuple[Tensor, Tensor] | list[Tensor] | None


def prepared(rnn: nn.RNNBase, inputs: Tensor, state: State) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return inputs (B, T, I) and initial states (L, B, U), zeros where none are given."""
    axes = "batch, time" if rnn.batch_first else "time, batch"
    accepted = f"a tensor ({axes}, {rnn.input_size}) of one time step or more"
    shape = tuple(inputs.shape) if isinstance(inputs, Tensor) else type(inputs).__name__
    if not isinstance(inputs, Tensor) or inputs.ndim not in (2, 3) or shape[-1] != rnn.input_size:
        raise value_error("inputs", shape, accepted)
    read = _in_dtype_of(rnn, inputs, "inputs")
    x = read[None] if read.ndim == 2 else read if rnn.batch_first else read.transpose(0, 1)
    if x.shape[1] == 0:
        raise value_error("inputs", shape, accepted)
    rows = rnn.num_layers * (2 if rnn.bidirectional else 1)
    sizes = [rnn.proj_size or rnn.hidden_size, rnn.hidden_size]
    shapes = [(rows, len(x), size) for size in (sizes if rnn.mode == "LSTM" else sizes[:1])]
    if state is None:
        states = [x.new_zeros(shape) for shape in shapes]
    else:
        states = _states(rnn, state, shapes, read.ndim == 2)
    return x, states[0], states[1] if rnn.mode == "LSTM" else None


def _states(
    rnn: nn.RNNBase, state: Any, shapes: list[tuple[int, int, int]], is_single: bool
) -> list[Tensor]:
    """Return h, and c of an LSTM, of given shapes (L, B, U); of one sample they come as (L, U)."""
    states = list(state) if isinstance(state, (tuple, list)) else [state]
    expected = [(rows, size) if is_single else (rows, num, size) for rows, num, size in shapes]
    actual = [tuple(s.shape) if isinstance(s, Tensor) else type(s).__name__ for s in states]
    if actual != expected:
        raise argument_error("state", f"shapes {actual}", expected)
    states = [_in_dtype_of(rnn, values, "state") for values in states]
    return [values.unsqueeze(1) for values in states] if is_single else states


def _in_dtype_of(rnn: nn.RNNBase, values: Tensor, name: str) -> Tensor:
    """Return values in the weights' dtype if autocast may have made them; refuse any other."""
    weights = next(rnn.parameters()).dtype
    if values.dtype not in (weights, *_MIXED):
        raise value_error(name, values.dtype, f"{weights}, as the weights of rnn are")
    return values.to(weights)
