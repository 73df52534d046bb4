"""Reading of whole pages: a detector finds the lines, a reader reads them."""

import datetime
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import attrs
import numpy as np
from numpy.typing import NDArray

from agents.core.agent import Agent
from agents.core.decoding.alignment import Reading
from agents.core.reading import LineReader
from agents.core.runs.checkpoint import atomic_write
from tasks.core.images import read_grey_pixels
from tasks.core.paths import expand_user, is_file, make_folder
from tasks.core.settings import ConfigError
from tasks.handwriting.boxes import Boxes, BoxTask, PageBoxes, sure
from tasks.handwriting.cutting import Straightened, clipped, cut_lines, straightened
from tasks.handwriting.found_lines import lines_from_boxes
from tasks.handwriting.letterbox import letterbox
from tasks.handwriting.lines import Line, LineTask
from tasks.handwriting.page_format import Page, Points, TextLine, Word
from tasks.handwriting.page_writing import page_xml
from tasks.handwriting.photographs import Sheet, sheets_of, with_dark_ink
from tasks.image_files import SUFFIXES

if TYPE_CHECKING:
    from visualization.detection.read_lines import ReadLines

SURE = 0.4  # score of a box that is taken for a line
_LINE = "line"  # the kind of boxes that are lines, where there are several kinds
_AT_ONCE = 16  # lines of similar width that are read together
_SHOWN = 100  # characters of a path that an error message repeats
ACCEPTED = f"the path of an image of a page ({' '.join(SUFFIXES)})"


@attrs.frozen(eq=False, kw_only=True)
class PageText:
    """A page that was read: its lines in reading order, in pixels of the image's file.

    Attributes:
        path: of the image.
        grey: its pixels, upright (H, W), 0 is black.
        lines: with polygon, baseline, text, confidence from 0 to 1, and words with theirs.
        regions: numbers of the lines of each region, in reading order.
    """

    path: Path
    grey: NDArray[np.uint8]
    lines: Sequence[TextLine]
    regions: Sequence[Sequence[int]]

    @property
    def text(self) -> str:
        """The text, line by line, with an empty line between regions."""
        parts = ["\n".join(self.lines[at].text for at in region) for region in self.regions]
        return "\n\n".join(parts)

    def to_page_xml(self, written_at: datetime.datetime | None = None) -> bytes:
        """Return the page as PAGE XML (2019-07-15), written now unless it is said when."""
        height, width = self.grey.shape
        page = Page(self.path.name, height, width, self.lines, regions=self.regions)
        return page_xml(page, written_at or datetime.datetime.now(datetime.UTC))

    def picture(self) -> "ReadLines":
        """Return a record of the page with its lines, to be drawn."""
        from visualization.detection.read_lines import ReadLines

        return ReadLines(
            image=self.grey.astype(np.float32) / np.float32(255),
            polygons=tuple(line.polygon for line in self.lines),
            baselines=tuple(line.baseline for line in self.lines),
            confidence=np.array([line.confidence for line in self.lines], np.float64),
        )

    def save(self, folder: Path | None = None) -> tuple[Path, Path]:
        """Write NAME.xml and NAME.lines.png into a folder; None: that of the image.

        Raises:
            CannotWriteError: a file cannot be written.
        """
        from visualization import render

        files = files_of(self.path, folder)
        make_folder(files[0].parent)
        atomic_write(files[0], self.to_page_xml())
        atomic_write(files[1], render.png(render.draw(self.picture())))
        return files


def files_of(path: Path, folder: Path | None) -> tuple[Path, Path]:
    """Return the paths of the PAGE XML and the picture of a page; see `PageText.save`."""
    target = path.parent if folder is None else folder
    return target / f"{path.stem}.xml", target / f"{path.stem}.lines.png"


