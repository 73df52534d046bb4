"""Parameter space: filter norms, random directions, projections.

A direction is a change of parameters by name; those that it does not name stay as they are.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visualization.core.errors import argument_error

State = Mapping[str, Tensor]
_NORMALISATIONS = (
    nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm,
)  # fmt: skip


def filter_norms(module: nn.Module, weight: Tensor) -> Tensor:
    """Return the Euclidean norm of each filter of a weight, in a shape that goes with it.

    A filter is what one output of a layer multiplies with its inputs: a slice of the first axis, as
    in convolutions (O, I/G, …) and `nn.Linear` (O, I), and in transposed convolutions (I, O/G, …) a
    slice of the second, once for each of G groups.
    """
    if not isinstance(module, nn.modules.conv._ConvTransposeNd):
        slices = tuple(range(1, weight.ndim))
        norms: Tensor = torch.linalg.vector_norm(weight, dim=slices, keepdim=True)
        return norms
    grouped = weight.reshape(module.groups, -1, *weight.shape[1:])  # (G, I/G, O/G, …)
    axes = (1, *range(3, grouped.ndim))
    norms = torch.linalg.vector_norm(grouped, dim=axes, keepdim=True)
    return norms.expand(-1, grouped.shape[1], *norms.shape[2:]).flatten(0, 1)


def random_directions(model: nn.Module, seed: int = 0) -> tuple[dict[str, Tensor], ...]:
    """Filter-normalised random directions: two, filter by filter as long as the parameters.

    Gaussian numbers, each filter then scaled by ‖θ_filter‖ / ‖d_filter‖ (Li et al. 1712.09913,
    section 4): a step along the direction means as much for a network with large weights as for one
    with small. Biases and the parameters of normalisation layers are 0, and so is the direction of
    a filter of norm 0.
    """
    generator = torch.Generator().manual_seed(seed)
    directions: tuple[dict[str, Tensor], ...] = ({}, {})
    for direction in directions:
        for name, module, parameter in _parameters_with_modules(model):
            weight = parameter.detach()
            if weight.ndim < 2 or isinstance(module, _NORMALISATIONS):
                direction[name] = torch.zeros_like(weight)
                continue
            noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
            lengths = filter_norms(module, weight.cpu().double())
            scaled = noise * (lengths / filter_norms(module, noise).clamp_min(1e-12))
            direction[name] = scaled.to(weight)
    return directions


def coordinates(
    model: nn.Module, directions: Sequence[State], states: Sequence[State]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where states fall on the plane through a model, and what is left over.

    The first is (T, 2), by least squares over the parameters; the second, of each distance from the
    model, the share that is at a right angle to the plane (T,).

    Raises:
        ValueError: directions that are parallel, or a state that does not fit.
    """
    gram = _products(directions, directions)
    if torch.det(gram) <= 1e-12 * gram.diagonal().prod():
        raise argument_error("directions", "one is a multiple of the other", "two that differ")
    steps = [_step(model, state, "trajectory") for state in states]
    if not steps:
        return np.zeros((0, 2)), np.zeros(0)
    across = _products(steps, directions)
    points = torch.linalg.solve(gram, across.T).T
    squares = torch.stack([_products([step], [step])[0, 0] for step in steps])
    inside = (points * across).sum(dim=1)
    residual = ((squares - inside) / squares.clamp_min(1e-300)).clamp(0, 1).sqrt()
    return points.numpy(), residual.numpy()


def fill_missing(model: nn.Module, directions: Sequence[State]) -> tuple[dict[str, Tensor], ...]:
    """Return two directions with an entry for every parameter, 0 for those that one leaves out.

    Raises:
        ValueError: not two, one of something else than parameters of the model, or one of nothing.
    """
    if len(directions) != 2:
        raise argument_error("directions", f"{len(directions)} are not accepted", "two")
    own = {name: parameter.detach() for name, parameter in model.named_parameters()}
    for direction in directions:
        for name in direction:
            if name not in own:
                problem = f"{name!r} is not a parameter of the model"
                raise argument_error("directions", problem, "its parameters", (name, own))
        check_shapes(own, direction, "directions")
        if not any(bool(values.any()) for values in direction.values()):
            raise argument_error("directions", "one is 0 throughout", "two that differ")
    return tuple(
        {name: each[name].to(p) if name in each else torch.zeros_like(p) for name, p in own.items()}
        for each in directions
    )


def _step(model: nn.Module, state: State, argument: str) -> dict[str, Tensor]:
    """Return the change of each parameter from a model to a state of it."""
    check_parameters(model, state, argument)
    return {
        name: state[name].to(parameter) - parameter.detach()
        for name, parameter in model.named_parameters()
    }


def check_parameters(model: nn.Module, state: State, name: str) -> None:
    """Raise a ValueError unless a state has all parameters of a model, in their shapes."""
    parameters = dict(model.named_parameters())
    missing = [parameter for parameter in parameters if parameter not in state]
    if missing:
        problem = f"{missing[0]!r} is missing ({len(missing)} of {len(parameters)} parameters are)"
        raise argument_error(name, problem, "a state dict of the model")
    check_shapes(parameters, state, name)


def check_shapes(expected: State, tensors: State, name: str) -> None:
    """Raise a ValueError if a tensor has another shape than the known one of its name."""
    for each, values in tensors.items():
        if each in expected and values.shape != expected[each].shape:
            problem = f"{each!r} of shape {tuple(values.shape)} is not accepted"
            raise argument_error(name, problem, tuple(expected[each].shape))


def _parameters_with_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module, nn.Parameter]]:
    """Yield each parameter once, with its dotted name and the module that has it."""
    modules = dict(model.named_modules())
    for name, parameter in model.named_parameters():
        yield name, modules[name.rpartition(".")[0]], parameter


def _products(a: Sequence[State], b: Sequence[State]) -> Tensor:
    """Return the inner products of directions (A, B), in double precision on the CPU."""
    total = torch.zeros(len(a), len(b), dtype=torch.float64)
    for name in a[0] if a else ():
        rows, columns = (
            torch.stack([each[name].flatten() for each in side]).cpu().double() for side in (a, b)
        )
        total += rows @ columns.T
    return total
