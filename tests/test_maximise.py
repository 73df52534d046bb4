"""Images that are found: against optima known by heart, and networks wired by hand."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from visualization.conv.maximisation.demands import (
    answers,
    at_least,
    at_most,
    equals,
    l2,
    total_variation,
)
from visualization.conv.maximisation.dreams import dream
from visualization.conv.maximisation.inversion import invert, satisfy
from visualization.conv.maximisation.maximise import maximise
from visualization.conv.maximisation.objective import interpolation, measured
from visualization.conv.maximisation.objectives import channel, diversity, logit, unit
from visualization.conv.maximisation.parametrization import Canvas
from visualization.render.captions import caption
from visualization.render.conv.maximised import _crossed  # noqa: F401 - registers the drawings
from visualization.render.core import draw, png, text

SHAPE = (1, 4, 5)
LINEAR = torch.randn(20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
PIXELS = Canvas("pixel", "none")


class Odd(nn.Module):
    """What trips tools up: a residual, ReLUs in place and as functions, BatchNorm, reuse."""

    def __init__(self, num_channels: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(num_channels, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.twice = nn.Conv2d(6, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(6, 4)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, 4)."""
        x = self.relu(self.norm(self.stem(x)))
        y = self.twice(F.relu(self.twice(x)))
        y += x
        return self.head(self.drop(self.relu(y).mean(dim=(2, 3))))


def odd(num_channels: int = 1) -> Odd:
    """Return the odd network with random weights, in training mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Odd(num_channels)


def linear(weight: Tensor = LINEAR, shape: tuple[int, int, int] = SHAPE) -> nn.Module:
    """Return a linear neuron without bias."""
    layer = nn.Linear(weight.numel(), 1, bias=False, dtype=weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight[None])
    return nn.Sequential(nn.Flatten(), layer)


def from_seed(*shape: int, seed: int = 0) -> Tensor:
    """Return numbers from 0 to 1 that a seed gives."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("basis", "optimiser", "rate", "close"),
    [("pixel", "sgd", 0.25, 1e-6), ("pixel", "adam", 0.1, 1e-2), ("fourier", "adam", 0.1, 1e-2)],
)
def test_a_linear_neuron_with_a_quadratic_penalty_has_its_optimum_at_w_over_lambda(
    basis: Any, optimiser: Any, rate: float, close: float
) -> None:
    """Linear neuron minus ½λ‖x‖²: the optimum is w/λ from any start."""
    starts = torch.stack([torch.zeros(SHAPE), torch.ones(SHAPE), 3 * from_seed(*SHAPE) - 5])
    found = maximise(
        linear(), logit(0) + 2 * l2(), start=starts, canvas=Canvas(basis, "none"), transforms=(),
        optimiser=optimiser, rate=rate, steps=500,
    )  # fmt: skip
    optimum = (LINEAR / 2).reshape(SHAPE)
    for image in found.images:
        assert_close(image, optimum, atol=close, rtol=0)
    values = (LINEAR @ LINEAR / 2).expand(3)
    assert_close(torch.as_tensor(found.values), values, atol=5 * close, rtol=0)
    assert found.verdicts == ("risen", "risen", "risen")


@pytest.mark.parametrize(("basis", "steps"), [("pixel", 256), ("fourier", 2000)])
def test_a_linear_neuron_in_the_unit_ball_has_its_optimum_at_w_normed(
    basis: Any, steps: int
) -> None:
    """In the unit ball the optimum is w/‖w‖, and its value is ‖w‖."""
    found = maximise(
        linear(), logit(0), SHAPE, canvas=Canvas(basis, "ball"), transforms=(), optimiser="sgd",
        steps=steps,
    )  # fmt: skip
    assert_close(found.images[0], (LINEAR / LINEAR.norm()).reshape(SHAPE), atol=1e-5, rtol=0)
    assert found.values[0] == pytest.approx(float(LINEAR.norm()))


