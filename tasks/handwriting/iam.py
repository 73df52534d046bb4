"""IAM: words or lines of the handwriting database of Marti and Bunke (2002), read from its files.

`path` is the folder with `words.txt`, `lines.txt` and `forms.txt` (or with `ascii/`, where they
are too), and the folders `words/` and `lines/` of images, such as
`words/a01/a01-000u/a01-000u-00-00.png`. A line such as

    a01-000u-00-00 ok 154 408 768 27 51 AT A

has the id, whether the segmentation is right, numbers, and the text from its ninth field on; one of
`lines.txt` has a count of components before the box, and `|` between words. Words with a wrong
segmentation (`err`) are left out; of lines it concerns words alone, and they are used.

Splits are by writer, which `forms.txt` says, or those of files with one form or line in each row.
The name of the split is in the names of the scores, as results of different splits differ.
"""

import functools
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import attrs

from tasks.core.memory import read_text
from tasks.core.paths import describe_os_error, expand_user
from tasks.core.settings import ConfigError, setting
from tasks.core.task import SPLITS, Split
from tasks.core.workers import FileReader
from tasks.handwriting import line_image
from tasks.handwriting.line_index import LeftOut, LineIndex, LineStore, LineTable, StoredLine
from tasks.handwriting.lines import LineImages
from tasks.handwriting.stored import StoredLines, warn
from tasks.handwriting.texts import normalized

_PLACE = "task iam"
_ACCEPTED = "a whole image file of a word or a line, as the database has them"
_SHARES: tuple[tuple[Split, float], ...] = (("test", 0.2), ("validation", 0.1))
_NUM_FIELDS = 8  # before the text
_BOX_FIELD = {"words": 5, "lines": 6}  # width of the box; its height follows


class _Entry(NamedTuple):
    """A line of words.txt or lines.txt."""

    name: str
    is_right: bool
    aspect: float  # width / height
    text: str

    @property
    def form(self) -> str:
        """The form, such as a01-000u."""
        return "-".join(self.name.split("-")[:2])


@attrs.frozen(kw_only=True)
class Iam(StoredLines):
    """Words or lines of the IAM handwriting database."""

    unit: Literal["words", "lines"] = setting("lines", "what is an image: a word, or a line")
    split_name: str = setting(
        "writers", "name of the split, which is in the names of the scores, such as rwth"
    )
    train_file: str | None = setting(
        None, "path of a file with the forms or lines of train; null: splits by writer"
    )
    validation_file: str | None = setting(
        None, "path of a file with the forms or lines of validation"
    )
    test_file: str | None = setting(None, "path of a file with the forms or lines of the test")

    def __attrs_post_init__(self) -> None:
        """Check that all files of splits are given, or none."""
        files = {split: getattr(self, f"{split}_file") for split in SPLITS}
        missing = [split for split, file in files.items() if file is None]
        if 0 < len(missing) < len(files):
            problem = "null cannot be combined with paths of the others"
            raise ConfigError(_PLACE, f"{missing[0]}_file", problem, "all three, or none")
        StoredLines.__attrs_post_init__(self)

    @property
    def name(self) -> str:
        """The registered name."""
        return "iam"

    @property
    def index(self) -> LineIndex:
        """The words or lines of all splits."""
        files = (self.train_file, self.validation_file, self.test_file)
        return _index(self.root, self.unit, self.unicode_form, files, self.height)

    @property
    def store(self) -> LineStore:
        """The images of the words or lines."""
        return _store(self.index, self.root, self.unit, self.height, self.cache_memory * 2**20)

    def score(self, answers: Any, targets: LineImages) -> dict[str, float]:
        """Return the error rates, and the same with the name of the split, as `cer/writers`."""
        scores = StoredLines.score(self, answers, targets)
        named = {f"{name}/{self.split_name}": scores[name] for name in ("cer", "wer", "exact")}
        return scores | named


@functools.lru_cache(maxsize=2)
def _store(index: LineIndex, root: Path, unit: str, height: int, num_bytes: float) -> LineStore:
    reader = FileReader(line_image.__name__, "read_line_file", (height, _ACCEPTED))

    def item(number: int) -> str:
        return str(_image(root, unit, index.lines[number].name))

    return LineStore(index, reader, item, num_bytes)


