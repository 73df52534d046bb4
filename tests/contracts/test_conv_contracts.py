"""What every function of visualization.conv must hold, on networks of every make.

A public function that is not listed in `CALLS` fails the first test; a listed one gets the rest.
"""

import functools
import inspect
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.helpers.networks import CLASSES, NETS, PLAIN, SIZE, Net
from visualization import conv
from visualization.core.arrays import to_numpy
from visualization.core.inputs import as_tensor

LAYER, UNIT = "look", (1, 3, 4)


def landscape(name: str) -> Callable[..., Any]:
    """Return a call of a function that takes a loss."""

    def call(model: Net, images: Tensor) -> Any:
        loss = conv.classification_loss(images, np.arange(len(images)) % CLASSES)
        state = model.state_dict()
        if name == "line":
            return conv.landscape_line(model, loss, state, state, num=3)
        return conv.landscape_plane(model, loss, num=3)

    return call


def masks(images: Tensor) -> np.ndarray:
    """Return masks of two concepts for each image."""
    bright = np.asarray(as_tensor(images).float()).mean(1) > 0.5
    return np.stack([bright, ~bright], axis=1)


def sheets(model: Net, images: Tensor) -> Any:
    """Gather what is known of a layer's channels."""
    patches = conv.top_patches(model, LAYER, images, k=2)
    return conv.unit_sheets(model, LAYER, images, patches=patches, names=["x"] * len(images))


CALLS: dict[str, Callable[[Any, Tensor], Any]] = {
    "activating_positions": lambda m, x: conv.activating_positions(m, LAYER, 0, x),
    "activation": lambda m, x: conv.activation(m, conv.as_images(x, m), LAYER).detach(),
    "activation_atlas": lambda m, x: conv.activation_atlas(
        m, LAYER, x, grid=1, method="pca", steps=2
    ),
    "attributions": lambda m, x: conv.attributions(m, x[:2], methods=["saliency", "grad_cam"]),
    "channel_relevance": lambda m, x: conv.channel_relevance(m, x[:2], layer=LAYER),
    "compare_penalties": lambda m, x: conv.compare_penalties(m, [0, 2], reference=x, steps=2),
    "compare_response": lambda m, x: conv.compare_response(m, LAYER, x[0], ("noise", 0.3)),
    "dead_units": conv.dead_units,
    "deconvnet": conv.deconvnet,
    "dissect": lambda m, x: conv.dissect(m, LAYER, x, masks(x), ["bright", "dark"]),
    "dream": lambda m, x: conv.dream(m, x[0], LAYER, steps=2),
    "ablate_channels": lambda m, x: conv.ablate_channels(m, LAYER, x[0], [0, 2]),
    "embed": lambda m, x: conv.embed(m, LAYER, x),
    "faithfulness": lambda m, x: conv.faithfulness(m, x[:2], {"it": x[:2]}, num_steps=4),
    "feature_layers": lambda m, x: conv.feature_layers(m, x[0]),
    "fooling_images": lambda m, x: conv.fooling_images(m, [0, 1], start=x[:2], rounds=2, steps=2),
    "fgsm": lambda m, x: conv.fgsm(m, x, None, 0.1),
    "grad_cam": conv.grad_cam,
    "grad_cam_plus_plus": lambda m, x: conv.grad_cam_plus_plus(m, x, cam_layer=LAYER),
    "guided_backprop": lambda m, x: conv.guided_backprop(m, x, 1),
    "guided_grad_cam": lambda m, x: conv.guided_grad_cam(m, x[:2], cam_layer=LAYER),
    "input_x_gradient": lambda m, x: conv.input_x_gradient(m, x, UNIT, target_layer=LAYER),
    "integrated_gradients": lambda m, x: conv.integrated_gradients(m, x, num_steps=4),
    "invert": lambda m, x: conv.invert(m, LAYER, x[0], steps=3),
    "landscape_line": landscape("line"),
    "landscape_plane": landscape("plane"),
    "layer_activations": conv.layer_activations,
    "layer_cam": lambda m, x: conv.layer_cam(m, x[:2], 1, cam_layer=LAYER),
    "layer_weights": lambda m, x: conv.layer_weights(m),
    "lrp": lambda m, x: conv.lrp(m, x[:2], 1, composite="epsilon_gamma_box"),
    "maximise": lambda m, x: conv.maximise(m, conv.channel(LAYER, [0, 1]), tuple(x.shape[1:]),
                                           steps=3),
    "minimal_patch": lambda m, x: conv.minimal_patch(m, None, (answer(m, x),), x[0]),
    "minimal_perturbation": lambda m, x: conv.minimal_perturbation(m, x[:2], rounds=2, steps=2),
    "nearest_neighbours": lambda m, x: conv.nearest_neighbours(m, LAYER, x[:2], x, k=2),
    "occlude": lambda m, x: conv.occlude(m, LAYER, UNIT, x[0]),
    "occlusion_map": lambda m, x: conv.occlusion_map(m, x[:2]),
    "transplant_field": lambda m, x: conv.transplant_field(m, LAYER, UNIT, x[0], x[1]),
    "pgd": lambda m, x: conv.pgd(m, x, None, 0.1, steps=2),
    "pixel_gradient": lambda m, x: conv.pixel_gradient(m, LAYER, UNIT, x[0]),
    "probe_layers": lambda m, x: conv.probe_layers(m, [LAYER], x, np.arange(len(x)) % 2),
    "progression": lambda m, x: conv.progression(m, {0: m.state_dict()}, LAYER, x),
    "randomisation_check": lambda m, x: conv.randomisation_check(m, x[:2], methods=["saliency"]),
    "receptive_field": lambda m, x: conv.receptive_field(m, LAYER, UNIT, tuple(x.shape[1:])),
    "receptive_fields": lambda m, x: conv.receptive_fields(m, LAYER, 1, x[0]),
    "relevance_balance": lambda m, x: conv.relevance_balance(m, x[:2]),
    "rise": lambda m, x: conv.rise(m, x[:2], num_masks=8, grid=3),
    "robustness_curve": lambda m, x: conv.robustness_curve(m, x, None, [0.0, 0.1], steps=2),
    "forward_from": lambda m, x: conv.forward_from(
        m, LAYER, torch.zeros(len(x), 4, SIZE, SIZE), x
    ),
    "saliency": conv.saliency,
    "score_cam": lambda m, x: conv.score_cam(m, x[:2], cam_layer=LAYER),
    "solve": lambda m, x: conv.solve(
        m, conv.class_distribution([0.5, 0.5, 0.0]), start=x[:1], steps=2
    ),
    "random_directions": lambda m, x: conv.random_directions(m, 0),
    "smooth_grad": lambda m, x: conv.smooth_grad(m, x[:2], num_samples=3),
    "sweep_perturbation": lambda m, x: conv.sweep_perturbation(m, LAYER, UNIT, x[0], "blur", num=2),
    "top_patches": lambda m, x: conv.top_patches(m, LAYER, x),
    "transfer_table": lambda m, x: conv.transfer_table(
        {"a": m}, x, [0] * len(x), functools.partial(conv.fgsm, epsilon=0.1)
    ),
    "unit_pattern": lambda m, x: conv.unit_pattern(m, LAYER, UNIT, x[0]),
    "unit_sheets": sheets,
}  # fmt: skip
# Numbers that do not exist are NaN or infinite there, as their records say.
NOT_ALL_FINITE = {"minimal_perturbation", "occlude", "top_patches", "unit_pattern"}
# These look at weights and run nothing.
NEVER_RUN = {"layer_weights", "random_directions"}
# They take no model: objectives, demands, images, and what works on arrays alone.
WITHOUT_MODEL = {
    "layer_energy", "class_distribution", "as_images", "at_least", "at_most", "channel",
    "classification_loss",
    "cosine", "crop", "direction", "diversity", "per_image", "equals",
    "interpolation", "l1", "l2", "logit", "match_activation", "custom", "perturb", "paste_onto",
    "scan_concepts", "total_variation", "unit",
}  # fmt: skip


