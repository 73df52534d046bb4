"""The patches that excite feature maps, against planted ones and against known answers."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tests.helpers.small_models import counting, odd, same, unchanged, whole
from visualization.core.registry import caption, draw, png, text
from visualization.feature_maps.fields.patches import activating_positions, top_patches
from visualization.feature_maps.fields.receptive import receptive_field


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


def test_fields_apart_share_no_pixel() -> None:
    """With `field`, no two patches of an image overlap, and with 3 units some still may."""
    model, images = odd(), torch.randn(4, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    for apart in ("field", 3):
        found = top_patches(
            model, "inner", images, [1], 12, None, min_distance=apart, threshold=-math.inf
        )
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
    everything = activating_positions(model, "norm", 1, images, -math.inf)
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
    empty = activating_positions(model, "1", 2, images)
    assert (len(empty.value), empty.num_activated, empty.num_units) == (0, 0, 80)


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
        activating_positions(model, "stem", 0, images)
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
        (
            top(min_distance=0),
            "min_distance: 0 is not accepted; accepted: a number of units from 1 on, field",
        ),
        (top(min_distance="fields"), "min_distance: 'fields' is not accepted"),
        (top(ids=range(5)), "ids: 5 for 6 or more images; accepted: one for each"),
        (top(ids=range(7)), "ids: 7 for 6 images; accepted: one for each"),
        (top(ids=[0, 1, 2, 2, 4, 5]), "ids: .* all different"),
        (top(ids=[0.5] * 6), "ids: float64 of shape .* accepted: a whole number for each image"),
        (top(images=images[:0]), "images: there are none"),
        (top(images=[]), "images: there are none; accepted: one or more"),
        (top(images=images[0]), r"images: shape \(1, 8, 8\) is not accepted; accepted: \(images"),
        (top(images=images * math.nan), "images: has NaN or inf"),
        (lambda: activating_positions(model, "inner", -1, images), "channel -1 does not exist"),
        (
            lambda: activating_positions(model, "inner", 0, images, limit=0),
            "limit: 0 is not accepted",
        ),
    ]
    for call, words in cases:
        with pytest.raises(ValueError, match=words):
            call()
    tokens = nn.Sequential(nn.Flatten(2))
    with pytest.raises(ValueError, match=r"'0' outputs \(1, 64\) for an image; accepted: feature"):
        top_patches(tokens, "0", images)


def test_patches_are_drawn() -> None:
    """Each record has a figure and a caption, also with gaps; the text names the best."""
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
    many, none = (
        activating_positions(model, "3", 1, images),
        activating_positions(model, "3", 1, images, 1e9),
    )
    for record in (top, gaps, many, none):
        assert png(draw(record), dpi=40).startswith(b"\x89PNG")
        assert caption(record)