def _image(root: Path, unit: str, name: str) -> Path:
    parts = name.split("-")
    return root / unit / parts[0] / "-".join(parts[:2]) / f"{name}.png"


@functools.lru_cache(maxsize=4)
def _index(
    root: Path, unit: str, form: Any, files: tuple[str | None, ...], height: int
) -> LineIndex:
    left_out: list[LeftOut] = []
    by_split: dict[Split, list[_Entry]] = {split: [] for split in SPLITS}
    split_of = _splits_of_files(files) if files[0] is not None else _splits_of_writers(root)
    for entry in _entries(root, unit, left_out):
        line = entry.name.rpartition("-")[0] if unit == "words" else entry.name
        split = split_of.get(line, split_of.get(entry.form))
        text = normalized(entry.text, form)
        if not entry.is_right and unit == "words":
            reason = "is segmented wrongly"
        elif split is None:
            reason = "is in no split"
        elif not text:
            reason = "has no text"
        else:
            image = _image(root, unit, entry.name)
            is_there = image.is_file() and image.stat().st_size > 0
            reason = "" if is_there else "has no image, or an empty one"
        if reason or split is None:
            left_out.append(LeftOut(entry.name, reason))
        else:
            by_split[split].append(entry._replace(text=text))
    lines, ranges = LineTable(), dict[Split, range]()
    for split, entries in by_split.items():
        if not entries:
            problem = f"of {unit} none is in {split}; {len(left_out)} are left out"
            raise ConfigError(_PLACE, "path", problem, "the files of the database")
        first = len(lines)
        for entry in entries:
            lines.append(StoredLine(entry.name, entry.text, entry.aspect * height, len(lines)))
        ranges[split] = range(first, len(lines))
    index = LineIndex(lines, ranges, tuple(left_out))
    warn(_PLACE, index)
    return index


def _entries(root: Path, unit: str, left_out: list[LeftOut]) -> Iterator[_Entry]:
    """Yield the entries of words.txt or lines.txt."""
    for number, row in _rows(_ascii(root, f"{unit}.txt")):
        fields = row.split(" ", _NUM_FIELDS)
        at = _BOX_FIELD[unit]
        try:
            width, height = float(fields[at]), float(fields[at + 1])
            text = fields[_NUM_FIELDS]
        except (IndexError, ValueError):
            left_out.append(LeftOut(f"{unit}.txt, line {number}", "cannot be read"))
            continue
        aspect = width / height if width > 0 and height > 0 else 1.0
        text = text.replace("|", " ") if unit == "lines" else text
        yield _Entry(fields[0], fields[1] == "ok", aspect, text)


def _splits_of_writers(root: Path) -> Mapping[str, Split]:
    """Return the split of each form: all forms of a writer are in the same, by a hash."""
    splits: dict[str, Split] = {}
    for _, row in _rows(_ascii(root, "forms.txt")):
        form, writer, *_ = [*row.split(), ""]
        digest = hashlib.blake2b(writer.encode(), digest_size=8).digest()
        position, low = int.from_bytes(digest, "little") / 2.0**64, 0.0
        splits[form] = "train"
        for split, share in _SHARES:
            if low <= position < low + share:
                splits[form] = split
            low += share
    return splits


def _splits_of_files(files: tuple[str | None, ...]) -> Mapping[str, Split]:
    """Return the split of each form or line that is named in the files of splits.

    Raises:
        ConfigError: a form or line is in two of them.
    """
    splits: dict[str, Split] = {}
    for split, file in zip(SPLITS, files, strict=True):
        assert file is not None
        for number, row in _rows(expand_user(file)):
            name = row.split()[0]
            if splits.setdefault(name, split) != split:
                problem = f"{name} is in {splits[name]} and in {split}"
                raise ConfigError(f"{file}, line {number}", "", problem, "each in one split")
    return splits


def _ascii(root: Path, name: str) -> Path:
    return root / name if (root / name).is_file() else root / "ascii" / name


def _rows(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line of a file that is no comment and not empty."""
    try:
        rows = read_text(path, "utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        problem = describe_os_error(path, error)
        raise ConfigError(str(path), "", problem, "a text file of the database") from None
    for number, row in enumerate(rows, 1):
        if row.strip() and not row.startswith("#"):
            yield number, row.rstrip()
