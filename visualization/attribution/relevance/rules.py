"""LRP rules: how the relevance of a layer's outputs is shared out among its inputs.

Layers are linear: convolutions, fully connected layers, a batch norm folded into them. z = f(x, w)
+ b is an output, R its relevance, s(z) = z + ε sign(z) the stabilised denominator, with ε = 1e-6
unless a rule has its own. w⁺ and w⁻ are the parts of a weight above and below 0.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import attrs
import torch
from numpy.typing import NDArray
from torch import Tensor

from visualization.core.errors import argument_error, value_error

STABILISER = 1e-6
_LEAST_HALF = 1e-3  # by which a number of half precision can be divided
Bound = float | Tensor | NDArray[Any]
_Term = tuple[Tensor, Tensor, Tensor | None]  # input, weight, bias


@attrs.frozen(kw_only=True, eq=False)
class LinearCall:
    """A call of a linear layer.

    Attributes:
        run: returns the output for an input, a weight and a bias (None: without).
        input: x.
        weight: w.
        bias: b, or None.
    """

    run: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    input: Tensor
    weight: Tensor
    bias: Tensor | None

    def share(self, terms: Sequence[_Term], relevance: Tensor) -> Tensor:
        """Share relevance in proportion to what each input contributes to the sum of terms.

        A term whose input is 0 everywhere, but for the first, contributes nothing and is not run.
        """
        needed = [term for number, term in enumerate(terms) if not number or term[0].any()]
        ends = [(x, *self._start(x, weight, bias)) for x, weight, bias in needed]
        total = torch.stack([z.detach() for _, _, z in ends]).sum(dim=0)
        ratio = relevance / stabilise(total)
        return torch.stack([x * backward(z, leaf, ratio) for x, leaf, z in ends]).sum(dim=0)

    def _start(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return a leaf with the values of an input, and the output for it."""
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            return leaf, self.run(leaf, weight, bias)

    def gradient(self, x: Tensor, weight: Tensor, above: Tensor) -> Tensor:
        """Return the gradient of an input, of which the output's is `above`."""
        leaf, z = self._start(x, weight, None)
        return backward(z, leaf, above)

    def output(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the output without a graph."""
        with torch.no_grad():
            return self.run(x, weight, bias)


def stabilise(z: Tensor, epsilon: float = STABILISER) -> Tensor:
    """Return z + ε sign(z), ε where z is 0: a denominator that is never 0, nor overflows."""
    epsilon = max(epsilon, _LEAST_HALF) if z.dtype == torch.float16 else epsilon
    return z + torch.where(z < 0, -epsilon, epsilon)


def backward(output: Tensor, leaf: Tensor, above: Tensor) -> Tensor:
    """Return the gradient of a leaf, of which the output's is `above`."""
    with torch.enable_grad():
        total = weighted_sum(output, above)
    (gradient,) = torch.autograd.grad(total, leaf)
    return gradient


def weighted_sum(output: Tensor, above: Tensor) -> Tensor:
    """Return a number whose gradient with respect to an output is `above`.

    `torch.autograd.grad` takes that too, but imports for more than a second on its first call.
    """
    return (output * above.detach()).sum()


class Rule(Protocol):
    """What an LRP rule is: a function of a linear layer's call and of its output's relevance."""

    def relevance(self, call: LinearCall, relevance: Tensor) -> Tensor:
        """Return the relevance of the layer's input, in its shape."""
        ...


def _above(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.clamp(min=0)


def _below(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.clamp(max=0)


def _check(_: Any, attribute: "attrs.Attribute[float]", value: float) -> None:
    if not 0 <= value < float("inf"):
        raise value_error(attribute.name, value, "0 or more")


@attrs.frozen(kw_only=True)
class Epsilon:
    """LRP-ε: in proportion to x w, of the output with its bias (Bach et al. 2015, equation 58).

    Of a network of ReLUs, small ε and no biases it gives gradient × input.

    Attributes:
        epsilon: ε; what it adds to the denominator is absorbed, which leaves out weak evidence.
        bias: count the bias as a contribution, whose share is absorbed; False: inputs share all.
    """

    epsilon: float = attrs.field(default=STABILISER, validator=_check)
    bias: bool = True

    def relevance(self, call: LinearCall, relevance: Tensor) -> Tensor:
        """Return the relevance of the input."""
        z = call.output(call.input, call.weight, call.bias if self.bias else None)
        ratio = relevance / stabilise(z, self.epsilon)
        return call.input * call.gradient(call.input, call.weight, ratio)


@attrs.frozen(kw_only=True)
class Gamma:
    """LRP-γ: as ε, with contributions of the output's sign favoured by 1 + γ.

    Montavon et al. 2019, table 10.1; for inputs of both signs the generalised rule of Andéol et al.
    2021. An output that is exactly 0 shares nothing.

    Attributes:
        gamma: γ.
        bias: as `Epsilon`.
    """

    gamma: float = attrs.field(default=0.25, validator=_check)
    bias: bool = True

    def relevance(self, call: LinearCall, relevance: Tensor) -> Tensor:
        """Return the relevance of the input."""
        x, weight = call.input, call.weight
        bias = call.bias if self.bias else None
        z = call.output(x, weight, call.bias)
        more = weight + self.gamma * weight.clamp(min=0)
        less = weight + self.gamma * weight.clamp(max=0)
        raised = None if bias is None else bias + self.gamma * bias.clamp(min=0)
        lowered = None if bias is None else bias + self.gamma * bias.clamp(max=0)
        up = [(x.clamp(min=0), more, raised), (x.clamp(max=0), less, None)]
        down = [(x.clamp(min=0), less, lowered), (x.clamp(max=0), more, None)]
        return call.share(up, relevance * (z > 0)) + call.share(down, relevance * (z < 0))


@attrs.frozen(kw_only=True)
class AlphaBeta:
    """LRP-αβ: contributions above 0 share α R, those below 0 −β R, with α − β = 1.

    Bach et al. 2015, equation 60; with α = 1 and β = 0 it is z⁺ (Montavon et al. 2017). Where an
    output has no contribution of a sign, that share is lost.

    Attributes:
        alpha: α.
        beta: β.
        bias: as `Epsilon`, among the contributions of its sign.
    """

    alpha: float = attrs.field(default=2.0, validator=_check)
    beta: float = attrs.field(default=1.0, validator=_check)
    bias: bool = True

    def __attrs_post_init__(self) -> None:
        """Check that the two shares make up the whole."""
        if abs(self.alpha - self.beta - 1) > 1e-9:
            raise value_error("alpha", self.alpha, f"1 + beta, which is {1 + self.beta:g}")

    def relevance(self, call: LinearCall, relevance: Tensor) -> Tensor:
        """Return the relevance of the input."""
        x, weight = call.input, call.weight
        bias = call.bias if self.bias else None
        above, below = weight.clamp(min=0), weight.clamp(max=0)
        up = [(x.clamp(min=0), above, _above(bias)), (x.clamp(max=0), below, None)]
        shared = self.alpha * call.share(up, relevance)
        if not self.beta:
            return shared
        down = [(x.clamp(min=0), below, _below(bias)), (x.clamp(max=0), above, None)]
        return shared - self.beta * call.share(down, relevance)


def z_plus(*, bias: bool = True) -> AlphaBeta:
    """LRP-z⁺: in proportion to the contributions above 0 alone: α = 1, β = 0."""
    return AlphaBeta(alpha=1.0, beta=0.0, bias=bias)


@attrs.frozen(kw_only=True, eq=False)
class ZBox:
    """LRP-z^B, for bounded inputs such as pixels: x w − low w⁺ − high w⁻ (Montavon et al. 2017).

    Biases cancel out: nothing is absorbed but by ε.

    Attributes:
        low: the smallest number that an input can have, or an array that fits it; None: the
            smallest of each sample's own input.
        high: the largest, likewise.
    """

    low: Bound | None = None
    high: Bound | None = None

    def relevance(self, call: LinearCall, relevance: Tensor) -> Tensor:
        """Return the relevance of the input."""
        x, weight = call.input, call.weight
        axes = tuple(range(1, x.ndim))
        low = _bound(self.low, x, "low", lambda: x.amin(axes, keepdim=True))
        high = _bound(self.high, x, "high", lambda: x.amax(axes, keepdim=True))
        above, below = weight.clamp(min=0), weight.clamp(max=0)
        terms = ((x, weight, 1), (low, above, -1), (high, below, -1))
        z = sum(sign * call.output(end, part, None) for end, part, sign in terms)
        ratio = relevance / stabilise(torch.as_tensor(z))
        shares = [sign * end * call.gradient(end, part, ratio) for end, part, sign in terms]
        return torch.stack(shares).sum(dim=0)


def _bound(value: Bound | None, x: Tensor, name: str, own: Callable[[], Tensor]) -> Tensor:
    """Return a bound in the shape of an input."""
    bound = own() if value is None else torch.as_tensor(value).to(x)
    try:
        return bound.expand_as(x)
    except RuntimeError as error:
        problem = f"shape {tuple(bound.shape)} does not go with inputs {tuple(x.shape)}"
        raise argument_error(name, problem, "a number, or an array that fits") from error


@attrs.frozen(kw_only=True)
class WSquare:
    """LRP-w²: in proportion to w², whatever the input (Montavon et al. 2017): for unbounded inputs.

    Attributes:
        bias: count b² as a contribution, whose share is absorbed; False: inputs share all.
    """

    bias: bool = True

    def relevance(self, call: LinearCall, relevance: Tensor) -> Tensor:
        """Return the relevance of the input."""
        bias = call.bias.square() if self.bias and call.bias is not None else None
        return call.share([(torch.ones_like(call.input), call.weight.square(), bias)], relevance)


@attrs.frozen(kw_only=True)
class Flat:
    """LRP-flat: to all inputs of an output alike (Lapuschkin et al. 2019): no detail, no noise."""

    def relevance(self, call: LinearCall, relevance: Tensor) -> Tensor:
        """Return the relevance of the input."""
        ones = (torch.ones_like(call.input), torch.ones_like(call.weight), None)
        return call.share([ones], relevance)
