"""Parameters, multiply-adds and sizes of outputs: torch's own counts, by layer."""

import functools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.conftest import small_agent
from visualization import render
from visualization.model.cost import OUTSIDE, CostCounter, LayerCost, cost


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


def rows(model: nn.Module, *inputs: Tensor) -> dict[str, LayerCost]:
    """Return what each layer costs, by name."""
    return {row.name: row for row in cost(model, inputs).layers}


class Attends(nn.Module):
    """Attention by F.scaled_dot_product_attention, of layers of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)

    def forward(self, x: Tensor) -> Tensor:
        """Return what is looked at (B, T, 8)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Functional(nn.Module):
    """Convolves, multiplies and contracts with functions, and calls one layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.ones(4, 3, 3, 3))
        self.inner = nn.ModuleDict({"twice": nn.Linear(4, 4)})
        self.unused = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return numbers (B, 5)."""
        twice = self.inner["twice"]
        x = F.relu_(F.conv2d(x, self.kernel)).mean((2, 3))
        x = torch.einsum("bi,ij->bj", twice(twice(x)), torch.ones(4, 6))
        return F.linear(x, torch.ones(5, 6))


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Sequential(nn.Conv3d(2, 4, 3, groups=2), nn.ConvTranspose3d(4, 2, 2)), (2, 2, 5, 5, 5)),
        (nn.Sequential(nn.ConvTranspose1d(4, 6, 3, stride=2, groups=2)), (2, 4, 7)),
        (nn.Conv2d(4, 8, 3, dilation=2, groups=4, padding="same"), (3, 4, 9, 9)),
        (Attends(), (2, 6, 8)),
        (Functional(), (2, 3, 8, 8)),
        (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (2, 5, 8)),
    ],
)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_whole_networks_cost_what_torch_counts(
    model: nn.Module, shape: tuple[int, ...], mode: type
) -> None:
    """Grouped, transposed, attention and functions: equal to torch's counter in every mode."""
    inputs = torch.zeros(shape)
    model.eval()
    with FlopCounterMode(display=False) as theirs, sdpa_kernel(SDPBackend.MATH):
        model(inputs)  # of attention that is fused on a CPU it counts nothing
    counter = CostCounter(model)
    with counter.watch(), mode():
        model(inputs)
    table = counter.table(shape[0])
    assert 2 * table.multiply_adds == theirs.get_total_flops() > 0
    assert table.num_parameters == sum(p.numel() for p in model.parameters())


class Calls(nn.Module):
    """Calls a function of its inputs."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return what the function returns."""
        return self.function(*inputs)


def test_attention_costs_its_two_products() -> None:
    """2 · heads · L · S · E on any kernel, with a mask, wider values or fewer heads of keys too."""
    q, k, v = torch.rand(2, 4, 6, 8), torch.rand(2, 4, 5, 8), torch.rand(2, 4, 5, 3)
    attend = F.scaled_dot_product_attention
    mask = torch.ones(6, 5, dtype=torch.bool)
    grouped = functools.partial(attend, enable_gqa=True)
    calls = [
        (attend, (q, k, k), 2 * 4 * 6 * 5 * (8 + 8)),
        (attend, (q, k, v), 2 * 4 * 6 * 5 * (8 + 3)),
        (attend, (q, k, k, mask), 2 * 4 * 6 * 5 * (8 + 8)),
        (grouped, (q, k[:, :2], k[:, :2]), 2 * 4 * 6 * 5 * (8 + 8)),
    ]
    for function, inputs, wanted in calls:
        for mode in (torch.no_grad, torch.enable_grad, torch.inference_mode):
            counter = CostCounter(model := Calls(function))
            with counter.watch(), mode():
                model(*inputs)
            assert counter.table(2).multiply_adds == wanted


def test_transformer_layers_cost_their_attention() -> None:
    """Four projections, two products of attention and two linear layers, for each sample."""
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    wanted = 2 * (4 * 10 * 16 * 16 + 2 * 10 * 10 * 16 + 2 * 10 * 16 * 32)
    assert cost(layer, torch.rand(2, 10, 16)).multiply_adds == wanted


def test_products_in_place_count_and_unknown_ones_are_not_nothing() -> None:
    """`addmm_` costs what `addmm` does; products that torch has no formula for are None, not 0."""
    x = torch.rand(3, 5)
    found = rows(Calls(lambda x: torch.zeros(3, 4).addmm_(x, torch.ones(5, 4))), x)
    assert found[""].multiply_adds == 3 * 4 * 5
    tbc = torch.ones(2, 5, 4), torch.ones(4)
    for unknown in (
        lambda x: torch.addbmm(torch.zeros(3, 4), x[None], torch.ones(1, 5, 4)),
        lambda x: torch.conv_tbc(x[:, None], *tbc),
        lambda x: torch.linalg.det(x[:3, :3]),
    ):
        assert rows(Calls(unknown), x)[""].multiply_adds is None
    for none in (F.normalize, torch.digamma, lambda x: F.interpolate(x[None], 9, mode="linear")):
        assert not rows(Calls(none), x)


def test_a_network_that_works_in_place_leaves_the_inputs_alone() -> None:
    """What is counted runs on copies, also as one of several arguments."""
    x = torch.rand(2, 3)
    given = x.clone()
    cost(Calls(lambda a, b: a.sub_(1) + b.mul_(2)), (x, x))
    assert torch.equal(x, given)


