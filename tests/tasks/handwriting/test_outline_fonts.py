"""Handwriting drawn with outline fonts."""

import shutil
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

from tasks.core.settings import ConfigError
from tasks.core.task import SPLITS
from tasks.handwriting import outline_fonts
from tasks.handwriting.drawn import DrawnHandwriting
from tasks.handwriting.lines import Pass

NAMES = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSerif", "STIXGeneral")
SOME = np.arange(40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a folder of five fonts of four families, one without letters, and a text."""
    path = tmp_path_factory.mktemp("fonts")
    place = Path(mpl.get_data_path()) / "fonts" / "ttf"
    for name in (*NAMES, "STIXSizOneSymReg"):
        shutil.copy(place / f"{name}.ttf", path)
    (path / "broken.otf").write_bytes(b"OTTO")
    (path / "read me.txt").write_text("fonts")
    return str(path)


def test_fonts_that_cannot_be_used_are_named(folder: str) -> None:
    """Of a folder all fonts with every character are used; the others are told with a reason."""
    fonts = outline_fonts.find_fonts(folder)
    assert sorted(font.path.stem for font in fonts.used) == sorted(NAMES)
    reasons = {Path(place).name: reason for place, reason in fonts.left_out}
    assert set(reasons) == {"broken.otf", "STIXSizOneSymReg.ttf"}
    assert "cannot be read" in reasons["broken.otf"]
    assert reasons["STIXSizOneSymReg.ttf"].startswith("has no ")


def test_new_writers_have_new_families(folder: str, tmp_path: Path) -> None:
    """Each family, with all its weights, is in one split; of two families that is impossible."""
    fonts = outline_fonts.find_fonts(folder)
    families = [{font.family for font in fonts.of_split(split)} for split in SPLITS]
    assert all(families)
    assert sum(map(len, families)) == len(set.union(*families)) == 4
    for name in NAMES[:3]:
        shutil.copy(Path(folder) / f"{name}.ttf", tmp_path)
    task = DrawnHandwriting(fonts="outlines", font_folder=str(tmp_path), unseen="both")
    with pytest.raises(ConfigError, match="unseen writers need three families"):
        task.load(Pass("test", 0, 0), SOME[:1])


@pytest.mark.parametrize("unseen", ["words", "writers"])
def test_lines_have_the_fonts_of_their_split(
    unseen: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Test lines are drawn with the training's fonts, or with others, as the setting says."""
    hands: dict[str, set[str]] = {}
    draw = outline_fonts.draw
    for split in ("train", "test"):
        own = hands.setdefault(split, set())
        monkeypatch.setattr(
            outline_fonts,
            "draw",
            lambda *given, own=own: own.add(given[1].font.family) or draw(*given),
        )
        task = DrawnHandwriting(fonts="outlines", font_folder=folder, unseen=unseen)
        task.load(Pass(split, 0, 0), SOME)
    assert bool(hands["train"] & hands["test"]) == (unseen == "words")


def test_a_line_is_a_function_of_its_index(folder: str) -> None:
    """A line drawn by itself is that of a pass; another epoch has another; both kinds are drawn."""
    task = DrawnHandwriting(fonts="both", font_folder=folder, most_words=2)
    lines = task.load(Pass("train", 0, 0), SOME)
    (alone,) = task.load(Pass("train", 0, 0), SOME[7:8])
    np.testing.assert_array_equal(lines[7].image, alone.image)
    (other,) = task.load(Pass("train", 0, 1), SOME[7:8])
    assert lines[7].image.tobytes() != other.image.tobytes()
    plain = DrawnHandwriting(most_words=2).load(Pass("train", 0, 0), SOME)
    pairs = zip(lines, plain, strict=True)
    same = sum(a.image.tobytes() == b.image.tobytes() for a, b in pairs)
    assert 10 < same < 30


@pytest.mark.parametrize("height", [16, 32, 64])
def test_ink_is_within_the_line_and_boxes_around_it(height: int, folder: str) -> None:
    """Words are within the height, paper at both ends; letters have ink in their boxes.

    Almost all ink is within the boxes.
    """
    fonts = outline_fonts.find_fonts(folder).used
    for number in range(12):
        rng = np.random.default_rng(number)
        image, boxes = outline_fonts.draw(
            "Agf jplQ", outline_fonts.writer(number, fonts), height, rng
        )
        assert image.shape[0] == height
        assert image.max() > 80
        assert (image[[0, -1]] > 60).mean() < 0.15
        assert image[:, 0].max() < 60
        assert np.isnan(boxes[3]).all()
        inside = np.zeros(image.shape, bool)
        for left, top, right, bottom in np.delete(boxes, 3, axis=0):
            rows = slice(max(0, int(top)), int(bottom) + 1)
            columns = slice(max(0, int(left)), int(right) + 1)
            assert image[rows, columns].max() > 60
            inside[rows, columns] = True
        assert image[inside].sum() > 0.9 * image.sum()


def test_other_fonts_are_noticed(folder: str) -> None:
    """A task with hashes of other files can be made, as from a checkpoint, but draws no line."""
    task = DrawnHandwriting(fonts="outlines", font_folder=folder)
    assert task.font_files is not None
    assert task.font_files.count(";") == len(NAMES) - 1
    other = DrawnHandwriting(fonts="outlines", font_folder=folder, font_files="a.ttf 0123")
    assert other.spec == task.spec
    with pytest.raises(
        ConfigError, match=r"font_files: found .* not a.ttf 0123; accepted: the same"
    ):
        other.samples("test", 1)


def test_without_fonts_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty folder, one that is not there, and a machine without fonts are errors in words."""
    monkeypatch.setattr(outline_fonts, "_FOLDERS", ())
    outline_fonts.find_fonts.cache_clear()
    with pytest.raises(ConfigError, match=r"this machine has no outline font .* fonts-kristi"):
        DrawnHandwriting(fonts="both")
    with pytest.raises(ConfigError, match="has no outline font of handwriting"):
        DrawnHandwriting(fonts="both", font_folder=str(tmp_path))
    with pytest.raises(ConfigError, match="is not a folder"):
        DrawnHandwriting(fonts="both", font_folder=str(tmp_path / "none"))


def test_fonts_of_the_machine_are_chosen_by_name(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of installed fonts, those that are named as handwriting is are used."""
    (tmp_path / "truetype").mkdir()
    shutil.copy(Path(folder) / "DejaVuSans.ttf", tmp_path / "truetype" / "Dancing_Script-Bold.ttf")
    shutil.copy(Path(folder) / "DejaVuSerif.ttf", tmp_path / "DejaVuSerif.ttf")
    monkeypatch.setattr(outline_fonts, "_FOLDERS", (str(tmp_path), str(tmp_path / "none")))
    outline_fonts.find_fonts.cache_clear()
    assert [font.path.name for font in outline_fonts.find_fonts(None).used] == [
        "Dancing_Script-Bold.ttf"
    ]
    outline_fonts.find_fonts.cache_clear()
