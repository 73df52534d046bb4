"""FGSM and PGD: known answers on linear models, ball and box, what counts as a success."""

import copy
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.helpers.adversarial import (
    FREE,
    Logits,
    Odd,
    difference,
    digits,
    images,
    linear,
    up_and_down,
)
from visualization.adversarial.attacks import Attack, fgsm, pgd
from visualization.adversarial.figures import text
from visualization.adversarial.norms import NORMS
from visualization.adversarial.robustness import robustness_curve


def test_one_step_of_a_linear_model() -> None:
    """FGSM gives x + ε·sign(w) in the box, x + ε·w/‖w‖ in L2, and the opposite with a target."""
    model, x = linear(), images()
    way = difference(model) * up_and_down(model, x)
    found = fgsm(model, x, None, 0.1)
    torch.testing.assert_close(
        found.adversarial, (x + 0.1 * way.sign()).clamp(0, 1), rtol=0, atol=1e-7
    )
    free = fgsm(model, x, None, 0.1, norm="l2", **FREE)
    torch.testing.assert_close(free.adversarial, x + 0.1 * way / difference(model).norm())
    torch.testing.assert_close(free.size, torch.full((6,), 0.1))
    own = found.prediction
    towards = fgsm(model, x, None, 0.1, target=own)
    torch.testing.assert_close(
        towards.adversarial, (x - 0.1 * way.sign()).clamp(0, 1), rtol=0, atol=1e-7
    )


def test_the_step_is_that_of_cross_entropy() -> None:
    """The gradient has cross-entropy's direction, of many classes and of a target too."""
    torch.manual_seed(1)
    model, x = Odd(3, 7).eval().double(), images(5, 3, 8).double()
    for target in (None, 2):
        asked = x.clone().requires_grad_()
        aim = model(x).argmax(dim=1) if target is None else torch.full((5,), target)
        loss = F.cross_entropy(model(asked), aim, reduction="sum")
        slope = torch.autograd.grad(loss if target is None else -loss, asked)[0]
        unit = slope / slope.flatten(1).norm(dim=1)[:, None, None, None]
        step = fgsm(model, x, None, 0.1, target=target, norm="l2", **FREE)
        torch.testing.assert_close(step.adversarial - x, 0.1 * unit, rtol=1e-6, atol=1e-9)
        signs = fgsm(model, x, None, 0.1, target=target, **FREE)
        torch.testing.assert_close(signs.adversarial, x + 0.1 * slope.sign())


@pytest.mark.filterwarnings("ignore")  # captum warns of its own settings
def test_steps_are_those_of_captum() -> None:
    """FGSM equals captum's with cross-entropy; PGD, which keeps the best, is at least as good."""
    robust = pytest.importorskip("captum.robust")
    model, x, y = digits()
    model, x = copy.deepcopy(model).double(), x.double()
    loss = nn.CrossEntropyLoss(reduction="none")
    oracle = robust.FGSM(model, loss, lower_bound=0.0, upper_bound=1.0)
    oracle.zero_thresh = 0.0  # it leaves pixels with a smaller gradient, by default 1e-6
    wanted = oracle.perturb(x.clone(), 0.1, y)
    torch.testing.assert_close(fgsm(model, x, y, 0.1).adversarial, wanted, rtol=0, atol=1e-6)
    aimed = oracle.perturb(x.clone(), 0.1, (y + 1) % 10, targeted=True)
    found = fgsm(model, x, y, 0.1, target=(y + 1) % 10)
    torch.testing.assert_close(found.adversarial, aimed, rtol=0, atol=1e-6)
    climb = robust.PGD(model, loss, lower_bound=0.0, upper_bound=1.0)
    walked = climb.perturb(x.clone(), 0.1, 0.05, 4, y)
    found = pgd(model, x, y, 0.1, steps=4, step_size=0.05)
    right = (model(walked).argmax(dim=1) == y).double().mean()
    assert found.adversarial_accuracy <= float(right)
    assert found.adversarial_accuracy > float(right) - 0.05


def test_a_very_sure_model_is_still_attacked() -> None:
    """Where float32 rounds cross-entropy's gradient to 0, the step is what it is elsewhere."""
    model, x = linear(), images()
    wanted = fgsm(model, x, None, 0.1).adversarial
    with torch.no_grad():
        model[1].weight *= 1e4
        model[1].bias *= 1e4
    asked = x.clone().requires_grad_()
    loss = F.cross_entropy(model(asked), model(x).argmax(dim=1), reduction="sum")
    assert (torch.autograd.grad(loss, asked)[0] == 0).all()
    found = fgsm(model, x, None, 0.1)
    assert not found.zero_gradient.any()
    torch.testing.assert_close(found.adversarial, wanted)


