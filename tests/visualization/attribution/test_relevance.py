"""Layer-wise relevance propagation: conservation, known answers, every spelling of a network."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.helpers.attribution import DOUBLE, assert_close, linear, odd, pictures
from visualization.attribution.gradients import input_x_gradient
from visualization.attribution.methods import METHODS, attributions
from visualization.attribution.relevance import rules
from visualization.attribution.relevance.balance import relevance_balance
from visualization.attribution.relevance.composites import COMPOSITES, LrpComposite
from visualization.attribution.relevance.lrp import lrp
from visualization.attribution.relevance.propagation import NoRule
from visualization.attribution.sanity import randomisation_check
from visualization.core.registry import caption, draw, text

PLUS, EPSILON = rules.z_plus(bias=False), rules.Epsilon(bias=False)
BIAS_FREE: dict[str, LrpComposite] = {
    **{
        name: LrpComposite(convolution=rule, linear=EPSILON)
        for name, rule in {
            "epsilon": EPSILON, "gamma": rules.Gamma(bias=False), "z plus": PLUS,
        }.items()
    },
    **{
        name: LrpComposite(convolution=PLUS, linear=EPSILON, first=rule)
        for name, rule in {
            "box": rules.ZBox(), "box of given bounds": rules.ZBox(low=-4, high=4),
            "flat": rules.Flat(), "w square": rules.WSquare(bias=False),
        }.items()
    },
}  # fmt: skip


def everywhere(rule: rules.Rule) -> LrpComposite:
    """Return the composite of one rule."""
    return LrpComposite(convolution=rule, linear=rule)


class Modules(nn.Module):
    """A net of modules: two branches that are joined, a residual sum, both poolings, a norm."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.stem = nn.Conv2d(2, 4, 3, padding=1, bias=bias)
        self.norm = nn.BatchNorm2d(4)
        self.one = nn.Conv2d(4, 4, 3, padding=1, bias=bias)
        self.wide, self.narrow = (nn.Conv2d(4, 3, size, padding=size // 2, bias=bias)
                                  for size in (3, 1))  # fmt: skip
        self.hidden, self.head = nn.Linear(24, 6, bias=bias), nn.Linear(6, 3, bias=bias)
        self.relu, self.pool = nn.ReLU(inplace=True), nn.MaxPool2d(2)
        self.mean, self.flat = nn.AvgPool2d(2), nn.Flatten()
        with torch.no_grad():
            self.norm.running_var.uniform_(0.5, 2)
            if bias:
                self.norm.running_mean.normal_()
                self.norm.bias.normal_()
        self.to(DOUBLE).eval()

    def forward(self, x: Tensor) -> Tensor:
        """Return the answer (B, 3)."""
        x = self.relu(self.norm(self.stem(x)))
        x = self.pool(x + self.relu(self.one(x)))
        x = self.relu(torch.cat([self.wide(x), self.narrow(x)], dim=1))
        return self.head(self.relu(self.hidden(self.flat(self.mean(x)))))


class Functions(Modules):
    """The same net in functions, methods and operators, in place where they can be."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the answer (B, 3)."""
        norm = self.norm
        x = F.conv2d(x, self.stem.weight, self.stem.bias, padding=1)
        x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        y = F.conv2d(input=x.relu_(), weight=self.one.weight, bias=self.one.bias, padding="same")
        y = torch.relu(y)
        y += x
        x = F.max_pool2d(y, 2)
        wide = F.conv2d(x, self.wide.weight, self.wide.bias, 1, 1)
        narrow = F.conv2d(x, self.narrow.weight, self.narrow.bias)
        x = F.relu(torch.concat((wide, narrow), 1), inplace=True)
        x = F.avg_pool2d(x, 2).reshape(len(x), -1)
        x = F.linear(x, self.hidden.weight, self.hidden.bias).clamp_(min=0)
        return F.linear(x, self.head.weight, bias=self.head.bias)


def images(num: int = 3) -> Tensor:
    """Return random images (num, 2, 8, 8)."""
    return pictures(num, 2)


@pytest.mark.parametrize("composite", BIAS_FREE.values(), ids=BIAS_FREE)
@pytest.mark.parametrize("make", [Modules, Functions])
def test_relevance_is_conserved(make: Callable[[], nn.Module], composite: LrpComposite) -> None:
    """Where biases get no share, the pixels' relevance sums to the score, for each rule."""
    model, x = make(), images()
    found = lrp(model, x, 1, composite=composite)
    assert_close(found.flatten(1).sum(dim=1), model(x)[:, 1].detach(), rtol=1e-3, atol=1e-5)
    assert found.abs().flatten(1).sum(dim=1).min() > 0.01


@pytest.mark.parametrize("name", COMPOSITES)
def test_functions_are_as_modules(name: str) -> None:
    """The same network written in functions, methods and operators has the same relevance."""
    modules, functions, x = Modules(), Functions(), images()
    assert_close(functions(x), modules(x))
    wanted = lrp(modules, x, 1, composite=name)
    assert wanted.abs().max() > 1e-4
    assert_close(lrp(functions, x, 1, composite=name), wanted)


@pytest.mark.parametrize("changes", ["relu", "residual"])
@pytest.mark.parametrize("name", COMPOSITES)
def test_a_norm_after_a_change_in_place_is_not_folded(name: str, changes: str) -> None:
    """What is written over a convolution's output has the relevance of its twin beside it."""
    modules = Modules()

    class Net(nn.Module):
        def __init__(self, in_place: bool) -> None:
            super().__init__()
            self.layers, self.in_place = modules, in_place

        def forward(self, x: Tensor) -> Tensor:
            y = self.layers.relu(self.layers.stem(x))
            z = self.layers.one(y)
            if changes == "relu":
                z = F.relu(z, inplace=self.in_place)
            elif self.in_place:
                z += y
            else:
                z = z + y
            return self.layers.head(self.layers.relu(self.layers.norm(z)[:, :, 2, 2] @ mix))

    mix = torch.randn(
        modules.norm.num_features, modules.head.in_features, dtype=DOUBLE,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    twin, net, x = Net(False), Net(True), images()
    assert_close(net(x), twin(x))
    assert_close(lrp(net, x, 1, composite=name), lrp(twin, x, 1, composite=name))


def test_without_biases_small_epsilon_gives_input_times_gradient() -> None:
    """LRP-0 of a piecewise linear network without biases is gradient × input, whatever its form."""
    model, x = Modules(bias=False), images()
    zero = everywhere(rules.Epsilon(epsilon=1e-12))
    found = lrp(model, x, 1, composite=zero)
    assert_close(found, input_x_gradient(model, x, 1), rtol=1e-3, atol=1e-5)
    assert_close(found.flatten(1).sum(1), model(x)[:, 1].detach(), rtol=1e-3, atol=1e-5)
    absorbing = lrp(model, x, 1, composite=everywhere(rules.Epsilon(epsilon=0.5)))
    assert (absorbing.flatten(1).sum(dim=1).abs() < found.flatten(1).sum(dim=1).abs()).all()


def test_a_linear_model_is_explained_by_its_weights() -> None:
    """Every composite gives w · x where the one layer has the rule ε; the bias keeps its own."""
    (model, weights), x = linear(), pictures(3, 2, 4)
    bias = model[1].bias[1].detach()
    for name in ("epsilon", "epsilon_plus", "epsilon_gamma_box"):
        assert_close(lrp(model, x, 1, composite=name), weights[1] * x, rtol=1e-3, atol=1e-5)
        balance = relevance_balance(model, x, 1, composite=name)
        assert balance.absorbed["1"] == pytest.approx(3 * float(bias), rel=1e-3)
        assert balance.elsewhere == pytest.approx(0, abs=1e-9)


def test_rules_of_one_layer_are_their_formulas() -> None:
    """Of a layer of one output, relevance is by hand what the papers write."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 1)).to(DOUBLE)
    w, b = torch.tensor([2.0, -1, 3, -4], dtype=DOUBLE), 0.5
    x = torch.tensor([1.0, 2, -1, 0.5], dtype=DOUBLE)
    with torch.no_grad():
        model[1].weight.copy_(w[None])
        model[1].bias.fill_(b)
    products = w * x  # 2, -2, -3, -2
    score = float(products.sum() + b)
    plus, minus = products.clamp(min=0), products.clamp(max=0)
    box = products - (-2) * w.clamp(min=0) - 3 * w.clamp(max=0)
    wanted = {
        rules.Epsilon(epsilon=1.0): products * score / (score - 1),
        rules.AlphaBeta(alpha=2, beta=1): (2 * plus / 2.5 - minus / minus.sum()) * score,
        rules.z_plus(bias=False): plus / plus.sum() * score,
        rules.Gamma(gamma=0.5): (products + 0.5 * minus) * score / (score + 0.5 * minus.sum()),
        rules.WSquare(): w**2 * score / (30 + b**2),
        rules.Flat(): torch.full_like(w, score / 4),
        rules.ZBox(low=-2, high=3): box * score / box.sum(),
    }
    for rule, values in wanted.items():
        found = lrp(model, x.view(1, 1, 2, 2), 0, composite=everywhere(rule))
        assert_close(found.flatten(), values, rtol=1e-5, atol=1e-5, msg=str(rule))


def test_biases_and_epsilon_absorb_what_is_missing() -> None:
    """Scores are the pixels' relevance and what layers absorb; without biases only ε does."""
    model, x = Modules(), images(5)
    for name in COMPOSITES:
        balance = relevance_balance(model, x, 1, composite=name, batch_size=2)
        assert balance.elsewhere == pytest.approx(0, abs=1e-9)
        np.testing.assert_allclose(
            balance.relevance, lrp(model, x, 1, composite=name).flatten(1).sum(dim=1)
        )
        assert abs(balance.absorbed["stem"]) + abs(balance.absorbed["hidden"]) > 1e-3
    free = relevance_balance(Modules(bias=False), x, 1, composite="epsilon")
    assert max(map(abs, free.absorbed.values())) < 1e-4
    assert "pixels" in text(balance)
    assert "Relevance that reaches the pixels" in caption(balance)
    assert draw(balance).axes[0].get_yticklabels()[0].get_text() != ""


class Gated(nn.Module):
    """Squeeze and excitation: maps times gates, and maps scaled, shifted and divided."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.gate = nn.Conv2d(2, 3, 1, bias=False), nn.Conv2d(3, 3, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the answer (B, 3)."""
        x = 3 * self.conv((x - 0.5) / 0.25)
        gates = torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))
        x = F.interpolate(x * gates, scale_factor=2, mode="bilinear")
        return (x / x.square().mean(dim=1, keepdim=True).sqrt()).sum(dim=(2, 3))


