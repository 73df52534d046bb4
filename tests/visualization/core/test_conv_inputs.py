"""What is handed over to functions that look into networks: numbers, models, and neither."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from visualization import conv
from visualization.core.arrays import to_numpy
from visualization.core.inputs import as_tensor, inspection_mode


def network() -> nn.Sequential:
    """Return a small classifier of images (3, 8, 8)."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


def pictures(num: int = 4) -> np.ndarray:
    """Return images (N, 3, 8, 8) from 0 to 1."""
    return np.random.default_rng(0).random((num, 3, 8, 8), np.float32)


def odd(values: np.ndarray) -> np.ndarray:
    """Return the same numbers as a flipped, read-only view in another byte order."""
    swapped = values[..., ::-1].astype(values.dtype.newbyteorder(">"))[..., ::-1]
    swapped.flags.writeable = False
    return swapped


MODEL = network()
MASK = np.arange(64).reshape(8, 8) % 5 == 0
TAKERS: dict[str, Callable[[Callable[[np.ndarray], np.ndarray], np.ndarray], Any]] = {
    "crop": lambda f, x: conv.crop(f(x[0]), (0, 3), (0, 3)).pixels,
    "paste_onto": lambda f, x: conv.paste_onto(conv.crop(x[0], (0, 3), (0, 3)), f(x[1])).image,
    "perturb": lambda f, x: conv.perturb("blur", f(x), 1.0),
    "over": lambda f, x: conv.receptive_field(MODEL, "0", (0, 1, 1), (3, 8, 8)).over(f(x[0])).image,
    "target": lambda f, x: conv.saliency(MODEL, x, f(np.array([0, 1, 2, 0]))),
    "labels": lambda f, x: conv.fgsm(MODEL, x, f(np.array([0, 1, 2, 0])), 0.1).labels,
    "loss": lambda f, x: conv.classification_loss(f(x), f(np.array([0, 1, 2, 0])))(MODEL)["loss"],
    "faithfulness": lambda f, x: conv.faithfulness(
        MODEL, x, {"a": f(x[:, 0])}, num_steps=3
    ).deletion["a"],
    "within": lambda f, x: conv.occlusion_map(MODEL, x, 1, within=f(MASK)),
    "region": lambda f, x: (
        conv.transplant_field(MODEL, "0", (0, 1, 1), x[0], x[1], region=f(MASK)).composite
    ),
    "forward_from": lambda f, x: conv.forward_from(
        MODEL, "1", f(np.ones((4, 6, 6), np.float32).cumsum(2)), x
    ),
    "match_activation": lambda f, x: (
        conv.maximise(
            MODEL, conv.match_activation(None, f(np.array([[1.0, 2.0, 3.0]]))), (3, 8, 8), steps=1
        ).values
    ),
    "direction": lambda f, x: (
        conv.maximise(MODEL, conv.direction("0", f(np.arange(4.0))), (3, 8, 8), steps=1).values
    ),
    "l2": lambda f, x: conv.maximise(MODEL, conv.l2(f(x[0])), (3, 8, 8), steps=1).curve,
    "class_distribution": lambda f, x: (
        conv.maximise(
            MODEL, conv.class_distribution(f(np.array([0.7, 0.2, 0.1]))), (3, 8, 8), steps=1
        ).values
    ),
}


@pytest.mark.parametrize("name", TAKERS)
def test_numbers_are_taken_in_any_layout(name: str) -> None:
    """A flipped, read-only view in another byte order gives what the same numbers give."""
    x = pictures()
    taken, plain = (TAKERS[name](form, x) for form in (odd, np.array))
    found, wanted = (to_numpy(v) if isinstance(v, Tensor) else v for v in (taken, plain))
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    "values",
    [
        [1, 2], (1.0, 2.0), np.array([1, 2], np.uint16), np.array([1, 2], np.longdouble),
        [torch.tensor(1.0, requires_grad=True), torch.tensor(2.0)], np.array([True, False]),
        torch.tensor([1.0, 2.0], requires_grad=True),
    ],
)  # fmt: skip
def test_numbers_of_any_kind_become_a_tensor(values: Any) -> None:
    """Lists, lists of tensors and arrays of any type are taken, without a graph."""
    found = as_tensor(values)
    assert not found.requires_grad
    assert found.double().tolist() == ([1.0, 0.0] if found.dtype == torch.bool else [1.0, 2.0])


