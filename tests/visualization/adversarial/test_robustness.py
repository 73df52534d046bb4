"""The smallest change that deceives, accuracy by size of attack, and transfer between models."""

import functools

import numpy as np
import pytest
import torch

from tests.helpers.adversarial import FREE, difference, digits, images, linear
from visualization.adversarial.attacks import fgsm, pgd
from visualization.adversarial.norms import NORMS
from visualization.adversarial.robustness import minimal_perturbation, robustness_curve
from visualization.adversarial.transfer import transfer_table


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_distance_to_a_plane(norm: str) -> None:
    """Of a linear model the radius is |margin|/‖w‖₂, in L∞ |margin|/‖w‖₁, of the nearest class."""
    for num_classes, most in ((2, 2e-3), (5, 2e-2)):
        model, x = linear(num_classes, seed=6).double(), images(12, seed=1).double()
        answers, rows = model(x).detach(), model[1].weight.detach()
        own = answers.argmax(dim=1)
        gaps = rows[own][:, None] - rows  # (B, K, n)
        length = gaps.abs().sum(dim=2) if norm == "linf" else gaps.norm(dim=2)
        margins = answers.gather(1, own[:, None]) - answers
        ways = (margins / length).scatter(1, own[:, None], torch.inf)
        exact = ways.amin(dim=1)
        found = minimal_perturbation(model, x, None, norm=norm, steps=60, **FREE)
        assert (found.radius >= exact * (1 - 1e-6)).all()
        torch.testing.assert_close(found.radius, exact, rtol=most, atol=1e-6)
        size = NORMS[norm].size((found.adversarial - x).flatten(1))[:, 0]
        torch.testing.assert_close(found.radius, size)
        alone = torch.stack([model(each[None])[0] for each in found.adversarial]).argmax(dim=1)
        assert (alone != own).all()


def test_the_smallest_change_in_the_box() -> None:
    """It stays in the box, is 0 where nothing is to change, and aims at a target if told."""
    model, x, y = digits()
    x, y = x[:20], y[:20].clone()
    own = model(x).argmax(dim=1)
    y[:3] = (own[:3] + 1) % 10
    found = minimal_perturbation(model, x, y, norm="l2", steps=6, rounds=8)
    assert (found.radius[:3] == 0).all()
    assert torch.equal(found.adversarial[:3], x[:3])
    assert found.attackable.sum() == (own == y).sum()
    done = found.attackable
    assert found.radius[done].isfinite().all()
    assert (found.adversarial_prediction[done] != y[done]).all()
    assert ((found.adversarial >= 0) & (found.adversarial <= 1)).all()
    assert found.median == np.median(found.radius[done].double())
    less = minimal_perturbation(model, x, y, norm="l2", steps=6, rounds=8, largest=found.median)
    short = less.radius[done]
    assert 0.3 < short.isfinite().float().mean() < 0.8
    assert (short[short.isfinite()] <= found.median + 1e-5).all()
    aimed = minimal_perturbation(model, x, y, norm="l2", steps=6, rounds=8, target=7)
    went = aimed.attackable & aimed.radius.isfinite()
    assert (aimed.adversarial_prediction[went] == 7).all()
    assert (aimed.radius[went] >= found.radius[went] * 0.9).all()


def test_accuracy_by_size_of_a_linear_model() -> None:
    """The curve is the share of images farther from the plane than each size, and never rises."""
    model, x = linear(seed=2).double(), images(50, seed=5).double()
    answers = model(x).detach()
    distance = (answers[:, 1] - answers[:, 0]).abs() / difference(model).abs().sum()
    sizes = [0.2, 0.0, 0.05, 0.1, 0.02]
    labels = answers.argmax(dim=1)
    labels[:10] = 1 - labels[:10]
    found = robustness_curve(model, x, labels, sizes, **FREE)
    assert found.epsilons.tolist() == sorted(sizes)
    wanted = [float((distance[10:] > size).sum()) / 50 for size in sorted(sizes)]
    np.testing.assert_allclose(found.accuracy, wanted)
    assert found.accuracy[0] == found.noise[0] == found.clean == 0.8
    assert (found.num_images, found.num_classes) == (50, 2)


def test_an_attack_is_more_than_noise() -> None:
    """On real scans PGD brings down what noise of that size leaves, and finds more than FGSM."""
    model, x, y = digits()
    found = robustness_curve(model, x, y, [0.05, 0.15, 0.3], steps=10)
    assert found.clean > 0.85
    assert (np.diff(found.accuracy) <= 0).all()
    assert found.accuracy[1] < found.noise[1] - 0.4
    assert found.accuracy[2] < 0.05
    one, many = fgsm(model, x, y, 0.15), pgd(model, x, y, 0.15)
    assert many.adversarial_accuracy <= one.adversarial_accuracy
    assert many.adversarial_accuracy == pytest.approx(found.accuracy[1], abs=0.05)


def test_what_deceives_one_model_and_another() -> None:
    """Along w of one model another with an orthogonal w sees no change; a twin sees all of it."""
    a, b, twin = linear(seed=1), linear(seed=1), linear(seed=1)
    with torch.no_grad():
        for model, half in ((a, slice(0, 16)), (b, slice(16, 32)), (twin, slice(0, 16))):
            kept = model[1].weight[:, half].clone()
            model[1].weight.zero_()
            model[1].weight[:, half] = kept
    x = images(40)
    labels = a(x).argmax(dim=1)
    attack = functools.partial(pgd, epsilon=4.0, norm="l2", **FREE)
    found = transfer_table({"a": a, "b": b, "twin": twin}, x, labels, attack)
    assert found.names == ("a", "b", "twin")
    assert found.clean[0] == found.clean[2] == 1
    assert found.clean[1] == float((b(x).argmax(dim=1) == labels).double().mean()) < 1
    np.testing.assert_allclose(found.accuracy[0], [0, found.clean[1], 0])
    np.testing.assert_allclose(found.accuracy[1, ::2], 1)
    np.testing.assert_array_equal(found.accuracy[0], found.accuracy[2])
    assert found.noise[0, 0] > 0
    assert found.noise[0, 1] == found.clean[1]
    assert (found.method, found.norm, found.epsilon, found.num_images) == ("PGD", "l2", 4.0, 40)