def test_products_and_quotients_conserve_relevance() -> None:
    """Gates, constants and normalisers share or pass relevance: none is lost or made."""
    model, x = Gated().to(DOUBLE), images()
    found = lrp(model, x, 2, composite="epsilon")
    assert_close(found.flatten(1).sum(1), model(x)[:, 2].detach(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("function", [torch.softmax, torch.log_softmax])
def test_of_a_softmax_the_logit_is_explained(function: Callable[..., Tensor]) -> None:
    """A softmax at the end changes nothing."""

    class Ending(Modules):
        def forward(self, x: Tensor) -> Tensor:
            return function(super().forward(x), dim=1)

    assert_close(lrp(Ending(), images(), 1), lrp(Modules(), images(), 1))


class Attending(nn.Module):
    """Attention over the pixels, in one of three ways."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind = kind
        self.attend = nn.MultiheadAttention(2, 1, bias=False, batch_first=True)
        self.head = nn.Linear(2, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the answer (B, 3)."""
        x = x.flatten(2).mT
        if self.kind == "module":
            return self.head(self.attend(x, x, x)[0].mean(dim=1))
        query, key, value = F.linear(x, self.attend.in_proj_weight).chunk(3, dim=-1)
        if self.kind == "function":
            x = F.scaled_dot_product_attention(query, key, value)
        else:
            x = F.dropout((query @ key.mT / 2**0.5).softmax(dim=-1), training=False) @ value
        return self.head(F.linear(x, self.attend.out_proj.weight).mean(dim=1))


def test_weights_of_attention_are_constants() -> None:
    """As a module, a function or a product with a softmax, relevance goes to the values."""
    found = []
    for kind in ("module", "function", "operators"):
        model, x = Attending(kind).to(DOUBLE), images()
        found.append(lrp(model, x, 1, composite="epsilon"))
        assert_close(found[-1].flatten(1).sum(1), model(x)[:, 1].detach(), rtol=1e-3, atol=1e-5)
    assert_close(found[1], found[0], rtol=1e-3, atol=1e-6)
    assert_close(found[2], found[0], rtol=1e-3, atol=1e-6)


class Correlating(nn.Module):
    """Multiplies the image with itself, for which there is no rule."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the answer (B, 64)."""
        x = self.inner(x)
        return torch.linalg.matmul(x, x.mT).mean(dim=1).flatten(1)


def test_a_function_without_a_rule_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an error if LRP is asked for; among all methods LRP is left out."""
    monkeypatch.setattr("visualization.attribution.methods._NUMBERS_MASKED", 0)  # few masks
    model, x = Correlating().to(DOUBLE), images(2)
    with pytest.raises(NoRule, match=r"LRP has no rule for .*matmul.* accepted: convolutions"):
        lrp(model, x, 1)
    with pytest.raises(NoRule):
        attributions(model, x, 1, methods=["lrp_epsilon_plus"])
    without = {name for name in METHODS if not name.startswith("lrp")}
    assert set(attributions(model, x, 1).maps) == without
    checked = randomisation_check(model, x, 1)
    assert "saliency" in checked.signed
    assert "lrp_epsilon_plus" not in checked.signed
    with pytest.raises(NoRule):
        randomisation_check(model, x, 1, methods=["lrp_epsilon_plus"])


def test_composites_choose_by_name_kind_and_place() -> None:
    """A rule by a layer's name comes first, then that of the first layer, then that of the kind."""
    model, x = Modules(), images()
    flat, box = rules.Flat(), rules.ZBox()
    base = {"convolution": rules.z_plus(), "linear": rules.Epsilon()}
    same = LrpComposite(**base, by_layer={"stem": flat})
    assert_close(lrp(model, x, 1, composite=same), lrp(model, x, 1, composite="epsilon_plus_flat"))
    named = LrpComposite(**base, first=box, by_layer={"stem": flat})
    assert_close(lrp(model, x, 1, composite=named), lrp(model, x, 1, composite=same))
    late = LrpComposite(**base, first=flat, first_kinds=("linear",))
    hidden = LrpComposite(**base, by_layer={"hidden": flat})
    assert_close(lrp(model, x, 1, composite=late), lrp(model, x, 1, composite=hidden))
    assert not torch.allclose(lrp(model, x, 1, composite=late), lrp(model, x, 1, composite=same))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: lrp(odd(), pictures(), 1, composite="epsilon_pluss"),
         "composite: 'epsilon_pluss' is not accepted; .* did you mean 'epsilon_plus'"),
        (lambda: rules.AlphaBeta(alpha=2, beta=0), "alpha: 2 is not accepted; .* 1 \\+ beta, .* 1"),
        (lambda: rules.Epsilon(epsilon=-1), "epsilon: -1 is not accepted; accepted: 0 or more"),
        (lambda: lrp(odd(), pictures(), 1, composite=everywhere(rules.ZBox(low=np.ones(3)))),
         r"low: shape \(3,\) does not go with inputs"),
    ],
)  # fmt: skip
def test_mistakes_are_named(make: Callable[[], Any], words: str) -> None:
    """An error names the argument, its value and what is accepted."""
    with pytest.raises(ValueError, match=words):
        make()
