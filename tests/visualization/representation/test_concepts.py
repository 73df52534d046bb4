"""Neighbours, maps on a plane and probes of layers: known answers, oracles, hygiene, figures."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn

from tests.helpers.unchanged import left_alone
from visualization.core.registry import png
from visualization.feature_maps.figures.dissection import caption, draw, text
from visualization.representation import layer_probes
from visualization.representation.embeddings import embed, nearest_neighbours
from visualization.representation.layer_probes import probe_layers


class Odd(nn.Module):
    """In-place operations from the first on, batch norm, a ReLU used twice, a functional one."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 5, 3, padding=1)
        self.norm = nn.BatchNorm2d(5)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, 3)."""
        x -= 0.5
        y = self.relu(self.norm(self.conv(x)))
        y = self.relu(y + F.relu(self.conv(x)))
        return self.head(self.drop(y).mean(dim=(2, 3)))


def images(num: int, channels: int = 1, size: int = 8, seed: int = 0) -> Tensor:
    """Return images of noise within 0 and 1."""
    return torch.rand(num, channels, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("spatial", ["flat", "mean"])
def test_neighbours_are_those_of_scikit_learn(metric: str, spatial: str) -> None:
    """Numbers and distances are those that scikit-learn finds on the layer's output."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh())
    x, queries = images(60), images(4, seed=1)
    found = nearest_neighbours(model, "1", queries, x, 7, metric, spatial=spatial)
    rows, asked = (model(each).detach().flatten(2) for each in (x, queries))
    if spatial == "mean":
        rows, asked = rows.mean(dim=2, keepdim=True), asked.mean(dim=2, keepdim=True)
    oracle = NearestNeighbors(n_neighbors=7, metric=metric, algorithm="brute")
    distances, numbers = oracle.fit(rows.flatten(1)).kneighbors(asked.flatten(1))
    np.testing.assert_array_equal(found.indices, numbers)
    np.testing.assert_allclose(found.distances, distances, atol=1e-5)
    assert torch.equal(found.images, x[found.indices])
    assert torch.equal(found.queries, queries)
    assert found.num_images == 60


def test_planted_neighbours_come_first() -> None:
    """Templates at falling amounts come back in that order, equal ones by number, however read."""
    x, query = images(40, seed=2), images(1, seed=3)
    amounts = {31: 0.99, 7: 0.9, 22: 0.7, 5: 0.5}
    for number, amount in amounts.items():
        x[number] = amount * query[0] + (1 - amount) * x[number]
    x[35] = x[9] = query[0]
    model = nn.Flatten()
    wanted = [9, 35, 31, 7, 22, 5]
    whole = nearest_neighbours(model, None, query, x, 6, "euclidean")
    assert whole.indices[0].tolist() == wanted
    assert whole.distances[0, :2].tolist() == [0, 0]
    loader = [(x[first : first + 7], "labels") for first in range(0, 40, 7)]
    for given, batch_size in ((x, 1), (x, 11), (x.numpy(), 40), (loader, 3)):
        for metric in ("euclidean", "cosine"):
            found = nearest_neighbours(model, None, query, given, 6, metric, batch_size=batch_size)
            assert found.indices[0].tolist() == wanted
            np.testing.assert_array_equal(found.images[0].numpy(), x[wanted].numpy())
    order = torch.randperm(40, generator=torch.Generator().manual_seed(4))
    shuffled = nearest_neighbours(model, None, query, x[order], 6, "euclidean")
    assert set(order[shuffled.indices[0, :2]].tolist()) == {9, 35}
    assert order[shuffled.indices[0, 2:]].tolist() == wanted[2:]
    apart = nearest_neighbours(model, None, query, x, 4, exclude_self=True)
    assert apart.indices[0].tolist() == wanted[2:]


def test_representations_without_a_direction() -> None:
    """A representation of zeros is at cosine distance 1 from all, itself included; no NaN."""
    model, x = nn.Sequential(nn.Flatten(), nn.ReLU()), torch.stack([-images(1)[0], images(1)[0]])
    found = nearest_neighbours(model, "1", x, x, 2)
    np.testing.assert_allclose(found.distances, [[1, 1], [0, 1]])
    assert found.indices.tolist() == [[0, 1], [1, 0]]


def test_labels_of_neighbours() -> None:
    """Each neighbour has the label of its own number, and the record says it in words."""
    x, labels = images(20), np.array([f"class {number % 3}" for number in range(20)])
    found = nearest_neighbours(
        nn.Flatten(), None, x[:2], x, 5, labels=labels, query_labels=labels[:2]
    )
    np.testing.assert_array_equal(found.labels, labels[found.indices])
    assert found.query_labels.tolist() == ["class 0", "class 1"]
    assert found.labels[:, 0].tolist() == ["class 0", "class 1"]
    assert "0 (class 0): 0 (class 0, 0)" in text(found)


