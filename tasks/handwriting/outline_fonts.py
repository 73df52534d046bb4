"""Handwriting drawn with outline fonts: TrueType, OpenType and WOFF files found on the machine.

A font is written by as many writers as wanted, each with a slant, a width, a size, a pen and a more
or less regular baseline. All of it is a pure function of the writer's number and the font file.
"""

import functools
import hashlib
import itertools
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.core.settings import ConfigError
from tasks.core.task import Split
from tasks.handwriting.line_index import LeftOut
from tasks.handwriting.stored import files_in
from tasks.handwriting.strokes import BASELINE, CHARACTERS, FINE, MARGIN, Drawing

if TYPE_CHECKING:
    from PIL import Image, ImageFont

_logger = logging.getLogger(__name__)

SUFFIXES = (".ttf", ".otf", ".woff", ".woff2")
_HANDWRITING = (  # beginnings of file names, letters alone
    "dkg", "breip", "femkeklaver", "rufscript", "delphine", "stevehand", "kristi", "dancingscript",
    "ecolier", "joscelyn", "isabella", "summersby", "comicneue", "kaushanscript", "havana",
    "purisa", "tlwgpurisa", "leckerlione", "z003", "caveat", "indieflower", "homemadeapple",
    "patrickhand", "shadowsintolight", "segoescript", "bradleyhand", "snellroundhand", "noteworthy",
)  # fmt: skip
_FOLDERS = (
    "~/.fonts", "~/.local/share/fonts", "/usr/local/share/fonts", "/usr/share/fonts",
    "~/Library/Fonts", "/Library/Fonts", "/System/Library/Fonts", "C:/Windows/Fonts",
)  # fmt: skip
_INSTALL = (
    "fonts such as Debian's fonts-dkg-handwriting, fonts-breip, fonts-kristi and "
    "fonts-dancingscript, or task.font_folder with files of fonts (.ttf, .otf, .woff, .woff2)"
)
_LARGEST = 16 * 2**20  # bytes of a font file
_SIZE = 100  # pixels at which a font is measured
_TALL = 0.72  # of the height of a line: from the top of an l to the bottom of a g
_FULL = 0.86  # share of the room over and under the baseline that letters may take
_STRIP = 24  # pixels of a finely drawn line that are bent as one
_SHARES: tuple[tuple[Split, float], ...] = (("test", 0.2), ("validation", 0.1))  # of font families


class Font(NamedTuple):
    """A file of a font that has all characters."""

    path: Path
    family: str
    digest: str  # of the file


class Writer(NamedTuple):
    """The hand of a writer who writes as a font."""

    font: Font
    slant: float  # columns for each row
    size: float
    width: float  # of letters, relative to those of the font
    pen: int  # pixels of a finely drawn line that strokes are wider than the font's
    wave: float  # of the baseline, in heights of a line
    ink: float  # darkness


class Fonts(NamedTuple):
    """The fonts that are used, in the order of their digests, and what is left out."""

    used: Sequence[Font]
    left_out: tuple[LeftOut, ...]

    @property
    def description(self) -> str:
        """Names and hashes of the files, by which other fonts are noticed."""
        return "; ".join(f"{font.path.name} {font.digest}" for font in self.used)

    def of_split(self, split: Split) -> Sequence[Font]:
        """Return the fonts of a split, of which each family is in one alone.

        Raises:
            ConfigError: there are fewer than three families.
        """
        families = sorted({f.family for f in self.used}, key=lambda name: _hash(name.encode()))
        if len(families) < 3:
            problem = f"unseen writers need three families of fonts; found {', '.join(families)}"
            raise ConfigError("task handwriting", "fonts", problem, _INSTALL)
        low, own = 0, dict[Split, list[str]]()
        for each, share in _SHARES:
            high = low + max(1, round(share * len(families)))
            own[each], low = families[low:high], high
        own["train"] = families[low:]
        return [font for font in self.used if font.family in own[split]]


