"""Folders of pages."""

import logging
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks.core.settings import ConfigError
from tasks.core.task import SPLITS
from tasks.handwriting import page_xml
from tasks.handwriting.page_files import look
from tasks.handwriting.page_format import Page, TextLine
from tasks.handwriting.page_writing import write_page
from tasks.handwriting.page_xml import PageLines

NONE = np.zeros((0, 2))


def box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """Return a rectangle as a polygon."""
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def line(name: str = "l", text: str = "ab", top: float = 20) -> TextLine:
    """Return a line of a page of 120 × 100 pixels."""
    baseline = np.array([[10, top + 22], [110, top + 22]])
    return TextLine(name, box(10, top, 110, top + 30), baseline, text)


def add_page(folder: Path, name: str, lines: list[TextLine] | None = None, **how: object) -> None:
    """Save a page and its XML."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.full((100, 120), 240, np.uint8)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    pixels[26:40, 20:100] = rng.integers(0, 240, (14, 80))
    Image.fromarray(pixels).save(folder / f"{name}.png")
    page = Page(
        **{"image": f"{name}.png", "height": 100, "width": 120, "lines": lines or [line()], **how}
    )
    write_page(folder / f"{name}.xml", page)


def add_pages(folder: Path, num: int) -> None:
    """Save pages with one line each."""
    for number in range(num):
        add_page(folder, f"{number:02}")


def test_lines_without_text_or_polygon_are_counted_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every line that is not used is in the report with its reason, and one warning counts all."""
    add_pages(tmp_path, 3)
    lines = [line("good"), line("mute", " "), TextLine("flat", box(5, 5, 90, 5), NONE, "text")]
    add_page(tmp_path, "a", lines)
    add_page(tmp_path, "no image")
    (tmp_path / "no image.png").unlink()
    add_page(tmp_path, "spoilt")
    (tmp_path / "spoilt.png").write_bytes(b"\x89PNG\r\n")
    add_page(tmp_path, "other size", height=300)
    (tmp_path / "mets.xml").write_text("<mets/>")
    (tmp_path / "blank.xml").write_text("<PcGts><Page/></PcGts>")
    with caplog.at_level(logging.WARNING):
        task = PageLines(path=str(tmp_path))
        assert sum(task.num_samples_in(split) for split in SPLITS) == 4
    assert dict(task.left_out) == {
        "a mute": "has no text",
        "a flat": "has an empty polygon",
        "no image.xml, 1 lines": "has no image",
        "spoilt.xml, 1 lines": "has an image that cannot be read, or of several pages",
        "other size.xml, 1 lines": "has an image of another shape than it says",
        "mets.xml": "is XML of another kind",
        "blank.xml": "has no lines",
    }
    (message,) = [record.getMessage() for record in caplog.records]
    assert "7 left out, 4 lines used" in message


def test_points_outside_of_the_image_are_clipped_and_counted(tmp_path: Path) -> None:
    """A polygon that leaves the page is cut at its border, and the task says so."""
    add_pages(tmp_path, 3)
    outside = TextLine("far", box(-500, 20, 5000, 50), np.array([[-500, 42], [5000, 42]]), "ab")
    add_page(tmp_path, "x", [outside])
    task = PageLines(path=str(tmp_path))
    assert task.notes == (("x far", "has points outside of its image, which are clipped"),)
    assert task.encode(["x far"]).image.shape[3] < 300


def test_points_are_scaled_to_an_image_of_another_size(tmp_path: Path) -> None:
    """An image that was scaled after it was annotated is cut at the same places, with a note."""
    add_pages(tmp_path, 3)
    add_page(tmp_path, "s")
    whole = PageLines(path=str(tmp_path)).encode(["s l"])
    page_xml._read_folder.cache_clear()
    with Image.open(tmp_path / "s.png") as image:
        image.resize((240, 200), Image.Resampling.NEAREST).save(tmp_path / "s.png")
    task = PageLines(path=str(tmp_path))
    assert [note.place for note in task.notes] == ["s"]
    large = task.encode(["s l"])
    assert large.image.shape[3] == pytest.approx(whole.image.shape[3], rel=0.15)


def test_a_page_is_in_one_split(tmp_path: Path) -> None:
    """All lines of a page are in the same split, and equal images are not in two."""
    for number in range(12):
        add_page(tmp_path, f"{number}", [line(f"l{n}") for n in range(3)])
    task = PageLines(path=str(tmp_path))
    pages = {
        split: {task.index.lines[n].name.split()[0] for n in task.index.ranges[split]}
        for split in SPLITS
    }
    assert sum(map(len, pages.values())) == len(set().union(*pages.values())) == 12
    add_page(tmp_path / "sub/train", "9")
    add_page(tmp_path / "sub/train", "8")
    add_page(tmp_path / "sub/validation", "7")
    add_page(tmp_path / "sub/test", "9")
    task = PageLines(path=str(tmp_path / "sub"))
    assert [task.num_samples_in(split) for split in SPLITS] == [1, 1, 1]
    assert task.left_out == (("train/9, equal to test/9", "its image is also in test"),)