@pytest.mark.parametrize("basis", ["pixel", "fourier"])
def test_a_linear_neuron_in_the_box_is_one_where_w_is_positive(basis: Any) -> None:
    """In the box [0, 1] the optimum is 1[w > 0], exactly."""
    found = maximise(
        linear(), logit(0), SHAPE, canvas=Canvas(basis, "box"), transforms=(), steps=600
    )
    assert torch.equal(found.images[0], (LINEAR > 0).double().reshape(SHAPE))
    assert found.values[0] == pytest.approx(float(LINEAR.clamp(min=0).sum()))


def test_the_mean_of_a_channel_is_not_its_filter() -> None:
    """The gradient of a channel's mean is conv_transpose(1, w)/N: a step goes along that."""
    conv = nn.Conv2d(2, 3, 3, padding=1, stride=2, dtype=torch.float64)
    start = from_seed(1, 2, 8, 8).double()
    found = maximise(
        conv, channel("", range(3)), start=start, canvas=PIXELS, transforms=(), optimiser="sgd",
        rate=2.0, steps=1,
    )  # fmt: skip
    for number in range(3):
        ones = torch.ones(1, 1, 4, 4, dtype=torch.float64)
        weight = conv.weight[number : number + 1].detach()
        gradient = F.conv_transpose2d(ones, weight, stride=2, padding=1, output_padding=1) / 16
        assert_close(found.images[number : number + 1], start + 2.0 * gradient)


def test_a_whole_layer_is_as_each_of_its_channels_alone() -> None:
    """A batch of units, in any order and batch size, gives the images that each gives alone."""
    model = odd()
    settings: dict[str, Any] = {"input_shape": (1, 12, 12), "steps": 20, "seed": 3}
    together = maximise(model, channel("twice@1", range(6)), **settings)
    for number in range(6):
        alone = maximise(model, channel("twice@1", number), **settings)
        assert_close(alone.images[0], together.images[number], atol=1e-4, rtol=0)
        assert alone.values[0] == pytest.approx(together.values[number], abs=1e-4)
    listed = [unit("stem", 2), channel("twice@1", [5, 1]), logit(3)]
    mixed = maximise(model, listed, **settings, batch_size=2)
    assert mixed.names == ("stem:2", "twice@1:5", "twice@1:1", "class 3")
    assert_close(mixed.images[1:3], together.images[[5, 1]], atol=1e-4, rtol=0)
    assert_close(mixed.images[:1], maximise(model, listed[0], **settings).images, atol=1e-4, rtol=0)


def test_a_seed_gives_the_same_images_bit_for_bit() -> None:
    """Two runs are bit-equal, whatever the global generator; another seed gives another image."""
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(found))
        found.append(maximise(odd(3), logit(1), (3, 8, 8), steps=12, seed=seed))
    assert torch.equal(found[0].images, found[1].images)
    assert np.array_equal(found[0].curve, found[1].curve)
    assert not torch.equal(found[0].images, found[2].images)


def test_the_start_is_step_0_and_the_best_image_is_kept() -> None:
    """The curve begins at the start's value; values are those of the images that are returned."""
    model, start = odd().eval(), from_seed(3, 1, 8, 8)
    found = maximise(model, logit(2), start=start, steps=33, rate=0.3, blur=0.5)
    with torch.no_grad():
        assert_close(torch.as_tensor(found.starts).float(), model(start)[:, 2])
        assert_close(torch.as_tensor(found.values).float(), model(found.images)[:, 2])
    assert np.array_equal(found.curve.max(axis=0), found.values)
    assert np.array_equal(found.curve[0], found.starts)
    assert found.steps.tolist() == [0, 4, 8, 12, 16, 20, 24, 28, 32, 33]
    assert all(found.steps[found.curve.argmax(axis=0)] == found.best)
    assert found.images.min() >= -1e-6
    assert found.images.max() <= 1 + 1e-6


def test_several_images_of_one_unit_differ_and_more_so_with_diversity() -> None:
    """Images that share a name start from noises of their own; diversity drives them apart."""
    settings: dict[str, Any] = {"input_shape": (1, 10, 10), "steps": 30, "num_images": 3}
    plain = maximise(odd(), channel("stem", 2), **settings)
    assert plain.names == ("stem:2",) * 3
    assert not torch.equal(plain.images[0], plain.images[1])
    diverse = maximise(odd(), channel("stem", 2) + 5 * diversity("stem"), **settings)
    spread = [float(found.images.var(dim=0).mean()) for found in (plain, diverse)]
    assert spread[1] > 2 * spread[0]
    repeated = maximise(odd(), channel("stem", [2, 2, 2]), (1, 10, 10), steps=30)
    assert_close(repeated.images, plain.images, atol=1e-5, rtol=0)


