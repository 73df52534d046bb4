"""What layers output: every call, not changed by what follows, and no hook left behind."""

import copy
import dataclasses
import io
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

from visualization import conv, trace
from visualization.core.tracing import intercept_outputs
from visualization.model.cost import cost


class Pair(NamedTuple):
    """What a module may return that is no single tensor."""

    first: Tensor
    rest: list[Tensor]


class Packs(nn.Module):
    """Returns its input in a pair."""

    def forward(self, x: Tensor) -> Pair:
        """Return the input twice."""
        return Pair(x, [x + 1])


class Twice(nn.Module):
    """Uses one in-place ReLU twice, adds in place, and has a residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.block = nn.ModuleDict({"b": nn.Conv2d(4, 4, 3, padding=1)})
        self.pack = Packs()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return the answer (B, 3)."""
        x = self.relu(self.a(x))
        y = self.block["b"](x)
        y += x
        y = self.relu(y) + 1
        first, _ = self.pack(y)
        return self.head(first.mean((2, 3)))


@pytest.fixture
def model() -> Twice:
    torch.manual_seed(0)
    return Twice()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_values_are_those_before_what_follows_in_place(model: Twice, images: Tensor) -> None:
    """An in-place ReLU or addition after a layer does not change what was recorded of it."""
    with trace(model, ["a", "relu", "block.b"]) as seen:
        answer = model(images)
    a = model.a(images)
    first = a.relu()
    b = model.block["b"](first)
    second = (b + first).relu()
    torch.testing.assert_close(seen["a"][0], a)
    torch.testing.assert_close(seen["block.b"][0], b)
    assert [len(seen[name]) for name in seen] == [1, 2, 1]
    torch.testing.assert_close(seen["relu"][0], first)
    torch.testing.assert_close(seen["relu"][1], second)
    torch.testing.assert_close(answer, model(images))


def test_a_call_can_be_chosen_and_passes_go_on_listing(model: Twice, images: Tensor) -> None:
    """`relu@1` is the second call of each pass."""
    with trace(model, "relu@1") as seen:
        model(images[:2])
        model(images[2:])
    with trace(model, "relu") as whole:
        model(images)
    assert len(seen["relu@1"]) == 2
    torch.testing.assert_close(torch.cat(seen["relu@1"]), whole["relu"][1])


def test_gradients_go_to_what_was_recorded(model: Twice, images: Tensor) -> None:
    """The gradient of the answer with respect to a recorded output is that of the whole rest."""
    with trace(model, ["relu@0"]) as seen:
        model(images).sum().backward()
    (held,) = seen["relu@0"]
    other = held.detach().requires_grad_()
    y = (model.block["b"](other) + other).relu() + 1
    (wanted,) = torch.autograd.grad(model.head(y.mean((2, 3))).sum(), other)
    with trace(model, ["relu@0"]) as seen:
        answer = model(images)
        (found,) = torch.autograd.grad(answer.sum(), seen["relu@0"])
    torch.testing.assert_close(found, wanted)


def test_a_pass_is_left_as_soon_as_all_is_known(model: Twice, images: Tensor) -> None:
    """With stop, what comes after the last layer that was asked for does not run."""
    ran: list[str] = []
    model.pack.register_forward_hook(lambda *_: ran.append("pack"))
    with trace(model, ["a", "relu"], stop=True) as seen:
        assert model(images) is None
        assert model(images) is None
    assert [len(seen["relu"]), len(seen["a"]), ran] == [2, 2, []]
    with trace(model, ["relu@1"], stop=True) as seen:
        model(images)
    assert len(seen["relu@1"]) == 1


def test_outputs_of_any_packing_are_recorded(model: Twice, images: Tensor) -> None:
    """NamedTuples, lists and the tuples of recurrent layers come whole, and go on whole."""
    with trace(model, ["pack", ""]) as seen:
        answer = model(images)
    assert isinstance(seen["pack"][0], Pair)
    assert seen["pack"][0].rest[0].shape == (5, 4, 8, 8)
    assert torch.equal(seen[""][0], answer)
    lstm = nn.Sequential(nn.LSTM(3, 4, batch_first=True))
    with trace(lstm, "0") as seen:
        output, (h, _) = lstm(torch.ones(2, 5, 3))
    assert torch.equal(seen["0"][0][0], output)
    assert torch.equal(seen["0"][0][1][0], h)


