"""Pages with boxes from files: YOLO, COCO, PAGE XML; splits; what is wrong is named."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tasks
from tasks.core.settings import ConfigError
from tasks.core.task import SPLITS
from tasks.handwriting.pages import Pages

SIZE = (60, 40)  # width and height of an image
BOXES = ((0, 30, 10, 42, 14), (1, 6, 20, 18, 30))  # kind, left, top, right, bottom
NUM = 9


def image(path: Path, number: int = 0) -> None:
    """Save light paper with dark ink in the boxes; no two numbers give the same file."""
    pixels = np.full(SIZE[::-1], 250 - number, np.uint8)
    for _, left, top, right, bottom in BOXES:
        pixels[top:bottom, left:right] = 10
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def yolo_row(kind: int, left: float, top: float, right: float, bottom: float) -> str:
    """Return a line of YOLO."""
    x, y = (left + right) / 2 / SIZE[0], (top + bottom) / 2 / SIZE[1]
    return f"{kind} {x:.6f} {y:.6f} {(right - left) / SIZE[0]:.6f} {(bottom - top) / SIZE[1]:.6f}"


def write_yolo(root: Path) -> None:
    """Write images with .txt beside them."""
    for number in range(NUM):
        image(root / f"{number}.png", number)
        (root / f"{number}.txt").write_text("\n".join(yolo_row(*box) for box in BOXES) + "\n")
    (root / "classes.txt").write_text("ink\nblot\n")


def coco(names: list[str]) -> dict[str, Any]:
    """Return a COCO file of images, with category ids that are not contiguous."""
    annotations = [
        {"image_id": 7 + number, "category_id": (90, 3)[kind],
         "bbox": [left, top, right - left, bottom - top], "iscrowd": 0}
        for number in range(len(names)) for kind, left, top, right, bottom in BOXES
    ]  # fmt: skip
    return {
        "images": [{"id": 7 + n, "file_name": name} for n, name in enumerate(names)],
        "annotations": annotations,
        "categories": [{"id": 90, "name": "ink"}, {"id": 3, "name": "blot"}],
    }


def write_coco(root: Path) -> None:
    """Write images in a folder, and one file for all."""
    names = [f"{number}.png" for number in range(NUM)]
    for number, name in enumerate(names):
        image(root / "images" / name, number)
    (root / "set.json").write_text(json.dumps(coco(names)))


def write_page_xml(root: Path) -> None:
    """Write images with PAGE XML, of which the lines have polygons around the boxes."""
    from tasks.handwriting.page_format import Page, TextLine
    from tasks.handwriting.page_writing import write_page

    for number in range(NUM):
        image(root / f"{number}.png", number)
        lines = [
            TextLine(f"l{kind}", np.array([(x, y), (r, y), (r, b), (x, b)]), np.zeros((0, 2)), "a")
            for kind, x, y, r, b in BOXES
        ]
        write_page(root / f"{number}.xml", Page(f"{number}.png", SIZE[1], SIZE[0], lines))


WRITERS: dict[str, Callable[[Path], None]] = {
    "yolo": write_yolo, "coco": write_coco, "page_xml": write_page_xml,
}  # fmt: skip


@pytest.mark.parametrize("form", WRITERS)
def test_boxes_of_each_format_are_on_the_ink(form: str, tmp_path: Path) -> None:
    """Boxes are those that were written, brought to the page's size, each full of ink."""
    WRITERS[form](tmp_path)
    task = tasks.make("pages", path=str(tmp_path), size=120)
    assert sum(task.num_samples_in(split) for split in SPLITS) == NUM
    batch = task.samples("train", 3)
    kinds = {"yolo": ("ink", "blot"), "coco": ("blot", "ink"), "page_xml": ("line",)}[form]
    assert task.spec.kinds == kinds
    expected = [[60, 40, 84, 48], [12, 60, 36, 80]]  # twice as large, and 20 lower
    for page, boxes in enumerate(batch.boxes):
        np.testing.assert_allclose(boxes, expected, atol=1e-3)
        named = [kinds[kind] for kind in batch.kinds[page]]
        assert named == (["line"] * 2 if form == "page_xml" else ["ink", "blot"])
        for left, top, right, bottom in boxes.round().astype(int):
            assert batch.image[page, 0, top + 1 : bottom - 1, left + 1 : right - 1].min() > 0.9
    assert batch.image[:, 0, :18].max() == 0
    again = tasks.make("pages", path=str(tmp_path), size=120, format=form)
    np.testing.assert_array_equal(again.samples("train", 3).image, batch.image)
    np.testing.assert_allclose(np.sort(task.box_sizes(), axis=0)[[0, -1]], [[24, 8], [24, 20]],
                               atol=1e-3)  # fmt: skip


