"""The weights of every layer: exact, listed once, and drawn whatever their kind."""

import numpy as np
import pytest
import torch
from torch import nn

import visualization.model.figures.weights  # noqa: F401 - registers
from tests.helpers.images import odd
from visualization.model.weights import layer_weights
from visualization.render import draw, png


def test_weights_are_the_parameters() -> None:
    """Each tensor comes with its kind, norms of filters, and its numbers where all are shown."""
    model = odd(3)
    found = layer_weights(model)
    names = [each.name for layer in found.layers for each in layer]
    assert names == [name for name, _ in model.named_parameters()]
    stem = found["stem.weight"]
    assert (stem.kind, stem.role, stem.shape) == ("Conv2d", "kernels", (6, 3, 3, 3))
    np.testing.assert_array_equal(stem.shown, model.stem.weight.detach())
    norms = model.stem.weight.detach().flatten(1).norm(dim=1)
    np.testing.assert_allclose(stem.norms, norms, rtol=1e-6)
    assert stem.counts.sum() == 6 * 27
    assert (found["side.weight"].role, found["side.weight"].shown.shape) == ("matrix", (6, 3))
    np.testing.assert_array_equal(found["deep.weight"].shown, model.deep.weight.detach())
    np.testing.assert_array_equal(found["norm.bias"].shown, model.norm.bias.detach())
    assert found["head.bias"].role == "vector"
    assert found["head.weight"].mean == pytest.approx(model.head.weight.mean().item())


def test_filters_of_transposed_convolutions_are_those_of_their_outputs() -> None:
    """A filter is what makes one output channel, in each group: (I, O/G, …) read as (O, I/G, …)."""
    for groups in (1, 2):
        layer = nn.ConvTranspose2d(4, 6, 3, groups=groups, bias=False)
        values = layer_weights(layer)["weight"]
        assert (values.num_filters, values.num_inputs) == (6, 4 // groups)
        ones = torch.eye(4).view(4, 4, 1, 1)  # one input channel at a time
        responses = layer(ones).detach()  # (input, output, 3, 3)
        norms = responses.transpose(0, 1).flatten(1).norm(dim=1)
        np.testing.assert_allclose(values.norms, norms, rtol=1e-6)
        for output in range(6):
            group = output // (6 // groups)
            inputs = slice(group * 4 // groups, (group + 1) * 4 // groups)
            np.testing.assert_array_equal(values.shown[output], responses[inputs, output])


def test_the_strongest_filters_and_inputs_stand_for_many() -> None:
    """Of a wide layer the filters and inputs of the largest norms are shown, in their order."""
    layer = nn.Conv2d(40, 30, 3, bias=False)
    with torch.no_grad():
        layer.weight[[3, 17, 21]] *= 10
        layer.weight[:, [5, 39]] *= 10
    values = layer_weights(layer)["weight"]
    assert (len(values.filters), len(values.inputs)) == (8, 24)
    assert {3, 17, 21} <= set(values.filters)
    assert {5, 39} <= set(values.inputs)
    assert (np.diff(values.filters) > 0).all()
    np.testing.assert_array_equal(
        values.shown, layer.weight.detach()[values.filters][:, values.inputs]
    )
    assert len(values.norms) == 30


def many_kinds() -> nn.Sequential:
    """Return layers of all kinds that have parameters."""
    layers = [
        nn.Conv2d(4, 8, 3, groups=2), nn.Conv2d(8, 8, 5, groups=8), nn.Conv2d(3, 70, 3),
        nn.ConvTranspose2d(8, 6, 4, groups=2), nn.Conv1d(3, 5, 7), nn.Conv3d(2, 4, 3),
        nn.LSTM(6, 8, bidirectional=True), nn.Embedding(9, 4), nn.LayerNorm([3, 4]),
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(500), nn.Linear(70, 100), nn.PReLU(),
        nn.MultiheadAttention(8, 2), nn.Bilinear(2, 3, 4), nn.GRUCell(3, 4),
    ]  # fmt: skip
    return nn.Sequential(*layers)


def test_shared_and_odd_parameters_are_listed_once() -> None:
    """Every parameter of every kind of layer is there once, also one that two layers share."""
    model = many_kinds()
    model.append(nn.Linear(8, 100)).append(nn.Linear(8, 100))
    model[-1].weight = model[-2].weight
    found = layer_weights(model)
    names = [each.name for layer in found.layers for each in layer]
    assert names == [name for name, _ in model.named_parameters()]
    assert found["5.weight"].shown.shape == (4, 2, 3, 3)
    np.testing.assert_array_equal(found["5.weight"].shown, model[5].weight.detach()[:, :, 1])


def test_parameters_that_are_not_finite_are_told() -> None:
    """NaN in a weight does not break the record, and is counted."""
    layer = nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight[0, 0] = torch.nan
    values = layer_weights(layer)["weight"]
    assert values.num_undefined == 1
    assert np.isfinite(values.mean)
    assert b"PNG" in png(draw(layer_weights(layer)), 40)[:8]


def test_weights_of_every_kind_are_drawn() -> None:
    """Grouped, depthwise, transposed, 1-D, 3-D, recurrent and normalising layers: no warning."""
    for page in layer_weights(many_kinds()).pages():
        assert png(draw(page), 40)
