"""What holds of every attack: nothing made up, no trace left, mistakes named, figures."""

import functools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.helpers.adversarial import FREE, Logits, Odd, digits, images, linear
from visualization.adversarial.attacks import fgsm, pgd
from visualization.adversarial.figures import caption, draw, text
from visualization.adversarial.robustness import minimal_perturbation, robustness_curve
from visualization.adversarial.transfer import transfer_table
from visualization.core.registry import png


class Greedy(nn.Module):
    """A net whose first operation is in place, on the very images it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, 3)."""
        x -= 0.5
        return self.head(self.relu(x).flatten(1))


def test_models_that_know_nothing() -> None:
    """A constant model and one of chance are attacked without an error, and nothing is made up."""
    x = images(6, 1, 4)
    constant = Logits(lambda x: torch.full((len(x),), -1.0))
    equal = Logits(lambda x: torch.zeros(len(x)))
    for model in (constant, equal):
        for norm in ("linf", "l2"):
            for found in (
                fgsm(model, x, None, 0.2, norm=norm),
                pgd(model, x, [0, 1] * 3, 0.2, norm=norm),
            ):
                assert found.zero_gradient.all()
                assert not found.success.any()
                assert found.adversarial_accuracy == found.clean_accuracy
            least = minimal_perturbation(model, x, None, norm=norm, rounds=4, steps=2)
            assert least.radius.isinf().all()
            assert np.isinf(least.median)
            assert torch.equal(least.adversarial, x)
            assert "none found" in text(least)
    curve = robustness_curve(constant, x, [0, 1] * 3, [0.0, 0.5])
    assert curve.accuracy.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("make", [lambda: Odd(1), lambda: Odd(3), Greedy, lambda: Odd(1).double()])
def test_odd_modules_are_left_as_they_were(make: Any) -> None:
    """Residuals, in-place and functional ReLUs, batch norm in training mode: no trace is left."""
    torch.manual_seed(7)
    model = make().train()
    channels = next((m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)), 1)
    x = images(4, channels, 8).numpy()
    given, state = x.copy(), {name: value.clone() for name, value in model.state_dict().items()}
    first = next(model.parameters())
    first.grad = torch.ones_like(first)
    first.requires_grad_(False)
    random = torch.get_rng_state()

    def demand_same() -> None:
        np.testing.assert_array_equal(x, given)
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
        assert all(module.training for module in model.modules())
        assert (first.grad == 1).all()
        assert not first.requires_grad
        assert all(p.requires_grad and p.grad is None for p in list(model.parameters())[1:])
        assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())
        assert torch.equal(torch.get_rng_state(), random)

    for found in (
        fgsm(model, x, None, 0.1), pgd(model, x, None, 0.5, restarts=2, norm="l2"),
        minimal_perturbation(model, x, rounds=3, steps=4),
    ):  # fmt: skip
        assert not found.adversarial.requires_grad
        assert found.adversarial.dtype == next(model.parameters()).dtype
        demand_same()
    robustness_curve(model, x, None, [0.1], steps=3)
    transfer_table({"a": model, "b": model}, x, [0, 1, 0, 1], functools.partial(fgsm, epsilon=0.1))
    demand_same()
    with pytest.raises(ValueError, match="target"):
        pgd(model, x, None, 0.5, target=99)
    with pytest.raises(RuntimeError):
        pgd(model, x[..., :5, :-1].repeat(5, axis=1), None, 0.5)
    demand_same()


