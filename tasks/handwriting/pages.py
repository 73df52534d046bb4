"""Pages with boxes, from files: YOLO txt, COCO json, or the lines of PAGE XML and ALTO.

Images may be of any size: each is brought to a square, its aspect ratio kept, and padded with
paper. Pages are assigned to splits by the folders `train`, `validation` (`val`, `valid`) and `test`
anywhere in their paths, or by a hash of their paths.

>>> import tempfile
>>> from PIL import Image
>>> temporary = tempfile.TemporaryDirectory()
>>> for number in range(8):
...     Image.new("L", (40, 20), 200 + number).save(f"{temporary.name}/{number}.png")
...     _ = Path(f"{temporary.name}/{number}.txt").write_text("0 0.5 0.5 0.25 0.5")
>>> task = Pages(path=temporary.name, size=64)
>>> task.encode(["3.png"]).boxes[0].tolist()  # 10 of 40 pixels are 16 of 64
[[24.0, 24.0, 40.0, 40.0]]
>>> temporary.cleanup()
"""

import functools
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core.paths import describe_os_error, expand_user
from tasks.core.settings import ConfigError, setting
from tasks.core.task import SPLITS, BatchRequest, Split
from tasks.handwriting.box_files import (
    A_PAGE,
    BoxedImage,
    BoxFolder,
    Format,
    format_of,
    read_folder,
)
from tasks.handwriting.boxes import BoxTask, ImageToBoxes, PageBoxes
from tasks.handwriting.letterbox import Letterboxed, letterbox, placed, read_page
from tasks.handwriting.line_index import LeftOut
from tasks.handwriting.splits import Candidate, assign_splits, digest_of
from tasks.image_files import FOLDERS

_PLACE = "task pages"
_NUM_KEPT = 1024  # letterboxed images that stay in memory
_NOTED = 3  # boxes that a warning names
_logger = logging.getLogger(__name__)


class Index(NamedTuple):
    """The pages of all splits, and what of their files is not used."""

    kinds: tuple[str, ...]
    pages: Mapping[Split, Sequence[BoxedImage]]
    left_out: tuple[LeftOut, ...]


