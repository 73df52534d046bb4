"""Receptive fields of units and of channels, against known answers."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.helpers.small_models import Does, chain, conv, odd, unchanged
from visualization.core.registry import caption, draw, png, text
from visualization.feature_maps.fields.geometry import FieldBox, field_boxes
from visualization.feature_maps.fields.receptive import receptive_field, receptive_fields


def test_three_convolutions_and_a_pool() -> None:
    """3 × 3, 3 × 3, pool 2, 3 × 3 at output index 5 sees rows 6 to 15, all 100 pixels."""
    conv = [nn.Conv2d(a, b, 3, padding=1) for a, b in ((1, 4), (4, 4), (4, 4))]
    model = chain(conv[0], conv[1], nn.MaxPool2d(2), conv[2])
    found = receptive_field(model, "3", (2, 5, 5), (1, 28, 28))
    assert found.bounding_box == FieldBox((6, 15), (6, 15))
    assert found.box == (slice(6, 16), slice(6, 16))
    assert found.num_numbers == 100
    assert found.mask[0, 6:16, 6:16].all()
    assert found.indices[[0, -1]].tolist() == [[0, 6, 6], [0, 15, 15]]


def test_a_cross_has_thirteen_pixels() -> None:
    """Parallel 1 × 7 and 7 × 1 convolutions see 13 pixels, not 49."""
    wide, high = nn.Conv2d(1, 2, (1, 7), padding=(0, 3)), nn.Conv2d(1, 2, (7, 1), padding=(3, 0))
    model = Does(lambda x, a, b: a(x) + b(x), wide, high)
    found = receptive_field(model, None, (1, 8, 6), (1, 16, 16))
    wanted = np.zeros((1, 16, 16), bool)
    wanted[0, 8, 3:10] = wanted[0, 5:12, 6] = True
    assert found.num_numbers == 13
    np.testing.assert_array_equal(found.mask, wanted)
    assert found.bounding_box == FieldBox((5, 11), (3, 9))


def test_all_activated_units_of_a_channel() -> None:
    """They come in the order of their activation, each with its hull, and the union of masks."""
    model, image = odd(3), torch.randn(3, 12, 10, generator=torch.Generator().manual_seed(1))
    found = receptive_fields(model, "relu@1", 1, image, threshold=0.3)
    with torch.no_grad():
        x = torch.relu(model.eval().norm(model.stem(image[None])))
        map_ = torch.relu(model.inner(x) + x)[0, 1]
    assert 2 < len(found.rows) < map_.numel() - 2
    assert len(found.rows) == int((map_ > 0.3).sum())
    np.testing.assert_allclose(found.values, map_[found.rows, found.columns], rtol=1e-5)
    assert (np.diff(found.values) <= 0).all()
    union = np.zeros((3, 12, 10), bool)
    for row, column, box in zip(found.rows, found.columns, found.boxes, strict=True):
        one = receptive_field(model, "relu@1", (1, row, column), (3, 12, 10))
        union |= one.mask
        assert one.bounding_box == FieldBox((box[0], box[1]), (box[2], box[3]))
    np.testing.assert_array_equal(found.mask, union)
    np.testing.assert_array_equal(found.indices, np.argwhere(union))
    assert not union.all()
    none = receptive_fields(model, "relu@1", 1, image, threshold=1e9)
    assert (len(none.rows), none.mask.any(), none.boxes.shape) == (0, False, (0, 4))
    logit = receptive_fields(model, None, 2, image, -math.inf)
    assert (logit.rows.tolist(), logit.columns.tolist(), logit.mask.all()) == ([0], [0], True)


def test_other_types_of_numbers() -> None:
    """A network of 64 or of 16 bits has the same field as one of 32."""
    for dtype in (torch.float64, torch.bfloat16):
        model = chain(conv(2, 4, 3, dilation=2), nn.ReLU(), conv(4, 2, 2, groups=2)).to(dtype)
        found = receptive_field(model, "2", (1, 2, 1), (2, 9, 9))
        assert found.num_numbers == 2 * (9 + 9 + 9 + 9)
        assert found.bounding_box == FieldBox((2, 7), (1, 6))


def test_nothing_is_left_changed() -> None:
    """Model, gradients, hooks, generators and kernels are as before, also after an exception."""
    model, image = odd(), torch.rand(1, 8, 8)
    with unchanged(model):
        receptive_field(model, "inner", (0, 1, 1), (1, 8, 8))
        receptive_fields(model, "inner", 0, image)
        field_boxes(model, "inner", (1, 8, 8))
        with pytest.raises(ValueError, match="row 9 does not exist"):
            receptive_field(model, "inner", (0, 9, 1), (1, 8, 8))
        with pytest.raises(RuntimeError):
            receptive_field(model, "inner", (0, 0, 0), (2, 8, 8))

    def fails(x: Tensor) -> Tensor:
        if x.isnan().any():
            raise KeyError
        return x

    broken = Does(lambda x, c: fails(c(x)), conv(1, 1, 3))
    with unchanged(broken), pytest.raises(KeyError):
        receptive_field(broken, None, (0, 1, 1), (1, 8, 8))


def test_nan_goes_through_sums_only() -> None:
    """While NaN is in the images, no kernel runs that would spread it to its neighbours."""
    fast = []

    def watched(x: Tensor) -> Tensor:
        if x.isnan().any():
            backends = torch.backends
            fast.append((backends.mkldnn.enabled, backends.cudnn.enabled))
        return x

    receptive_field(Does(lambda x, c: watched(c(x)), conv(1, 1, 3)), None, (0, 1, 1), (1, 8, 8))
    assert set(fast) == {(False, False)}


def test_mistakes_are_named() -> None:
    """An error says what was not accepted, and what is."""
    model = odd()
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: receptive_field(model, "iner", (0, 0, 0), (1, 8, 8)), "did you mean 'inner'"),
        (lambda: receptive_field(model, "inner", (4, 0, 0), (1, 8, 8)),
         "unit: channel 4 does not exist; accepted: 0 to 3"),
        (lambda: receptive_field(model, "inner", (1,), (1, 8, 8)),
         r"unit: \(1,\) is a whole channel; accepted: \(channel, row, column\)"),
        (lambda: receptive_field(model, "inner", (0, 1), (1, 8, 8)), "unit: .* is not a unit"),
        (lambda: receptive_field(model, "inner", (0, 0, 0), (8, 8)),
         r"input_shape: \(8, 8\) is not accepted; accepted: \(channels, height, width\)"),
        (lambda: field_boxes(model, "relu@2", (1, 8, 8)), "'relu@2' was not called"),
        (lambda: receptive_fields(model, "inner", 7, torch.ones(1, 8, 8)),
         "channel: channel 7 does not exist; accepted: 0 to 3"),
        (lambda: receptive_fields(model, "inner", 0, torch.ones(2, 1, 8, 8)), "image: 2 images"),
        (lambda: receptive_field(model, "inner", (0, 0, 0), (1, 8, 8)).over(torch.ones(1, 9, 9)),
         r"image: shape \(1, 9, 9\) is not accepted; accepted: \(1, 8, 8\)"),
    ]  # fmt: skip
    for call, words in cases:
        with pytest.raises(ValueError, match=words):
            call()


def test_fields_are_drawn() -> None:
    """Each record has a figure and a caption; a single field has a line of text."""
    model, image = odd(3), torch.rand(3, 12, 12)
    field = receptive_field(model, "inner", (0, 0, 5), (3, 12, 12))
    many = receptive_fields(model, "inner", 0, image, -math.inf)
    nothing = receptive_fields(model, "inner", 0, image, math.inf)
    for record in (field, field.over(image), many, nothing):
        assert png(draw(record), dpi=40).startswith(b"\x89PNG")
        assert "pixels that can change" in caption(record)
    line = "inner, channel 0 at (0, 5): 60 of 432 numbers (20 of 144 pixels)"
    assert text(field) == text(field.over(image)) == f"{line}; hull: rows -3 to 3, columns 7 to 13"
