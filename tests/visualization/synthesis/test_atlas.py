"""Activation atlas: cells of planted activations, exact means, and images that excite them."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from tests.helpers.synthesis import from_seed, odd, words
from visualization.core.inputs import activation
from visualization.core.registry import caption, text
from visualization.synthesis.atlas import ActivationAtlas, activation_atlas


class Averaging(nn.Module):
    """A layer that passes images on, their mean over places, and a linear read-out."""

    def __init__(self, num_channels: int = 2, num_classes: int = 3) -> None:
        super().__init__()
        self.look = nn.Identity()
        self.head = nn.Linear(num_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        out: Tensor = self.head(self.look(x).mean(dim=(2, 3)))
        return out


def two_groups(num: int = 20) -> tuple[Tensor, np.ndarray]:
    """Return images (2 · num, 2, 3, 4) that are bright in one of two channels, and which it is."""
    groups = np.arange(2 * num) % 2
    images = 0.05 * from_seed(2 * num, 2, 3, 4)
    images[torch.arange(2 * num), torch.from_numpy(groups)] += 1
    return images, groups


def sampled(atlas: ActivationAtlas, maps: Tensor) -> np.ndarray:
    """Return the activations (M, D) that an atlas is of, from a layer's maps (N, D, H, W)."""
    rows, columns = atlas.positions.T
    return maps[atlas.image_numbers, :, rows, columns].detach().double().numpy()


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_two_groups_lie_in_different_cells(method: Any) -> None:
    """No cell has activations of both, and each is labelled with its own."""
    images, groups = two_groups()
    atlas = activation_atlas(
        Averaging(), "look", images, grid=4, method=method, labels=groups, steps=2
    )
    cells = {group: set(map(tuple, atlas.cell_of[groups == group])) for group in (0, 1)}
    assert not cells[0] & cells[1]
    assert atlas.labels is not None
    assert set(atlas.labels) == {0, 1}
    assert (atlas.label_shares == 1).all()


def test_means_are_of_the_activations_of_a_cell() -> None:
    """Each is exactly the mean; a cell with fewer than the least has no image; all are counted."""
    images = from_seed(50, 1, 8, 9)
    model = odd().eval()
    atlas = activation_atlas(model, "stem", images, grid=5, least=3, method="pca", steps=1)
    rows = sampled(atlas, activation(model, images, "stem"))
    assert atlas.image_numbers.tolist() == list(range(50))
    assert atlas.counts.sum() == 50
    for row, column in np.ndindex(5, 5):
        inside = (atlas.cell_of == (row, column)).all(axis=1)
        assert atlas.counts[row, column] == inside.sum()
        has_image = (atlas.cells == (row, column)).all(axis=1)
        assert has_image.any() == (inside.sum() >= 3)
        if has_image.any():
            np.testing.assert_allclose(atlas.means[has_image][0], rows[inside].mean(0), atol=1e-6)
    assert len(atlas.images) == len(atlas.cells) == len(atlas.means)
    shares = (atlas.points - atlas.points.min(0)) / np.ptp(atlas.points, axis=0)
    upper = shares[:, 1] > 0.8 + 1e-9
    assert (atlas.cell_of[upper, 0] == 0).all()  # the second axis rises, as in a plot


def test_the_image_of_a_cell_excites_its_direction() -> None:
    """More than any of a hundred random images does, in the dot product averaged over places."""
    model = odd().eval()
    atlas = activation_atlas(
        model, "twice", from_seed(40, 1, 8, 8), grid=2, method="pca", steps=60, power=0.0,
        transforms=(),
    )  # fmt: skip
    directions = torch.from_numpy(atlas.directions).float()
    dots = [
        activation(model, images, "twice").mean(dim=(2, 3)) @ directions.T
        for images in (atlas.images, from_seed(100, 1, 8, 8, seed=1))
    ]
    assert (dots[0].diagonal() > dots[1].max(dim=0).values).all()
    assert_close(torch.from_numpy(atlas.maximised.values).float(), dots[0].diagonal())


def test_directions_are_whitened_means() -> None:
    """M + εI times the direction is along the mean; without whitening it is the mean itself."""
    images = from_seed(60, 3, 4, 4) * torch.tensor([1.0, 5.0, 0.2])[:, None, None]
    model = Averaging(3)
    atlas = activation_atlas(model, "look", images, grid=3, method="pca", steps=1)
    rows = sampled(atlas, images)
    products = rows.T @ rows / len(rows)
    products += 0.01 * products.trace() / 3 * np.eye(3)
    back = atlas.directions @ products
    cosines = (back * atlas.means).sum(1)
    cosines /= np.linalg.norm(back, axis=1) * np.linalg.norm(atlas.means, axis=1)
    np.testing.assert_allclose(cosines, 1, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(atlas.directions, axis=1), 1)
    plain = activation_atlas(model, "look", images, grid=3, method="pca", steps=1, whiten=False)
    lengths = np.linalg.norm(plain.means, axis=1, keepdims=True)
    np.testing.assert_allclose(plain.directions, plain.means / lengths)


