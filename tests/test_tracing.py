"""What layers put out: every call, not changed by what follows, and no hook left behind."""

import copy
import dataclasses
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from visualization import trace
from visualization.tracing import tapped


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
        (lambda x: torch.max(x, 1), lambda out: out.values),
        (lambda x: (x, x.shape), lambda out: out[0]),
        (lambda x: OrderedDict(y=x), lambda out: out["y"]),
    ],
)
def test_any_packing_keeps_its_kind(
    pack: Callable[[Tensor], Any], first: Callable[[Any], Tensor], images: Tensor
) -> None:
    """A dataclass, torch's own tuples, a size and a mapping go on as what they are, as copies."""
    model = nn.Sequential(Returns(pack))
    with trace(model, "0") as seen:
        answer = model(images)
    assert type(answer) is type(pack(images))
    assert torch.equal(first(answer), first(seen["0"][0]))
    assert first(answer).data_ptr() != first(seen["0"][0]).data_ptr()


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
    with tapped(model, {"relu@1": lambda output: output * 0}):
        answer = model(images)
    wanted = model.head(torch.ones(5, 4))
    torch.testing.assert_close(answer, wanted)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("blok.b", "'blok.b' is no layer of the Twice; accepted: a, relu, .*mean 'block.b'"),
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
