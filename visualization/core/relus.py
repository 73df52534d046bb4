"""ReLU backward rules (guided backpropagation, deconvnet), however the model calls its ReLUs.

Hooks on `nn.ReLU` modules miss `F.relu` and `x.relu()`, and leave the plain gradient without a
warning. Here the function itself is intercepted while the forward pass runs, so that all spellings
are alike.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from visualization.core.errors import value_error

Rule = Callable[[Tensor, Tensor], Tensor]  # gradient above a ReLU, where it is on -> that below it


def guided(above: Tensor, on: Tensor) -> Tensor:
    """Return what is positive, where the ReLU is on (Springenberg et al. 1412.6806, figure 1)."""
    return above.clamp(min=0) * on


def deconvnet(above: Tensor, on: Tensor) -> Tensor:
    """Return what is positive, wherever the ReLU is on (Zeiler & Fergus 1311.2901, section 2.1)."""
    return above.clamp(min=0)


RULES: Mapping[str, Rule] = {"guided": guided, "deconvnet": deconvnet}


class _Relu(torch.autograd.Function):
    """A ReLU that keeps its output, as torch's does, and not its input, which may change in place.

    So a checkpoint (`torch.utils.checkpoint`) that computes it again after the block, by torch's
    ReLU, gives what was kept.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, rule: Rule) -> Tensor:
        """Return max(x, 0)."""
        output = x.clamp(min=0)
        ctx.save_for_backward(output)
        ctx.rule = rule
        return output

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, None]:
        """Return the gradient with respect to x."""
        (output,) = ctx.saved_tensors
        return ctx.rule(above, output > 0), None


_IN_PLACE = {torch.relu_, torch.Tensor.relu_}  # F.relu_ is the first of them
_RELUS = {F.relu, torch.relu, torch.Tensor.relu, *_IN_PLACE}


class relu_rule(TorchFunctionMode):  # noqa: N801 - used as a function, like torch.no_grad
    """ReLU rule: another backward pass through each ReLU that runs in a `with` block.

    Meant are `nn.ReLU`, `F.relu`, `torch.relu` and `Tensor.relu`, in place or not; the values are
    untouched. Other activations (ReLU6, LeakyReLU, GELU, `clamp`, …) keep their own gradient, and
    so do scripted modules, whose inside is not seen. Gradients may be taken after the block.

    >>> x = torch.tensor([2.0, 2.0, -1.0], requires_grad=True)
    >>> with relu_rule("deconvnet"):
    ...     y = F.relu(x)
    >>> y.backward(torch.tensor([5.0, -5.0, 5.0]))
    >>> x.grad
    tensor([5., 0., 5.])

    Args:
        rule: `guided`, `deconvnet`, or a function of the gradient above a ReLU and of where that is
            on, which returns the gradient below it.

    Raises:
        ValueError: no such rule.
    """

    def __init__(self, rule: str | Rule) -> None:
        super().__init__()
        if isinstance(rule, str) and rule not in RULES:
            raise value_error("rule", repr(rule), f"{', '.join(RULES)}, or a function")
        self.rule: Rule = RULES[rule] if isinstance(rule, str) else rule

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run a function of torch, unless it is a ReLU."""
        arguments = dict(kwargs or {})
        if func not in _RELUS:
            return func(*args, **arguments)
        if func in _IN_PLACE:
            arguments["inplace"] = True
        return self._relu(*args, **arguments)

    def rule_for(self, values: Tensor) -> Rule:
        """Return the rule for a ReLU of these values: the same for each."""
        return self.rule

    def _relu(self, input: Tensor, inplace: bool = False) -> Tensor:  # noqa: A002 - torch's name
        """Return max(input, 0). A copy back also reaches what `input` is a view of."""
        result: Tensor = _Relu.apply(input, self.rule_for(input))
        return input.copy_(result) if inplace else result