def test_regularisers_tame_what_they_name() -> None:
    """Decay makes an image darker, total variation and blur make it smoother."""
    settings: dict[str, Any] = {"input_shape": (1, 10, 10), "steps": 60, "transforms": ()}
    plain = maximise(odd(), logit(0), **settings).images
    decayed = maximise(odd(), logit(0) + 0.1 * l2(), **settings).images
    smooth = maximise(odd(), logit(0) + 0.1 * total_variation(), **settings).images
    blurred = maximise(odd(), logit(0), **settings, blur=1.5, blur_every=2).images

    def edges(images: Tensor) -> float:
        return float(images.diff(dim=2).abs().mean() + images.diff(dim=3).abs().mean())

    assert float(decayed.square().mean()) < 0.5 * float(plain.square().mean())
    assert edges(smooth) < 0.5 * edges(plain)
    assert edges(blurred) < 0.5 * edges(plain)


RELUS: dict[str, Callable[[], nn.Module]] = {
    "module": nn.ReLU, "in place": lambda: nn.ReLU(inplace=True),
    "function": lambda: Called(F.relu), "method": lambda: Called(Tensor.relu_),
}  # fmt: skip


class Called(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Call it."""
        return self.function(x)


def shut(relu: nn.Module, weight: float = 1.0) -> nn.Module:
    """Return a convolution and a ReLU of 2 channels, the second of which is shut in the dark."""
    conv = nn.Conv2d(1, 2, 3)
    with torch.no_grad():
        conv.weight.copy_(from_seed(2, 1, 3, 3))
        conv.weight[1] *= weight
        conv.bias.copy_(torch.tensor([0.1, -3.0]))
    return nn.Sequential(conv, relu, nn.MaxPool2d(2))


def test_a_silent_unit_is_opened_by_redirected_gradients() -> None:
    """A dead gradient is redirected, and functional and module ReLUs give the same image."""
    found = {
        name: maximise(shut(make()), channel("2", [0, 1]), (1, 8, 8), steps=60, transforms=())
        for name, make in RELUS.items()
    }
    for record in found.values():
        assert record.verdicts == ("risen", "redirected")
        assert record.starts[1] == 0
        assert record.values[1] > 0.5
        assert torch.equal(record.images, found["module"].images)
    assert "silent at the start" in found["module"].sentence(1)


def test_what_nothing_excites_is_reported_and_never_shown_as_an_answer() -> None:
    """A unit without weights, or one that no image opens, is dead: NaN, a sentence, a cross."""
    shape = (1, 8, 8)
    for weight in (0.0, 0.3):  # 0.3: redirected, but even white stays below the bias
        model = shut(nn.ReLU(), weight)
        record = maximise(model, channel("1", [0, 1]) + 0.01 * l2(), shape, steps=20)
        assert record.verdicts == ("risen", "dead")
        assert record.dead == ("1:1 + 0.01 l2",)
        assert record.images[1].isnan().all()
        assert record.images[0].isfinite().all()
        assert "nothing that was tried" in record.sentence(1)
        assert record.sentence(1) in text(record)
        assert "dead:\nno image" in words(record)


def test_an_opened_unit_is_not_silenced_again_by_a_prior() -> None:
    """A prior against ink waits for a unit that was silent, which would else fall back."""
    model = shut(nn.ReLU())
    found = maximise(model, channel("1", 1) + 0.25 * l2(), (1, 8, 8), steps=200, transforms=())
    assert found.verdicts == ("redirected",)
    assert found.values[0] > 0.01


def test_what_is_best_already_is_said_to_be_unchanged_or_met() -> None:
    """Where no step is better than the start the verdict says so; a met demand is met at once."""
    best = (LINEAR > 0).double().reshape(1, *SHAPE)
    found = maximise(linear(), logit(0), start=best, transforms=(), steps=3)
    assert found.verdicts == ("unchanged",)
    assert_close(found.images, best)
    met = maximise(linear(), at_most(logit(0), 1e3), start=best, transforms=(), steps=3)
    assert met.verdicts == ("met",)


def test_the_best_real_image_stands_beside() -> None:
    """The best real image is the one that brute force finds, in batches of any kind."""
    model, images = odd().eval(), from_seed(23, 1, 8, 8)
    with torch.no_grad():
        logits = model(images)
    loader = [(images[first : first + 5], None) for first in range(0, 23, 5)]
    for reference in (images, images.numpy(), loader):
        real = maximise(model, logit(range(4)), reference=reference, steps=1, batch_size=7).real
        assert real is not None
        assert np.array_equal(real.places, logits.argmax(dim=0).numpy())
        assert_close(torch.as_tensor(real.values).float(), logits.amax(dim=0))
        assert_close(torch.as_tensor(real.means).float(), logits.mean(dim=0))
        assert torch.equal(real.images, images[logits.argmax(dim=0)])
    several = maximise(model, logit(1), reference=images, steps=1, num_images=3).real
    assert several is not None
    assert several.values.tolist() == [pytest.approx(float(logits[:, 1].max()))] * 3


def test_real_images_tell_how_much_ink_is_worth() -> None:
    """The best real image pays a quarter of its advantage for ink and a tenth for edges."""
    images = from_seed(9, 1, 4, 5).double() * torch.linspace(0, 1, 9)[:, None, None, None]
    scores = images.flatten(1) @ LINEAR
    best = images[scores.argmax()]
    settings: dict[str, Any] = {"reference": images, "steps": 1, "transforms": (), "start": best}
    advantage = float(scores.max() - scores.mean())
    wild = maximise(linear(), logit(0), **settings, tame=0)
    assert wild.curve[0, 0] == pytest.approx(float(scores.max()))
    tamed = maximise(linear(), logit(0), **settings)
    assert tamed.starts[0] == pytest.approx(float(scores.max()))
    assert tamed.curve[0, 0] == pytest.approx(float(scores.max()) - 0.35 * advantage)
    scaled = maximise(linear(5 * LINEAR), logit(0), **settings, rate=1.0, optimiser="adam")
    again = maximise(linear(), logit(0), **settings, rate=1.0, optimiser="adam")
    assert_close(scaled.images, again.images, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 11, 9), (1, 28, 28)])
def test_odd_networks_and_small_images_work_and_are_left_as_they_were(shape: Any) -> None:
    """Any channels and size give images within the limits, and the model is untouched."""
    model = odd(shape[0])
    model.norm.eval()
    model(from_seed(2, *shape)).sum().backward()
    model.stem.weight.requires_grad_(False)
    before = state_of(model)
    objective = channel("stem", 1) + interpolation(logit(0), unit("relu@1", 2), 3)
    found = maximise(model, objective, shape, steps=6)
    dreamt = dream(model, from_seed(2, *shape), ["stem", "twice@1"], steps=2)
    inverted = invert(model, ["stem", "twice@1", None], from_seed(2, *shape), steps=3)
    satisfied = satisfy(model, answers([0.1, 0.2, 0.3, 0.4]), shape, steps=4)
    for broken in (measured(lambda seen: seen["nowhere"], ["stem"]), logit(99)):
        with pytest.raises((KeyError, ValueError)):
            maximise(model, broken, shape)
    assert before == state_of(model)
    for images in (found.images, dreamt.images, inverted.images[0], satisfied.images):
        assert tuple(images.shape[1:]) == shape
        assert images.isfinite().all()
        assert images.min() >= -1e-5
        assert images.max() <= 1 + 1e-5
        assert not images.requires_grad


def state_of(model: nn.Module) -> Any:
    """Return what inspecting must leave alone, to be compared."""
    return (
        {name: value.tolist() for name, value in model.state_dict().items()},
        [module.training for module in model.modules()],
        [
            (p.requires_grad, None if p.grad is None else p.grad.tolist())
            for p in model.parameters()
        ],
        [len(m._forward_hooks) + len(m._backward_hooks) for m in model.modules()],
        [sorted(vars(module)) for module in model.modules()],
        torch.get_rng_state().tolist(),
    )


def test_a_model_in_training_mode_is_evaluated_and_put_back() -> None:
    """Dropout and BatchNorm run as in evaluation, whatever the mode at which the model came."""
    train, evaluated = odd(), odd().eval()
    settings: dict[str, Any] = {"input_shape": (1, 8, 8), "steps": 5}
    images = [maximise(model, logit(0), **settings).images for model in (train, evaluated)]
    assert torch.equal(*images)
    assert train.training
    assert not evaluated.training


def test_a_dream_makes_stronger_what_is_seen() -> None:
    """What a layer sees becomes stronger, in octaves from the smallest size to the image's own."""
    images = from_seed(2, 1, 16, 12)
    found = dream(odd(), images, "twice@0", steps=5)
    sizes = [tuple(stage.shape[2:]) for stage in found.stages]
    assert sizes == [(6, 4), (8, 6), (11, 9), (16, 12)]
    assert (found.values > found.starts).all()
    assert torch.equal(found.images, dream(odd(), images, "twice@0", steps=5).images)
    one = dream(odd(), images[:1], logit(2), octaves=1, steps=3)
    assert len(one.stages) == 1
    assert one.values[0] > one.starts[0]


def test_a_step_of_a_dream_has_the_size_that_is_asked_for() -> None:
    """The gradient is scaled to a mean size of 1, and a pixel moves by the rate on average."""
    start = torch.full((1, *SHAPE), 0.5).double()
    found = dream(linear(), start, logit(0), octaves=1, steps=2, rate=0.01, jitter=0)
    expected = start + 2 * 0.01 * (LINEAR / LINEAR.abs().mean()).reshape(SHAPE)
    assert_close(found.images, expected)
    black = dream(shut(nn.ReLU(), 0.0), torch.zeros(1, 1, 8, 8), channel("1", 1), steps=2)
    assert torch.equal(black.images, torch.zeros(1, 1, 8, 8))


def fixed() -> nn.Module:
    """Return a network whose head takes one size of image alone."""
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 36, 2))