@attrs.frozen(kw_only=True)
class PageReader:
    """Reads pages: a detector of lines, trained on the task `pages`, and a reader of lines.

    Attributes:
        detector: finds the boxes of lines.
        reader: reads a line, `ctc_reader` or `attention_reader`.
        min_score: of the boxes that are taken for lines.
    """

    detector: Agent = attrs.field()
    reader: LineReader = attrs.field()
    min_score: float = SURE

    @detector.validator
    def _check_detector(self, _: object, agent: Agent) -> None:
        if not isinstance(agent.task, BoxTask):
            problem = f"{agent.name} on {agent.task.name} finds no boxes"
            raise ConfigError("detector", "", problem, "a run of yolo_detector on pages")
        kinds = agent.task.spec.kinds
        if len(kinds) > 1 and _LINE not in kinds:
            problem = f"finds boxes of the kinds {', '.join(kinds)}"
            raise ConfigError("detector", "", problem, f"one kind, or one that is called {_LINE}")

    @reader.validator
    def _check_reader(self, _: object, agent: Agent) -> None:
        if not isinstance(agent, LineReader):
            problem = f"{agent.name} does not read lines"
            raise ConfigError("reader", "", problem, "a run of ctc_reader or attention_reader")

    def read(self, path: str | Path) -> PageText:
        """Read the image of a page, or of two pages side by side.

        It is rotated as its EXIF data say; its slant, and uneven light, are removed.

        Raises:
            ConfigError: (a ValueError) names the file, and says why it cannot be read.
        """
        file, shown = expand_user(str(path)), str(path)[:_SHOWN]
        if not is_file(file):
            raise ConfigError(f"page {shown!r}", "", "is not a file", ACCEPTED)
        grey = with_dark_ink(read_grey_pixels(file, f"page {shown!r}", ACCEPTED))
        lines: list[TextLine] = []
        regions: list[list[int]] = []
        for sheet in sheets_of(grey):
            found = lines_from_boxes(sheet.grey, *self.boxes(sheet.grey))
            placed = [_in_photograph(line, sheet, grey.shape) for line in found.lines]
            first = len(lines)
            lines += self._read(grey, placed, first)
            regions += [[first + at for at in region] for region in found.regions]
        return PageText(path=file, grey=grey, lines=lines, regions=regions)

    def boxes(self, grey: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the boxes of lines (n, 4) on a page (H, W) of dark ink, and their scores (n,)."""
        task = cast("BoxTask", self.detector.task)
        spec = task.spec
        boxed = letterbox(1 - grey.astype(np.float32) / np.float32(255), spec.height, spec.width)
        nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
        batch = PageBoxes(boxed.image[None, None], [nothing[0]], [nothing[1]], ["a page"])
        answers = cast("list[Boxes]", self.detector.predict_arrays(batch))
        found = sure(answers[0], self.min_score)
        if len(spec.kinds) > 1:
            is_line = np.asarray(found.kinds) == spec.kinds.index(_LINE)
            found = Boxes(*(np.asarray(field)[is_line] for field in found))
        return boxed.to_page(np.asarray(found.boxes)), np.asarray(found.scores, np.float32)

    def _read(
        self, grey: NDArray[np.uint8], lines: Sequence[TextLine], first: int
    ) -> Iterator[TextLine]:
        """Yield lines with what is read in them."""
        task = cast("LineTask", self.reader.task)
        images = cut_lines(grey, lines, task.height)
        order = np.argsort([image.shape[1] for image in images], kind="stable")
        readings: dict[int, Reading] = {}
        for begin in range(0, len(order), _AT_ONCE):
            members = order[begin : begin + _AT_ONCE].tolist()
            batch = task.batch([Line(images[at], "") for at in members])
            readings |= dict(zip(members, self.reader.read(batch), strict=True))
        places = straightened(lines, task.height)
        for at, (line, place) in enumerate(zip(lines, places, strict=True)):
            reading = readings[at]
            yield attrs.evolve(
                line, name=f"line_{first + at + 1}", text=reading.text,
                confidence=float(reading.confidence.mean()) if reading.text else 0.0,
                words=_words(reading, place, grey.shape),
            )  # fmt: skip


def _words(reading: Reading, place: Straightened, shape: tuple[int, ...]) -> list[Word]:
    """Return the words of a line with their places on the page."""
    edges = reading.boxes()

    def polygon(left: float, right: float) -> Points:
        return _whole(place.box_to_page([left, 0, right, place.height]), shape)

    return [
        Word(word.text, polygon(edges[word.begin, 0], edges[word.end - 1, 1]), word.confidence)
        for word in reading.words
    ]


def _in_photograph(line: TextLine, sheet: Sheet, shape: tuple[int, ...]) -> TextLine:
    """Return a line of a sheet with its points in the photograph (H, W), in whole pixels."""
    polygon, baseline = (
        _whole(sheet.to_photograph(points), shape) for points in (line.polygon, line.baseline)
    )
    return attrs.evolve(line, polygon=polygon, baseline=baseline)


def _whole(points: Points, shape: tuple[int, ...]) -> Points:
    """Return points within an image, as whole numbers."""
    return np.rint(clipped(points, *shape)[0])
