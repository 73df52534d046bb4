"""Attributions beside those of captum 0.9, equal where captum is right."""

import functools
import itertools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visualization.attribution.cams import grad_cam
from visualization.attribution.gradients import (
    deconvnet,
    guided_backprop,
    input_x_gradient,
    integrated_gradients,
    saliency,
)
from visualization.attribution.masking import occlusion_map
from visualization.attribution.relevance import rules
from visualization.attribution.relevance.composites import LrpComposite
from visualization.attribution.relevance.lrp import lrp

captum = pytest.importorskip("captum.attr")

# captum tells of the hooks that it sets, and of inputs that it makes ask for gradients.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations:UserWarning"),
    pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require:UserWarning"),
]

TARGETS = torch.tensor([0, 3, 1, 2])
assert_close = functools.partial(torch.testing.assert_close, rtol=1e-5, atol=1e-6)


class Net(nn.Module):
    """A residual net with BatchNorm, whose ReLUs are modules, in place or not, or functions."""

    def __init__(self, kind: str, channels: int = 3) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.kind = kind
        self.stem = nn.Conv2d(channels, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.a = nn.Conv2d(8, 8, 3, padding=1)
        self.first, self.second = (nn.ReLU(kind == "in place") for _ in range(2))
        self.head = nn.Linear(8, 4)
        with torch.no_grad():
            self.head.weight.mul_(100)  # so that no map is small beside the tolerance
            self.norm.running_mean.normal_()
            self.norm.running_var.uniform_(0.5, 2)
        self.eval()

    def relu(self, x: Tensor, number: int) -> Tensor:
        """Return max(x, 0), in one of three ways."""
        return F.relu(x) if self.kind == "function" else (self.first, self.second)[number](x)

    def forward(self, x: Tensor) -> Tensor:
        """Return the answer (B, 4)."""
        x = self.relu(self.norm(self.stem(x)), 0)
        return self.head(self.relu(self.a(x) + x, 1).mean((2, 3)))


class Before(Net):
    """A residual net of which the ReLU comes first: what it reads goes on beside it."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the answer (B, 4)."""
        x = self.stem(x)
        return self.head(
            (self.a(self.relu(self.norm(x) - 0.1, 0)) + self.relu(x, 1) - x).mean((2, 3))
        )


class Reused(Net):
    """Uses a layer and a ReLU several times."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the answer (B, 4)."""
        x = self.relu(self.norm(self.stem(x)), 0)
        y = self.relu(self.a(x), 0)
        return self.head(self.relu(self.a(y) - x, 0).mean((2, 3)))


def pictures(channels: int = 3) -> Tensor:
    """Return random images (B, C, 8, 8)."""
    return torch.randn(4, channels, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        *itertools.product([Net, Reused], ["module", "in place", "function"]),
        *itertools.product([Before], ["module", "function"]),  # in place would be another net
    ],
)
def test_gradients_are_those_of_captum(make: Callable[..., Net], kind: str, channels: int) -> None:
    """Gradient, gradient × input and integrated gradients are equal on every net."""
    model, x = make(kind, channels), pictures(channels)
    plain = captum.Saliency(model).attribute(x, target=TARGETS, abs=False)
    assert_close(saliency(model, x, TARGETS), plain)
    times = captum.InputXGradient(model).attribute(x, target=TARGETS)
    assert_close(input_x_gradient(model, x, TARGETS), times)
    other = torch.full_like(x, 0.2)
    settings = {"n_steps": 12, "method": "gausslegendre"}
    way = captum.IntegratedGradients(model).attribute(x, other, TARGETS, **settings)
    assert_close(integrated_gradients(model, x, TARGETS, baseline=0.2, num_steps=12), way)
    assert plain.abs().max() > 0.05


@pytest.mark.parametrize(
    ("window", "stride"), [((3, 3), (1, 1)), ((4, 3), (3, 2)), ((8, 5), (8, 5))]
)
def test_occlusion_is_that_of_captum(window: tuple[int, int], stride: tuple[int, int]) -> None:
    """Windows that hide all channels, cut at the border, give captum's means, once per pixel."""
    model, x = Net("function"), pictures()
    settings = {"sliding_window_shapes": (3, *window), "strides": (3, *stride), "baselines": 0.3}
    wanted = captum.Occlusion(model).attribute(x, target=TARGETS, **settings)
    found = occlusion_map(model, x, TARGETS, window=window, stride=stride, fill=0.3)
    assert_close(found, wanted[:, 0])  # captum repeats it in each channel
    assert found.abs().max() > 0.05


