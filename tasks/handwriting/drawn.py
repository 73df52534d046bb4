"""Handwriting that is drawn: words and lines in the hands of as many writers as wanted.

Letters are polylines of the Hershey stroke fonts, which each writer deforms, slants and draws with
a pen of his own (`tasks.handwriting.strokes`), or those of outline fonts found on the machine
(`tasks.handwriting.outline_fonts`). The test asks for words that are in no training line (`unseen:
words`), in the hands of the training's writers; for words of the training by new writers
(`writers`), whose outline fonts are of other families too; or for new words by new writers
(`both`). An image is a pure function of split, seed, epoch and index.

>>> task = DrawnHandwriting()
>>> task.spec.num_codes  # the printable characters of ASCII, and the blank
96
>>> batch = task.samples("test", 3)
>>> task.decode(task.targets(batch)), batch.image.shape[:3]
(['caixpam', 'zythzeend', 'broun'], (3, 1, 32))
"""

from collections.abc import Sequence
from typing import Literal

import attrs
import numpy as np
from numpy.typing import NDArray

from tasks.core.settings import ConfigError, setting
from tasks.core.task import Split
from tasks.handwriting import outline_fonts, strokes
from tasks.handwriting.lines import Line, LineTask, Pass
from tasks.handwriting.vocabulary import words_of

_SIZES: dict[Split, int] = {"train": 2048, "validation": 1024, "test": 1024}  # lines in a pass
_FIRST: dict[Split, int] = {"train": 0, "validation": 10**6, "test": 2 * 10**6}  # writers
_MOST_WRITERS = 10**6


@attrs.frozen(kw_only=True)
class DrawnHandwriting(LineTask):
    """Words or lines drawn with stroke fonts by many writers."""

    writers: int = setting(500, "number of writers of each split", ge=1, le=_MOST_WRITERS)
    unseen: Literal["words", "writers", "both"] = setting(
        "words", "what of validation and test is not in training lines"
    )
    most_words: int = setting(1, "largest number of words in a line; 1: words", ge=1, le=20)
    text: str | None = setting(
        None, "path of a text of which the words are written; null: words built of syllables"
    )
    fonts: Literal["strokes", "outlines", "both"] = setting(
        "strokes",
        "fonts of the letters. strokes: those of Hershey; outlines: TrueType, OpenType and WOFF "
        "files of handwriting found on this machine; both: each for half of the writers",
    )
    font_folder: str | None = setting(
        None,
        "path of a folder of outline fonts, of which all are used; null: those installed that are "
        "named as handwriting is",
    )
    font_files: str | None = setting(
        None, "names and hashes of the outline fonts; null: filled in with those that are found"
    )

    def __attrs_post_init__(self) -> None:
        """Store the names and hashes of the fonts, for checkpoints."""
        LineTask.__attrs_post_init__(self)
        if self.fonts != "strokes" and self.font_files is None:
            found = outline_fonts.find_fonts(self.font_folder)
            object.__setattr__(self, "font_files", found.description)

    @property
    def name(self) -> str:
        """The registered name."""
        return "handwriting"

    @property
    def own_characters(self) -> str:
        """The printable characters of ASCII."""
        return strokes.CHARACTERS

    @property
    def num_left_out(self) -> int:
        """Number of different words of the text that have characters the fonts do not have."""
        return words_of(self.text, strokes.CHARACTERS)[1]

    def num_samples_in(self, split: Split) -> int:
        """Return the number of lines in a pass."""
        return _SIZES[split]

    def widths(self, pass_: Pass) -> NDArray[np.int64]:
        """Return about how wide each line of a pass is."""
        words, chosen = self._chosen(pass_, np.arange(_SIZES[pass_.split]))
        lengths = np.array([len(word) + 1 for word in words])
        return np.asarray(np.where(chosen < 0, 0, lengths[chosen]).sum(axis=1) * strokes.UNITS)

    def load(self, pass_: Pass, index: NDArray[np.int64]) -> list[Line]:
        """Draw lines of a pass."""
        words, chosen = self._chosen(pass_, index)
        lines = []
        for number, row in zip(index.tolist(), chosen.tolist(), strict=True):
            rng = np.random.default_rng([*pass_.key, number])
            first = _FIRST["train" if self.unseen == "words" else pass_.split]
            writer = first + int(rng.integers(self.writers))
            text = " ".join(words[at] for at in row if at >= 0)
            if self.fonts == "outlines" or (self.fonts == "both" and writer % 2):
                outline = outline_fonts.writer(writer, self._outlines(pass_.split))
                image, boxes = outline_fonts.draw(text, outline, self.height, rng)
            else:
                image, boxes = strokes.draw(text, strokes.writer(writer), self.height, rng)
            lines.append(Line(image, text, boxes=boxes))
        return lines

    def _outlines(self, split: Split) -> Sequence[outline_fonts.Font]:
        """Return the outline fonts of a split.

        Raises:
            ConfigError: the fonts of this machine are not those of the settings.
        """
        found = outline_fonts.find_fonts(self.font_folder)
        if found.description != self.font_files:
            problem = f"found {found.description}, not {self.font_files}"
            accepted = "the same files of fonts, in font_folder or installed"
            raise ConfigError("task handwriting", "font_files", problem, accepted)
        return found.used if self.unseen == "words" else found.of_split(split)

    def _chosen(
        self, pass_: Pass, index: NDArray[np.int64]
    ) -> tuple[Sequence[str], NDArray[np.int64]]:
        """Return words, and which of them each line says (N, most_words); negative: no word."""
        split = "train" if self.unseen == "writers" else pass_.split
        words = words_of(self.text, strokes.CHARACTERS)[0][split]
        most = np.uint64(self.most_words)
        places = np.arange(self.most_words)
        draws = pass_.draws(index[:, None] * self.most_words + places, 1)
        chosen = (draws % np.uint64(len(words))).astype(np.int64)
        num = (pass_.draws(index, 2) % most).astype(np.int64) + 1
        return words, np.where(places < num[:, None], chosen, -1)
