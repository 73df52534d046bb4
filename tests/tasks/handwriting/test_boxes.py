"""Boxes on pages: overlap, precision, letterboxes, what is told of an answer, what is accepted."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tasks
from tasks.core.settings import ConfigError
from tasks.handwriting.boxes import Boxes, PageBoxes, box_iou, reading_order, same_boxes
from tasks.handwriting.letterbox import letterbox
from tasks.handwriting.precision import MAX_DETECTIONS, average_precision

TASK = tasks.make("digit_pages")


def boxes(*rows: tuple[float, ...], kinds: list[int] | None = None, score: float = 1.0) -> Boxes:
    """Return boxes of one score, of kind 0 unless others are given."""
    corners = np.array(rows, np.float32).reshape(-1, 4)
    own = np.zeros(len(rows), np.int64) if kinds is None else np.array(kinds)
    return Boxes(corners, own, np.full(len(rows), score))


def batch(*pages: Boxes) -> PageBoxes:
    """Return blank pages with these right boxes."""
    image = np.zeros((len(pages), 1, 128, 128), np.float32)
    return PageBoxes(image, [page.boxes for page in pages], [page.kinds for page in pages])


def test_overlap_is_intersection_over_union() -> None:
    """Two squares of 2 by 2 that share one pixel have an IoU of 1 in 7; empty boxes have 0."""
    a = np.array([[0, 0, 2, 2], [1, 1, 1, 1]])
    b = np.array([[1, 1, 3, 3], [0, 0, 2, 2], [4, 4, 5, 5], [1, 1, 1, 1]])
    np.testing.assert_allclose(box_iou(a, b), [[1 / 7, 1, 0, 0], [0, 0, 0, 0]])


def test_right_boxes_have_full_precision() -> None:
    """The right boxes score 1; of another kind, or none at all, 0."""
    right = boxes((0, 0, 9, 9), (20, 20, 30, 40), kinds=[1, 2])
    assert TASK.score([right], batch(right)) == {"AP50": 1.0, "mAP": 1.0}
    other = right._replace(kinds=np.array([3, 4]))
    for wrong in (other, boxes(kinds=[])):
        assert TASK.score([wrong], batch(right)) == {"AP50": 0.0, "mAP": 0.0}


def test_precision_counts_overlaps_by_tenths() -> None:
    """A box with an IoU of 0.8 is right for the overlaps .5 to .8: 7 of 10."""
    found, right = boxes((0, 0, 10, 8)), boxes((0, 0, 10, 10))
    assert average_precision([found], [right], 1)["mAP"] == pytest.approx(0.7)
    assert average_precision([found], [right], 1)["AP50"] == 1.0


def test_a_surer_wrong_box_costs_precision() -> None:
    """Half of two boxes is wrong: precision 1/2 if the wrong one is surer, and 1 if it is not."""
    right = boxes((0, 0, 10, 10))
    both = boxes((50, 50, 60, 60), (0, 0, 10, 10))
    for scores, expected in (([0.9, 0.5], 0.5), ([0.4, 0.5], 1.0)):
        found = both._replace(scores=np.array(scores))
        assert average_precision([found], [right], 1)["AP50"] == pytest.approx(expected)


def test_a_thousand_boxes_of_a_page_count() -> None:
    """All of a page's right boxes can be found, up to 1,000: there is no cap at 100."""
    at = 4 * np.arange(MAX_DETECTIONS, dtype=np.float32)
    rows = np.stack([at, at, at + 3, at + 3], axis=1)
    page = Boxes(rows, np.zeros(len(at), np.int64), np.ones(len(at)))
    assert average_precision([page], [page], 1) == {"AP50": 1.0, "mAP": 1.0}


def test_pages_without_boxes_are_scored() -> None:
    """Where no box is right, the best answer is none; a page without boxes beside others counts."""
    nothing, one = boxes(kinds=[]), boxes((0, 0, 9, 9))
    assert average_precision([nothing], [nothing], 1)["mAP"] == 1.0
    assert average_precision([one], [nothing], 1)["mAP"] == 0.0
    assert average_precision([one, nothing], [one, nothing], 1)["mAP"] == 1.0
    surer = one._replace(scores=np.array([2.0]))
    assert average_precision([one, surer], [one, nothing], 1)["AP50"] == pytest.approx(0.5)


