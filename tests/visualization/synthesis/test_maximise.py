"""Images that are found: against optima known by heart, and networks wired by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from tests.helpers.synthesis import LINEAR, PIXELS, SHAPE, from_seed, linear, odd, shut, words
from visualization.core.registry import caption, text
from visualization.synthesis.ascent import Adam
from visualization.synthesis.constraints import at_most, class_distribution, l2, total_variation
from visualization.synthesis.dreams import dream
from visualization.synthesis.inversion import invert, solve
from visualization.synthesis.maximise import maximise
from visualization.synthesis.objective import custom, interpolation
from visualization.synthesis.objectives import channel, diversity, logit, unit
from visualization.synthesis.parametrization import ImageParam


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
        linear(), logit(0) + 2 * l2(), start=starts, image_param=ImageParam(basis, "none"),
        transforms=(), optimiser=optimiser, rate=rate, steps=500,
    )  # fmt: skip
    optimum = (LINEAR / 2).reshape(SHAPE)
    for image in found.images:
        assert_close(image, optimum, atol=close, rtol=0)
    values = (LINEAR @ LINEAR / 2).expand(3)
    assert_close(torch.as_tensor(found.values), values, atol=5 * close, rtol=0)
    assert found.verdicts == ("risen", "risen", "risen")


@pytest.mark.parametrize("basis", ["pixel", "fourier"])
def test_a_linear_neuron_in_the_box_is_one_where_w_is_positive(basis: Any) -> None:
    """In the box [0, 1] the optimum is 1[w > 0], exactly."""
    found = maximise(
        linear(), logit(0), SHAPE, image_param=ImageParam(basis, "box"), transforms=(), steps=600
    )
    assert torch.equal(found.images[0], (LINEAR > 0).double().reshape(SHAPE))
    assert found.values[0] == pytest.approx(float(LINEAR.clamp(min=0).sum()))


def test_the_mean_of_a_channel_is_not_its_filter() -> None:
    """The gradient of a channel's mean is conv_transpose(1, w)/N: a step goes along that."""
    conv = nn.Conv2d(2, 3, 3, padding=1, stride=2, dtype=torch.float64)
    start = from_seed(1, 2, 8, 8).double()
    found = maximise(
        conv, channel("", range(3)), start=start, image_param=PIXELS, transforms=(),
            optimiser="sgd",
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
    blurred = maximise(odd(), logit(0), **settings, blur=1.5).images

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
        real = maximise(
            model, logit(range(4)), reference=reference, steps=1, batch_size=7
        ).dataset_examples
        assert real is not None
        assert np.array_equal(real.numbers, logits.argmax(dim=0).numpy())
        assert_close(torch.as_tensor(real.values).float(), logits.amax(dim=0))
        assert_close(torch.as_tensor(real.means).float(), logits.mean(dim=0))
        assert torch.equal(real.images, images[logits.argmax(dim=0)])
    several = maximise(model, logit(1), reference=images, steps=1, num_images=3).dataset_examples
    assert several is not None
    assert several.values.tolist() == [pytest.approx(float(logits[:, 1].max()))] * 3


def test_real_images_tell_how_much_ink_is_worth() -> None:
    """The best real image pays a quarter of its advantage for ink and a tenth for edges."""
    images = from_seed(9, 1, 4, 5).double() * torch.linspace(0, 1, 9)[:, None, None, None]
    scores = images.flatten(1) @ LINEAR
    best = images[scores.argmax()]
    settings: dict[str, Any] = {"reference": images, "steps": 1, "transforms": (), "start": best}
    advantage = float(scores.max() - scores.mean())
    wild = maximise(linear(), logit(0), **settings, prior_strength=0)
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
    satisfied = solve(model, class_distribution([0.1, 0.2, 0.3, 0.4]), shape, steps=4)
    for broken in (custom(lambda seen: seen["nowhere"], ["stem"]), logit(99)):
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


def test_figures_show_what_was_found_and_what_real_images_give() -> None:
    """A figure has each name, its value and the best real one's, and marks exceptions."""
    model, images = shut(nn.ReLU()), from_seed(4, 1, 8, 8)
    record = maximise(model, channel("1", [0, 1]), reference=images, steps=40, prior_strength=0)
    assert record.dataset_examples is not None
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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input_shape": None}, "input_shape: is missing; accepted"),
        ({"input_shape": (8, 8)}, r"input_shape: \(8, 8\) is not accepted"),
        ({"start": torch.zeros(1, 1, 9, 9)}, r"input_shape: \(1, 8, 8\) differs from other"),
        ({"start": torch.full((1, 1, 8, 8), 2.0)}, "start: values from 2 to 2 are not accepted"),
        ({"start": torch.zeros(3, 1, 8, 8), "num_images": 2}, "images: num_images for 2, start"),
        ({"num_images": 0}, "images: num_images for 0"),
        ({"steps": 0}, "steps: 0 is not accepted; accepted: 1 or more"),
        ({"rate": 0}, "rate: 0 is not accepted; accepted: above 0"),
        ({"optimiser": "lion"}, "optimiser: 'lion' is not accepted; accepted: adam, sgd"),
        ({"blur": -1}, "blur: -1 is not accepted; accepted: 0 or more pixels"),
        ({"objective": channel("stam", 0)}, "'stam' is not a layer .*did you mean 'stem'"),
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


def test_adam_is_that_of_torch() -> None:
    """The steps of an ascent are those of `torch.optim.Adam`."""
    start, gradients = from_seed(*SHAPE), [from_seed(*SHAPE) for _ in range(3)]
    own, other = start.clone().requires_grad_(), start.clone().requires_grad_()
    adam, oracle = Adam(own, 0.1), torch.optim.Adam([other], lr=0.1, maximize=True)
    for scale, gradient in enumerate(gradients, start=1):
        adam.step(scale * gradient)
        other.grad = scale * gradient
        oracle.step()
    assert_close(own, other)
    assert not torch.equal(own, start)
