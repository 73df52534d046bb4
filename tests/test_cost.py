"""Parameters and multiply-adds."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tests.conftest import small_agent
from visualization import render
from visualization.cost import CostCounter


def counted(model: nn.Module, *inputs: torch.Tensor) -> CostCounter:
    """Run a model under a counter."""
    counter = CostCounter(model)
    with counter.watch(), torch.no_grad():
        model(*inputs)
    return counter


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Linear(7, 3), (2, 5, 7)),
        (nn.Conv2d(4, 6, (3, 2), stride=2, padding=1, groups=2), (2, 4, 9, 8)),
        (nn.ConvTranspose2d(4, 6, 3, stride=2), (2, 4, 5, 5)),
        (nn.Sequential(nn.Conv1d(3, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(30, 2)), (2, 3, 8)),
    ],
)
def test_multiply_adds_equal_torchs_own_count(model: nn.Module, shape: tuple[int, ...]) -> None:
    """Where torch's counter counts (two operations a multiply-add), the numbers agree."""
    inputs = torch.zeros(shape)
    with FlopCounterMode(display=False) as theirs:
        model(inputs)
    table = counted(model, inputs).table(num_samples=shape[0])
    assert 2 * table.multiply_adds == theirs.get_total_flops()
    assert table.num_parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
@pytest.mark.parametrize("both", [False, True])
def test_recurrent_layers_are_counted_right(kind: type, gates: int, both: bool) -> None:
    """Gates · H · (I + H) per step, layer and direction; the second layer reads all directions."""
    inputs, hidden, time, batch = 5, 8, 6, 3
    directions = 2 if both else 1
    model = kind(inputs, hidden, num_layers=2, bidirectional=both, batch_first=True)
    table = counted(model, torch.zeros(batch, time, inputs)).table(batch)
    a_step = directions * gates * hidden * ((inputs + hidden) + (directions * hidden + hidden))
    assert table.multiply_adds == batch * time * a_step
    assert table.num_parameters == sum(p.numel() for p in model.parameters())


def test_a_layer_that_runs_twice_counts_twice() -> None:
    """Every call is counted; parameters once."""
    layer = nn.Linear(4, 4)
    table = counted(nn.Sequential(layer, layer), torch.zeros(1, 4)).table(1)
    assert [(row.calls, row.multiply_adds, row.num_parameters) for row in table.layers] == [
        (2, 32, 20)
    ]


def test_the_adders_summary_is_the_sum_by_hand() -> None:
    """Encoder: 12 steps; decoder: 5 calls of one step; read-out: 5 times hidden · codes."""
    table = small_agent().inspect(["summary"])["summary"]
    found = {row.name: (row.calls, row.multiply_adds) for row in table.layers}
    a_step = 4 * 16 * (12 + 16)
    assert found == {"encoder": (1, 12 * a_step), "decoder": (5, 5 * a_step),
                     "readout": (5, 5 * 16 * 12)}  # fmt: skip
    assert "encoder" in render.text(table)
