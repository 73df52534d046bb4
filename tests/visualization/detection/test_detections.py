"""Which found boxes are right: matching by hand, and what is drawn and told."""

from types import SimpleNamespace

import numpy as np
import pytest

from visualization import render
from visualization.detection.detections import Detections, detections


def rows(*boxes: tuple[float, float, float, float, int, float]) -> SimpleNamespace:
    """Return boxes, kinds and scores of rows of all three."""
    table = np.array(boxes, np.float32).reshape(-1, 6)
    return SimpleNamespace(boxes=table[:, :4], kinds=table[:, 4].astype(int), scores=table[:, 5])


RIGHT = rows((0, 0, 10, 10, 0, 1), (20, 0, 30, 10, 1, 1), (0, 20, 10, 30, 1, 1))
FOUND = rows(
    (0, 0, 10, 9, 0, 0.7),  # a less sure one of the first
    (0, 0, 10, 10, 0, 0.9),
    (20, 0, 30, 10, 0, 0.8),  # of another kind
    (0, 24, 10, 30, 1, 0.6),  # 0.6 of the third
    (0, 20, 10, 30, 1, 0.1),  # not sure enough
)


@pytest.fixture
def record() -> Detections:
    """Return one page with boxes, and one with none."""
    images = np.zeros((2, 1, 32, 32), np.float32)
    return detections(images, ["one", "two"], ["zero", "one"], [RIGHT, rows()], [FOUND, rows()])


def test_each_right_box_is_found_once_by_the_surest(record: Detections) -> None:
    """The surest of two takes the box; kind and overlap decide; what is unsure is left out."""
    found = record.found[0]
    np.testing.assert_allclose(found.scores, [0.9, 0.8, 0.7, 0.6])
    assert found.matched.tolist() == [True, False, False, True]
    assert record.right[0].matched.tolist() == [True, False, True]
    assert record.counts(0) == (3, 2, 2)
    assert record.counts(1) == (0, 0, 0)


def test_counts_are_told_and_drawn(record: Detections) -> None:
    """Each image has a line, and a title with what was found of it."""
    assert render.text(record).splitlines() == [
        "image   boxes   found   wrong",
        "one         3       2       2",
        "two         0       0       0",
    ]
    titles = [axes.get_title() for axes in render.draw(record).axes]
    assert titles == ["one: 2 of 3, 2 wrong", "two: 0 of 0, 0 wrong"]
    assert "orange" in render.caption(record)
