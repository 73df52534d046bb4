"""Pages with PAGE XML (2013 to 2019) or ALTO: images of pages, of which the lines are cut out.

As eScriptorium, Transkribus and kraken write them. The image of a page is the file that its XML
names, in the same folder, or the one with the name of the XML file. Lines are cut along their
baselines within their polygons (`tasks.handwriting.cutting`). Pages, never single lines, are
assigned to splits: by the folders `train`, `validation` and `test`, or by a hash of their names.

>>> import tempfile
>>> from PIL import Image
>>> from tasks.handwriting.page_format import Page, TextLine
>>> from tasks.handwriting.page_writing import write_page
>>> temporary = tempfile.TemporaryDirectory()
>>> box, line = np.array([[10, 20], [90, 20], [90, 50], [10, 50]]), np.array([[10, 45], [90, 45]])
>>> for number in range(3):
...     pixels = np.full((80, 100), 240, np.uint8)
...     pixels[30:45, 20 + 9 * number : 24 + 9 * number] = 40
...     Image.fromarray(pixels).save(f"{temporary.name}/{number}.png")
...     lines = [TextLine("a", box, line, f"bar {number}"), TextLine("b", box, line, "")]
...     page = Page(f"{number}.png", 80, 100, lines)
...     write_page(Path(f"{temporary.name}/{number}.xml"), page)
>>> task = PageLines(path=temporary.name)
>>> {split: task.num_samples_in(split) for split in ("train", "validation", "test")}
{'train': 1, 'validation': 1, 'test': 1}
>>> task.left_out[0]
LeftOut(place='0 b', reason='has no text')
>>> batch = task.encode(["2 a"])
>>> task.decode(task.targets(batch)), batch.image.shape[:3]
(['bar 2'], (1, 1, 32))
>>> temporary.cleanup()
"""

import functools
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core.content_hashes import hash_of_file, write_whole
from tasks.core.images import read_grey_pixels
from tasks.core.names import NameTable
from tasks.core.paths import expand_user
from tasks.core.settings import ConfigError, setting
from tasks.core.task import SPLITS, Split
from tasks.core.workers import FileReader
from tasks.handwriting.cutting import (
    Straightened,
    cut_lines,
    straightened,
)
from tasks.handwriting.line_index import LeftOut, LineIndex, LineStore, LineTable, StoredLine
from tasks.handwriting.lines import LineImages
from tasks.handwriting.page_files import A_PAGE, UNREADABLE, PageFile, PageFiles, look, read_again
from tasks.handwriting.page_records import PageRecord, page_records
from tasks.handwriting.splits import NO_SPLIT, assign_codes, splits_by_folder
from tasks.handwriting.stored import StoredLines, files_in, warn
from tasks.handwriting.texts import Form

_PLACE = "task page_xml"
_VERSION = 1  # of the way in which lines are cut: other files are kept for another one
_CHUNK = 1024  # pages that are looked at before they are put into the index
_TALL = 1.5  # height of a cut line in heights of its polygon, about


@attrs.frozen(kw_only=True)
class PageLines(StoredLines):
    """Lines of pages with PAGE XML or ALTO."""

    validation: float = setting(
        0.1, "share of pages withheld for validation, without a folder validation", gt=0.0, lt=0.5
    )
    test: float = setting(
        0.2, "share of pages withheld for the test, without a folder test", gt=0.0, lt=0.5
    )
    cache: str | None = setting(
        None,
        "path of a folder where cut lines, and what XML says, are kept between runs; null: all is "
        "read and cut in each run",
        mutable_after_training=True,
    )

    @property
    def name(self) -> str:
        """The registered name."""
        return "page_xml"

    @property
    def index(self) -> LineIndex:
        """The lines of all splits."""
        return self._folder[0]

    @property
    def pages(self) -> PageFiles:
        """The pages, in the order of their lines; of each the XML is read when it is asked for."""
        return self._folder[1]

    def pages_of(self, batch: LineImages) -> list[str]:
        """Return the name of the page of each line; "" of one from outside."""
        if batch.number is None:
            return super().pages_of(batch)
        lines, numbers = self.index.lines, np.asarray(batch.number).tolist()
        pages = self.pages
        return [pages.stem(lines[number].group) if number >= 0 else "" for number in numbers]

    @property
    def store(self) -> LineStore:
        """The images of the lines."""
        return _store(*self._folder, self.height, self.cache, self.cache_memory * 2**20)

    def straightened(self, number: int) -> Straightened:
        """Return where on its page a line is, by its number: brings what is read there back."""
        group = self.index.lines[number].group
        first = self.pages.firsts[group]
        return straightened(self.pages[group].lines, self.height)[number - first]

    @property
    def _folder(self) -> tuple[LineIndex, PageFiles]:
        shares = (("test", self.test), ("validation", self.validation))
        return _read_folder(self.root, self.unicode_form, shares, self.height, self.cache)


@functools.lru_cache(maxsize=4)
def _read_folder(
    root: Path, form: Form, shares: tuple[tuple[str, float], ...], height: int, cache: str | None
) -> tuple[LineIndex, PageFiles]:
    """Return the index of a folder, and its pages."""
    pages, lines = PageFiles(root, form), LineTable()  # in the order of their names
    left_out, notes = list[LeftOut](), list[LeftOut]()
    for record in _records(root, form, height, cache):
        left_out += record.left_out
        notes += record.notes
        for name, text, width in record.lines:
            lines.append(StoredLine(name, text, width, len(pages)))
        if record.lines:
            pages.append(record.name, record.image, record.digest, len(record.lines))
    if not len(pages):
        problem = f"{root} has no page with a line that can be read"
        if left_out:
            problem += f"; {left_out[0].place} {left_out[0].reason}"
        accepted = "a folder of images of pages with PAGE XML or ALTO"
        raise ConfigError(_PLACE, "path", problem, accepted)
    codes, twice = _splits_of(pages, shares)
    index, used = _by_split(pages, lines, codes)
    index = attrs.evolve(index, left_out=(*left_out, *twice), notes=tuple(notes))
    warn(_PLACE, index)
    return index, used