def test_errors_of_attacks() -> None:
    """What does not fit is a ValueError that names the argument, the value and what is accepted."""
    model, x = linear(), images()
    bad: list[tuple[Any, dict[str, Any], str]] = [
        (fgsm, {"epsilon": -1.0}, "epsilon: -1.0 is not accepted; accepted: a finite number, 0"),
        (fgsm, {"epsilon": np.nan}, "epsilon: nan is not accepted"),
        (fgsm, {"norm": "Linf"}, "norm: 'Linf' .* accepted: linf, l2; did you mean 'linf'"),
        (fgsm, {"labels": [0, 1]}, r"labels: torch.int64 of shape \(2,\) .* accepted: 6 whole"),
        (fgsm, {"labels": [0.0] * 6}, "labels: torch.float64"),
        (fgsm, {"labels": [0, 1, 2, 0, 1, 0]}, "labels: class 2 does not exist; accepted: 0 to 1"),
        (fgsm, {"target": -1}, "target: class -1 does not exist; accepted: 0 to 1"),
        (fgsm, {"high": 0.5}, "images: values from 0 to 1 are not within low .0.0. to high .0.5."),
        (fgsm, {"low": 1.0}, "low: .1.0. is not below high .1.0."),
        (fgsm, {"low": [0.0] * 3}, "low: .* accepted: a number, or one for each of the 2 channels"),
        (fgsm, {"batch_size": 0}, "batch_size: 0 is not accepted; accepted: 1 or more"),
        (fgsm, {"model": nn.Flatten(0)}, r"model: outputs \(32,\); accepted: logits"),
        (fgsm, {"model": nn.Sequential(nn.Flatten(), nn.Linear(32, 1))}, "2 classes or more"),
        (fgsm, {"images": x[0, 0]}, r"images: shape \(4, 4\)"),
        (pgd, {"steps": 0}, "steps: 0 is not accepted; accepted: 1 or more"),
        (pgd, {"restarts": 0}, "restarts: 0 is not accepted"),
        (pgd, {"step_size": 0.0}, "step_size: 0.0 is not accepted; accepted: a number above 0"),
    ]
    for function, change, message in bad:
        given = {"model": model, "images": x, "labels": None, "epsilon": 0.1} | change
        with pytest.raises(ValueError, match=message):
            function(**given)
    with pytest.raises(ValueError, match="rounds: 0 is not accepted"):
        minimal_perturbation(model, x, rounds=0)
    with pytest.raises(ValueError, match="largest: -1 is not accepted"):
        minimal_perturbation(model, x, largest=-1)
    with pytest.raises(ValueError, match="epsilons: none are given"):
        robustness_curve(model, x, None, [])
    with pytest.raises(ValueError, match="epsilons: -1 is not accepted"):
        robustness_curve(model, x, None, [-1])
    attack = functools.partial(fgsm, epsilon=0.1)
    with pytest.raises(ValueError, match="models: none are given"):
        transfer_table({}, x, None, attack)
    with pytest.raises(ValueError, match="labels: None is not accepted"):
        transfer_table({"a": model}, x, None, attack)


def test_figures_of_attacks() -> None:
    """Each record has a figure, a caption and lines, also of colour images and without success."""
    torch.manual_seed(8)
    colour, x = Odd(3).eval(), images(3, 3, 8)
    scans, digit, label = digits()
    own = torch.stack([colour(x).argmax(dim=1), (colour(x).argmax(dim=1) + 1) % 4])
    names = ("a", "b", "c", "a very long name of a class")
    attack = functools.partial(pgd, epsilon=0.1, steps=3)
    records = [
        pgd(colour, x, own[0], 0.9, target=3, classes=names),
        fgsm(colour, x, own[1], 0.0, norm="l2"),
        fgsm(colour, x, None, 0.1, norm="l2", **FREE),
        minimal_perturbation(scans, digit[:12], label[:12], rounds=3, steps=3),
        minimal_perturbation(colour, x, own[1], rounds=2, steps=2),
        minimal_perturbation(colour, x, own[0], rounds=1, steps=1, largest=1e-9, target=2),
        robustness_curve(scans, digit, label, [0.1, 0.2], steps=2),
        transfer_table({"one": scans, "two": scans}, digit[:9], label[:9], attack),
    ]
    for record in records:
        assert png(draw(record)).startswith(b"\x89PNG")
        assert caption(record)
        assert text(record)
    figure = draw(pgd(scans, digit[:5], label[:5], 0.3, steps=5))
    words = [axes.get_title() for axes in figure.axes]
    assert sum("%" in each for each in words) == 2 * int(
        (scans(digit[:5]).argmax(1) == label[:5]).sum()
    )
    assert any("± 0.3" in axes.get_ylabel() for axes in figure.axes)