def test_a_page_has_two_names(tmp_path: Path) -> None:
    """A page is found by its path in the folder, or by split and number."""
    write_yolo(tmp_path)
    task = tasks.make("pages", path=str(tmp_path))
    named = task.encode(["3.png", "test/0"])
    assert [len(boxes) for boxes in named.boxes] == [2, 2]
    names = [name for split in SPLITS for name in task.samples(split, 99).names]
    assert sorted(names) == [f"{number}.png" for number in range(NUM)]
    with pytest.raises(ConfigError, match=r"test/99.*neither the name of a page nor a file"):
        task.encode(["test/99"])


def test_splits_are_those_of_folders(tmp_path: Path) -> None:
    """Of images/train, images/val and images/test with labels in labels/…, each has its split."""
    for number, split in enumerate(("train", "val", "test")):
        image(tmp_path / "images" / split / "a.png", number)
        labels = tmp_path / "labels" / split / "a.txt"
        labels.parent.mkdir(parents=True)
        labels.write_text(yolo_row(*BOXES[number % 2]))
    (tmp_path / "data.yaml").write_text("names:\n  0: ink\n  1: blot\n")
    task = tasks.make("pages", path=str(tmp_path))
    for split, kind in (("train", 0), ("validation", 1), ("test", 0)):
        assert [kinds.tolist() for kinds in task.samples(split, 9).kinds] == [[kind]]


def test_equal_images_are_in_one_split(tmp_path: Path) -> None:
    """An image that is in the test too is left out of the training pages, and named."""
    for number, name in enumerate(("train/a", "train/b", "val/c", "test/d")):
        image(tmp_path / f"{name}.png", 1 if name in ("train/b", "test/d") else 2 + number)
        (tmp_path / f"{name}.txt").write_text("")
    task = tasks.make("pages", path=str(tmp_path))
    assert task.num_samples_in("train") == 1
    assert "train/b.png" in task.left_out[0].place


def test_no_file_or_an_empty_one_means_no_box(tmp_path: Path) -> None:
    """An image without boxes is a page like others; kinds without names are numbers."""
    write_yolo(tmp_path)
    (tmp_path / "classes.txt").unlink()
    (tmp_path / "1.txt").unlink()
    (tmp_path / "2.txt").write_text("\n")
    task = tasks.make("pages", path=str(tmp_path))
    assert [len(kinds) for kinds in task.encode(["0.png", "1.png", "2.png"]).kinds] == [2, 0, 0]
    assert task.spec.kinds == ("0", "1")


