"""Channels through training, and a page for each of them."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from visualization import conv, render
from visualization.core.pixels import data_uri
from visualization.core.registry import fragment, subpages
from visualization.feature_maps.figures.progression import animation
from visualization.feature_maps.progression import weights_before
from visualization.feature_maps.unit_pages import address
from visualization.report import Report

LABELS = ["even", "odd"] * 15


class Residual(nn.Module):
    """A block with a shortcut, an in-place ReLU used twice, and a channel that is dead."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.conv = nn.Conv2d(4, 6, 3, padding=1)
        self.shortcut = nn.Conv2d(4, 6, 1)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(6, 2)
        with torch.no_grad():
            self.conv.bias[5] = self.shortcut.bias[5] = -100.0

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, 2)."""
        x = self.relu(self.norm(self.stem(x)))
        x = self.relu(self.conv(x) + self.shortcut(x))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


@pytest.fixture
def model() -> Residual:
    torch.manual_seed(0)
    return Residual().eval()


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).random((30, 1, 8, 8), np.float32)


def states(model: Residual, num: int = 3) -> dict[int, dict[str, Tensor]]:
    """Return states as after some steps: each with other weights."""
    found = {}
    generator = torch.Generator().manual_seed(1)
    for step in range(num):
        found[10 * step] = {
            name: tensor + 0.1 * step * torch.randn(tensor.shape, generator=generator)
            if tensor.is_floating_point() and "running" not in name else tensor.clone()
            for name, tensor in model.state_dict().items()
        }  # fmt: skip
    return found


def sheets(model: Residual, images: np.ndarray) -> conv.UnitSheets:
    """Return the sheets of the second ReLU's channels."""
    layer = "relu@1"
    return conv.unit_sheets(
        model, layer, images,
        patches=conv.top_patches(model, layer, images, k=4),
        names=[f"test/{number}" for number in range(len(images))],
        labels=LABELS,
        maximised=conv.maximise(model, conv.channel(layer, range(6)), (1, 8, 8), steps=3),
        progression=conv.progression(model, states(model), layer, images),
    )  # fmt: skip


def test_maps_are_those_of_each_copy(model: Residual, images: np.ndarray) -> None:
    """Maps, kernels and best patches are those of a model that holds the copy's weights."""
    held = states(model)
    found = conv.progression(model, held, "relu@1", images, num_shown=5, channels=[1, 4])
    assert found.steps.tolist() == [0, 10, 20]
    assert found.maps.shape == (3, 5, 2, 8, 8)
    for number, state in enumerate(held.values()):
        other = Residual().eval()
        other.load_state_dict(state)
        with torch.no_grad():
            maps = conv.activation(other, torch.as_tensor(images[:5]), "relu@1")
        np.testing.assert_allclose(found.maps[number], maps[:, [1, 4]].numpy(), atol=1e-6)
        np.testing.assert_array_equal(found.kernels[number], state["conv.weight"][[1, 4]].numpy())
        top = conv.top_patches(other, "relu@1", images, channels=[1, 4], k=1)
        np.testing.assert_array_equal(found.patches[number].image, top.image)


def test_looking_at_copies_leaves_the_model(model: Residual, images: np.ndarray) -> None:
    """The model's own weights and modes are what they were."""
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    conv.progression(model, states(model), "relu@0", images)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("layer", "name"),
    [("stem", "stem.weight"), ("norm", "stem.weight"), ("relu@0", "stem.weight"),
     ("relu@1", "conv.weight"), ("shortcut", "shortcut.weight"), ("head", "head.weight")],
)  # fmt: skip
def test_channels_know_the_weights_that_they_come_from(
    model: Residual, images: np.ndarray, layer: str, name: str
) -> None:
    """A ReLU's are those of the convolution before it, beside a shortcut the larger kernel."""
    assert weights_before(model, layer, torch.as_tensor(images[:1])) == name


def test_channels_of_no_weights_have_none(images: np.ndarray) -> None:
    """Before any convolution there is nothing that channels come from."""
    model = nn.Sequential(nn.ReLU(), nn.Conv2d(1, 2, 3))
    assert weights_before(model, "0", torch.as_tensor(images[:1])) is None
    held = {0: model.state_dict()}
    assert conv.progression(model, held, "0", images).kernels is None


@pytest.mark.parametrize(
    ("options", "words"),
    [({"channels": [0, 6]}, "channel 6 does not exist; accepted: 0 to 5"),
     ({"states": {}}, "states: none are given"), ({"layer": "rely"}, "did you mean 'relu'")],
)  # fmt: skip
def test_what_does_not_fit_is_named(
    model: Residual, images: np.ndarray, options: dict[str, object], words: str
) -> None:
    """An error names the channel, the layer, or the states that are missing."""
    given = {"states": states(model), "layer": "relu@1", **options}
    with pytest.raises(ValueError, match=words):
        conv.progression(model, given.pop("states"), given.pop("layer"), images, **given)


