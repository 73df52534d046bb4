"""The patches that excite feature maps, against planted ones and against a sort of everything."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tests.test_receptive import odd, unchanged
from visualization.conv.fields.patches import TopPatches, activated, top_patches
from visualization.conv.fields.ranking import Ranking
from visualization.conv.fields.receptive import receptive_field
from visualization.render.captions import caption
from visualization.render.conv import fields
from visualization.render.core import draw, png, text

ARRAYS = ("channels", "image", "row", "column", "value", "patches", "inside")


def same(a: TopPatches, b: TopPatches) -> None:
    """Hold that two records are equal to the bit."""
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), name)


def counting(channels: int = 1, seed: int = 0) -> nn.Sequential:
    """Return a network of small whole numbers, whose sums are exact and whose ties are many."""
    model = nn.Sequential(
        nn.Conv2d(channels, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 4, 2, stride=2), nn.ReLU()
    )
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        drawn = torch.randint(-1, 2, parameter.shape, generator=generator)
        parameter.data = drawn.float()
    return model


def whole(num: int, *shape: int, seed: int = 0) -> Tensor:
    """Return images of zeros, ones and twos."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 3, (num, *shape), generator=generator).float()


def planted() -> tuple[nn.Module, Tensor, Tensor, list[tuple[int, int]]]:
    """Return a filter of unit norm, images with it planted, the amplitudes and the places."""
    generator = torch.Generator().manual_seed(0)
    template = torch.randn(3, 3, generator=generator)
    template /= template.norm()
    model = nn.Sequential(nn.Conv2d(1, 1, 3, bias=False))
    model[0].weight.data = template[None, None]
    images = torch.zeros(40, 1, 12, 14)
    amplitudes = torch.rand(40, generator=generator) + 0.5
    places = []
    for image, amplitude in zip(images, amplitudes, strict=True):
        row, column = (int(torch.randint(0, n - 2, (), generator=generator)) for n in (12, 14))
        image[0, row : row + 3, column : column + 3] = amplitude * template
        places.append((row, column))
    return model, images, amplitudes, places


def test_planted_templates_come_back_in_the_order_of_their_amplitudes() -> None:
    """A template of unit norm at amplitudes a is found where it was planted, largest a first."""
    model, images, amplitudes, places = planted()
    found = top_patches(model, "0", images, k=40)
    order = amplitudes.argsort(descending=True)
    assert found.image[0].tolist() == order.tolist()
    np.testing.assert_allclose(found.value[0], amplitudes[order], rtol=1e-6)
    assert [*zip(found.row[0].tolist(), found.column[0].tolist(), strict=True)] == [
        places[at] for at in order
    ]
    template = model[0].weight.detach().numpy()[0]
    wanted = amplitudes[order].numpy()[:, None, None, None] * template
    np.testing.assert_array_equal(found.patches[0], wanted)
    assert found.inside.all()
    assert (found.num_images, found.threshold, found.layer) == (40, 0.0, "0")


@pytest.mark.parametrize("per_image", [1, 3, None])
def test_neither_batches_nor_the_order_of_the_data_matter(per_image: int | None) -> None:
    """Batches of 1, 7 or 64, a loader of batches of 5, and shuffled data give the same bits."""
    model = odd(1)
    images = torch.randn(100, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    images[60:80] = images[20:40]  # ties
    numbers = np.random.default_rng(0).permutation(1000)[:100]
    found = top_patches(model, "relu@1", images, per_image=per_image, ids=numbers)
    assert (found.image >= 0).all()
    loader = DataLoader(TensorDataset(images, torch.arange(100)), batch_size=5)
    for data in (images, loader, images.numpy(), iter([images[:3], images[3:90], images[90:]])):
        for size in (1, 7, 64):
            if isinstance(data, Iterator) and size > 1:
                continue
            again = top_patches(
                model, "relu@1", data, per_image=per_image, ids=numbers, batch_size=size
            )
            same(found, again)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(1))
    shuffled = top_patches(
        model, "relu@1", images[order], per_image=per_image, ids=numbers[order.numpy()]
    )
    same(found, shuffled)
    alone = top_patches(model, "relu@1", images, per_image=per_image, k=20)
    ranked = top_patches(model, "relu@1", images, per_image=per_image, k=20, ids=range(100))
    same(alone, ranked)


