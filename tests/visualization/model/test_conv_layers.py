"""What every layer outputs and its dead units: exact, in one pass, nothing moved."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import visualization.model.figures.layers  # registers, as the next does
import visualization.model.figures.weights  # noqa: F401
from tests.helpers.images import odd, pictures, unchanged, words
from visualization import trace
from visualization.model.activations import dead_units, layer_activations
from visualization.model.histogram import Histogram
from visualization.model.weights import layer_weights
from visualization.render import caption, draw, png, text


@pytest.mark.parametrize(("channels", "dtype"), [(1, torch.float32), (3, torch.float64)])
def test_statistics_are_those_of_the_traced_outputs(channels: int, dtype: torch.dtype) -> None:
    """Each call of each layer has the numbers of its own output, whatever follows in place."""
    model, images = odd(channels, dtype), pictures(23, channels)
    found = layer_activations(model, images, batch_size=5)
    names = ["stem", "norm", "relu@0", "deep", "side", "relu@1", "drop", "head"]
    assert [layer.name for layer in found.layers] == names
    model.eval()
    with trace(model, ["stem", "norm", "relu", "deep", "side", "drop", "head"]) as seen:
        model(images.to(dtype))
    for layer in found.layers:
        name, _, call = layer.name.partition("@")
        values = seen[name][int(call or 0)].detach()
        units = values.transpose(0, 1).flatten(1)
        assert layer.shape == tuple(values.shape[1:])
        assert layer.num_values == values.numel() == layer.counts.sum()
        assert layer.zero_share == pytest.approx(float((values == 0).double().mean()))
        np.testing.assert_allclose(layer.mean, float(values.mean()), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(layer.deviation, float(values.std(correction=0)), rtol=1e-4)
        np.testing.assert_allclose(layer.low, units.amin(1), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(layer.high, units.amax(1), rtol=1e-4, atol=1e-6)
        on = (values.flatten(2) if values.ndim > 2 else values[..., None]).amax(2) > 0
        np.testing.assert_allclose(layer.active_share, on.double().mean(0))


def test_maps_are_the_outputs_for_the_first_images() -> None:
    """Maps of the channels that vary most are bit-equal to the trace; a vector is one row."""
    model, images = odd(3), pictures(7, 3)
    found = layer_activations(model, images, num_shown=3, num_channels=4, batch_size=2)
    model.eval()
    with trace(model, ["stem", "head"]) as seen:
        for part in images.split(2):
            model(part)
    stem, head = (torch.cat(seen[name])[:3].detach() for name in ("stem", "head"))
    layer = found["stem"]
    assert layer.maps.shape == (3, 4, 8, 8)
    np.testing.assert_array_equal(layer.maps, stem[:, torch.from_numpy(layer.channels)])
    spread = stem[:2].transpose(0, 1).flatten(1).std(1, correction=0)
    assert set(layer.channels) == set(spread.topk(4).indices.tolist())
    np.testing.assert_array_equal(found["head"].maps[:, 0, 0], head)
    np.testing.assert_array_equal(found.images, images[:3])


def test_neither_batches_nor_order_change_the_statistics() -> None:
    """Histogram, zeros, ranges and shares are the same for any batch size, order and loader."""
    model, images = odd(), pictures(30)
    whole = layer_activations(model, images, batch_size=30)
    shuffled = images[torch.randperm(30, generator=torch.Generator().manual_seed(2))]
    loader = [(part, torch.zeros(len(part))) for part in shuffled.split(7)]
    for other in (layer_activations(model, images, batch_size=4), layer_activations(model, loader)):
        assert other.num_images == 30
        for a, b in zip(whole.layers, other.layers, strict=True):
            assert (a.name, a.zero_share) == (b.name, b.zero_share)
            np.testing.assert_array_equal(a.active_share, b.active_share)
            np.testing.assert_allclose(a.low, b.low, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose([a.mean, a.deviation], [b.mean, b.deviation], atol=1e-6)
            np.testing.assert_array_equal(a.edges, b.edges)
            assert np.abs(a.counts - b.counts).sum() <= 4  # another batch rounds otherwise


def test_a_histogram_of_parts_is_that_of_the_whole() -> None:
    """Counts equal numpy's on the same edges, in any parts; an edge lies at 0; few bins suffice."""
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, s, 300) for s in (1e-3, 1.0, 50.0)]).astype(np.float32)
    whole, parts = Histogram(), Histogram()
    held = torch.from_numpy(values)
    whole.add(held, float(held.min()), float(held.max()))
    for part in held.split(37):
        parts.add(part, float(part.min()), float(part.max()))
    np.testing.assert_array_equal(whole.counts, parts.counts)
    np.testing.assert_array_equal(whole.edges, parts.edges)
    assert 40 <= len(whole.counts) <= 96
    assert 0.0 in whole.edges
    np.testing.assert_array_equal(whole.counts, np.histogram(values, whole.edges)[0])