def answer(model: Net, images: Tensor) -> int:
    """Return a class whose logit for the first image is above 0, made so by the read-out's bias."""
    with torch.no_grad():
        model.head.bias.fill_(1.0)
    return 0


def made(name: str) -> tuple[Net, Tensor]:
    """Return a network in training mode with gradients of its own, and images that it takes."""
    torch.manual_seed(0)
    model = NETS[name]()
    dtype = model.head.weight.dtype
    images = torch.rand(40, model.channels, SIZE, SIZE, dtype=dtype)
    answer(model, images)
    model.train()
    model.head.eval()
    model(images.clone()).sum().backward()
    return model, images


def state(model: Net) -> OrderedDict[str, Any]:
    """Return all that looking must leave as it was."""
    found: OrderedDict[str, Any] = OrderedDict()
    for name, tensor in model.state_dict().items():
        found[name] = tensor.clone()
    for name, parameter in model.named_parameters():
        found[f"asks {name}"] = torch.tensor(parameter.requires_grad)
        found[f"gradient {name}"] = (
            torch.zeros(0) if parameter.grad is None else parameter.grad.clone()
        )
    for name, module in model.named_modules():
        hooks = len(module._forward_hooks) + len(module._forward_pre_hooks)
        hooks += len(module._backward_hooks) + ("forward" in vars(module))
        found[f"modes {name}"] = torch.tensor([module.training, hooks])
    found["random"] = torch.get_rng_state()
    return found