def sorted_places(
    maps: NDArray[Any], ids: list[int], most: int, apart: tuple[int, int], threshold: float
) -> list[tuple[float, int, int, int]]:
    """Return all places of the maps of one channel that count: minus value, id, row, column."""
    found = []
    for known, values in zip(ids, maps, strict=True):
        chosen: list[tuple[float, int, int, int]] = []
        for negative, row, column in sorted(
            (-value, *place) for place, value in np.ndenumerate(values) if value > threshold
        ):
            is_far = all(
                abs(row - r) >= apart[0] or abs(column - c) >= apart[1] for _, _, r, c in chosen
            )
            if is_far and len(chosen) < most:
                chosen.append((negative, known, row, column))
        found += chosen
    return sorted(found)


CASES = list(itertools.product((1, 2, None), (None, 2, "field"), (0.0, -math.inf, 3.0), (1, 6)))


@pytest.mark.parametrize(("per_image", "apart", "threshold", "k"), CASES)
def test_the_best_are_those_of_a_full_sort(
    per_image: int | None, apart: Any, threshold: float, k: int
) -> None:
    """The k best of each channel are the first of all places sorted by value, image and place."""
    model, images = counting(), whole(37, 1, 9, 8)
    with torch.no_grad():
        maps = model[:3](images).numpy()
    far = {None: (1, 1), 2: (2, 2), "field": (2, 2)}[apart]  # fields of 4 rows, 2 further each
    for ids in (None, np.random.default_rng(0).permutation(37)):
        known = list(range(37)) if ids is None else ids.tolist()
        found = top_patches(
            model, "2", images, [3, 0, 1], k, per_image,
            apart=apart, threshold=threshold, ids=ids, batch_size=16,
        )  # fmt: skip
        assert found.channels.tolist() == [3, 0, 1]
        for number, channel in enumerate(found.channels):
            wanted = sorted_places(maps[:, channel], known, per_image or 99, far, threshold)[:k]
            values = (found.value, found.image, found.row, found.column)
            rows = [part[number][: len(wanted)].tolist() for part in values]
            assert [(-v, i, r, c) for v, i, r, c in zip(*rows, strict=True)] == wanted
            assert (found.image[number, len(wanted) :] == -1).all()


