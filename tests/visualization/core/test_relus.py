"""Rules for the gradients of ReLUs, however a ReLU is called."""

import functools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.helpers.attribution import DOUBLE, assert_close, pictures
from visualization.attribution.gradients import deconvnet, guided_backprop, saliency
from visualization.core.relus import RULES, relu_rule

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
    with pytest.raises(ValueError, match="rule: 'guide' is not accepted; accepted: guided, dec"):
        relu_rule("guide")
    assert list(RULES) == ["guided", "deconvnet"]
