"""PAGE XML (2019-07-15), written: lines in regions, in reading order, with words and confidences.

Transcriptions that eScriptorium, Transkribus and kraken open; elements and attributes are in the
order of the schema. Points are rounded to whole pixels of the image, as the schema wants them.
"""

import datetime
import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np
from numpy.typing import NDArray

from tasks.handwriting.page_format import Page, TextLine

_NAMESPACE = "http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15"
_SCHEMA = "http://www.w3.org/2001/XMLSchema-instance"
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML 1.0
_NO_NAME = re.compile(r"[^\w.-]")  # characters that an id must not have
_RESERVED = ("region_", "word_", "reading_order")  # beginnings of other ids
_BEFORE = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def write_page(path: Path, page: Page) -> None:
    """Write a page as PAGE XML; see `page_xml`.

    Raises:
        OSError: the file cannot be written.
    """
    path.write_bytes(page_xml(page))


def page_xml(page: Page, written_at: datetime.datetime = _BEFORE) -> bytes:
    """Return a page as PAGE XML; what is written is read back by `read_page`.

    Ids are the names of lines, made fit for XML and different. Characters that XML does not have,
    such as control characters, are written as �.

    Args:
        page: what is written.
        written_at: the time that the file says; not now, so that equal pages give equal files.
    """
    root = Element("PcGts", {"xmlns": _NAMESPACE, "xmlns:xsi": _SCHEMA})
    root.set("xsi:schemaLocation", f"{_NAMESPACE} {_NAMESPACE}/pagecontent.xsd")
    metadata = SubElement(root, "Metadata")
    time = written_at.strftime("%Y-%m-%dT%H:%M:%S")
    for name, text in (("Creator", "terrarium"), ("Created", time), ("LastChange", time)):
        SubElement(metadata, name).text = text
    size = {"imageWidth": str(page.width), "imageHeight": str(page.height)}
    sheet = SubElement(root, "Page", {"imageFilename": _text(page.image), **size})
    regions = page.regions or [range(len(page.lines))]
    _add_order(sheet, len(regions))
    ids = _ids(page.lines)
    for number, members in enumerate(regions, 1):
        region = SubElement(sheet, "TextRegion", {"id": f"region_{number}"})
        lines = [page.lines[at] for at in members]
        whole = [[0, 0], [page.width, page.height]]
        own = [line.polygon for line in lines if len(line.polygon)] if page.regions else []
        _add_points(region, "Coords", _rectangle(np.concatenate(own or [np.array(whole)])))
        for at, line in zip(members, lines, strict=True):
            _add_line(region, line, ids[at], at)
    indent(root)
    written: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return written


def _add_order(sheet: Element, num_regions: int) -> None:
    order = SubElement(SubElement(sheet, "ReadingOrder"), "OrderedGroup", {"id": "reading_order"})
    for number in range(num_regions):
        reference = {"index": str(number), "regionRef": f"region_{number + 1}"}
        SubElement(order, "RegionRefIndexed", reference)


def _add_line(region: Element, line: TextLine, name: str, at: int) -> None:
    own = SubElement(region, "TextLine", {"id": name})
    _add_points(own, "Coords", line.polygon)
    if len(line.baseline):
        _add_points(own, "Baseline", line.baseline)
    for number, word in enumerate(line.words, 1):
        part = SubElement(own, "Word", {"id": f"word_{at + 1}_{number}"})
        _add_points(part, "Coords", word.polygon)
        _add_text(part, word.text, word.confidence)
    _add_text(own, line.text, line.confidence)


def _add_text(element: Element, text: str, confidence: float | None) -> None:
    share = {} if confidence is None else {"conf": f"{min(max(confidence, 0.0), 1.0):.4f}"}
    SubElement(SubElement(element, "TextEquiv", share), "Unicode").text = _text(text)


def _add_points(element: Element, name: str, points: NDArray[np.floating]) -> None:
    whole = np.maximum(np.rint(points), 0).astype(int).tolist()
    SubElement(element, name, {"points": " ".join(f"{x},{y}" for x, y in whole)})


def _text(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)


def _rectangle(points: NDArray[np.floating]) -> NDArray[np.floating]:
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def _ids(lines: Sequence[TextLine]) -> list[str]:
    """Return a different id of each line, which begins with a letter."""
    ids: dict[str, None] = {}
    for number, line in enumerate(lines, 1):
        name = _NO_NAME.sub("_", line.name)
        if not name[:1].isalpha() or name.startswith(_RESERVED) or name in ids:
            name = f"line_{number}"
        while name in ids:
            name += "_"
        ids[name] = None
    return list(ids)