def test_pgd_reaches_the_optimum_of_a_linear_model() -> None:
    """In L∞ each pixel ends at its bound; in L2 at w/‖w‖, and with walls at the KKT point."""
    model, x = linear(), images()
    w = difference(model) * up_and_down(model, x)
    found = pgd(model, x, None, 0.3)
    wanted = x + torch.maximum(torch.minimum(0.3 * w.sign(), 1 - x), -x)
    torch.testing.assert_close(found.adversarial, wanted, rtol=0, atol=1e-6)
    free = pgd(model, x, None, 0.3, norm="l2", **FREE)
    torch.testing.assert_close(free.adversarial - x, 0.3 * w / difference(model).norm())
    walled = pgd(model, x, None, 1.5, norm="l2", steps=400)
    near, far = torch.zeros(6, 1, 1, 1), torch.full((6, 1, 1, 1), 1e3)
    for _ in range(60):  # the optimum is clamp(t·w) with the t at which it has length 1.5
        middle = (near + far) / 2
        best = torch.maximum(torch.minimum(middle * w, 1 - x), -x)
        is_long = best.flatten(1).norm(dim=1)[:, None, None, None] > 1.5
        near, far = torch.where(is_long, near, middle), torch.where(is_long, middle, far)
    assert (best.flatten(1).norm(dim=1) < 1.5 + 1e-5).all()
    assert ((best == -x) | (best == 1 - x)).any()
    gained = (w * (walled.adversarial - x)).flatten(1).sum(dim=1)
    torch.testing.assert_close(gained, (w * best).flatten(1).sum(dim=1), rtol=1e-3, atol=0)


