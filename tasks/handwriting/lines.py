"""Handwriting recognition: base class of tasks whose samples are images of lines, and texts.

Lines are of unequal width. A batch is padded at the right, and consists of lines of similar width:
within each pool of a few batches the lines are sorted by width, then cut into batches, of which the
order is random. So a pass is still a pure function of its request.
"""

import abc
import functools
import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core.hashing import mix64, splitmix64
from tasks.core.images import read_size
from tasks.core.paths import expand_user, is_file
from tasks.core.settings import ConfigError, setting
from tasks.core.task import SPLITS, Array, BatchRequest, Row, Split, Task
from tasks.handwriting.line_image import line_of_array, read_line

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"  # in a character set: stands for all that are not in it
_POOL = 16  # batches within which lines are sorted by width
_BUCKET = 16  # pixels: widths in one bucket count as equal
_TALL, _LEAST_ASPECT = 12, 1.5  # an image that is higher, and narrower, is hardly of one line
_SHOWN = 100  # characters of an input that an error message repeats
_ACCEPTED = (
    "the path of an image of one line, such as a PNG, or an array (height, width) or "
    "(1, height, width) of numbers from 0 to 1"
)
_logger = logging.getLogger(__name__)


class LineImages(NamedTuple):
    """Images of lines (batch, 1, height, width), float32 in [0, 1], and their texts in codes.

    1 is ink and 0 is paper. Images are padded with 0 at the right to the widest of the batch, and
    texts (batch, length) with 0. A code c ≥ 1 is `spec.characters[c - 1]`; 0 is also the blank
    symbol of CTC.
    """

    image: Array
    text: Array
    width: Array  # of each image without padding, in pixels (batch,)
    length: Array  # number of codes of each text (batch,)
    number: Array = None  # of each line in its task, over all splits (batch,); negative: external


@attrs.frozen
class ImageToText:
    """Sizes of a handwriting recognition task."""

    characters: str  # character c - 1 has the code c; code 0 is padding, and the blank of CTC
    height: int  # pixels

    @property
    def num_codes(self) -> int:
        """Number of codes, with the blank."""
        return len(self.characters) + 1


class Line(NamedTuple):
    """One line: its image (height, width), as float32 in [0, 1] or bytes of 0 to 255; its text.

    Where a task draws its lines, `boxes` (length, 4) has left, top, right and bottom of the ink of
    each character in pixels, from the edge of the image; NaN: it has none.
    """

    image: NDArray[Any]
    text: str
    number: int = -1
    boxes: NDArray[np.float64] | None = None


class Pass(NamedTuple):
    """One pass over a split: what the samples of a generator are a function of, with an index."""

    split: Split
    seed: int
    epoch: int

    @property
    def key(self) -> list[int]:
        """The pass as the beginning of a seed."""
        return [SPLITS.index(self.split), self.seed, self.epoch]

    def draws(self, index: NDArray[np.int64], stream: int = 0) -> NDArray[np.uint64]:
        """Return a random number for each index of the pass: of each stream others."""
        key = 0
        for part in (*self.key, stream):
            key = int(mix64(np.array([key + part % 2**63], np.uint64))[0]) >> 1
        return splitmix64(key, index)


