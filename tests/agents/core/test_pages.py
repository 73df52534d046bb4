"""Reading pages: lines in the photograph's pixels, several pages, files, the command line."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import agents
import tasks
from agents.core.config import ConfigError
from agents.core.pages import PageReader
from main import main
from tasks.handwriting.boxes import Boxes, PageBoxes
from tasks.handwriting.found_lines import mean_distance
from tasks.handwriting.letterbox import placed
from tasks.handwriting.page_format import Page, TextLine, read_page
from tasks.handwriting.page_writing import write_page
from tests.conftest import boxed_files
from tests.helpers.drawn_pages import DrawnPage, drawn_page, saved, shaded, turned
from visualization import render

SIZE = 128
ONE, OTHER = drawn_page(seed=1, num=5, height=300), drawn_page(seed=2, num=3, height=300)
QUICK = {"steps": 2, "batch_size": 4, "eval_every": 2, "eval_samples": 4, "device": "cpu"}


def detector() -> Any:
    """Return a detector of small pages that has learned nothing."""
    task = tasks.make("pages", size=SIZE, **boxed_files(), kinds=None)
    anchors = "9x12 10x14 12x16 14x18 16x20 20x24"
    return agents.make("yolo_detector", task=task, channels=4, anchors=anchors, **QUICK)


def page_reader(*pages: DrawnPage) -> PageReader:
    """Return a reader of pages that finds their right boxes, one page after the other.

    What it reads is what an untrained reader with large weights sees in the lines.
    """
    boxes = iter(pages)

    def found(batch: PageBoxes) -> list[Boxes]:
        page = next(boxes)
        scale, left, top, _, _ = placed(page.grey.shape, SIZE, SIZE)
        corners = page.boxes * scale + [left, top, left, top]
        assert batch.image.shape == (1, 1, SIZE, SIZE)
        return [Boxes(corners, np.zeros(len(corners), int), np.full(len(corners), 0.8))]

    finder = detector()
    finder.task = tasks.make("pages", size=SIZE, kinds="line")
    finder.predict_batch = found
    reader: Any = agents.make("ctc_reader", task="digit_strings", **QUICK)
    torch.manual_seed(1)
    torch.nn.init.normal_(reader.model.head.weight, std=3.0)
    return PageReader(detector=finder, reader=reader)


@pytest.mark.parametrize("how", ["plain", "shaded", "slanted", "rotated by EXIF", "inverted"])
def test_lines_are_told_in_pixels_of_the_file(how: str, tmp_path: Path) -> None:
    """Whatever was normalised first, baselines are where the ink of the upright image is."""
    grey, settings = ONE.grey, {}
    if how == "shaded":
        grey = shaded(grey)
    if how == "slanted":
        grey = turned(grey, 3.0)
    if how == "inverted":
        grey = 255 - grey
    if how == "rotated by EXIF":
        exif = Image.Exif()
        exif[0x0112] = 6
        grey, settings = np.rot90(grey).copy(), {"exif": exif}
    path = saved(tmp_path / "page.png", grey, **settings)
    if how == "slanted":
        from tasks.handwriting.photographs import sheets_of

        (sheet,) = sheets_of(grey)
        inverse = np.linalg.inv(np.vstack([sheet.matrix, [0, 0, 1]]))
        turn = np.array(grey.shape[::-1]) / 2 - np.array(ONE.grey.shape[::-1]) / 2
        cos, sin = np.cos(np.radians(3.0)), np.sin(np.radians(3.0))
        middle = np.array(ONE.grey.shape[::-1]) / 2

        def there(points: np.ndarray) -> np.ndarray:
            return (points - middle) @ np.array([[cos, sin], [-sin, cos]]) + middle + turn

        boxes = []
        for left, top, right, bottom in ONE.boxes:
            corners = there(np.array([[left, top], [right, top], [right, bottom], [left, bottom]]))
            level = np.c_[corners, np.ones(4)] @ inverse[:2].T
            boxes.append([*level.min(axis=0), *level.max(axis=0)])
        true = [there(line) for line in ONE.baselines]
        page = DrawnPage(sheet.grey, np.array(boxes), true)
    else:
        page = ONE
    read = page_reader(page).read(path)
    assert len(read.lines) == 5
    for line, baseline in zip(read.lines, page.baselines, strict=True):
        assert mean_distance(line.baseline, baseline) < 3
        assert (line.polygon >= 0).all()
        assert (line.polygon <= np.array(read.grey.shape[::-1])).all()


def test_two_pages_are_read_one_after_the_other(tmp_path: Path) -> None:
    """The lines of the left page, then those of the right one, in regions of their own."""
    path = saved(tmp_path / "two.png", np.hstack([ONE.grey, OTHER.grey]))
    pages = [DrawnPage(np.zeros((300, 640)), ONE.boxes, []), OTHER]
    read = page_reader(*pages).read(path)
    assert [list(region) for region in read.regions] == [[0, 1, 2, 3, 4], [5, 6, 7]]
    assert [line.name for line in read.lines] == [f"line_{number}" for number in range(1, 9)]
    starts = np.array([line.baseline[0, 0] for line in read.lines])
    assert (starts[:5] < 100).all()
    assert (starts[5:] > 640).all()
    assert read.text.count("\n\n") == 1


def test_words_and_confidences_are_of_the_line(tmp_path: Path) -> None:
    """Words make up the text, stand within the page from left to right, and sure from 0 to 1."""
    read = page_reader(ONE).read(saved(tmp_path / "page.png", ONE.grey))
    assert any(line.text for line in read.lines)
    for line in read.lines:
        assert " ".join(word.text for word in line.words) == line.text
        assert 0 <= (line.confidence or 0) <= 1
        for word in line.words:
            assert 0 <= (word.confidence or 0) <= 1
            assert word.polygon[:, 0].min() >= line.polygon[:, 0].min() - 10
            assert word.polygon[:, 0].max() <= line.polygon[:, 0].max() + 10


def test_what_is_saved_reads_back(tmp_path: Path) -> None:
    """The PAGE XML has the same lines, texts and regions' order; the picture is a PNG."""
    read = page_reader(ONE).read(saved(tmp_path / "a & b.png", ONE.grey))
    xml, picture = read.save(tmp_path / "new folder")
    back = read_page(xml)
    assert (back.image, back.height, back.width) == ("a & b.png", 300, 640)
    for one, two in zip(back.lines, read.lines, strict=True):
        assert one.text == two.text
        assert one.polygon.tolist() == two.polygon.tolist()
        assert one.baseline.tolist() == two.baseline.tolist()
        assert abs((one.confidence or 0) - (two.confidence or 0)) < 1e-4
    assert picture.name == "a & b.lines.png"
    with Image.open(picture) as drawn:
        assert drawn.width > 500
    assert "confidence" in render.text(read.picture())
    assert "blue" in render.caption(read.picture())