@functools.lru_cache(maxsize=4)
def find_fonts(folder: str | None) -> Fonts:
    """Return the fonts of a folder; None: those of the machine that are named as handwriting is.

    Raises:
        ConfigError: there is none; says what to install.
    """
    used, left_out = dict[str, Font](), list[LeftOut]()
    for path in _files(folder):
        font = _looked_at(path)
        if isinstance(font, str):
            left_out.append(LeftOut(str(path), font))
        else:
            used.setdefault(font.digest, font)
    if not used:
        where = "this machine" if folder is None else folder
        problem = f"{where} has no outline font of handwriting"
        problem += "".join(f"; {path} {reason}" for path, reason in left_out[:1])
        raise ConfigError("task handwriting", "fonts", problem, _INSTALL)
    if left_out:
        text = "task handwriting: %d fonts left out, such as %s, which %s"
        _logger.warning(text, len(left_out), *left_out[0])
    return Fonts([used[digest] for digest in sorted(used)], tuple(left_out))


def _files(folder: str | None) -> list[Path]:
    if folder is not None:
        root = Path(os.path.expanduser(folder))  # noqa: PTH111 - as for every path
        names = files_in(root, "task handwriting")
        return [root / name for name in names if name.lower().endswith(SUFFIXES)]
    found = []
    for place in _FOLDERS:
        root = Path(os.path.expanduser(place))  # noqa: PTH111 - as for every path
        for name in files_in(root, "") if root.is_dir() else []:
            plain = re.sub("[^a-z0-9]", "", Path(name).stem.lower())
            if name.lower().endswith(SUFFIXES) and plain.startswith(_HANDWRITING):
                found.append(root / name)
    return found


def _looked_at(path: Path) -> Font | str:
    """Return a font, or why it cannot be used."""
    from PIL import ImageFont

    try:
        if path.stat().st_size > _LARGEST:
            return f"has more than {_LARGEST // 2**20} MiB"
        data = path.read_bytes()
        font = ImageFont.truetype(path, _SIZE, layout_engine=ImageFont.Layout.BASIC)
        unknown = bytes(font.getmask("\uffff"))
        lacking = [c for c in CHARACTERS if c != " " and bytes(font.getmask(c)) in (unknown, b"")]
    except (OSError, ValueError) as error:
        return f"cannot be read: {error}"
    if lacking:
        return f"has no {''.join(lacking[:5])}"
    return Font(path, font.getname()[0] or path.stem, _hash(data))


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def writer(number: int, fonts: Sequence[Font]) -> Writer:
    """Return a writer by number, who writes as one of these fonts."""
    rng = np.random.default_rng([number, 3])
    return Writer(
        font=fonts[int(rng.integers(len(fonts)))],
        slant=float(rng.uniform(-0.15, 0.3)),
        size=float(rng.uniform(0.85, 1.15)),
        width=float(rng.uniform(0.8, 1.15)),
        pen=int(rng.choice([0, 0, 1])),
        wave=float(rng.uniform(0, 0.03)),
        ink=float(rng.uniform(0.7, 1.0)),
    )


def draw(text: str, hand: Writer, height: int, rng: np.random.Generator) -> Drawing:
    """Return a text in the hand of a writer; the boxes of letters that join are approximate.

    The text has characters of CHARACTERS, and the generator says how the line is bent.
    """
    from PIL import Image, ImageDraw, ImageFilter

    rows = FINE * height
    font = _at_size(hand.font.path, _size(hand, text, rows, float(rng.uniform(0.93, 1.07))))
    boxes = _letter_boxes(text, font)
    slant = hand.slant + rng.normal(0, 0.03)
    base = BASELINE * rows + rng.normal(0, 0.01) * rows
    edge = MARGIN * FINE + abs(slant) * rows
    left, _, right, _ = font.getbbox(text, anchor="ls")
    columns = int(np.ceil(right - left + 2 * edge))
    image = Image.new("L", (columns, rows))
    start = edge - left
    ink = round(255 * hand.ink)
    ImageDraw.Draw(image).text((start, base), text, fill=ink, font=font, anchor="ls")
    if hand.pen:
        image = image.filter(ImageFilter.MaxFilter(2 * hand.pen + 1))
    at = np.linspace(0, columns, max(2, round(columns / _STRIP) + 1)).round()
    bends = hand.wave * rows * np.sin(at / rows * rng.uniform(0.5, 1.5) + rng.uniform(0, 6.3))
    bends += rng.normal(0, 0.006 * rows, len(at))
    image = image.transform(
        image.size, Image.Transform.MESH, _mesh(at, bends, rows, base, slant),
        Image.Resampling.BILINEAR,
    )  # fmt: skip
    boxes = _moved(boxes + np.array([start, base, start, base]), at, bends, base, slant)
    return _trimmed(image, boxes, hand.width, height)