@pytest.mark.parametrize("layer", ["stem", "norm", "a", "first", "second"])
@pytest.mark.parametrize("kind", ["module", "in place"])
def test_grad_cam_is_that_of_captum(kind: str, layer: str) -> None:
    """The sums of maps are equal at each layer, before and after the ReLU, also enlarged."""
    model, x = Net(kind), pictures()
    cam = captum.LayerGradCam(model, getattr(model, layer))
    wanted = cam.attribute(x, target=TARGETS)
    found = grad_cam(model, x, TARGETS, cam_layer=layer, positive=False, upsample=False)
    assert_close(found, wanted[:, 0])
    positive = cam.attribute(x, target=TARGETS, relu_attributions=True)
    assert_close(grad_cam(model, x, TARGETS, cam_layer=layer, upsample=False), positive[:, 0])
    assert found.abs().max() > 0.05


def test_grad_cam_of_one_call_of_a_layer() -> None:
    """Of a layer that runs twice captum means the last call only; here each call can be meant."""
    model, x = Reused("module"), pictures()
    wanted = captum.LayerGradCam(model, model.a).attribute(x, target=TARGETS)[:, 0]
    first, second = (
        grad_cam(model, x, TARGETS, cam_layer=layer, positive=False, upsample=False)
        for layer in ("a", "a@1")
    )
    assert_close(second, wanted)
    assert (first - wanted).abs().max() > 0.05


@pytest.mark.parametrize("make", [Net, Reused])
@pytest.mark.parametrize("kind", ["module", "in place"])
def test_guided_backprop_and_deconvnet_are_those_of_captum(
    make: Callable[..., Net], kind: str
) -> None:
    """Where all ReLUs are modules whose input nothing else reads, both are equal."""
    model, x = make(kind), pictures()
    guided = captum.GuidedBackprop(model).attribute(x, target=TARGETS)
    assert_close(guided_backprop(model, x, TARGETS), guided)
    assert_close(
        deconvnet(model, x, TARGETS), captum.Deconvolution(model).attribute(x, target=TARGETS)
    )
    assert (guided - saliency(model, x, TARGETS)).abs().max() > 0.05


def test_captum_misses_relus_that_are_functions() -> None:
    """With F.relu captum's two are silently the plain gradient; here they are as with modules."""
    model, modules, x = Net("function"), Net("module"), pictures()
    modules.load_state_dict(model.state_dict())
    plain = saliency(model, x, TARGETS)
    for ours, theirs in (
        (guided_backprop, captum.GuidedBackprop), (deconvnet, captum.Deconvolution),
    ):  # fmt: skip
        assert_close(theirs(model).attribute(x, target=TARGETS), plain)
        assert_close(ours(model, x, TARGETS), theirs(modules).attribute(x, target=TARGETS))
        assert (ours(model, x, TARGETS) - plain).abs().max() > 0.05


def test_captum_changes_gradients_beside_a_relu() -> None:
    """Where a ReLU's input is read elsewhere too, captum changes the gradient of that as well.

    Its hook sits on the input, at which the gradients of all that read it come together. The right
    answer is that of a net whose ReLU reads a copy, and this is ours with and without the copy.
    """
    model, x = Before("module"), pictures()
    copying = Before("module")
    copying.second = nn.Sequential(nn.Identity(), nn.ReLU())
    copying.second[0].forward = lambda x: 1 * x
    for ours, theirs in (
        (guided_backprop, captum.GuidedBackprop), (deconvnet, captum.Deconvolution),
    ):  # fmt: skip
        right = theirs(copying).attribute(x, target=TARGETS)
        assert_close(ours(copying, x, TARGETS), right)
        assert_close(ours(model, x, TARGETS), right)
        assert (theirs(model).attribute(x, target=TARGETS) - right).abs().max() > 0.05


class Chain(nn.Module):
    """A net without branches, which captum's LRP takes; flattening is no module there."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 6, 2), nn.ReLU(),
            nn.AvgPool2d(2),
        )  # fmt: skip
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return the answer (B, 4)."""
        return self.head(self.body(x).flatten(1))


def test_relevance_is_that_of_captum() -> None:
    """Of a chain of modules, with biases, LRP-ε is equal; captum refuses residual networks."""
    model, x = Chain().double(), pictures().double()
    epsilon = rules.Epsilon(epsilon=1e-9)  # captum's own
    found = lrp(model, x, TARGETS, composite=LrpComposite(convolution=epsilon, linear=epsilon))
    wanted = captum.LRP(model).attribute(x.requires_grad_(), target=TARGETS).detach()
    assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    assert wanted.abs().max() > 1e-3
