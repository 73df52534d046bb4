"""Attributions by gradients, maps and masks, against models whose answers are known."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visualization.conv.attribution.cams import grad_cam, grad_cam_plus_plus, last_map
from visualization.conv.attribution.gradients import (
    completeness_gap,
    deconvnet,
    guided_backprop,
    input_x_gradient,
    integrated_gradients,
    saliency,
    smooth_grad,
)
from visualization.conv.attribution.masking import occlusion_map, replacement, rise
from visualization.conv.attribution.methods import METHODS, attributions
from visualization.conv.attribution.relus import RULES, relu_rule
from visualization.render.captions import caption
from visualization.render.conv.attribution import TITLES
from visualization.render.core import draw, text

DOUBLE = torch.float64
SMALL = {  # options with which each method takes a moment
    "smooth_grad": {"num_samples": 6}, "integrated_gradients": {"num_steps": 4},
    "rise": {"num_masks": 40, "grid": 4},
}  # fmt: skip
PUBLIC: dict[str, Callable[..., Tensor]] = METHODS | {"occlusion": occlusion_map, "rise": rise}
QUICK = {name: functools.partial(f, **SMALL.get(name, {})) for name, f in PUBLIC.items()}
assert_close = functools.partial(torch.testing.assert_close, rtol=1e-6, atol=1e-10)


class Odd(nn.Module):
    """Has BatchNorm, a residual branch, additions and ReLUs in place, and a ReLU used twice."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.a = nn.Conv2d(6, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return the answer (B, 4)."""
        x -= 0.1  # in place, of what it was given
        x = self.relu(self.norm(self.stem(x)))
        y = F.max_pool2d(self.relu(self.a(x)), 2)
        y += F.avg_pool2d(x, 2)
        y = F.relu(y - 0.2, inplace=True)
        return self.head(self.drop(self.pool(y).flatten(1)))


class Cubes(nn.Module):
    """Σ x³, and a second class that is always 0."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("three", torch.tensor(3, dtype=DOUBLE))

    def forward(self, x: Tensor) -> Tensor:
        """Return the answer (B, 2)."""
        cubes = (x**self.three).flatten(1).sum(dim=1)
        return torch.stack([cubes, 0 * cubes], dim=1)


def odd(channels: int = 1) -> Odd:
    """Return an odd model in training mode, with gradients held."""
    torch.manual_seed(3)
    model = Odd(channels).to(DOUBLE)
    with torch.no_grad():
        model.norm.running_mean.normal_()
        model.norm.running_var.uniform_(0.5, 2)
        model.norm.weight.uniform_(0.5, 2)
        model.norm.bias.normal_()
        answers = model.eval()(3 * pictures(30, channels))
        model.head.bias -= answers.mean(dim=0)  # so that images differ in their largest class
    model.train()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    return model


def linear(channels: int = 2, size: int = 4) -> tuple[nn.Module, Tensor]:
    """Return a linear model of 3 classes, with a bias, and its weights (3, C, H, W)."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(channels * size * size, 3)).to(DOUBLE)
    return model, model[1].weight.detach().view(3, channels, size, size)


def pictures(num: int = 3, channels: int = 1, size: int = 8) -> Tensor:
    """Return random images (B, C, H, W)."""
    source = torch.Generator().manual_seed(1)
    return torch.randn(num, channels, size, size, generator=source, dtype=DOUBLE)


@pytest.mark.parametrize("target", [None, 1, [2, 0, 1]])
def test_a_linear_model_is_explained_by_its_weights(target: Any) -> None:
    """Gradient and SmoothGrad are w; times input, integrated and occluded by 1 × 1 are w · x."""
    (model, weights), x = linear(), pictures(3, 2, 4)
    numbers = model(x).argmax(1) if target is None else torch.as_tensor(target).expand(3)
    wanted = weights[numbers]
    assert_close(saliency(model, x, target), wanted)
    assert_close(smooth_grad(model, x, target, num_samples=7), wanted)
    assert_close(input_x_gradient(model, x, target), wanted * x)
    assert_close(integrated_gradients(model, x, target, num_steps=1), wanted * x)
    assert_close(occlusion_map(model, x, target, window=1), (wanted * x).sum(dim=1))
    assert_close(guided_backprop(model, x, target), wanted)  # there is no ReLU
    assert_close(deconvnet(model, x, target), wanted)


