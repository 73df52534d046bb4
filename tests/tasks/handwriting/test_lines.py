"""Batches of lines, their scores, and images of lines from outside."""

from collections.abc import Sequence
from pathlib import Path

import attrs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tasks.core.settings import ConfigError
from tasks.core.task import Split
from tasks.handwriting.lines import Line, LineTask, Pass, bucketed, error_rates


@attrs.frozen(kw_only=True)
class Bars(LineTask):
    """Lines of n bars with the text n times `é`."""

    @property
    def own_characters(self) -> str:
        """One character."""
        return "é"

    def num_samples_in(self, split: Split) -> int:
        """Fifty lines."""
        return 50

    def widths(self, pass_: Pass) -> NDArray[np.int64]:
        """Return the widths."""
        return 20 * (np.arange(50) % 7 + 1)

    def load(self, pass_: Pass, index: Sequence[int]) -> list[Line]:
        """Draw bars of two columns."""
        lines = []
        for number in index:
            image = np.zeros((self.height, 20 * (number % 7 + 1)), np.float32)
            image[4:-4, 9::20] = 1
            lines.append(Line(image, "é" * (number % 7 + 1), int(number)))
        return lines


def paper_file(
    folder: Path, pixels: NDArray[np.uint8], name: str = "line.png", **how: object
) -> str:
    """Save pixels as an image file, and return its path."""
    Image.fromarray(pixels).save(folder / name, **how)
    return str(folder / name)


def test_error_rates_have_known_values() -> None:
    """`kitten` for `sitting` has 3 errors of 7 characters; of a corpus both are summed."""
    assert error_rates(["kitten"], ["sitting"])["cer"] == pytest.approx(3 / 7)
    scores = error_rates(["kitten", "a b"], ["sitting", "a c"])
    assert scores == pytest.approx({"cer": 4 / 10, "wer": 2 / 3, "exact": 0.0})
    assert error_rates([""], ["abcd"]) == {"cer": 1.0, "wer": 1.0, "exact": 0.0}
    assert error_rates(["ab"], ["ab"]) == {"cer": 0.0, "wer": 0.0, "exact": 1.0}
    assert error_rates([""], [""]) == {"cer": 0.0, "wer": 0.0, "exact": 1.0}


def test_batches_hold_each_line_once_with_lines_of_its_width() -> None:
    """A pass has every index once, its padding is little, and only the last batch is short."""
    widths = np.random.default_rng(0).integers(20, 2000, 1001)
    batches = bucketed(widths, 16, [0, 1])
    assert sorted(np.concatenate(batches)) == list(range(1001))
    assert [len(batch) for batch in batches] == [16] * 62 + [9]
    padded = sum(16 * widths[batch].max() for batch in batches[:-1])
    in_any_order = sum(16 * widths[at : at + 16].max() for at in range(0, 992, 16))
    assert padded < 1.15 * widths.sum() < 0.7 * in_any_order
    firsts = [int(widths[batch].mean()) for batch in batches]
    assert firsts != sorted(firsts)


def test_a_batch_is_padded_with_paper_and_blanks() -> None:
    """Image and text of each line are at the left, what is beyond them is 0."""
    batch = Bars().batch(Bars().load(Pass("test", 0, 0), [0, 2]))
    assert batch.image.shape == (2, 1, 32, 60)
    assert batch.width.tolist() == [20, 60]
    assert batch.text.tolist() == [[1, 0, 0], [1, 1, 1]]
    assert batch.image[0, 0, :, :20].max() == 1
    assert batch.image[0, 0, :, 20:].max() == 0


def test_bytes_become_shares_of_ink() -> None:
    """A line that is kept as bytes has 1 where they are 255."""
    task = Bars(height=8)
    batch = task.batch([Line(np.full((8, 3), 255, np.uint8), "é")])
    assert batch.image.dtype == np.float32
    assert (batch.image == 1).all()


def test_targets_are_decoded_without_padding() -> None:
    """The texts of a batch come back from its codes, and a blank in an answer says nothing."""
    batch = Bars().samples("test", 50)
    texts = Bars().decode(Bars().targets(batch))
    assert sorted(texts) == sorted("é" * (n % 7 + 1) for n in range(50))
    assert Bars().decode([[0, 1, 0, 1], []]) == ["éé", ""]


def test_samples_are_lines_of_all_widths() -> None:
    """What is looked at and scored is a random sample, not a batch of lines of one width."""
    assert len(set(Bars().samples("test", 8).width.tolist())) > 3


def test_characters_outside_the_set_are_named() -> None:
    """A character that has no code is refused, or has the code of � where there is one."""
    with pytest.raises(
        ConfigError, match=r"'éx' has the character 'x'; accepted: the characters 'é'"
    ):
        Bars().codes("éx")

    class Open(Bars):
        characters = "é\N{REPLACEMENT CHARACTER}"

    assert Open().codes("éxé").tolist() == [1, 2, 1]


def test_a_character_set_grows() -> None:
    """Known characters keep their codes, and those of the task that are new follow."""
    grown = Bars().with_characters("xy")
    assert grown.characters == grown.spec.characters == "xyé"
    assert grown.codes("éx").tolist() == [3, 1]
    assert Bars().with_characters("é") == Bars()
    assert grown.with_characters("éx").characters == "éxy"
    for charset in ("", "éé"):
        with pytest.raises(ConfigError, match="is empty, or has a character twice"):
            Bars(charset=charset)


