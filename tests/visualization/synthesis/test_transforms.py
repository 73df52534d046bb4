"""How images are moved, against moves done by hand."""

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from tests.helpers.synthesis import draw
from visualization.synthesis.transforms import (
    Jitter,
    Pad,
    Rotate,
    Scale,
    apply_transforms,
    default_transforms,
)


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (2, 3, 28, 28), (1, 2, 5, 9)])
def test_transforms_keep_the_shape_and_follow_their_generator(shape: Any) -> None:
    """Whatever the size, the usual transforms keep it, and a generator makes them repeat."""
    images = draw(*shape)
    for transforms in (
        default_transforms(28),
        default_transforms(8),
        (Pad(12, 0.5), Jitter(8)),
        (Scale(0.8, 1.2),),
        (),
    ):
        found = [
            apply_transforms(images, transforms, torch.Generator().manual_seed(3)) for _ in range(2)
        ]
        assert found[0].shape == images.shape
        assert torch.equal(found[0], found[1])
    assert default_transforms(3) == ()
    assert [default_transforms(side)[1] for side in (8, 28, 224)] == [
        Jitter(1),
        Jitter(2),
        Jitter(8),
    ]


def test_transforms_move_as_they_say() -> None:
    """Padding alone changes nothing, jitter rolls, turning by a right angle and enlarging fit."""
    images, generator = draw(1, 1, 7, 7), torch.Generator().manual_seed(0)
    assert torch.equal(apply_transforms(images, [Pad(3), Jitter(0)], generator), images)
    rolls = [images.roll((d, r), (2, 3)) for d in (-1, 0, 1) for r in (-1, 0, 1)]
    found = [Jitter(1)(images, generator) for _ in range(40)]
    assert {min(i for i, r in enumerate(rolls) if torch.equal(r, f)) for f in found} == set(
        range(9)
    )
    for transform in (Rotate(0), Scale(1, 1)):
        assert_close(transform(images, generator), images)
    with pytest.MonkeyPatch.context() as patch:
        between = "visualization.synthesis.transforms._between"
        patch.setattr(between, lambda _low, high, _: high)
        assert_close(Rotate(90)(images, generator), images.rot90(1, (2, 3)))
        wide = draw(1, 1, 5, 9)
        assert_close(Rotate(180)(wide, generator), wide.rot90(2, (2, 3)))
        larger = Scale(1, 3)(torch.eye(3).double()[None, None], generator)
        assert_close(larger[0, 0, 1, 1], torch.tensor(1.0).double())
        assert float(larger.mean()) > 0.5


def test_transforms_can_be_differentiated() -> None:
    """A gradient comes through all usual transforms at once."""
    images = draw(2, 3, 28, 28).requires_grad_()
    apply_transforms(images, default_transforms(28), torch.Generator().manual_seed(0)).pow(
        2
    ).sum().backward()
    assert images.grad is not None
    assert float(images.grad.abs().min(dim=0).values[:, 8:-8, 8:-8].min()) > 0
