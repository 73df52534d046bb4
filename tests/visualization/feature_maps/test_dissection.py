"""Dissection of planted units, thresholds, chance, placement; hygiene."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.helpers.unchanged import left_alone
from visualization.core.registry import png
from visualization.feature_maps import dissection, quantiles
from visualization.feature_maps.dissection import dissect
from visualization.feature_maps.figures.dissection import caption, draw, text
from visualization.feature_maps.quantiles import TopKImages, UpperQuantile
from visualization.feature_maps.scan_concepts import scan_concepts
from visualization.feature_maps.upsampling import upsampling


class Odd(nn.Module):
    """In place from the first operation on, batch norm, a ReLU used twice, a functional one."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 5, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(5)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, 3)."""
        x -= 0.5
        y = self.relu(self.norm(self.conv(x)))
        y = self.relu(y + F.relu(self.conv(x)))
        return self.head(y.mean(dim=(2, 3)))


class Loader:
    """Batches that can be read again and again."""

    def __init__(self, *arrays: Any, batch_size: int = 7) -> None:
        self.arrays, self.batch_size = arrays, batch_size

    def __iter__(self) -> Iterator[Any]:
        """Yield slices, of several arrays as a tuple."""
        for first in range(0, len(self.arrays[0]), self.batch_size):
            parts = tuple(array[first : first + self.batch_size] for array in self.arrays)
            yield parts if len(parts) > 1 else parts[0]


def planted(num: int = 60, size: int = 12, share: float = 0.2) -> tuple[Tensor, Tensor]:
    """Return images (N, 3, H, W) of noise, two channels of which hold masks (N, 2, H, W)."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(num, 2, size, size, generator=generator) < share
    noise = torch.rand(num, 1, size, size, generator=generator)
    return torch.cat([masks.float(), noise], dim=1), masks


def test_a_planted_unit_is_found_exactly() -> None:
    """A unit whose map is a mask covers it with IoU 1, and others, as noise does, by chance."""
    x, masks = planted()
    found = dissect(nn.Identity(), None, x, masks, ["first", "second"], quantile=0.1)
    assert found.iou[0, 0] == found.iou[1, 1] == 1
    both = 0.2 * 0.2 / (0.4 - 0.04)  # of independent masks
    np.testing.assert_allclose(found.iou[[0, 1], [1, 0]], both, atol=0.02)
    np.testing.assert_allclose(found.iou[2], 0.1 * 0.2 / (0.3 - 0.02), atol=0.02)
    np.testing.assert_allclose(found.chance[:2], both, atol=0.02)
    np.testing.assert_allclose(found.chance[2], found.iou[2], atol=0.02)
    assert found.best[:2].tolist() == [0, 1]
    assert found.best_iou[:2].tolist() == [1, 1]
    assert found.detectors.tolist() == [True, True, False]
    assert found.num_unique == 2
    np.testing.assert_allclose(found.concept_shares, masks.double().mean(dim=(0, 2, 3)))
    np.testing.assert_allclose(found.unit_shares, [*found.concept_shares, 0.1], atol=1e-3)
    np.testing.assert_allclose(found.ceilings[0, 0], 1)
    assert (found.iou <= found.ceilings + 1e-12).all()
    assert (found.share_read, found.placement, found.num_images) == (1, "centred", 60)


def test_chance_knows_the_place() -> None:
    """A concept that is always at one place is covered by chance as well, and is not detected."""
    x, masks = planted()
    fixed = torch.zeros_like(masks)
    fixed[:, 0, 2:5, 3:9] = True
    fixed[:, 1] = masks[:, 1]
    x[:, 0] = fixed[:, 0]
    found = dissect(nn.Identity(), None, x, fixed, ["place", "thing"], quantile=0.1)
    assert found.iou[0, 0] == found.chance[0, 0] == 1
    assert found.detectors.tolist() == [False, True, False]
    assert found.num_unique == 1


def test_reading_changes_nothing() -> None:
    """Batches of any size, loaders, functions and other memory budgets give the same overlaps."""
    x, masks = planted(40)
    concepts = ["a", "b"]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU()).double()
    whole = dissect(model, "1", x, masks, concepts, 0.05)

    def near(images: Tensor) -> Tensor:
        return images[:, :2] > 0.5

    for given, labels in (
        (x.numpy(), masks.numpy()), (x, masks.byte()), (x, near), (Loader(x), Loader(masks)),
        (Loader(x, masks), near), (Loader(x), masks), (x, Loader(masks)),
    ):  # fmt: skip
        found = dissect(model, "1", given, labels, concepts, 0.05, batch_size=7)
        np.testing.assert_allclose(found.iou, whole.iou, atol=1e-12)
        np.testing.assert_allclose(found.thresholds, whole.thresholds, rtol=1e-12)
        np.testing.assert_allclose(found.chance, whole.chance, atol=0.03)
        assert [e.numbers for e in found.examples] == [e.numbers for e in whole.examples]
    for batch_size in (1, 7):
        found = dissect(model, "1", x, masks, concepts, 0.05, batch_size=batch_size)
        np.testing.assert_allclose(found.iou, whole.iou, atol=1e-12)
        np.testing.assert_allclose(found.chance, whole.chance, atol=1e-12)


def test_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few units and images at a time give the same counts."""
    x, masks = planted(20)
    torch.manual_seed(1)
    model = nn.Conv2d(3, 9, 3, padding=1)
    whole = dissect(model, None, x, masks, ["a", "b"])
    monkeypatch.setattr(dissection, "_BUDGET", 12 * 12 * 9)
    found = dissect(model, None, x, masks, ["a", "b"])
    np.testing.assert_array_equal(found.iou, whole.iou)
    np.testing.assert_array_equal(found.chance, whole.chance)