@dataclasses.dataclass
class Held:
    """What a layer may return."""

    first: Tensor


@dataclasses.dataclass(frozen=True)
class Frozen:
    """A packing with a field that its constructor does not take."""

    first: Tensor
    kind: str = dataclasses.field(default="frozen", init=False)


class Methods(namedtuple("Methods", ["first", "second"])):
    """A named tuple with a constructor and a method of its own."""

    def __new__(cls, first: Tensor) -> "Methods":
        """Return a pair."""
        return super().__new__(cls, first, None)

    def double(self) -> Tensor:
        """Return twice the tensor."""
        return 2 * self.first


class Returns(nn.Module):
    """Returns what its argument makes of the input."""

    def __init__(self, pack: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.inner, self.pack = nn.Identity(), pack

    def forward(self, x: Tensor) -> Any:
        """Return x as it is packed."""
        return self.pack(self.inner(x))


@pytest.mark.parametrize(
    ("pack", "first"),
    [
        (Held, lambda out: out.first),
        (Frozen, lambda out: out.first),
        (Methods, lambda out: out.double() / 2),
        (lambda x: pack_padded_sequence(x[:, 0], [8, 8, 5, 2, 1], True), lambda out: out.data),
        (lambda x: torch.max(x, 1), lambda out: out.values),
        (lambda x: (x, x.shape), lambda out: out[0]),
        (lambda x: OrderedDict(y=x), lambda out: out["y"]),
    ],
)
def test_any_packing_keeps_its_kind(
    pack: Callable[[Tensor], Any], first: Callable[[Any], Tensor], images: Tensor
) -> None:
    """Dataclasses, tuples of any kind, a size and a mapping go on as what they are, as copies."""
    model = nn.Sequential(Returns(pack))
    with trace(model, "0") as seen:
        answer = model(images)
    assert type(answer) is type(pack(images))
    assert torch.equal(first(answer), first(seen["0"][0]))
    assert first(answer).data_ptr() != first(seen["0"][0]).data_ptr()


def test_recurrent_layers_of_packed_sequences_are_traced() -> None:
    """What an LSTM makes of sequences of several lengths goes on as it would without a trace."""
    lstm = nn.Sequential(nn.LSTM(3, 4, batch_first=True))
    packed = pack_padded_sequence(torch.rand(2, 5, 3), [5, 2], batch_first=True)
    with trace(lstm, "0") as seen:
        output, _ = lstm(packed)
    wanted, _ = lstm(packed)
    padded, lengths = pad_packed_sequence(output, batch_first=True)
    torch.testing.assert_close(padded, pad_packed_sequence(wanted, batch_first=True)[0])
    assert lengths.tolist() == [5, 2]
    assert torch.equal(seen["0"][0][0].data, output.data)


def test_layers_are_given_as_modules(model: Twice, images: Tensor) -> None:
    """A module stands for its dotted name; one that is no part of the model is named."""
    with trace(model, [model.a, model.block["b"]]) as seen:
        model(images)
    with trace(model, model.a) as single:
        model(images)
    assert list(seen) == ["a", "block.b"]
    assert torch.equal(seen["a"][0], single["a"][0])
    words = "layers: a ReLU is not a layer of the Twice; accepted: its modules or their names, a, "
    with pytest.raises(ValueError, match=words), trace(model, nn.ReLU()):
        raise AssertionError("the block must not run")


def test_a_compiled_model_is_traced_as_it_was_written(model: Twice, images: Tensor) -> None:
    """Code made before the hooks came does not run past them, and runs again afterwards."""
    wrapped = torch.compile(model, backend="eager")
    model.compile(backend="eager")
    with torch.no_grad():
        answers = model(images), wrapped(images)
        for compiled, name in ((model, "relu@1"), (wrapped, "_orig_mod.relu@1")):
            for stop in (False, True):
                with trace(compiled, name, stop=stop) as seen:
                    compiled(images)
                assert len(seen[name]) == 1
            with intercept_outputs(compiled, {name: lambda output: output * 0}):
                torch.testing.assert_close(compiled(images), model.head(torch.ones(5, 4)))
        torch.testing.assert_close((model(images), wrapped(images)), answers)


def test_what_a_checkpoint_computes_again_is_not_listed(images: Tensor) -> None:
    """A layer called once has one output, also when a backward pass in the block calls it again."""
    inner = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    model = Returns(lambda x: checkpoint(inner, x, use_reentrant=False))
    model.part = inner
    with trace(model, "part.0") as seen:
        model(images).sum().backward()
    assert len(seen["part.0"]) == 1
    assert inner[0].weight.grad is not None


@pytest.mark.filterwarnings(
    "ignore:.torch.jit:FutureWarning", "ignore:.torch.jit:DeprecationWarning"
)
def test_what_torch_scripted_or_exported_is_refused_in_one_way() -> None:
    """Scripted, frozen, traced and exported models have no layers, and what is accepted is told."""
    net, x = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 2)).eval(), images_of(8)
    scripted, traced = torch.jit.script(net), torch.jit.trace(net, x)
    exported = torch.export.export(net, (x,)).module()
    frozen = torch.jit.freeze(torch.jit.script(net))
    told = "shows no layers; accepted: the nn.Module that it was made from"
    for closed in (scripted, frozen, traced, exported, nn.Sequential(exported)):
        for look in (conv.saliency, cost, lambda m, x: conv.top_patches(m, "0", x)):
            with pytest.raises(ValueError, match=told):
                look(closed, x)
    for closed in (scripted, traced):
        around = nn.Sequential(closed)
        assert conv.saliency(around, x, 1).any()
        with pytest.raises(ValueError, match=r"layer: '0.0' lies in a scripted module"):
            conv.top_patches(around, "0.0", x)
    buffer = io.BytesIO()
    torch.jit.save(scripted, buffer)
    buffer.seek(0)
    loaded = nn.Sequential(torch.jit.load(buffer))  # its parameters are tensors
    conv.saliency(loaded, x, 1)
    assert all(p.requires_grad and p.grad is None for p in loaded.parameters())
    with pytest.raises(
        ValueError, match=r"model: a function is not accepted; accepted: an nn\.Mod"
    ):
        conv.saliency(lambda x: x, x)


