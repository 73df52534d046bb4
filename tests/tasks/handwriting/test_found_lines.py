"""Lines from boxes: baselines that follow the ink, outlines without neighbours, doubles, layout."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tasks.handwriting.baselines import line_distance
from tasks.handwriting.cutting import cut_lines
from tasks.handwriting.found_lines import lines_from_boxes, mean_distance
from tasks.handwriting.layout import regions
from tasks.handwriting.outlines import cheapest_path
from tests.helpers.drawn_pages import DrawnPage, drawn_page, shaded

PAGES = {
    "level": drawn_page(), "sinking": drawn_page(slope=0.05), "climbing": drawn_page(slope=-0.06),
    "bent": drawn_page(bend=25), "bent and climbing": drawn_page(bend=-25, slope=-0.04),
}  # fmt: skip


def apart(page: DrawnPage, found: list[NDArray[np.float64]]) -> list[float]:
    """Return how far each baseline is from the true one of its number."""
    return [mean_distance(*pair) for pair in zip(found, page.baselines, strict=True)]


@pytest.mark.parametrize("name", PAGES)
def test_baselines_follow_the_ink(name: str) -> None:
    """They are two pixels from the true ones at most, in order, whatever way the lines run."""
    page = PAGES[name]
    found = lines_from_boxes(page.grey, page.boxes)
    assert max(apart(page, [line.baseline for line in found.lines])) < 2.5
    assert found.regions == [[*range(8)]]


def test_boxes_need_not_be_exact() -> None:
    """Sides that are off by a sixth of the line distance lead to the same lines."""
    page = PAGES["bent"]
    boxes = page.boxes + np.random.default_rng(1).uniform(-6, 6, page.boxes.shape)
    found = lines_from_boxes(page.grey, boxes)
    assert max(apart(page, [line.baseline for line in found.lines])) < 3


def test_uneven_light_and_a_single_line() -> None:
    """Shade moves no baseline; a page with one line has one."""
    page = drawn_page()
    dark = lines_from_boxes(shaded(page.grey), page.boxes)
    assert max(apart(page, [line.baseline for line in dark.lines])) < 1.5
    one = drawn_page(num=1, height=140)
    assert max(apart(one, [x.baseline for x in lines_from_boxes(one.grey, one.boxes).lines])) < 1.5


def test_a_page_without_lines_has_none() -> None:
    """No boxes, boxes without area, boxes beside the page: no lines, and no error."""
    blank = np.full((90, 80), 230, np.uint8)
    for boxes in (np.zeros((0, 4)), [[5, 5, 5, 30]], [[100, 0, 190, 30]]):
        assert lines_from_boxes(blank, np.array(boxes)) == ([], [])
    found = lines_from_boxes(blank, np.array([[5, 20, 70, 50]]))
    assert np.isfinite(found.lines[0].baseline).all()


def inside(shape: tuple[int, ...], polygon: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which pixels are in a polygon."""
    mask = Image.new("1", shape[::-1])
    ImageDraw.Draw(mask).polygon([tuple(point) for point in polygon.tolist()], fill=1)
    return np.asarray(mask)


def test_an_outline_has_its_own_ink() -> None:
    """Of the ink of the page nearly all is in the outline of its line, and in no other."""
    page = drawn_page(bend=12)
    found = lines_from_boxes(page.grey, page.boxes)
    masks = np.stack([inside(page.grey.shape, line.polygon) for line in found.lines])
    ink = page.grey < 100
    rows = np.arange(page.grey.shape[0])[:, None]
    tops = [np.interp(np.arange(640), b[:, 0], b[:, 1]) - 26 for b in page.baselines]
    for mask, top in zip(masks, tops, strict=True):
        own = ink & (rows > top) & (rows < top + 33)  # high letters, and those that hang
        assert (mask & own).sum() > 0.97 * own.sum()
        assert (mask & ink & ~own).sum() < 0.03 * own.sum()