def same(a: OrderedDict[str, Any], b: OrderedDict[str, Any]) -> bool:
    """Tell whether nothing is different."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_every_public_function_is_tried() -> None:
    """Each function of the package stands in one of the two lists, and no other does."""
    public = {name for name in conv.__all__ if inspect.isfunction(getattr(conv, name))}
    assert public == CALLS.keys() | WITHOUT_MODEL
    assert not CALLS.keys() & WITHOUT_MODEL
    for name in public:
        first = next(iter(inspect.signature(getattr(conv, name)).parameters), "")
        assert (first in ("model", "models")) == (name in CALLS)


@pytest.mark.parametrize("net", [cls.__name__ for cls in PLAIN])
@pytest.mark.parametrize("name", CALLS)
def test_any_network_is_looked_into_and_left_as_it_was(name: str, net: str) -> None:
    """Weights, modes, hooks, gradients and random state are the same, and numbers are finite."""
    model, images = made(net)
    before, given = state(model), images.clone()
    record = CALLS[name](model, images)
    assert record is not None
    assert name in NOT_ALL_FINITE or all(
        np.isfinite(array).all() for array in flat(record) if array.dtype.kind == "f"
    )
    assert not isinstance(record, Tensor) or not record.requires_grad
    assert same(before, state(model))
    assert torch.equal(images, given)


def assert_same_record(name: str, first: tuple[Net, Any], second: tuple[Net, Any]) -> None:
    """Hold that a function finds the same numbers in two networks and their images."""
    one, other = (flat(CALLS[name](*pair)) for pair in (first, second))
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        if a.dtype.kind == "U":
            assert a == b
        else:
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("net", "twin"),
    [("InPlace", "Normalised"), ("Checkpointed", "Net"), ("Compiled", "Net")],
)
@pytest.mark.parametrize("name", CALLS)
def test_however_a_network_computes_its_record_is_the_same(name: str, net: str, twin: str) -> None:
    """Working in place, with checkpoints or compiled, it gives what its plain twin gives."""
    assert_same_record(name, made(net), made(twin))


@pytest.mark.parametrize("name", sorted(CALLS.keys() - NEVER_RUN))
def test_images_may_be_arrays_of_any_layout(name: str) -> None:
    """A flipped, read-only view in another byte order gives what the same numbers give."""
    model, images = made("Net")
    given = np.ascontiguousarray(images.numpy()[..., ::-1]).astype(">f4")[..., ::-1]
    given.flags.writeable = False
    np.testing.assert_array_equal(given, images)
    assert_same_record(name, (model, given), (model, images))


@pytest.mark.parametrize("name", CALLS)
def test_a_layer_is_given_by_its_name_or_as_the_module(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both give the same record, which holds the name."""
    model, images = made("Net")
    named = CALLS[name](model, images)
    monkeypatch.setattr(f"{__name__}.LAYER", model.look)
    record = CALLS[name](model, images)
    for a, b in zip(flat(named), flat(record), strict=True):
        assert a.dtype.kind == "U" or np.array_equal(a, b, equal_nan=True)
    assert getattr(record, "layer", None) == getattr(named, "layer", None)


@pytest.mark.parametrize("name", sorted(CALLS.keys() - NEVER_RUN))
def test_a_network_is_left_as_it_was_after_an_error(name: str) -> None:
    """The same holds if the network fails in the middle of it."""
    model, images = made("Colours")
    before, calls = state(model), [0]
    layer = model.head if name not in LEAVES_EARLY else model.look

    def fail(*_: object) -> None:
        calls[0] += 1
        raise ArithmeticError

    handle = layer.register_forward_pre_hook(fail)
    with pytest.raises(ArithmeticError):
        CALLS[name](model, images)
    handle.remove()
    assert calls[0]
    assert same(before, state(model))


# These go no further than the layer that they look at.
LEAVES_EARLY = {
    "activating_positions", "activation", "dissect", "dream", "embed", "invert", "maximise",
    "nearest_neighbours", "occlude", "transplant_field", "pixel_gradient", "probe_layers",
    "progression", "receptive_field",
    "receptive_fields", "sweep_perturbation", "top_patches", "unit_pattern", "unit_sheets",
    "input_x_gradient",
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_equal_calls_give_equal_bits(name: str) -> None:
    """Whatever is drawn is drawn from a seed of its own."""
    first, second = (flat(CALLS[name](*made("Residual"))) for _ in range(2))
    assert len(first) == len(second) > 0
    assert all(
        np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        for a, b in zip(first, second, strict=True)
    )


def flat(record: Any) -> list[np.ndarray]:
    """Return all numbers within a record, whose own tensors numpy takes as they are."""
    if isinstance(record, Tensor):
        return [to_numpy(record)]
    if isinstance(record, np.ndarray):
        return [record] if record.dtype.kind in "biuf" else []
    if isinstance(record, dict):
        return [array for value in record.values() for array in flat(value)]
    if isinstance(record, (list, tuple)):
        return [array for value in record for array in flat(value)]
    if hasattr(record, "__attrs_attrs__"):
        values = [getattr(record, field.name) for field in record.__attrs_attrs__]
        return [a for v in values for a in flat(v.numpy() if isinstance(v, Tensor) else v)]
    return [np.array(record)] if isinstance(record, (int, float, str)) else []