def test_a_dream_of_a_network_of_fixed_size_keeps_to_that_or_ends_before_it() -> None:
    """A flattening head leaves one octave; a convolution before it has as many as it takes."""
    images = from_seed(1, 1, 8, 8)
    assert len(dream(fixed(), images, logit(1), steps=1).stages) == 1
    assert len(dream(fixed(), images, "1", steps=1).stages) == 3
    told = "octaves: 2, but the model does not take images of 6×6: .* accepted: 1, or an objective"
    with pytest.raises(ValueError, match=told):
        dream(fixed(), images, logit(1), octaves=2)
    with pytest.raises(ValueError, match=r"octaves: 9, .* of 2×2: .* accepted: 1 to 4, or"):
        dream(fixed(), images, "0", octaves=9)


def test_a_layer_that_loses_nothing_is_inverted_exactly() -> None:
    """From an invertible layer the image comes back; from its mean, only the mean does."""
    turned = nn.Conv2d(2, 2, 1, bias=False)
    with torch.no_grad():
        turned.weight.copy_(torch.tensor([[0.6, -0.8], [0.8, 0.6]])[:, :, None, None])
    model = nn.Sequential(turned, nn.AdaptiveAvgPool2d(1))
    images = 0.2 + 0.6 * from_seed(2, 2, 6, 6)
    found = invert(model, ["0", None], images, smoothness=0, steps=400)
    assert found.images.shape == (2, 2, 2, 6, 6)
    assert found.errors.max() < 1e-3
    assert_close(found.images[0], images, atol=1e-2, rtol=0)
    assert found.differences[0].max() < 2e-3
    assert found.differences[1].min() > 0.1
    assert_close(found.images[1].mean(dim=(2, 3)), images.mean(dim=(2, 3)), atol=1e-3, rtol=0)


