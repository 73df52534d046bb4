"""Files of the IAM database."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.core.settings import ConfigError
from tasks.core.task import SPLITS
from tasks.handwriting.iam import Iam

WORDS = """#--- words.txt ---#
# a01-000u-00-00 ok 154 1 408 768 27 51 AT A
#
a01-000u-00-00 ok 154 408 768 27 51 AT A
a01-000u-00-01 err 154 507 766 213 48 NN MOVE
a01-000u-00-02 ok 154 796 764 70 50 TO to be
a02-000-00-00 ok 154 408 768 27 51 . .
a03-000-00-00 ok 154 408 768 27 51 AT "x
a03-000-00-01 ok 154 408
a03-117-05-02 ok 154 408 768 27 51 AT broken
"""
LINES = """# comment
a01-000u-00 ok 154 19 408 746 1661 89 A|MOVE|to|stop
a02-000-00 err 154 19 395 932 1850 105 .|,|Mr.
a03-000-00 ok 154 19 395 932 1850 105 it's
"""
FORMS = "#\na01-000u 000 2 prt 7 5 52 36\na02-000 001 2 prt\na03-000 002 2 prt\na03-117 002 2 prt\n"


def database(folder: Path) -> dict[str, str]:
    """Write a small database, with files of splits, and return the settings."""
    for name, text in (("words", WORDS), ("lines", LINES), ("forms", FORMS)):
        (folder / f"{name}.txt").write_text(text)
        for row in text.splitlines():
            parts = row.split(" ")[0].split("-")
            if name != "forms" and row[0] == "a" and "broken" not in row:
                image = folder / name / parts[0] / "-".join(parts[:2]) / f"{'-'.join(parts)}.png"
                image.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.full((40, 90), 255, np.uint8)
                pixels[10:30, 20:25] = 0
                Image.fromarray(pixels).save(image)
    settings = {"path": str(folder), "split_name": "rwth"}
    for split, name in zip(SPLITS, ("a01-000u", "a02-000", "a03-000-00"), strict=True):
        (folder / f"{split}.uttlist").write_text(f"{name}\n")
        settings[f"{split}_file"] = str(folder / f"{split}.uttlist")
    return settings


def texts(task: Iam, split: str) -> list[str]:
    """Return the texts of a split."""
    return [task.index.lines[number].text for number in task.index.ranges[split]]


def test_words_are_read_as_the_files_have_them(tmp_path: Path) -> None:
    """The text is the ninth field and all after it; wrong segmentations are left out by name."""
    task = Iam(unit="words", **database(tmp_path))
    assert texts(task, "train") == ["A", "to be"]
    assert texts(task, "validation") == ["."]
    assert texts(task, "test") == ['"x']
    assert dict(task.left_out) == {
        "a01-000u-00-01": "is segmented wrongly",
        "words.txt, line 9": "cannot be read",
        "a03-117-05-02": "is in no split",
    }
    assert task.samples("test", 5).image.shape == (1, 1, 32, 72)


def test_lines_have_spaces_and_wrong_words_do_not_matter(tmp_path: Path) -> None:
    """`|` is a space, and a line marked err is used, as that concerns its words alone."""
    task = Iam(**database(tmp_path))
    assert texts(task, "train") == ["A MOVE to stop"]
    assert texts(task, "validation") == [". , Mr."]
    assert not task.left_out


def test_scores_carry_the_name_of_the_split(tmp_path: Path) -> None:
    """Each score is there with the split's name too, so that no table can mix two."""
    task = Iam(**database(tmp_path))
    batch = task.samples("test", 1)
    scores = task.score(task.targets(batch), batch)
    rates = {"cer", "wer", "exact"}
    assert scores.keys() == rates | {"empty", "cer/NFC"} | {f"{name}/rwth" for name in rates}
    assert scores["cer/rwth"] == scores["cer"] == 0


def test_splits_are_by_writer(tmp_path: Path) -> None:
    """Without files of splits all forms of a writer are in the same split; no image is named."""
    settings = {"path": database(tmp_path)["path"]}
    rows, forms = [], []
    for number in range(60):
        for form in ("000", "001"):
            rows.append(f"b{number:02}-{form}-00 ok 154 1 1 1 90 40 word")
            forms.append(f"b{number:02}-{form} {number:03} 2 prt")
            image = tmp_path / f"lines/b{number:02}/b{number:02}-{form}/b{number:02}-{form}-00.png"
            image.parent.mkdir(parents=True)
            Image.fromarray(np.full((40, 90), 255, np.uint8)).save(image)
    (tmp_path / "forms.txt").write_text("\n".join(forms))
    (tmp_path / "lines.txt").write_text("\n".join(rows))
    image.write_bytes(b"")
    task = Iam(**settings)
    writers = {
        split: {task.index.lines[n].name[:3] for n in task.index.ranges[split]} for split in SPLITS
    }
    assert sum(map(len, writers.values())) == len(set().union(*writers.values())) == 60
    assert task.left_out == (("b59-001-00", "has no image, or an empty one"),)


def test_errors_name_the_file(tmp_path: Path) -> None:
    """A missing file, a form in two splits, and one split file without the others are named."""
    with pytest.raises(ConfigError, match=r"forms\.txt: cannot be read"):
        Iam(path=str(tmp_path))
    settings = database(tmp_path)
    with pytest.raises(ConfigError, match="validation_file: null cannot be combined"):
        Iam(**(settings | {"validation_file": None}))
    twice = settings | {"test_file": settings["train_file"]}
    with pytest.raises(ConfigError, match="a01-000u is in train and in test"):
        Iam(**twice)