def test_thresholds_are_exact() -> None:
    """The share of values at the threshold or above it is the quantile, whatever the batches."""
    values = torch.randn(50, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    flat = values.transpose(0, 1).flatten(1)
    for share in (0.001, 0.05, 0.5, 0.999):
        rank = max(1, int(np.ceil(share * 1000)))
        wanted = flat.sort(dim=1, descending=True).values[:, rank - 1]
        for size in (50, 3):
            top = UpperQuantile(share, 1000, values)
            for part in values.split(size):
                top.update(part)
            assert top.share_read == 1
            assert torch.equal(top.thresholds, wanted)
            regions = top.regions(values[:, 1:], slice(1, 3))
            assert regions.sum(dim=(0, 2, 3)).tolist() == [rank, rank]


def test_thresholds_of_more_than_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the highest values do not fit, few are held and the share above stays about right."""
    monkeypatch.setattr(quantiles, "_MAX_KEPT", 2000)
    values = torch.randn(200, 4, 30, 30, generator=torch.Generator().manual_seed(0))
    top = UpperQuantile(0.05, 200 * 900, values)
    for part in values.split(16):
        top.update(part)
        assert top._highest.numel() <= 2100
    assert top.share_read == pytest.approx(2000 / (4 * 0.05 * 200 * 900))
    shares = top.regions(values, slice(0, 4)).double().mean(dim=(0, 2, 3))
    np.testing.assert_allclose(shares, 0.05, rtol=0.15)
    x, masks = planted()
    found = dissect(nn.Identity(), None, x, masks, ["first", "second"], quantile=0.1)
    assert found.share_read < 1
    assert found.iou[0, 0] == 1
    assert "of the values" in text(found)


def test_units_that_are_seldom_on() -> None:
    """A dead unit has no region; one that is seldom on has the places where it is on."""
    x, masks = planted(share=0.002)
    x[:, 2] = 0.3
    found = dissect(nn.Identity(), None, x, masks, ["first", "second"], quantile=0.1)
    assert found.iou[0, 0] == found.iou[1, 1] == 1
    assert (found.iou[2] == 0).all()
    assert found.unit_shares[2] == 0
    empty = dissect(nn.Identity(), None, x * 0, masks & False, ["first", "second"])
    assert (empty.iou == 0).all()
    assert (empty.num_unique, empty.examples) == (0, ())


def test_exciting_images() -> None:
    """Examples are the images where a unit is highest, of equals the first, with its regions."""
    x, masks = planted(30)
    x[:, 0] *= torch.linspace(1, 2, 30)[:, None, None]
    for given in (x, Loader(x)):
        found = dissect(nn.Identity(), None, given, masks if given is x else Loader(masks),
                        ["first", "second"], 0.01, num_examples=3)  # fmt: skip
        first = next(example for example in found.examples if example.unit == 0)
        assert first.numbers == (29, 28, 27)
        assert first.concept == 0
        np.testing.assert_array_equal(first.images, x[[29, 28, 27]].numpy())
        np.testing.assert_array_equal(first.masks, masks[[29, 28, 27], 0].numpy())
        np.testing.assert_array_equal(
            first.regions, (x[[29, 28, 27], 0] >= found.thresholds[0]).numpy()
        )
    highest = TopKImages(2, x)
    for part in torch.zeros(9, 3, 2, 2).split(4):
        highest.update(part)
    assert highest.numbers.tolist() == [[0, 1]] * 3


def test_maps_stand_at_the_centres_of_what_they_see() -> None:
    """A value lies at its receptive field's centre, lines between; far outside there is none."""
    valid = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3))
    place = upsampling(valid, None, (1, 10, 10), torch.zeros(1, 1, 6, 6), (10, 10))
    maps = torch.arange(36.0).view(1, 1, 6, 6)
    found = place(maps)
    assert place.kind == "centred"
    assert torch.equal(found[:, :, 2:8, 2:8], maps)
    inside = torch.zeros(10, 10, dtype=torch.bool)
    inside[2:8, 2:8] = True
    assert found[0, 0][~inside].isneginf().all()
    pooled = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.AvgPool2d(2))
    rows = torch.arange(5.0).view(1, 1, 5, 1).expand(1, 1, 5, 5)
    found = upsampling(pooled, None, (1, 10, 10), rows, (10, 10))(rows)
    wanted = ((torch.arange(10.0) - 0.5) / 2).clamp(0, 4)  # centres at 0.5, 2.5, …
    torch.testing.assert_close(found[0, 0, :, 3], wanted)
    strided = nn.Conv2d(1, 1, 3, stride=2, padding=1)
    found = upsampling(strided, None, (1, 10, 10), rows, (10, 10))(rows)
    torch.testing.assert_close(found[0, 0, :, 3], (torch.arange(10.0) / 2).clamp(0, 4))
    larger = upsampling(strided, None, (1, 10, 10), rows, (20, 20))(rows)
    at = ((torch.arange(20.0) + 0.5) / 2 - 0.5) / 2
    torch.testing.assert_close(larger[0, 0, :, 3], at.clamp(0, 4))
    assert torch.equal(
        place(torch.full((1, 1, 6, 6), 1 / 3))[0, 0][inside], torch.full((36,), 1 / 3)
    )