def _size(hand: Writer, text: str, rows: int, jitter: float) -> int:
    """Return the size of a font at which a text fits its line, or as large as the writer writes."""
    font = _at_size(hand.font.path, _SIZE)
    _, top, _, bottom = font.getbbox("lbdhgpqy", anchor="ls")
    size = _SIZE * _TALL * rows * hand.size * jitter / max(bottom - top, 1)
    _, top, _, bottom = font.getbbox(text, anchor="ls")
    above, below = _FULL * BASELINE * rows, _FULL * (1 - BASELINE) * rows
    fits = min(above / max(-top, 1), below / max(bottom, 1)) * _SIZE
    return max(4, int(min(size, fits)))


@functools.lru_cache(maxsize=512)
def _at_size(path: Path, size: int) -> "ImageFont.FreeTypeFont":
    from PIL import ImageFont

    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


def _letter_boxes(text: str, font: "ImageFont.FreeTypeFont") -> NDArray[np.float64]:
    """Return the box of each letter (n, 4) from where the text begins on its baseline."""
    boxes = np.full((len(text), 4), np.nan)
    for at, character in enumerate(text):
        if character != " ":
            begin = font.getlength(text[: at + 1]) - font.getlength(character)
            left, top, right, bottom = font.getbbox(character, anchor="ls")
            boxes[at] = begin + left, top, begin + right, bottom
    return boxes


def _mesh(
    at: NDArray[np.float64], bends: NDArray[np.float64], rows: int, base: float, slant: float
) -> list[Any]:
    """Return strips of a line, and the quadrangle that each is taken from."""
    strips: list[Any] = []
    ends = list(zip(at.tolist(), bends.tolist(), strict=True))
    over, under = slant * base, slant * (base - rows)  # an upper row is taken from the left of it
    for (left, first), (right, last) in itertools.pairwise(ends):
        corners = (
            left - over, -first, left - under, rows - first,
            right - under, rows - last, right - over, -last,
        )  # fmt: skip
        strips.append(((int(left), 0, int(right), rows), corners))
    return strips


def _moved(
    boxes: NDArray[np.float64], at: NDArray[np.float64], bends: NDArray[np.float64], base: float,
    slant: float,
) -> NDArray[np.float64]:  # fmt: skip
    """Return boxes where the mesh puts them."""
    left, top, right, bottom = boxes.T
    ends = slant * (base - top), slant * (base - bottom)
    left, right = left + np.minimum(*ends), right + np.maximum(*ends)
    down = np.interp((left + right) / 2, at, bends)
    return np.stack([left, top + down, right, bottom + down], axis=1)


def _trimmed(
    image: "Image.Image", boxes: NDArray[np.float64], width: float, height: int
) -> Drawing:
    """Return a finely drawn line at its size, with little paper at both ends."""
    from PIL import Image

    ink = image.getbbox() or (0, 0, image.width, image.height)
    left, right = max(0, ink[0] - MARGIN * FINE), min(image.width, ink[2] + MARGIN * FINE)
    columns = max(1, round((right - left) * width / FINE))
    box, scale = (left, 0, right, image.height), columns / (right - left)
    small = image.resize((columns, height), Image.Resampling.BILINEAR, box=box)
    moved = (boxes - [left, 0, left, 0]) * [scale, 1 / FINE, scale, 1 / FINE]
    return Drawing(np.asarray(small), moved)
