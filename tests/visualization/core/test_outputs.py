"""What a model outputs: several things at once, a softmax, classes that have names."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.helpers.attribution import assert_close
from visualization import conv
from visualization.core.inputs import as_logits
from visualization.render import draw, text

ATTACKS: dict[str, Callable[..., Any]] = {
    "fgsm": lambda m, x, **o: conv.fgsm(m, x, None, 0.1, **o).adversarial,
    "pgd": lambda m, x, **o: conv.pgd(m, x, None, 0.1, steps=2, **o).adversarial,
    "minimal_perturbation": lambda m, x, **o: (
        conv.minimal_perturbation(m, x, rounds=2, steps=2, **o).adversarial
    ),
    "robustness_curve": lambda m, x, **o: (
        conv.robustness_curve(m, x, None, [0.1], steps=2, **o).accuracy
    ),
    "transfer_table": lambda m, x, **o: (
        conv.transfer_table(
            {"one": m}, x, [0, 1, 2], functools.partial(conv.fgsm, epsilon=0.1, **o), **o
        ).accuracy
    ),
    "ablate_channels": lambda m, x, **o: (
        conv.ablate_channels(m, "inner.1", x[0], [1], **o).answers.after
    ),
    "forward_from": lambda m, x, **o: conv.forward_from(m, "inner.1", torch.ones(4, 6, 6), x, **o),
    "compare_response": lambda m, x, **o: (
        conv.compare_response(m, "inner.1", x[0], ("blur", 1.0), **o).answers.after
    ),
}


class Answers(nn.Module):
    """A small classifier, whose logits are packed as a function wants them."""

    def __init__(self, form: Callable[[Tensor], Any] = lambda logits: logits) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
        )
        self.form = form

    def forward(self, x: Tensor) -> Any:
        """Return the answer."""
        return self.form(5 * self.inner(x))


@pytest.fixture
def images() -> Tensor:
    """Three images (1, 8, 8)."""
    return torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ATTACKS)
def test_a_part_of_the_output_is_attacked_and_edited(name: str, images: Tensor) -> None:
    """Told which part of a dictionary is meant, what is found is that of the part alone."""
    model = Answers(lambda logits: {"boxes": [logits], "logits": logits})
    wanted = torch.as_tensor(ATTACKS[name](Answers(), images))
    found = ATTACKS[name](model, images, output=lambda out: out["logits"])
    assert_close(torch.as_tensor(found), wanted)


@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "compare_response"])
def test_what_puts_out_several_things_is_told_so(name: str, images: Tensor) -> None:
    """The error speaks of the model and of `output`, and so it does of what that returns."""
    model = Answers(lambda logits: (logits, logits))
    with pytest.raises(ValueError, match=r"^model: the model outputs a tuple; .*`output`"):
        ATTACKS[name](model, images)
    with pytest.raises(ValueError, match=r"^output: the function returns a tuple; accepted: one"):
        ATTACKS[name](model, images, output=lambda out: out)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_a_softmax_is_not_taken_twice(dtype: torch.dtype, images: Tensor) -> None:
    """Of a network that ends in a softmax, what is called a probability is its output."""
    images = images.to(dtype)
    plain, last = Answers().to(dtype).eval(), Answers(lambda logits: logits.softmax(1)).to(dtype)
    odds = last(images).detach()
    assert (odds.amax(dim=1) > 0.5).any()
    near = {"rtol": 1e-2, "atol": 1e-3} if dtype == torch.float16 else {"rtol": 1e-4, "atol": 1e-6}
    for answers in (
        conv.ablate_channels(last, "inner.1", images[0], [1]).answers,
        conv.compare_response(last, "inner.1", images[0], ("blur", 1.0)).answers,
    ):
        assert_close(torch.as_tensor(answers.probabilities[0]), odds[0], check_dtype=False, **near)
    found, wanted = (conv.fgsm(model, images, None, 0.1) for model in (last, plain))
    assert_close(found.confidence, odds.amax(dim=1), check_dtype=False, **near)
    assert_close(found.adversarial_confidence, wanted.adversarial_confidence, **near)
    assert_close(found.adversarial, wanted.adversarial, **near)
    maps = {"a": np.random.default_rng(0).random((3, 8, 8))}
    curves, own = (conv.faithfulness(m, images, maps, 1, num_steps=2) for m in (last, plain))
    np.testing.assert_allclose(curves.deletion["a"], own.deletion["a"], **near)


def test_the_loss_of_a_softmax_is_that_of_its_logits(images: Tensor) -> None:
    """A landscape's cross entropy does not take the softmax twice either."""
    loss = conv.classification_loss(images, [0, 1, 2])
    one, other = loss(Answers()), loss(Answers(lambda logits: logits.softmax(1)))
    assert_close(one["loss"], other["loss"], rtol=1e-5)


def test_a_demanded_answer_of_a_softmax_is_that_of_its_logits(images: Tensor) -> None:
    """The divergence from an answer that is asked for does not take the softmax twice either."""
    demand = conv.class_distribution([0.2, 0.3, 0.5])
    one, other = (
        conv.maximise(model, demand, start=images, steps=1).starts
        for model in (Answers(), Answers(lambda logits: logits.softmax(1)))
    )
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def test_logits_are_left_as_they_are() -> None:
    """Rows of which any is below 0, or does not sum to 1, are logits."""
    for row in ([[0.5, 0.5], [1.5, -0.5]], [[0.5, 0.5], [0.5, 0.6]]):
        logits = torch.tensor(row)
        assert torch.equal(as_logits(logits), logits)


def test_classes_are_drawn_by_their_names(images: Tensor) -> None:
    """Names of classes stand in the picture and in the text, long ones shortened in the picture."""
    names = ["tench", "a very long name of a class of fish", "great white shark"]
    for record in (
        conv.ablate_channels(Answers(), "inner.1", images[0], [1], classes=names),
        conv.compare_response(Answers(), "inner.1", images[0], ("blur", 1.0), classes=names),
    ):
        figure = draw(record)
        drawn = {label.get_text() for axes in figure.axes for label in axes.get_yticklabels()}
        assert {"tench", "great white shark", "a very lon…s of fish"} <= drawn
        assert all(name in text(record) for name in names)
    with pytest.raises(ValueError, match=r"classes: 2 names for answers of shape \(3,\)"):
        conv.ablate_channels(Answers(), "inner.1", images[0], [1], classes=names[:2])