@pytest.mark.parametrize("target", [torch.tensor(1), np.array(1), np.int64(1), np.uint8(1)])
def test_a_single_number_is_a_target_in_any_form(target: Any) -> None:
    """What `argmax()` gives means the class for every image, as a plain number does."""
    wanted = conv.saliency(MODEL, pictures(), 1)
    torch.testing.assert_close(conv.saliency(MODEL, pictures(), target), wanted)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, x: conv.saliency(m, x, "cat"), "target: a str is not accepted: <U3 is not a n"),
        (lambda m, x: conv.saliency(m, x, torch.tensor(1.5)), "target: torch.float32 of shape ()"),
        (lambda m, x: conv.saliency(m, {"x": x}), "images: a dict is not accepted"),
        (lambda m, x: conv.saliency(m, [x, x[0, 0, 0]]), "images: a list is not accepted"),
        (lambda m, x: conv.saliency(m, (torch.tensor(x), torch.zeros(3))), "images: a tuple is "),
        (lambda m, x: conv.top_patches(m, "1", [{"image": x}]), "images: a dict is not accepted"),
        (lambda m, x: conv.saliency(m, x + 1j), "images: torch.complex64 is not accepted; "
         "accepted: real numbers"),
        (lambda m, x: conv.saliency(m, x[0, 0]), "images: shape (8, 8) is not accepted;"),
        (lambda m, x: conv.grad_cam(m, x, 1, cam_layer=nn.ReLU()), "cam_layer: a ReLU is not a"),
        (lambda m, x: conv.dead_units(m, x, [nn.ReLU()]), "layers: a ReLU is not a layer of the "),
        (lambda m, x: conv.invert(m, [3], x), "layers: a int is not a layer of the Sequential"),
        (lambda m, x: conv.probe_layers(m, ["1"], pictures(30), np.arange(30) % 2),
         "accepted: 34 images or more, 10 in either part, 2 labels or more"),
    ],
)  # fmt: skip
def test_what_is_not_accepted_is_named(call: Callable[..., Any], words: str) -> None:
    """A ValueError names the argument, what it is, and what is accepted, in few words."""
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the words are looked for below
        call(MODEL, pictures())
    assert words in str(error.value)
    assert "accepted: " in str(error.value)
    assert len(str(error.value)) < 300


def test_a_unit_without_a_gradient_is_named() -> None:
    """`pixel_gradient` of what follows from no derivative is a ValueError that says so."""

    class Picks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.argmax(dim=3).float()[..., None]

    with pytest.raises(ValueError, match="target: the score has no gradient with respect to "):
        conv.pixel_gradient(Picks(), None, (0, 0, 0), pictures()[0])


def test_networks_made_under_inference_mode_are_looked_into() -> None:
    """Their weights are as before, and the gradients those of the same network made outside."""
    with torch.inference_mode():
        model = network()
        recurrent = nn.LSTM(8, 3)
    weights, lists = list(model.parameters()), list(recurrent._flat_weights)
    torch.testing.assert_close(
        conv.saliency(model, pictures(), 1), conv.saliency(network(), pictures(), 1)
    )
    assert all(a is b for a, b in zip(weights, model.parameters(), strict=True))
    assert all(weight.is_inference() and weight.requires_grad for weight in weights)
    with inspection_mode(recurrent):
        x = torch.rand(2, 1, 8, requires_grad=True)
        recurrent(x)[0].sum().backward()
    assert x.grad is not None
    assert all(a is b for a, b in zip(lists, recurrent._flat_weights, strict=True))


@pytest.mark.filterwarnings("ignore:.torch.nn.utils.weight_norm. is deprecated")
def test_networks_that_keep_a_weight_of_their_last_pass_are_copied() -> None:
    """Hook-based weight_norm bears copies after a pass with gradients as it does before one."""
    model = network()
    nn.utils.weight_norm(model[0])
    calls = (
        lambda: conv.randomisation_check(model, pictures(), 1, methods=["saliency"]).absolute,
        lambda: conv.progression(model, {0: model.state_dict()}, "1", pictures()).maps,
    )
    before = [call() for call in calls]
    model(torch.from_numpy(pictures())).sum().backward()
    after = [call() for call in calls]
    np.testing.assert_equal(after, before)


def test_blocks_within_each_other_copy_gradients_once() -> None:
    """An outer block puts back what inner ones change; each puts back what it switches."""
    model, copies = network(), []

    class Counts(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            copies.extend(args[:1] if func is Tensor.clone else ())
            return func(*args, **(kwargs or {}))

    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    with Counts(), inspection_mode(model):
        model.requires_grad_(True)
        with inspection_mode(model):
            assert not model[0].weight.requires_grad
            model[0].weight.grad.zero_()
        assert model[0].weight.requires_grad
    assert len(copies) == len(list(model.parameters()))
    assert all(bool((parameter.grad == 1).all()) for parameter in model.parameters())
    assert model.training


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_records_of_a_network_on_a_gpu_are_on_the_cpu() -> None:
    """No record pins a GPU's memory."""
    model, x = network().cuda(), pictures()
    found = conv.maximise(model, conv.logit([0, 1]), reference=x, steps=2)
    inverted, dreamt = conv.invert(model, "1", x, steps=2), conv.dream(model, x, "1", steps=1)
    satisfied = conv.solve(model, conv.class_distribution([0.5, 0.5, 0.0]), start=x[0], steps=2)
    tensors = [found.images, found.dataset_examples.images, inverted.originals, inverted.images]
    tensors += [dreamt.originals, *dreamt.stages, satisfied.originals, satisfied.images]
    assert all(tensor.device.type == "cpu" for tensor in tensors)