def test_the_plane_is_that_of_principal_components() -> None:
    """Points and shares are scikit-learn's up to sign, and each sign is a fixed one."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh())
    x = images(50)
    x[:20] += torch.linspace(0, 3, 20)[:, None, None, None]
    rows = model(x).detach().flatten(1).double().numpy()
    found = embed(model, "1", x, labels=np.arange(50) % 4)
    oracle = PCA(2, svd_solver="full").fit(rows)
    np.testing.assert_allclose(np.abs(found.points), np.abs(oracle.transform(rows)), atol=1e-6)
    np.testing.assert_allclose(found.explained, oracle.explained_variance_ratio_)
    weights = np.linalg.lstsq(found.points, rows - rows.mean(axis=0), rcond=None)[0]
    assert (weights[[0, 1], np.abs(weights).argmax(axis=1)] > 0).all()
    backwards = embed(model, "1", x.flip(0), batch_size=7)
    np.testing.assert_allclose(backwards.points[::-1], found.points, atol=1e-5)
    assert (found.num_features, found.labels.tolist()) == (108, [n % 4 for n in range(50)])
    means = embed(model, "1", x, spatial="mean")
    assert means.num_features == 3


def test_neighbourhoods_of_groups() -> None:
    """t-SNE keeps three planted groups apart, and gives the same picture each time."""
    x, groups = images(60), np.arange(60) % 3
    x = 0.2 * x
    for group in range(3):
        x[groups == group, :, 2 * group : 2 * group + 2] += 1
    found = embed(nn.Flatten(), None, x, "tsne", groups, 3)
    nearby = NearestNeighbors(n_neighbors=6).fit(found.points).kneighbors(return_distance=False)
    assert (groups[nearby] == groups[:, None]).mean() > 0.95
    assert found.explained is None
    again = embed(nn.Flatten(), None, x, "tsne", groups, 3)
    np.testing.assert_array_equal(again.points, found.points)
    few = embed(nn.Flatten(), None, x, "tsne", perplexity=4.0)
    assert not np.allclose(few.points, found.points)


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_little_to_lay_out(method: str) -> None:
    """Two images, three, a single number each, and a dead layer still give points, none NaN."""
    for num in (2, 3, 5):
        found = embed(nn.Flatten(), None, images(num), method)
        assert found.points.shape == (num, 2)
        assert np.isfinite(found.points).all()
        assert np.ptp(found.points[:, 0]) > 0
    mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    found = embed(mean, None, images(9), method)
    np.testing.assert_array_equal(found.points[:, 1], 0)
    assert np.ptp(found.points[:, 0]) > 0
    dead = nn.Sequential(nn.Flatten(), nn.Threshold(2.0, 0.5))
    np.testing.assert_array_equal(embed(dead, None, images(9), method).points, 0)


class Differs(nn.Module):
    """Whether two pixels differ: the first layer where a line can read their exclusive or."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Flatten()
        self.apart = nn.Identity()
        self.lost = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return zeros (B, 1), when the difference has been taken and forgotten."""
        both = self.both(x)
        return self.lost(0 * self.apart((both[:, :1] - both[:, 1:2]).abs()))


def test_probes_find_where_a_label_can_be_read() -> None:
    """Exclusive or: at most 3 in 4 from pixels, all after their difference, then chance again."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, (600, 2))
    x = torch.tensor(bits + 0.05 * rng.normal(size=(600, 2)), dtype=torch.float32)[:, None, None]
    labels = bits[:, 0] ^ bits[:, 1]
    found = probe_layers(Differs(), ["both", "apart", "lost"], x, labels, untrained=Differs())
    assert found.layers == ("pixels", "both", "apart", "lost")
    assert found.num_features.tolist() == [2, 2, 1, 1]
    assert found.accuracy[2] == 1
    assert (found.accuracy[:2] < 0.8).all()  # a line parts one corner of four from the rest
    assert found.accuracy[3] == pytest.approx(0.5, abs=0.12)
    np.testing.assert_allclose(found.control, 0.5, atol=0.12)
    np.testing.assert_array_equal(found.untrained, found.accuracy)
    assert (found.num_fitted, found.num_held_out) == (420, 180)
    assert found.majority == pytest.approx(0.5, abs=0.1)
    again = probe_layers(
        Differs(), ["apart"], [x[:300], x[300:]], [f"label {label}" for label in labels]
    )
    np.testing.assert_array_equal(again.accuracy, found.accuracy[[0, 2]])
    other = probe_layers(Differs(), ["both"], x, labels, seed=1)
    assert other.accuracy[1] != found.accuracy[1]