def test_attribution_of_a_mean_is_its_share_of_the_logit() -> None:
    """Where logits are W times the mean over P places, an activation a raises them by W a / P."""
    images, _ = two_groups()
    model = Averaging().double()
    atlas = activation_atlas(model, "look", images, grid=2, least=1, method="pca", steps=1)
    weight = model.head.weight.detach().numpy()
    assert atlas.attribution is not None
    assert atlas.attributed is not None
    np.testing.assert_allclose(atlas.attribution, atlas.means @ weight.T / 12, rtol=1e-6)
    assert atlas.attributed.tolist() == (atlas.means @ weight.T).argmax(1).tolist()


def test_places_are_drawn_once_whatever_the_batches() -> None:
    """All places, or as many as are asked for, each once; the same in batches of any size."""
    images, model = from_seed(7, 2, 3, 4), Averaging()
    every = activation_atlas(model, "look", images, grid=1, per_image=None, method="pca", steps=1)
    assert len(every.points) == 7 * 12
    np.testing.assert_allclose(every.means[0], images.mean((0, 2, 3)), rtol=1e-5)
    few = [
        activation_atlas(model, "look", images, grid=1, per_image=5, method="pca", steps=1,
                         batch_size=size)
        for size in (2, 7)
    ]  # fmt: skip
    assert len(np.unique(few[0].image_numbers * 12 + few[0].positions @ [4, 1])) == 7 * 5
    np.testing.assert_array_equal(few[0].positions, few[1].positions)
    vector = activation_atlas(model, "head", images, grid=1, method="pca", steps=1)
    np.testing.assert_allclose(vector.means[0], model(images).detach().mean(0), rtol=1e-4)


def test_a_silent_cell_has_no_direction_and_no_image() -> None:
    """A mean of zero is said to be dead and crossed out, not made a grey image."""
    images, _ = two_groups(3)
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
    with torch.no_grad():
        model[0].bias.fill_(-99)
    atlas = activation_atlas(model, "1", images, grid=1, steps=2, method="pca")
    assert (atlas.directions == 0).all()
    assert atlas.maximised.verdicts == ("dead",)
    assert "no image" in words(atlas)


def test_the_figure_says_where_labels_contradict() -> None:
    """Names of classes stand over cells, with counts under them; without classes labels do."""
    images, groups = two_groups()
    model = Averaging(2, 2)
    with torch.no_grad():
        model.head.weight.copy_(torch.eye(2))
    atlas = activation_atlas(model, "look", images, grid=2, method="pca", labels=groups, steps=2,
                             classes=["red", "blue"])  # fmt: skip
    shown = words(atlas)
    assert "40 activations" in shown
    assert {"red", "blue"} <= set(shown.split("\n"))
    assert "100%" in text(atlas)
    assert "first order" in caption(atlas)
    plain = activation_atlas(model, "look", images, grid=2, method="pca", labels=groups, steps=2,
                             attribution=False)  # fmt: skip
    assert plain.attribution is None
    assert "raise" not in caption(plain)
    assert {"0", "1"} <= set(words(plain).split("\n"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"least": 41}, "least: no cell has 41; accepted: 1 to"),
        ({"grid": 0}, "grid: 0 is not accepted; accepted: 1 or more"),
        ({"per_image": 0}, "per_image: 0 is not accepted"),
        ({"method": "umap"}, "method: 'umap' is not accepted; accepted: pca, tsne"),
        ({"layer": "loko"}, "loko"),
        ({"labels": [1, 2]}, "labels: .* does not go with 40 images"),
        ({"images": torch.rand(1, 2, 3, 4)}, "images: 1 are not accepted; accepted: two or more"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, Any], told: str) -> None:
    """The argument is named, and what it may be."""
    settings: dict[str, Any] = {"layer": "look", "images": two_groups()[0], "steps": 1,
                                "method": "pca", **change}  # fmt: skip
    with pytest.raises(ValueError, match=told):
        activation_atlas(Averaging(), **settings)


def test_a_model_without_classes_is_told_what_to_do() -> None:
    """Its outputs are named, and that the atlas can do without attribution."""
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU())
    with pytest.raises(ValueError, match=r"model: outputs .*; accepted: .* attribution=False"):
        activation_atlas(model, "0", two_groups()[0], method="pca")
    assert activation_atlas(
        model, "0", two_groups()[0], method="pca", attribution=False, steps=1
    ).attributed is None  # fmt: skip