@attrs.frozen(kw_only=True)
class Pages(BoxTask):
    """Boxes on images of pages: what a detector learns to find."""

    path: str | None = setting(None, "path of the folder of images and boxes")
    format: Literal["auto", "yolo", "coco", "page_xml"] = setting(
        "auto", "files of boxes; auto: by their suffixes .txt, .json and .xml"
    )
    size: int = setting(512, "height and width to which pages are brought, in pixels", ge=32)
    kinds: str | None = setting(
        None, "names of the kinds of boxes, in order, separated by /; null: those of the files"
    )
    validation: float = setting(
        0.1, "share of pages withheld for validation, without a folder validation", gt=0.0, lt=0.5
    )
    test: float = setting(
        0.2, "share of pages withheld for the test, without a folder test", gt=0.0, lt=0.5
    )

    def __attrs_post_init__(self) -> None:
        """Store the kinds of the files, for checkpoints; compare with those that are given."""
        if self.path is None:
            return
        if self.kinds is None:
            object.__setattr__(self, "kinds", "/".join(self.index.kinds))
        elif self.root.is_dir() and tuple(self.kinds.split("/")) != self.index.kinds:
            accepted = "/".join(self.index.kinds)
            raise ConfigError(_PLACE, "kinds", f"{self.kinds} are not those of the files", accepted)

    @property
    def name(self) -> str:
        """The registered name."""
        return "pages"

    @property
    def spec(self) -> ImageToBoxes:
        """Size of a page, and kinds of boxes."""
        if self.kinds is None:
            self.root  # noqa: B018 - says that a path is required
        return ImageToBoxes(self.size, self.size, tuple((self.kinds or "").split("/")))

    @property
    def root(self) -> Path:
        """The folder.

        Raises:
            ConfigError: no path is given.
        """
        if self.path is None:
            problem = "is required: pages are read from files"
            raise ConfigError(_PLACE, "path", problem, "the path of a folder")
        return Path(os.path.abspath(expand_user(self.path)))  # noqa: PTH100 - pathlib follows links

    @property
    def index(self) -> Index:
        """The pages of all splits; made once."""
        return _index(self.root, self.format, self.test, self.validation)

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """What is not used of the files, and why."""
        return self.index.left_out

    def num_samples_in(self, split: Split) -> int:
        """Return the number of pages in a split."""
        return len(self.index.pages[split])

    def page_numbers(self, request: BatchRequest) -> Iterator[list[int]]:
        """Yield the numbers of the pages of each batch of a pass, in random order."""
        num = self.num_samples_in(request.split)
        rng = np.random.default_rng([SPLITS.index(request.split), request.seed, request.epoch])
        order = rng.permutation(num)
        for part in request.slices(num):
            yield order[part].tolist()

    def page(self, split: Split, seed: int, number: int) -> PageBoxes:
        """Return one page as a batch; the seed has no part in it."""
        return self._batch(self.index.pages[split][number])

    def named_page(self, name: str) -> PageBoxes | None:
        """Return a page by its path in the folder, or such as `test/17`."""
        if self.path is None or not self.root.is_dir():
            return None
        split, _, number = name.partition("/")
        pages = self.index.pages
        if split in SPLITS and number.isdecimal() and int(number) < len(pages[split]):
            return self.page(split, 0, int(number))
        known = (page for split in SPLITS for page in pages[split] if page.name == name)
        return next(map(self._batch, known), None)

    def box_sizes(self) -> NDArray[np.float32]:
        """Return widths and heights (n, 2) of all boxes of training pages, in pixels."""
        boxes = [self._place(page).from_page(page.boxes) for page in self.index.pages["train"]]
        every = np.concatenate(boxes)
        return np.asarray(every[:, 2:] - every[:, :2])

    def _place(self, page: BoxedImage) -> Letterboxed:
        scale, left, top, _, _ = placed(page.size, self.size, self.size)
        return Letterboxed(np.zeros((0, 0), np.float32), scale, left, top)

    def _batch(self, page: BoxedImage) -> PageBoxes:
        image = _pixels(page.path, self.size)[None, None] / np.float32(255)
        return PageBoxes(
            image, [self._place(page).from_page(page.boxes)], [page.kinds], [page.name]
        )


@functools.lru_cache(maxsize=_NUM_KEPT)
def _pixels(path: Path, size: int) -> NDArray[np.uint8]:
    """Return a page, letterboxed (size, size), as bytes: 255 is ink."""
    page = read_page(path, str(path), A_PAGE, (size, size))
    return np.rint(letterbox(page, size, size).image * 255).astype(np.uint8)


@functools.lru_cache(maxsize=4)
def _index(
    root: Path, form: Literal["auto", "yolo", "coco", "page_xml"], test: float, validation: float
) -> Index:
    known: Format = format_of(root, _PLACE) if form == "auto" else form
    folder = read_folder(root, known, _PLACE)
    items = [
        Candidate(page.name, _split_of(page.name), _digest(page.path)) for page in folder.images
    ]
    splits, twice = assign_splits(items, {"test": test, "validation": validation}, _PLACE)
    pages: dict[Split, Sequence[BoxedImage]] = {
        split: [page for page, own in zip(folder.images, splits, strict=True) if own == split]
        for split in SPLITS
    }
    _warn(folder, twice)
    return Index(folder.kinds, pages, (*folder.left_out, *twice))


def _split_of(name: str) -> Split | None:
    """Return the split that a folder in a path names."""
    parts = PurePosixPath(name).parts[:-1]
    return next((FOLDERS[part] for part in parts if part in FOLDERS), None)


def _digest(path: Path) -> int:
    try:
        return digest_of(path.read_bytes())
    except OSError as error:
        raise ConfigError(str(path), "", describe_os_error(path, error), A_PAGE) from None


def _warn(folder: BoxFolder, twice: Sequence[LeftOut]) -> None:
    """Log one warning that counts what is left out, and names some."""
    if left_out := [*folder.left_out, *twice]:
        told = "; ".join(f"{place} {reason}" for place, reason in left_out[:_NOTED])
        more = "; …" if len(left_out) > _NOTED else ""
        _logger.warning("%s: %d left out: %s%s", _PLACE, len(left_out), told, more)