def test_an_empty_page_has_no_lines(tmp_path: Path) -> None:
    """No text, no region, and files all the same."""
    blank = DrawnPage(np.full((90, 80), 230, np.uint8), np.zeros((0, 4)), [])
    read = page_reader(blank).read(saved(tmp_path / "blank.png", blank.grey))
    assert (read.text, list(read.lines)) == ("", [])
    assert read_page(read.save()[0]).lines == []


def test_what_cannot_read_pages_is_refused(tmp_path: Path) -> None:
    """An agent in the place of another, boxes of unknown kinds, a file that is no image."""
    good, adder = page_reader(), agents.make("parity_lstm", task="xor2", device="cpu")
    with pytest.raises(ConfigError, match=r"detector: .*a run of yolo_detector on pages"):
        PageReader(detector=adder, reader=good.reader)
    with pytest.raises(ConfigError, match="reader: yolo_detector does not read lines"):
        PageReader(detector=good.detector, reader=good.detector)  # type: ignore[arg-type]
    good.detector.task = tasks.make("pages", size=SIZE, kinds="ink/blot")
    with pytest.raises(ConfigError, match="the kinds ink, blot"):
        PageReader(detector=good.detector, reader=good.reader)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no more")
    for name, words in (("broken.png", "cannot be read"), ("none.png", "is not a file")):
        with pytest.raises(ConfigError, match=f"page .*{name}'.*{words}"):
            good.read(tmp_path / name)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the folders of a detector and a reader that were trained for two steps."""
    root = tmp_path_factory.mktemp("runs")
    pages = root / "pages"
    pages.mkdir()
    for number in range(6):
        page = drawn_page(seed=number, height=240 + number, num=4, right=300, width=340)
        lines = [
            TextLine(f"l{at}", box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2), base[::50], "a")
            for at, (box, base) in enumerate(zip(page.boxes, page.baselines, strict=True))
        ]
        saved(pages / f"{number}.png", page.grey)
        write_page(pages / f"{number}.xml", Page(f"{number}.png", *page.grey.shape, lines))
    task = tasks.make("pages", path=str(pages), size=SIZE)
    finder = agents.make("yolo_detector", task=task, channels=4, **QUICK)
    finder.learn(run_dir=root / "detector", progress=False)
    reader = agents.make("ctc_reader", task="digit_strings", **QUICK)
    reader.learn(run_dir=root / "reader", progress=False)
    for path in pages.iterdir():
        path.unlink()
    pages.rmdir()  # the pages that were learned from are elsewhere by now
    return {"detector": str(root / "detector"), "reader": str(root / "reader")}


def command(runs: dict[str, str]) -> list[str]:
    """Return the beginning of the command."""
    own = ["--mode", "predict", "--device", "cpu"]
    return [*own, "--run-dir", runs["reader"], "--detector", runs["detector"]]


def test_many_pages_are_read_and_bad_ones_named(
    runs: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files and folders; a broken file is named, the rest are read, and the exit code says so."""
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("b.png", "c.png"):
        saved(folder / name, ONE.grey)
    (folder / "a.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("no page")
    single = saved(tmp_path / "d.jpg", OTHER.grey)
    asked = [*command(runs), "--input", str(folder), "--input", str(single)]
    assert main([*asked, "--output", str(output)]) == 2
    told = capsys.readouterr()
    assert told.err.count("terrarium: page") == 1
    assert "a.png': cannot be read" in told.err
    written = {path.name for path in output.iterdir()}
    assert written == {f"{name}{end}" for name in "bcd" for end in (".xml", ".lines.png")}
    assert [f"{folder / name}:" in told.out for name in ("b.png", "c.png")] == [True, True]


def test_files_are_beside_the_page_and_never_overwritten(
    runs: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A transcription that is there already is kept: the page is named, and not read."""
    path = saved(tmp_path / "page.png", ONE.grey)
    assert main([*command(runs), "--input", str(path)]) == 0
    before = (tmp_path / "page.xml").read_bytes()
    capsys.readouterr()
    assert main([*command(runs), "--input", str(path)]) == 2
    assert "page.xml exists already; accepted:" in capsys.readouterr().err
    assert (tmp_path / "page.xml").read_bytes() == before


def test_paths_on_standard_input(
    runs: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One a line, as other inputs."""
    path = saved(tmp_path / "page.png", ONE.grey)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"\n{path}\n".encode())))
    assert main(command(runs)) == 0
    assert (tmp_path / "page.xml").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--detector", "nowhere"], "nowhere is not a run folder"),
        (["--detector", ""], "--detector"),
        (["--output", "there"], "--output: cannot be combined with no --detector"),
    ],
)
def test_wrong_options_are_told(
    runs: dict[str, str], arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that is none, and an output without pages, end with 2 and say what is accepted."""
    base = ["--mode", "predict", "--run-dir", runs["reader"], "--input", "x.png"]
    assert main([*base, *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_reader_in_the_detectors_place(
    runs: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs that are exchanged are told apart."""
    exchanged = {"detector": runs["reader"], "reader": runs["detector"]}
    assert main([*command(exchanged), "--input", "x.png"]) == 2
    assert "detector: ctc_reader on digit_strings finds no boxes" in capsys.readouterr().err
