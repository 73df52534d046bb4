"""Images of lines with transcriptions: `name.png` beside `name.gt.txt`, or a tab-separated file.

That is how tesstrain, Calamari and kraken keep their lines. Or `labels` is a file with one line for
each image: its path in the folder, a tab, and its text; a third column may have its split. The
split of a line is that of its folder, if the folder has the folders `train`, `validation` and
`test`; otherwise it is determined by a hash of its name, so that a new line changes no other one.

>>> import tempfile
>>> from PIL import Image
>>> temporary = tempfile.TemporaryDirectory()
>>> for number in range(20):
...     pixels = np.full((20, 30), 255, np.uint8)
...     pixels[5:15, number : number + 4] = 0
...     Image.fromarray(pixels).save(f"{temporary.name}/{number}.png")
...     _ = Path(f"{temporary.name}/{number}.gt.txt").write_text("bar" if number else "")
>>> task = LineFolder(path=temporary.name)
>>> task.spec
ImageToText(characters='abr', height=32)
>>> task.left_out
(LeftOut(place='0.png', reason='has no text'),)
>>> batch = task.encode(["7.png"])
>>> batch.image.shape, batch.text.tolist()
((1, 1, 32, 48), [[2, 1, 3]])
>>> temporary.cleanup()
"""

import functools
import itertools
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import attrs
import numpy as np

from tasks.core.content_hashes import hash_of
from tasks.core.images import read_size
from tasks.core.memory import read_text, read_whole
from tasks.core.paths import describe_os_error, expand_user
from tasks.core.settings import ConfigError, setting
from tasks.core.task import SPLITS, Split
from tasks.core.workers import FileReader, map_threads
from tasks.handwriting import line_image
from tasks.handwriting.line_image import MAX_ASPECT
from tasks.handwriting.line_index import LeftOut, LineIndex, LineStore, LineTable, StoredLine
from tasks.handwriting.splits import NO_SPLIT, assign_codes, splits_by_folder
from tasks.handwriting.stored import StoredLines, files_in, warn
from tasks.handwriting.texts import Form, normalized
from tasks.image_files import FOLDERS, SUFFIXES

_PLACE = "task line_images"
_GROUND_TRUTH = ".gt.txt"
_CHUNK = 1024  # lines that are looked at before they are put into the index
_VARIANTS = (".bin", ".nrm", "")  # of name.gt.txt there may be name.bin.png, of which that is best
_ACCEPTED = f"a whole file of an image of one line ({' '.join(SUFFIXES)})"


class _Pair(NamedTuple):
    """An image and its text, before they are looked at."""

    name: str  # path in the folder, with / on every system
    text: str
    split: Split | None


@attrs.frozen(kw_only=True)
class LineFolder(StoredLines):
    """Images of lines, each with its text in a file beside it or in a table."""

    labels: str | None = setting(
        None,
        "path of a tab-separated file: image, text, and perhaps split; null: name.gt.txt beside "
        "each image",
    )
    validation: float = setting(
        0.1, "share of lines withheld for validation, without a folder validation", gt=0.0, lt=0.5
    )
    test: float = setting(
        0.2, "share of lines withheld for the test, without a folder test", gt=0.0, lt=0.5
    )

    @property
    def name(self) -> str:
        """The registered name."""
        return "line_images"

    @property
    def index(self) -> LineIndex:
        """The lines of all splits."""
        shares = (("test", self.test), ("validation", self.validation))
        return _index(self.root, self.labels, self.unicode_form, shares, self.height)

    @property
    def store(self) -> LineStore:
        """The images of the lines."""
        return _store(self.index, self.root, self.height, self.cache_memory * 2**20)


@functools.lru_cache(maxsize=2)
def _store(index: LineIndex, root: Path, height: int, num_bytes: float) -> LineStore:
    reader = FileReader(line_image.__name__, "read_line_file", (height, _ACCEPTED))
    return LineStore(index, reader, lambda at: f"{root}/{index.lines[at].name}", num_bytes)


