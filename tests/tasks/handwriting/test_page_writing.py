"""PAGE XML that is written: it follows the schema, and our own task reads it back."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

import tasks
from tasks.handwriting.page_format import Page, TextLine, Word, read_page
from tasks.handwriting.page_writing import page_xml, write_page

BOX = np.array([[10, 20], [90, 20], [90, 50], [10, 50]])
BASE = np.array([[10, 45], [50, 46], [90, 45]])
TEXTS = ['<é> & "ſ" \'', "&amp; \N{GRINNING FACE}𝔄", "a b", "]]> <!-- -->"]
NAMESPACE = "{http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15}"


def page(image: str = "a & b.png") -> Page:
    """Return a page with a line of each text, in two regions."""
    words = [Word("a", BOX[:3], 0.25), Word("b", BOX[1:], 1.0)]
    lines = [
        TextLine(f"l{number}", BOX, BASE, text, 0.5, words if text == "a b" else ())
        for number, text in enumerate(TEXTS)
    ]
    return Page(image, 80, 100, lines, regions=[[2, 0], [1, 3]])


def test_the_task_reads_what_is_written(tmp_path: Path) -> None:
    """The same texts, polygons and baselines, of lines in the order in which they are read."""
    for name in ("train", "validation", "test"):
        (tmp_path / name).mkdir()
        pixels = np.full((80, 100), 240 - len(name), np.uint8)
        pixels[30:45, 20:60] = 30
        Image.fromarray(pixels).save(tmp_path / name / "a & b.png")
        write_page(tmp_path / name / "x.xml", page())
    task = tasks.make("page_xml", path=str(tmp_path), unicode_form="NFC")
    assert not task.left_out
    (own,) = [each for each in task.pages if each.name.startswith("test")]
    assert [line.text for line in own.lines] == [TEXTS[at] for at in (2, 0, 1, 3)]
    for line in own.lines:
        assert line.polygon.tolist() == BOX.tolist()
        assert line.baseline.tolist() == BASE.tolist()


def test_elements_are_those_of_the_schema() -> None:
    """Their order, whole numbers that are not negative, ids that differ, confidences up to 1."""
    lines = [
        TextLine("a b", BOX - 20.4, BASE, "x", 1.7),
        TextLine("a_b", BOX, BASE, "y\x00\x0b\ud800"),
        TextLine("word_1_1", BOX, np.zeros((0, 2)), "z", words=[Word("z", BOX, -1.0)]),
        TextLine("7", BOX, BASE, ""),
    ]
    root = ElementTree.fromstring(page_xml(Page("p.png", 80, 100, lines)))
    assert [part.tag.removeprefix(NAMESPACE) for part in root] == ["Metadata", "Page"]
    sheet = root[1]
    assert [part.tag.removeprefix(NAMESPACE) for part in sheet] == ["ReadingOrder", "TextRegion"]
    ids = [part.get("id") for part in root.iter() if part.get("id")]
    assert len(ids) == len(set(ids))
    references = [part.get("regionRef") for part in root.iter() if part.get("regionRef")]
    assert set(references) <= set(ids)
    order = ["Coords", "Baseline", "Word", "TextEquiv"]
    for line in root.iter(f"{NAMESPACE}TextLine"):
        tags = [part.tag.removeprefix(NAMESPACE) for part in line]
        assert tags == sorted(tags, key=order.index)
    for part in root.iter():
        for pair in part.get("points", "").split():
            assert all(number.isdecimal() for number in pair.split(","))
        assert 0 <= float(part.get("conf", 0)) <= 1
    assert "y\ufffd\ufffd\ufffd" in [part.text for part in root.iter(f"{NAMESPACE}Unicode")]


def test_confidences_read_back(tmp_path: Path) -> None:
    """Those of lines; equal pages give equal files."""
    write_page(tmp_path / "a.xml", page())
    assert [line.confidence for line in read_page(tmp_path / "a.xml").lines] == [0.5] * 4
    assert page_xml(page()) == (tmp_path / "a.xml").read_bytes()
