"""What is explained: numbers of classes and channels, functions of the output, and what is not."""

import functools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.helpers.attribution import DOUBLE, QUICK, assert_close, linear, odd, pictures
from visualization import conv
from visualization.attribution import methods
from visualization.attribution.cams import last_feature_map


class Reader(nn.Module):
    """Reads an image column by column: (B, W, 3), as networks with recurrent layers do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Conv2d(1, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return the answers of all columns."""
        return self.head(self.body(x).relu().mean(2).transpose(1, 2))


class Packed(nn.Module):
    """Puts out a dictionary with the answer of a model in it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.inner = model

    def forward(self, x: Tensor) -> dict[str, Any]:
        """Return the answer under a name."""
        return {"boxes": [x.mean((1, 2, 3))], "classes": self.inner(x)}


class TwoHeads(nn.Module):
    """Computes its boxes last, and outputs its classes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Conv2d(3, 8, 3)
        self.classes = nn.Conv2d(8, 2, 1)
        self.boxes = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of the classes."""
        maps = self.body(x).relu()
        classes = self.classes(maps)
        self.boxes(maps)
        return classes.mean((2, 3))


@pytest.mark.parametrize("target", [1, [1, 0], (1,), None])
@pytest.mark.parametrize("name", ["saliency", "grad_cam", "occlusion", "rise"])
def test_a_class_of_a_sequence_of_answers_is_refused(name: str, target: Any) -> None:
    """A single number must not be taken for a time step of an output (B, T, K)."""
    with pytest.raises(
        ValueError, match=r"target: .* \(\d, 8, 3\); accepted: a tuple of 2 numbers"
    ):
        QUICK[name](Reader().to(DOUBLE), pictures(2), target)


@pytest.mark.parametrize("name", QUICK)
def test_a_function_of_the_output_is_explained_by_every_method(name: str) -> None:
    """A function that picks a number explains the same as the number's own place does."""
    model, x = Reader().to(DOUBLE), pictures(2)
    wanted = QUICK[name](model, x, (5, 2))
    assert wanted.abs().max() > 0
    assert_close(QUICK[name](model, x, lambda out: out[:, 5, 2]), wanted)
    assert_close(QUICK[name](Packed(model), x, lambda out: out["classes"][:, 5, 2]), wanted)


def test_a_function_is_explained_of_a_layer_and_by_all_that_compares_methods() -> None:
    """Functions are taken of a layer's output too, and where methods are compared or checked."""

    def last(output: Tensor) -> Tensor:
        return output.flatten(2).sum(dim=2)[:, -1] if output.ndim > 2 else output[:, -1]

    model, x = odd(), pictures(2)
    assert_close(
        conv.saliency(model, x, last, target_layer="a"),
        64 * conv.saliency(model, x, 5, target_layer="a"),
    )
    found = conv.attributions(model, x, last, methods=["saliency"])
    assert found.targets == ("last", "last")
    assert_close(torch.as_tensor(found.scores), model.eval()(x.clone())[:, -1].detach())
    assert conv.faithfulness(model, x, found.maps, last, num_steps=2).quantity == "score"
    check = conv.randomisation_check(model, x, last, methods=["saliency"], layers=["head"])
    assert_close(check.signed["saliency"][0], np.ones(2))
    smooth = conv.smooth_grad(linear()[0], pictures(1, 2, 4), lambda out: out[:, 1], num_samples=2)
    assert_close(smooth[0], linear()[1][1])


def test_what_a_function_returns_is_one_number_for_each_image() -> None:
    """Another shape, or no tensor at all, is an error that says so."""
    words = r"target: the function returns .*accepted: a tensor \(2,\)"
    for wrong in (lambda out: out, lambda out: out.sum(), lambda out: 3.0):
        with pytest.raises(ValueError, match=words):
            conv.saliency(odd(), pictures(2), wrong)


def test_a_model_that_puts_out_several_things_says_what_would_be_accepted() -> None:
    """The message speaks of the model, not of a layer, and names the way to pick a part."""
    words = r"^model: the model outputs a dict; accepted: one tensor, or a function"
    with pytest.raises(ValueError, match=words):
        conv.saliency(Packed(odd()), pictures(2), 1)


def test_a_channel_of_a_sequence_is_refused_by_objectives_too() -> None:
    """`logit` and `channel` must not climb a time step of an output (B, T, K)."""
    along = conv.direction("head", torch.ones(8))
    for objective in (conv.logit(1), conv.channel("head", 1), along):
        with pytest.raises(ValueError, match=r"objective: .* does not say what is meant"):
            conv.maximise(Reader(), objective, (1, 8, 8), steps=1)


def test_the_map_that_a_grad_cam_takes_lies_on_the_way_to_the_score() -> None:
    """A map that is computed later, beside the score, is not the last one."""
    torch.manual_seed(1)
    model, x = TwoHeads(), torch.rand(2, 3, 12, 12)
    assert last_feature_map(model, x, 1) == "classes"
    assert_close(conv.grad_cam(model, x, 1), conv.grad_cam(model, x, 1, cam_layer="classes"))
    assert conv.attributions(model, x, 1, methods=["grad_cam"]).maps["grad_cam"].shape == (
        2,
        12,
        12,
    )
    assert last_feature_map(model, x, 3, target_layer="boxes") == "body"
    assert_close(
        conv.grad_cam(model, x, 1, target_layer="classes"),
        conv.grad_cam(model, x, 1, target_layer="classes", cam_layer="body"),
    )


def test_a_layer_is_the_one_that_is_explained_also_of_a_smooth_grad_cam() -> None:
    """`layer` of SmoothGrad and of `attributions` is never that of a Grad-CAM's maps."""
    model, x = odd(), pictures(2)
    cam = functools.partial(conv.grad_cam, cam_layer="stem")
    plain = conv.grad_cam(model, x, (2, 3, 3), cam_layer="stem", target_layer="a")
    smooth = conv.smooth_grad(
        model, x, (2, 3, 3), target_layer="a", method=cam, noise=0.0, num_samples=2
    )
    assert_close(smooth, plain)
    found = conv.attributions(model, x, (2, 3, 3), target_layer="a", methods={"cam": cam})
    assert_close(torch.as_tensor(found.maps["cam"]), plain)
    before = conv.grad_cam(model, x, (2, 3, 3), cam_layer="relu@0", target_layer="a")
    smooth = conv.smooth_grad(
        model, x, (2, 3, 3), target_layer="a", method=conv.grad_cam, noise=0.0, num_samples=1
    )
    assert_close(smooth, before)


def test_rise_is_less_its_mean_however_it_is_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, as a function, and with options of its own: only differences between pixels."""
    monkeypatch.setattr(methods, "_NUMBERS_MASKED", 0)  # the least number of masks
    model, _ = linear(1, 8)
    model[1].bias.data += 8
    x = pictures(1)
    own = functools.partial(conv.rise, num_masks=50)
    for chosen in (["rise"], {"rise": own}, {"rise": functools.partial(own, seed=1)}):
        values = conv.attributions(model, x, 1, methods=chosen).maps["rise"]
        assert abs(values.mean(axis=(1, 2))).max() < 1e-6
        assert abs(values).max() > 1e-4
    assert own(model, x, 1).mean() > 4
    assert methods.resolve_methods({"rise": own})["rise"](model, x, 1).mean().abs() < 1e-6