def test_where_a_layer_leaves_it_open_the_smoothest_image_is_found() -> None:
    """With a weight on smoothness, what only the mean is known of becomes flat."""
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1))
    wild, found = (
        invert(model, None, from_seed(1, 1, 6, 6), smoothness=weight, noise=1) for weight in (0, 1)
    )
    assert float(found.images.std()) < 0.2 * float(wild.images.std())


def test_any_given_result_can_be_satisfied() -> None:
    """Images are found for shares of classes, bounds, values and functions, and it ends there."""
    model, shape = odd().eval(), (1, 8, 8)
    with torch.no_grad():
        shares = model(from_seed(1, 1, 8, 8))[0].softmax(dim=0)
    found = satisfy(model, answers(shares), shape, tolerance=1e-3, rate=0.05)
    assert found.satisfied.all()
    with torch.no_grad():
        assert_close(model(found.images)[0].softmax(dim=0), shares, atol=0.05, rtol=0)
    assert found.found.steps[-1] < 512
    both = at_least(unit("stem", 1), -0.1) + at_most(channel("stem", 3), -0.8)
    both += equals(logit(0), -0.26)
    two = satisfy(model, both, shape, tolerance=1e-3, rate=0.05)
    assert two.satisfied.all()
    assert two.found.verdicts == ("met",)
    with torch.no_grad():
        maps, logits = model.stem(two.images), model(two.images)
    assert float(maps[0, 1, 4, 4]) > -0.11
    assert float(maps[0, 3].mean()) < -0.79
    assert float(logits[0, 0]) == pytest.approx(-0.26, abs=0.05)
    free = satisfy(model, lambda seen: -(seen.output[:, 1] - seen.output[:, 2]).abs(), shape)
    assert free.satisfied.all()


