"""The hulls of receptive fields, against the recursion and known answers."""

import math

import numpy as np
from torch import nn

from tests.helpers.small_models import Does, chain, conv, normed_by_channel, odd
from visualization.feature_maps.fields.geometry import FieldBox, field_boxes
from visualization.feature_maps.fields.receptive import receptive_field


def test_hulls_follow_the_recursion() -> None:
    """First ← first · s − p, last ← last · s − p + d(k − 1), from the last layer to the first."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        settings = [
            {"kernel_size": int(rng.integers(1, 5)), "stride": int(rng.integers(1, 3)),
             "padding": int(rng.integers(3)), "dilation": int(rng.integers(1, 3))}
            for _ in range(3)
        ]  # fmt: skip
        model = chain(*(conv(1, 1, **held) for held in settings))
        found = field_boxes(model, "2", (1, 40, 33))
        lo = hi = np.arange(len(found.row_first))
        for held in reversed(settings):
            lo = lo * held["stride"] - held["padding"]
            reach = held["dilation"] * (held["kernel_size"] - 1)
            hi = hi * held["stride"] - held["padding"] + reach
        np.testing.assert_array_equal(found.row_first, lo)
        np.testing.assert_array_equal(found.row_last, hi)
        assert found.size == (hi[0] - lo[0] + 1,) * 2
        if min(len(lo), len(found.column_first)) > 1:
            assert found.stride == (math.prod(held["stride"] for held in settings),) * 2
        np.testing.assert_array_equal(found.column_first, lo[: len(found.column_first)])


def test_hulls_of_a_residual_network() -> None:
    """Branches join, padding is outside the image, means see it all, and so do unknown mixtures."""
    model = odd()
    found = field_boxes(model, "relu@1", (1, 8, 8))
    assert found.box_at(0, 2) == FieldBox((-3, 3), (1, 7))
    assert found.box_at(3, 3) == FieldBox((3, 9), (3, 9))
    assert (found.size, found.stride, found.image_size) == ((7, 7), (2, 2), (8, 8))
    np.testing.assert_array_equal(
        found.at_positions(np.array([0, 3]), np.array([2, 3])), [[-3, 3, 1, 7], [3, 9, 3, 9]]
    )
    head = field_boxes(model, None, (1, 8, 8))
    assert head.box_at(0, 0) == FieldBox((-3, 9), (-3, 9))
    assert head.stride == (0, 0)
    last = Does(normed_by_channel, conv(2, 4, 3), nn.Linear(4, 5), conv(5, 2, 2))
    assert field_boxes(last, None, (2, 8, 8)).box_at(2, 4) == FieldBox((2, 5), (4, 7))
    circular = chain(conv(1, 1, 3, padding=1, padding_mode="circular"))
    assert field_boxes(circular, "0", (1, 6, 9)).box_at(2, 3) == FieldBox((1, 3), (2, 4))


def test_units_that_see_nothing() -> None:
    """A hole of a transposed convolution has no pixels and a hull that ends before it begins."""
    model = chain(nn.ConvTranspose2d(1, 1, 1, stride=2))
    found = receptive_field(model, "0", (0, 1, 2), (1, 4, 4))
    assert found.num_numbers == 0
    assert found.box == (slice(0, 0), slice(0, 0))
    assert found.bounding_box == FieldBox((0, -1), (1, 1))
    assert field_boxes(model, "0", (1, 4, 4)).size == (1, 1)