def test_ties_go_to_the_smallest_id_however_late_it_comes() -> None:
    """Of images that excite alike, the first ids win; without ids the first images."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Sigmoid())
    images = torch.ones(100, 1, 2, 2)
    for per_image, wanted in ((1, [0, 1, 2]), (2, [0, 0, 1]), (None, [0, 0, 0])):
        for ids in (None, np.arange(100)[::-1]):
            found = top_patches(
                model, "1", images, k=3, per_image=per_image, ids=ids, batch_size=16
            )
            assert found.image.tolist() == [wanted] * 2
            best = activated(model, "1", 0, images, limit=3, ids=ids, batch_size=16)
            assert best.image.tolist() == [0, 0, 0]
            assert [*zip(best.row, best.column, strict=True)] == [(0, 0), (0, 1), (1, 0)]


def test_fields_apart_share_no_pixel() -> None:
    """With `field`, no two patches of an image overlap, and with 3 units some still may."""
    model, images = odd(), torch.randn(4, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    for apart in ("field", 3):
        found = top_patches(model, "inner", images, [1], 12, None, apart=apart, threshold=-math.inf)
        overlaps = []
        for a, b in itertools.combinations(range(12), 2):
            if found.image[0, a] == found.image[0, b]:
                masks = [
                    receptive_field(
                        model, "inner", (1, found.row[0, n], found.column[0, n]), (1, 24, 24)
                    )
                    for n in (a, b)
                ]
                overlaps.append(bool((masks[0].mask & masks[1].mask).any()))
        assert len(overlaps) > 5
        assert any(overlaps) == (apart == 3)


def test_patches_are_what_the_layer_saw() -> None:
    """A layer without padding gives the same activations on the patches alone."""
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, (3, 5), stride=(2, 1), padding=(1, 3), dilation=(2, 1))
    images = torch.rand(20, 3, 11, 13)
    found = top_patches(nn.Sequential(conv), "0", images, k=5, per_image=None)
    assert found.patches.shape == (4, 5, 3, 5, 5)
    bare = nn.Conv2d(3, 4, (3, 5), dilation=(2, 1))
    bare.load_state_dict(conv.state_dict())
    with torch.no_grad():
        again = bare(torch.from_numpy(found.patches).flatten(0, 1))[:, :, 0, 0].view(4, 5, 4)
    for channel in range(4):
        np.testing.assert_allclose(again[channel, :, channel], found.value[channel], rtol=1e-5)
    assert not found.inside.all()
    assert (found.patches.any(axis=2) <= found.inside).all()
    assert found.inside.any(axis=(2, 3)).all()


def test_large_fields_show_the_whole_image() -> None:
    """Where a field is as large as the image, and for vectors, the patch is the image."""
    model, images = odd(3), torch.rand(30, 3, 8, 6, generator=torch.Generator().manual_seed(0))
    found = top_patches(model, None, images, k=4, threshold=-math.inf)
    assert found.patches.shape == (5, 4, 3, 8, 6)
    np.testing.assert_array_equal(found.patches, images.numpy()[found.image])
    assert found.inside.all()
    assert not found.row.any()
    assert not found.column.any()
    with torch.no_grad():
        logits = model.eval()(images)
    np.testing.assert_allclose(found.value, logits.T.topk(4).values, rtol=1e-4)
    narrow = top_patches(model, "inner", images, [0], k=1, threshold=-math.inf)
    assert narrow.patches.shape == (1, 1, 3, 7, 6)  # 7 of 8 rows, and all of 6 columns


def test_a_layer_is_seen_before_what_follows_in_place() -> None:
    """A ReLU in place behind a layer does not hide its negative numbers; each call is its own."""
    model, images = odd(), torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        stem = model.eval().norm(model.stem(images))
        inner = model.inner(stem.relu()) + stem.relu()
    model.train()
    for layer, maps in (("norm", stem), ("relu@0", stem.relu()), ("relu@1", inner.relu())):
        lowest = top_patches(model, layer, -images * 0 + images, k=1, threshold=-math.inf)
        np.testing.assert_allclose(lowest.value[:, 0], maps.amax((0, 2, 3)), rtol=1e-5)
    everything = activated(model, "norm", 1, images, -math.inf)
    wanted = stem[:, 1].flatten().sort(descending=True).values
    np.testing.assert_allclose(everything.value, wanted, rtol=1e-4, atol=1e-6)
    assert everything.value.min() < 0


def test_the_pass_goes_no_further_than_the_layer() -> None:
    """What comes after the layer does not run, and no image is run twice."""
    counts = {"stem": 0, "head": 0}
    model = odd()

    def count(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Tensor], __: Tensor) -> None:
            counts[name] += len(inputs[0])

        return hook

    handles = [model.stem.register_forward_hook(count("stem"))]
    handles.append(model.head.register_forward_hook(count("head")))
    top_patches(model, "inner", torch.rand(64, 1, 8, 8), per_image=None)
    for handle in handles:
        handle.remove()
    assert counts == {"stem": 64 + 1, "head": 0}  # one more, to know what the layer sees


def test_what_never_happens_leaves_a_gap() -> None:
    """Zeros of a ReLU are not activated: fewer than k are found; −1, NaN and 0 mark the rest."""
    model = nn.Sequential(nn.Conv2d(1, 3, 1, bias=False), nn.ReLU())
    model[0].weight.data = torch.tensor([1.0, -1.0, 0.0]).view(3, 1, 1, 1)
    images = torch.zeros(5, 1, 4, 4)
    images[1, 0, 2, 3], images[4, 0, 0, 0] = 2.0, -3.0
    found = top_patches(model, "1", images, k=2, per_image=None)
    assert found.image.tolist() == [[1, -1], [4, -1], [-1, -1]]
    assert found.row.tolist() == [[2, -1], [0, -1], [-1, -1]]
    assert found.column.tolist() == [[3, -1], [0, -1], [-1, -1]]
    np.testing.assert_array_equal(found.value, [[2, np.nan], [3, np.nan], [np.nan, np.nan]])
    assert not found.patches[:, 1].any()
    assert not found.inside[:, 1].any()
    same(found, top_patches(model, "1", iter(images[:, None]), k=2, per_image=None))
    few = top_patches(model, "1", images[:1], k=2, threshold=-1.0)
    assert few.image.tolist() == [[0, -1]] * 3
    empty = activated(model, "1", 2, images)
    assert (len(empty.value), empty.num_activated, empty.num_units) == (0, 0, 80)


@pytest.mark.parametrize("limit", [None, 1, 7, 1000])
def test_all_activated_places_of_a_data_set(limit: int | None) -> None:
    """They are those of a sort of everything; a limit keeps the first, and all are counted."""
    model, images = counting(), whole(37, 1, 9, 8)
    with torch.no_grad():
        maps = model(images).numpy()[:, 1]
    ids = np.random.default_rng(0).permutation(37)
    wanted = sorted_places(maps, ids.tolist(), 99, (1, 1), 2.0)
    assert len(wanted) > 30
    batches = DataLoader(images, batch_size=10)
    for data in (images, batches):
        found = activated(model, "3", 1, data, 2.0, limit=limit, ids=ids, batch_size=16)
        rows = (found.value, found.image, found.row, found.column)
        places = zip(*(part.tolist() for part in rows), strict=True)
        assert [(-v, i, r, c) for v, i, r, c in places] == wanted[:limit]
        assert found.num_activated == len(wanted)
        assert (found.num_images, found.num_units) == (37, 37 * 4 * 4)
        np.testing.assert_array_equal(ids[found.index], found.image)
    cut = found.patches(images, 3)
    top = top_patches(model, "3", images, [1], 3, None, threshold=2.0, ids=ids)
    num = len(cut.pixels)
    np.testing.assert_array_equal(cut.pixels, top.patches[0, :num])
    np.testing.assert_array_equal(cut.inside, top.inside[0, :num])


def test_memory_is_bounded() -> None:
    """Even if each image is better than all before, few are kept beyond the best."""
    ranking = Ranking([0, 1], 3, 1, None, 0.0, True, torch.float32)
    for first in range(0, 1000, 10):
        values = torch.arange(first, first + 10).float().view(10, 1, 1, 1) + 1
        ranking.add(values.expand(10, 2, 4, 4), np.arange(first, first + 10), first)
        assert len(ranking.candidates()) <= 3 * 2 * 3
    assert ranking.best.image.tolist() == [999, 998, 997] * 2
    assert not ranking.best.place.any()


def test_the_images_of_an_iterable_that_are_kept_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a thousand images that stream by, those of the best and few more are held."""
    from visualization.conv.fields.stream import Source

    most = []
    keep = Source.keep

    def watched(self: Source, *arguments: Any) -> None:
        keep(self, *arguments)
        most.append(len(self._kept))

    monkeypatch.setattr(Source, "keep", watched)
    stream = (whole(20, 1, 6, 6, seed=seed) * (seed + 1) for seed in range(50))
    found = top_patches(counting(), "3", stream, [0, 1], 3, batch_size=16)
    assert found.num_images == 1000
    assert 2 <= max(most) <= 3 * 2 * 3


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_of_numbers(dtype: torch.dtype) -> None:
    """Networks of 64 and of 16 bits rank as one of 32, where all can tell the numbers apart."""
    model, images = counting(3), whole(20, 3, 8, 8)
    wanted = top_patches(model, "3", images, per_image=None)
    found = top_patches(model.to(dtype), "3", images, per_image=None)
    for name in ("image", "row", "column", "value", "patches"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
    assert found.value.dtype == (np.float64 if dtype == torch.float64 else np.float32)
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False)).to(dtype)
    nn.init.ones_(model[0].weight)
    grey = torch.full((1, 1, 2, 2), 0.3).to(dtype)
    assert float(grey.max()) > 0.3
    assert top_patches(model, "0", grey, k=1, threshold=0.3).image.tolist() == [[0]]


