"""Fooling images: the distance at which a stated confidence is reached, and what cannot be."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from tests.helpers.adversarial import FREE, Logits, difference, images, linear
from tests.helpers.synthesis import words
from visualization.adversarial.fooling import fooling_images
from visualization.adversarial.norms import NORMS
from visualization.core.registry import caption, text


@pytest.mark.parametrize("confidence", [0.6, 0.99, 1 - 1e-9])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_distance_to_a_confidence(norm: str, confidence: float) -> None:
    """Of a linear model of two classes it is (log(p / (1 − p)) − d) / ‖w‖, and 0 beyond."""
    model, start = linear(seed=3).double(), images(8).double()
    logits, step = model(start).detach(), difference(model)
    lead = logits[:, 1] - logits[:, 0]
    length = step.abs().sum() if norm == "linf" else step.norm()
    exact = ((math.log(confidence) - math.log1p(-confidence) - lead) / length).clamp(min=0)
    found = fooling_images(model, 1, confidence, start, norm=norm, rounds=4, **FREE)
    assert found.reached.all()
    torch.testing.assert_close(found.distance, exact, rtol=2e-3, atol=1e-4)
    assert (found.target_confidence >= confidence - 1e-12).all()
    size = NORMS[norm].size((found.adversarial - start).flatten(1))[:, 0]
    torch.testing.assert_close(found.distance, size)


def test_all_other_classes_count() -> None:
    """Where K − 1 others have the logit 0, log-odds are the logit less log(K − 1)."""
    model, start = linear(5).double(), images(4).double()
    with torch.no_grad():
        model[1].weight[[0, 1, 3, 4]] = 0
        model[1].bias.zero_()
    row = model[1].weight[2].detach()
    needed = math.log(0.95 / 0.05) + math.log(4)
    exact = ((needed - start.flatten(1) @ row) / row.norm()).clamp(min=0)
    found = fooling_images(model, 2, 0.95, start, rounds=4, **FREE)
    torch.testing.assert_close(found.distance, exact, rtol=2e-3, atol=1e-4)
    ends_in_softmax = fooling_images(
        nn.Sequential(model, nn.Softmax(1)), 2, 0.95, start, rounds=4, **FREE
    )
    torch.testing.assert_close(ends_in_softmax.distance, exact, rtol=2e-3, atol=1e-4)


def test_what_is_so_already_is_left_as_it_is() -> None:
    """An image that is called the target surely enough has a distance of 0, and costs nothing."""
    model, start = linear(seed=1).double(), images(6).double()
    sure = model(start).softmax(dim=1)[:, 1] > 0.5
    assert sure.any()
    found = fooling_images(model, 1, 0.5, start, **FREE)
    assert (found.distance[sure] == 0).all()
    assert torch.equal(found.adversarial[sure], start[sure])
    assert (found.steps[sure] == 0).all()
    assert (found.steps[~sure] > 0).all()


def test_a_low_confidence_is_still_an_answer() -> None:
    """Below one half the target must be the largest logit too."""
    model, start = linear(5, seed=2).double(), images(8).double()
    found = fooling_images(model, 3, 1e-6, start, rounds=3, **FREE)
    assert found.reached.all()
    assert (found.adversarial_prediction == 3).all()


def test_what_cannot_be_reached_is_said() -> None:
    """Of a model that is never sure the surest image is shown, with what it reaches."""
    model = Logits(lambda x: 2 * torch.tanh(x.flatten(1).sum(dim=1)))
    start = torch.zeros(2, 1, 3, 3, dtype=torch.float64)
    found = fooling_images(model, [0, 1], 0.99, start, rounds=4, steps=10, **FREE)
    most = 1 / (1 + math.exp(-2))
    assert not found.reached.any()
    torch.testing.assert_close(found.target_confidence, torch.full((2,), most).double(), rtol=1e-3,
                               atol=0)  # fmt: skip
    assert "0 of 2 are called what was asked with 99 % or more" in words(found)
    assert "1: 88 %" in words(found)


@pytest.mark.parametrize("start", ["noise", "blank"])
def test_images_of_nothing(start: Any) -> None:
    """Each class gets an image of its own from noise or a grey page, within the box."""
    model = linear(5)
    with torch.no_grad():
        model[1].weight *= 8
    found = fooling_images(model, range(5), 0.9, start, (2, 4, 4), rounds=4, steps=10)
    assert found.adversarial.shape == (5, 2, 4, 4)
    assert ((found.adversarial >= 0) & (found.adversarial <= 1)).all()
    torch.testing.assert_close(
        found.target_confidence.float(), model(found.adversarial).softmax(1).diagonal()
    )
    called = found.adversarial_prediction == torch.arange(5)
    assert torch.equal(found.reached, called & (found.target_confidence >= 0.9))
    assert found.reached.any()
    assert (found.images == 0.5).all() == (start == "blank")
    assert len(found.images.flatten(1).unique(dim=0)) == (1 if start == "blank" else 5)
    assert f"{int(found.reached.sum())} of 5" in text(found)
    assert caption(found)


def test_pixels_have_bounds_of_their_own() -> None:
    """Each channel's noise lies between its bounds, and a blank page half-way."""
    low, high = [-1.0, 2.0], [1.0, 6.0]
    model = linear().double()
    noise = fooling_images(model, 1, 0.5, "noise", (2, 4, 4), low=low, high=high, rounds=1).images
    assert ((noise[:, 0].abs() <= 1) & (noise[:, 1] >= 2) & (noise[:, 1] <= 6)).all()
    blank = fooling_images(model, 1, 0.5, "blank", (2, 4, 4), low=low, high=high, rounds=1).images
    assert blank[0, :, 0, 0].tolist() == [0.0, 4.0]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"confidence": 1.0}, r"confidence: 1.0 is not accepted; accepted: above 0, below 1"),
        ({"confidence": 0}, "confidence: 0 is not accepted"),
        ({"target": 2}, "target: class 2 does not exist; accepted: 0 to 1"),
        ({"target": None}, "target: None is not accepted"),
        ({"target": []}, "target: there are none"),
        ({"start": "nois"}, "start: there is no 'nois'; .*; did you mean 'noise'?"),
        ({"input_shape": None}, r"input_shape: None is not accepted; accepted: \(C, H, W\)"),
        ({"low": -math.inf}, r"low: \[-inf\] is not accepted; accepted: finite"),
        ({"start": images(3), "target": [0, 1]}, "target: 2 classes do not go with 3 images"),
        ({"start": images(3) + 1}, "images: values from .* are not within"),
        ({"rounds": 0}, "rounds: 0 is not accepted"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, Any], told: str) -> None:
    """What no image can have, and what is not there, is named."""
    settings: dict[str, Any] = {"target": 1, "input_shape": (2, 4, 4), **change}
    with pytest.raises(ValueError, match=told):
        fooling_images(linear(), **settings)
