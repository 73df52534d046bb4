"""Relevance of single channels (CRP), against sums that must come out and networks by hand."""

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from torch import nn

from tests.helpers.attribution import DOUBLE, odd, pictures
from visualization.attribution.relevance import rules
from visualization.attribution.relevance.channels import channel_relevance
from visualization.attribution.relevance.composites import LrpComposite
from visualization.attribution.relevance.lrp import lrp
from visualization.core.registry import caption, draw, text


@pytest.mark.parametrize("layer", ["stem", "norm", "relu", "a", "relu@1"])
def test_maps_of_channels_sum_to_that_of_the_layer(layer: str) -> None:
    """All channels' maps sum to the layer's, also where more flows past it and norms follow."""
    model, x = odd(3), pictures(3, 3)
    found = channel_relevance(model, x, 1, layer=layer, channels=range(6), batch_size=2)
    np.testing.assert_allclose(found.maps.sum(axis=1), found.total, atol=1e-12)
    assert found.channels.tolist() == [[*range(6)]] * 3
    assert np.abs(found.total).max() > 1e-4


def test_of_a_layer_that_all_passes_through_the_sum_is_the_whole() -> None:
    """There the layer's map is the plain LRP, and its channels' relevance what reaches it."""
    model, x = odd(3), pictures(3, 3)
    found = channel_relevance(model, x, 1, layer="relu", channels=range(6))
    np.testing.assert_allclose(found.total, lrp(model, x, 1).sum(dim=1), atol=1e-12)
    unbiased = LrpComposite(convolution=rules.z_plus(bias=False), linear=rules.Epsilon(bias=False))
    conserved = channel_relevance(model, x, 1, layer="relu", composite=unbiased)
    np.testing.assert_allclose(conserved.relevance.sum(axis=1), conserved.scores, rtol=1e-3)


def test_channels_are_those_that_carry_the_score() -> None:
    """Of channels that see one pixel each, each has its own weight and its own pixel."""
    model = nn.Sequential(
        nn.Conv2d(1, 3, 2, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(3, 2, bias=False)
    ).to(DOUBLE)
    weights = torch.tensor([[4.0, -3, 1], [0, 0, 1]], dtype=DOUBLE)
    with torch.no_grad():
        model[0].weight.zero_()
        for channel in range(3):
            model[0].weight[channel, 0, channel // 2, channel % 2] = 1
        model[3].weight.copy_(weights)
    x = torch.tensor([[[[2.0, 5], [3, 7]]]], dtype=DOUBLE)  # the last pixel is seen by none
    found = channel_relevance(model, x, 0, layer="1", num_channels=2, labels=["cat", "dog"])
    np.testing.assert_allclose(found.relevance, [[8, -15, 3]], rtol=1e-5)
    assert found.channels.tolist() == [[1, 0]]
    np.testing.assert_allclose(found.maps[0], [[[0, -15], [0, 0]], [[8, 0], [0, 0]]], atol=1e-4)
    np.testing.assert_allclose(found.total[0], [[8, -15], [3, 0]], atol=1e-4)
    assert (found.targets, found.layer) == (("cat",), "1")
    assert text(found).splitlines()[1] == "cat, -4: 1 (375 %), 0 (−200 %)"
    words = {each.get_text() for each in draw(found).findobj(Text)}
    assert {"image", "all", "1: 375 %", "0: −200 %", "cat\nscore -4"} <= words
    assert "Which channels carry the score" in caption(found)


def test_without_a_layer_the_last_maps_are_meant() -> None:
    """Each image's own largest class is explained by the last layer with maps."""
    model, x = odd(), pictures()
    found = channel_relevance(model, x)
    assert found.layer == "relu@1"
    model.eval()
    np.testing.assert_allclose(found.scores, model(x.clone()).amax(dim=1).detach())
    sizes = np.take_along_axis(np.abs(found.relevance), found.channels, axis=1)
    assert (np.diff(sizes, axis=1) <= 0).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"layer": "head"}, r"layer: 'head' outputs \(3, 4\); accepted: layers that output"),
        ({"layer": "relu@7"}, "layer: 'relu@7' was not called"),
        ({"layer": "stem", "channels": [6]}, "channels: channel 6 does not exist; .* 0 to 5"),
        ({"num_channels": 0}, "num_channels: 0 is not accepted"),
        ({"composite": "flat"}, "composite: 'flat' is not accepted"),
    ],
)
def test_mistakes_are_named(settings: dict[str, object], words: str) -> None:
    """An error names the argument, its value and what is accepted."""
    with pytest.raises(ValueError, match=words):
        channel_relevance(odd(), pictures(), 1, **settings)