@pytest.mark.parametrize("value", [0.0, 3.7, -1e-30, 1e30])
def test_a_histogram_of_one_value_is_one_bin_around_it(value: float) -> None:
    """A constant has a bin of its own, and what comes later finds its place."""
    found = Histogram()
    for _ in range(2):
        found.add(torch.full((5,), value, dtype=torch.float64), value, value)
    assert found.counts.tolist() == [10]
    assert found.edges[0] <= value < found.edges[1]
    found.add(torch.tensor([2.0], dtype=torch.float64), 2.0, 2.0)
    assert found.counts.sum() == 11


def planted() -> nn.Module:
    """Return a net of which each unit's state is known: its biases decide."""
    model = nn.Sequential(nn.Conv2d(1, 6, 1), nn.ReLU(inplace=True))
    with torch.no_grad():
        model[0].weight[:] = torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0, 0.0]).view(6, 1, 1, 1)
        model[0].bias[:] = torch.tensor([0.0, -9.0, 2.0, 5.0, -2.0, -1.0])
    return model


def test_planted_units_are_found() -> None:
    """Dead, constant, rarely on and always on: each by its number, in one list alone."""
    images = torch.rand(200, 1, 4, 4, generator=torch.Generator().manual_seed(0)) - 0.5
    images[7, 0, 2, 1] = 2.5  # the one pixel that lights unit 4
    found = dead_units(planted(), images)
    before, after = found.layers
    assert (before.name, after.name, after.kind, after.num_units) == ("0", "1", "ReLU", 6)
    assert [after.dead.tolist(), after.constant.tolist()] == [[1, 5], [2]]
    assert [after.rarely_active.tolist(), after.always_active.tolist()] == [[4], [3]]
    assert before.dead.tolist() == [1, 5]
    assert dead_units(planted(), images, share=1 / 200).layers[1].rarely_active.tolist() == []
    assert "never above 0: 1, 5" in text(found)


def test_dead_units_of_functional_relus_show_in_the_layer_before() -> None:
    """Without a ReLU module the convolution's own units are listed."""

    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = planted()[0]

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.conv(x))

    images = torch.rand(4, 1, 4, 4)
    (row,) = dead_units(Functional(), images).layers
    assert (row.name, row.dead.tolist()) == ("conv", [1, 4, 5])