def test_rows_count_sure_boxes_and_match_them_one_to_one() -> None:
    """An answer is right if each sure box is on a right one of its kind, and none is left over."""
    right = boxes((0, 0, 10, 10), (20, 0, 30, 10), kinds=[3, 7])
    near = boxes((21, 0, 31, 10), (0, 1, 10, 10), kinds=[7, 3])
    doubtful = Boxes(
        np.concatenate([near.boxes, near.boxes + 40]), np.array([7, 3, 1, 1]),
        np.array([0.9, 0.8, 0.4, 0.1]),
    )  # fmt: skip
    twice = boxes((0, 0, 10, 10), (0, 0, 10, 10), kinds=[3, 3])
    answers = [doubtful, twice, near._replace(kinds=np.array([3, 7])), boxes(kinds=[])]
    rows = TASK.rows(answers, batch(*[right] * 4))
    assert [row.correct for row in rows] == [True, False, False, False]
    assert rows[0].answer == rows[0].target == "3 ×1, 7 ×1"
    assert [row.answer for row in rows[1:]] == ["3 ×2", "3 ×1, 7 ×1", "nothing"]
    assert rows[1].question == "page 1"
    assert same_boxes(boxes(kinds=[]), boxes(kinds=[]))


def test_answers_are_told_in_the_order_of_reading() -> None:
    """From the top, on a line from the left, though the boxes are a few pixels up or down."""
    found = boxes((50, 3, 60, 13), (0, 5, 10, 15), (4, 40, 14, 50), kinds=[2, 1, 3], score=0.75)
    assert TASK.decode([found, boxes(kinds=[])]) == [
        "1 0 5 10 15 0.75\n2 50 3 60 13 0.75\n3 4 40 14 50 0.75", "nothing",
    ]  # fmt: skip
    assert reading_order(np.zeros((0, 4))).tolist() == []


@pytest.mark.parametrize("size", [(60, 40), (40, 60), (300, 200), (1, 700), (128, 128)])
def test_a_letterboxed_page_keeps_its_aspect_and_its_boxes(size: tuple[int, int]) -> None:
    """The page is in the middle, as large as there is room; boxes go there and back."""
    page = np.ones(size, np.float32)
    image, scale, left, top = letterbox(page, 128, 96)
    assert image.shape == (128, 96)
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    assert abs(len(rows) - max(1, size[0] * scale)) <= 0.5
    assert abs(len(columns) - max(1, size[1] * scale)) <= 0.5
    assert len(rows) == 128 or len(columns) == 96
    assert (rows[0], columns[0]) == (top, left)
    placed = letterbox(page, 128, 96)
    corners = np.array([[0.0, 0.0, size[1], size[0]], [1, 2, 3, 4]])
    np.testing.assert_allclose(placed.to_page(placed.from_page(corners)), corners, atol=1e-3)


def test_pages_are_taken_as_files_arrays_and_names(tmp_path: Path) -> None:
    """Dark ink on light paper or the reverse, of any size: ink is 1; a name gives its page."""
    ink = np.zeros((64, 32), np.uint8)
    ink[10:20, 5:9] = 255
    for name, pixels in (("dark.png", 255 - ink), ("light.png", ink)):
        Image.fromarray(pixels).save(tmp_path / name)
    paths = [tmp_path / "dark.png", str(tmp_path / "light.png")]
    read = TASK.encode([*paths, ink / 255, (ink / 255)[None]])
    assert read.image.shape == (4, 1, 128, 128)
    for image in read.image[:, 0]:
        np.testing.assert_allclose(image, read.image[0, 0], atol=1e-6)
    assert (read.image[0, 0, 25, 44], read.image[0, 0, 50, 50]) == (1.0, 0.0)
    assert [len(kinds) for kinds in read.kinds] == [0] * 4
    page = TASK.encode(["test/3/5"])
    np.testing.assert_array_equal(page.image, TASK.page("test", 3, 5).image)
    assert TASK.rows([boxes(kinds=[])], page)[0].question == "test/3/5"


@pytest.mark.parametrize(
    ("x", "words"),
    [
        ("nowhere.png", "neither the name of a page nor a file; accepted: the name"),
        (np.full((8, 8), 2.0), "values from 2.0 to 2.0"),
        (np.full((8, 8), np.nan), "values from nan"),
        (np.zeros((3, 8, 8)), r"shape \(3, 8, 8\)"),
        (np.zeros((0, 8)), r"shape \(0, 8\)"),
        ([["a"]], "list is not an array of numbers"),
    ],
)
def test_a_bad_input_is_named(x: object, words: str) -> None:
    """What is no page is an error that says what was wrong and what is accepted."""
    with pytest.raises(ConfigError, match=words):
        TASK.encode([x])


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    """The error of a broken file has its path."""
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ConfigError, match=r"broken\.png.*cannot be read"):
        TASK.encode([tmp_path / "broken.png"])
