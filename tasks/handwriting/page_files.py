"""Files of pages with PAGE XML or ALTO: what is used of each, and a list that holds names alone."""

import os
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import attrs

from tasks.core.images import read_size
from tasks.core.names import NameTable
from tasks.core.settings import ConfigError
from tasks.handwriting.cutting import clipped, is_empty, length_of
from tasks.handwriting.line_index import LeftOut
from tasks.handwriting.page_format import Page, TextLine, is_page_file, read_page
from tasks.handwriting.texts import Form, normalized
from tasks.image_files import SUFFIXES

A_PAGE = f"a whole file of an image of a page ({' '.join(SUFFIXES)})"
UNREADABLE = "has an image that cannot be read, or of several pages"
_UNCHANGED = "files that stay as they are while a run reads them"
_SAME = 0.01  # greatest relative difference of two aspect ratios of the same image
_LONGEST = 4  # times height and width of a page: a baseline that is longer goes back and forth


@attrs.frozen(eq=False)
class PageFile:
    """A page that is used: its image, and its lines with text and polygon."""

    name: str  # path of its XML in the folder, without suffix
    image: Path
    digest: int  # of the image file
    lines: Sequence[TextLine]


class Looked(NamedTuple):
    """What was found of a page, and what of it is not used, or not as it is written."""

    page: PageFile | None  # with 0 as digest; None: it has no line that is used
    left_out: list[LeftOut]
    notes: list[LeftOut]


class PageFiles(Sequence[PageFile]):
    """Pages of a folder, of which the XML is read again where lines are asked for."""

    def __init__(self, root: Path, form: Form) -> None:
        self.root, self.form = root, form
        self.names, self.images = NameTable(), NameTable()
        self.digests, self.firsts = array("Q"), array("Q", [0])  # of lines, by page

    def append(self, name: str, image: str, digest: int, num_lines: int) -> None:
        """Add a page."""
        self.names.append(name)
        self.images.append(image)
        self.digests.append(digest)
        self.firsts.append(self.firsts[-1] + num_lines)

    def __len__(self) -> int:
        """Return the number of pages."""
        return len(self.names)

    @overload
    def __getitem__(self, at: int) -> PageFile: ...
    @overload
    def __getitem__(self, at: slice) -> list[PageFile]: ...
    def __getitem__(self, at: int | slice) -> PageFile | list[PageFile]:
        """Return a page, or those of a slice.

        Raises:
            ConfigError: its files are no longer those that the index was made of.
        """
        if isinstance(at, slice):
            return [self[number] for number in range(*at.indices(len(self)))]
        at = range(len(self))[at]
        return read_again(self.item(at), os.fspath(self.root), self.form)

    def item(self, at: int) -> Any:
        """Return what a worker is given to read a page."""
        return [self.names[at], self.digests[at], self.firsts[at + 1] - self.firsts[at]]

    def stem(self, at: int) -> str:
        """Return the name of a page: the path of its XML without suffix."""
        return self.names[at].rpartition(".")[0]


def look(root: Path, name: str, form: Form) -> Looked:
    """Read the XML of a page, and look at its image without decoding it."""
    path, stem = root / name, name.rpartition(".")[0]
    if not is_page_file(path):
        return Looked(None, [LeftOut(name, "is XML of another kind")], [])
    page = read_page(path)
    if not page.lines:
        return Looked(None, [LeftOut(name, "has no lines")], [])
    num = f"{len(page.lines)} lines"
    image = _image_of(path, page)
    if image is None:
        return Looked(None, [LeftOut(f"{name}, {num}", "has no image")], [])
    try:
        rows, columns = read_size(image, "", A_PAGE, is_one_page=True)
    except ConfigError:
        return Looked(None, [LeftOut(f"{name}, {num}", UNREADABLE)], [])
    notes = [LeftOut(stem, note) for note in page.notes]
    scale = _scale(page, rows, columns)
    if scale is None:
        reason = "has an image of another shape than it says"
        return Looked(None, [LeftOut(f"{name}, {num}", reason)], notes)
    if scale != 1:
        notes.append(LeftOut(stem, "has an image of another size, to which its points are scaled"))
    lines, left_out = [], []
    for line in page.lines:
        place, text = f"{stem} {line.name}", normalized(line.text, form)
        polygon, is_outside = clipped(line.polygon * scale, rows, columns)
        baseline, also = clipped(line.baseline * scale, rows, columns)
        reason = "" if text else "has no text"
        reason = reason or ("has an empty polygon" if is_empty(polygon) else "")
        if reason or length_of(baseline) > _LONGEST * (rows + columns):
            left_out.append(LeftOut(place, reason or "has a baseline far longer than its page"))
            continue
        if is_outside or also:
            notes.append(LeftOut(place, "has points outside of its image, which are clipped"))
        lines.append(TextLine(line.name, polygon, baseline, text))
    return Looked(PageFile(stem, image, 0, lines) if lines else None, left_out, notes)


def _image_of(path: Path, page: Page) -> Path | None:
    """Return the image of a page: by the name in its XML, or with the name of the XML."""
    named = page.image.replace("\\", "/").rpartition("/")[2]
    if named and (path.parent / named).is_file():
        return path.parent / named
    for suffix in SUFFIXES:
        for written in (suffix, suffix.upper()):
            image = path.with_name(path.stem + written)
            if image.is_file():
                return image
    return None


def _scale(page: Page, height: int, width: int) -> float | None:
    """Return pixels of the image for one of the XML; None: they are of different shapes."""
    if not page.height or not page.width or (page.height, page.width) == (height, width):
        return 1.0
    scale, other = height / page.height, width / page.width
    return scale if abs(scale / other - 1) < _SAME else None


def read_again(item: Sequence[Any], root: str, form: Form) -> PageFile:
    """Return a page again: name of its XML, hash of its image, and number of its lines are known.

    Raises:
        ConfigError: it has other lines than when the index was made, or none.
    """
    name, digest, num_lines = item
    path = Path(root) / name
    if not path.is_file():
        raise ConfigError(str(path), "", "is no longer there", _UNCHANGED)
    page, left_out, _ = look(Path(root), name, form)
    if page is None or len(page.lines) != num_lines:
        reason = left_out[0].reason if page is None and left_out else "its lines are others"
        raise ConfigError(str(path), "", f"was changed since the start: {reason}", _UNCHANGED)
    return attrs.evolve(page, digest=digest)