@attrs.frozen(kw_only=True)
class LineTask(Task):
    """Base class of handwriting recognition tasks: images of lines, and their transcriptions."""

    height: int = setting(
        32, "height of an image of a line in pixels; its width is in proportion", ge=8, le=512
    )
    charset: str | None = setting(
        None,
        "characters of the texts, in the order of their codes; null: all that are there, sorted; "
        f"with {REPLACEMENT} in it, that stands for each character that is not",
    )

    def __attrs_post_init__(self) -> None:
        """Check the character set, if one is given."""
        if self.charset is not None and len(set(self.charset)) < max(len(self.charset), 1):
            problem = f"{self.charset!r} is empty, or has a character twice"
            raise ConfigError(f"task {self.name}", "charset", problem, "different characters")

    @property
    @abc.abstractmethod
    def own_characters(self) -> str:
        """All characters of the texts, sorted."""

    @property
    def characters(self) -> str:
        """The character set: that of the settings, or all characters of the texts."""
        return self.own_characters if self.charset is None else self.charset

    def with_characters(self, known: str) -> Self:
        """Return the task with a larger character set: `known`, then its own that are new.

        So a reader that is fine-tuned keeps each character that it has learned, by its code.
        """
        charset = "".join(dict.fromkeys(known + self.characters))
        return self if charset == self.characters else attrs.evolve(self, charset=charset)

    @abc.abstractmethod
    def widths(self, pass_: Pass) -> NDArray[Any]:
        """Return the width of each line in a pass (N,), or a number that grows with it."""

    @abc.abstractmethod
    def load(self, pass_: Pass, index: NDArray[np.int64]) -> list[Line]:
        """Return lines of a pass by index, each a pure function of the pass and its index."""

    def load_ahead(self, pass_: Pass, batches: Iterable[NDArray[np.int64]]) -> Iterator[list[Line]]:
        """Yield the lines of batches; a task that reads files begins with the next ones."""
        return (self.load(pass_, index) for index in batches)

    @property
    def spec(self) -> ImageToText:
        """Character set, and height of an image."""
        return ImageToText(self.characters, self.height)

    @property
    def monitor(self) -> tuple[str, Literal["max", "min"]]:
        """Character error rate."""
        return "cer", "min"

    def for_display(self) -> Self:
        """Return the task itself: a line can be displayed."""
        return self

    def iter_batches(self, request: BatchRequest) -> Iterator[LineImages]:
        """Yield the batches of one pass, each of lines of similar width."""
        pass_ = Pass(request.split, request.seed, request.epoch)
        batches = bucketed(self.widths(pass_), request.batch_size, pass_.key)[request.start :]
        yield from map(self.batch, self.load_ahead(pass_, batches))

    def samples(self, split: Split, num: int, seed: int = 0) -> LineImages:
        """Return one batch of `num` lines of a split, or all, in random order."""
        return self.batch(self.sample_lines(split, num, seed))

    def sample_lines(self, split: Split, num: int, seed: int = 0) -> list[Line]:
        """Return the lines of `samples` one by one, each with what else is known of it."""
        pass_ = Pass(split, seed, 0)
        order = np.random.default_rng(pass_.key).permutation(self.num_samples_in(split))
        return self.load(pass_, order[:num])

    def batch(self, lines: Sequence[Line]) -> LineImages:
        """Return lines as a batch.

        Raises:
            ConfigError: a text has a character that is not in the set.
        """
        width = np.array([line.image.shape[1] for line in lines], np.int64)
        image = np.zeros((len(lines), 1, self.height, width.max(initial=1)), np.float32)
        codes = [self.codes(line.text) for line in lines]
        length = np.array([len(code) for code in codes], np.int64)
        text = np.zeros((len(lines), length.max(initial=1)), np.int64)
        for row, (line, code) in enumerate(zip(lines, codes, strict=True)):
            image[row, 0, :, : width[row]] = line.image
            if line.image.dtype == np.uint8:
                image[row] /= 255
            text[row, : length[row]] = code
        number = np.array([line.number for line in lines], np.int64)
        return LineImages(image, text, width, length, number)

    def codes(self, text: str) -> NDArray[np.int64]:
        """Return the codes of a text; of a character that is not in the set, that of � if it is.

        Raises:
            ConfigError: names a character that is not in the set.
        """
        code_of = _codes(self.characters)
        try:
            return np.array([code_of[character] for character in text], np.int64)
        except KeyError as error:
            if REPLACEMENT in code_of:
                known = [c if c in code_of else REPLACEMENT for c in text]
                return np.array([code_of[character] for character in known], np.int64)
            problem = f"{text[:_SHOWN]!r} has the character {error.args[0]!r}"
            accepted = f"the characters {self.characters!r}"
            raise ConfigError(f"task {self.name}", "characters", problem, accepted) from None

    def encode(self, x: Sequence[Any]) -> LineImages:
        """Return images of lines, by path or as arrays, as a batch without texts.

        Ink may be darker or lighter than its paper, which is the median of the border; the height
        is brought to that of the task. Of a file, uneven light is removed too.

        Raises:
            ConfigError: names the input, and what is accepted.
        """
        return self.batch([self.encode_one(one) for one in x])

    def encode_one(self, x: Any) -> Line:
        """Return one input as a line without text; see `encode`."""
        if not isinstance(x, (str, Path)):
            return Line(line_of_array(x, self.height, _ACCEPTED), "")
        text = str(x).strip()
        place = f"input {text[:_SHOWN]!r}{'…' if len(text) > _SHOWN else ''}"
        path = expand_user(text)
        if not is_file(path):
            raise ConfigError(place, "", "is not a file", _ACCEPTED)
        line = Line(read_line(path, self.height, place, _ACCEPTED), "")
        height, width = read_size(path, place, _ACCEPTED)
        if height > _TALL * self.height and height * _LEAST_ASPECT > width:
            _logger.warning(
                "%s: %d × %d pixels are read as one line; a whole page is read by lines with "
                "--detector DIR", place, width, height,
            )  # fmt: skip
        return line

    def decode(self, answers: Any) -> list[str]:
        """Return answers, codes of any length, as texts; padding is left out."""
        characters = ["", *self.characters]
        return ["".join(characters[int(code)] for code in codes) for codes in answers]

    def targets(self, batch: LineImages) -> list[NDArray[np.int64]]:
        """Return the codes of each text, without padding."""
        pairs = zip(np.asarray(batch.text), np.asarray(batch.length).tolist(), strict=True)
        return [codes[:length] for codes, length in pairs]

    def score(self, answers: Any, targets: LineImages) -> dict[str, float]:
        """Return error rates of characters and words, and shares of lines.

        `cer` and `wer` are those of the whole batch: Σ edits / Σ length; `exact` is the share of
        lines without an error, `empty` that of those read as nothing, of lines with a text.
        """
        read, right = self.decode(answers), self.decode(self.targets(targets))
        is_empty = [not answer for answer, text in zip(read, right, strict=True) if text]
        empty = float(np.mean(is_empty)) if is_empty else 0.0
        return {**error_rates(read, right), "empty": empty}

    def rows(self, answers: Any, targets: LineImages) -> list[Row]:
        """Return what is shown of each line: its name, what was read, and what it says."""
        read = zip(self.decode(answers), self.decode(self.targets(targets)), strict=True)
        names = self.names_of(targets)
        return [Row(n, a, b, a == b) for n, (a, b) in zip(names, read, strict=True)]

    def names_of(self, batch: LineImages) -> list[str]:
        """Return a name of each image: the beginning of a hash of its pixels, and its width."""
        pairs = zip(batch.image, np.asarray(batch.width).tolist(), strict=True)
        return [f"image {_digest(image[..., :width])}, {width} pixels" for image, width in pairs]

    def pages_of(self, batch: LineImages) -> list[str]:
        """Return the name of the page of each line; "", unless a task has pages."""
        return [""] * len(batch.image)


