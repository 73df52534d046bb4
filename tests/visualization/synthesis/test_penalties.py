"""Class images by penalty: closed forms of linear classifiers, and the weights of penalties."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from tests.helpers.synthesis import SHAPE, from_seed, odd, words
from visualization.core.registry import caption, text
from visualization.synthesis.constraints import l1, l2, total_variation
from visualization.synthesis.maximise import maximise
from visualization.synthesis.objective import ForwardCache
from visualization.synthesis.objectives import logit
from visualization.synthesis.parametrization import ImageParam
from visualization.synthesis.penalties import compare_penalties


def classifier() -> tuple[nn.Module, Tensor]:
    """Return a linear classifier of three classes, and its rows as images (3, C, H, W)."""
    layer = nn.Linear(20, 3, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-1, 1, 60).reshape(20, 3).T.sin() * 2)
    return nn.Sequential(nn.Flatten(), layer), layer.weight.detach().reshape(3, *SHAPE)


def variation(image: Tensor) -> float:
    """Return minus the prior of total variation of an image (1, C, H, W)."""
    cache = ForwardCache(image.double(), {}, torch.zeros(len(image), dtype=torch.long))
    return -float(total_variation().prior(cache)[0])


def test_l2_gives_the_weights_over_its_strength() -> None:
    """Of logit − ½λ‖x‖² the best image is w / λ."""
    model, rows = classifier()
    found = compare_penalties(
        model, range(3), SHAPE, penalties={"L2": l2()}, strengths=[0.5, 2.0], around=0.0,
        limits=(-9, 9), optimiser="sgd", rate=0.4, steps=80,
    )  # fmt: skip
    assert found.rows == ("none", "L2", "L2")
    assert_close(found.images[1:], torch.stack([rows / 0.5, rows / 2]), rtol=1e-6, atol=1e-6)
    lengths = rows.flatten(1).pow(2).sum(dim=1)
    assert_close(torch.from_numpy(found.logits[1:]), torch.stack([lengths / 0.5, lengths / 2]))
    assert_close(torch.from_numpy(found.sizes["L2"][1]), 0.5 * lengths / 0.25)


def test_l1_gives_the_pixels_whose_weight_is_above_its_strength() -> None:
    """In the box [0, 1] it is 1 where w > λ, else 0; amid a box sign(w) or near grey."""
    model, rows = classifier()
    found = compare_penalties(model, range(3), SHAPE, penalties={"L1": l1()}, strengths=[0.3, 1.2],
                              around=0.0, steps=40)  # fmt: skip
    assert torch.equal(found.images[1], (rows > 0.3).double())
    assert torch.equal(found.images[2], (rows > 1.2).double())
    assert_close(found.sizes["L1"][2], (rows > 1.2).double().sum((1, 2, 3)).numpy())
    rate = 0.05
    both = compare_penalties(
        model, range(3), SHAPE, penalties={"L1": l1(0.0)}, strengths=[0.7], around=0.0,
        limits=(-1, 1), optimiser="sgd", rate=rate, steps=100,
    )  # fmt: skip
    clear = (rows.abs() - 0.7).abs() > 0.25  # others have hardly begun to move
    wanted = torch.where(rows.abs() > 0.7, rows.sign(), 0.0)
    reach = rate * float(rows.abs().max() + 0.7)  # of a step
    assert ((both.images[1] - wanted).abs()[clear] <= reach).all()


def test_stronger_penalties_give_less_of_what_they_punish() -> None:
    """The best logit and the penalty of its image fall as λ rises: none gains by both."""
    model, _ = classifier()
    found = compare_penalties(model, range(3), SHAPE, strengths=[0.2, 0.6, 1.8], steps=120,
                              rate=0.02)  # fmt: skip
    for name in ("L1", "L2", "TV"):
        rows = [0, *(n for n, row in enumerate(found.rows) if row == name)]
        assert (np.diff(found.sizes[name][rows], axis=0) <= 0.05).all()
        assert (np.diff(found.logits[rows], axis=0) <= 0.05).all()
        assert (found.sizes[name][rows[-1]] < 0.8 * found.sizes[name][0]).all()
    assert (found.total_variation == found.sizes["TV"]).all()


def test_total_variation_of_known_images() -> None:
    """It is 0 of a constant image, and the length of its edge of a step."""
    assert variation(torch.full((1, 1, 6, 7), 0.3)) == 0
    step = torch.zeros(1, 1, 6, 7)
    step[..., 3:] = 1
    assert variation(step) == pytest.approx(6, abs=1e-2)


def test_all_at_once_are_as_each_alone() -> None:
    """The image of a row and class is that of `maximise` with the same objective."""
    model = odd()
    found = compare_penalties(model, [2, 0], (1, 6, 6), strengths=[0.1], around=0.5, steps=12)
    alone = maximise(
        model, logit(0) + 0.1 * total_variation(), (1, 6, 6), start=torch.full((1, 1, 6, 6), 0.5),
        transforms=(), rate=0.05, steps=12, image_param=ImageParam("pixel", "box"),
    )  # fmt: skip
    assert found.rows[3] == "TV"
    assert_close(found.images[3, 1], alone.images[0], rtol=1e-4, atol=1e-5)
    model.eval()
    answers = model(found.images[:, 1])
    assert_close(torch.from_numpy(found.logits[:, 1]).float(), answers[:, 0], rtol=1e-4, atol=1e-5)
    shares = torch.from_numpy(found.probabilities[:, 1]).float()
    assert_close(shares, answers.softmax(dim=1)[:, 0], rtol=1e-4, atol=1e-5)


def test_real_images_give_penalties_their_unit() -> None:
    """At strength 1 the best real images would lose their lead over mean ones, on average."""
    model, _ = classifier()
    real = from_seed(30, *SHAPE).double()
    found = compare_penalties(model, range(3), reference=real, strengths=[2.0], steps=1)
    scores = model(real).detach()
    lead = (scores.max(dim=0).values - scores.mean(dim=0)).mean()
    best = real[scores.argmax(dim=0)]
    cost = torch.tensor([variation(image[None]) for image in best]).mean()
    assert found.around == float(best.median())
    assert found.weights[found.rows.index("TV")] == pytest.approx(2 * float(lead / cost))
    assert found.strengths.tolist() == [0, 2, 2, 2]


class HalfDead(nn.Module):
    """Two logits, of which the second is 0 whatever the image."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, 2)."""
        total = x.flatten(1).sum(dim=1)
        return torch.stack([total, 0 * total.detach()], dim=1)


