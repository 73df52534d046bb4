"""Attacks: known answers on linear models, ball and box, what counts as a success, hygiene."""

import copy
import functools
import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visualization.conv.attacks.adversarial import Attack, fgsm, pgd
from visualization.conv.attacks.norms import NORMS
from visualization.conv.attacks.robustness import minimal_perturbation, robustness_curve
from visualization.conv.attacks.transfer import transfer_table
from visualization.render.conv.adversarial import caption, draw, text
from visualization.render.core import png

FREE = {"low": -np.inf, "high": np.inf}


class Odd(nn.Module):
    """A residual net: in-place ReLU, batch norm, a module used twice, a functional ReLU."""

    def __init__(self, channels: int, num_classes: int = 4) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.shared = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(6, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        x = self.relu(self.norm(self.first(x)))
        y = F.relu(self.shared(x))
        z = self.shared(y)
        z += y
        return self.head(self.drop(self.relu(x + z)).mean(dim=(2, 3)))


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


class Logits(nn.Module):
    """Two logits, 0 and what a function makes of images."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, 2)."""
        found = self.function(x)
        return torch.stack([torch.zeros_like(found), found], dim=1)


def linear(num_classes: int = 2, size: int = 4, seed: int = 0) -> nn.Sequential:
    """Return a linear model of images (2, size, size)."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(2 * size * size, num_classes))


def images(num: int = 6, channels: int = 2, size: int = 4, seed: int = 0) -> Tensor:
    """Return images within 0 and 1, some pixels at either end."""
    generator = torch.Generator().manual_seed(seed)
    return (1.4 * torch.rand(num, channels, size, size, generator=generator) - 0.2).clamp(0, 1)


def difference(model: nn.Sequential) -> Tensor:
    """Return the row of class 1 minus the row of class 0, as an image."""
    return (model[1].weight[1] - model[1].weight[0]).detach().view(2, 4, 4)


def up_and_down(model: nn.Module, x: Tensor) -> Tensor:
    """Return for each image 1 where answering class 1 would be new, else −1 (B, 1, 1, 1)."""
    with torch.no_grad():
        return 1.0 - 2.0 * model(x).argmax(dim=1)[:, None, None, None]


@functools.cache
def digits() -> tuple[nn.Module, Tensor, Tensor]:
    """Return a small net that was trained on the bundled scans, and scans it has not seen."""
    from sklearn.datasets import load_digits

    found = load_digits()
    x = torch.tensor(found.images[:, None] / 16, dtype=torch.float32)
    y = torch.tensor(found.target)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(8):
        for rows in torch.randperm(1400).split(50):
            optimiser.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimiser.step()
    return model.eval(), x[1400:1520], y[1400:1520]


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
    own = found.before
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
    assert found.accuracy_after <= float(right)
    assert found.accuracy_after > float(right) - 0.05


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
    assert not found.flat.any()
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
    assert step.flat.all()
    assert torch.equal(step.adversarial, x)
    found = pgd(ditch, x, None, 0.4)
    assert found.flat.all()
    assert found.success.all()


def test_what_counts_as_a_success() -> None:
    """Images that were wrong, or already have the target, are told apart and not counted."""
    model, x = linear(3), images(40, seed=3)
    own = model(x).argmax(dim=1)
    labels = own.clone()
    labels[:10] = (own[:10] + 1) % 3
    found = pgd(model, x, labels, 5.0, **FREE)
    assert torch.equal(found.eligible, torch.arange(40) >= 10)
    assert found.success[10:].all()
    assert not found.success[:10].any()
    assert (found.success_rate, found.accuracy_before, found.accuracy_after) == (1.0, 0.75, 0.0)
    aimed = pgd(model, x, labels, 5.0, target=2, **FREE)
    assert torch.equal(aimed.eligible, (torch.arange(40) >= 10) & (own != 2))
    assert (aimed.after == 2).all()
    assert torch.equal(aimed.success, aimed.eligible)
    each = (own + 1) % 3
    assert torch.equal(pgd(model, x, None, 5.0, target=each, **FREE).after, each)
    assert torch.equal(pgd(model, x, None, 0.0).labels, own)
    assert torch.equal(found.before, own)
    torch.testing.assert_close(
        found.confidence_before, model(x).softmax(dim=1).amax(dim=1).detach()
    )
    all_wrong = pgd(model, x, (own + 1) % 3, 0.1)
    assert np.isnan(all_wrong.success_rate)
    assert "0 of 0" in text(all_wrong)


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
                assert found.flat.all()
                assert not found.success.any()
                assert found.accuracy_after == found.accuracy_before
            least = minimal_perturbation(model, x, None, norm=norm, rounds=4, steps=2)
            assert least.radius.isinf().all()
            assert np.isinf(least.median)
            assert torch.equal(least.adversarial, x)
            assert "none found" in text(least)
    curve = robustness_curve(constant, x, [0, 1] * 3, [0.0, 0.5])
    assert curve.accuracy.tolist() == [0.5, 0.5]


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
    assert found.eligible.sum() == (own == y).sum()
    done = found.eligible
    assert found.radius[done].isfinite().all()
    assert (found.after[done] != y[done]).all()
    assert ((found.adversarial >= 0) & (found.adversarial <= 1)).all()
    assert found.median == np.median(found.radius[done].double())
    less = minimal_perturbation(model, x, y, norm="l2", steps=6, rounds=8, largest=found.median)
    short = less.radius[done]
    assert 0.3 < short.isfinite().float().mean() < 0.8
    assert (short[short.isfinite()] <= found.median + 1e-5).all()
    aimed = minimal_perturbation(model, x, y, norm="l2", steps=6, rounds=8, target=7)
    went = aimed.eligible & aimed.radius.isfinite()
    assert (aimed.after[went] == 7).all()
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
    assert many.accuracy_after <= one.accuracy_after
    assert many.accuracy_after == pytest.approx(found.accuracy[1], abs=0.05)


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
        (fgsm, {"model": nn.Flatten(0)}, r"model: puts out \(32,\); accepted: logits"),
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