def test_an_array_of_the_task_is_read_as_it_is() -> None:
    """Encoding an image of a batch gives the same pixels; of light paper they are turned around."""
    batch = Bars().samples("test", 2)
    for image in (batch.image[0], batch.image[0, 0]):
        np.testing.assert_array_equal(Bars().encode([image]).image, batch.image[:1])
    turned = Bars().encode([1 - batch.image[0]])
    np.testing.assert_array_equal(turned.image, batch.image[:1])
    assert turned.length.tolist() == [0]
    assert Bars().rows([[]], turned)[0].target == ""


@pytest.mark.parametrize("height", [16, 64, 33])
def test_the_height_is_brought_to_that_of_the_task(height: int) -> None:
    """An image of any height has the task's, with its aspect ratio."""
    image = np.zeros((height, height * 3), np.float32)
    image[height // 4 : -height // 4, height : height * 2] = 1
    batch = Bars().encode([image])
    assert batch.image.shape == (1, 1, 32, 96)
    assert batch.image[0, 0, 16, 48] == 1
    assert batch.image[0, 0, 16, 8] == 0


@pytest.mark.parametrize("is_dark", [False, True])
def test_uneven_light_is_removed_from_a_file(tmp_path: Path, is_dark: bool) -> None:
    """A photo with a gradient of light has even paper and even ink, whatever is lighter."""
    light = np.linspace(250, 120, 600)[None] * np.ones((60, 1))
    ink = np.zeros((60, 600), bool)
    ink[15:45, 20::40] = ink[15:45, 21::40] = ink[15:45, 22::40] = True
    pixels = np.where(ink, light * 0.4, light).astype(np.uint8)
    path = paper_file(tmp_path, 255 - pixels if is_dark else pixels)
    image = Bars().encode([path]).image[0, 0]
    columns = image[12:20]
    strokes = [columns[:, x : x + 3].max() for x in (10, 160, 309)]
    assert image.shape == (32, 320)
    if not is_dark:  # light falls on paper, so that only dark ink is a share of it
        assert min(strokes) > 0.8
    assert image[2:6].max() < 0.1


def test_a_path_that_is_no_line_is_named(tmp_path: Path) -> None:
    """A missing file, an empty one, and one that is far too wide are refused in words."""
    (tmp_path / "empty.png").touch()
    wide = paper_file(tmp_path, np.zeros((1, 500), np.uint8))
    for path, words in (
        (str(tmp_path / "none.png"), "is not a file"),
        (str(tmp_path / "empty.png"), "cannot be read"),
        (wide, "is 500 pixels wide and 1 high"),
    ):
        with pytest.raises(ConfigError, match=words):
            Bars().encode([path])


def test_a_whole_page_that_is_read_as_a_line_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning says how pages are read; an image of a line, or of a letter, has none."""
    for name, size in (("page", (600, 800)), ("line", (900, 80)), ("letter", (30, 60))):
        Image.new("L", size, 255).save(tmp_path / f"{name}.png")
        Bars().encode([str(tmp_path / f"{name}.png")])
    (message,) = [record.getMessage() for record in caplog.records]
    assert "page.png" in message
    assert "600 × 800 pixels are read as one line" in message
    assert "--detector" in message


def test_arrays_that_are_no_lines_are_refused() -> None:
    """Colours, numbers outside of 0 to 1, and empty arrays are refused in words."""
    for array, words in (
        (np.zeros((3, 32, 32)), "has the shape"),
        (np.full((32, 32), 255), "values from 255"),
        (np.zeros((32, 0)), "has the shape"),
    ):
        with pytest.raises(ConfigError, match=words):
            Bars().encode([array])


def test_conversions_of_files(tmp_path: Path) -> None:
    """16 bits, CMYK, transparency and a photo's rotation give the image that was meant."""
    grey = np.full((32, 64), 255, np.uint8)
    grey[8:24, 10:14] = 0
    plain = Bars().encode([paper_file(tmp_path, grey)]).image
    deep = paper_file(tmp_path, grey.astype(np.uint16) * 257, "deep.png")
    cmyk = tmp_path / "ink.tif"
    Image.fromarray(grey).convert("CMYK").save(cmyk)
    clear = np.zeros((32, 64, 4), np.uint8)
    clear[..., 3] = 255 - grey
    clear = paper_file(tmp_path, clear, "clear.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise
    turned = paper_file(tmp_path, np.rot90(grey).copy(), "turned.png", exif=exif)
    for path in (deep, cmyk, clear, turned):
        np.testing.assert_allclose(Bars().encode([path]).image, plain, atol=0.02)


def test_a_file_of_several_pages_is_refused(tmp_path: Path) -> None:
    """No page of a file is lost in silence."""
    page = Image.fromarray(np.full((32, 64), 255, np.uint8))
    page.save(tmp_path / "two.tif", save_all=True, append_images=[page])
    with pytest.raises(ConfigError, match="it has 2 pages"):
        Bars().encode([tmp_path / "two.tif"])


def test_a_huge_image_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image of more pixels than memory may hold is named."""
    path = paper_file(tmp_path, np.zeros((64, 64), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ConfigError, match="exceeds limit"):
        Bars().encode([path])