def _records(root: Path, form: Form, height: int, cache: str | None) -> Iterator[PageRecord]:
    """Yield what is kept of each page with XML, or is found by looking at its files."""
    names = NameTable(files_in(root, _PLACE, (".xml",)))
    with page_records(root, cache, f"{_VERSION} {form} {height}", _PLACE) as records:
        for first in range(0, len(names), _CHUNK):
            chunk = names[first : first + _CHUNK]
            yield from records.of(chunk, lambda name: _look_at(root, name, form, height))


def _look_at(root: Path, name: str, form: Form, height: int) -> PageRecord:
    """Look at a page, and return what the index needs of it: no polygons."""
    page, left_out, notes = look(root, name, form)
    if page is None:
        return PageRecord(name, left_out=left_out, notes=notes)
    try:
        digest = hash_of_file(page.image)
    except OSError:
        reason = LeftOut(f"{name}, {len(page.lines)} lines", UNREADABLE)
        return PageRecord(name, left_out=[*left_out, reason], notes=notes)
    image = page.image.relative_to(root).as_posix()
    return PageRecord(name, image, digest, _with_widths(page, height), left_out, notes)


def _with_widths(page: PageFile, height: int) -> list[tuple[str, str, float]]:
    """Return name, text and approximate width of each line."""
    widths = np.array([np.ptp(line.polygon[:, 0]) for line in page.lines])
    tall = np.median([np.ptp(line.polygon[:, 1]) for line in page.lines])
    scaled = widths * height / (_TALL * tall)
    pairs = zip(page.lines, scaled.tolist(), strict=True)
    return [(f"{page.name} {line.name}", line.text, width) for line, width in pairs]


def _splits_of(
    pages: PageFiles, shares: tuple[tuple[str, float], ...]
) -> tuple[NDArray[np.int8], list[LeftOut]]:
    """Return the split of each page, as an index of SPLITS, and what is left out."""
    split_of = splits_by_folder(pages.root)
    stems = NameTable(map(pages.stem, range(len(pages))))
    splits = (split_of.get(stem.partition("/")[0]) for stem in stems)
    given = np.array([NO_SPLIT if x is None else SPLITS.index(x) for x in splits], np.int8)
    digests = np.array(pages.digests, np.uint64)
    return assign_codes(stems, given, digests, dict(shares), _PLACE)


def _by_split(
    pages: PageFiles, lines: LineTable, codes: NDArray[np.int8]
) -> tuple[LineIndex, PageFiles]:
    """Return the lines and pages that are used, in the order of the splits."""
    used, own, ranges = PageFiles(pages.root, pages.form), LineTable(), dict[Split, range]()
    for code, split in enumerate(SPLITS):
        first = len(own)
        for at in np.flatnonzero(codes == code).tolist():
            for number in lines.numbers_of(at):
                own.append(lines[number]._replace(group=len(used)))
            name, digest, num_lines = pages.item(at)
            used.append(name, pages.images[at], digest, num_lines)
        ranges[split] = range(first, len(own))
    return LineIndex(own, ranges, ()), used


@functools.lru_cache(maxsize=2)
def _store(
    index: LineIndex, pages: PageFiles, height: int, cache: str | None, num_bytes: float
) -> LineStore:
    known = os.fspath(pages.root), pages.form, height, cache
    return LineStore(index, FileReader(__name__, "read_lines", known), pages.item, num_bytes)


def read_lines(
    item: Sequence[Any], root: str, form: Form, height: int, cache: str | None
) -> list[NDArray[np.uint8]]:
    """Read the images of the lines of a page: cut out of it, or as they are kept.

    Raises:
        ConfigError: names a file that cannot be read, or is no longer as it was.
    """
    page = read_again(item, root, form)
    kept = None if cache is None else expand_user(cache) / f"{_key(page, height)}.safetensors"
    images = _load_cut(kept, len(page.lines), height)
    if images is None:
        grey = read_grey_pixels(page.image, str(page.image), A_PAGE)
        images = cut_lines(grey, page.lines, height)
        if kept is not None:
            _save_cut(kept, images)
    return images


def _key(page: PageFile, height: int) -> str:
    """Return a hash of all that cut lines of a page depend on."""
    digest = hashlib.blake2b(f"{_VERSION} {page.digest} {height}".encode(), digest_size=16)
    for line in page.lines:
        digest.update(line.polygon.tobytes() + b"|" + line.baseline.tobytes() + b"|")
    return digest.hexdigest()


def _load_cut(path: Path | None, num: int, height: int) -> list[NDArray[np.uint8]] | None:
    """Return the lines of a page that were cut before; None: there are none, or they are spoilt."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if path is None or not path.is_file():
        return None
    try:
        arrays = load(path.read_bytes())
    except (OSError, SafetensorError):
        return None
    pixels, widths = arrays.get("pixels"), arrays.get("widths")
    if pixels is None or widths is None or len(widths) != num or len(pixels) != height:
        return None
    return np.split(pixels, np.cumsum(widths)[:-1], axis=1)


def _save_cut(path: Path, images: Sequence[NDArray[np.uint8]]) -> None:
    """Save the lines of a page; a file is whole, or not there."""
    from safetensors.numpy import save

    widths = np.array([image.shape[1] for image in images])
    write_whole(path, save({"pixels": np.hstack(images), "widths": widths}), _PLACE)
