"""PAGE XML (2013 to 2019) and ALTO: pages with lines, their polygons, baselines and texts.

As eScriptorium, Transkribus and kraken write them; `page_writing` writes PAGE XML.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core.settings import ConfigError
from tasks.handwriting.xml_tree import read_xml

Points = NDArray[np.float64]  # x and y in pixels (n, 2); y counts downwards
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_FARTHEST = 1e6  # pixels: no coordinate is larger
_ACCEPTED = "PAGE XML (PcGts with a Page) or ALTO (alto with Layout and Page)"


@attrs.frozen(eq=False)
class Word:
    """A word of a line: its text, where it is, and how sure it is, from 0 to 1."""

    text: str
    polygon: Points
    confidence: float | None = None


@attrs.frozen(eq=False)
class TextLine:
    """A line of a page. Polygon and baseline have no points where the file has none."""

    name: str  # its id, or its number in the page
    polygon: Points
    baseline: Points
    text: str  # as the file has it; empty: no text
    confidence: float | None = None  # from 0 to 1
    words: Sequence[Word] = ()


@attrs.frozen(eq=False)
class Page:
    """A page: the name of its image file, height and width in pixels (0: not said), its lines.

    Regions are numbers of lines, in reading order; none: one region has all lines.
    """

    image: str
    height: int
    width: int
    lines: Sequence[TextLine]
    notes: tuple[str, ...] = ()  # what of the file is not used
    regions: Sequence[Sequence[int]] = ()


def read_page(path: Path) -> Page:
    """Read a page from PAGE XML or ALTO.

    Raises:
        ConfigError: names the file, and says why it cannot be read.
    """
    root = read_xml(path)
    page = next(root.iter("Page"), None)
    if page is None or root.tag not in ("PcGts", "alto"):
        raise ConfigError(str(path), "", f"is XML of another kind: {root.tag}", _ACCEPTED)
    try:
        return _read_page_xml(page) if root.tag == "PcGts" else _read_alto(root, page)
    except ValueError as error:
        raise ConfigError(str(path), "", str(error), _ACCEPTED) from None


def is_page_file(path: Path) -> bool:
    """Return whether a file is PAGE XML or ALTO, by its first kilobyte."""
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError:
        return False
    return b"PcGts" in head or b"<alto" in head or b":alto" in head


def parse_points(text: str) -> Points:
    """Return points written as `x,y x,y`, or as `x y x y`.

    >>> parse_points("1,2 3.5,-4").tolist()
    [[1.0, 2.0], [3.5, -4.0]]

    Raises:
        ValueError: the text is not a list of pairs of numbers.
    """
    try:
        numbers = np.array(text.replace(",", " ").split(), np.float64)
    except ValueError:
        numbers = np.array([np.nan])
    if len(numbers) % 2 or not (np.abs(numbers) <= _FARTHEST).all():
        raise ValueError(f"points {text[:60]!r} are not pairs of numbers")
    return numbers.reshape(-1, 2)


def _read_page_xml(page: Element) -> Page:
    lines, notes = [], []
    for number, line in enumerate(page.iter("TextLine"), 1):
        name = line.get("id") or f"line {number}"
        try:
            polygon, baseline = _points(line.find("Coords")), _points(line.find("Baseline"))
        except ValueError as error:
            notes.append(f"{name}: {error}")
            polygon, baseline = np.zeros((0, 2)), np.zeros((0, 2))
        lines.append(TextLine(name, polygon, baseline, *_page_text(line)))
    height, width = _whole(page.get("imageHeight")), _whole(page.get("imageWidth"))
    return Page(page.get("imageFilename", ""), height, width, lines, tuple(notes))


def _points(element: Element | None) -> Points:
    """Return the points of an element: an attribute, or, before 2013, elements Point."""
    if element is None:
        return np.zeros((0, 2))
    if element.get("points") is not None:
        return parse_points(element.get("points", ""))
    pairs = [f"{point.get('x')},{point.get('y')}" for point in element.findall("Point")]
    return parse_points(" ".join(pairs))


def _page_text(line: Element) -> tuple[str, float | None]:
    """Return text and confidence of a line: those of the lowest index, else its words' text."""
    own = sorted(line.findall("TextEquiv"), key=lambda equiv: _whole(equiv.get("index")))
    for equivalent in own:
        unicode = equivalent.find("Unicode")
        if unicode is not None and unicode.text:
            return unicode.text, _share(equivalent.get("conf"))
    words = [_page_text(word)[0] for word in line.findall("Word")]
    return " ".join(word for word in words if word), None


def _share(text: str | None) -> float | None:
    """Return a number from 0 to 1; None: there is none."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 <= number <= 1 else None


def _whole(text: str | None) -> int:
    try:
        return max(0, int(float(text or 0)))
    except (ValueError, OverflowError):
        return 0


def _read_alto(root: Element, page: Element) -> Page:
    unit = next((e.text or "" for e in root.iter("MeasurementUnit")), "pixel").strip()
    if unit != "pixel":
        raise ValueError(f"its unit is {unit}, not pixel")
    image = next((e.text or "" for e in root.iter("fileName")), "").strip()
    num_pages = sum(1 for _ in root.iter("Page"))
    notes = [f"{num_pages - 1} more pages in the file"] if num_pages > 1 else []
    lines = []
    for number, line in enumerate(page.iter("TextLine"), 1):
        name = line.get("ID") or f"line {number}"
        try:
            polygon, baseline = _alto_polygon(line), _alto_baseline(line)
        except ValueError as error:
            notes.append(f"{name}: {error}")
            polygon, baseline = np.zeros((0, 2)), np.zeros((0, 2))
        lines.append(TextLine(name, polygon, baseline, "".join(_alto_text(line))))
    height, width = _whole(page.get("HEIGHT")), _whole(page.get("WIDTH"))
    return Page(image, height, width, lines, tuple(notes))


def _alto_polygon(line: Element) -> Points:
    """Return the polygon of a line, or its rectangle."""
    polygon = line.find("Shape/Polygon")
    if polygon is not None:
        return parse_points(polygon.get("POINTS", ""))
    sides = [line.get(name) for name in ("HPOS", "VPOS", "WIDTH", "HEIGHT")]
    if None in sides:
        return np.zeros((0, 2))
    (left, top), (width, height) = parse_points(" ".join(side or "0" for side in sides))
    right, bottom = left + width, top + height
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def _alto_baseline(line: Element) -> Points:
    """Return the baseline of a line; before ALTO 4.1 it is one number, its height."""
    text = line.get("BASELINE", "").strip()
    if not _NUMBER.fullmatch(text):
        return parse_points(text)
    sides = f"{line.get('HPOS') or 0} {text} {line.get('WIDTH') or 0} 0"
    first, across = parse_points(sides)
    return np.stack([first, first + across])


def _alto_text(line: Element) -> Iterator[str]:
    """Yield the strings of a line, with a space between words, written or not."""
    follows = False
    for part in line:
        if part.tag == "String":
            if follows:
                yield " "
            yield part.get("CONTENT", "")
            follows = True
        elif part.tag == "SP":
            yield " "
            follows = False
        elif part.tag == "HYP":
            yield part.get("CONTENT", "-")