def test_lines_are_the_same_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut lines that were kept are read instead of cut; a spoilt file is made again."""
    add_pages(tmp_path / "pages", 4)
    settings = {"path": str(tmp_path / "pages"), "cache": str(tmp_path / "kept")}
    plain = PageLines(path=settings["path"]).samples("train", 9)
    first = PageLines(**settings).samples("train", 9)
    kept = sorted((tmp_path / "kept").glob("*.safetensors"))
    assert len(kept) == PageLines(**settings).num_samples_in("train")
    page_xml._store.cache_clear()
    kept[0].write_bytes(kept[0].read_bytes()[:20])
    cut = []
    monkeypatch.setattr(
        page_xml, "cut_lines", lambda *given: cut.append(given) or page_xml_cut(*given)
    )
    again = PageLines(**settings).samples("train", 9)
    assert len(cut) == 1
    for batch in (first, again):
        np.testing.assert_array_equal(batch.image, plain.image)
    assert sorted((tmp_path / "kept").glob("*.safetensors")) == kept


page_xml_cut = page_xml.cut_lines


def test_xml_is_read_again_only_where_a_page_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a cache the index is the same, of pages that changed, came or went too; also spoilt."""
    read: list[str] = []

    def counted(root: Path, name: str, form: Any) -> Any:
        read.append(name)
        return look(root, name, form)

    monkeypatch.setattr(page_xml, "look", counted)
    for folder in "abc":
        for number in range(3):
            add_page(tmp_path / "pages" / folder, f"{folder}{number}")
    add_page(tmp_path / "pages" / "b", "mute", [line("l", " "), line("m", "ba")])

    def names() -> list[str]:
        found = []
        for cache in (None, str(tmp_path / "kept")):
            read.clear()
            page_xml._read_folder.cache_clear()
            task = PageLines(path=str(tmp_path / "pages"), cache=cache)
            found.append((task.index.ranges, [*task.index.lines], task.left_out, task.notes))
        assert found[0] == found[1]
        return sorted(read)

    everything = [f"{f}/{f}{n}.xml" for f in "abc" for n in range(3)] + ["b/mute.xml"]
    assert names() == sorted(everything)
    assert names() == []
    text = (tmp_path / "pages/c/c0.xml").read_text()
    (tmp_path / "pages/c/c0.xml").write_text(text.replace("ab<", "new text<"))
    assert names() == ["c/c0.xml"]
    (tmp_path / "pages/a/a0.png").unlink()  # is no longer beside its XML, and changes its folder
    assert names() == ["a/a0.xml", "a/a1.xml", "a/a2.xml"]
    assert names() == ["a/a0.xml"]  # what is not used may be completed
    (kept,) = (tmp_path / "kept").glob("pages-*.jsonl")
    whole = kept.read_bytes()
    kept.write_bytes(whole.replace(b"new text", b"old text"))
    assert "c/c0.xml" in names()
    kept.write_bytes(whole[: len(whole) // 2])
    assert 1 < len(names()) < 10
    assert [*(tmp_path / "kept").iterdir()] == [kept]


def test_an_image_is_found_by_its_name_or_that_of_its_xml(tmp_path: Path) -> None:
    """Names with folders, spaces and ampersands are found; nothing outside of the folder is."""
    add_pages(tmp_path, 3)
    add_page(tmp_path, "a & b", image="C:\\scans\\a & b.png")
    add_page(tmp_path, "c", image="../../etc/c.jpeg")
    task = PageLines(path=str(tmp_path))
    assert {page.image.name for page in task.pages} >= {"a & b.png", "c.png"}
    assert not task.left_out


def test_errors_name_the_file(tmp_path: Path) -> None:
    """XML with entities, an image that breaks off, and an empty folder are named."""
    with pytest.raises(ConfigError, match="has no page with a line"):
        PageLines(path=str(tmp_path))
    add_pages(tmp_path, 4)
    with Image.open(tmp_path / "01.png") as image:
        image.save(tmp_path / "01.jpg")
    (tmp_path / "01.png").unlink()
    whole = (tmp_path / "01.jpg").read_bytes()
    (tmp_path / "01.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match=r"01\.jpg: cannot be read"):
        PageLines(path=str(tmp_path)).encode(["01 l"])
    page_xml._read_folder.cache_clear()
    (tmp_path / "02.xml").write_text('<!DOCTYPE PcGts [<!ENTITY a "b">]><PcGts>&a;</PcGts>')
    with pytest.raises(ConfigError, match=r"02\.xml: is not XML: it has a document type"):
        PageLines(path=str(tmp_path))