def test_what_is_satisfied_at_the_start_is_left_and_a_prior_keeps_near() -> None:
    """The search ends at a start that satisfies; elsewhere a prior finds an image near it."""
    model, start = linear(), from_seed(1, *SHAPE).double()
    value = float(start.flatten() @ LINEAR)
    there = satisfy(model, at_most(logit(0), value + 1), start=start)
    assert_close(there.images, start)
    assert there.found.steps.tolist() == [0]
    wanted = at_least(logit(0), value + 1)
    settings: dict[str, Any] = {"start": start, "canvas": PIXELS, "rate": 0.005}
    near = satisfy(model, wanted + 0.1 * l2(start), **settings, optimiser="sgd")
    assert near.satisfied.all()
    shortest = start + (LINEAR / LINEAR.square().sum()).reshape(SHAPE)
    assert_close(near.images, shortest, atol=0.02, rtol=0)


def test_what_cannot_be_satisfied_falls_short_by_what_is_missing() -> None:
    """A demand that no image meets is reported with how far it is from that."""
    best = float(LINEAR.clamp(min=0).sum())
    found = satisfy(
        linear(), at_least(logit(0), best + 2), SHAPE, canvas=Canvas("pixel", "box"), rate=0.1
    )
    assert not found.satisfied.any()
    assert found.shortfalls[0] == pytest.approx(2)
    assert "short by 2" in words(found)


def words(record: Any) -> str:
    """Return all that is written in a record's figure, which must be drawn without warnings."""
    figure = draw(record)
    assert png(figure, 40).startswith(b"\x89PNG")
    parts = [figure._suptitle.get_text()] if figure._suptitle else []
    for axes in figure.axes:
        parts += [axes.get_title(), axes.get_xlabel(), *(each.get_text() for each in axes.texts)]
    return "\n".join(parts)


def test_figures_show_what_was_found_and_what_real_images_give() -> None:
    """A figure has each name, its value and the best real one's, and marks exceptions."""
    model, images = shut(nn.ReLU()), from_seed(4, 1, 8, 8)
    record = maximise(model, channel("1", [0, 1]), reference=images, steps=40, tame=0)
    assert record.real is not None
    told = words(record)
    for at in (0, 1):
        assert f"{record.values[at]:.3g} (" in told
    assert "silent at first" in told
    assert "best real image" in told
    assert "best real" in text(record)
    assert "brackets" in caption(record)
    many = maximise(model, channel("1", 0), (1, 8, 8), steps=1, num_images=70)
    assert "64 of 70" in words(many)
    assert "brackets" not in caption(many)


