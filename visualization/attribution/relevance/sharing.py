"""How functions that are no linear layers share the relevance of their output out.

Each takes the function, as one of its arguments that depend on the image, and these arguments (a
tensor that is used twice is there twice); it returns what makes their relevance of the output's.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from visualization.attribution.relevance.rules import stabilise, weighted_sum

Function = Callable[[Sequence[Tensor]], Tensor]
Share = Callable[[Tensor], tuple[Tensor, ...]]  # relevance of an output -> that of its inputs
Sharing = Callable[[Function, Sequence[Tensor]], Share]


def to_first(_: Function, inputs: Sequence[Tensor]) -> Share:
    """All to the first argument: to each number what it was spread to."""
    shapes = [x.shape for x in inputs]

    def share(relevance: Tensor) -> tuple[Tensor, ...]:
        rest = (relevance.new_zeros(shape) for shape in shapes[1:])
        return relevance.sum_to_size(shapes[0]), *rest

    return share


def in_halves(_: Function, inputs: Sequence[Tensor]) -> Share:
    """In equal parts to the arguments (the uniform rule of Achtibat et al. 2024, for products)."""
    shapes = [x.shape for x in inputs]

    def share(relevance: Tensor) -> tuple[Tensor, ...]:
        return tuple((relevance / len(shapes)).sum_to_size(shape) for shape in shapes)

    return share


def in_proportion(function: Function, inputs: Sequence[Tensor]) -> Share:
    """In proportion to what each number contributes to a function that is linear in all of them."""
    values = [x.detach().clone() for x in inputs]

    def share(relevance: Tensor) -> tuple[Tensor, ...]:
        leaves = [value.detach().requires_grad_() for value in values]
        with torch.enable_grad():
            output = function([leaf.clone() for leaf in leaves])  # it may work in place
            total = weighted_sum(output, relevance / stabilise(output.detach()))
        gradients = torch.autograd.grad(total, leaves)
        return tuple(value * gradient for value, gradient in zip(values, gradients, strict=True))

    return share


def sum_of(function: Function, inputs: Sequence[Tensor]) -> Share:
    """In proportion to the two summands; if one of them is a constant, all to the other."""
    return (to_first if len(inputs) == 1 else in_proportion)(function, inputs)


def to_logits(function: Function, inputs: Sequence[Tensor]) -> Share:
    """Of a softmax: to each logit as much of itself as its share has of its own."""
    (logits,) = (x.detach().clone() for x in inputs)

    def share(relevance: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            shares = function([logits.clone()])
        return (torch.where(shares == 0, 0, logits * relevance / shares),)

    return share


def refuse(error: Exception, inputs: Sequence[Tensor]) -> Share:
    """Raise an error if there is relevance to share; of logits of attention there is none."""
    shapes = [x.shape for x in inputs]

    def share(relevance: Tensor) -> tuple[Tensor, ...]:
        if relevance.any():
            raise error
        return tuple(relevance.new_zeros(shape) for shape in shapes)

    return share