def test_maps_that_see_everything() -> None:
    """Behind an operation on the whole map, and of a single place, values are spread evenly."""

    class Whole(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x - x.mean(dim=(2, 3), keepdim=True)

    place = upsampling(Whole(), None, (1, 4, 4), torch.zeros(1, 1, 4, 4), (4, 4))
    maps = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert place.kind == "even"
    assert torch.equal(place(maps), maps)
    single = nn.AdaptiveAvgPool2d(1)
    place = upsampling(single, None, (1, 4, 4), torch.zeros(1, 1, 1, 1), (6, 6))
    assert torch.equal(place(torch.full((1, 1, 1, 1), 2.0)), torch.full((1, 1, 6, 6), 2.0))


def test_a_shifted_map_is_laid_over_what_it_saw() -> None:
    """Without padding, the maps of a planted pixel detector cover its masks but for the border."""
    x, masks = planted(size=14)
    layer = nn.Conv2d(3, 1, 5, bias=False)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, 0, 2, 2] = 1
    masks[:, :, :2], masks[:, :, -2:], masks[:, :, :, :2], masks[:, :, :, -2:] = [False] * 4
    found = dissect(layer, None, x, masks, ["first", "second"], 0.1)
    assert found.iou[0, 0] == 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_odd_modules_are_left_as_they_were(channels: int, dtype: torch.dtype) -> None:
    """In-place first operations, batch norm in training mode, reuse: no trace, also on errors."""
    torch.manual_seed(2)
    model = Odd(channels).to(dtype).train()
    x = torch.rand(12, channels, 8, 8).to(dtype).numpy()
    masks = x[:, :1] > 0.7
    demand_same = left_alone(model, x)
    found = {
        layer: dissect(model, layer, x, masks, ["bright"], 0.05, batch_size=5)
        for layer in ("conv", "norm", "relu", "relu@1")
    }
    assert all(each.iou.shape == (5, 1) for each in found.values())
    assert (found["relu@1"].thresholds > found["relu"].thresholds).all()
    demand_same()
    with pytest.raises(ValueError, match="maps"):
        dissect(model, "head", x, masks, ["bright"])
    with pytest.raises(ValueError, match="was not called"):
        dissect(model, "relu@5", x, masks, ["bright"])
    demand_same()