def test_units_lie_where_the_layer_has_them() -> None:
    """Channels come first after the batch, but last in token layers and what follows them."""

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch = nn.Conv2d(1, 5, 4, 4)
            self.norm = nn.LayerNorm(5)
            self.wide = nn.Linear(5, 7)
            self.gelu = nn.GELU()
            self.lstm = nn.LSTM(7, 3, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.norm(self.patch(x).flatten(2).transpose(1, 2))
            return self.lstm(self.gelu(self.wide(tokens)))[0]

    found = layer_activations(Tokens(), pictures(6))
    units = {layer.name: len(layer.low) for layer in found.layers}
    assert units == {"patch": 5, "norm": 5, "wide": 7, "gelu": 7}
    assert found.skipped == ("lstm",)
    assert found["gelu"].maps.shape == (2, 7, 1, 4)


def test_nan_and_inf_are_counted_apart() -> None:
    """What is not finite is told, and spoils neither mean nor histogram."""

    class Breaks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.where(x > 0, x, torch.nan)

    images = torch.tensor([1.0, 2.0, -1.0, 3.0]).view(1, 1, 2, 2)
    (layer,) = layer_activations(Breaks(), images).layers
    assert (layer.num_undefined, layer.num_values, layer.mean) == (1, 3, 2.0)
    assert layer.counts.sum() == 3
    assert layer.dead.size == layer.constant.size == 0


def test_a_model_without_parts_is_a_layer() -> None:
    """A bare module's own output is what is looked at."""
    (layer,) = layer_activations(nn.Conv2d(1, 2, 3), pictures(2)).layers
    assert (layer.name, layer.shape) == ("", (2, 6, 6))
    assert "the model itself" in text(layer_activations(nn.Conv2d(1, 2, 3), pictures(2)))


def test_mistakes_are_named() -> None:
    """Every wrong argument is an error that says what is accepted."""
    model, images = odd(), pictures(3)
    with pytest.raises(ValueError, match=r"layers: 'stm' is not a layer .* did you mean 'stem'"):
        layer_activations(model, images, "stm")
    with pytest.raises(ValueError, match="layers: 'relu@2' was not called while the model ran"):
        layer_activations(model, images, ["stem", "relu@2"])
    with pytest.raises(ValueError, match="images: there are none; accepted: one or more"):
        layer_activations(model, images[:0])
    with pytest.raises(ValueError, match="outputs a tuple; accepted: layers that output one"):
        layer_activations(nn.Sequential(nn.Flatten(1, 2), nn.LSTM(8, 2)), images, "1")
    with pytest.raises(ValueError, match=r"share: 0 is not accepted; accepted: above 0"):
        dead_units(model, images, share=0)
    with pytest.raises(ValueError, match="model: has no parameters; accepted: one with some"):
        layer_weights(nn.ReLU())
    with pytest.raises(KeyError, match="'nose' is not here; here: stem"):
        layer_activations(model, images, "stem")["nose"]
    with pytest.raises(KeyError, match=r"'nose' is not here; here: stem\.weight"):
        layer_weights(model)["nose"]


def test_looking_changes_nothing() -> None:
    """Weights, statistics, modes, hooks, gradients and the generator stay, after errors too."""
    model = odd()
    with unchanged(model):
        layer_activations(model, pictures(5))
        dead_units(model, pictures(5), "relu@1")
        layer_weights(model)
        with pytest.raises(RuntimeError):
            layer_activations(model, pictures(5, channels=2))


def test_long_records_come_in_pages() -> None:
    """Pages hold all layers in order, and each says which it shows."""
    found = layer_activations(odd(), pictures(3))
    pages = found.pages(3)
    assert [layer.name for page in pages for layer in page.layers] == [
        layer.name for layer in found.layers
    ]
    assert [page.first for page in pages] == [0, 3, 6]
    assert "layers 4 to 6 of 8 over 3 images" in words(draw(pages[1]))
    assert len(found.histograms.pages(5)) == 2
    weights = layer_weights(odd())
    assert [len(page.layers) for page in weights.pages(2)] == [2, 2, 1]
    assert "layers 3 to 4 of 5 with parameters" in words(draw(weights.pages(2)[1]))


@pytest.mark.parametrize("channels", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_every_record_has_a_picture_a_text_and_a_caption(channels: int) -> None:
    """Records are drawn without a warning, with each layer's name, and told in words."""
    model = odd(channels)
    found = layer_activations(model, pictures(4, channels))
    records = [
        found,
        found.histograms,
        dead_units(model, pictures(4, channels)),
        layer_weights(model),
    ]
    for record in records:
        figure = draw(record)
        assert png(figure, 40).startswith(b"\x89PNG")
        assert "stem" in words(figure)
        assert "head" in words(figure)
        assert caption(record)
        assert text(record)
    assert "relu@1" in text(found)
    no_maps = layer_activations(model, pictures(4, channels), num_shown=0)
    assert png(draw(no_maps), 40)


def test_a_dead_layer_is_drawn() -> None:
    """Where all units are 0 throughout, pictures come without a warning."""
    model = planted()
    with torch.no_grad():
        model[0].bias[:] = -100
    found = layer_activations(model, pictures(3))
    assert found["1"].zero_share == 1.0
    for record in (found, found.histograms, dead_units(model, pictures(3))):
        assert png(draw(record), 40)
