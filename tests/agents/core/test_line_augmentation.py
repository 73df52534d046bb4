"""Augmentation of line images: what it keeps, what it changes, what is no line stays paper."""

import pytest
import torch
from torch import Tensor

from agents.core.line_augmentation import augment_lines


def lines(num: int = 64) -> tuple[Tensor, Tensor]:
    """Return lines of strokes, of several widths, padded to 120 pixels."""
    width = torch.linspace(60, 120, num).long()
    image = torch.zeros(num, 1, 40, 120)
    image[..., 10:30, ::8] = 1
    own = torch.arange(120) < width[:, None]
    return image * own[:, None, None], width


def test_strength_zero_changes_nothing() -> None:
    """Without strength lines are resampled where they are."""
    image, width = lines()
    same, new_width = augment_lines(image, width, 0.0)
    torch.testing.assert_close(same, image, atol=2e-4, rtol=0)
    assert torch.equal(new_width, width)


def test_a_distorted_line_stays_in_its_image() -> None:
    """Darkness is from 0 to 1, and beyond the new width there is paper."""
    image, width = lines()
    torch.manual_seed(0)
    changed, new_width = augment_lines(image, width, 1.0)
    assert changed.shape == image.shape
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 1
    assert ((new_width >= 1) & (new_width <= 120)).all()
    beyond = torch.arange(120) >= new_width[:, None]
    assert changed.amax((1, 2))[beyond].max() == 0


def test_each_line_is_distorted_on_its_own() -> None:
    """Equal lines of a batch differ afterwards, and most of their ink is still there."""
    image, width = lines(1)
    image, width = image.repeat(32, 1, 1, 1), width.repeat(32)
    torch.manual_seed(1)
    changed, _ = augment_lines(image, width, 1.0)
    assert len({row.sum().item() for row in changed}) == 32
    ratio = changed.sum((1, 2, 3)) / image.sum((1, 2, 3))
    assert 0.5 < float(ratio.median()) < 1.5


def test_widths_follow_the_stretch() -> None:
    """A line's last stroke is at the end of its new width, to two pixels of its distortion."""
    image = torch.zeros(16, 1, 40, 200)
    image[..., 5:35, 140:148] = 1  # the end of a line of 148 pixels
    torch.manual_seed(2)
    changed, width = augment_lines(image, torch.full((16,), 148), 0.2)
    for row, end in zip(changed, width.tolist(), strict=True):
        last = int((row[0].amax(0) > 0.2).nonzero().max()) + 1
        assert end - 6 <= last <= end


@pytest.mark.parametrize("width", [1, 3, 17])
def test_lines_of_any_width_can_be_distorted(width: int) -> None:
    """Also one that is narrower than the distance of the nodes."""
    changed, new_width = augment_lines(torch.rand(2, 1, 16, width), torch.full((2,), width))
    assert changed.shape == (2, 1, 16, width)
    assert (new_width <= width).all()
