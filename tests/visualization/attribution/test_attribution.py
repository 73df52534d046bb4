"""Attributions by gradients and maps, against models whose answers are known."""

import functools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib.text import Text
from torch import Tensor, nn

from tests.helpers.attribution import DOUBLE, SMALL, Cubes, assert_close, linear, odd, pictures
from visualization.attribution.cams import grad_cam, grad_cam_plus_plus, last_feature_map
from visualization.attribution.figures import TITLES
from visualization.attribution.gradients import (
    deconvnet,
    guided_backprop,
    input_x_gradient,
    integrated_gradients,
    saliency,
    smooth_grad,
)
from visualization.attribution.masking import occlusion_map, replacement
from visualization.attribution.methods import METHODS, attributions
from visualization.core.inputs import inspection_mode
from visualization.core.registry import caption, draw, text
from visualization.core.targets import resolve_target


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


def completeness_gap(
    model: nn.Module, x: Tensor, attributions: Tensor, target: Any = None, **options: Any
) -> Tensor:
    """Return the sum of attributions, minus score(image) − score(baseline) (B,)."""
    baseline = options.pop("baseline", 0.0)
    with inspection_mode(model), torch.no_grad():
        score = resolve_target(model, x, target, options.get("target_layer"), None)
        other = replacement(x, baseline, model, "baseline")
        gains = score.on_images(x) - score.on_images(other)
    return attributions.flatten(1).sum(dim=1) - gains


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
    assert last_feature_map(model, x) == "0"  # and not the pooled one
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
    found = grad_cam_plus_plus(model, x, 1, cam_layer="relu", upsample=False)
    assert_close(found, wanted)
    assert found.abs().max() > 1e-3
    # Before the ReLU the gradient is 0 where it is off, and what is below 0 does not count as A.
    before = model.norm(model.stem(x - 0.1)).detach()
    g = g * (before > 0)
    gains = g.clamp(min=0)
    weights = (gains / (2 + gains * maps.sum(dim=(2, 3), keepdim=True))).sum((2, 3), keepdim=True)
    options = {"cam_layer": "norm", "upsample": False, "positive": False}
    assert_close(grad_cam_plus_plus(model, x, 1, **options), (weights * before).sum(1).detach())
    plain = (g.mean((2, 3), keepdim=True) * before).sum(dim=1)
    assert_close(grad_cam(model, x, 1, **options), plain)


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
    assert_close(saliency(model, x, (5, 3, 4), target_layer="relu@1"), unit)
    assert_close(saliency(model, x, 5, target_layer="relu"), channel)
    found = integrated_gradients(model, x, (5, 3, 4), target_layer="relu@1", num_steps=300)
    gap = completeness_gap(model, x, found, (5, 3, 4), target_layer="relu@1")
    assert gap.abs().max() < 2e-3
    plain = grad_cam(
        model, x, 3, cam_layer="stem", target_layer="norm", positive=False, upsample=False
    )
    scale = model.norm.weight / (model.norm.running_var + model.norm.eps).sqrt()
    assert_close(plain, (scale[3] * model.stem(x - 0.1)[:, 3] / 64).detach())
    assert (second[:, 5, 3, 4] > 0).any()


def test_the_last_map_of_a_reused_layer_names_its_call() -> None:
    """Without a layer, Grad-CAM takes the last call that outputs maps of more than a place."""
    model, x = odd(), pictures()
    assert last_feature_map(model, x) == "relu@1"
    assert torch.equal(grad_cam(model, x), grad_cam(model, x, cam_layer="relu@1"))
    assert not torch.equal(grad_cam(model, x), grad_cam(model, x, cam_layer="relu"))


def test_smooth_grad_is_of_any_method() -> None:
    """Without noise it is the method itself; with noise, the mean over the same noisy images."""
    model, x = odd(), pictures(2)
    cam = functools.partial(grad_cam, cam_layer="stem", positive=False)
    assert_close(smooth_grad(model, x, 1, method=cam, noise=0, num_samples=2), cam(model, x, 1))
    draws = np.random.default_rng(4).standard_normal((5, 1, 8, 8))
    scale = 0.2 * (x[1].max() - x[1].min())
    noisy = x[1] + scale * torch.as_tensor(draws)
    wanted = guided_backprop(model, noisy, 1).mean(dim=0)
    options = {"num_samples": 5, "noise": 0.2, "seed": 4, "batch_size": 3}
    found = smooth_grad(model, x, 1, method=guided_backprop, **options)
    assert_close(found[1], wanted)


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
    (axes,) = (figure := draw(found)).axes
    assert len(axes.images) == 2 * (2 + len(names))  # in two bands, each with the images
    words = [" ".join(each.get_text().split()) for each in figure.findobj(Text)]
    titles = {" ".join(TITLES.get(name, name).split()) for name in names}
    assert titles | {"image", f"b score {found.scores[0]:.3g}"} <= set(words)
    assert axes.images[0].get_array().shape == (8, 8, 3)
    assert "speaks for the answer" in caption(found)
    assert text(found).splitlines()[1].split()[0] == "b"


def test_every_method_explains_a_unit_too() -> None:
    """Without names all methods are taken; of a unit, those that need no layer of their own."""
    model, x = odd(), pictures(1)
    found = attributions(model, x, (5, 3, 4), target_layer="relu@1")
    assert set(METHODS) - set(found.maps) == {
        "grad_cam", "grad_cam_plus_plus", "layer_cam", "score_cam", "guided_grad_cam"
    }  # fmt: skip
    assert found.targets == ("relu@1: (5, 3, 4)",)
    assert abs(found.maps["rise"].mean()) < 1e-12
    own = attributions(model, x, 1, methods={"twice": lambda m, i, t: 2 * saliency(m, i, t)})
    np.testing.assert_array_equal(own.maps["twice"], 2 * saliency(model, x, 1).sum(dim=1))
