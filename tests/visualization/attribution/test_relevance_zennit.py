"""Relevance beside that of zennit and of captum, equal where these are right."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.helpers.attribution import DOUBLE
from visualization.attribution.relevance import rules
from visualization.attribution.relevance.composites import COMPOSITES, LrpComposite
from visualization.attribution.relevance.lrp import lrp

zennit = pytest.importorskip("zennit", reason="zennit, the oracle, is of the dev extra")
from zennit import canonizers, composites, layer, types  # noqa: E402 - after it is known to be there
from zennit import rules as zennit_rules  # noqa: E402
from zennit.attribution import Gradient  # noqa: E402

TARGETS = torch.tensor([0, 3, 1, 2])
assert_close = functools.partial(torch.testing.assert_close, rtol=1e-6, atol=1e-9)


class Plain(nn.Module):
    """Convolutions with stride, groups and biases, both kinds of pooling, two linear layers."""

    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            *([nn.BatchNorm2d(6)] if norm else []),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, stride=2, padding=1, groups=2, bias=not norm),
            *([nn.BatchNorm2d(8)] if norm else []),
            nn.LeakyReLU(0.1),
            nn.AvgPool2d(2),
            nn.Flatten(),
        )
        self.head = nn.Sequential(nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 4))

    def forward(self, x: Tensor) -> Tensor:
        """Return the answer (B, 4)."""
        return self.head(self.features(x))


class Residual(nn.Module):
    """A residual block with batch norms, and a transposed convolution beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6))
        self.relu = nn.ReLU()
        self.block = nn.Sequential(
            nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(),
            nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6),
        )  # fmt: skip
        self.up = nn.ConvTranspose2d(6, 6, 2, stride=2)
        self.add = layer.Sum()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return the answer (B, 4)."""
        x = self.relu(self.stem(x))
        x = self.relu(self.add(torch.stack([self.block(x), x], dim=-1)))
        return self.head(self.pool(self.up(x)).flatten(1))


def made(make: Callable[[], nn.Module]) -> nn.Module:
    """Return a network with norms that do something, and no small map."""
    torch.manual_seed(2)
    model = make().to(DOUBLE).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                module.weight.normal_()
                module.bias.normal_()
                module.eps = 1e-12  # zennit leaves the norm's own in the folded network
    return model


def pictures() -> Tensor:
    """Return random images (4, 3, 8, 8)."""
    source = torch.Generator().manual_seed(0)
    return torch.randn(4, 3, 8, 8, generator=source, dtype=DOUBLE)


def oracle(model: nn.Module, x: Tensor, composite: Any) -> Tensor:
    """Return zennit's relevance of the targets."""
    picked = torch.eye(4, dtype=DOUBLE)[TARGETS]
    with Gradient(model, composite) as attributor:
        return attributor(x.clone(), lambda output: output.detach() * picked)[1].detach()


RULES = {
    "epsilon": (rules.Epsilon(epsilon=0.3), zennit_rules.Epsilon(epsilon=0.3)),
    "epsilon without bias": (
        rules.Epsilon(bias=False), zennit_rules.Epsilon(zero_params=["bias"])
    ),
    "gamma": (rules.Gamma(gamma=0.4), zennit_rules.Gamma(gamma=0.4)),
    "z plus": (rules.z_plus(), zennit_rules.ZPlus()),
    "alpha beta": (rules.AlphaBeta(alpha=3, beta=2), zennit_rules.AlphaBeta(alpha=3, beta=2)),
    "alpha beta without bias": (
        rules.AlphaBeta(bias=False), zennit_rules.AlphaBeta(zero_params=["bias"])
    ),
    "box": (rules.ZBox(low=-3, high=4), zennit_rules.ZBox(low=-3.0, high=4.0)),
    "flat": (rules.Flat(), zennit_rules.Flat()),
    "w square": (rules.WSquare(), zennit_rules.WSquare()),
    "w square without bias": (
        rules.WSquare(bias=False), zennit_rules.WSquare(zero_params=["bias"])
    ),
}  # fmt: skip
MODELS: dict[str, Callable[[], nn.Module]] = {
    "plain": Plain, "norms": functools.partial(Plain, norm=True), "residual": Residual
}  # fmt: skip


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize(("ours", "theirs"), RULES.values(), ids=RULES)
def test_each_rule_is_that_of_zennit(ours: Any, theirs: Any, make: Callable[[], nn.Module]) -> None:
    """With one rule on every linear layer relevance is equal, batch norms folded, sums too."""
    model, x = made(make), pictures()
    everywhere = composites.LayerMapComposite(
        [*composites.layer_map_base(), (types.Linear, theirs)],
        canonizers=[canonizers.SequentialMergeBatchNorm()],
    )
    wanted = oracle(model, x, everywhere)
    composite = LrpComposite(convolution=ours, linear=ours)
    found = lrp(model, x, TARGETS, composite=composite)
    assert wanted.abs().max() > 1e-4
    assert_close(found, wanted)


NAMED = {
    "epsilon_plus": composites.EpsilonPlus,
    "epsilon_plus_flat": composites.EpsilonPlusFlat,
    "epsilon_alpha2_beta1": composites.EpsilonAlpha2Beta1,
    "epsilon_alpha2_beta1_flat": composites.EpsilonAlpha2Beta1Flat,
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("name", [*NAMED, "epsilon_gamma_box"])
def test_each_composite_is_that_of_zennit(name: str, make: Callable[[], nn.Module]) -> None:
    """By name it is the composite that zennit calls so."""
    model, x = made(make), pictures()
    merge = [canonizers.SequentialMergeBatchNorm()]
    if name == "epsilon_gamma_box":
        low = x.amin((1, 2, 3), keepdim=True).expand_as(x)
        high = x.amax((1, 2, 3), keepdim=True).expand_as(x)
        wanted = torch.cat(
            [
                oracle_of_one(model, x, number, composites.EpsilonGammaBox(
                    low=low[number : number + 1], high=high[number : number + 1], canonizers=merge))
                for number in range(4)
            ]
        )  # fmt: skip
    else:
        wanted = oracle(model, x, NAMED[name](canonizers=merge))
    assert wanted.abs().max() > 1e-4
    assert_close(lrp(model, x, TARGETS, composite=COMPOSITES[name]), wanted)


def oracle_of_one(model: nn.Module, x: Tensor, number: int, composite: Any) -> Tensor:
    """Return zennit's relevance of one image."""
    picked = torch.eye(4, dtype=DOUBLE)[TARGETS[number]]
    with Gradient(model, composite) as attributor:
        images = x[number : number + 1].clone()
        return attributor(images, lambda output: output.detach() * picked)[1].detach()
