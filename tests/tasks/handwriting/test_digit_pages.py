"""Pages of digits: what is on them, and that splits share no scan."""

import numpy as np
import pytest

import tasks
from tasks.core.settings import ConfigError
from tasks.core.task import SPLITS
from tasks.handwriting.boxes import box_iou
from tasks.handwriting.digit_pages import scans


def test_splits_have_scans_of_their_own() -> None:
    """No scan of a digit is on pages of two splits, and all of them are used."""
    seen = [{scan.image.tobytes() + bytes(scan.image.size) for scan in scans(s)} for s in SPLITS]
    assert sum(map(len, seen)) == len(set.union(*seen))
    assert [len(scans(split)) for split in SPLITS] == [1259, 179, 359]


def test_a_page_is_a_function_of_split_seed_and_number() -> None:
    """The same three give the same page, whatever was made before; each alone gives another."""
    task = tasks.make("digit_pages")
    first = task.page("train", 1, 2)
    task.page("train", 1, 3)
    again = task.page("train", 1, 2)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.boxes[0], again.boxes[0])
    for other in (("test", 1, 2), ("train", 2, 2), ("train", 1, 3)):
        assert not np.array_equal(first.image, task.page(*other).image)


def test_boxes_frame_the_ink_and_are_apart() -> None:
    """All ink is in boxes that touch one another nowhere, whole on the page, 4 to 14 of them."""
    task = tasks.make("digit_pages")
    batch = task.samples("validation", 64)
    numbers = [len(kinds) for kinds in batch.kinds]
    assert min(numbers) >= 4
    assert max(numbers) <= 14
    for image, boxes in zip(batch.image[:, 0], batch.boxes, strict=True):
        assert boxes.min() >= 0
        assert boxes.max() <= 128
        assert np.triu(box_iou(boxes, boxes), 1).max() == 0
        outside = np.ones(image.shape, bool)
        for left, top, right, bottom in boxes.astype(int):
            outside[top:bottom, left:right] = False
            ink = image[top:bottom, left:right] > 0.12
            for side in (ink[:2], ink[-2:], ink[:, :2], ink[:, -2:]):
                assert side.any()
        assert image[outside].max() <= 0.1


def test_sizes_are_settings() -> None:
    """A small page with more digits than there is room for leaves some out; 0 digits are fine."""
    task = tasks.make("digit_pages", size=40, min_digits=50, max_digits=50, max_height=20)
    page = task.page("test", 0, 0)
    assert page.image.shape == (1, 1, 40, 40)
    assert 1 <= len(page.kinds[0]) < 50
    empty = tasks.make("digit_pages", min_digits=0, max_digits=1)
    assert {len(empty.page("test", 0, n).kinds[0]) for n in range(20)} == {0, 1}


def test_box_sizes_are_those_of_training_pages() -> None:
    """Widths and heights as drawn: heights between the two settings."""
    sizes = tasks.make("digit_pages", min_height=15, max_height=18).box_sizes()
    assert len(sizes) > 2000
    assert sizes[:, 1].min() == 15
    assert sizes[:, 1].max() == 18


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"min_digits": 20}, "min_digits: 20 is more than max_digits, 14"),
        ({"min_height": 40}, "max_height: 24 is not between"),
        ({"size": 32}, "max_height: 24 is not between min_height and half a page"),
    ],
)
def test_settings_that_contradict_are_refused(settings: dict[str, int], words: str) -> None:
    """Fewest and most, and a digit larger than half of its page, are errors that say so."""
    with pytest.raises(ConfigError, match=words):
        tasks.make("digit_pages", **settings)