def test_overlapping_windows_give_their_mean() -> None:
    """A pixel's drop is the mean over the windows that cover it, cut at the border."""
    (model, weights), x = linear(), pictures(2, 2, 4)
    share = (weights[1] * x).sum(dim=1)
    # Rows 0 to 2, and 2 to 3 (cut); columns 0 and 1, 1 and 2, 2 and 3.
    total, count = torch.zeros_like(share), torch.zeros_like(share)
    for (top, end), left in itertools.product([(0, 3), (2, 4)], [0, 1, 2]):
        drop = share[:, top:end, left : left + 2].sum(dim=(1, 2), keepdim=True)
        total[:, top:end, left : left + 2] += drop
        count[:, top:end, left : left + 2] += 1
    for batch_size in (1, 5, 256):
        found = occlusion_map(model, x, 1, window=(3, 2), stride=(2, 1), batch_size=batch_size)
        assert_close(found, total / count)


def test_windows_beyond_what_counts_are_not_run() -> None:
    """Windows that hide none of the pixels that count drop exactly 0; the rest is as without."""
    model, x = odd(), pictures()
    unit = {"layer": "stem", "target": (2, 0, 1), "window": 2}
    counts = torch.zeros(8, 8, dtype=torch.bool)
    counts[:2, :3] = True
    whole = occlusion_map(model, x, **unit)
    seen: list[int] = []
    model.stem.register_forward_hook(lambda _, args, __: seen.append(len(args[0])))
    found = occlusion_map(model, x, **unit, within=counts)
    assert sum(seen) == 3 + 3 * 2 * 3  # the images, then six windows of each
    assert_close(found, whole, atol=1e-12)
    assert (found[:, 3:] == 0).all()
    assert (found[:, :2, :3] != 0).any()
    each = torch.stack([counts, counts & False, counts])
    assert (occlusion_map(model, x, **unit, within=each)[1] == 0).all()


@pytest.mark.parametrize(
    ("fill", "wanted"),
    [
        (0.5, lambda x: torch.full_like(x, 0.5)),
        ("mean", lambda x: x.mean((2, 3), keepdim=True).expand_as(x)),
        (np.full((1, 2, 1, 1), 3.0), lambda x: torch.full_like(x, 3.0)),
        (torch.ones(2, 4, 4), torch.ones_like),
    ],
)
def test_hidden_pixels_show_what_they_are_filled_with(
    fill: Any, wanted: Callable[[Tensor], Tensor]
) -> None:
    """Occlusion, and integrated gradients, of a linear model are w · (x − fill)."""
    (model, weights), x = linear(), pictures(3, 2, 4)
    share = weights[2] * (x - wanted(x))
    assert_close(integrated_gradients(model, x, 2, baseline=fill, num_steps=1), share)
    assert_close(occlusion_map(model, x, 2, window=1, fill=fill), share.sum(dim=1))


def test_a_blur_takes_away_detail_only() -> None:
    """A blurred plain image is the same, and a blurred checkerboard is nearly its mean."""
    model, _ = linear()
    assert_close(
        replacement(torch.full((1, 2, 9, 5), 0.7), "blur", model), torch.full((1, 2, 9, 5), 0.7)
    )
    at = torch.arange(40)
    board = ((at[:, None] + at) % 2)[None, None].double()
    assert (replacement(board, "blur", model) - 0.5).abs().max() < 5e-3


def test_rise_of_a_linear_model_is_its_share_of_each_pixel() -> None:
    """With cells of a pixel it tends to (1 − keep) w · x of the pixel, but for a constant."""
    (model, weights), x = linear(), pictures(2, 2, 4)
    share, bias = (weights[1] * x).sum(dim=1), model[1].bias[1].detach()
    keep = 0.3
    # The mean over all masks is Σ keep w · x + b; a seen pixel adds (1 - keep) of its own.
    wanted = keep * share.sum(dim=(1, 2), keepdim=True) + bias + (1 - keep) * share
    errors = {}
    for num in (500, 50_000):
        found = rise(model, x, 1, num_masks=num, grid=4, keep=keep, batch_size=10_000)
        errors[num] = float((found - wanted).abs().max())
    assert errors[50_000] < 0.03 < errors[500] < 0.3
    assert share.abs().max() > 0.3