def test_no_image_is_both_learned_from_and_tested() -> None:
    """Labels of noise, which a probe of so many numbers knows by heart, are not read."""
    labels = np.random.default_rng(1).integers(0, 2, 200)
    found = probe_layers(nn.Flatten(), [None], images(200), labels, num_components=200)
    assert (found.accuracy < 0.7).all()
    assert (found.accuracy > 0.3).all()
    assert found.layers == ("pixels", "output")


def test_components_are_those_of_the_fitted_images() -> None:
    """What varies in held-out images alone takes no place among the components."""
    labels = np.arange(200) % 2
    x = 0.01 * images(200, size=2)
    x[:, 0, 0, 0] += torch.tensor(labels)
    held_out = np.random.default_rng(0).permutation(200) < 60
    x[held_out, 0, 1, 1] += 100 * images(60)[:, 0, 0, 0]
    found = probe_layers(nn.Flatten(), [""], x, labels, num_components=1)
    np.testing.assert_array_equal(found.accuracy, 1)


def test_probes_of_layers_that_are_run_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers whose features do not fit in memory together are scored as those that do."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(72, 3))
    x, labels = images(120), np.arange(120) % 3
    layers = ["0", None, "1", "3", "0@0"]
    together = layer_probes.probe_layers(model, layers, x, labels)
    monkeypatch.setattr(layer_probes, "_MAX_BYTES", 1)
    apart = layer_probes.probe_layers(model, layers, x, labels)
    np.testing.assert_array_equal(together.accuracy, apart.accuracy)
    np.testing.assert_array_equal(together.control, apart.control)
    assert together.accuracy[2] == together.accuracy[4]  # the output is the last layer's
    assert together.accuracy[1] == together.accuracy[5]


def test_probes_of_real_scans() -> None:
    """A line reads most bundled scans, fewer with few components, and a dead layer like chance."""
    from sklearn.datasets import load_digits

    scans = load_digits()
    x = torch.tensor(scans.images[:600, None] / 16, dtype=torch.float32)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Threshold(99.0, 0.0))
    found = probe_layers(model, ["1"], x, scans.target[:600])
    assert found.accuracy[0] > 0.9
    assert found.accuracy[1] == found.majority < 0.2
    assert found.control[0] < 0.25
    few = probe_layers(model, ["1"], x, scans.target[:600], num_components=2)
    assert few.accuracy[0] < found.accuracy[0] - 0.1
    mean = probe_layers(model, ["0"], x, scans.target[:600], spatial="mean")
    assert mean.num_features.tolist() == [64, 3]
    assert mean.accuracy[0] == found.accuracy[0]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_odd_modules_are_left_as_they_were(channels: int, dtype: torch.dtype) -> None:
    """In-place first operations, batch norm in training mode, reuse: no trace, also on errors."""
    torch.manual_seed(5)
    model = Odd(channels).to(dtype).train()
    x = images(40, channels).to(dtype).numpy()
    as_before = left_alone(model, x)
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002 - that it is not drawn from

    def demand_same() -> None:
        as_before()
        assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002

    layers = ["conv", "relu@1", "head"]
    for layer in (*layers, None):
        assert nearest_neighbours(model, layer, x[:2], x, 3).indices[:, 0].tolist() == [0, 1]
        for method in ("pca", "tsne"):
            assert np.isfinite(embed(model, layer, x, method).points).all()
    first, second = (
        nearest_neighbours(model, f"relu@{call}", x[:1], x, 9, "euclidean").distances
        for call in (0, 1)
    )
    assert (first[0, 1:] < second[0, 1:]).all()
    probe_layers(model, layers, x, np.arange(40) % 2, untrained=model)
    demand_same()
    with pytest.raises(ValueError, match="was not called"):
        nearest_neighbours(model, "relu@7", x[:1], x)
    with pytest.raises(RuntimeError):
        embed(model, "head", images(3, channels + 1).numpy())
    demand_same()


