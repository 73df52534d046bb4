"""Folders of images of lines."""

import logging
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tasks
from tasks.core.settings import ConfigError
from tasks.core.task import SPLITS
from tasks.handwriting import line_images
from tasks.handwriting.line_images import LineFolder


def add_line(folder: Path, name: str, text: str | None, seed: int | None = None) -> None:
    """Save an image of noise on paper, with a text beside it unless that is None."""
    rng = np.random.default_rng(zlib.crc32(name.encode()) if seed is None else seed)
    pixels = np.full((20, 44), 250, np.uint8)
    pixels[5:15, 4:40] = rng.integers(0, 250, (10, 36))
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    if text is not None:
        (path.parent / f"{path.name.partition('.')[0]}.gt.txt").write_text(text, encoding="utf-8")


def add_lines(folder: Path, num: int) -> None:
    """Save lines with texts."""
    for number in range(num):
        add_line(folder, f"{number}.png", "ab", number)


def names(task: LineFolder, split: str) -> list[str]:
    """Return the names of the lines of a split."""
    return [task.index.lines[number].name for number in task.index.ranges[split]]


def test_nothing_is_lost_in_silence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each file that is not used is named with its reason, and one warning counts them."""
    add_lines(tmp_path, 10)
    add_line(tmp_path, "white space & more.jpg", " \t\n")
    add_line(tmp_path, "alone.PNG", None)
    (tmp_path / "no image.gt.txt").write_text("abc")
    add_line(tmp_path, "broken.png", "abc")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    add_line(tmp_path, "bytes.png", "abc")
    (tmp_path / "bytes.gt.txt").write_bytes(b"\xff\xfe\xff")
    add_line(tmp_path, "0.tif", "ab")
    with caplog.at_level(logging.WARNING):
        task = LineFolder(path=str(tmp_path))
        assert len(task.left_out) == 6
    assert dict(task.left_out) == {
        "white space & more.jpg": "has no text",
        "alone.PNG": "has no file .gt.txt beside it",
        "no image.gt.txt": "has no image",
        "broken.png": "is not an image of one page that can be read",
        "bytes.png.gt.txt".replace(".png", ""): "cannot be read as UTF-8",
        "0.tif": "is another image of the line of 0.png",
    }
    (message,) = [record.getMessage() for record in caplog.records]
    assert "6 left out, 10 lines used" in message
    assert "1 × has no text (white space & more.jpg)" in message


def test_texts_are_normalised_and_give_the_character_set(tmp_path: Path) -> None:
    """Decomposed characters are composed, white space is single, and the set is stored."""
    add_lines(tmp_path, 6)
    add_line(tmp_path, "e.png", "  re\N{COMBINING ACUTE ACCENT}c\u00a0\tu \n")
    task = LineFolder(path=str(tmp_path))
    assert task.charset == " abcrué"
    assert task.decode(task.targets(task.encode(["e.png"]))) == ["réc u"]
    decomposed = LineFolder(path=str(tmp_path), unicode_form="NFD")
    assert "\N{COMBINING ACUTE ACCENT}" in decomposed.characters
    assert tasks.settings_of(task)["charset"] == " abcrué"


def test_folders_of_splits_are_the_splits(tmp_path: Path) -> None:
    """Train, validation and test are as the folders say, and a line is found by its name."""
    for split, num in (("train", 5), ("val", 2), ("test", 3)):
        add_lines(tmp_path / split, 1)  # equal to that of the test
        for number in range(num):
            add_line(tmp_path, f"{split}/{split}{number}.png", split)
    task = LineFolder(path=str(tmp_path))
    assert names(task, "test") == ["test/0.png", *(f"test/test{n}.png" for n in range(3))]
    assert names(task, "validation") == ["val/val0.png", "val/val1.png"]
    assert names(task, "train") == [f"train/train{n}.png" for n in range(5)]
    assert [item.reason for item in task.left_out] == ["its image is also in test"] * 2
    batch = task.encode(["test/1", "val/val1.png"])
    rows = task.rows(task.targets(batch), batch)
    assert [(row.question, row.target) for row in rows] == [
        ("test/test0.png", "test"), ("val/val1.png", "val"),
    ]  # fmt: skip


def test_a_share_is_determined_by_the_name(tmp_path: Path) -> None:
    """A new line changes the split of no other one, and every split has lines."""
    add_lines(tmp_path, 60)
    before = {split: names(LineFolder(path=str(tmp_path)), split) for split in SPLITS}
    assert 4 <= len(before["test"]) <= 22
    add_line(tmp_path, "new.png", "ab")
    line_images._index.cache_clear()
    after = {split: names(LineFolder(path=str(tmp_path)), split) for split in SPLITS}
    assert all(set(before[split]) <= set(after[split]) for split in SPLITS)


def test_few_lines_are_in_every_split(tmp_path: Path) -> None:
    """With three lines each split has one, and with two the empty split is named."""
    add_lines(tmp_path, 3)
    task = LineFolder(path=str(tmp_path))
    assert [task.num_samples_in(split) for split in SPLITS] == [1, 1, 1]
    add_lines(tmp_path / "two", 2)
    with pytest.raises(ConfigError, match="of the 2 files with texts none is in"):
        LineFolder(path=str(tmp_path / "two"))


def test_a_table_names_images_and_texts(tmp_path: Path) -> None:
    """Rows of a tab-separated file are lines; a faulty row is named by its number."""
    for number in range(6):
        add_line(tmp_path, f"image {number}.png", None, number)
    table = tmp_path / "lines.tsv"
    rows = [f"image {number}.png\ttext {number}\t{split}" for number, split in enumerate(
        ("train", "train", "validation", "test")
    )]  # fmt: skip
    rows += ["image 4.png", "missing.png\ttext", "image 0.png\tagain", "image 5.png\tx\tdev", ""]
    table.write_text("\ufeff" + "\r\n".join(rows), encoding="utf-8")
    task = LineFolder(path=str(tmp_path), labels=str(table))
    assert [task.num_samples_in(split) for split in SPLITS] == [2, 1, 1]
    assert task.decode(task.targets(task.samples("test", 1))) == ["text 3"]
    assert [item.place for item in task.left_out] == [
        "lines.tsv, line 5", "lines.tsv, line 7", "lines.tsv, line 8", "missing.png",
    ]  # fmt: skip


def test_errors_say_what_is_missing(tmp_path: Path) -> None:
    """No path, no folder, no line in it, or no character for a text: each is said."""
    with pytest.raises(ConfigError, match="path: is required: line_images is read from files"):
        LineFolder().spec  # noqa: B018
    with pytest.raises(ConfigError, match="is not a folder"):
        LineFolder(path=str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="has no line with a text"):
        LineFolder(path=str(tmp_path))
    add_lines(tmp_path, 5)
    with pytest.raises(ConfigError, match="has the character 'b'"):
        LineFolder(path=str(tmp_path), charset="a").samples("test", 5)
    with pytest.raises(ConfigError, match="has a character twice"):
        LineFolder(charset="aa")


def test_a_task_without_its_files_can_still_read() -> None:
    """With a stored character set, as in a checkpoint, inputs are encoded without the folder."""
    task = LineFolder(path="/nowhere/at/all", charset="ab")
    assert task.spec.num_codes == 3
    assert task.encode([np.zeros((32, 40))]).image.shape == (1, 1, 32, 40)