def test_rise_is_exact_over_all_masks_of_a_constant() -> None:
    """A score that does not depend on the image leaves no noise."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).to(DOUBLE)
    with torch.no_grad():
        model[1].weight.zero_()
    found = rise(model, pictures(2, 1, 4), 2, num_masks=30, grid=2)
    assert_close(found, torch.full((2, 4, 4), float(model[1].bias[2].detach()), dtype=DOUBLE))


def test_rise_is_the_covariance_with_its_masks() -> None:
    """With N masks it is mean f + cov(f, M) / keep, with N − 1; masks are shifted and smooth."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(72, 3)).to(DOUBLE)
    seen: list[Tensor] = []
    model[0].register_forward_hook(lambda _, args, __: seen.append(args[0].clone()))
    x = torch.ones(1, 1, 8, 8, dtype=DOUBLE)  # on which a mask is all that is seen
    for num, size in ((2, 5), (40, 7)):
        seen.clear()
        found = rise(model, x, 1, num_masks=num, grid=2, keep=0.4, batch_size=size)[0]
        masks = torch.cat(seen[1:])[:, 0]  # the first pass is of the image itself
        assert len(masks) == num
        f = model(masks[:, None])[:, 1].detach()
        covariance = torch.einsum("n,nhw->hw", f - f.mean(), masks - masks.mean(0)) / (num - 1)
        assert_close(found, f.mean() + covariance / 0.4)
    assert 0 <= masks.min() < masks.max() <= 1
    assert ((masks[:, 0, 0] > 0) & (masks[:, 0, 0] < 1)).any()  # not without shifts
    assert abs(float(masks.mean()) - 0.4) < 0.1
    assert (masks.diff(dim=1).abs() <= 0.25 + 1e-9).all()  # cells of 4 pixels


def test_integrated_gradients_of_cubes_with_two_nodes_are_the_cubes() -> None:
    """Of Σ x³ two Gauss–Legendre nodes give x³ exactly; one node does not."""
    x = pictures(2, 3)
    assert_close(integrated_gradients(Cubes(), x, 0, num_steps=2), x**3)
    assert (integrated_gradients(Cubes(), x, 0, num_steps=1) - x**3).abs().max() > 0.1
    gap = completeness_gap(Cubes(), x, input_x_gradient(Cubes(), x, 0), 0)
    assert_close(gap, 2 * (x**3).sum(dim=(1, 2, 3)))  # of 3 x³, where there was x³


@pytest.mark.parametrize("baseline", [0.0, "mean", "blur"])
def test_integrated_gradients_are_complete(baseline: Any) -> None:
    """They sum to score(image) − score(baseline), the better the more steps there are."""
    model, x = odd(3), pictures(3, 3)
    gaps = []
    for num in (2, 20, 400):
        found = integrated_gradients(model, x, num_steps=num, baseline=baseline)
        gap = completeness_gap(model, x, found, baseline=baseline)
        gaps.append(float(gap.abs().max()))
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 1e-3
    assert float(integrated_gradients(model, x).abs().sum()) > 0.1


def test_grad_cam_of_a_net_with_a_global_mean_is_its_class_map() -> None:
    """Before its ReLU it is CAM / (h · w); after it, what is positive of that."""
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2), nn.ReLU(inplace=True))
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4)]
    model = nn.Sequential(features, *head).to(DOUBLE)
    x = pictures(3, 3, 9)
    maps = model[0](x).detach()
    wanted = torch.einsum("bchw,c->bhw", maps, model[3].weight[2].detach()) / 16
    assert last_map(model, x) == "0"  # and not the pooled one
    plain = {"target": 2, "upsample": False}
    assert_close(grad_cam(model, x, **plain, positive=False), wanted)
    assert_close(grad_cam(model, x, **plain), wanted.clamp(min=0))
    assert (wanted < 0).any()
    enlarged = grad_cam(model, x, 2, positive=False)
    assert enlarged.shape == (3, 9, 9)
    size = {"size": (9, 9), "mode": "bilinear", "align_corners": False}
    assert_close(enlarged, F.interpolate(wanted[:, None], **size)[:, 0])