def bad_arguments(x: Tensor) -> list[tuple[Any, dict[str, Any], str]]:
    """Return functions, what is wrong with an argument of 30 images, and what is said of it."""
    return [
        (nearest_neighbours, {"k": 0}, "k: 0 is not accepted; accepted: 1 or more"),
        (
            nearest_neighbours,
            {"k": 31},
            "k: 31 is not accepted; accepted: 1 to 30, as many as there are",
        ),
        (nearest_neighbours, {"k": 30, "exclude_self": True}, "accepted: 1 to 29"),
        (
            nearest_neighbours,
            {"metric": "l1"},
            "metric: 'l1' is not accepted; accepted: cosine, euclidean",
        ),
        (
            nearest_neighbours,
            {"spatial": "max"},
            "spatial: 'max' is not accepted; accepted: flat, mean",
        ),
        (
            nearest_neighbours,
            {"layer": "2"},
            "layer: '2' is not a layer of the Sequential; accepted: 0, 1",
        ),
        (nearest_neighbours, {"batch_size": 0}, "batch_size: 0 is not accepted"),
        (
            nearest_neighbours,
            {"labels": [1] * 3},
            r"labels: int64 of shape \(3,\) does not go with 30",
        ),
        (nearest_neighbours, {"labels": [0.5] * 30}, "labels: float64 .* a whole number or a word"),
        (nearest_neighbours, {"query_labels": [1]}, r"query_labels: .* does not go with 2 images"),
        (
            nearest_neighbours,
            {"images": images(3, size=6)},
            "images: the layer has 32 numbers .* one size",
        ),
        (embed, {"method": "umap"}, "method: 'umap' is not accepted; accepted: pca, tsne"),
        (embed, {"images": x[:1]}, "images: 1 are not accepted; accepted: two or more"),
        (embed, {"method": "tsne", "perplexity": 30}, "perplexity: 30 .* below the 30 images"),
        (embed, {"labels": [[1]] * 30}, r"labels: int64 of shape \(30, 1\)"),
        (probe_layers, {"layers": "0"}, "layers: '0' is not accepted; accepted: a list of names"),
        (probe_layers, {"layers": []}, "layers: .. is not accepted"),
        (probe_layers, {"layers": ["9"]}, "layer: '9' is not a layer"),
        (probe_layers, {"held_out": 1.0}, "held_out: 1.0 .* above 0, below 1"),
        (probe_layers, {"num_components": 0}, "num_components: 0 is not accepted"),
        (probe_layers, {"labels": [1] * 30}, "labels: 30 images with 1 labels are too few"),
        (probe_layers, {"held_out": 0.1}, "labels: 30 images .* 10 in either part, 2 labels"),
        (probe_layers, {"images": iter([x])}, "images: none are left; .* can be read again"),
    ]


def test_errors_of_concepts() -> None:
    """What does not fit is a ValueError that names the argument, the value and what is accepted."""
    model, x = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()), images(30)
    settings: dict[Any, dict[str, Any]] = {
        nearest_neighbours: {"layer": "0", "query_images": x[:2], "images": x, "k": 3},
        embed: {"layer": "0", "images": x},
        probe_layers: {"layers": ["0"], "images": x, "labels": [0, 1] * 15, "held_out": 0.5},
    }
    for function, change, message in bad_arguments(x):
        with pytest.raises(ValueError, match=message):
            function(model, **(settings[function] | change))
    flat = nn.Flatten(0)
    with pytest.raises(ValueError, match=r"outputs \(1920,\) .* a row for each image"):
        embed(flat, None, x)


def test_figures_of_concepts() -> None:
    """Each record has a figure and a caption, with labels of numbers, of names, or with none."""
    x, colour, model = images(30), images(30, 3), nn.Flatten()
    labels = np.arange(30) % 3
    named = {"labels": labels, "classes": ["a", "b", "a very long name of a class"]}
    records = [
        nearest_neighbours(model, None, x[:3], x, 4, labels=labels, query_labels=labels[:3]),
        nearest_neighbours(model, None, colour[:1] * 3 - 1, colour, 12),
        nearest_neighbours(model, None, x[:9], x, 1, query_labels=labels[:9], **named),
        embed(model, None, x, "pca", **named), embed(model, None, x, "tsne"),
        embed(model, None, x, "pca", np.arange(30)),
        probe_layers(model, [""], x, labels, held_out=0.5),
        probe_layers(Odd(), ["conv", "relu", "relu@1", "head"] * 3, x, labels, held_out=0.5,
                     untrained=Odd()),
    ]  # fmt: skip
    for record in records:
        assert png(draw(record)).startswith(b"\x89PNG")
        assert caption(record)
    assert "untrained" in text(records[-1])
    assert "untrained" not in text(records[-2])
    words = {annotation.get_text() for annotation in draw(records[3]).axes[0].texts}
    assert words == {"a", "b", "a very … class"}