def test_a_class_without_gradient_is_crossed_out() -> None:
    """It is called dead and has no image; the others are drawn."""
    found = compare_penalties(HalfDead(), [0, 1], (1, 4, 4), strengths=[0.5], steps=3,
                              class_names=["one", "two"])  # fmt: skip
    assert found.verdicts[1::2] == ("dead",) * 4
    assert found.images[:, 1].isnan().all()
    assert not found.images[:, 0].isnan().any()
    shown = words(found)
    assert shown.count("no image") == 4
    assert "two" in shown
    assert "no penalty" in shown
    assert "TV × 0.5" in text(found)
    assert caption(found)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"strengths": [0.0]}, r"strengths: \[0.0\] is not accepted; accepted: numbers above 0"),
        ({"strengths": [float("nan")]}, "strengths: "),
        ({"input_shape": None}, "input_shape: is missing; accepted: "),
        ({"input_shape": (4, 5)}, r"input_shape: \(4, 5\) is not accepted"),
        ({"classes": [3]}, "objective: channel 3 does not exist; accepted: 0 to 2"),
        ({"classes": []}, "channels: there are none"),
        ({"around": 2.0}, "start: values from 2 to 2 are not accepted"),
        ({"reference": torch.zeros(2, *SHAPE)}, "reference: 'L1' is 0 for all of the best"),
        ({"reference": torch.rand(2, 1, 6, 6), "input_shape": SHAPE}, "input_shape: "),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, Any], told: str) -> None:
    """The argument is named, and what it may be."""
    model = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16, 3))
    settings: dict[str, Any] = {"classes": [0, 1], "input_shape": SHAPE, "steps": 1, **change}
    with pytest.raises(ValueError, match=told):
        compare_penalties(model, **settings)