def test_grad_cam_plus_plus_is_that_of_the_paper() -> None:
    """Its weights are those of equations 10 and 19 with the derivatives of exp(score)."""
    model, x = odd(), pictures()
    model.eval()
    with torch.no_grad():
        maps = model.relu(model.norm(model.stem(x - 0.1)))
    maps.requires_grad_()
    y = F.max_pool2d(model.a(maps).relu(), 2) + F.avg_pool2d(maps, 2)
    scores = model.head((y - 0.2).relu().mean((2, 3)))[:, 1]
    (g,) = torch.autograd.grad(scores.sum(), maps)
    exp = scores.detach().exp()[:, None, None, None]
    first, second, third = exp * g, exp * g**2, exp * g**3
    below = 2 * second + maps.sum(dim=(2, 3), keepdim=True) * third
    alpha = torch.where(below == 0, 0, second / below)
    weights = (alpha * first.clamp(min=0)).sum(dim=(2, 3), keepdim=True)
    wanted = ((weights * maps).sum(dim=1) / exp[:, 0]).detach()
    found = grad_cam_plus_plus(model, x, 1, layer="relu", upsample=False)
    assert_close(found, wanted)
    assert found.abs().max() > 1e-3
    # Before the ReLU the gradient is 0 where it is off, and what is below 0 does not count as A.
    before = model.norm(model.stem(x - 0.1)).detach()
    g = g * (before > 0)
    gains = g.clamp(min=0)
    weights = (gains / (2 + gains * maps.sum(dim=(2, 3), keepdim=True))).sum((2, 3), keepdim=True)
    options = {"layer": "norm", "upsample": False, "positive": False}
    assert_close(grad_cam_plus_plus(model, x, 1, **options), (weights * before).sum(1).detach())
    plain = (g.mean((2, 3), keepdim=True) * before).sum(dim=1)
    assert_close(grad_cam(model, x, 1, **options), plain)


SPELLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "module": nn.ReLU(),
    "module in place": nn.ReLU(inplace=True),
    "F.relu": F.relu,
    "F.relu in place": functools.partial(F.relu, inplace=True),
    "F.relu_": F.relu_,
    "torch.relu": lambda x: torch.relu(input=x),
    "torch.relu_": torch.relu_,
    "method": Tensor.relu,
    "method in place": Tensor.relu_,
}


def _statement(x: Tensor) -> Tensor:
    F.relu(x, True)
    return x


def _view(x: Tensor) -> Tensor:
    x.view(-1).relu_()
    return x


