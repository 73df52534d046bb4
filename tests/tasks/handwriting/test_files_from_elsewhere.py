"""Files as they come: every kind of image and text is read as was meant, or refused in words."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import tasks
from tasks.core.settings import ConfigError
from tasks.handwriting.cutting import cut_lines, length_of
from tasks.handwriting.page_format import Page, TextLine
from tasks.handwriting.page_format import read_page as read_page_file
from tasks.handwriting.page_writing import write_page
from tasks.handwriting.vocabulary import words_of

TASKS = ("line_images", "page_xml", "iam", "pages")
NUM = 6  # images of a folder
BOX = np.array([[8.0, 6], [88, 6], [88, 34], [8, 34]])


def pixels_of(number: int) -> NDArray[np.uint8]:
    """Return light paper with three dark bars; no two numbers give the same."""
    pixels = np.full((40, 96), 250, np.uint8)
    for left in (14, 30 + number, 60):
        pixels[10:30, left : left + 4] = 20
    return pixels


def plain(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Save 8 bits of grey."""
    Image.fromarray(pixels).save(path, "png")


def deep(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Save 16 bits of grey."""
    Image.fromarray(pixels.astype(np.uint16) * 257).save(path, "png")


def cmyk(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Save four inks."""
    Image.fromarray(pixels).convert("CMYK").save(path, "tiff")


def palette(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Save numbers of colours."""
    Image.fromarray(pixels).convert("RGB").quantize(8).save(path, "png")


def transparent(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Save black whose opacity is the ink."""
    clear = np.zeros((*pixels.shape, 4), np.uint8)
    clear[..., 3] = 255 - pixels
    Image.fromarray(clear).save(path, "png")


def rotated(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Save a photo of which the EXIF data say that it is to be turned."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(pixels).copy()).save(path, "png", exif=exif)


def empty(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Save nothing."""
    path.touch()


def broken(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Save what is no image."""
    path.write_bytes(b"\x89PNG\r\n\x1a\nno image")


def pages_of(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Save two pages in one file."""
    page = Image.fromarray(pixels)
    page.save(path, "tiff", save_all=True, append_images=[page])


def huge(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Save the header of an image of 10 gigapixels, and none of them."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")))


Save = Callable[[Path, NDArray[np.uint8]], None]


def folder(root: Path, name: str, save: Save, text: str = "ab") -> Any:
    """Write a folder of a task in which `save` writes image 0, and return the task.

    Pillow tells formats by their content, so that all images are called .png.
    """
    root.mkdir()
    for number in range(NUM):
        path = root / f"{number}.png"
        if name == "iam":
            path = root / "lines" / "a01" / f"a01-00{number}" / f"a01-00{number}-00.png"
            path.parent.mkdir(parents=True)
        (save if number == 0 else plain)(path, pixels_of(number))
        own = text if number == 0 else "ab"
        if name == "line_images":
            (root / f"{number}.gt.txt").write_text(own, encoding="utf-8")
        elif name == "pages":
            path.with_suffix(".txt").write_text("0 0.5 0.5 0.8 0.6")
        elif name == "page_xml":
            baseline = np.array([[8.0, 30], [88, 30]])
            line = TextLine("l", BOX, baseline, own)
            write_page(path.with_suffix(".xml"), Page(path.name, 40, 96, [line]))
    if name == "iam":
        rows = [f"a01-00{n}-00 ok 154 1 0 0 96 40 {text if n == 0 else 'ab'}" for n in range(NUM)]
        (root / "lines.txt").write_text("\n".join(rows), encoding="utf-8")
        files = {}
        for split, members in (("train", (0, 1, 2, 3)), ("validation", (4,)), ("test", (5,))):
            (root / split).write_text("\n".join(f"a01-00{n}-00" for n in members))
            files[f"{split}_file"] = str(root / split)
        return tasks.make("iam", path=str(root), **files)
    return tasks.make(name, path=str(root), **({"size": 96} if name == "pages" else {}))


def name_of(name: str) -> str:
    """Return the name that a task has for image 0."""
    return {"line_images": "0.png", "page_xml": "0 l", "iam": "a01-000-00", "pages": "0.png"}[name]


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("save", [deep, cmyk, palette, transparent, rotated])
def test_every_kind_of_image_is_converted(name: str, save: Save, tmp_path: Path) -> None:
    """16 bits, four inks, palettes, transparency and rotated photos give what grey pixels do.

    From a folder and as the input of a person.
    """
    right = folder(tmp_path / "plain", name, plain).encode([name_of(name)]).image
    task = folder(tmp_path / "other", name, save)
    image = task.encode([name_of(name)]).image
    np.testing.assert_allclose(image, right, atol=0.06)
    assert image.max() > 0.8
    save(tmp_path / "input", pixels_of(0))
    plain(tmp_path / "same", pixels_of(0))
    inputs = [task.encode([str(tmp_path / file)]).image for file in ("input", "same")]
    np.testing.assert_allclose(*inputs, atol=0.06)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize(
    ("save", "words"),
    [(empty, "cannot"), (broken, "cannot"), (pages_of, "2 pages"), (huge, "exceeds limit")],
)
def test_what_is_no_image_is_named(name: str, save: Save, words: str, tmp_path: Path) -> None:
    """Empty, broken and huge files, and those of several pages, are left out by name or an error.

    As the input of a person each is an error that says why. No pixel of a huge one is decoded.
    """
    save(tmp_path / "input.png", pixels_of(0))
    task = folder(tmp_path / "good", name, plain)
    with pytest.raises(ConfigError, match=rf"input\.png.*{words}"):
        task.encode([str(tmp_path / "input.png")])
    if name == "pages" or (name == "iam" and save is not empty):
        with pytest.raises(ConfigError, match=rf"0.*\.png.*{words}"):
            folder(tmp_path / "bad", name, save).encode([name_of(name)])
        return
    left_out = folder(tmp_path / "bad", name, save).left_out
    assert [item.place.split(",")[0] for item in left_out] == [
        {"page_xml": "0.xml"}.get(name, name_of(name))
    ]
    assert "image" in left_out[0].reason


@pytest.mark.parametrize("name", TASKS[:3])
def test_texts_are_normalised(name: str, tmp_path: Path) -> None:
    """A letter and its accent are one character, all white space is a space."""
    task = folder(tmp_path / "a", name, plain, "a\N{COMBINING ACUTE ACCENT} \tb\N{NO-BREAK SPACE}c")
    batch = task.encode([name_of(name)])
    assert task.decode(task.targets(batch)) == ["á b c"]
    assert task.charset == " abcá"
    plain_one = type(task)(**{**tasks.settings_of(task), "charset": " abc"})
    with pytest.raises(ConfigError, match="'á b c' has the character 'á'"):
        plain_one.encode([name_of(name)])
    open_one = type(task)(**{**tasks.settings_of(task), "charset": " abc\N{REPLACEMENT CHARACTER}"})
    batch = open_one.encode([name_of(name)])
    assert open_one.decode(open_one.targets(batch)) == ["\N{REPLACEMENT CHARACTER} b c"]


@pytest.mark.parametrize("name", TASKS[:3])
def test_scores_state_the_form_of_the_texts(name: str, tmp_path: Path) -> None:
    """Of a word in two forms the rates differ, so that each is told with its form."""
    task = folder(tmp_path / "a", name, plain, "é")
    split = type(task)(**{**tasks.settings_of(task), "charset": None, "unicode_form": "NFD"})
    batches = [each.encode([name_of(name)]) for each in (task, split)]
    nfc, nfd = (t.score([b.text[0][:1]], b) for t, b in zip((task, split), batches, strict=True))
    assert nfc["cer/NFC"] == nfc["cer"] == 0
    assert nfd["cer/NFD"] == nfd["cer"] == 1 / 2
    assert "cer/NFC" not in nfd


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (3, 3)])
def test_the_smallest_images_are_read(shape: tuple[int, int], tmp_path: Path) -> None:
    """An image of a pixel is a line, of paper."""
    plain(tmp_path / "dot.png", np.full(shape, 250, np.uint8))
    for task in (tasks.make("digit_strings"), tasks.make("digit_pages")):
        assert task.encode([str(tmp_path / "dot.png")]).image.max() < 0.2


def test_coordinates_that_are_no_numbers_are_noted(tmp_path: Path) -> None:
    """Sides of ALTO that are not finite, or too large, give no polygon, and a note."""
    line = '<TextLine ID="{}" HPOS="{}" VPOS="1" WIDTH="9" HEIGHT="9" BASELINE="5"/>'
    lines = "".join(line.format(n, x) for n, x in enumerate(("nan", "inf", "1e30", "x", "3")))
    layout = f"<Layout><Page WIDTH='9' HEIGHT='nan'>{lines}</Page></Layout>"
    (tmp_path / "a.xml").write_text(f"<alto>{layout}</alto>")
    page = read_page_file(tmp_path / "a.xml")
    assert [len(line.polygon) for line in page.lines] == [0, 0, 0, 0, 4]
    assert len(page.notes) == 4
    assert page.height == 0


def test_memory_is_bounded_by_the_page(tmp_path: Path) -> None:
    """A baseline that goes back and forth is left out; a polygon of many corners is cut."""
    forth = np.tile([[8.0, 30], [88, 30]], (400, 1))
    assert length_of(forth) == 80 * 799
    root = tmp_path / "a"
    folder(root, "page_xml", plain)
    write_page(root / "0.xml", Page("0.png", 40, 96, [TextLine("l", BOX, forth, "ab")]))
    task = tasks.make("page_xml", path=str(root), test=0.3)
    assert task.left_out[0] == ("0 l", "has a baseline far longer than its page")
    corners = np.repeat(BOX, 25_000, axis=0)  # all distances of its sides would take a gigabyte
    line = TextLine("l", corners, np.array([[8.0, 30], [88, 30]]), "ab")
    few = TextLine("l", BOX, line.baseline, "ab")
    images = [cut_lines(pixels_of(0), [each], 32)[0] for each in (line, few)]
    assert abs(images[0].shape[1] - images[1].shape[1]) < 30


def test_words_with_other_characters_are_counted(tmp_path: Path) -> None:
    """Of a text in decomposed form, words that cannot be drawn are counted, each once."""
    words = [f"w{n}" for n in range(200)] + ["e\N{COMBINING ACUTE ACCENT}", "é", "été"]
    (tmp_path / "a.txt").write_text(" ".join(words), encoding="utf-8")
    assert words_of(str(tmp_path / "a.txt"), "w0123456789")[1] == 2
