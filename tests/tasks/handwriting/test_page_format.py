"""PAGE XML and ALTO."""

from pathlib import Path

import numpy as np
import pytest

from tasks.core.settings import ConfigError
from tasks.handwriting import xml_tree
from tasks.handwriting.page_format import Page, TextLine, read_page
from tasks.handwriting.page_writing import write_page

PAGE = """<?xml version="1.0" encoding="UTF-8"?>
<PcGts xmlns="http://schema.primaresearch.org/PAGE/gts/pagecontent/{version}">
 <Page imageFilename="a &amp; b.jpg" imageWidth="200" imageHeight="100">
  <TextRegion id="empty"><Coords points="0,0 9,0 9,9"/></TextRegion>
  <TextRegion id="r"><TextRegion id="inner">
   <TextLine id="l1"><Coords points="10,10 90,10 90,30"/><Baseline points="10,25 90,26.5"/>
    <Word><TextEquiv><Unicode>not this</Unicode></TextEquiv></Word>
    <TextEquiv index="1"><Unicode>second</Unicode></TextEquiv>
    <TextEquiv index="0"><PlainText>plain</PlainText>
     <Unicode>l&#x27;un &amp; é</Unicode></TextEquiv>
   </TextLine>
   <TextLine><Coords><Point x="1" y="2"/><Point x="3" y="4"/></Coords>
    <Word id="w1"><TextEquiv><Unicode>two</Unicode></TextEquiv></Word>
    <Word id="w2"><TextEquiv><Unicode>words</Unicode></TextEquiv></Word></TextLine>
   <TextLine id="l3"><Coords points="1,2 3"/>
    <TextEquiv><Unicode>lost?</Unicode></TextEquiv></TextLine>
   <TextLine id="l4"><TextEquiv><Unicode/></TextEquiv></TextLine>
  </TextRegion></TextRegion>
 </Page>
</PcGts>"""

ALTO = """<?xml version="1.0"?>
<alto xmlns="http://www.loc.gov/standards/alto/ns-v4#"><Description>
 <MeasurementUnit>pixel</MeasurementUnit>
 <sourceImageInformation><fileName>page 1.png</fileName></sourceImageInformation></Description>
 <Layout><Page WIDTH="200" HEIGHT="100" PHYSICAL_IMG_NR="1"><PrintSpace><TextBlock ID="b">
  <TextLine ID="t1" HPOS="10" VPOS="20" WIDTH="80" HEIGHT="15" BASELINE="10 32 90 33">
   <Shape><Polygon POINTS="10 20 90 20 90 35 10 35"/></Shape>
   <String CONTENT="one"/><SP/><String CONTENT="two"/><String CONTENT="three"/><HYP CONTENT="-"/>
  </TextLine>
  <TextLine ID="t2" HPOS="10" VPOS="50" WIDTH="80" HEIGHT="15" BASELINE="60">
   <String CONTENT="whole line"/></TextLine>
 </TextBlock></PrintSpace></Page></Layout></alto>"""


def saved(folder: Path, text: str | bytes) -> Path:
    """Write a file, and return its path."""
    path = folder / "page.xml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("version", ["2013-07-15", "2019-07-15"])
def test_page_xml_is_read(tmp_path: Path, version: str) -> None:
    """Lines in nested regions have polygon, baseline, and the text of the lowest index."""
    page = read_page(saved(tmp_path, PAGE.format(version=version)))
    assert (page.image, page.height, page.width) == ("a & b.jpg", 100, 200)
    assert [line.name for line in page.lines] == ["l1", "line 2", "l3", "l4"]
    assert [line.text for line in page.lines] == ["l'un & é", "two words", "lost?", ""]
    assert page.lines[0].polygon.tolist() == [[10, 10], [90, 10], [90, 30]]
    assert page.lines[0].baseline.tolist() == [[10, 25], [90, 26.5]]
    assert page.lines[1].polygon.tolist() == [[1, 2], [3, 4]]
    assert [len(line.polygon) for line in page.lines[2:]] == [0, 0]
    assert page.notes == ("l3: points '1,2 3' are not pairs of numbers",)