class Spelled(nn.Module):
    """Two layers, with a ReLU in some spelling before and after the second."""

    def __init__(self, relu: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(16, 12, dtype=DOUBLE), nn.Linear(12, 10, dtype=DOUBLE)
        self.relu = relu
        self.c = nn.Linear(10, 3, dtype=DOUBLE)

    def forward(self, x: Tensor) -> Tensor:
        """Return the answer (B, 3)."""
        return self.c(self.relu(self.b(self.relu(self.a(x.flatten(1))))))


@pytest.mark.parametrize(
    "relu", [*SPELLINGS.values(), _statement, _view], ids=[*SPELLINGS, "statement", "view"]
)
def test_all_spellings_of_relu_are_guided_alike(relu: Callable[[Tensor], Tensor]) -> None:
    """Guided backprop and deconvnet are those computed by hand, however a ReLU is called."""
    model, x = Spelled(relu), pictures(3, 1, 4)
    with torch.no_grad():
        first = model.a(x.flatten(1))
        second = model.b(first.clamp(min=0))
        above = model.c.weight[1].expand(3, -1)
        by_rule = {
            "guided": ((above.clamp(min=0) * (second > 0)) @ model.b.weight).clamp(min=0)
            * (first > 0),
            "deconvnet": (above.clamp(min=0) @ model.b.weight).clamp(min=0),
            "gradient": ((above * (second > 0)) @ model.b.weight) * (first > 0),
        }
        wanted = {rule: (grads @ model.a.weight).view_as(x) for rule, grads in by_rule.items()}
        answer = model(x)
    assert_close(guided_backprop(model, x, 1), wanted["guided"])
    assert_close(deconvnet(model, x, 1), wanted["deconvnet"])
    assert_close(saliency(model, x, 1), wanted["gradient"])
    with relu_rule("guided"):
        assert_close(model(x), answer)


def test_a_rule_of_ones_own_replaces_the_gradient_of_relus_only() -> None:
    """A rule is given the gradient above and where the ReLU is on; other functions keep theirs."""
    x = torch.tensor([2.0, -3.0], requires_grad=True)
    with relu_rule(lambda above, on: above + 10 * on):
        y = F.relu(x) + F.leaky_relu(x, 0.5) + x.clamp(min=0)
    (found,) = torch.autograd.grad(y.sum(), x)
    assert found.tolist() == [1 + 10 + 1 + 1, 1 + 0.5 + 0]
    (outside,) = torch.autograd.grad(F.relu(x).sum(), x)
    assert outside.tolist() == [1, 0]
    with pytest.raises(ValueError, match="rule: 'guide' is not accepted; accepted: gradient, gui"):
        relu_rule("guide")
    assert list(RULES) == ["gradient", "guided", "deconvnet"]


def test_a_unit_of_any_layer_is_explained() -> None:
    """The gradient of a unit, and of a channel's mean, at a chosen call, is that by hand."""
    model, x = odd(3), pictures(2, 3)
    at = x.clone().requires_grad_()
    model.eval()
    first = model.norm(model.stem(at - 0.1)).relu()
    second = model.a(first).relu()
    (unit,) = torch.autograd.grad(second[:, 5, 3, 4].sum(), at, retain_graph=True)
    (channel,) = torch.autograd.grad(first[:, 5].mean(dim=(1, 2)).sum(), at)
    assert unit.abs().max() > 0
    assert_close(saliency(model, x, (5, 3, 4), layer="relu@1"), unit)
    assert_close(saliency(model, x, 5, layer="relu"), channel)
    found = integrated_gradients(model, x, (5, 3, 4), layer="relu@1", num_steps=300)
    gap = completeness_gap(model, x, found, (5, 3, 4), layer="relu@1")
    assert gap.abs().max() < 2e-3
    plain = grad_cam(model, x, 3, layer="stem", of="norm", positive=False, upsample=False)
    scale = model.norm.weight / (model.norm.running_var + model.norm.eps).sqrt()
    assert_close(plain, (scale[3] * model.stem(x - 0.1)[:, 3] / 64).detach())
    assert (second[:, 5, 3, 4] > 0).any()


def test_the_last_map_of_a_reused_layer_names_its_call() -> None:
    """Without a layer, Grad-CAM takes the last call that puts out maps of more than a place."""
    model, x = odd(), pictures()
    assert last_map(model, x) == "relu@1"
    assert torch.equal(grad_cam(model, x), grad_cam(model, x, layer="relu@1"))
    assert not torch.equal(grad_cam(model, x), grad_cam(model, x, layer="relu"))


def test_an_explanation_keeps_to_the_class_of_the_image() -> None:
    """With no target, a masked, noisy or empty image is scored by the class of the whole one."""
    model, x = odd(), 3 * pictures(4)
    model.eval()
    numbers = model(x.clone()).argmax(dim=1)
    assert (model(0 * x).argmax(dim=1) != numbers).any()
    for name, method in QUICK.items():
        assert_close(method(model, x), method(model, x, numbers), msg=name)
        assert_close(method(model, x), method(model, x, numbers.tolist()), msg=name)


@pytest.mark.parametrize("name", QUICK)
def test_batches_and_company_change_nothing(name: str) -> None:
    """Maps do not depend on the batch size, nor on which images are explained together."""
    model, x = odd(3), pictures(3, 3)
    whole = QUICK[name](model, x, 2)
    assert whole.shape in {(3, 3, 8, 8), (3, 8, 8)}
    assert whole.dtype == DOUBLE
    assert not whole.requires_grad
    assert whole.abs().max() > 0
    assert_close(QUICK[name](model, x, 2, batch_size=2), whole)
    assert_close(QUICK[name](model, x[1], 2), whole[1:2])
    assert_close(QUICK[name](model, x.numpy(), 2), whole)


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("fails", [False, True])
def test_explaining_changes_nothing(name: str, fails: bool) -> None:
    """Weights, modes, gradients, hooks, random state and images stay, also on an exception."""
    model, x = odd(), pictures()
    model.a.eval()
    held = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    grads = [parameter.grad for parameter in model.parameters()]
    before, images = torch.get_rng_state(), x.clone()
    if fails:
        with pytest.raises(ValueError, match="target: channel 4 does not exist; accepted: 0 to 3"):
            QUICK[name](model, x, 4)
    else:
        QUICK[name](model, x)
    assert all(torch.equal(held[key], value) for key, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert all(
        p.grad is grad and (grad == 1).all()
        for p, grad in zip(model.parameters(), grads, strict=True)
    )
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())
    assert "forward" not in vars(model)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(x, images)


def test_the_seed_alone_decides_what_is_random() -> None:
    """The same seed gives the same map, another seed another."""
    model, x = odd(), pictures(1)
    for name in ("smooth_grad", "rise"):
        first, again, other = (QUICK[name](model, x, 1, seed=seed) for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.allclose(first, other)


def test_smooth_grad_is_of_any_method() -> None:
    """Without noise it is the method itself; with noise, the mean over the same noisy images."""
    model, x = odd(), pictures(2)
    cam = functools.partial(grad_cam, layer="stem", positive=False)
    assert_close(smooth_grad(model, x, 1, method=cam, noise=0, num_samples=2), cam(model, x, 1))
    draws = np.random.default_rng(4).standard_normal((5, 1, 8, 8))
    scale = 0.2 * (x[1].max() - x[1].min())
    noisy = x[1] + scale * torch.as_tensor(draws)
    wanted = guided_backprop(model, noisy, 1).mean(dim=0)
    options = {"num_samples": 5, "noise": 0.2, "seed": 4, "batch_size": 3}
    found = smooth_grad(model, x, 1, method=guided_backprop, **options)
    assert_close(found[1], wanted)


class Argmax(nn.Module):
    """Answers without a derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return the answer (B, 2)."""
        return (self.conv(x) > 0).double().mean((2, 3))


@pytest.mark.parametrize(
    ("method", "settings", "words"),
    [
        (saliency, {"layer": "sten"}, "'sten' is no layer of the Odd; .* did you mean 'stem'"),
        (saliency, {"layer": "stem"}, "target: None is not accepted for an output of shape"),
        (saliency, {"target": [0, 1]}, r"target: torch.int64 of shape \(2,\) does not go with 3"),
        (saliency, {"batch_size": 0}, "batch_size: 0 is not accepted; accepted: 1 or more"),
        (integrated_gradients, {"num_steps": 0}, "num_steps: 0 is not accepted"),
        (integrated_gradients, {"baseline": "gray"}, "baseline: 'gray' .* a number, mean, blur"),
        (integrated_gradients, {"baseline": np.ones((2, 1, 8, 8))},
         r"baseline: shape \(2, 1, 8, 8\) does not go with images \(3, 1, 8, 8\)"),
        (smooth_grad, {"num_samples": 0}, "num_samples: 0 is not accepted"),
        (smooth_grad, {"noise": -0.1}, "noise: -0.1 is not accepted; accepted: 0 or more"),
        (grad_cam, {"layer": "head"}, r"layer: 'head' puts out \(3, 4\); accepted: layers that"),
        (grad_cam, {"layer": "relu@7"}, "layer: 'relu@7' was not called while the model ran"),
        (grad_cam, {"layer": "stem", "of": "relu@7", "target": 0}, "'relu@7' was not called"),
        (grad_cam, {"layer": "stem", "of": "stem", "target": 0}, "of: 'stem' is the layer itself"),
        (grad_cam, {"layer": "a", "of": "stem", "target": 0},
         "target: the score has no gradient with respect to 'a'"),
        (occlusion_map, {"window": 9}, "window: 9 is not accepted; accepted: 1 to 8 rows, 1 to 8"),
        (occlusion_map, {"window": (5, 3, 4)}, r"window: \(5, 3, 4\) is not accepted"),
        (occlusion_map, {"stride": 4}, "stride: 4 is not accepted; accepted: 1 to 3 rows"),
        (occlusion_map, {"within": torch.ones(7, 8)}, r"within: shape \(7, 8\) is not accepted"),
        (rise, {"num_masks": 1}, "num_masks: 1 is not accepted; accepted: 2 or more"),
        (rise, {"keep": 1.0}, "keep: 1.0 is not accepted; accepted: between 0 and 1"),
        (rise, {"grid": (9, 4)}, r"grid: \(9, 4\) is not accepted; accepted: 1 to 8 rows"),
        (attributions, {"methods": ["grad_cams"]}, "methods: 'grad_cams' .* mean 'grad_cam'"),
        (attributions, {"methods": ["grad_cam"], "layer": "a", "target": 1}, "'grad_cam' is not"),
    ],
)  # fmt: skip
def test_mistakes_are_named(method: Any, settings: dict[str, Any], words: str) -> None:
    """An error names the argument, its value and what is accepted."""
    with pytest.raises(ValueError, match=words):
        method(odd(), pictures(), **settings)


def test_scores_without_a_derivative_are_named() -> None:
    """A model that thresholds has no gradient; occlusion needs none."""
    x = pictures(2)
    for method in (saliency, guided_backprop, integrated_gradients, grad_cam):
        with pytest.raises(ValueError, match="target: the score has no gradient with respect to"):
            method(Argmax(), x, 1)
    assert occlusion_map(Argmax(), x, 1).abs().max() > 0
    with pytest.raises(ValueError, match="no layer of the Sequential puts out feature maps"):
        grad_cam(linear()[0], pictures(1, 2, 4))
    with pytest.raises(ValueError, match="attributions: are of 1 images; accepted: of the 2"):
        completeness_gap(Cubes(), x, x[:1], 0)


def test_methods_stand_beside_each_other() -> None:
    """A record has a signed map for each image and method, and a picture with all of them."""
    model, x = odd(3), pictures(2, 3)
    names = [name for name in METHODS if name not in SMALL]
    found = attributions(model, x, [1, 3], methods=names, labels=["a", "b", "c", "d"])
    assert found.targets == ("b", "d")
    assert list(found.maps) == names
    np.testing.assert_allclose(found.maps["saliency"], saliency(model, x, [1, 3]).sum(dim=1))
    model.eval()
    np.testing.assert_allclose(found.scores, model(x.clone())[[0, 1], [1, 3]].detach())
    figure = draw(found)
    titles = [axes.get_title() for axes in figure.axes[: 1 + len(names)]]
    assert titles == ["image", *(TITLES.get(name, name) for name in names)]
    assert len(figure.axes) == 2 * (1 + len(names))
    assert figure.axes[0].get_ylabel() == f"b\nscore {found.scores[0]:.3g}"
    assert figure.axes[0].images[0].get_array().shape == (8, 8, 3)
    assert "speaks for the answer" in caption(found)
    assert text(found).splitlines()[1].split()[0] == "b"


def test_every_method_explains_a_unit_too() -> None:
    """Without names all methods are taken; of a unit, those that need no layer of their own."""
    model, x = odd(), pictures(1)
    found = attributions(model, x, (5, 3, 4), layer="relu@1")
    assert set(METHODS) - set(found.maps) == {"grad_cam", "grad_cam_plus_plus"}
    assert found.targets == ("relu@1: (5, 3, 4)",)
    assert abs(found.maps["rise"].mean()) < 1e-12
    own = attributions(model, x, 1, methods={"twice": lambda m, i, t: 2 * saliency(m, i, t)})
    np.testing.assert_array_equal(own.maps["twice"], 2 * saliency(model, x, 1).sum(dim=1))
