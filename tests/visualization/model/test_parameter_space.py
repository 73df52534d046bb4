"""Directions in the space of parameters, and where checkpoints fall."""

import numpy as np
import torch
from torch import nn

from tests.helpers.landscapes import linear
from visualization.model.landscape import landscape_plane
from visualization.model.parameter_space import (
    filter_norms,
    random_directions,
)


def test_each_filter_of_a_direction_is_as_long_as_the_models() -> None:
    """Filter norms agree, transposed and grouped too; biases and normalisations do not move."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 6, 3, groups=2),
        nn.LayerNorm([2, 3]), nn.Linear(6, 5), nn.LSTM(5, 2),
    )  # fmt: skip
    with torch.no_grad():
        model[0].weight[2] = 0  # a filter of norm 0
    pair = random_directions(model, seed=1)
    for direction in pair:
        assert list(direction) == [name for name, _ in model.named_parameters()]
        for name, values in direction.items():
            module = model[int(name[0])]
            if values.ndim < 2 or isinstance(module, nn.LayerNorm):
                assert not values.any()
                continue
            weights = model.get_parameter(name).detach()
            wanted = filter_norms(module, weights)
            torch.testing.assert_close(filter_norms(module, values), wanted)
            assert values.any()
        assert not direction["0.weight"][2].any()
    assert not torch.equal(pair[0]["0.weight"], pair[1]["0.weight"])
    again = random_directions(model, seed=1)
    assert torch.equal(pair[0]["4.weight"], again[0]["4.weight"])
    assert not torch.equal(random_directions(model, 2)[0]["4.weight"], again[0]["4.weight"])


def test_filters_of_transposed_convolutions_are_slices_of_outputs() -> None:
    """In (I, O/G, …) the norm of a filter is over the inputs of its group."""
    layer = nn.ConvTranspose1d(4, 6, 3, groups=2)
    norms = filter_norms(layer, layer.weight.detach())
    assert norms.shape == (4, 3, 1)
    torch.testing.assert_close(norms[0, 1, 0], layer.weight[:2, 1].detach().norm())
    torch.testing.assert_close(norms[3, 2, 0], layer.weight[2:, 2].detach().norm())


def test_checkpoints_fall_where_they_lie() -> None:
    """States made at known places of the plane are projected there; what is off it is told."""
    model, loss = linear()
    directions = random_directions(model, 0)
    places = [(0.5, -0.25), (0.0, 0.75), (0.0, 0.0)]
    own = model.state_dict()
    states = [{n: v + x * directions[0][n] + y * directions[1][n] for n, v in own.items()}
              for x, y in places]  # fmt: skip
    bias = torch.tensor([1.0, 2.0, 2.0])  # length 3, and the directions leave biases alone
    states.append({"weight": own["weight"] + directions[0]["weight"], "bias": own["bias"] + bias})
    plane = landscape_plane(model, loss, num=3, directions=directions, trajectory=states)
    assert plane.trajectory is not None
    assert plane.residual is not None
    np.testing.assert_allclose(plane.trajectory, [*places, (1.0, 0.0)], atol=1e-12)
    length = float(directions[0]["weight"].norm())
    off = 3 / np.hypot(3, length)
    np.testing.assert_allclose(plane.residual, [0, 0, 0, off], atol=1e-6)


def test_directions_may_leave_parameters_out() -> None:
    """What a direction does not name stays; two that name different parameters are a plane."""
    model, loss = linear()
    directions = {"bias": torch.ones(3)}, {"weight": torch.ones(3, 5)}
    plane = landscape_plane(model, loss, num=3, directions=directions)
    other, _ = linear()
    with torch.no_grad():
        other.bias += 1
    np.testing.assert_allclose(plane.loss[1, 2], loss(other).item(), rtol=1e-12)
    assert plane.directions == "given directions"
