"""Page error rates: how much of the text of whole pages is read, with what is missed or too much.

Lines are brought together by where they are, not by what they say: a line that was read belongs to
the true line whose baseline it runs along. Pieces of one line are joined from left to right. A true
line that nothing belongs to is missed: all its characters are errors. A line that belongs to no
true one is too much: each of its characters is an error. Lines without a true text are left out, as
is what was read there.

    page CER = Σ edits / Σ characters of the true lines,

and the same with words. `order_cer` compares the texts of whole pages, line after line in reading
order with a line break between two, so that lines in another order are errors too.
"""

from collections.abc import Sequence

import attrs
import numpy as np

from tasks.handwriting.cutting import frame_of
from tasks.handwriting.found_lines import mean_distance
from tasks.handwriting.page_format import Points, TextLine
from tasks.handwriting.texts import Form, normalized

_NEAR = 0.5  # line distances between two baselines of the same line, at most
_COMMON = 0.5  # of the shorter one's length, along which they run together
_FEW = 0.1  # of the width of a line: the distance of lines where a page has but one


@attrs.frozen(kw_only=True)
class PageErrors:
    """Errors of pages; those of several pages are added."""

    edits: int = 0  # of characters
    length: int = 0  # characters of the true lines
    word_edits: int = 0
    num_words: int = 0
    order_edits: int = 0  # of whole texts
    order_length: int = 0
    num_lines: int = 0  # true ones, with text
    num_missed: int = 0
    num_extra: int = 0  # lines that were read where none is

    def __add__(self, other: "PageErrors") -> "PageErrors":
        names = [field.name for field in attrs.fields(PageErrors)]
        return PageErrors(**{name: getattr(self, name) + getattr(other, name) for name in names})

    def rates(self) -> dict[str, float]:
        """Return `page_cer`, `page_wer` and `order_cer`; shares of lines `missed` and `extra`."""
        return {
            "page_cer": self.edits / max(self.length, 1),
            "page_wer": self.word_edits / max(self.num_words, 1),
            "order_cer": self.order_edits / max(self.order_length, 1),
            "missed": self.num_missed / max(self.num_lines, 1),
            "extra": self.num_extra / max(self.num_lines, 1),
        }


def page_errors(
    read: Sequence[TextLine], right: Sequence[TextLine], form: Form = "NFC"
) -> PageErrors:
    """Return the errors of one page that was read, against its true lines; see the module.

    Args:
        read: lines with baseline and text, in reading order.
        right: the true lines, with baseline or polygon, in reading order; of those without a text
            it is not known what they say.
        form: the Unicode normal form of both texts.
    """
    true = [line for line in right if len(line.baseline) > 1 or len(line.polygon) > 2]
    owners = _owners([line.baseline for line in read], [_baseline(line) for line in true])
    texts = [normalized(line.text, form) for line in read]
    known = [normalized(line.text, form) for line in true]
    pairs, num_missed = [], 0
    for number, text in enumerate(known):
        pieces = [at for at, owner in enumerate(owners) if owner == number]
        pieces.sort(key=lambda at: float(read[at].baseline[0, 0]))
        num_missed += bool(text) and not pieces
        if text:
            pairs.append((" ".join(texts[at] for at in pieces if texts[at]), text))
    extra = [texts[at] for at, owner in enumerate(owners) if owner is None]
    counted = [at for at, owner in enumerate(owners) if owner is None or known[owner]]
    whole = "\n".join(texts[at] for at in counted), "\n".join(filter(None, known))
    errors = [_edits(*pair) for pair in [*pairs, *((text, "") for text in extra)]]
    return PageErrors(
        edits=sum(error[0] for error in errors), length=sum(len(text) for _, text in pairs),
        word_edits=sum(error[1] for error in errors),
        num_words=sum(len(text.split()) for _, text in pairs),
        order_edits=_edits(*whole)[0], order_length=len(whole[1]),
        num_lines=len(pairs), num_missed=num_missed, num_extra=len(extra),
    )  # fmt: skip


def _baseline(line: TextLine) -> Points:
    """Return a baseline from the left to the right; of a polygon alone, a straight one."""
    points = line.baseline if len(line.baseline) > 1 else frame_of(line).points
    return points[np.argsort(points[:, 0], kind="stable")]


def _owners(read: Sequence[Points], right: Sequence[Points]) -> list[int | None]:
    """Return the number of the true line that each line belongs to; None: to no one."""
    distance = _line_distance(right)
    found: list[int | None] = []
    for line in read:
        apart = [_apart(line, other) for other in right]
        nearest = int(np.argmin(apart)) if apart else 0
        found.append(nearest if apart and apart[nearest] < _NEAR * distance else None)
    return found


def _apart(one: Points, other: Points) -> float:
    """Return how far two baselines are from each other, where enough of them is common."""
    common = min(one[-1, 0], other[-1, 0]) - max(one[0, 0], other[0, 0])
    shorter = min(np.ptp(one[:, 0]), np.ptp(other[:, 0]))
    return mean_distance(one, other) if common > _COMMON * shorter else np.inf


def _line_distance(baselines: Sequence[Points]) -> float:
    """Return the usual distance of a baseline from the next one."""
    apart = [
        min((_apart(line, other) for other in baselines if other is not line), default=np.inf)
        for line in baselines
    ]
    known = [distance for distance in apart if np.isfinite(distance)]
    widths = [float(np.ptp(line[:, 0])) for line in baselines]
    return float(np.median(known)) if known else _FEW * max(widths, default=0.0)


def _edits(read: str, right: str) -> tuple[int, int]:
    """Return edits of characters, and of words, from one text to another."""
    import jiwer  # takes 0.1 s, and is not used elsewhere

    if not right or not read:
        longer = right or read
        return len(longer), len(longer.split())
    by = jiwer.process_characters(right, read), jiwer.process_words(right, read)
    return tuple(out.substitutions + out.deletions + out.insertions for out in by)  # type: ignore[return-value]