@functools.lru_cache(maxsize=4)
def _index(
    root: Path, labels: str | None, form: Form, shares: tuple[tuple[str, float], ...], height: int
) -> LineIndex:
    left_out, unusable = list[LeftOut](), list[LeftOut]()
    lines, digests, given = LineTable(), array("Q"), array("b")  # in the order of their names
    pairs = _beside(root, left_out) if labels is None else _table(root, labels, left_out)
    while chunk := [*itertools.islice(pairs, _CHUNK)]:
        found = map_threads(lambda pair: _seen(root / pair.name), chunk)
        for pair, seen in zip(chunk, found, strict=True):
            text = normalized(pair.text, form)
            if isinstance(seen, str) or not text:
                reason = seen if isinstance(seen, str) else "has no text"
                unusable.append(LeftOut(pair.name, reason))
                continue
            (rows, columns), digest = seen
            lines.append(StoredLine(pair.name, text, columns * height / rows, len(lines)))
            digests.append(digest)
            given.append(NO_SPLIT if pair.split is None else SPLITS.index(pair.split))
    left_out += unusable
    if not len(lines):
        wanted = f"images with texts in name{_GROUND_TRUTH}" if labels is None else "rows of images"
        problem = f"{root} has no line with a text; {len(left_out)} files are left out"
        raise ConfigError(_PLACE, "path", problem, f"a folder of {wanted}")
    splits = np.array(given, np.int8), np.array(digests, np.uint64)
    codes, twice = assign_codes(lines.names, *splits, dict(shares), _PLACE)
    used, ranges = LineTable(), dict[Split, range]()
    for code, split in enumerate(SPLITS):
        first = len(used)
        for at in np.flatnonzero(codes == code).tolist():
            used.append(lines[at]._replace(group=len(used)))
        ranges[split] = range(first, len(used))
    index = LineIndex(used, ranges, (*left_out, *twice))
    warn(_PLACE, index)
    return index


def _seen(path: Path) -> tuple[tuple[int, int], int] | str:
    """Return the size of an image and a hash of its file, or why it cannot be used."""
    try:
        data = read_whole(path)
        rows, columns = read_size(path, "", _ACCEPTED, is_one_page=True)
    except (OSError, ValueError) as error:
        if not path.is_file():
            return "has no image"
        is_image = not isinstance(error, ConfigError)
        return str(error) if is_image else "is not an image of one page that can be read"
    is_line = columns <= MAX_ASPECT * rows
    return ((rows, columns), hash_of(data)) if is_line else "is too wide for a line"


def _beside(root: Path, left_out: list[LeftOut]) -> Iterator[_Pair]:
    """Yield the images that have a text beside them; say which images and texts are alone."""
    files = files_in(root, _PLACE)
    split_of = splits_by_folder(root)
    images: dict[str, list[str]] = {}
    for name in files:
        if name.lower().endswith(SUFFIXES):
            images.setdefault(name[: name.rindex(".")], []).append(name)
    for name in files:
        if not name.endswith(_GROUND_TRUTH):
            continue
        stem = name.removesuffix(_GROUND_TRUTH)
        own = [image for variant in _VARIANTS for image in images.pop(stem + variant, [])]
        left_out += [
            LeftOut(image, f"is another image of the line of {own[0]}") for image in own[1:]
        ]
        if not own:
            left_out.append(LeftOut(name, "has no image"))
            continue
        try:
            text = read_text(root / name, "utf-8-sig")
        except (OSError, ValueError):
            left_out.append(LeftOut(name, "cannot be read as UTF-8"))
            continue
        yield _Pair(own[0], text, split_of.get(name.partition("/")[0]))
    alone = sorted(name for names in images.values() for name in names)
    left_out += [LeftOut(name, f"has no file {_GROUND_TRUTH} beside it") for name in alone]


def _table(root: Path, labels: str, left_out: list[LeftOut]) -> Iterator[_Pair]:
    """Yield the rows of a tab-separated file: image, text, and perhaps split."""
    path = expand_user(labels)
    try:
        rows = read_text(path, "utf-8-sig").split("\n")
    except (OSError, ValueError) as error:
        problem = describe_os_error(path, error)
        raise ConfigError(str(path), "", problem, "a tab-separated file in UTF-8") from None
    seen = set()
    split_of = splits_by_folder(root)
    for number, row in enumerate(rows, 1):
        columns = row.rstrip("\r").split("\t")
        place = f"{path.name}, line {number}"
        if not row.strip():
            continue
        if len(columns) not in (2, 3):
            left_out.append(LeftOut(place, "does not have two or three columns"))
        elif columns[0] in seen:
            left_out.append(LeftOut(place, "names an image that a line before it names"))
        elif len(columns) == 3 and columns[2] not in FOLDERS:
            left_out.append(LeftOut(place, f"does not name one of {', '.join(FOLDERS)}"))
        else:
            seen.add(columns[0])
            by_folder = split_of.get(columns[0].partition("/")[0])
            split = FOLDERS[columns[2]] if len(columns) == 3 else by_folder
            yield _Pair(columns[0], columns[1], split)