def test_nothing_is_left_changed() -> None:
    """Model, gradients, hooks and generators are as before, also after an exception."""
    model, images = odd(), torch.rand(20, 1, 8, 8)
    data = images.clone()
    with unchanged(model):
        top_patches(model, "relu@1", images, per_image=2)
        top_patches(model, None, DataLoader(images, batch_size=3))
        activated(model, "stem", 0, images)
        with pytest.raises(ValueError, match="after others"):
            top_patches(model, "relu", [images, images[:, :, 1:]])
        with pytest.raises(ZeroDivisionError):
            top_patches(
                model, "relu", (images / (2 - n // 2 if n < 4 else 1 // 0) for n in range(9))
            )
    assert torch.equal(images, data)


def test_mistakes_are_named() -> None:
    """An error says what was not accepted, and what is."""
    model, images = odd(), torch.rand(6, 1, 8, 8)

    def top(**settings: Any) -> Callable[[], object]:
        arguments = {"layer": "inner", "images": images} | settings
        return lambda: top_patches(model, **arguments)

    cases: list[tuple[Callable[[], object], str]] = [
        (top(layer="iner"), "did you mean 'inner'"),
        (top(channels=[0, 4]), "channels: channel 4 does not exist; accepted: 0 to 3"),
        (top(channels=[]), r"channels: \[\] is not accepted; accepted: one or more, or None"),
        (top(k=0), "k: 0 is not accepted; accepted: 1 or more"),
        (top(per_image=0), "per_image: 0 is not accepted"),
        (top(batch_size=0), "batch_size: 0 is not accepted"),
        (top(apart=0), "apart: 0 is not accepted; accepted: a number of units from 1 on, field"),
        (top(apart="fields"), "apart: 'fields' is not accepted"),
        (top(ids=range(5)), "ids: 5 for 6 or more images; accepted: one for each"),
        (top(ids=range(7)), "ids: 7 for 6 images; accepted: one for each"),
        (top(ids=[0, 1, 2, 2, 4, 5]), "ids: .* all different"),
        (top(ids=[0.5] * 6), "ids: float64 of shape .* accepted: a whole number for each image"),
        (top(images=images[:0]), "images: there are none"),
        (top(images=[]), "images: there are none; accepted: one or more"),
        (top(images=images[0]), r"images: shape \(1, 8, 8\) is not accepted; accepted: \(images"),
        (top(images=images * math.nan), "images: has NaN or inf"),
        (lambda: activated(model, "inner", -1, images), "channel -1 does not exist"),
        (lambda: activated(model, "inner", 0, images, limit=0), "limit: 0 is not accepted"),
    ]
    for call, words in cases:
        with pytest.raises(ValueError, match=words):
            call()
    tokens = nn.Sequential(nn.Flatten(2))
    with pytest.raises(ValueError, match=r"'0' puts out \(1, 64\) for an image; accepted: feature"):
        top_patches(tokens, "0", images)


def test_patches_are_drawn() -> None:
    """Each record has a figure and a caption, also with gaps; the text names the best."""
    assert fields is not None
    model, images = counting(3), whole(12, 3, 9, 7)
    top = top_patches(model, "3", images, k=3, threshold=4.0)
    text_of = text(top).splitlines()
    assert len(text_of) == 5
    for number in range(4):
        if top.image[number, 0] < 0:
            assert text_of[1 + number].endswith("never above 4")
        else:
            assert f"{top.value[number, 0]:.4g}" in text_of[1 + number]
    gaps = top_patches(model, "3", images, k=3, threshold=1e9)
    assert text(gaps).count("never above 1e+09") == 4
    many, none = activated(model, "3", 1, images), activated(model, "3", 1, images, 1e9)
    for record in (top, gaps, many, none):
        assert png(draw(record), dpi=40).startswith(b"\x89PNG")
        assert caption(record)
