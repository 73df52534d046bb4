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
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core.images import read_grey_pixels, read_size
from tasks.core.paths import expand_user
from tasks.core.settings import ConfigError, setting
from tasks.core.task import SPLITS, Split
from tasks.handwriting.cutting import (
    Straightened,
    clipped,
    cut_lines,
    is_empty,
    length_of,
    straightened,
)
from tasks.handwriting.lines import LineImages
from tasks.handwriting.page_format import Page, TextLine, is_page_file, read_page
from tasks.handwriting.stored import (
    Candidate,
    LeftOut,
    LineIndex,
    LineStore,
    StoredLine,
    StoredLines,
    assign_splits,
    digest_of,
    files_in,
    splits_by_folder,
    warn,
)
from tasks.handwriting.texts import normalized
from tasks.image_files import SUFFIXES, map_threads

_PLACE = "task page_xml"
_VERSION = 1  # of the way in which lines are cut: other files are kept for another one
_ACCEPTED = f"a whole file of an image of a page ({' '.join(SUFFIXES)})"
_SAME = 0.01  # greatest relative difference of two aspect ratios of the same image
_LONGEST = 4  # times height and width of a page: a baseline that is longer goes back and forth
_TALL = 1.5  # height of a cut line in heights of its polygon, about


@attrs.frozen(eq=False)
class PageFile:
    """A page that is used: its image, and its lines with text and polygon."""

    name: str  # path of its XML in the folder, without suffix
    image: Path
    digest: int  # of the image file
    lines: Sequence[TextLine]


class _Looked(NamedTuple):
    page: PageFile | None
    left_out: list[LeftOut]
    notes: list[LeftOut]


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
        "path of a folder where cut lines are kept between runs; null: they are cut in each run",
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
    def pages(self) -> Sequence[PageFile]:
        """The pages, in the order of their lines."""
        return self._folder[1]

    def pages_of(self, batch: LineImages) -> list[str]:
        """Return the name of the page of each line; "" of one from outside."""
        if batch.number is None:
            return super().pages_of(batch)
        lines, numbers = self.index.lines, np.asarray(batch.number).tolist()
        return [self.pages[lines[number].group].name if number >= 0 else "" for number in numbers]

    @property
    def store(self) -> LineStore:
        """The images of the lines."""
        return _store(self.index, tuple(self.pages), self.height, self.cache)

    def straightened(self, number: int) -> Straightened:
        """Return where on its page a line is, by its number: brings what is read there back."""
        group = self.index.lines[number].group
        first = sum(len(page.lines) for page in self.pages[:group])
        return straightened(self.pages[group].lines, self.height)[number - first]

    @property
    def _folder(self) -> tuple[LineIndex, Sequence[PageFile]]:
        shares = (("test", self.test), ("validation", self.validation))
        return _read_folder(self.root, self.unicode_form, shares, self.height)


@functools.lru_cache(maxsize=4)
def _read_folder(
    root: Path,
    form: Literal["NFC", "NFD", "NFKC", "NFKD"],
    shares: tuple[tuple[str, float], ...],
    height: int,
) -> tuple[LineIndex, Sequence[PageFile]]:
    """Return the index of a folder, and its pages."""
    names = [name for name in files_in(root, _PLACE) if name.lower().endswith(".xml")]
    looked = map_threads(lambda name: _look(root, name, form), names)
    left_out = [item for one in looked for item in one.left_out]
    notes = [item for one in looked for item in one.notes]
    pages = [one.page for one in looked if one.page is not None]
    if not pages:
        problem = f"{root} has no page with a line that can be read"
        if left_out:
            problem += f"; {left_out[0].place} {left_out[0].reason}"
        accepted = "a folder of images of pages with PAGE XML or ALTO"
        raise ConfigError(_PLACE, "path", problem, accepted)
    split_of = splits_by_folder(root)
    items = [Candidate(p.name, split_of.get(p.name.partition("/")[0]), p.digest) for p in pages]
    splits, twice = assign_splits(items, dict(shares), _PLACE)
    used, lines, ranges = list[PageFile](), list[StoredLine](), dict[Split, range]()
    for split in SPLITS:
        first = len(lines)
        for page, own in zip(pages, splits, strict=True):
            if own == split:
                lines += _stored(page, height, len(used))
                used.append(page)
        ranges[split] = range(first, len(lines))
    index = LineIndex(lines, ranges, (*left_out, *twice), tuple(notes))
    warn(_PLACE, index)
    return index, used


def _stored(page: PageFile, height: int, group: int) -> list[StoredLine]:
    """Return the lines of a page for an index."""
    widths = np.array([np.ptp(line.polygon[:, 0]) for line in page.lines])
    tall = np.median([np.ptp(line.polygon[:, 1]) for line in page.lines])
    scaled = widths * height / (_TALL * tall)
    pairs = zip(page.lines, scaled.tolist(), strict=True)
    return [StoredLine(f"{page.name} {x.name}", x.text, width, group) for x, width in pairs]


def _look(root: Path, name: str, form: Literal["NFC", "NFD", "NFKC", "NFKD"]) -> _Looked:
    """Read the XML of a page, and look at its image without decoding it."""
    path, stem = root / name, name.rpartition(".")[0]
    if not is_page_file(path):
        return _Looked(None, [LeftOut(name, "is XML of another kind")], [])
    page = read_page(path)
    if not page.lines:
        return _Looked(None, [LeftOut(name, "has no lines")], [])
    num = f"{len(page.lines)} lines"
    image = _image_of(path, page)
    if image is None:
        return _Looked(None, [LeftOut(f"{name}, {num}", "has no image")], [])
    try:
        rows, columns = read_size(image, "", _ACCEPTED, is_one_page=True)
        digest = digest_of(image.read_bytes())
    except (ConfigError, OSError):
        reason = "has an image that cannot be read, or of several pages"
        return _Looked(None, [LeftOut(f"{name}, {num}", reason)], [])
    notes = [LeftOut(stem, note) for note in page.notes]
    scale = _scale(page, rows, columns)
    if scale is None:
        reason = "has an image of another shape than it says"
        return _Looked(None, [LeftOut(f"{name}, {num}", reason)], notes)
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
    return _Looked(PageFile(stem, image, digest, lines) if lines else None, left_out, notes)


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


@functools.lru_cache(maxsize=2)
def _store(
    index: LineIndex, pages: tuple[PageFile, ...], height: int, cache: str | None
) -> LineStore:
    firsts = np.cumsum([0, *(len(page.lines) for page in pages)]).tolist()

    def read(group: int) -> Mapping[int, NDArray[np.uint8]]:
        page = pages[group]
        kept = None if cache is None else expand_user(cache) / f"{_key(page, height)}.safetensors"
        images = _load_cut(kept, len(page.lines), height)
        if images is None:
            grey = read_grey_pixels(page.image, str(page.image), _ACCEPTED)
            images = cut_lines(grey, page.lines, height)
            if kept is not None:
                _save_cut(kept, images)
        return dict(enumerate(images, firsts[group]))

    return LineStore(index, read)


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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(save({"pixels": np.hstack(images), "widths": widths}))
        os.replace(file.name, path)  # noqa: PTH105 - the name is text
    except OSError as error:
        problem = f"{path.parent} cannot be written: {error.strerror}"
        raise ConfigError(_PLACE, "cache", problem, "the path of a folder, or null") from None