def test_figures_of_dreams_and_inversions_show_before_and_after() -> None:
    """A strip has the original, each size or each layer, and the numbers; colour is drawn too."""
    images = from_seed(2, 3, 12, 12)
    dreamt = dream(odd(3), images, ["stem", "relu@1"], steps=1)
    told = words(dreamt)
    assert "all of stem + all of relu@1, made stronger" in told
    assert told.count("original") == 2
    assert "at 12×12" in told
    inverted = invert(odd(3), ["stem", None], images, steps=2)
    assert "output" in words(inverted)
    assert "activation differs" in text(inverted)
    satisfied = satisfy(odd(3), answers([0.25] * 4), start=images, tolerance=5)
    assert words(satisfied).count("met") == 2
    for record in (dreamt, inverted, satisfied):
        assert caption(record)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input_shape": None}, "input_shape: is missing; accepted"),
        ({"input_shape": (8, 8)}, r"input_shape: \(8, 8\) is not accepted"),
        ({"start": torch.zeros(1, 1, 9, 9)}, r"input_shape: \(1, 8, 8\) is not that of other"),
        ({"start": torch.full((1, 1, 8, 8), 2.0)}, "start: values from 2 to 2 are not accepted"),
        ({"start": torch.zeros(3, 1, 8, 8), "num_images": 2}, "images: num_images for 2, start"),
        ({"num_images": 0}, "images: num_images for 0"),
        ({"steps": 0}, "steps: 0 is not accepted; accepted: 1 or more"),
        ({"rate": 0}, "rate: 0 is not accepted; accepted: above 0"),
        ({"optimiser": "lion"}, "optimiser: 'lion' is not accepted; accepted: adam, sgd"),
        ({"blur": -1}, "blur: -1 is not accepted; accepted: 0 or more pixels"),
        ({"blur_every": 0}, "blur_every: 0 is not accepted"),
        ({"objective": channel("stam", 0)}, "'stam' is no layer of the Odd.*did you mean 'stem'"),
        ({"objective": channel("drop@1", 0)}, "layer: 'drop@1' was not called"),
        ({"objective": []}, "objectives: there are none"),
        ({"reference": []}, "reference: there are no images"),
        ({"objective": diversity("stem"), "reference": torch.zeros(2, 1, 8, 8)}, "reference: 'div"),
    ],
)  # fmt: skip
def test_mistakes_of_maximise_are_named(settings: dict[str, Any], message: str) -> None:
    """A setting that does not fit is a ValueError that says what would."""
    given = {"objective": logit(0), "input_shape": (1, 8, 8), "steps": 1, **settings}
    with pytest.raises(ValueError, match=message):
        maximise(odd(), **given)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m, x: dream(m, x, "stem", octaves=0), "octaves: 0 is not accepted"),
        (lambda m, x: dream(m, x, "stem", octave_scale=1), "octave_scale: 1 is not accepted"),
        (lambda m, x: dream(m, x, []), "objective: there are no layers"),
        (lambda m, x: dream(m, x + 2, "stem"), "images: values from 2 to 2 are not accepted"),
        (lambda m, x: dream(m, x, logit([0, 1, 2])), "an objective for 3 does not go"),
        (lambda m, x: invert(m, "stem", x - 1), "images: values from -1 to -1 are not accepted"),
        (lambda m, x: invert(m, "blind", x), "matches: activation 0 is zero all over"),
        (lambda m, x: satisfy(m, logit(0), start=x, tolerance=-1), "tolerance: -1 is not accepted"),
    ],
)  # fmt: skip
def test_other_mistakes_are_named(make: Callable[[Any, Any], Any], message: str) -> None:
    """So is what dreams, inversions and demands do not take."""
    model = copy.deepcopy(odd())
    model.blind = model.stem
    if "zero all over" in message:
        nn.init.zeros_(model.stem.weight)
        nn.init.zeros_(model.stem.bias)
    with pytest.raises(ValueError, match=message):
        make(model, torch.zeros(2, 1, 8, 8))