def test_cut_lines_are_straight() -> None:
    """A bent line is cut as a level one: its feet are in one row."""
    page = drawn_page(bend=25)
    (line, *_) = lines_from_boxes(page.grey, page.boxes).lines
    image = cut_lines(page.grey, [line], 48)[0]
    profile = image.astype(float).sum(axis=1)
    drop = -np.diff(profile)
    foot = int(drop.argmax())
    assert profile[foot - 1] > 4 * profile[foot + 3]


def test_of_two_boxes_of_one_line_the_surer_is_kept() -> None:
    """A double is left out; two pieces of a line beside each other are not."""
    page = drawn_page(num=3)
    boxes = np.vstack([page.boxes, page.boxes[1] + [10, -4, -30, 3]])
    found = lines_from_boxes(page.grey, boxes, np.array([0.9, 0.6, 0.9, 0.8]))
    assert [line.confidence for line in found.lines] == [0.9, 0.8, 0.9]
    left, right = page.boxes[1].copy(), page.boxes[1].copy()
    left[2], right[0] = 300, 310
    pieces = lines_from_boxes(page.grey, np.vstack([page.boxes[[0, 2]], left, right]))
    assert len(pieces.lines) == 4
    assert pieces.lines[1].baseline[-1, 0] < pieces.lines[2].baseline[0, 0] + 5


def test_a_line_ends_with_its_letters() -> None:
    """A box that is too short, or too long, has the same line as the right one."""
    page = drawn_page(num=3)
    for change in ([12, 0, -14, 0], [-16, 0, 20, 0]):
        for line in lines_from_boxes(page.grey, page.boxes + change).lines:
            ends = line.baseline[[0, -1], 0]
            assert abs(ends - [40, 600]).max() < 14


def test_the_distance_of_lines() -> None:
    """Known answers: of overlapping boxes their pitch; of one, or of none, its height, and 0."""
    boxes = np.array([[0, at, 100, at + 50] for at in range(0, 200, 20)])
    assert line_distance(boxes) == 20
    assert line_distance(boxes[:1]) == 50
    assert line_distance(np.zeros((0, 4))) == 0


ROWS = [[0, 10], [12, 22], [24, 34]]


def test_columns_are_read_one_after_the_other() -> None:
    """The left column from its top, then the right one, however the boxes are mixed."""
    boxes = [[left, top, left + 45, low] for top, low in ROWS for left in (50, 0)]
    assert [part.tolist() for part in regions(np.array(boxes), 12)] == [[1, 3, 5], [0, 2, 4]]


def test_a_heading_over_two_columns_is_read_first() -> None:
    """And a line that spans them in the middle is read between what is above and below it."""
    rows = [[10, 0, 90, 9], *([x, y, x + 45, y + 9] for x in (0, 50) for y in (30, 42))]
    rows += [[5, 60, 95, 69], *([x, y, x + 45, y + 9] for x in (0, 50) for y in (90, 102))]
    found = [part.tolist() for part in regions(np.array(rows), 12)]
    assert found == [[0], [1, 2], [3, 4], [5], [6, 7], [8, 9]]


def test_a_line_in_pieces_is_in_its_place() -> None:
    """Two boxes in one row of a column are read there, in one region with what is around."""
    rows = [[0, 0, 95, 9], [0, 12, 40, 21], [55, 12, 95, 21], [0, 24, 95, 33]]
    assert [part.tolist() for part in regions(np.array(rows), 12)] == [[0, 1, 2, 3]]


def test_a_short_line_to_the_right_is_no_column() -> None:
    """A date above, a signature below: lines are read from the top, in regions where they part."""
    rows = [[60, 0, 95, 9], [0, 12, 40, 21], [0, 24, 38, 33], [62, 90, 95, 99]]
    assert [part.tolist() for part in regions(np.array(rows), 12)] == [[0, 1, 2], [3]]


def test_the_cheapest_path_goes_no_steeper() -> None:
    """Known answer: with one choice a place at most, the far cheap one cannot be reached."""
    cost = np.array([[0.0, 1, 9], [9, 5, 0], [9, 9, 0]])
    assert cheapest_path(cost, 1, 0.0).tolist() == [1, 2, 2]
    assert cheapest_path(cost, 2, 0.0).tolist() == [0, 2, 2]
