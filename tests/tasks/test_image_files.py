"""Files of pictures: every kind is read as what was written, and shrunk by averages."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.core.images import read_grey, read_pixels, read_size
from tasks.core.settings import ConfigError
from tests.helpers.images import PIXELS, save

WRITTEN: dict[str, Callable[[Path], Path]] = {
    "png": lambda p: save(p / "a.png", PIXELS[0]),
    "bmp": lambda p: save(p / "a.bmp", PIXELS[0]),
    "webp": lambda p: save(p / "a.webp", PIXELS[0], lossless=True),
    "ppm": lambda p: save(p / "a.ppm", PIXELS[0]),
    "tiff": lambda p: save(p / "a.tif", PIXELS[0]),
    "lying": lambda p: save(p / "a.png", np.rot90(PIXELS[0]), exif=orientation(6)),
}


def orientation(number: int) -> Image.Exif:
    """Return the tag that says how a photo is to be turned."""
    tags = Image.Exif()
    tags[0x0112] = number
    return tags


@pytest.mark.parametrize("kind", WRITTEN)
def test_files_of_every_kind_are_the_same_picture(kind: str, tmp_path: Path) -> None:
    """Lossless files, and photos that lie on their side, give the pixels that were written."""
    path = WRITTEN[kind](tmp_path)
    assert read_size(path, "here", "") == (5, 4)
    found = read_pixels(path, (3, 5, 4), "here", "")
    np.testing.assert_array_equal(found, PIXELS[0].transpose(2, 0, 1))
    assert found.flags.c_contiguous


def test_grey_palettes_films_and_photos_are_read(tmp_path: Path) -> None:
    """One channel is three equal ones, a film its first picture, a JPEG about what was written."""
    grey = PIXELS[0, :, :, 0]
    for name in ("a.pgm", "a.png", "a.gif"):
        path = save(tmp_path / name, grey)
        np.testing.assert_array_equal(read_pixels(path, (1, 5, 4), "", "")[0], grey)
        np.testing.assert_array_equal(read_pixels(path, (3, 5, 4), "", ""), np.stack([grey] * 3))
    film = tmp_path / "film.gif"
    frames = [Image.fromarray(grey), Image.fromarray(255 - grey)]
    frames[0].save(film, save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read_pixels(film, (1, 5, 4), "", "")[0], grey)
    smooth = np.add.outer(np.arange(240), np.arange(320)).astype(np.float64) / 560 * 255
    photo = save(tmp_path / "a.jpg", smooth.astype(np.uint8), quality=95)
    np.testing.assert_allclose(read_pixels(photo, (1, 240, 320), "", "")[0], smooth, atol=4)
    small = smooth.reshape(24, 10, 32, 10).mean(axis=(1, 3))  # of areas, at a tenth
    np.testing.assert_allclose(read_pixels(photo, (1, 24, 32), "", "")[0], small, atol=4)


def test_sixteen_bits_are_not_cut_off(tmp_path: Path) -> None:
    """A deep grey picture keeps its shades, though Pillow makes white all that is above 255."""
    shades = np.array([[0, 257, 25700], [51400, 65534, 65535]], np.uint16)
    for name in ("a.png", "a.pgm", "a.tif"):
        path = save(tmp_path / name, shades)
        found = read_pixels(path, (1, 2, 3), "", "")[0]
        np.testing.assert_array_equal(found, [[0, 1, 100], [200, 255, 255]])
        dark = read_grey(path, 2, 3, "", "")  # light paper is turned over
        np.testing.assert_allclose(dark * 255, 255 - found, atol=1e-4)


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    """Ink on a transparent page is ink on white, in colours, in grey, and in a palette."""
    ink = np.zeros((2, 2), np.uint8)
    ink[0, 0] = 255
    drawn = np.dstack([ink * 0, ink * 0, ink * 0, ink])  # black everywhere, seen in one place
    path = save(tmp_path / "a.png", drawn)
    np.testing.assert_array_equal(read_pixels(path, (1, 2, 2), "", "")[0], 255 - ink)
    flat = Image.fromarray(1 - ink // 255).convert("P")
    flat.putpalette([0, 0, 0, 10, 20, 30])
    flat.save(tmp_path / "p.png", transparency=1)
    np.testing.assert_array_equal(read_pixels(tmp_path / "p.png", (1, 2, 2), "", "")[0], 255 - ink)
    np.testing.assert_array_equal(read_grey(path, 2, 2, "", "") * 255, ink)


def test_shrunk_pictures_are_averages(tmp_path: Path) -> None:
    """A fine checkerboard at an eighth is grey all over, not black and white by chance."""
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    found = read_pixels(save(tmp_path / "a.png", board), (1, 8, 8), "", "")
    np.testing.assert_allclose(found, 127.5, atol=1)
    flat = read_pixels(save(tmp_path / "b.png", board * 0 + 77), (3, 100, 9), "", "")
    assert flat.shape == (3, 100, 9)
    assert (flat == 77).all()


def test_a_picture_starts_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostScript with the name of a PNG, for which Pillow would start Ghostscript, is refused."""
    from PIL import EpsImagePlugin

    started: list[object] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *words: started.append(words))
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS[0]).save(path, "EPS")
    for read in (read_size, lambda *words: read_pixels(words[0], (3, 5, 4), *words[1:])):
        with pytest.raises(ConfigError, match="here: cannot be read"):
            read(path, "here", "a picture")
    assert not started