def error_rates(read: Sequence[str], right: Sequence[str]) -> dict[str, float]:
    """Return `cer`, `wer` and `exact` of texts that were read, against the right ones.

    >>> error_rates(["kitten"], ["sitting"])["cer"]  # 2 substitutions and a deletion of 7
    0.42857142857142855

    White space at either end of a text is not counted.
    """
    import jiwer  # takes 0.1 s, and is not used elsewhere

    pairs = list(zip(read, right, strict=True))
    if not pairs:
        return {"cer": 0.0, "wer": 0.0, "exact": 1.0}
    cer, wer = (rate([*right], [*read]) for rate in (jiwer.cer, jiwer.wer))
    return {
        "cer": float(cer),
        "wer": float(wer),
        "exact": float(np.mean([a == b for a, b in pairs])),
    }


def bucketed(widths: NDArray[Any], batch_size: int, key: Sequence[int]) -> list[NDArray[np.int64]]:
    """Return the indices of each batch of a pass, so that lines of a batch are of similar width.

    The last batch may be short, and stays the last. All is a function of the arguments.

    >>> [batch.tolist() for batch in bucketed(np.array([16, 90, 17, 91]), 2, [0])]
    [[2, 0], [1, 3]]
    """
    rng = np.random.default_rng([*key, len(widths)])
    order = rng.permutation(len(widths))
    num_full = len(order) // batch_size
    bucket = np.asarray(widths)[order] // _BUCKET
    pool = np.arange(len(order)) // (_POOL * batch_size)
    pool[num_full * batch_size :] = len(order)  # the short batch is not sorted in
    order = order[np.lexsort((bucket, pool))]
    full = order[: num_full * batch_size].reshape(num_full, batch_size)
    batches = [full[at] for at in rng.permutation(num_full)]
    rest = order[num_full * batch_size :]
    return [*batches, rest] if len(rest) else batches


@functools.lru_cache(maxsize=16)
def _codes(characters: str) -> dict[str, int]:
    return {character: code for code, character in enumerate(characters, 1)}


def _digest(image: Any) -> str:
    pixels = np.rint(np.asarray(image) * 255).astype(np.uint8)
    return hashlib.blake2b(pixels.tobytes(), digest_size=8).hexdigest()