def images_of(side: int) -> Tensor:
    """Return two images of one channel."""
    return torch.rand(2, 1, side, side, generator=torch.Generator().manual_seed(0))


def test_the_model_itself_and_its_parts_can_be_asked_for(model: Twice, images: Tensor) -> None:
    """With the model among the layers a pass is not left; parts may be called by themselves."""
    with trace(model, ["", "a"], stop=True) as seen:
        assert torch.equal(model(images), seen[""][0])
    with trace(model, "a", stop=True) as seen:
        assert torch.equal(model.a(images), seen["a"][0])


def test_a_copy_made_in_the_block_is_its_own(model: Twice, images: Tensor) -> None:
    """A deep copy of a traced model computes with its own weights."""
    with trace(model, ["a"]):
        other = copy.deepcopy(model)
    with torch.no_grad():
        other.head.weight.zero_()
    torch.testing.assert_close(other(images), other.head.bias.expand(5, 3))


def test_nothing_is_left_behind(model: Twice, images: Tensor) -> None:
    """After the block, and after an exception in it, there is no hook and no other forward."""
    for wrong in (images, images[:, :, :0]):
        try:
            with trace(model, ["a", "relu"], stop=True):
                model(wrong)
                raise KeyError  # noqa: TRY301 - the block's own
        except (KeyError, RuntimeError):
            pass
        assert "forward" not in vars(model)
        assert not any(module._forward_hooks for module in model.modules())
    model(images)


def test_an_output_can_be_replaced(model: Twice, images: Tensor) -> None:
    """What a tap returns goes on in the output's place, also at one call of several."""
    with intercept_outputs(model, {"relu@1": lambda output: output * 0}):
        answer = model(images)
    wanted = model.head(torch.ones(5, 4))
    torch.testing.assert_close(answer, wanted)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("blok.b", "'blok.b' is not a layer of the Twice; accepted: a, relu, .*mean 'block.b'"),
        ("relu@x", "'relu@x' names no call; accepted: relu@0, relu@1"),
    ],
)
def test_an_unknown_layer_is_named(model: Twice, name: str, words: str) -> None:
    """An error names what was asked for, what there is, and the nearest."""
    with pytest.raises(ValueError, match=words), trace(model, [name]):
        raise AssertionError("the block must not run")


def test_what_was_not_asked_for_is_no_empty_list(model: Twice) -> None:
    """Asking a trace for another layer is an error that lists those traced."""
    with trace(model, ["a", "relu"]) as seen:
        with pytest.raises(KeyError, match="traced: a, relu"):
            seen["head"]
        assert "head" not in seen
        assert seen["a"] == []