def test_alto_is_read(tmp_path: Path) -> None:
    """Lines of ALTO have a polygon or a rectangle, a baseline of any version, and their words."""
    page = read_page(saved(tmp_path, ALTO))
    assert (page.image, page.height, page.width) == ("page 1.png", 100, 200)
    first, second = page.lines
    assert first.text == "one two three-"
    assert first.polygon.tolist() == [[10, 20], [90, 20], [90, 35], [10, 35]]
    assert first.baseline.tolist() == [[10, 32], [90, 33]]
    assert second.text == "whole line"
    assert second.polygon.tolist() == [[10, 50], [90, 50], [90, 65], [10, 65]]
    assert second.baseline.tolist() == [[10, 60], [90, 60]]


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    """A page that was written is read as the same lines, whatever characters they have."""
    box = np.array([[1, 2], [30, 2], [30, 9]])
    lines = [
        TextLine("first", box, np.array([[1, 8], [30, 8]]), '<é> & "ſ" \'\N{GRINNING FACE}', 0.5),
        TextLine("2 nd", box, np.zeros((0, 2)), ""),
    ]
    write_page(tmp_path / "a.xml", Page("a & b.png", 20, 40, lines))
    page = read_page(tmp_path / "a.xml")
    assert (page.image, page.height, page.width) == ("a & b.png", 20, 40)
    assert [line.text for line in page.lines] == [line.text for line in lines]
    for one, two in zip(page.lines, lines, strict=True):
        np.testing.assert_array_equal(one.polygon, two.polygon)
        np.testing.assert_array_equal(one.baseline, two.baseline)
    assert 'conf="0.5000"' in (tmp_path / "a.xml").read_text()


LAUGHS = '<!DOCTYPE a [<!ENTITY b "ha">' + "".join(
    f'<!ENTITY b{n} "{f"&b{n - 1 or str()};" * 10}">' for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{LAUGHS}]><PcGts>&b9;</PcGts>", "document type"),
        (
            '<!DOCTYPE a [<!ENTITY f SYSTEM "file:///etc/passwd">]><PcGts>&f;</PcGts>',
            "document type",
        ),
        ('<!DOCTYPE PcGts SYSTEM "http://127.0.0.1/a.dtd"><PcGts/>', "document type"),
        ("<PcGts>&undefined;</PcGts>", "undefined entity"),
        ("<a>" * 200, "more than 100 elements"),
        ("<PcGts><Page>", "is not XML"),
        ("", "is not XML"),
        (b"\x00\x01\x02", "is not XML"),
        ('<?xml version="1.0" encoding="klingon"?><PcGts/>', "is not XML"),
        ("<svg/>", "XML of another kind: svg"),
        ("<PcGts/>", "XML of another kind"),
        (ALTO.replace(">pixel<", ">mm10<"), "its unit is mm10"),
    ],
)
def test_what_is_no_page_is_refused(tmp_path: Path, text: str | bytes, words: str) -> None:
    """Entities, document types, broken XML and other kinds of it are errors that name the file."""
    with pytest.raises(ConfigError, match=f"page.xml: .*{words}"):
        read_page(saved(tmp_path, text))


def test_a_huge_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of more bytes than a page may have is refused before it is parsed."""
    monkeypatch.setattr(xml_tree, "MOST_BYTES", 100)
    with pytest.raises(ConfigError, match="has more than"):
        read_page(saved(tmp_path, "<PcGts>" + " " * 100))


@pytest.mark.parametrize("text", ["<PcGts>" + "<a/>" * 20, "<PcGts a='' b='' c=''><a d='' e=''/>"])
def test_a_file_of_too_many_parts_is_refused(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elements and attributes are counted, as each takes far more memory than its letters."""
    monkeypatch.setattr(xml_tree, "_MOST_SIGNS", 5)
    with pytest.raises(ConfigError, match="more than 5 tags and attributes"):
        read_page(saved(tmp_path, text))
