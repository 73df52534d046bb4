"""Dreams, inversions and images that satisfy demands: on networks wired by hand."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tests.helpers.synthesis import LINEAR, PIXELS, SHAPE, from_seed, linear, odd, shut, words
from visualization.core.registry import caption, text
from visualization.synthesis.constraints import at_least, at_most, class_distribution, equals, l2
from visualization.synthesis.dreams import dream
from visualization.synthesis.inversion import invert, solve
from visualization.synthesis.objectives import channel, logit, unit
from visualization.synthesis.parametrization import ImageParam


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
    found = solve(model, class_distribution(shares), shape, tolerance=1e-3, rate=0.05)
    assert found.satisfied.all()
    with torch.no_grad():
        assert_close(model(found.images)[0].softmax(dim=0), shares, atol=0.05, rtol=0)
    assert found.result.steps[-1] < 512
    both = at_least(unit("stem", 1), -0.1) + at_most(channel("stem", 3), -0.8)
    both += equals(logit(0), -0.26)
    two = solve(model, both, shape, tolerance=1e-3, rate=0.05)
    assert two.satisfied.all()
    assert two.result.verdicts == ("met",)
    with torch.no_grad():
        maps, logits = model.stem(two.images), model(two.images)
    assert float(maps[0, 1, 4, 4]) > -0.11
    assert float(maps[0, 3].mean()) < -0.79
    assert float(logits[0, 0]) == pytest.approx(-0.26, abs=0.05)
    free = solve(model, lambda seen: -(seen.output[:, 1] - seen.output[:, 2]).abs(), shape)
    assert free.satisfied.all()


def test_what_is_satisfied_at_the_start_is_left_and_a_prior_keeps_near() -> None:
    """The search ends at a start that satisfies; elsewhere a prior finds an image near it."""
    model, start = linear(), from_seed(1, *SHAPE).double()
    value = float(start.flatten() @ LINEAR)
    there = solve(model, at_most(logit(0), value + 1), start=start)
    assert_close(there.images, start)
    assert there.result.steps.tolist() == [0]
    wanted = at_least(logit(0), value + 1)
    settings: dict[str, Any] = {"start": start, "image_param": PIXELS, "rate": 0.005}
    near = solve(model, wanted + 0.1 * l2(start), **settings, optimiser="sgd")
    assert near.satisfied.all()
    shortest = start + (LINEAR / LINEAR.square().sum()).reshape(SHAPE)
    assert_close(near.images, shortest, atol=0.02, rtol=0)


def test_what_cannot_be_satisfied_falls_short_by_what_is_missing() -> None:
    """A demand that no image meets is reported with how far it is from that."""
    best = float(LINEAR.clamp(min=0).sum())
    found = solve(
        linear(),
        at_least(logit(0), best + 2),
        SHAPE,
        image_param=ImageParam("pixel", "box"),
        rate=0.1,
    )
    assert not found.satisfied.any()
    assert found.shortfalls[0] == pytest.approx(2)
    assert "short by 2" in words(found)


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
    satisfied = solve(odd(3), class_distribution([0.25] * 4), start=images, tolerance=5)
    assert words(satisfied).count("met") == 2
    for record in (dreamt, inverted, satisfied):
        assert caption(record)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m, x: dream(m, x, "stem", octaves=0), "octaves: 0 is not accepted"),
        (lambda m, x: dream(m, x, "stem", octave_scale=1), "octave_scale: 1 is not accepted"),
        (lambda m, x: dream(m, x, []), "objective: there are no layers"),
        (lambda m, x: dream(m, x + 2, "stem"), "images: values from 2 to 2 are not accepted"),
        (lambda m, x: dream(m, x, logit([0, 1, 2])), "an objective for 3 does not go"),
        (lambda m, x: invert(m, "stem", x - 1), "images: values from -1 to -1 are not accepted"),
        (lambda m, x: invert(m, "blind", x), "match_activation: activation 0 is zero all over"),
        (lambda m, x: solve(m, logit(0), start=x, tolerance=-1), "tolerance: -1 is not accepted"),
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