def test_projection_is_the_nearest_point() -> None:
    """L2's projection into ball and box is what a bisection of its multiplier gives."""
    generator = torch.Generator().manual_seed(0)
    delta = 3 * torch.randn(40, 30, dtype=torch.double, generator=generator)
    low, high = (2 * torch.rand(40, 30, dtype=torch.double, generator=generator) for _ in "ab")
    low, radius = -low, 4 * torch.rand(40, 1, dtype=torch.double, generator=generator)
    high[:5], low[:3], delta[6, :9], low[7], high[8], radius[9] = np.inf, -np.inf, 0, 0, 0, 0
    norm = NORMS["l2"]
    found = norm.project(delta, radius, low, high)
    near, far = torch.zeros(40, 1, dtype=torch.double), torch.ones(40, 1, dtype=torch.double)
    for _ in range(100):
        middle = (near + far) / 2
        is_long = norm.size((middle * delta).clamp(low, high)) > radius
        near, far = torch.where(is_long, near, middle), torch.where(is_long, middle, far)
    torch.testing.assert_close(found, (near * delta).clamp(low, high), rtol=0, atol=1e-12)
    assert (norm.size(found) <= radius + 1e-12).all()
    assert (norm.size(found) < radius - 1e-3).any()
    again = norm.project(found, radius, low, high)
    torch.testing.assert_close(again, found, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_points_drawn_in_a_ball(norm: str) -> None:
    """They fill the unit ball evenly: of n numbers the share within radius r is r to the n."""
    rng = np.random.default_rng(0)
    drawn = NORMS[norm].within(torch.zeros(20000, 4), rng)
    size = NORMS[norm].size(drawn)[:, 0]
    for radius in (0.5, 0.8, 0.95):
        assert float((size <= radius).double().mean()) == pytest.approx(radius**4, abs=0.015)
    assert (drawn.mean(dim=0).abs() < 0.02).all()
    assert float(size.max()) <= 1
    far = NORMS[norm].size(NORMS[norm].outermost(torch.zeros(9, 4), rng))
    torch.testing.assert_close(far, torch.ones(9, 1))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("channels", [1, 3])
def test_nothing_leaves_ball_or_box(norm: str, channels: int) -> None:
    """No attack of any size, with or without a target, is outside of either but by rounding."""
    torch.manual_seed(2)
    model, x = Odd(channels).eval(), images(5, channels, 8)
    low, high = [-0.1, 0.0, -1.0][:channels], [1.0, 1.1, 2.0][:channels]
    bounds = [torch.tensor(each).view(-1, 1, 1) for each in (low, high)]
    for epsilon, target in itertools.product((0.0, 0.03, 0.7, 9.0), (None, 1)):
        each: list[Attack] = [
            fgsm(model, x, None, epsilon, target=target, norm=norm, low=low, high=high),
            pgd(
                model, x, None, epsilon, target=target, norm=norm, low=low, high=high, steps=7,
                restarts=3,
            ),
        ]  # fmt: skip
        for found in each:
            size = NORMS[norm].size((found.adversarial - x).flatten(1))[:, 0]
            assert (size <= epsilon * (1 + 1e-5) + 1e-7).all()
            torch.testing.assert_close(found.size, size)
            assert (found.adversarial >= bounds[0]).all()
            assert (found.adversarial <= bounds[1]).all()
            if epsilon == 0:
                assert torch.equal(found.adversarial, x)
                assert not found.success.any()


def test_what_was_found_is_not_lost() -> None:
    """A walk that steps over a narrow place of success keeps it; more steps never find less."""
    hill = Logits(lambda x: 1 - 40 * (x.mean(dim=(1, 2, 3)) - 0.52).abs())
    x = torch.full((1, 1, 3, 3), 0.3)
    settings = {"step_size": 0.11, "steps": 9}
    found = pgd(hill, x, None, 0.5, **settings)
    assert found.success.all()
    torch.testing.assert_close(found.adversarial, x + 0.22)
    assert hill(x + 0.33).argmax() == 0  # where the walk stood a step later
    torch.manual_seed(3)
    model, x = Odd(1).eval(), images(20, 1, 8)
    margins, successes = [], []
    for steps in (1, 3, 9):
        found = pgd(model, x, None, 0.4, steps=steps, step_size=0.15)
        answers = model(found.adversarial).detach()
        own = answers.gather(1, found.labels[:, None])[:, 0]
        rest = answers.scatter(1, found.labels[:, None], -torch.inf).amax(dim=1)
        margins.append(rest - own)
        successes.append(found.success)
    assert (margins[1] >= margins[0] - 1e-6).all()
    assert (margins[2] >= margins[1] - 1e-6).all()
    assert (successes[2] >= successes[1]).all()
    assert (margins[2] > margins[0]).any()


def test_restarts_only_help() -> None:
    """Further runs keep what the first found, and find more where it is caught."""
    two_hills = Logits(
        lambda x: (2 - 30 * (x[:, 0, 0, 0] - 0.9).abs()).maximum(-x[:, 0, 0, 0] - 0.2)
    )
    x = torch.full((30, 1, 1, 1), 0.45)  # uphill is first down, to a top that is too low
    assert not pgd(two_hills, x, None, 0.5).success.any()
    found = pgd(two_hills, x, None, 0.5, restarts=8)
    assert found.success.float().mean() > 0.5
    assert torch.equal(found.adversarial, pgd(two_hills, x, None, 0.5, restarts=8).adversarial)
    other = pgd(two_hills, x, None, 0.5, restarts=2, seed=5)
    assert not torch.equal(other.adversarial, pgd(two_hills, x, None, 0.5, restarts=2).adversarial)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_batches_change_nothing(norm: str) -> None:
    """The number of images at a time changes neither the random starts nor the result."""
    torch.manual_seed(4)
    model, x = Odd(1).eval().double(), images(11, 1, 8).double()
    settings = {"norm": norm, "restarts": 3, "steps": 5}
    whole = pgd(model, x, None, 0.3, **settings)
    for batch_size in (1, 4):
        parts = pgd(model, x, None, 0.3, batch_size=batch_size, **settings)
        torch.testing.assert_close(parts.adversarial, whole.adversarial, rtol=0, atol=1e-9)
    curve = robustness_curve(model, x, None, [0.1], norm, steps=4)
    assert robustness_curve(model, x, None, [0.1], norm, steps=4, batch_size=3).noise == curve.noise


def test_a_flat_place_is_left_at_random() -> None:
    """Where the gradient is exactly 0 the image is named, and PGD starts elsewhere."""
    ditch = Logits(lambda x: F.relu((x - 0.5).abs().amax(dim=(1, 2, 3)) - 0.05) - 0.1)
    x = torch.full((8, 1, 2, 2), 0.5)
    step = fgsm(ditch, x, None, 0.4)
    assert step.zero_gradient.all()
    assert torch.equal(step.adversarial, x)
    found = pgd(ditch, x, None, 0.4)
    assert found.zero_gradient.all()
    assert found.success.all()


def test_what_counts_as_a_success() -> None:
    """Images that were wrong, or already have the target, are told apart and not counted."""
    model, x = linear(3), images(40, seed=3)
    own = model(x).argmax(dim=1)
    labels = own.clone()
    labels[:10] = (own[:10] + 1) % 3
    found = pgd(model, x, labels, 5.0, **FREE)
    assert torch.equal(found.attackable, torch.arange(40) >= 10)
    assert found.success[10:].all()
    assert not found.success[:10].any()
    assert (found.success_rate, found.clean_accuracy, found.adversarial_accuracy) == (
        1.0,
        0.75,
        0.0,
    )
    aimed = pgd(model, x, labels, 5.0, target=2, **FREE)
    assert torch.equal(aimed.attackable, (torch.arange(40) >= 10) & (own != 2))
    assert (aimed.adversarial_prediction == 2).all()
    assert torch.equal(aimed.success, aimed.attackable)
    each = (own + 1) % 3
    assert torch.equal(pgd(model, x, None, 5.0, target=each, **FREE).adversarial_prediction, each)
    assert torch.equal(pgd(model, x, None, 0.0).labels, own)
    assert torch.equal(found.prediction, own)
    torch.testing.assert_close(found.confidence, model(x).softmax(dim=1).amax(dim=1).detach())
    all_wrong = pgd(model, x, (own + 1) % 3, 0.1)
    assert np.isnan(all_wrong.success_rate)
    assert "0 of 0" in text(all_wrong)
