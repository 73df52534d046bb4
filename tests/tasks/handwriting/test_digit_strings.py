"""Strings of scanned digits."""

import numpy as np

from tasks.core.task import SPLITS
from tasks.handwriting.digit_strings import _SCANS, DigitStrings, _digits
from tasks.handwriting.lines import Pass


def test_splits_share_no_scan() -> None:
    """Every scan is in one split, and no two scans are equal."""
    spans = [range(*_SCANS[split].indices(1797)) for split in SPLITS]
    assert sorted(number for span in spans for number in span) == list(range(1797))
    assert len({np.asarray(image).tobytes() for image in _digits().images}) > 1790  # less margins


def test_a_line_is_a_function_of_its_index() -> None:
    """A line drawn by itself is that of a whole pass; another seed or epoch has another."""
    task = DigitStrings()
    lines = task.load(Pass("train", 0, 0), np.arange(20))
    alone = task.load(Pass("train", 0, 0), np.array([13]))[0]
    np.testing.assert_array_equal(lines[13].image, alone.image)
    for pass_ in (Pass("train", 1, 0), Pass("train", 0, 1), Pass("test", 0, 0)):
        assert task.load(pass_, np.array([13]))[0].image.tobytes() != alone.image.tobytes()


def test_all_lengths_and_digits_are_drawn() -> None:
    """Lines have 1 to 7 digits, each about as often; and every digit is there."""
    texts = [line.text for line in DigitStrings().load(Pass("test", 0, 0), np.arange(700))]
    counts = np.bincount([len(text) for text in texts])
    assert counts[0] == 0
    assert len(counts) == 8
    assert counts[1:].min() > 60
    assert set("".join(texts)) == set("0123456789")


def test_only_training_lines_are_jittered() -> None:
    """The test is drawn plainly, whatever the settings of the training lines say."""
    plain = DigitStrings(size_jitter=0, slant_jitter=0, shift_jitter=0, noise=0)
    for split, is_same in (("test", True), ("validation", True), ("train", False)):
        pair = [
            task.load(Pass(split, 0, 0), np.arange(1))[0].image for task in (plain, DigitStrings())
        ]
        assert np.array_equal(*pair) == is_same


def test_lines_fill_any_height() -> None:
    """Digits are drawn at any height, with strong jitter too, and stay within the line."""
    for height in (8, 48, 128):
        task = DigitStrings(height=height, size_jitter=0.3, shift_jitter=0.25, slant_jitter=1.0)
        for line in task.load(Pass("train", 0, 0), np.arange(20)):
            assert line.image.shape[0] == height
            assert line.image.max() > 0.5
            assert line.image.min() >= 0
