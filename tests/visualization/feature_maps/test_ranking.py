"""Which places excite feature maps most, against a sort of everything."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tests.helpers.small_models import counting, odd, same, whole
from visualization.feature_maps.fields.patches import activating_positions, top_patches
from visualization.feature_maps.fields.ranking import Ranking


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
            min_distance=apart, threshold=threshold, ids=ids, batch_size=16,
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
            best = activating_positions(model, "1", 0, images, limit=3, ids=ids, batch_size=16)
            assert best.image.tolist() == [0, 0, 0]
            assert [*zip(best.row, best.column, strict=True)] == [(0, 0), (0, 1), (1, 0)]


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
        found = activating_positions(model, "3", 1, data, 2.0, limit=limit, ids=ids, batch_size=16)
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
    from visualization.feature_maps.fields.stream import ActivationStream

    most = []
    keep = ActivationStream.keep

    def watched(self: ActivationStream, *arguments: Any) -> None:
        keep(self, *arguments)
        most.append(len(self._outputs_kept))

    monkeypatch.setattr(ActivationStream, "keep", watched)
    stream = (whole(20, 1, 6, 6, seed=seed) * (seed + 1) for seed in range(50))
    found = top_patches(counting(), "3", stream, [0, 1], 3, batch_size=16)
    assert found.num_images == 1000
    assert 2 <= max(most) <= 3 * 2 * 3