def test_boxes_are_cut_at_the_edges(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A box that reaches beyond its image is cut; one outside of it is left out and named."""
    write_yolo(tmp_path)
    (tmp_path / "0.txt").write_text("0 0.0 0.5 0.5 0.5\n1 3.5 0.5 0.1 0.1\n")
    with caplog.at_level(logging.WARNING):
        task = tasks.make("pages", path=str(tmp_path), size=60)
    np.testing.assert_allclose(task.encode(["0.png"]).boxes[0], [[0, 20, 15, 40]])
    assert [item.place for item in task.left_out] == ["0.png box 1"]
    assert "1 left out: 0.png box 1 has no area" in caplog.text


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("0 0.5 0.5 0.1", r"3\.txt, line 2: has 4 numbers"),
        ("0 0.5 half 0.1 0.1", r"3\.txt, line 2: '0 0.5 half.*no number"),
        ("0 0.5 0.5 -0.1 0.1", r"3\.txt, line 2: .*out of range"),
        ("0 nan 0.5 0.1 0.1", r"3\.txt, line 2: .*out of range"),
        ("2 0.5 0.5 0.1 0.1", r"3\.txt, line 2: there is no class 2; accepted: 0 to 1, for ink"),
    ],
)
def test_a_bad_line_of_yolo_is_named(row: str, words: str, tmp_path: Path) -> None:
    """An error says in which file and line what is wrong."""
    write_yolo(tmp_path)
    (tmp_path / "3.txt").write_text(f"{yolo_row(*BOXES[0])}\n{row}\n")
    with pytest.raises(ConfigError, match=words):
        tasks.make("pages", path=str(tmp_path))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data["annotations"][4].update(image_id=99), "annotation 4 is of image 99"),
        (lambda data: data["annotations"][4].update(category_id=1), "4 is of category 1"),
        (lambda data: data["annotations"][4].pop("bbox"), "KeyError 'bbox'"),
        (lambda data: data["images"][2].update(file_name="x.png"), "its image 'x.png' is not in"),
        (lambda data: data["categories"].append(5), "is not as COCO writes it"),
    ],
)
def test_a_bad_coco_file_is_named(
    change: Callable[[dict[str, Any]], object], words: str, tmp_path: Path
) -> None:
    """What its annotations name and do not have, or lack, is an error with the file's name."""
    write_coco(tmp_path)
    data = json.loads((tmp_path / "set.json").read_text())
    change(data)
    (tmp_path / "set.json").write_text(json.dumps(data))
    with pytest.raises(ConfigError, match=rf"set\.json: .*{words}"):
        tasks.make("pages", path=str(tmp_path))


def test_other_bad_folders_are_named(tmp_path: Path) -> None:
    """No path, no folder, no boxes, two formats, broken files: each error says which."""
    with pytest.raises(ConfigError, match="path: is required"):
        tasks.make("pages").samples("test", 1)
    with pytest.raises(ConfigError, match="nowhere is not a folder"):
        tasks.make("pages", path=str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="has files of none of them"):
        tasks.make("pages", path=str(tmp_path))
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ConfigError, match=r"a\.json: is not JSON"):
        tasks.make("pages", path=str(tmp_path))
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(ConfigError, match="has no COCO file"):
        tasks.make("pages", path=str(tmp_path))
    write_yolo(tmp_path)
    with pytest.raises(ConfigError, match=r"format: .*coco and yolo"):
        tasks.make("pages", path=str(tmp_path))
    (tmp_path / "4.png").write_bytes(b"no image")
    with pytest.raises(ConfigError, match=r"4\.png: cannot be read"):
        tasks.make("pages", path=str(tmp_path), format="yolo")
    (tmp_path / "4.txt").write_bytes(b"\xff\xfe\x00")
    image(tmp_path / "4.png", 4)
    with pytest.raises(ConfigError, match=r"4\.txt: is not UTF-8"):
        tasks.make("pages", path=str(tmp_path), format="yolo")


def test_kinds_are_kept_with_the_task(tmp_path: Path) -> None:
    """A task made from settings with other kinds than the files have is refused."""
    write_yolo(tmp_path)
    task = tasks.make("pages", path=str(tmp_path))
    assert tasks.settings_of(task)["kinds"] == "ink/blot"
    assert Pages(**tasks.settings_of(task)) == task
    with pytest.raises(ConfigError, match="kinds: a/b are not those of the files; accepted: ink/"):
        tasks.make("pages", path=str(tmp_path), kinds="a/b")


def test_a_page_on_a_dark_table_has_dark_ink(tmp_path: Path) -> None:
    """Around light paper the photograph is dark: its writing is ink as on the paper alone."""
    write_yolo(tmp_path)
    for path in tmp_path.glob("*.png"):
        with Image.open(path) as opened:
            pixels = np.asarray(opened)
        framed = np.pad(pixels[2:-2, 2:-2], 2, constant_values=15)
        Image.fromarray(framed).save(path)
    batch = tasks.make("pages", path=str(tmp_path), size=60).encode(["0.png"])
    page = batch.image[0, 0]
    (_, left, top, right, bottom), *_ = BOXES
    assert page[top + 10 : bottom + 10, left:right].mean() > 0.9
    assert page[14:18, 25:50].mean() < 0.1