def test_errors_of_dissection() -> None:
    """What does not fit is a ValueError that names the argument, the value and what is accepted."""
    x, masks = planted(8)
    bad: list[tuple[dict[str, Any], str]] = [
        ({"quantile": 0.0}, "quantile: 0.0 is not accepted; accepted: above 0, below 1"),
        ({"batch_size": 0}, "batch_size: 0 is not accepted"),
        ({"num_examples": 0}, "num_examples: 0 is not accepted"),
        ({"concepts": []}, "concepts: .. is not accepted; accepted: different names"),
        ({"concepts": ["a", "a"]}, "concepts: .* different names"),
        ({"concepts": "ab"}, "concepts: 'ab' is not accepted"),
        ({"concepts": ["a"]}, r"masks: shape \(8, 2, 12, 12\) does not go with 8 images"),
        ({"masks": masks[:5]}, r"masks: .*5.* does not go with 8 images|masks: 5 do not go"),
        ({"masks": torch.cat([masks, masks])}, "masks: 16 do not go with 8 images; accepted: 8"),
        ({"masks": masks.float()}, "masks: torch.float32 is not accepted; accepted: booleans"),
        ({"masks": Loader(masks[:4], batch_size=4), "batch_size": 4}, "as many batches of masks"),
        ({"masks": iter([masks])}, "masks: a list_iterator can be read only once"),
        ({"images": iter([x])}, "images: a list_iterator can be read only once"),
        ({"images": x[:1], "masks": masks[:1]}, "images: 1 are not accepted; accepted: two"),
        ({"layer": "conv"}, "layer: 'conv' is not a layer"),
        ({"model": nn.Flatten()}, r"layer: 'the model' outputs \(8, 432\); accepted: layers of"),
    ]
    for change, message in bad:
        settings = {
            "model": nn.Sequential(nn.Identity()), "layer": None, "images": x, "masks": masks,
            "concepts": ["a", "b"],
        }  # fmt: skip
        with pytest.raises(ValueError, match=message):
            dissect(**(settings | change))


def test_an_edge_filter_is_told_by_its_edge() -> None:
    """Planted derivative filters on real scans are detectors of the edges they were made for."""
    from sklearn.datasets import load_digits

    scans = np.kron(load_digits().images[:200] / 16, np.ones((2, 2)))[:, None].astype(np.float32)
    layer = nn.Conv2d(1, 4, 3, padding=1, bias=False)
    across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    with torch.no_grad():
        layer.weight.copy_(torch.stack([across, -across, across.T, -across.T])[:, None])
    sides = ("left edge", "right edge", "upper edge", "lower edge")
    labelled = scan_concepts(scans)
    chosen = [labelled.names.index(side) for side in sides]
    found = dissect(layer, None, scans, labelled.masks[:, chosen], sides, 0.05)
    assert found.best.tolist() == [0, 1, 2, 3]
    assert found.detectors.all()
    assert (found.best_iou > 2 * found.best_chance).all()


def test_figures_of_dissection() -> None:
    """Each record has a figure and a caption, also of colours, larger masks and no detector."""
    x, masks = planted(10)
    wide = masks.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    records = [
        dissect(nn.Identity(), None, x, masks, ["first", "second"], 0.1),
        dissect(nn.Conv2d(3, 30, 3), None, x - 1, wide, ["first", "second"], num_examples=2),
        dissect(nn.Identity(), None, x * 0, masks, ["first", "second"]),
        scan_concepts(x[:, 2:].numpy()), scan_concepts(x[0, 0].numpy()),
    ]  # fmt: skip
    for record in records:
        assert png(draw(record)).startswith(b"\x89PNG")
        assert caption(record)
    assert text(records[0]).splitlines()[1].endswith("detector")
    assert "exact" in text(records[0])
    assert "2 of 3 units are detectors, of 2 concepts" in draw(records[0]).get_suptitle()