def test_functions_count_for_the_module_that_runs_them() -> None:
    """Rows: the module with its functions' products, the layer called twice, the one never."""
    found = rows(Functional(), torch.zeros(2, 3, 8, 8))
    assert list(found) == ["", "inner.twice", "unused"]
    assert found[""].multiply_adds == 2 * (4 * 36 * 27 + 4 * 6 + 6 * 5)
    assert (found["inner.twice"].calls, found["inner.twice"].multiply_adds) == (2, 2 * 2 * 16)
    assert (found["unused"].calls, found["unused"].num_parameters) == (0, 6)
    assert found["unused"].output_shape == ()


def test_what_runs_outside_any_layer_has_a_row() -> None:
    """Products between calls of layers are not lost, and no other row takes them."""
    model = nn.Linear(4, 3)
    counter = CostCounter(model)
    with counter.watch():
        torch.ones(5, 3) @ model(torch.ones(2, 4)).T
        torch.mv(torch.ones(7, 2), torch.ones(2))
        torch.dot(torch.ones(9), torch.ones(9))
        torch.addmv(torch.ones(7), torch.ones(7, 2), torch.ones(2))
    torch.ones(5, 3) @ torch.ones(3, 5)  # no longer watched
    found = {row.name: row.multiply_adds for row in counter.table(2).layers}
    assert found == {"": 2 * 12, OUTSIDE: 5 * 3 * 2 + 14 + 9 + 14}


def test_vectors_without_a_batch_are_counted() -> None:
    """A linear layer of one vector costs its matrix."""
    assert counted(nn.Linear(7, 3), torch.zeros(7)).table(1).multiply_adds == 21


def test_what_cannot_be_counted_is_said_to_be_unknown() -> None:
    """A layer with an operator that has no formula has None, and the others their numbers."""

    class Distances(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.points = nn.Parameter(torch.ones(30, 4))
            self.layer = nn.Linear(30, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(
                torch.cdist(x, self.points, compute_mode="donot_use_mm_for_euclid_dist")
            )

    found = rows(Distances(), torch.zeros(3, 4))
    assert (found[""].multiply_adds, found["layer"].multiply_adds) == (None, 3 * 60)
    assert (
        rows(nn.Bilinear(3, 4, 2), torch.zeros(1, 3), torch.zeros(1, 4))[""].multiply_adds is None
    )
    assert rows(nn.BatchNorm2d(2), torch.zeros(1, 2, 3, 3))[""].multiply_adds == 0


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_packed_sequences_cost_their_steps() -> None:
    """A recurrent layer of sequences of 5 and 2 steps costs 7 of them; cells cost one each."""
    packed = nn.utils.rnn.pack_sequence([torch.zeros(5, 3), torch.zeros(2, 3)])
    lstm = nn.LSTM(3, 4)
    counter = CostCounter(lstm)
    with counter.watch():
        lstm(packed)
    assert counter.table(2).multiply_adds == 7 * 4 * 4 * (3 + 4)
    projected = nn.LSTM(3, 4, proj_size=2)
    step = 4 * 4 * (3 + 2) + 4 * 2
    assert counted(projected, torch.zeros(6, 1, 3)).table(1).multiply_adds == 6 * step
    assert counted(nn.GRUCell(3, 4), torch.zeros(2, 3)).table(2).multiply_adds == 2 * 3 * 4 * 7


def test_outputs_are_measured_in_bytes() -> None:
    """All tensors that a layer returns, over its calls: numbers times the size of one."""
    layer = nn.Linear(4, 4, dtype=torch.float64)
    table = counted(nn.Sequential(layer, layer), torch.zeros(3, 4, dtype=torch.float64)).table(3)
    assert table.layers[0].output_bytes == 2 * 3 * 4 * 8
    lstm = rows(nn.LSTM(2, 5), torch.zeros(6, 1, 2))[""]
    assert lstm.output_bytes == (6 * 5 + 5 + 5) * 4
    assert lstm.output_shape == (6, 1, 5)


def test_shared_parameters_count_once() -> None:
    """A weight that two layers share belongs to the first, and the sum is the model's."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    found = rows(model, torch.zeros(1, 4))
    assert [row.num_parameters for row in found.values()] == [20, 0]
    assert [row.multiply_adds for row in found.values()] == [16, 16]


def test_counting_changes_nothing() -> None:
    """Modes, hooks, statistics and torch's switches stay, also after an exception."""
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(inplace=True), nn.Dropout()
    )
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    table = cost(model, torch.rand(4, 1, 8, 8))
    with pytest.raises(RuntimeError):
        cost(model, torch.rand(4, 2, 8, 8))
    assert table.layers[0].output_shape == (4, 2, 6, 6)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert torch.backends.mha.get_fastpath_enabled()
    assert cost(model, torch.rand(4, 1, 8, 8)) == table  # nothing of the failed pass is left
    torch.set_rng_state(random)


def test_a_pass_that_breaks_off_leaves_the_count_in_order() -> None:
    """After a layer raised, what follows is not taken for a part of it."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(4, 4))
    counter = CostCounter(model)
    with counter.watch():
        with pytest.raises(RuntimeError):
            model(torch.zeros(1, 3))
        torch.ones(2, 2) @ torch.ones(2, 2)
    found = {row.name: row.multiply_adds for row in counter.table(1).layers}
    assert found == {"0": 9, "1": 0, OUTSIDE: 8}


@pytest.mark.parametrize(
    "given", [[], torch.tensor(1.0), torch.zeros(0, 3), ["x"], {"x": torch.rand(99, 99)}, None]
)
def test_inputs_of_another_kind_are_named(given: object) -> None:
    """What is no batch is an error that says what is accepted, and lists no numbers."""
    with pytest.raises(
        ValueError, match=r"inputs: .* is not accepted; accepted: a tensor \(batch"
    ) as error:
        cost(nn.Linear(3, 2), given)
    assert len(str(error.value)) < 100