def test_the_animation_has_a_frame_for_each_copy(model: Residual, images: np.ndarray) -> None:
    """It is a GIF of as many frames as there are copies."""
    record = conv.progression(model, states(model), "relu@1", images)
    with Image.open(io.BytesIO(animation(record))) as found:
        assert (found.format, found.n_frames) == ("GIF", 3)
    assert "data:image/gif" in fragment(record)
    assert render.png(render.draw(record)).startswith(b"\x89PNG")


def test_a_picture_in_a_page_has_a_pixel_for_each_number() -> None:
    """Colours come back as they went in, to 1/255."""
    colors = np.random.default_rng(0).random((5, 7, 3))
    head, content = data_uri(colors).split(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as found:
        found.verify()
    with Image.open(io.BytesIO(base64.b64decode(content))) as found:
        np.testing.assert_array_equal(np.asarray(found), (255 * colors).astype(np.uint8))


def test_peaks_are_the_largest_values(model: Residual, images: np.ndarray) -> None:
    """Of each image and channel the largest of its map, whatever the batches."""
    found = sheets(model, images)
    with torch.no_grad():
        maps = conv.activation(model, torch.as_tensor(images), "relu@1").amax((2, 3)).numpy()
    np.testing.assert_allclose(found.peaks, maps, atol=1e-6)
    np.testing.assert_array_equal(found.kernels, model.conv.weight.detach().numpy())


def test_each_channel_has_a_page_at_a_stable_address(
    model: Residual, images: np.ndarray, tmp_path: Path
) -> None:
    """A saved report has units/LAYER/CHANNEL.html for each, and leads there and back."""
    report = Report("a network", {"units": {"relu@1": sheets(model, images)}})
    main = report.save(tmp_path / "look.html").read_text()
    written = sorted(path.name for path in (tmp_path / "units" / "relu@1").iterdir())
    assert written == [f"{channel}.html" for channel in range(6)]
    assert [f'href="{address("relu@1", channel)}"' in main for channel in range(6)] == [True] * 6
    page = (tmp_path / address("relu@1", 3)).read_text()
    assert 'href="../../look.html#units-relu@1"' in page
    assert 'id="units-relu@1"' in main
    assert 'href="2.html"' in page
    assert 'href="4.html"' in page
    assert not re.search(r"https?:|<link|<script|src=(?!\"data:)", page)


def test_a_page_shows_what_the_records_say(model: Residual, images: np.ndarray) -> None:
    """Best patches with their values and images, the labels' means, and every step."""
    record = sheets(model, images)
    pages = dict(subpages(record, "report.html"))
    page = pages[address("relu@1", 0)]
    for place in range(4):
        assert (
            f"{record.patches.value[0, place]:.3g}<br>test/{record.patches.image[0, place]}<"
            in page
        )
    for label in ("even", "odd"):
        mean = record.peaks[np.array(LABELS) == label, 0].mean()
        assert f"<title>{label}: {mean:.3g}</title>" in page
    assert all(f"<th>{step}</th>" in page for step in (0, 10, 20))
    assert f"Bias {model.conv.bias[0]:.3g}" in page
    counts = [int(n) for n in re.findall(r" to [^:<]*: ([0-9]+) images</title>", page)]
    assert sum(counts) == 30


def test_a_dead_channel_is_called_dead(model: Residual, images: np.ndarray) -> None:
    """Its page says that no image excites it and shows no image as if one did."""
    record = sheets(model, images)
    page = dict(subpages(record, "report.html"))[address("relu@1", 5)]
    assert "Dead: none of 30 images excites it." in page
    assert "5 dead" in fragment(record)
    silent = (~(record.peaks > 0).any(axis=0)).nonzero()[0]
    assert 5 in silent
    assert f"dead: {', '.join(map(str, silent))}" in render.text(record)


def test_records_of_other_channels_are_refused(model: Residual, images: np.ndarray) -> None:
    """A progression of other channels than the patches is an error that names both."""
    patches = conv.top_patches(model, "stem", images, channels=[0, 2])
    other = conv.progression(model, states(model), "stem", images)
    with pytest.raises(ValueError, match=r"progression: .* accepted: channels \[0, 2\]"):
        conv.unit_sheets(
            model, "stem", images, patches=patches, names=["x"] * 30, progression=other
        )
